"""A provider that reserves, charges and refunds the cost of each attempt."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import attrs
import trio

from clawft_trio.attempts import AttemptLog, AttemptRecord, Certainty, Usage, record_attempt
from clawft_trio.chat import (
    Call,
    ChatRequest,
    ChatResponse,
    Emit,
    Message,
    Provider,
    ReasoningDelta,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
)
from clawft_trio.costs.records import Bill, Reservation
from clawft_trio.costs.tracker import CostTracker, Expected, Payer
from clawft_trio.errors import (
    AuthFailed,
    ContentFiltered,
    ModelNotFound,
    NotConfigured,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
)
from clawft_trio.observe.events import Charged, Noted
from clawft_trio.observe.recorded import recorded
from clawft_trio.target import Target

_log = logging.getLogger("clawft_trio.costs")

CountRequest: TypeAlias = Callable[[ChatRequest], int]
"""Estimated input tokens of a request."""

_GRACE = 15.0
"""Seconds that settling may take when the attempt was cancelled: three times what the store waits for a lock."""

_ASSUMED_OUTPUT = 4096
"""Output tokens assumed for a request without a limit of its own or of its sender."""

_REFUSALS: tuple[type[ProviderError], ...] = (
    RateLimited,
    QuotaExhausted,
    AuthFailed,
    ModelNotFound,
    RequestRejected,
    NotConfigured,
)
"""Errors that a provider raises before it generates anything; they are not billed."""

_OVERLOADED = frozenset({503, 529})
"""Statuses of a server that has not begun to generate."""


class Metered:
    """*provider* bound to one target: a request gets its model, an attempt is reserved before it leaves and settled
    after it, whatever becomes of it.

    Goes inside the policy, so that every retry and both arms of a hedge pay: `Resilient(Metered(...), policy)`.

    An answer costs its reported usage. An attempt that broke off, lost a race or was cancelled costs at least its
    request and what had come of its answer. Nothing is paid for a request that never left, or that the provider
    refused before it generated anything.

    Args:
      provider: who answers; one target, one attempt a call.
      tracker: prices, budgets and the ledger.
      target: the model that is asked, and what the attempts are charged as.
      tokens: estimates the input tokens of a request.
      prepare: changes each request for the target, for options of its own.
    """

    keeps_records = True

    def __init__(
        self,
        provider: Provider,
        tracker: CostTracker,
        target: Target,
        *,
        tokens: CountRequest,
        prepare: Callable[[ChatRequest], ChatRequest] | None = None,
    ) -> None:
        self.provider: Provider = recorded(provider)
        self.tracker = tracker
        self.target = target
        self.tokens = tokens
        self.prepare = prepare

    def __repr__(self) -> str:
        return f"<Metered {self.name}>"

    @property
    def name(self) -> str:
        """`provider/model`."""
        return self.target.name

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Answer *request*, at the expense of its sender; the answer has its cost.

        Raises:
          BudgetExceeded: the budget of the sender, or of all senders, has too little left. Nothing was sent.
          StoreError: the ledger cannot be written. Nothing was sent.
          ProviderError: the provider's.

        Cancellation: the provider's; the attempt is settled, shielded and within its grace.
        """
        if request.model != self.target.model:
            request = attrs.evolve(request, model=self.target.model)
        if self.prepare is not None:
            request = self.prepare(request)
        expected = self._expected(request, call)
        payer = self.tracker.payer(call.turn_id, request.auth)
        reservation = await self._reserve(payer, call, expected)
        attempt = _Attempt(self, call, reservation, expected, account=payer.account or self.tracker)
        try:
            response = await self.provider.complete(request, attempt.call)
        except BaseException as exc:
            with trio.move_on_after(_GRACE, shield=True):
                await attempt.close(attempt.failed(exc))
            raise
        bill = attempt.answered(response)
        with trio.move_on_after(_GRACE, shield=True):
            await attempt.close(bill)
        return attrs.evolve(response, cost=bill.cost)

    def _expected(self, request: ChatRequest, call: Call) -> Expected:
        """Upper estimates. Counting a long history takes milliseconds, so it is not done twice."""
        given = self.tokens(request) if call.input_tokens is None else call.input_tokens
        if request.auth is None:
            return Expected(input_tokens=given, output_tokens=request.max_tokens or _ASSUMED_OUTPUT)
        return Expected(input_tokens=given, output_tokens=request.auth.permissions.output_limit(request.max_tokens))

    async def _reserve(self, payer: Payer, call: Call, expected: Expected) -> Reservation:
        """Set the money aside; when that is refused, it is an attempt on record from which nothing was sent."""
        refused = AttemptLog()
        try:
            with record_attempt(refused, self.name):
                return await self.tracker.reserve(payer, self.target, expected, turn_id=call.turn_id, call_id=call.id)
        except BaseException:
            call.log.add(refused.records[0])
            raise


class _Attempt:
    """One attempt with its reservation."""

    def __init__(
        self, meter: Metered, call: Call, reservation: Reservation, expected: Expected, *, account: CostTracker
    ) -> None:
        self._meter = meter
        self._account = account
        self._observer = call.observer
        self._reservation = reservation
        self._expected = expected
        self._log = call.log.branch()
        self._seen = _Seen(call.emit, meter.tokens)
        self.call = call.replaced(log=self._log, emit=self._seen)

    def answered(self, response: ChatResponse) -> Bill:
        """What its answer costs."""
        records = self._log.records
        usage = response.usage or _reported(records)
        problem = "" if usage is None else usage.problem()
        if usage is not None and not problem:
            certainty = records[-1].certainty if records else None
            return self._bill(usage, "estimated" if certainty == "estimated" else "exact", "ok")
        answer = Message.assistant(response.reasoning + response.text, tool_calls=response.tool_calls)
        estimate = self._estimated(_output_tokens(answer, self._meter.tokens))
        return self._bill(estimate, "estimated", "ok", note=self._refused(problem))

    def failed(self, exc: BaseException) -> Bill | None:
        """What is known of its cost; None when nothing can have been billed."""
        records = self._log.records
        if not any(record.sent for record in records) or (not self._seen.content and was_refused(exc)):
            return None
        usage, seen = _reported(records), self._estimated(self._seen.tokens())
        problem = "" if usage is None else usage.problem()
        if usage is None or problem:
            return self._bill(seen, "at_least", self._outcome, note=self._refused(problem))
        if records[-1].certainty == "exact":
            return self._bill(usage, "exact", self._outcome)
        # What a provider reports when its answer begins counts the first token or two of it. What it states that it
        # charged by then is not the whole, either.
        output = max(usage.output_tokens, seen.output_tokens)
        return self._bill(attrs.evolve(usage, output_tokens=output, cost=None), "at_least", self._outcome)

    def _refused(self, problem: str) -> str:
        """Report that the provider's usage is not used, and why; returns the note for the ledger."""
        if not problem:
            return ""
        self._note("a reported usage is refused, and the attempt is estimated", problem=problem)
        return f"the reported usage is refused: {problem}"

    @property
    def _outcome(self) -> str:
        # A provider that keeps records and has none has not tried.
        records = self._log.records
        return records[-1].outcome if records else "failed"

    def _estimated(self, output_tokens: int) -> Usage:
        return Usage(input_tokens=self._expected.input_tokens, output_tokens=output_tokens)

    def _bill(self, usage: Usage, certainty: Certainty, outcome: str, *, note: str = "") -> Bill:
        charge = self._meter.tracker.price(self._meter.target, usage)
        note = "; ".join(filter(None, (note, charge.why)))
        return Bill(usage=usage, cost=charge.cost, certainty=certainty, outcome=outcome, note=note)

    async def close(self, bill: Bill | None) -> None:
        """Settle it by *bill*, or give everything back. A ledger that cannot be written does not cost the answer."""
        try:
            if bill is None:
                await self._account.refund(self._reservation, outcome=self._outcome)
            else:
                await self._account.update(self._reservation, bill)
        except trio.Cancelled as exc:
            self._note_unsettled(exc)
            raise
        except Exception as exc:  # noqa: BLE001 - the store's errors, and the engine's for a value that it cannot keep
            self._note_unsettled(exc)
        else:
            self._note_settled(bill)

    def _note_settled(self, bill: Bill | None) -> None:
        if bill is None:
            return
        claim = self._reservation.claim
        self._observer(
            Charged(
                sender=claim.sender_id,
                target=claim.target,
                agent=claim.agent,
                input_tokens=bill.usage.input_tokens,
                output_tokens=bill.usage.output_tokens,
                cost=bill.cost,
                certainty=bill.certainty,
                note=bill.note,
                call_id=claim.call_id,
                turn_id=claim.turn_id,
            )
        )

    def _note_unsettled(self, exc: BaseException) -> None:
        _log.error("reservation %d could not be settled yet", self._reservation.id, exc_info=exc)
        what = "a reservation could not be settled; it is written as soon as that is possible"
        self._note(what, reservation=self._reservation.id, error=exc)

    def _note(self, what: str, **details: object) -> None:
        claim = self._reservation.claim
        self._observer(
            Noted(component="costs", what=what, details=details, call_id=claim.call_id, turn_id=claim.turn_id)
        )


_PIECES = 256
"""Pieces of an answer that are counted together."""


class _Seen:
    """Counts what passes of an answer: all that is known of it when it breaks off. The text is not kept."""

    def __init__(self, emit: Emit, tokens: CountRequest) -> None:
        self._emit = emit
        self._count = tokens
        self._counted = 0
        self._pieces: list[str] = []
        self.content: bool = False

    def tokens(self) -> int:
        """Estimated tokens of what has passed."""
        if self._pieces:
            counted = self._count(_answer_so_far("".join(self._pieces)))
            # The frame of a message is counted once.
            self._counted += counted - (self._count(_answer_so_far("")) if self._counted else 0)
            self._pieces = []
        return self._counted

    # Not a coroutine of its own, because one more for each event and layer is what a stream's time goes into.
    def __call__(self, event: StreamEvent) -> Awaitable[None]:
        if isinstance(event, TextDelta | ReasoningDelta):
            self._note(event.text)
        elif isinstance(event, ToolCallDelta):
            self._note(event.name + event.arguments)
        return self._emit(event)

    def _note(self, piece: str) -> None:
        self.content = True
        self._pieces.append(piece)
        if len(self._pieces) >= _PIECES:
            self.tokens()


def _answer_so_far(text: str) -> ChatRequest:
    return ChatRequest([Message.assistant(text)])


def _output_tokens(message: Message, count: CountRequest) -> int:
    return count(ChatRequest([message])) if message.content or message.tool_calls else 0


def was_refused(exc: BaseException) -> bool:
    """Whether *exc*, which came before any content, means that nothing was generated or billed."""
    if isinstance(exc, ContentFiltered):
        # A filter that judged the request has read it all, and some (Azure) bill that.
        return False
    return isinstance(exc, _REFUSALS) or (isinstance(exc, ProviderError) and exc.status in _OVERLOADED)


def _reported(records: Sequence[AttemptRecord]) -> Usage | None:
    """The usage that a provider reported, whatever became of its answer."""
    return next((record.usage for record in reversed(records) if record.usage is not None), None)
