"""A turn: build the request, then alternate model calls and tool calls until there is an answer."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import trio

from clawft_trio.agent.answer_form import correction
from clawft_trio.agent.background import Background
from clawft_trio.agent.finished_calls import FinishedCalls
from clawft_trio.agent.session_window import SessionWindow
from clawft_trio.agent.turn_tools import TurnTools
from clawft_trio.agent.turn_types import (
    History,
    Instructions,
    Models,
    Reply,
    RoundStarted,
    SessionStore,
    ToolsAnswered,
    TurnJournal,
    TurnPolicy,
    TurnRequest,
)
from clawft_trio.attempts import AttemptRecord, Latency, Usage, deciding_attempt
from clawft_trio.chat import CALLS_MAY_RUN, Call, ChatRequest, ChatResponse, Message, PromptCache
from clawft_trio.context import ContextBuilder
from clawft_trio.errors import ConsumerLeft, EmptyQuestion, InvalidAnswer, InvalidData, Problem
from clawft_trio.llm.conform.order import is_blank
from clawft_trio.llm.response_builder import PAUSED
from clawft_trio.nursery import cleanup_scope
from clawft_trio.observe.events import TurnEnded, TurnStarted
from clawft_trio.pipeline import RoutingDecision
from clawft_trio.replacing import replaced
from clawft_trio.resilience.visibility import Shown
from clawft_trio.target import split_name
from clawft_trio.tools import (
    ToolRegistry,
    ToolResult,
)
from clawft_trio.tools.call_ids import repair_ids
from clawft_trio.tools.early import EarlyCalls

_GRACE = 5.0
"""Seconds that storing the messages of a turn may take after a cancellation."""


_CALLS_ARE_ANSWERED = CALLS_MAY_RUN | {"length"}
"""The finish reasons after which the calls of an answer get results. After `length` each result is a refusal.

After any other reason (filtered, refused, aborted) the calls are incomplete or unwanted, and are discarded.
"""

_NO_ROUNDS_LEFT = (
    "There is no answer: the model was still calling tools when the turn had used all its rounds of tools. "
    "Ask again, or ask for less at once."
)


@attrs.frozen(kw_only=True)
class Turns:
    """Runs turns with these models, tools and stores."""

    models: Models
    tools: ToolRegistry
    history: History
    context: ContextBuilder | None = None
    journal: TurnJournal | None = None
    policy: TurnPolicy = attrs.field(factory=TurnPolicy)
    workspace: Path | None = None
    #: runs compactions between turns; None: they run at the beginning of a turn
    background: Background | None = None
    #: the system prompt, before the files of the workspace; empty: that of the policy
    instructions: Instructions = ""
    #: `history`, if it stores compactions and large results; else None
    store: SessionStore | None = attrs.field(init=False)

    @store.default
    def _store_of_the_history(self) -> SessionStore | None:
        return self.history if isinstance(self.history, SessionStore) else None

    async def answer(self, question: TurnRequest, call: Call) -> Reply:
        """Answer *question*; send the events of the turn (`AgentEvent`) to `call.emit`.

        The model and the route are chosen once. However the turn ends, its messages and tool results are stored in the
        session.

        Raises:
          ClawftError: there is no answer; its class is the reason.

        Cancellation: models and tools are cancelled and awaited; messages and results so far are stored.
        """
        if question.content.role != "user":
            advice = "instructions go into open_agent(instructions=…) or ask(…, instructions=…)"
            wrong = f"a {question.content.role} message is no question; {advice}"
            raise InvalidData([Problem("$.content.role", wrong)], source="question")
        if is_blank(question.content):
            raise EmptyQuestion([Problem("$.content", "a question without text, image or file")], source="question")
        turn = _Turn(self, question, call)
        call.observer(
            TurnStarted(
                session=question.session,
                sender=question.auth.identity,
                message_id=question.turn_id,
                turn_id=question.turn_id,
            )
        )
        try:
            reply = await turn.run()
        except Exception as exc:
            turn.report("error", exc)
            raise
        except BaseException:
            turn.report("cancelled")
            raise
        turn.report("ok")
        return reply


class _Turn:
    """One running turn."""

    def __init__(self, turns: Turns, question: TurnRequest, call: Call) -> None:
        self._turns = turns
        self._question = question
        self._call = call.replaced(turn_id=question.turn_id)
        self._show: Callable[[Any], Awaitable[None]] = call.emit
        self._started = trio.current_time()
        self._messages: list[Message] = [question.content]
        self._rounds: list[ChatResponse] = []
        self._answers: list[ToolResult] = []
        self._tools = TurnTools(
            question=question,
            tools=turns.tools,
            policy=turns.policy,
            store=turns.store,
            context=turns.context,
            journal=turns.journal,
            workspace=turns.workspace,
            observer=call.observer,
        )
        self._decision: RoutingDecision | None = None
        self._aborted = False
        self._shown = Shown(call.emit)
        self._answer: object = None
        self._corrections = 0
        #: the reply if the model has none after its last round of tools
        self._closing_text = ""
        self._request: ChatRequest | None = None
        self._window = SessionWindow(
            session=question.session,
            auth=question.auth,
            history=turns.history,
            models=turns.models,
            policy=turns.policy.compaction,
            memory_window=turns.policy.memory_window,
            call=self._call,
            store=turns.store,
            background=turns.background,
            readable=self._tools.readable,
        )

    async def run(self) -> Reply:
        try:
            await self._rounds_until_answered()
        except ConsumerLeft as left:
            # The consumer ended the turn: the received content is the reply. Its exception is passed on unchanged.
            if left.original is not None:
                raise
            self._aborted = True
        finally:
            # Also after a cancellation or failure, messages and results so far are part of the conversation.
            with cleanup_scope(_GRACE):
                await self._turns.history.append(self._question.session, self._messages, turn_id=self._question.turn_id)  # noqa: ASYNC102 - `cleanup_scope` is shielded and bounded
                if self._request is not None and self._decision is not None:
                    self._window.compact_later(self._messages, self._request, self._decision)
        return self._reply()

    async def _rounds_until_answered(self) -> None:
        request = await self._first_request()
        self._decision = await self._turns.models.route(request, self._call)
        if await self._window.fit(request, self._decision):
            request = self._with_messages(request)
        self._request = request
        tool_rounds = 0
        for number in itertools.count(1):
            last = tool_rounds == self._turns.policy.max_tool_iterations
            response, answers = await self._round(request, number, last=last)
            results: list[Message] = [answer.message for answer in answers]
            if response.finish_reason == PAUSED and not last:
                # The provider stopped between calls of its own tools, and continues if it gets its answer so far.
                tool_rounds += 1
                self._messages.append(response.message)
                request = replaced(request, messages=(*request.messages, response.message))
                continue
            called = _has_calls(response)
            tool_rounds += called and not last
            if not called or last:
                try:
                    await self._read(response)
                except InvalidAnswer as exc:
                    results.append(await self._sent_back(exc))
                else:
                    self._messages.extend(self._closing(response, called=called))
                    return
            messages = (*request.messages, response.message, *results)
            request = self._request = replaced(request, messages=messages, tools=self._tools.offered(messages))

    async def _round(
        self, request: ChatRequest, number: int, *, last: bool
    ) -> tuple[ChatResponse, tuple[ToolResult, ...]]:
        """Call the model once, and run the tool calls of its answer."""
        journal = None if self._turns.journal is None else self._turns.journal.tools(self._question.turn_id, number)
        finished = FinishedCalls(journal)
        async with self._tools.early_calls(number, finished, last=last) as early:
            response = await self._ask(request, number, early, without_tools=last)
            self._rounds.append(response)
            if not _has_calls(response):
                return response, ()
            self._messages.append(response.message)
            return response, await self._use_tools(number, response, finished, early, refused=last)

    def _closing(self, response: ChatResponse, *, called: bool) -> list[Message]:
        """Return the messages that *response*, the last one of the turn, adds to the conversation."""
        # Discarded calls have no result, and a provider would refuse them in the next turn.
        own = [] if called else [_without_calls(response.message)]
        text = response.text
        if (text and not text.isspace()) or not (called or response.finish_reason == PAUSED):
            return own
        self._closing_text = _NO_ROUNDS_LEFT
        return [*own, Message.assistant(_NO_ROUNDS_LEFT)]

    async def _read(self, response: ChatResponse) -> None:
        """Read *response* as a typed answer, if one is requested."""
        if self._question.form is not None and response.finish_reason != "aborted":
            self._answer = await self._question.form.read_answer(response)

    async def _sent_back(self, error: InvalidAnswer) -> Message:
        """Build the correction message; consumers get a `Reset`. It never becomes part of the session."""
        if self._corrections == self._turns.policy.max_answer_corrections:
            raise error
        self._corrections += 1
        await self._shown.retract(error, self._call)
        return Message.user(correction(error))

    async def _first_request(self) -> ChatRequest:
        turns, question, policy = self._turns, self._question, self._turns.policy
        history = await self._window.load()
        instructions = await self._instructions()
        asked = question.content
        self._system: tuple[Message, ...] = ()
        if turns.context is not None:
            *before, asked = await turns.context.build_messages(
                history, asked, sender=question.auth.identity, instructions=instructions
            )
            self._system = tuple(message for message in before if message.role == "system")[:1]
        elif instructions:
            self._system = (Message.system(instructions),)
        # Stored as it is sent, so that the next turn's request begins with the same bytes.
        self._messages[0] = asked
        options = question.options.over(policy.options)
        request = ChatRequest(
            (),
            model=question.model,
            max_tokens=policy.max_tokens,
            temperature=options.temperature,
            reasoning_effort=options.reasoning_effort,
            thinking_budget=options.thinking_budget,
            verbosity=options.verbosity,
            seed=options.seed,
            extra=options.extra,
            response_schema=None if question.form is None else question.form.schema,
            cache=self._cache(),
            auth=question.auth,
        )
        return self._with_messages(request)

    async def _instructions(self) -> str:
        """Return the system prompt: of this turn, else of the agent, else of the policy."""
        given = self._question.instructions or self._turns.instructions or self._turns.policy.instructions
        if isinstance(given, str):
            return given
        text: object = await given(self._question)
        if not isinstance(text, str):
            raise TypeError(f"instructions are text, and the function returned {type(text).__name__}")
        return text

    def _with_messages(self, request: ChatRequest) -> ChatRequest:
        messages = self._window.complete(self._system, self._messages[0])
        return replaced(request, messages=messages, tools=self._tools.offered(messages))

    def _cache(self) -> PromptCache | None:
        lifetime = self._turns.policy.prompt_cache
        if lifetime == "off":
            return None
        # The name of a session with only this turn ends in its id: all such sessions of a sender share one cache.
        session = self._question.session.removesuffix(f":{self._question.turn_id}")
        # A hash, because session names contain names of people and chats.
        key = hashlib.sha256(session.encode(errors="replace")).hexdigest()[:32]
        return PromptCache(key=key, lifetime=lifetime)

    async def _ask(
        self, request: ChatRequest, number: int, early: EarlyCalls | None, *, without_tools: bool
    ) -> ChatResponse:
        journal = self._turns.journal
        if journal is not None:
            replayed = await journal.answers(self._question.turn_id)
            if number <= len(replayed):
                return replayed[number - 1]
        if without_tools:
            request = replaced(request, tool_choice="none")
        await self._show(RoundStarted(number))
        self._shown = Shown(self._call.emit)
        if early is not None:
            self._shown = Shown(self._call.emit, on_call=early.offer, before_reset=early.discard)
        call = self._call.replaced(id=f"{self._question.turn_id}.{number}", emit=self._shown)
        assert self._decision is not None
        try:
            response = await self._turns.models.complete(request, call, self._decision)
        except ConsumerLeft:
            self._note_partial()
            raise
        calls = repair_ids(response.tool_calls)
        if calls != response.tool_calls:
            response = replaced(response, tool_calls=calls)
        if journal is not None:
            await journal.answered(self._question.turn_id, number, response)
        return response

    def _note_partial(self) -> None:
        """Use the received content of a round that its consumer stopped as its answer."""
        seen = self._shown.so_far()
        stopped = deciding_attempt(self._call.log.records, "aborted")
        provider, model = split_name("" if stopped is None else stopped.target)
        partial = ChatResponse(content=seen.text, finish_reason="aborted", provider=provider, model=model)
        self._rounds.append(partial)
        if seen.text:
            self._messages.append(partial.message)

    async def _use_tools(
        self,
        number: int,
        response: ChatResponse,
        finished: FinishedCalls,
        early: EarlyCalls | None,
        *,
        refused: bool,
    ) -> tuple[ToolResult, ...]:
        """Run every tool call of *response*; return the results in call order."""
        known = await self._tools.known(number, response, refused=refused)
        open_calls = [call for call in response.tool_calls if call.id not in known]
        try:
            approve = self._tools.approval(self._messages[0])
            fresh = await self._tools.execute(number, open_calls, finished, early, approve)
            # Ids are unique after `repair_ids`, so each result has one place.
            by_id = known | {answer.call_id: answer for answer in fresh}
            in_order = [by_id[call.id] for call in response.tool_calls if call.id in by_id]
            succeeded = {answer.call_id for answer in in_order if answer.outcome == "ok"}
            self._tools.succeeded += [call for call in response.tool_calls if call.id in succeeded]
            answers = await self._window.cut(in_order, number)
        except BaseException:
            # Calls that ended had their effect. The session stores their results, so that no model repeats them.
            self._messages.extend(finished.messages(response.tool_calls, known))
            raise
        self._answers.extend(answers)
        # Before the event, because its consumer may end the turn, and the tools have run in any case.
        self._messages.extend(answer.message for answer in answers)
        await self._show(ToolsAnswered(answers))
        return answers

    def _reply(self) -> Reply:
        last = self._rounds[-1] if self._rounds else ChatResponse(finish_reason="aborted")
        records = self._call.log.records
        return Reply(
            text=self._closing_text or last.text,
            finish_reason="aborted" if self._aborted else last.finish_reason,
            provider=last.provider,
            model=last.model,
            usage=_sum_usage([*(r.usage for r in self._rounds), *(below.usage for below in self._tools.nested)]),
            cost=_sum_cost([*(r.cost for r in self._rounds), *(below.cost for below in self._tools.nested)]),
            nested=tuple(self._tools.nested),
            latency=self._latency(records),
            attempts=records,
            tools=tuple(self._answers),
            rounds=tuple(self._rounds),
            session=self._question.session,
            turn_id=self._question.turn_id,
            decision=self._decision,
            answer=self._answer,
        )

    def _latency(self, records: Sequence[AttemptRecord]) -> Latency:
        first_bytes = [r.started + r.latency.first_byte for r in records if r.latency.first_byte is not None]
        content = [r.started + r.latency.first_content for r in records if r.latency.first_content is not None]
        return Latency(
            total=trio.current_time() - self._started,
            queued=sum(record.latency.queued for record in records),
            first_byte=min(first_bytes) - self._started if first_bytes else None,
            first_content=min(content) - self._started if content else None,
        )

    def report(self, outcome: Any, error: BaseException | None = None) -> None:
        """Report the end of the turn to observers."""
        self._call.observer(
            TurnEnded(
                session=self._question.session,
                message_id=self._question.turn_id,
                outcome=outcome,
                duration=trio.current_time() - self._started,
                rounds=len(self._rounds),
                error=error,
                turn_id=self._question.turn_id,
            )
        )


def _has_calls(response: ChatResponse) -> bool:
    """Whether *response* has calls that get results."""
    return bool(response.tool_calls) and response.finish_reason in _CALLS_ARE_ANSWERED


def _without_calls(message: Message) -> Message:
    return attrs.evolve(message, tool_calls=()) if message.tool_calls else message


def _sum_usage(parts: Sequence[Usage | None]) -> Usage | None:
    reported = [usage for usage in parts if usage is not None]
    return sum(reported[1:], reported[0]) if reported else None


def _sum_cost(parts: Sequence[Decimal | None]) -> Decimal | None:
    known = [cost for cost in parts if cost is not None]
    return sum(known, Decimal(0)) if known and len(known) == len(parts) else None
