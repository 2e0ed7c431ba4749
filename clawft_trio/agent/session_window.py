"""A turn's window onto its session: the messages for the model, compaction, and storage of large results."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial

import attrs
import trio

from clawft_trio.agent.background import Background
from clawft_trio.agent.compaction import CompactionPolicy, Excess, Plan, plan, within
from clawft_trio.agent.session_view import (
    READ_RESULT,
    Compaction,
    SessionTail,
    StoredMessage,
    first_within,
    shown,
    with_summary,
)
from clawft_trio.agent.turn_types import History, Models, SessionStore
from clawft_trio.auth import AuthContext
from clawft_trio.chat import Call, ChatRequest, ChatResponse, Message
from clawft_trio.errors import ClawftError
from clawft_trio.observe.events import SessionCompacted
from clawft_trio.pipeline import RoutingDecision, Target
from clawft_trio.pipeline.tokens import count_tokens, fixed_tokens, message_tokens
from clawft_trio.tools import ToolResult
from clawft_trio.tools.truncate import RESULT_LIMIT, answer_text

WHOLE_RESULT = 4 * 1024 * 1024
"""Largest size in bytes of a tool result that is stored for the tool that reads it."""

_IN_THREAD = 256 * 1024
"""Characters; a longer result is cut in a thread, because that would block the event loop too long."""

_LONGEST_SUMMARY = 2
"""Factor by which a summary may exceed its budget before it is cut."""

_FEWEST_BYTES = 512
"""Smallest size in bytes to which a result is cut."""


@attrs.define(kw_only=True)
class SessionWindow:
    """The part of its session that one turn sends to models."""

    session: str
    auth: AuthContext
    history: History
    models: Models
    policy: CompactionPolicy
    #: largest number of messages to send
    memory_window: int
    call: Call
    #: `history`, if it stores compactions
    store: SessionStore | None
    background: Background | None = None
    #: whether the sender can read results with a tool
    readable: bool = False
    tail: SessionTail = SessionTail()
    #: limit on input tokens; None until the turn is routed
    limit: int | None = None
    #: tokens of every request of this turn outside of the session
    overhead: int = 0
    #: a tail with its messages for the model, as a cache
    _shown: tuple[SessionTail, tuple[Message, ...]] | None = None

    async def load(self) -> tuple[Message, ...]:
        """Load the session; return its messages for the model, without the summary.

        Cancellation: the session is unchanged or a new cut is stored.
        """
        store = self.store
        if store is None:
            messages = await self.history.history(self.session, None)
            rows = (StoredMessage(place=n, at="", message=message) for n, message in enumerate(messages, 1))
            self.tail = _within(SessionTail(rows=tuple(rows)), self.memory_window)
            return self.messages
        # More than is sent, so that the place of the next cut can be computed even in a session without a cut.
        asked = 2 * self.memory_window + 1 if self.memory_window else 0
        loaded = await store.tail(self.session, asked)
        if len(loaded.rows) == asked:
            loaded = _from_first_turn(loaded)
        self.tail = _within(loaded, self.memory_window)
        if self.tail.compaction != loaded.compaction and self.memory_window:
            await self._keep(self.tail.compaction)
        return self.messages

    @property
    def messages(self) -> tuple[Message, ...]:
        """The session's messages for the model, without the summary."""
        if self._shown is None or self._shown[0] is not self.tail:
            self._shown = self.tail, shown(self.tail, readable=self.readable)
        return self._shown[1]

    def complete(self, before: Sequence[Message], asked: Message) -> tuple[Message, ...]:
        """Return the messages of a request: *before*, the session, and the question *asked*."""
        return (*before, *with_summary((*self.messages, asked), self.tail.compaction.summary))

    async def fit(self, request: ChatRequest, decision: RoutingDecision) -> bool:
        """Compact the session if *request* does not fit; return whether it was compacted.

        Raises:
          StoreError: the cut cannot be stored.

        Cancellation: the session is compacted or unchanged.
        """
        self.limit = self.models.input_limit(request, decision)
        session = sum(map(message_tokens, self.messages))
        everything = fixed_tokens(request) + sum(map(message_tokens, request.messages))
        self.overhead = everything - session - count_tokens(self.tail.compaction.summary)
        full = self.limit if self.background is not None else int(self.policy.start * self.limit)
        if everything <= full or self.store is None:
            return False
        if self.background is not None:
            await self.background.wait(self.session)
            await self.load()
        made = self._plan(self.overhead)
        if made is not None:
            await self._compact(made, decision, needed=True)
        return made is not None

    def compact_later(self, added: Sequence[Message], request: ChatRequest, decision: RoutingDecision) -> None:
        """Start a compaction in the background after the turn, which added *added*, if the window is nearly full."""
        if self.background is None or self.store is None:
            return
        self.limit = self.models.input_limit(request, decision)
        used = self.overhead + sum(map(message_tokens, (*self.messages, *added)))
        if used + count_tokens(self.tail.compaction.summary) > self.policy.start * self.limit:
            self.background.start(self.session, partial(self._compact_beside, decision))

    async def _compact_beside(self, decision: RoutingDecision) -> None:
        await self.load()
        made = self._plan(self.overhead)
        if made is not None:
            await self._compact(made, decision, needed=False)

    def _plan(self, overhead: int) -> Plan | None:
        assert self.limit is not None
        return plan(self.tail, self.policy, overhead=overhead, limit=self.limit, readable=self.readable)

    async def _compact(self, made: Plan, decision: RoutingDecision, *, needed: bool) -> None:
        """Apply *made*. Turns are cut without a summary only if the cut is *needed*, or the policy has no compactor."""
        compaction, summarized = made.compaction, False
        if made.excess and self.policy.compactor is not None:
            try:
                summary = await self._summary(made, decision)
                summarized = True
            except Exception as exc:
                if not needed:
                    raise ClawftError(f"no summary: {exc!r}") from exc
                # The turn continues without the old messages, because its question matters more.
                summary = compaction.summary
            compaction = attrs.evolve(compaction, summary=summary)
        await self._keep(compaction, left_out=len(made.excess), summarized=summarized)

    async def _summary(self, made: Plan, decision: RoutingDecision) -> str:
        assert self.limit is not None
        assert self.policy.compactor is not None
        excess = Excess(
            session=self.session,
            messages=made.excess,
            summary=made.compaction.summary,
            budget=self.policy.summary_budget(self.limit),
            room=int(self.policy.start * self.limit),
        )
        with trio.move_on_after(self.policy.total or float("inf")):
            written = await self.policy.compactor.compact(excess, partial(self._ask, decision))
            # A summary that ignores its budget must not fill the window. Differences between estimates are smaller.
            return within(written, _LONGEST_SUMMARY * excess.budget)
        raise ClawftError(f"no summary within {self.policy.total:g} s")

    async def _ask(self, decision: RoutingDecision, request: ChatRequest, model: str = "") -> ChatResponse:
        """Send *request* for the summary, charged to the sender."""
        first = (Target.parse(model),) if model else ()
        others = tuple(target for target in decision.targets if target not in first)
        call = Call(id=f"{self.call.turn_id}.compaction", turn_id=self.call.turn_id, observer=self.call.observer)
        asked = attrs.evolve(request, auth=self.auth)
        return await self.models.complete(asked, call, attrs.evolve(decision, targets=(*first, *others)))

    async def _keep(self, compaction: Compaction, *, left_out: int = 0, summarized: bool = False) -> None:
        """Apply *compaction*, and store it unless another one was stored since the session was loaded."""
        store = self.store
        assert store is not None
        kept = await store.compact(self.session, compaction, version=self.tail.version)
        if kept:
            self.call.observer(
                SessionCompacted(
                    session=self.session,
                    messages=left_out,
                    summarized=summarized,
                    turn_id=self.call.turn_id,
                )
            )
        self.tail = attrs.evolve(
            self.tail,
            compaction=compaction,
            version=self.tail.version + 1 if kept else self.tail.version,
            rows=tuple(row for row in self.tail.rows if row.place > compaction.cut),
        )

    async def cut(self, answers: Sequence[ToolResult], number: int) -> tuple[ToolResult, ...]:
        """Cut *answers* to the lengths that the window allows; store complete texts, which can be read with a tool.

        Together they get the share of the window that a compaction leaves in use (`goal`), because the results of the
        last round are always sent.

        Args:
          answers: the tool results of round *number*.
          number: number of the round, from 1.

        Raises:
          StoreError: a complete text cannot be stored.

        Cancellation: the complete texts of some of the results are stored.
        """
        cut: list[ToolResult] = []
        left = None if self.limit is None else int(self.policy.goal * self.limit)
        for position, answer in enumerate(answers):
            size, limit = len(answer.text.encode(errors="replace")), RESULT_LIMIT
            if self.limit is not None and left is not None:
                share = min(left // (len(answers) - position), int(self.policy.longest_result * self.limit))
                tokens = count_tokens(answer.text)
                if tokens > share:
                    limit = min(limit, max(_FEWEST_BYTES, size * share // tokens))
                left -= min(tokens, share)
            cut.append(answer if size <= limit else await self._cut_one(answer, number, limit))
        return tuple(cut)

    async def _cut_one(self, answer: ToolResult, number: int, limit: int) -> ToolResult:
        store, more = self.store, ""
        if store is not None and self.readable:
            key = f"{self.call.turn_id}.{number}.{answer.call_id}".encode(errors="replace")
            reference = "r" + hashlib.sha256(key).hexdigest()[:12]
            await store.keep_result(self.session, reference, answer.text)
            more = (
                f"\n[This is a part. The whole has {len(answer.text)} characters;"
                f' read more of it with {READ_RESULT}(id="{reference}", start=...).]'
            )
        if len(answer.text) > _IN_THREAD:
            text = await trio.to_thread.run_sync(partial(answer_text, answer.text, limit=limit))
        else:
            text = answer_text(answer.text, limit=limit)
        return attrs.evolve(answer, text=text + more)


def _within(tail: SessionTail, limit: int) -> SessionTail:
    """Move the cut of *tail*, so that at most *limit* messages are sent."""
    first = first_within(tail.messages, limit)
    if first == 0:
        return tail
    cut = attrs.evolve(tail.compaction, cut=tail.rows[first - 1].place)
    return attrs.evolve(tail, compaction=cut, rows=tail.rows[first:])


def _from_first_turn(tail: SessionTail) -> SessionTail:
    rows = tail.rows
    first = next((index for index, row in enumerate(rows) if row.message.role == "user"), len(rows))
    return attrs.evolve(tail, rows=rows[first:])
