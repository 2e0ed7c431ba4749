"""A turn's view of its session: what the model is shown, shortened in time, and large results kept beside it."""

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
"""Bytes of a tool result that are kept, in the store and for the tool that reads it."""

_IN_THREAD = 256 * 1024
"""Characters; cutting a longer result would stop the loop for too long."""

_LONGEST_SUMMARY = 2
"""Times its budget that a summary may have."""

_FEWEST_BYTES = 512
"""Bytes that a cut result has at least."""


@attrs.define(kw_only=True)
class SessionWindow:
    """The window of one turn onto its session."""

    session: str
    auth: AuthContext
    history: History
    models: Models
    policy: CompactionPolicy
    #: messages that are shown at most
    memory_window: int
    call: Call
    #: `history`, where it can be cut
    store: SessionStore | None
    background: Background | None = None
    #: whether the sender may read results again
    readable: bool = False
    tail: SessionTail = SessionTail()
    #: tokens that may go in; None until the turn is routed
    limit: int | None = None
    #: tokens of what is in every request of this turn, and not in the session
    overhead: int = 0
    #: what the model is shown of a tail
    _shown: tuple[SessionTail, tuple[Message, ...]] | None = None

    async def load(self) -> tuple[Message, ...]:
        """What the model is shown of the session, without its summary.

        Cancellation: nothing is changed, or the cut is stored.
        """
        store = self.store
        if store is None:
            messages = await self.history.history(self.session, None)
            rows = (StoredMessage(place=n, at="", message=message) for n, message in enumerate(messages, 1))
            self.tail = _within(SessionTail(rows=tuple(rows)), self.memory_window)
            return self.messages
        # A turn more than is shown, so that a cut in jumps finds its place also in a session that had none.
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
        """What the model is shown of the session, without its summary."""
        if self._shown is None or self._shown[0] is not self.tail:
            self._shown = self.tail, shown(self.tail, readable=self.readable)
        return self._shown[1]

    def complete(self, before: Sequence[Message], asked: Message) -> tuple[Message, ...]:
        """The messages of a request: *before* the session, the session, and what is *asked* now."""
        return (*before, *with_summary((*self.messages, asked), self.tail.compaction.summary))

    # --- making it shorter -------------------------------------------------------------------------------

    async def fit(self, request: ChatRequest, decision: RoutingDecision) -> bool:
        """Make the session shorter if *request* does not fit; whether it was.

        Raises:
          StoreError: the cut cannot be stored.

        Cancellation: it is shorter, or as it was.
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
        return made is not None and await self._compact(made, decision, needed=True)

    def compact_later(self, added: Sequence[Message], request: ChatRequest, decision: RoutingDecision) -> None:
        """After the turn, which has added *added*: make the session shorter beside what comes next, if it is time."""
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

    async def _compact(self, made: Plan, decision: RoutingDecision, *, needed: bool) -> bool:
        """Carry *made* out. Without a summary turns are cut only if that is *needed*, or none is wanted."""
        compaction, summarized = made.compaction, False
        if made.excess and self.policy.compactor is not None:
            try:
                summary = await self._summary(made, decision)
                summarized = True
            except Exception as exc:
                if not needed:
                    raise ClawftError(f"no summary: {exc!r}") from exc
                # The turn goes on with less: its question matters more than what is long past.
                summary = compaction.summary
            compaction = attrs.evolve(compaction, summary=summary)
        return await self._keep(compaction, left_out=len(made.excess), summarized=summarized)

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
            # One that ignores its budget must not fill the window that it is to relieve. Estimates differ by less.
            return within(written, _LONGEST_SUMMARY * excess.budget)
        raise ClawftError(f"no summary within {self.policy.total:g} s")

    async def _ask(self, decision: RoutingDecision, request: ChatRequest, model: str = "") -> ChatResponse:
        """Have *request* answered at the sender's expense, for the summary."""
        first = (Target.parse(model),) if model else ()
        others = tuple(target for target in decision.targets if target not in first)
        call = Call(id=f"{self.call.turn_id}.compaction", turn_id=self.call.turn_id, observer=self.call.observer)
        asked = attrs.evolve(request, auth=self.auth)
        return await self.models.complete(asked, call, attrs.evolve(decision, targets=(*first, *others)))

    async def _keep(self, compaction: Compaction, *, left_out: int = 0, summarized: bool = False) -> bool:
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
        return kept

    # --- large results -----------------------------------------------------------------------------------

    async def cut(self, answer: ToolResult, number: int) -> ToolResult:
        """*answer* as long as the window allows; the whole of a longer one is kept and can be read by a tool.

        Args:
          answer: of a tool, in round *number* of the turn.
          number: 1 is the first.

        Raises:
          StoreError: the whole cannot be kept.

        Cancellation: as it was.
        """
        limit = self._result_bytes(answer.text)
        if limit is None:
            return answer
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

    def _result_bytes(self, text: str) -> int | None:
        """Bytes to which *text* has to be cut; None when it is short enough."""
        size = len(text.encode(errors="replace"))
        limit = RESULT_LIMIT
        if self.limit is not None:
            tokens, allowed = count_tokens(text), int(self.policy.longest_result * self.limit)
            if tokens > allowed:
                limit = min(limit, max(_FEWEST_BYTES, size * allowed // tokens))
        return limit if size > limit else None


def _within(tail: SessionTail, limit: int) -> SessionTail:
    """*tail* with a cut so that at most *limit* messages are shown."""
    first = first_within(tail.messages, limit)
    if first == 0:
        return tail
    cut = attrs.evolve(tail.compaction, cut=tail.rows[first - 1].place)
    return attrs.evolve(tail, compaction=cut, rows=tail.rows[first:])


def _from_first_turn(tail: SessionTail) -> SessionTail:
    rows = tail.rows
    first = next((index for index, row in enumerate(rows) if row.message.role == "user"), len(rows))
    return attrs.evolve(tail, rows=rows[first:])
