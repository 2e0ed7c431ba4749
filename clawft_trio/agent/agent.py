"""A running agent: answers questions, one turn of a session at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar, Unpack, overload

import attrs
import trio

from clawft_trio.agent.answer_form import AnswerForm
from clawft_trio.agent.durable_asks import DurableAsks
from clawft_trio.agent.loop import AgentLoop
from clawft_trio.agent.options import AskOptions, check_ask_options
from clawft_trio.agent.subagent import AgentTool, Delegate, Fresh, SubAgentPolicy, agent_tool, form_of, unadmitted
from clawft_trio.agent.turn import Turns
from clawft_trio.agent.turn_types import A_co, AgentEvent, Reply, TurnRequest
from clawft_trio.auth import LOCAL_CHANNEL
from clawft_trio.bus import MessageBus
from clawft_trio.chat import Call, Message, new_id
from clawft_trio.checks import check_keywords
from clawft_trio.costs import CostTracker
from clawft_trio.errors import AgentClosed, ClawftError, InvalidAnswer, Problem, StoreError
from clawft_trio.keys import check_names, joined_key
from clawft_trio.llm.model_options import ModelOptions
from clawft_trio.llm.stream import Iteration, consuming
from clawft_trio.mcp import Toolset
from clawft_trio.nursery import check_in_trio
from clawft_trio.observe import Event
from clawft_trio.pipeline import PermissionResolver, Targets
from clawft_trio.resilience import Timeout
from clawft_trio.store import Store
from clawft_trio.tools import ToolRegistry
from clawft_trio.tracebacks import shorten_traceback

T = TypeVar("T")

_STARTS = 8
"""Number of turns that start in one pass of the scheduler. A turn costs about 2 ms of CPU: the first steps of thousands
of turns in one pass would block the event loop for seconds."""

AgentCallback: TypeAlias = Callable[[AgentEvent], bool | Awaitable[bool | None] | None]
"""Receives the events of a turn; returns False to end it early."""


class TurnStream(Iteration[AgentEvent, Reply[A_co]], Generic[A_co]):
    """A running turn whose events can be iterated. Made by `Agent.stream`; `TurnStream[F]` has a `Reply[F]`."""

    @property
    def reply(self) -> Reply[A_co]:
        """The reply, after the end of the iteration.

        Raises:
          StreamEnded: the turn has not ended yet, or ended without a reply.
        """
        return self.result


@attrs.frozen(kw_only=True)
class AgentParts:
    """The parts of an agent; each can be replaced."""

    turns: Turns
    tools: ToolRegistry
    #: the MCP servers: `clients` of the running ones, `failures` of the others
    toolset: Toolset
    bus: MessageBus
    loop: AgentLoop
    targets: Targets
    store: Store
    costs: CostTracker
    permissions: PermissionResolver
    #: runs questions with a turn id; None without a store
    asks: DurableAsks | None = None


class Agent:
    """A running agent. Made by `open_agent`."""

    def __init__(self, parts: AgentParts, observer: Callable[[Event], None], nursery: trio.Nursery) -> None:
        self.parts = parts
        self._observer = observer
        self._nursery = nursery
        self._lines: dict[str, _Line] = {}
        self._starts = trio.Semaphore(_STARTS)

    def __repr__(self) -> str:
        return f"<Agent: {len(self.parts.tools)} tools, {len(self._lines)} sessions at work>"

    @property
    def tools(self) -> ToolRegistry:
        """The tools of the agent."""
        return self.parts.tools

    @property
    def bus(self) -> MessageBus:
        """The bus to which channel adapters publish messages and from which they take replies."""
        return self.parts.bus

    @overload
    async def ask(
        self,
        content: str | Message,
        *,
        turn_id: str | None = None,
        on_event: AgentCallback | None = None,
        **options: Unpack[AskOptions],
    ) -> Reply: ...

    @overload
    async def ask(
        self,
        content: str | Message,
        *,
        answer: type[T] | AnswerForm[T],
        turn_id: str | None = None,
        on_event: AgentCallback | None = None,
        **options: Unpack[AskOptions],
    ) -> T: ...

    async def ask(
        self,
        content: str | Message,
        *,
        answer: type[Any] | AnswerForm[Any] | None = None,
        turn_id: str | None = None,
        on_event: AgentCallback | None = None,
        **options: Unpack[AskOptions],
    ) -> Any:
        """Ask as the local process, with all permissions, and wait for the complete reply.

        Without *session* each call is a separate conversation: it receives nothing of earlier ones, and runs
        concurrently with them. Calls with the same *session* continue one conversation, one at a time and in order:
        `session=reply.session` continues the conversation of a reply.

        Args:
          content: the question.
          answer: the type of the answer, or its form: then a value of it is returned instead of the reply. The model
            may correct an answer that does not fit, `TurnPolicy.max_answer_corrections` times at most.
          turn_id: an id chosen by the caller, for an agent with a store. Another call with it, also in another process
            after a crash, resumes the same turn or returns its reply: finished tool calls do not run again. The id
            belongs to the sender and session of the first call; with others it is `Refused`.
          on_event: receives the events of the turn. False ends the turn early; its exceptions are raised unchanged.
          options: the keys of `AskOptions`: `sender_id`, `session`, `model`, `reasoning_effort`, `thinking_budget`,
            `extra`, `instructions`.

        Raises:
          ClawftError: there is no answer; its class is the reason, and it has every attempt.
          InvalidData: *sender_id*, *session* and *turn_id* are together longer than 1 Mi characters.
          InvalidAnswer: the answer never had the form, or *on_event* ended the turn before it had; with its problems
            and the last text as `partial`.
          TypeError: *answer* is a type without a JSON Schema.
          RuntimeError: it is called outside of trio, for example under asyncio: see `asyncio_guest.Guest.call`.
          StoreError: with *turn_id*, there is no store, or it cannot be used.
          AgentClosed: the agent's block was left.

        Cancellation: models and tools are cancelled and awaited; messages and results so far are in the session.
        """
        check_in_trio()
        await self._start()
        check_ask_options("ask", options)
        question = self._question(content, answer, options, turn_id)
        try:
            if turn_id is None:
                reply = await self._asked(question, on_event=on_event)
            else:
                reply = await self._durably_asked(question, on_event=on_event)
        except Exception as exc:
            shorten_traceback(exc)
            raise
        return reply if answer is None else _typed(reply)

    async def _durably_asked(self, question: TurnRequest, *, on_event: AgentCallback | None) -> Reply:
        reply = await self._durable_asks().ask(question, partial(self._asked, on_event=on_event, durable=True))
        if question.form is not None and reply.answer is None and reply.finish_reason != "aborted":
            reply = attrs.evolve(reply, answer=await question.form.read_answer(reply.rounds[-1]))
        return reply

    async def _asked(self, question: TurnRequest, *, on_event: AgentCallback | None, durable: bool = False) -> Reply:
        run = partial(self._turn, question, durable=durable)
        return await run(None) if on_event is None else await consuming(run, on_event)

    def _durable_asks(self) -> DurableAsks:
        if self.parts.asks is None:
            raise StoreError("a turn id needs a store: open_agent(..., store=...)")
        return self.parts.asks

    async def history(self, session: str, limit: int | None = None) -> tuple[Message, ...]:
        """Return the stored messages of *session*, oldest first, or its newest *limit*.

        They include messages that no longer fit into the window of a model.

        Raises:
          StoreError: the store cannot be used.

        Cancellation: nothing is changed.
        """
        return await self.parts.turns.history.history(session, limit)

    @overload
    def stream(
        self,
        content: str | Message,
        **options: Unpack[AskOptions],
    ) -> AbstractAsyncContextManager[TurnStream]: ...

    @overload
    def stream(
        self,
        content: str | Message,
        *,
        answer: type[T] | AnswerForm[T],
        **options: Unpack[AskOptions],
    ) -> AbstractAsyncContextManager[TurnStream[T]]: ...

    def stream(
        self,
        content: str | Message,
        *,
        answer: type[Any] | AnswerForm[Any] | None = None,
        **options: Unpack[AskOptions],
    ) -> AbstractAsyncContextManager[TurnStream[Any]]:
        """Ask as the local process, with all permissions, and iterate over the events of the turn.

            async with agent.stream("What do I wear?") as answer:
                async for event in answer:
                    ...
            print(answer.reply.text)

        Without *session* it is a separate conversation; with one it continues that conversation, like `ask`.
        Leaving the block early cancels the turn. The turn runs in the agent's nursery, so the block may be inside an
        async generator, as web frameworks need it, even if that is left by `break`.

        With a type or form as *answer*, the value is `reply.answer`; text that does not fit is removed by a `Reset`.

        Raises:
          ClawftError: raised by the iteration when there is no answer.
          StreamEnded: the agent is closed, or was closed before the reply was complete.
          RuntimeError: the block is entered outside of trio, for example under asyncio: see `asyncio_guest.Guest`.
          TypeError: *answer* is a type without a JSON Schema.

        Cancellation: as for `ask`.
        """
        check_ask_options("stream", options)
        question = self._question(content, answer, options)

        async def run(show: Callable[[AgentEvent], Awaitable[None]]) -> Reply:
            await self._start()
            return await self._turn(question, show)

        return TurnStream.open(run, nursery=self._nursery)

    def as_tool(
        self,
        name: str,
        *,
        description: str,
        answer: type[Any] | AnswerForm[Any] | None = None,
        **policy: Any,
    ) -> AgentTool:
        """Offer this agent to another one: `open_agent(..., tools=[researcher.as_tool("research", ...)])`.

        Each call is a new turn, without this agent's conversations, charged to the sender of the calling agent. This
        agent has to stay open as long as the other one.

        Args:
          name: name of the tool, and of the agent in the ledger.
          description: description for the calling model.
          answer: the type of its answer, or its form; None: text.
          policy: the fields of `SubAgentPolicy`: `budget`, `budget_tokens`, `total`, `max_depth`, `max_calls`.

        Raises:
          TypeError: *answer* is a type without a JSON Schema, or a keyword is unknown.
          ValueError: a field of the policy is out of range.
        """
        check_keywords("as_tool", ("name", "description", "answer"), SubAgentPolicy, policy)
        turns = attrs.evolve(self.parts.turns, models=unadmitted(self.parts.turns.models), history=Fresh())
        delegate = Delegate(
            name=name,
            turns=lambda _: turns,
            tracker=self.parts.costs,
            policy=SubAgentPolicy(**policy),
            form=form_of(answer),
        )
        return agent_tool(name, description, delegate)

    def _question(
        self,
        content: str | Message,
        answer: type[Any] | AnswerForm[Any] | None,
        options: AskOptions,
        given_id: str | None = None,
    ) -> TurnRequest:
        sender_id = options.get("sender_id", "local")
        check_names("question", sender_id=sender_id, session=options.get("session") or "", turn_id=given_id or "")
        turn_id = new_id() if given_id is None else joined_key("ask", given_id)
        return TurnRequest(
            content=Message.user(content) if isinstance(content, str) else content,
            auth=self.parts.permissions.local(sender_id),
            turn_id=turn_id,
            session=options.get("session") or f"{LOCAL_CHANNEL}:{sender_id}:{turn_id}",
            instructions=options.get("instructions", ""),
            model=options.get("model", ""),
            form=answer if answer is None or isinstance(answer, AnswerForm) else AnswerForm.of(answer),
            options=ModelOptions(
                reasoning_effort=options.get("reasoning_effort"),
                thinking_budget=options.get("thinking_budget"),
                extra=options.get("extra") or {},
            ),
        )

    async def _turn(
        self, question: TurnRequest, show: Callable[[AgentEvent], Awaitable[None]] | None, *, durable: bool = False
    ) -> Reply:
        turns = self.parts.turns
        if durable and self.parts.asks is not None:
            turns = attrs.evolve(turns, journal=self.parts.asks.journal)
        call = Call(id=question.turn_id, turn_id=question.turn_id, observer=self._observer)
        if show is not None:
            call = call.showing(show)
        bound = Timeout(total=self.parts.turns.policy.total)
        async with self._in_line(question.session):
            try:
                return await bound.run(partial(turns.answer, question), call)
            except ClawftError as exc:
                exc.attempts = call.log.records
                raise

    async def _start(self) -> None:
        """Check that the agent is open; wait until a turn may start: `_STARTS` per pass of the scheduler, in order."""
        if self._nursery.cancel_scope.cancel_called:
            await trio.lowlevel.checkpoint()
            raise AgentClosed("the agent is closed: ask inside of its block, `async with open_agent(...) as agent`")
        # In both cases `acquire` takes one pass: it checkpoints, or a release wakes it.
        await self._starts.acquire()
        self._starts.release()

    @asynccontextmanager
    async def _in_line(self, session: str) -> AsyncGenerator[None, None]:
        """Run one turn of a session at a time, in order of arrival; an idle session has no entry."""
        line = self._lines.setdefault(session, _Line())
        line.length += 1
        try:
            async with line.lock:
                yield
        finally:
            line.length -= 1
            if line.length == 0:
                del self._lines[session]


def _typed(reply: Reply) -> object:
    if reply.finish_reason == "aborted":
        raise InvalidAnswer([Problem("$", "stopped before it was complete")], partial=reply.text)
    return reply.answer


class _Line:
    """The lock of one session, and the number of its turns that run or wait."""

    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.length = 0
