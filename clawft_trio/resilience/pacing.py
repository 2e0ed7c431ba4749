"""Rates for `AdaptiveLimit`, without I/O: a stated limit (`Window`) and a measured rate (`Pace`)."""

from __future__ import annotations

import re
from collections import deque

import attrs

from clawft_trio.retry_hints import RateLimit

# Seconds over which the accepted rate is measured.
_MEASURED = 10.0

# Seconds in which the rate returns from a cut to the measured rate.
_RECOVERY = 3.0

# Share of the measured rate to which it returns: slightly less than all, so that the target rarely refuses.
_PLATEAU = 0.98

# Growth per second above the plateau, and the seconds in which the rate doubles in slow start.
_GROWTH = 0.005
_DOUBLES_IN = 2.0

# Attempts per second while a target refuses everything, to detect when it accepts again.
_PROBES = 0.2

PROBE_AFTER = 60.0
"""Seconds without an attempt after which one attempt tests whether a stated limit is still used up."""


@attrs.frozen(kw_only=True)
class Cost:
    """The amount that one attempt uses of a target's limits."""

    input_tokens: int = 0
    output_tokens: int = 0

    @staticmethod
    def counts(kind: str) -> bool:
        """Whether limits of this *kind* are counted here."""
        return not kind or "req" in kind or "token" in kind

    def of(self, kind: str) -> float:
        """Return the used amount of a limit of *kind*. Fireworks has `tokens-prompt` and `tokens-generated`."""
        if "token" not in kind:
            return 1.0
        if "input" in kind or "prompt" in kind:
            return float(self.input_tokens)
        if "output" in kind or "generated" in kind:
            return float(self.output_tokens)
        return float(self.input_tokens + self.output_tokens)


_PERIOD = re.compile(r"(?:(\d+)-)?(second|minute|hour|day|month)")
_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0, "month": 2_592_000.0}


def period_of(kind: str) -> float:
    """Return the seconds in which a limit of *kind* is refilled: a minute, unless its name has another period.

    Mistral and Cerebras put it in the name: `requests-day`, `tokens-5-minute`.
    """
    found = _PERIOD.search(kind)
    return _SECONDS["minute"] if found is None else int(found[1] or 1) * _SECONDS[found[2]]


class Window:
    """One limit that a target states: the amount left, by its last answer and the attempts started since."""

    def __init__(self) -> None:
        self._limit = 0.0
        self._left = 0.0
        self._as_of = 0.0
        self._newest = 0
        #: amount refilled per second
        self.rate: float = 0.0
        # Amounts reserved by attempts after the last statement, with the numbers of the attempts.
        self._reserved: deque[tuple[int, float]] = deque(maxlen=10_000)

    def update(self, limit: RateLimit, number: int, now: float) -> None:
        """Take over the limit stated in the answer to attempt *number*."""
        if number < self._newest or limit.limit is None or limit.remaining is None:
            return
        self._newest = number
        self._limit = float(limit.limit)
        used = limit.limit - limit.remaining
        # The used part is refilled until the reset; without that time, the limit's name states its period.
        self.rate = (
            used / limit.resets_after if used > 0 and limit.resets_after else self._limit / period_of(limit.kind)
        )
        while self._reserved and self._reserved[0][0] <= number:
            self._reserved.popleft()
        self._left = limit.remaining - sum(amount for _, amount in self._reserved)
        self._as_of = now

    def available(self, now: float) -> float:
        """Return the amount left at *now*."""
        return min(self._limit, self._left + (now - self._as_of) * self.rate)

    def time_to(self, amount: float, now: float) -> float:
        """Return the seconds until *amount* is available, or until the whole limit is, if *amount* is larger."""
        missing = min(amount, self._limit) - self.available(now)
        return 0.0 if missing <= 1e-9 else missing / max(self.rate, 1e-6)

    def reserve(self, number: int, amount: float, now: float) -> None:
        """Reserve *amount* for attempt *number*."""
        self._move_to(now)
        self._left -= amount
        self._reserved.append((number, amount))

    def settle(self, amount: float, now: float) -> None:
        """Return *amount*, the reserved amount beyond the actual use; a negative amount uses more."""
        self._move_to(now)
        self._left = min(self._left + amount, self._limit)

    def _move_to(self, now: float) -> None:
        self._left, self._as_of = self.available(now), now


class Pace:
    """The measured limit on attempts started per second.

    Slow start: it doubles every 2 s while it is fully used. `cut` measures the rate that the target accepted, reduces
    the rate to `decrease` of it, returns to 98 % of it within 3 s along a cube (as CUBIC does) and grows by 0.5 % per
    second after *cool_down* seconds. If nothing was accepted since the last cut, nothing can be measured: the rate is
    halved, down to a probe every 5 s, and after the first answer it grows by slow start up to the last measured rate.
    """

    def __init__(self, rate: float, decrease: float, cool_down: float) -> None:
        self._rate = rate
        self._decrease = decrease
        self._cool_down = cool_down
        self._next = 0.0
        self._cut_at: float | None = None
        self._grown_at: float | None = None
        self._starts: deque[float] = deque()
        self._refusals: deque[float] = deque()
        # The last measured rate, and whether an attempt that started since the last cut was answered.
        self._measured = 0.0
        self._answered = True
        # Moving average of the seconds until a refusal: an older attempt without one was accepted.
        self._refused_in = 0.0

    def rate(self, now: float) -> float:
        """Return the allowed starts per second at *now*."""
        if self._cut_at is None or now >= self._cut_at + _RECOVERY:
            return self._rate
        left = 1.0 - (now - self._cut_at) / _RECOVERY
        return self._rate * (1.0 - (1.0 - self._decrease) * left**3)

    def time_to_start(self, now: float) -> float:
        """Return the seconds until the next attempt may start."""
        # A remainder below the resolution of the clock would never end.
        return 0.0 if self._next - now < 1e-9 else self._next - now

    def is_used(self, now: float, share: float) -> bool:
        """Whether at least *share* of the rate was used in the last seconds."""
        lately = sum(time > now - _MEASURED for time in self._starts)
        return lately >= share * self.rate(now) * _MEASURED

    def note_start(self, now: float, *, saturated: bool) -> None:
        """Record the start of an attempt; *saturated*: others wait for the same limit."""
        self._starts.append(now)
        while self._starts[0] < now - _MEASURED:
            self._starts.popleft()
        self._grow(now, saturated=saturated)
        self._next = max(self._next, now - 0.001) + 1.0 / self.rate(now)

    def _grow(self, now: float, *, saturated: bool) -> None:
        since = now if self._grown_at is None else self._grown_at
        self._grown_at = now
        if not saturated:
            return
        seconds = min(now - since, 5.0)
        if self._cut_at is None:
            self._rate *= 2.0 ** (min(seconds, 1.0) / _DOUBLES_IN)
        elif self._rate < self._measured:
            if self._answered:
                self._rate = min(self._rate * 2.0 ** (seconds / _DOUBLES_IN), self._measured)
        elif now >= self._cut_at + self._cool_down:
            self._rate *= 1.0 + _GROWTH * min(seconds, 1.0)

    def note_answer(self, began: float) -> None:
        """Record that the attempt that started at *began* was answered."""
        self._answered = self._answered or self._cut_at is None or began >= self._cut_at

    def note_refusal(self, began: float, now: float) -> None:
        """Record that the attempt that started at *began* was refused."""
        self._refused_in += 0.2 * (now - began - self._refused_in)
        self._refusals.append(began)
        while self._refusals[0] < began - _MEASURED:
            self._refusals.popleft()

    def cut(self, now: float) -> float:
        """Reduce the rate to the one that the target accepted since the last cut, and return it."""
        start = now - _MEASURED if self._cut_at is None else max(now - _MEASURED, self._cut_at)
        start = max(start, self._starts[0] if self._starts else start)
        known = now - 2.0 * self._refused_in
        certain = sum(start < time <= known for time in self._starts) - sum(
            start < time <= known for time in self._refusals
        )
        if self._cut_at is not None and certain <= 0:
            self._rate = max(self._rate * 0.5, min(self._rate, _PROBES))
        else:
            accepted = sum(time > start for time in self._starts) - sum(time > start for time in self._refusals)
            measured = max(accepted, 0) / max(now - start, 0.1)
            # A short measurement may be far off, so one cut at most halves the rate.
            self._rate = self._measured = max(min(self._rate, max(measured, self._rate * 0.5)) * _PLATEAU, 0.01)
        self._cut_at = now
        self._answered = False
        self._next = max(self._next, now + 1.0 / self._rate)
        return self._rate
