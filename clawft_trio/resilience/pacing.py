"""Rates for `AdaptiveLimit`, without I/O: a stated limit as a window, and a measured one as a pace."""

from __future__ import annotations

import re
from collections import deque

import attrs

from clawft_trio.retry_hints import RateLimit

# Seconds over which the accepted rate is measured.
_MEASURED = 10.0

# Seconds in which the pace returns from its dip to what was measured.
_RECOVERY = 3.0

# The share of the measured rate to which it returns: a little below, so that a limit is rarely met.
_PLATEAU = 0.98

# Growth a second beyond the plateau, and the seconds in which the pace doubles in the slow start.
_GROWTH = 0.005
_DOUBLES_IN = 2.0

# Attempts a second while a target refuses everything: each of them may be the first that is answered again.
_PROBES = 0.2

PROBE_AFTER = 60.0
"""Seconds without an attempt after which one finds out whether a stated limit that is used up for long still holds."""


@attrs.frozen(kw_only=True)
class Cost:
    """What one attempt takes of a target's limits."""

    input_tokens: int = 0
    output_tokens: int = 0

    @staticmethod
    def counts(kind: str) -> bool:
        """Whether limits of this *kind* are counted here."""
        return not kind or "req" in kind or "token" in kind

    def of(self, kind: str) -> float:
        """How much of a limit of *kind* is taken. Fireworks has limits of `tokens-prompt` and `tokens-generated`."""
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
    """The seconds in which a limit of *kind* comes back as a whole: a minute, unless its name has another period.

    Mistral and Cerebras name it: `requests-day`, `tokens-5-minute`.
    """
    found = _PERIOD.search(kind)
    return _SECONDS["minute"] if found is None else int(found[1] or 1) * _SECONDS[found[2]]


class Window:
    """One limit that a target states: what is left of it, by its last answer and by what was started since."""

    def __init__(self) -> None:
        self._limit = 0.0
        self._left = 0.0
        self._as_of = 0.0
        self._newest = 0
        #: refilled a second
        self.rate: float = 0.0
        # What attempts reserved that the last statement does not know of yet, by their number.
        self._reserved: deque[tuple[int, float]] = deque(maxlen=10_000)

    def update(self, limit: RateLimit, number: int, now: float) -> None:
        """Take over what the answer to attempt *number* states."""
        if number < self._newest or limit.limit is None or limit.remaining is None:
            return
        self._newest = number
        self._limit = float(limit.limit)
        used = limit.limit - limit.remaining
        # Until the reset the used part comes back; without that time, the limit's name states its period.
        self.rate = (
            used / limit.resets_after if used > 0 and limit.resets_after else self._limit / period_of(limit.kind)
        )
        while self._reserved and self._reserved[0][0] <= number:
            self._reserved.popleft()
        self._left = limit.remaining - sum(amount for _, amount in self._reserved)
        self._as_of = now

    def available(self, now: float) -> float:
        """What is left at *now*."""
        return min(self._limit, self._left + (now - self._as_of) * self.rate)

    def time_to(self, amount: float, now: float) -> float:
        """Seconds until *amount* is available. More than the whole limit never is: it goes when all is there."""
        missing = min(amount, self._limit) - self.available(now)
        return 0.0 if missing <= 1e-9 else missing / max(self.rate, 1e-6)

    def reserve(self, number: int, amount: float, now: float) -> None:
        """Take *amount* for attempt *number*."""
        self._move_to(now)
        self._left -= amount
        self._reserved.append((number, amount))

    def settle(self, amount: float, now: float) -> None:
        """Give back what was reserved beyond the actual use; negative takes more."""
        self._move_to(now)
        self._left = min(self._left + amount, self._limit)

    def _move_to(self, now: float) -> None:
        self._left, self._as_of = self.available(now), now


class Pace:
    """How many attempts may start a second, found by trying.

    Slow start: doubling every 2 s while it is used in full. `cut` measures what the target accepted, dips to
    `decrease` of it, returns to 98 % of it within 3 s along a cube (as CUBIC does) and grows by 0.5 % a second after
    *cool_down* seconds. Where nothing was accepted since the last cut, that measures nothing: the pace is halved, down
    to a probe every 5 s, and after the first answer there is a slow start up to what was measured last.
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
        # What was measured last, and whether something that started since the last cut was answered.
        self._measured = 0.0
        self._answered = True
        # Seconds in which refusals come, a moving average: a start that is older was accepted.
        self._refused_in = 0.0

    def rate(self, now: float) -> float:
        """Starts a second at *now*."""
        if self._cut_at is None or now >= self._cut_at + _RECOVERY:
            return self._rate
        left = 1.0 - (now - self._cut_at) / _RECOVERY
        return self._rate * (1.0 - (1.0 - self._decrease) * left**3)

    def time_to_start(self, now: float) -> float:
        """Seconds until the next attempt may start."""
        # A remainder below the resolution of the clock would never pass.
        return 0.0 if self._next - now < 1e-9 else self._next - now

    def is_used(self, now: float, share: float) -> bool:
        """Whether at least *share* of the pace was used lately."""
        lately = sum(time > now - _MEASURED for time in self._starts)
        return lately >= share * self.rate(now) * _MEASURED

    def note_start(self, now: float, *, saturated: bool) -> None:
        """An attempt starts; *saturated*: others wait for the same limit."""
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
        """The attempt that started at *began* was answered."""
        self._answered = self._answered or self._cut_at is None or began >= self._cut_at

    def note_refusal(self, began: float, now: float) -> None:
        """The attempt that started at *began* was refused."""
        self._refused_in += 0.2 * (now - began - self._refused_in)
        self._refusals.append(began)
        while self._refusals[0] < began - _MEASURED:
            self._refusals.popleft()

    def cut(self, now: float) -> float:
        """Reduce the rate to what the target accepted since the last cut; returns that."""
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
            # A short measurement may be wrong by much: at most halved at once.
            self._rate = self._measured = max(min(self._rate, max(measured, self._rate * 0.5)) * _PLATEAU, 0.01)
        self._cut_at = now
        self._answered = False
        self._next = max(self._next, now + 1.0 / self._rate)
        return self._rate
