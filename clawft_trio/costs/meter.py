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
from clawft_trio.replacing import replaced
from clawft_trio.target import Target

_log = logging.getLogger("clawft_trio.costs")

CountRequest: TypeAlias = Callable[[ChatRequest], int]
"""Returns the estimated input tokens of a request."""

_GRACE = 15.0
"""Seconds that settling may take when the attempt was cancelled: three times the store's wait for a lock."""

_ASSUMED_OUTPUT = 4096
"""Output tokens assumed for a request without a limit of the request or of its sender."""

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
"""Statuses of a server that generated nothing."""


class Metered:
    """*provider* for one target: sets the model of a request, reserves the cost of an attempt before it is sent, and
    settles it after the attempt, whatever its outcome.

    Goes inside the policy, so that every retry and both attempts of a hedge are charged:
    `Resilient(Metered(...), policy)`.

    An answer costs its reported usage. An attempt that failed, lost a race or was cancelled costs at least its request
    and the received part of its answer. A request that was not sent, or that the provider refused before it generated
    anything, costs nothing.

    Args:
      provider: the provider that answers; one target, one attempt per call.
      tracker: prices, budgets and the ledger.
      target: the model that is asked and that the attempts are charged as.
      tokens: estimates the input tokens of a request.
      prepare: changes each request for the target, for options of the target.
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
        """Answer *request* and charge its sender; the answer has its cost.

        Raises:
          BudgetExceeded: the budget of the sender, or of all senders, has too little left. Nothing was sent.
          StoreError: the ledger cannot be written. Nothing was sent.
          ProviderError: as the provider raises it.

        Cancellation: as the provider's; the attempt is settled in a shielded scope within its grace.
        """
        if request.model != self.target.model:
            request = replaced(request, model=self.target.model)
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
        return replaced(response, cost=bill.cost)

    def _expected(self, request: ChatRequest, call: Call) -> Expected:
        """Return upper estimates. A count that the call already has is used, because counting takes milliseconds."""
        given = self.tokens(request) if call.input_tokens is None else call.input_tokens
        if request.auth is None:
            return Expected(input_tokens=given, output_tokens=request.max_tokens or _ASSUMED_OUTPUT)
        return Expected(input_tokens=given, output_tokens=request.auth.permissions.output_limit(request.max_tokens))

    async def _reserve(self, payer: Payer, call: Call, expected: Expected) -> Reservation:
        """Reserve the cost; when that fails, add a record of an attempt that was not sent."""
        refused = AttemptLog()
        try:
            with record_attempt(refused, self.name):
                return await self.tracker.reserve(payer, self.target, expected, turn_id=call.turn_id, call_id=call.id)
        except BaseException:
            call.log.add(refused.records[0])
            raise


class _Attempt:
    """One metered attempt and its reservation."""

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
        """Return the bill of an attempt that was answered."""
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
        """Return the bill of an attempt that failed; None when the provider cannot have billed anything."""
        records = self._log.records
        if not any(record.sent for record in records) or (not self._seen.content and was_refused(exc)):
            return None
        usage, seen = _reported(records), self._estimated(self._seen.tokens())
        problem = "" if usage is None else usage.problem()
        if usage is None or problem:
            return self._bill(seen, "at_least", self._outcome, note=self._refused(problem))
        if records[-1].certainty == "exact":
            return self._bill(usage, "exact", self._outcome)
        # The usage that a provider reports at the beginning of an answer has only the first token or two of the output,
        # and a charge that it states then is not the whole charge, either.
        output = max(usage.output_tokens, seen.output_tokens)
        return self._bill(attrs.evolve(usage, output_tokens=output, cost=None), "at_least", self._outcome)

    def _refused(self, problem: str) -> str:
        """Report that the provider's usage is not used, and why; return the note for the ledger."""
        if not problem:
            return ""
        self._note("a reported usage is refused, and the attempt is estimated", problem=problem)
        return f"the reported usage is refused: {problem}"

    @property
    def _outcome(self) -> str:
        # A provider that keeps records and has none here has made no attempt.
        records = self._log.records
        return records[-1].outcome if records else "failed"

    def _estimated(self, output_tokens: int) -> Usage:
        return Usage(input_tokens=self._expected.input_tokens, output_tokens=output_tokens)

    def _bill(self, usage: Usage, certainty: Certainty, outcome: str, *, note: str = "") -> Bill:
        charge = self._meter.tracker.price(self._meter.target, usage)
        note = "; ".join(filter(None, (note, charge.why)))
        return Bill(usage=usage, cost=charge.cost, certainty=certainty, outcome=outcome, note=note)

    async def close(self, bill: Bill | None) -> None:
        """Settle the reservation by *bill*, or refund it. A failure of the ledger does not fail the answer."""
        try:
            if bill is None:
                await self._account.refund(self._reservation, outcome=self._outcome)
            else:
                await self._account.update(self._reservation, bill)
        except trio.Cancelled as exc:
            self._note_unsettled(exc)
            raise
        except Exception as exc:  # noqa: BLE001 - errors of the store, and of the database for a value that it cannot store
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
"""Number of pieces of an answer that are counted together."""


class _Seen:
    """Counts the tokens of the events that pass, for an answer that breaks off. The text is not kept."""

    def __init__(self, emit: Emit, tokens: CountRequest) -> None:
        self._emit = emit
        self._count = tokens
        self._counted = 0
        self._pieces: list[str] = []
        self.content: bool = False

    def tokens(self) -> int:
        """Return the estimated tokens of the events so far."""
        if self._pieces:
            counted = self._count(_answer_so_far("".join(self._pieces)))
            # The tokens of the message's frame are counted only once.
            self._counted += counted - (self._count(_answer_so_far("")) if self._counted else 0)
            self._pieces = []
        return self._counted

    # Not a coroutine function, because one more coroutine per event and layer is the main cost of a stream.
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
        # The filter has read the whole request, and some providers (Azure) bill that.
        return False
    return isinstance(exc, _REFUSALS) or (isinstance(exc, ProviderError) and exc.status in _OVERLOADED)


def _reported(records: Sequence[AttemptRecord]) -> Usage | None:
    """Return the usage that a provider reported last, whatever the outcome; None when it reported none."""
    return next((record.usage for record in reversed(records) if record.usage is not None), None)
