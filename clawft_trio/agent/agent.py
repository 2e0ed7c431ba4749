"""A running agent: what may be asked of it, one turn of a session at a time."""

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
from clawft_trio.keys import joined_key
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
"""Turns that start in one pass of the scheduler. A turn costs about 2 ms of CPU: of thousands that are asked for at
once, all first steps in one pass would keep the event loop for seconds."""

AgentCallback: TypeAlias = Callable[[AgentEvent], bool | Awaitable[bool | None] | None]
"""Sees everything of a turn as it happens; False ends it early."""


class TurnStream(Iteration[AgentEvent, Reply[A_co]], Generic[A_co]):
    """A turn to iterate over. Made by `Agent.stream`; `TurnStream[F]` has a reply whose answer is an `F`."""

    @property
    def reply(self) -> Reply[A_co]:
        """The whole reply, once the loop has ended.

        Raises:
          StreamEnded: it is not there yet, or there will be none.
        """
        return self.result


@attrs.frozen(kw_only=True)
class AgentParts:
    """What an agent is made of, each replaceable by one's own."""

    turns: Turns
    tools: ToolRegistry
    #: the MCP servers: `clients` of those that run, `failures` of those that do not
    toolset: Toolset
    bus: MessageBus
    loop: AgentLoop
    targets: Targets
    store: Store
    costs: CostTracker
    permissions: PermissionResolver
    #: the turns of questions with an id; None without a store
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
        """The tools that it has."""
        return self.parts.tools

    @property
    def bus(self) -> MessageBus:
        """Where channel adapters publish messages and take replies."""
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
        """Ask as the local process, with all permissions, and wait for the whole reply.

        Without *session* each call is a conversation of its own: it sees nothing of earlier ones, and runs beside
        them. With the same *session* calls continue one conversation, one at a time, in the order of their arrival:
        `session=reply.session` continues the one of a reply.

        Args:
          content: the question.
          answer: the type of the answer, or its form: then a value of it is returned instead of the reply. One that
            does not fit goes back to the model, `TurnPolicy.max_answer_corrections` times at most.
          turn_id: an id of the caller's own, for an agent with a store. Asked again with it, also by another process
            after a crash, the same turn is resumed, or its reply returned: tools that have acted do not act again.
          on_event: sees everything as it happens. False ends the turn early; what it raises comes out as it is.
          options: the keys of `AskOptions`: `sender_id`, `session`, `model`, `reasoning_effort`, `thinking_budget`,
            `extra`, `instructions`.

        Raises:
          ClawftError: there is no answer; the typed reason, with every attempt.
          InvalidAnswer: the answer never had the form, or *on_event* ended the turn before it had; with its problems
            and the last text as `partial`.
          TypeError: *answer* is no type that JSON can be.
          RuntimeError: it is called outside of trio, such as under asyncio: see `asyncio_guest.Guest.call`.
          StoreError: with *turn_id*, there is no store, or it cannot be used.
          AgentClosed: its block was left.

        Cancellation: models and tools are cancelled and waited for; what was done is in the session.
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

        Without *session* it is a conversation of its own; with the name of one it continues that, as `ask` does.
        Leaving the block early cancels the turn. The turn runs in the agent's own nursery, so the block may stand
        inside an async generator, as web frameworks want it, also when that is left by `break`.

        With a type or form as *answer*, the value is `reply.answer`; text that did not fit it is retracted by a
        `Reset`.

        Raises:
          ClawftError: out of the loop, when there is no answer.
          StreamEnded: the agent is closed, or was closed before the reply was there.
          RuntimeError: the block is entered outside of trio, such as under asyncio: see `asyncio_guest.Guest`.
          TypeError: *answer* is no type that JSON can be.

        Cancellation: as `ask`.
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

        A call is a turn of its own, without this agent's conversations, on the account of the sender of the agent that
        calls. This agent has to stay open for as long as the other one is.

        Args:
          name: of the tool, and of the agent in the ledger.
          description: what the calling model reads of it.
          answer: the type of its answer, or its form; None: text.
          policy: the fields of `SubAgentPolicy`: `budget`, `budget_tokens`, `total`, `max_depth`, `max_calls`.

        Raises:
          TypeError: *answer* is no type that JSON can be, or there is no such field.
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
        turn_id = new_id() if given_id is None else joined_key("ask", given_id)
        sender_id = options.get("sender_id", "local")
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
        """Check that the agent is open; wait until a turn may start, `_STARTS` in a pass of the scheduler, in order."""
        if self._nursery.cancel_scope.cancel_called:
            await trio.lowlevel.checkpoint()
            raise AgentClosed("the agent is closed: ask inside of its block, `async with open_agent(...) as agent`")
        # Both ways `acquire` takes one pass: it yields, or is woken by the release before it.
        await self._starts.acquire()
        self._starts.release()

    @asynccontextmanager
    async def _in_line(self, session: str) -> AsyncGenerator[None, None]:
        """One turn of a session at a time, in order of arrival; nothing is kept of a session at rest."""
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
        raise InvalidAnswer([Problem("$", "stopped before it was whole")], partial=reply.text)
    return reply.answer


class _Line:
    """The questions that wait in one session."""

    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.length = 0
