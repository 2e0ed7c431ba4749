"""The sections of a config.json that limit requests and repeat them: retries, clocks, the adaptive limit."""

from __future__ import annotations

from typing import Any

import attrs
from attrs.validators import and_, ge, gt, le, optional

from clawft_trio.config.structuring import alias
from clawft_trio.net import Clocks
from clawft_trio.resilience import AdaptiveLimit, Retry, RetryBudget, Timeout
from clawft_trio.retry_hints import RETRYABLE_STATUSES


def milliseconds_field(default: float | None, *names: str) -> Any:
    """Return a field in milliseconds, or null, that may also be given by *names*."""
    return attrs.field(default=default, validator=optional(gt(0)), metadata=alias(*names))


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


@attrs.frozen(kw_only=True)
class RetryConfig:
    """The `retry` section, general or of one provider, which inherits the settings that it leaves out."""

    #: retries after the first attempt
    max_retries: int | None = attrs.field(default=None, validator=optional(ge(0)), metadata=alias("count"))
    #: upper limit of the first wait
    base_delay_ms: float | None = milliseconds_field(None, "initial_backoff_ms")
    #: upper limit of every wait
    max_delay_ms: float | None = milliseconds_field(None, "max_backoff_ms")
    #: factor by which the upper limit grows with each further wait
    backoff_multiplier: float | None = attrs.field(default=None, validator=optional(and_(ge(1), le(100))))
    #: share of a wait that is random: 1 is full jitter, 0 none
    jitter_fraction: float | None = attrs.field(
        default=None, validator=optional(and_(ge(0), le(1))), metadata=alias("jitter")
    )
    #: statuses that are retried; an empty list is 500 to 599
    retryable_status_codes: tuple[int, ...] | None = None
    #: longest `Retry-After` that is waited for; a longer one ends the retries
    max_retry_after_ms: float | None = milliseconds_field(None)
    #: time after the first attempt after which no retry starts
    total_ms: float | None = milliseconds_field(None)

    def over(self, general: RetryConfig) -> RetryConfig:
        """Return *general*, overridden by the settings that are set here."""
        own = {name: value for name, value in attrs.asdict(self, recurse=False).items() if value is not None}
        return attrs.evolve(general, **own)

    def policy(self, budget: RetryBudget | None = None) -> Retry:
        """Return the strategy with these settings."""
        given: dict[str, Any] = {
            "max_retries": self.max_retries,
            "first_wait": _seconds(self.base_delay_ms),
            "longest_wait": _seconds(self.max_delay_ms),
            "multiplier": self.backoff_multiplier,
            "jitter": self.jitter_fraction,
            "longest_retry_after": _seconds(self.max_retry_after_ms),
            "total": _seconds(self.total_ms),
        }
        return Retry(budget=budget, **{name: value for name, value in given.items() if value is not None})

    @property
    def statuses(self) -> frozenset[int]:
        """HTTP statuses after which the same request may be sent again."""
        if self.retryable_status_codes is None:
            return frozenset(RETRYABLE_STATUSES)
        return frozenset(self.retryable_status_codes or range(500, 600))


@attrs.frozen(kw_only=True)
class TimeoutsConfig:
    """The `timeouts` section, in milliseconds; null switches a clock off."""

    #: until the connection is ready
    connect_ms: float | None = milliseconds_field(5_000.0)
    #: until the headers of a response; 300 000 for local servers unless it is set
    first_byte_ms: float | None = milliseconds_field(30_000.0)
    #: until the first content of an answer
    first_content_ms: float | None = milliseconds_field(60_000.0)
    #: between two pieces of content; pings do not count
    gap_ms: float | None = milliseconds_field(25_000.0)
    #: between two pieces of content after a fragment of a tool call
    tool_gap_ms: float | None = milliseconds_field(180_000.0)
    #: for a whole turn
    total_ms: float | None = milliseconds_field(600_000.0)
    #: silence after which the next target is called in parallel
    hedge_after_ms: float | None = milliseconds_field(10_000.0)
    #: until the headers of an answer that is not streamed
    unstreamed_ms: float | None = milliseconds_field(600_000.0)
    #: silence of a model after a sign that it thinks
    thinking_ms: float | None = milliseconds_field(120_000.0)
    #: until the body ends after the end of the answer in it
    linger_ms: float = attrs.field(default=2_000.0, validator=ge(0))

    @property
    def clocks(self) -> Clocks:
        """The clocks of the transport."""
        return Clocks(
            connect=_seconds(self.connect_ms),
            first_byte=_seconds(self.first_byte_ms),
            unstreamed=_seconds(self.unstreamed_ms),
            thinking=_seconds(self.thinking_ms),
            linger=self.linger_ms / 1000,
        )

    @property
    def attempt(self) -> Timeout:
        """The clocks of one attempt."""
        return Timeout(
            first_content=_seconds(self.first_content_ms),
            gap=_seconds(self.gap_ms),
            tool_gap=_seconds(self.tool_gap_ms),
        )

    @property
    def total(self) -> float | None:
        """Seconds for a whole turn; None without a limit."""
        return _seconds(self.total_ms)

    @property
    def hedge_after(self) -> float | None:
        """Seconds of silence after which the next target is called in parallel; None for never."""
        return _seconds(self.hedge_after_ms)


@attrs.frozen(kw_only=True)
class AdaptiveLimitConfig:
    """The `adaptive_limit` section: observe each target's limits, from its headers or by measurement."""

    #: whether limits are observed
    enabled: bool = False
    #: initial limit, in concurrent attempts and in attempts per second, when the target reports no limits
    initial: int = attrs.field(default=10, validator=ge(1))
    #: smallest limit in concurrent attempts
    min_concurrent: int = attrs.field(default=1, validator=ge(1))
    #: largest limit in concurrent attempts
    max_concurrent: int = attrs.field(default=1000, validator=ge(1))
    #: calls that may wait for one target
    queue: int = attrs.field(default=1000, validator=ge(0))
    #: longest wait of a call; null waits as long as its turn may take. With another target at hand, `hedge_after_ms`
    queue_for_ms: float | None = milliseconds_field(60_000.0)

    def policies(self) -> tuple[AdaptiveLimit, ...]:
        """Return the strategy, or nothing when it is not enabled."""
        if not self.enabled:
            return ()
        return (
            AdaptiveLimit(
                initial=self.initial,
                min_concurrent=self.min_concurrent,
                max_concurrent=self.max_concurrent,
                queue=self.queue,
                queue_for=_seconds(self.queue_for_ms),
            ),
        )


_UNSET = -1.0
"""Milliseconds of a clock that a model does not set; null would switch the clock off."""


def _clock() -> Any:
    # A factory, so that editors are not shown the number as a default value.
    return attrs.field(factory=lambda: _UNSET)


@attrs.frozen(kw_only=True)
class ClocksConfig:
    """The clocks of one model, in milliseconds; they override those of its provider. Null switches a clock off."""

    connect_ms: float | None = _clock()
    first_byte_ms: float | None = _clock()
    unstreamed_ms: float | None = _clock()
    thinking_ms: float | None = _clock()
    linger_ms: float = _clock()
    first_content_ms: float | None = _clock()
    gap_ms: float | None = _clock()
    tool_gap_ms: float | None = _clock()
    hedge_after_ms: float | None = _clock()

    def __attrs_post_init__(self) -> None:
        """Validate the values now, and not at the first call of the model."""
        self.over(TimeoutsConfig())

    def over(self, general: TimeoutsConfig) -> TimeoutsConfig:
        """Return *general*, overridden by the clocks that are set here."""
        own = {name: value for name, value in attrs.asdict(self).items() if value != _UNSET}
        return attrs.evolve(general, **own)


@attrs.frozen(kw_only=True)
class ProviderTimeoutsConfig:
    """The clocks of one provider, in milliseconds. A clock that is left out is that of the general section."""

    connect_ms: float | None = milliseconds_field(None)
    first_byte_ms: float | None = milliseconds_field(None)
    first_content_ms: float | None = milliseconds_field(None)
    gap_ms: float | None = milliseconds_field(None)
    tool_gap_ms: float | None = milliseconds_field(None)
    hedge_after_ms: float | None = milliseconds_field(None)
    unstreamed_ms: float | None = milliseconds_field(None)
    thinking_ms: float | None = milliseconds_field(None)
    linger_ms: float | None = attrs.field(default=None, validator=optional(ge(0)))

    def over(self, general: TimeoutsConfig) -> TimeoutsConfig:
        """Return *general*, overridden by the clocks that are set here."""
        own = {name: value for name, value in attrs.asdict(self, recurse=False).items() if value is not None}
        return attrs.evolve(general, **own)
