"""Records of the attempts of a logical call: outcome, times, tokens.

A logical call may take many attempts: retries, hedges, failovers. Each makes one `AttemptRecord`, also when it was
cancelled or when no consumer received its output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from types import MappingProxyType
from typing import Literal

import attrs
import trio

from clawft_trio.field_docs import document_fields
from clawft_trio.nursery import leaves

AttemptOutcome = Literal["ok", "failed", "cancelled", "aborted"]
"""`aborted`: the consumer ended the attempt. `cancelled`: another task ended it; `why` holds the reason."""

Certainty = Literal["exact", "estimated", "at_least"]
"""How exact a number of tokens is: reported by the provider, computed here, or a lower bound."""


MOST_TOKENS = 2**53
"""The largest integer that every JSON reader keeps exactly; no answer has as many tokens."""


@attrs.frozen(kw_only=True)
class Usage:
    """Tokens of one answer as its provider counts them, with the charge that the provider states."""

    input_tokens: int = 0
    output_tokens: int = 0
    #: the part of `input_tokens` read from the provider's prompt cache
    cached_tokens: int = 0
    #: the part of `input_tokens` written to the provider's prompt cache
    cache_write_tokens: int = 0
    #: the part of `output_tokens` spent on reasoning
    reasoning_tokens: int = 0
    #: the part of `cache_write_tokens` that is kept for an hour, which costs more than the usual five minutes
    cache_write_1h_tokens: int = 0
    #: the parts of `input_tokens` and `output_tokens` that are not text
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    input_image_tokens: int = 0
    output_image_tokens: int = 0
    #: searches that the provider ran itself for this answer, which are charged one by one
    web_searches: int = 0
    #: the processing tier that changes the price (`flex`, `priority`, `batch`, ...); empty for the ordinary one
    service_tier: str = ""
    #: US dollars, when the answer itself states the charge
    cost: Decimal | None = None

    @property
    def total_tokens(self) -> int:
        """Sum of input and output tokens."""
        return self.input_tokens + self.output_tokens

    def problem(self) -> str:
        """Return the reason why these figures are impossible; empty when they are possible."""
        for field in _COUNTS:
            value: object = getattr(self, field)
            if type(value) is not int or not 0 <= value <= MOST_TOKENS:
                return f"{field} is {value!r}, and a count is a whole number from 0 to 2**53"
        cached = self.cached_tokens + self.cache_write_tokens
        if max(cached, self.input_audio_tokens, self.input_image_tokens) > self.input_tokens:
            return f"input_tokens is {self.input_tokens}, less than a part of it"
        if self.cache_write_1h_tokens > self.cache_write_tokens:
            return f"cache_write_tokens is {self.cache_write_tokens}, less than a part of it"
        if max(self.reasoning_tokens, self.output_audio_tokens, self.output_image_tokens) > self.output_tokens:
            return f"output_tokens is {self.output_tokens}, less than a part of it"
        cost: object = self.cost
        if cost is not None and not (isinstance(cost, Decimal) and cost.is_finite() and cost >= 0):
            return f"cost is {cost!r}, and a cost is 0 or more US dollars"
        return ""

    @property
    def plain_tokens(self) -> int:
        """The part of `input_tokens` that was neither read from the prompt cache nor written to it."""
        return max(0, self.input_tokens - self.cached_tokens - self.cache_write_tokens)

    def __add__(self, other: Usage) -> Usage:
        """Add two usages. The cost is known if both costs are; the tier is kept if both tiers are equal."""
        counts = {field: getattr(self, field) + getattr(other, field) for field in _COUNTS}
        cost = None if self.cost is None or other.cost is None else self.cost + other.cost
        tier = self.service_tier if self.service_tier == other.service_tier else ""
        return Usage(**counts, cost=cost, service_tier=tier)


_COUNTS = tuple(field.name for field in attrs.fields(Usage) if field.name not in {"service_tier", "cost"})


@attrs.frozen(kw_only=True)
class Latency:
    """Times of one attempt or one call: monotonic, in seconds from its start."""

    total: float = 0.0
    #: time spent waiting for admission (bulkhead, connection limit) before anything was sent
    queued: float = 0.0
    #: until the response headers; None when they never came
    first_byte: float | None = None
    #: until the first text, reasoning or tool call fragment; None when none came
    first_content: float | None = None

    def tokens_per_second(self, output_tokens: int) -> float | None:
        """Return the output rate after the first content, or None when it is not known."""
        if self.first_content is None or self.total <= self.first_content:
            return None
        return output_tokens / (self.total - self.first_content)


@attrs.frozen(kw_only=True)
class AttemptRecord:
    """Record of one attempt at one target, made when the attempt ends."""

    #: `provider/model`, or the name of a wrapped function
    target: str
    outcome: AttemptOutcome
    #: `trio.current_time()` at the start
    started: float
    latency: Latency
    #: the error; None unless `outcome` is `failed`
    error: BaseException | None = attrs.field(default=None, eq=False)
    #: the task or clock that cancelled it, and the reason; empty unless `outcome` is `cancelled`
    why: str = ""
    usage: Usage | None = None
    certainty: Certainty | None = None
    #: whether a request left the process; False means that nothing can have been billed
    sent: bool = False
    #: the provider's id for the answer, its model name, and its finish reason; empty when there is no answer
    response_id: str = ""
    response_model: str = ""
    finish_reason: str = ""


class AttemptLog:
    """The records of one call, in the order in which the attempts ended.

    A strategy that runs attempts concurrently gives each a `branch()` for its own records; the parent still
    receives all of them.
    """

    __slots__ = ("_parent", "_records")

    def __init__(self, parent: AttemptLog | None = None) -> None:
        self._parent = parent
        self._records: list[AttemptRecord] = []

    def __repr__(self) -> str:
        return f"<AttemptLog {[f'{r.target}: {r.outcome}' for r in self._records]}>"

    @property
    def records(self) -> tuple[AttemptRecord, ...]:
        """The records of all attempts that have ended."""
        return tuple(self._records)

    def add(self, record: AttemptRecord) -> None:
        """Add *record* to this log and to every parent."""
        log: AttemptLog | None = self
        while log is not None:
            log._records.append(record)
            log = log._parent

    def branch(self) -> AttemptLog:
        """Make a log for a part of this call; its records are added here, too."""
        return AttemptLog(self)


@attrs.define
class AttemptInProgress:
    """A running attempt, with the facts for its record. Times are `trio.current_time()`."""

    target: str
    started: float
    admitted: float | None = None
    first_byte: float | None = None
    first_content: float | None = None
    usage: Usage | None = None
    certainty: Certainty | None = None
    #: set by the transport before the first byte of the request is sent
    sent: bool = False
    response_id: str = ""
    response_model: str = ""
    finish_reason: str = ""
    #: called when the request is admitted, to start clocks
    on_admission: Callable[[], None] | None = None

    def admit(self) -> None:
        """Record that the request waits for nothing in this process any more."""
        self.admitted = trio.current_time()
        if self.on_admission is not None:
            self.on_admission()

    def latency(self, now: float) -> Latency:
        """Return the times up to *now*."""
        return Latency(
            total=now - self.started,
            queued=0.0 if self.admitted is None else self.admitted - self.started,
            first_byte=None if self.first_byte is None else self.first_byte - self.started,
            first_content=None if self.first_content is None else self.first_content - self.started,
        )

    def end(self, outcome: AttemptOutcome, *, error: BaseException | None = None, why: str = "") -> AttemptRecord:
        """Make the record of this attempt, which ended as *outcome*."""
        return AttemptRecord(
            target=self.target,
            outcome=outcome,
            started=self.started,
            latency=self.latency(trio.current_time()),
            error=error,
            why=why,
            usage=self.usage,
            certainty=self.certainty,
            sent=self.sent,
            response_id=self.response_id,
            response_model=self.response_model,
            finish_reason=self.finish_reason,
        )


_DECIDES: Mapping[AttemptOutcome, tuple[AttemptOutcome, ...]] = MappingProxyType(
    {
        "ok": ("ok", "aborted", "failed", "cancelled"),
        "aborted": ("aborted", "ok", "cancelled", "failed"),
        "failed": ("failed", "cancelled", "ok", "aborted"),
        "cancelled": ("cancelled", "failed", "ok", "aborted"),
    }
)


def deciding_attempt(records: Sequence[AttemptRecord], ending: AttemptOutcome = "ok") -> AttemptRecord | None:
    """Return the attempt that decided a call which ended as *ending*: the call has its answer or its failure.

    It is the last attempt that ended the same way, preferably one with content; where no attempt ended that way, the
    last one of the next likely outcome. None without records.
    """
    for outcome in _DECIDES[ending]:
        ended = [record for record in records if record.outcome == outcome]
        # The losing attempt of a race may end after the winner; it has sent no content.
        shown = [record for record in ended if record.latency.first_content is not None]
        if ended:
            return (shown or ended)[-1]
    return None


def call_latency(deciding: AttemptRecord | None, started: float) -> Latency:
    """Return the latency, up to now, of a call that began at *started* and was decided by the attempt *deciding*."""
    total = trio.current_time() - started
    if deciding is None:
        return Latency(total=total)
    offset, own = deciding.started - started, deciding.latency
    return Latency(
        total=total,
        queued=own.queued,
        first_byte=None if own.first_byte is None else offset + own.first_byte,
        first_content=None if own.first_content is None else offset + own.first_content,
    )


@contextmanager
def record_attempt(log: AttemptLog, target: str) -> Iterator[AttemptInProgress]:
    """Record one attempt at *target*, however the block ends.

    A provider that sends requests itself runs them in this block and sets the fields of the yielded object. For
    providers that make no records, `observe.recorded` does.
    """
    attempt = AttemptInProgress(target, trio.current_time())
    try:
        yield attempt
    except Exception as exc:
        log.add(attempt.end("failed", error=exc))
        raise
    except BaseException as exc:
        # The attempt was cancelled, the consumer ended it, or the program is ending: the target did not fail.
        cancelled = [leaf for leaf in leaves(exc) if isinstance(leaf, trio.Cancelled)]
        if len(cancelled) == len(leaves(exc)):
            log.add(attempt.end("cancelled", why=cancel_reason(cancelled[0])))
        else:
            log.add(attempt.end("aborted", why=type(exc).__name__))
        raise
    log.add(attempt.end("ok"))


def cancel_reason(exc: trio.Cancelled) -> str:
    """Return the reason of the cancellation, or else its source, as trio records them."""
    reason: str | None = exc.reason
    return reason or exc.source


document_fields(__name__)
