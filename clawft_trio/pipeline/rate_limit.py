"""Rate limits: turns of one sender, and of all senders together.

`sliding_window`: at most the limit in any period of the window's length. `token_bucket`: a burst of at most the limit,
refilled evenly over the window. A refused turn is not counted, and the refusal has the time until the next turn.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from typing import Literal, Protocol, TypeAlias

import attrs
import trio
from attrs.validators import ge, gt

from clawft_trio.checks import one_of
from clawft_trio.errors import RateLimitExceeded

RateLimitStrategy: TypeAlias = Literal["sliding_window", "token_bucket"]

RESOLUTION = 64
"""Number of entries of a sliding window: with a larger limit, times are rounded up to this part of the window."""

# Seconds within which two times are equal: after exactly `retry_after`, a rounding error must not refuse the sender.
_TICK = 1e-6


@attrs.frozen(kw_only=True)
class RateLimitPolicy:
    """The limit of all senders. The limit of one sender is in its permissions."""

    #: length of the window in which turns are counted
    window_seconds: float = attrs.field(default=60.0, validator=gt(0))
    #: how they are counted
    strategy: RateLimitStrategy = attrs.field(
        default="sliding_window", validator=one_of("sliding_window", "token_bucket")
    )
    #: turns per minute of all senders together; 0 is unlimited
    global_rate_limit_rpm: int = attrs.field(default=0, validator=ge(0))
    #: number of senders with a separate count; all others share one count
    max_tracked_senders: int = attrs.field(default=10_000, validator=ge(1))


class _Meter(Protocol):
    """Counts the turns of one sender."""

    def wait(self, now: float, limit: int) -> float:
        """Return the seconds until one more turn is within *limit*; 0 when it is now."""
        ...

    def take(self, now: float, limit: int) -> None:
        """Count one turn."""
        ...

    def idle(self, now: float) -> bool:
        """Whether no counted turn matters any more."""
        ...


class _SlidingWindow:
    """Times of the turns in the last window, as [time, count] pairs."""

    __slots__ = ("_taken", "_total", "_window")

    def __init__(self, window: float) -> None:
        self._window = window
        self._taken: deque[list[float]] = deque()
        self._total = 0

    def wait(self, now: float, limit: int) -> float:
        self._forget(now)
        surplus = self._total + 1 - limit
        for at, count in self._taken:
            if surplus <= 0:
                break
            surplus -= int(count)
            if surplus <= 0:
                return at + self._window - now
        return 0.0

    def take(self, now: float, limit: int) -> None:
        at = now
        if limit > RESOLUTION:
            # Rounded up: a turn counts a little longer than it must, never shorter.
            step = self._window / RESOLUTION
            at = math.ceil(now / step) * step
        if self._taken and self._taken[-1][0] >= at:
            self._taken[-1][1] += 1
        else:
            self._taken.append([at, 1])
        self._total += 1

    def idle(self, now: float) -> bool:
        self._forget(now)
        return not self._taken

    def _forget(self, now: float) -> None:
        while self._taken and self._taken[0][0] + self._window <= now + _TICK:
            self._total -= int(self._taken.popleft()[1])


class _TokenBucket:
    """The time at which the bucket is full again; each turn delays it by window/limit (GCRA)."""

    __slots__ = ("_full_at", "_window")

    def __init__(self, window: float) -> None:
        self._window = window
        self._full_at = -math.inf

    def wait(self, now: float, limit: int) -> float:
        # After one more turn, the bucket has to be full again within a window from now.
        wait = max(self._full_at, now) + self._window / limit - self._window - now
        return wait if wait > _TICK else 0.0

    def take(self, now: float, limit: int) -> None:
        self._full_at = max(self._full_at, now) + self._window / limit

    def idle(self, now: float) -> bool:
        return self._full_at <= now


_METERS: dict[RateLimitStrategy, type[_SlidingWindow | _TokenBucket]] = {
    "sliding_window": _SlidingWindow,
    "token_bucket": _TokenBucket,
}


@attrs.frozen(kw_only=True)
class RateLimiterStatistics:
    """Counters of a `RateLimiter`."""

    admitted: int
    refused: int
    #: senders that have a separate count now
    tracked: int


class RateLimiter:
    """Counts turns per identity and for all senders, in bounded memory.

    Senders beyond `max_tracked_senders` share one count until others become idle. Evicting an active sender instead
    would give a fresh limit to a sender that invents enough names.
    """

    def __init__(self, policy: RateLimitPolicy | None = None) -> None:
        self._policy = policy or RateLimitPolicy()
        self._overall: _Meter = self._meter(60.0)
        self._shared: _Meter = self._meter(self._policy.window_seconds)
        # Least recently admitted first, so that idle senders come first.
        self._senders: OrderedDict[str, _Meter] = OrderedDict()
        self._admitted = 0
        self._refused = 0

    def __repr__(self) -> str:
        return f"<RateLimiter {self.statistics()}>"

    def _meter(self, window: float) -> _Meter:
        return _METERS[self._policy.strategy](window)

    def statistics(self) -> RateLimiterStatistics:
        """Return the counters."""
        return RateLimiterStatistics(admitted=self._admitted, refused=self._refused, tracked=len(self._senders))

    def admit(self, sender_id: str, limit: int) -> None:
        """Count one turn of *sender_id*, which may have *limit* in a window; 0 is unlimited except for the limit of
        all senders.

        Raises:
          RateLimitExceeded: too many turns. Nothing was counted, neither for the sender nor for all senders.
        """
        if limit < 0:
            self._refused += 1
            raise RateLimitExceeded(f"{sender_id} may not start any turn: its rate limit is {limit}")
        now = trio.current_time()
        total = self._policy.global_rate_limit_rpm
        meter = self._of(sender_id, now) if limit > 0 else None
        own = meter.wait(now, limit) if meter else 0.0
        overall = self._overall.wait(now, total) if total else 0.0
        if own > 0 or overall > 0:
            self._refused += 1
            raise _refusal(sender_id, own, overall)
        if total:
            self._overall.take(now, total)
        if meter:
            meter.take(now, limit)
            self._keep(sender_id, meter)
        self._admitted += 1

    def _of(self, sender_id: str, now: float) -> _Meter:
        known = self._senders.get(sender_id)
        if known is not None:
            return known
        self._forget_idle(now)
        if len(self._senders) >= self._policy.max_tracked_senders:
            return self._shared
        return self._meter(self._policy.window_seconds)

    def _keep(self, sender_id: str, meter: _Meter) -> None:
        if meter is not self._shared:
            self._senders[sender_id] = meter
            self._senders.move_to_end(sender_id)

    def _forget_idle(self, now: float) -> None:
        while self._senders:
            oldest = next(iter(self._senders))
            if not self._senders[oldest].idle(now):
                return
            del self._senders[oldest]


def _refusal(sender_id: str, own: float, overall: float) -> RateLimitExceeded:
    wait = max(own, overall)
    source = sender_id if own >= overall else "all senders together"
    return RateLimitExceeded(f"too many turns of {source}; retry in {wait:.3g} s", retry_after=wait)
