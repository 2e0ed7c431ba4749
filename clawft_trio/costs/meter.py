"""A provider whose every attempt is paid for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import TypeAlias

import attrs

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
from clawft_trio.costs.prices import Priced
from clawft_trio.costs.records import Reservation
from clawft_trio.costs.tracker import CostTracker, Expected
from clawft_trio.errors import (
    AuthFailed,
    ContentFiltered,
    ModelNotFound,
    NotConfigured,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    StoreError,
)
from clawft_trio.nursery import goodbye
from clawft_trio.observe.events import Charged, Noted
from clawft_trio.resilience.resilient import witnessed

_log = logging.getLogger("clawft_trio.costs")

CountRequest: TypeAlias = Callable[[ChatRequest], int]
"""Estimated input tokens of a request."""

_GRACE = 15.0
"""Seconds that settling may take when the attempt was cancelled: three times what the store waits for a lock."""

_ASSUMED_OUTPUT = 4096
"""Output tokens of an answer to a request that names no limit and whose sender has none."""

_REFUSALS: tuple[type[ProviderError], ...] = (
    RateLimited,
    QuotaExhausted,
    AuthFailed,
    ModelNotFound,
    RequestRejected,
    NotConfigured,
)
"""What a provider says before it generates anything, and does not bill."""

_OVERLOADED = frozenset({503, 529})
"""Statuses by which a server says that it has not even begun."""


class Metered:
    """*provider*, with every attempt reserved before it leaves and settled after it, whatever becomes of it.

    Goes inside the policy, so that every retry and both arms of a hedge pay: `Resilient(Metered(...), policy)`.

    An answer costs what its usage says. An attempt that broke off, lost a race or was cancelled costs at least its
    request and what had come of its answer. Nothing is paid for a request that never left, or that the provider
    refused before it generated anything.

    Args:
      provider: who answers; one target, one attempt a call.
      tracker: prices, budgets and the ledger.
      target: what the attempts are charged as.
      tokens: estimates the input tokens of a request.
    """

    keeps_records = True

    def __init__(self, provider: Provider, tracker: CostTracker, target: Priced, *, tokens: CountRequest) -> None:
        self.provider = provider
        self._tracker = tracker
        self._target = target
        self._tokens = tokens

    def __repr__(self) -> str:
        return f"<Metered {self.name}>"

    @property
    def name(self) -> str:
        """The provider's."""
        return self.provider.name

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Answer *request*, at the expense of its sender; the answer says what it cost.

        Raises:
          BudgetExceeded: the sender, or everybody together, may not spend as much. Nothing was sent.
          StoreError: the ledger cannot be written. Nothing was sent.
          ProviderError: the provider's.

        Cancellation: the provider's; the attempt is settled, shielded and within its grace.
        """
        expected = self._expected(request)
        reservation = await self._reserve(request, call, expected)
        attempt = _Attempt(self._tracker, self._target, self._tokens, call, reservation, expected)
        try:
            response = await witnessed(self.provider, request, attempt.call)
        except BaseException as exc:
            await attempt.failed(exc)
            raise
        return attrs.evolve(response, cost=await attempt.answered(response))

    def _expected(self, request: ChatRequest) -> Expected:
        allowed = _ASSUMED_OUTPUT if request.auth is None else request.auth.permissions.max_output_tokens
        return Expected(input_tokens=self._tokens(request), output_tokens=request.max_tokens or allowed)

    async def _reserve(self, request: ChatRequest, call: Call, expected: Expected) -> Reservation:
        """Set the money aside; when that is refused, it is an attempt on record from which nothing was sent."""
        refused = AttemptLog()
        payer = self._tracker.payer(call.turn_id, request.auth)
        try:
            with record_attempt(refused, self.name):
                return await self._tracker.reserve(payer, self._target, expected, turn_id=call.turn_id, call_id=call.id)
        except BaseException:
            call.log.add(refused.records[0])
            raise


class _Attempt:
    """One attempt that is reserved, until it is settled."""

    def __init__(
        self,
        tracker: CostTracker,
        target: Priced,
        tokens: CountRequest,
        call: Call,
        reservation: Reservation,
        expected: Expected,
    ) -> None:
        self._tracker = tracker
        self._target = target
        self._tokens = tokens
        self._notify = call.notify
        self._reservation = reservation
        self._expected = expected
        self._log = call.log.branch()
        self._seen = _Seen(call.emit)
        self.call = attrs.evolve(call, log=self._log, emit=self._seen)

    async def answered(self, response: ChatResponse) -> Decimal | None:
        """Settle it by its answer, and return the cost."""
        usage = response.usage or _told(self._log.records)
        if usage is not None:
            return await self._charge(usage, "exact", "ok")
        said = Message.assistant(response.reasoning + response.text, tool_calls=response.tool_calls)
        return await self._charge(self._estimated(said), "estimated", "ok")

    async def failed(self, exc: BaseException) -> None:
        """Settle it by what is known of it."""
        records = self._log.records
        outcome = records[-1].outcome
        if not any(record.sent for record in records) or (not self._seen.pieces and was_refused(exc)):
            await self._refund(outcome)
            return
        told, seen = _told(records), self._estimated(self._seen.message)
        if told is None:
            await self._charge(seen, "at_least", outcome)
        elif records[-1].certainty == "exact":
            await self._charge(told, "exact", outcome)
        else:
            # What a provider reports when its answer begins counts the first token or two of it.
            output = max(told.output_tokens, seen.output_tokens)
            await self._charge(attrs.evolve(told, output_tokens=output), "at_least", outcome)

    def _estimated(self, said: Message) -> Usage:
        answer = ChatRequest([said]) if said.content or said.tool_calls else None
        return Usage(
            input_tokens=self._expected.input_tokens, output_tokens=0 if answer is None else self._tokens(answer)
        )

    async def _charge(self, usage: Usage, certainty: Certainty, outcome: str) -> Decimal | None:
        with self._settling():
            await self._tracker.update(self._reservation, self._target, usage, certainty=certainty, outcome=outcome)
        cost = self._tracker.cost(self._target, usage)
        claim = self._reservation.claim
        self._notify(
            Charged(
                sender=claim.sender_id,
                target=claim.target,
                agent=claim.agent,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cost=cost,
                certainty=certainty,
                call_id=claim.call_id,
                turn_id=claim.turn_id,
            )
        )
        return cost

    async def _refund(self, outcome: str) -> None:
        with self._settling():
            await self._tracker.refund(self._reservation, outcome=outcome)

    @contextmanager
    def _settling(self) -> Iterator[None]:
        """Shielded and bounded. When it fails that is told, and the lease ends: the answer is paid for all the same."""
        problem: StoreError | None = None
        with goodbye(_GRACE) as grace:
            try:
                yield
            except StoreError as exc:
                problem = exc
        if problem is None and not grace.cancelled_caught:
            return
        _log.error("reservation %d could not be settled", self._reservation.id, exc_info=problem)
        claim = self._reservation.claim
        self._notify(
            Noted(
                room="costs",
                what="a reservation could not be settled; it counts as lost when its lease ends",
                details={"reservation": self._reservation.id, "error": problem},
                call_id=claim.call_id,
                turn_id=claim.turn_id,
            )
        )


class _Seen:
    """What passes of an answer: all that is known of it when it breaks off."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self.pieces: list[str] = []

    @property
    def message(self) -> Message:
        return Message.assistant("".join(self.pieces))

    # On purpose without a checkpoint, as any `emit`.
    async def __call__(self, event: StreamEvent) -> None:
        if isinstance(event, TextDelta | ReasoningDelta):
            self.pieces.append(event.text)
        elif isinstance(event, ToolCallDelta):
            self.pieces.append(event.name + event.arguments)
        await self._emit(event)


def was_refused(exc: BaseException) -> bool:
    """Whether *exc*, which came before any content, says that nothing was generated and nothing is billed."""
    if isinstance(exc, ContentFiltered):
        # Whoever judged what the request says has read it all, and some (Azure) bill that.
        return False
    return isinstance(exc, _REFUSALS) or (isinstance(exc, ProviderError) and exc.status in _OVERLOADED)


def _told(records: Sequence[AttemptRecord]) -> Usage | None:
    """The usage that a provider reported, whatever became of its answer."""
    return next((record.usage for record in reversed(records) if record.usage is not None), None)
