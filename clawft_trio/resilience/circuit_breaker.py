"""A circuit breaker: stop requests to a failing target, and probe it from time to time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Literal, TypeVar

import attrs
import trio
from attrs.validators import ge, gt, le

from clawft_trio.chat import Call
from clawft_trio.errors import CircuitOpen
from clawft_trio.observe.events import BreakerChanged
from clawft_trio.resilience.strategy import Attempt, PerKey, Policy, Strategy, named
from clawft_trio.resilience.verdict import blames_target, retry_after

T = TypeVar("T")

BreakerState = Literal["closed", "open", "half_open"]


def _never(_: Any) -> bool:
    return False


@attrs.frozen(kw_only=True)
class CircuitBreaker(Policy):
    """Stop requests to a target when too many attempts fail, and probe it later.

    Closed, it counts the outcomes of the last `window` seconds, and opens when there are at least `minimum_calls` and
    the share of failures reaches `failure_ratio`. Open, it raises `CircuitOpen` without an attempt. After
    `open_for` seconds, or the target's Retry-After if that is longer, it is half-open: it lets one attempt at a time
    through as a probe. A success closes it with an empty window; a failure opens it again, for twice as long as
    before, up to `longest_open`.

    A Retry-After applies to the target, not only to the call that received it: any counted failure with a
    `retry_after` closes the target to all calls for that time, at most `longest_hold`. `CircuitOpen` is then
    `retryable`, because the target itself stated the time of a retry.

    Outcomes of attempts that began before the breaker last opened or closed do not count, and neither do cancellations.

    Shared: the state, between all calls of one decorated function, or of one target under `Resilient`. With `by`, a
    function of the call's arguments, there is one breaker per key (of the `strategy.MAX_KEYS` keys used last):
    `@CircuitBreaker(by=lambda url: urlsplit(url).hostname)`.
    """

    #: share of failures in the window at which the breaker opens
    failure_ratio: float = attrs.field(default=0.5, validator=[gt(0), le(1)])
    #: number of calls in the window below which it never opens
    minimum_calls: int = attrs.field(default=4, validator=ge(1))
    #: length of the window in seconds
    window: float = attrs.field(default=60.0, validator=gt(0))
    #: seconds from opening to the first probe
    open_for: float = attrs.field(default=10.0, validator=gt(0))
    #: longest time to a probe in seconds; `open_for` applies if it is longer
    longest_open: float = attrs.field(default=20.0, validator=gt(0))
    #: limit on a Retry-After in seconds; a longer one is reduced to it
    longest_hold: float = attrs.field(default=3600.0, validator=gt(0))
    #: decides which exceptions count as failures; other exceptions count as nothing, not as a success
    counts: Callable[[Exception], bool] = blames_target
    #: decides which results count as failures
    is_failure: Callable[[Any], bool] = _never
    #: a function of the arguments of the call; each value has a separate breaker
    by: Callable[..., Hashable] | None = attrs.field(
        default=None, repr=False, validator=attrs.validators.optional(attrs.validators.is_callable())
    )
    _own: Strategy = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_own", self.bind(""))

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt*, unless the circuit is open.

        Raises:
          CircuitOpen: the circuit is open; `retry_after` is the time until the next probe.

        Cancellation: a cancellation does not count; after a cancelled probe another attempt may be the probe.
        """
        return await self._own.run(attempt, call)

    def bind(self, target: str) -> BoundBreaker | PerKey[BoundBreaker]:
        """Make a breaker for *target*; with `by`, one for each key."""
        if self.by is None:
            return BoundBreaker(self, target)
        return PerKey(self.by, lambda key: BoundBreaker(self, named(target, key)))


@attrs.frozen(kw_only=True)
class BreakerStatistics:
    """State of a circuit breaker."""

    state: BreakerState
    #: number of outcomes in the window, and of failures among them
    calls: int
    failures: int
    #: number of times that it has opened
    opened: int
    #: seconds until the next probe; None unless open
    retry_after: float | None


class BoundBreaker:
    """The state of a `CircuitBreaker` for one target."""

    def __init__(self, policy: CircuitBreaker, target: str) -> None:
        self._policy = policy
        self._target = target
        self._outcomes: deque[tuple[float, bool]] = deque()
        self._failures = 0
        self._opened = 0
        # Time of the next probe; None: closed.
        self._probe_at: float | None = None
        self._open_for = policy.open_for
        self._probing = False
        # Whether it is open because of the target's Retry-After.
        self._held = False
        # Grows with every opening and closing: outcomes of attempts from an earlier generation do not count.
        self._generation = 0

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self._target or '(unnamed)'} {self.state}>"

    @property
    def state(self) -> BreakerState:
        """The state; `half_open` as soon as a probe may run."""
        if self._probe_at is None:
            return "closed"
        return "half_open" if trio.current_time() >= self._probe_at else "open"

    def of(self, _: Hashable) -> BoundBreaker:
        """Return the breaker for any key: itself. With `by` there is one for each key."""
        return self

    def statistics(self) -> BreakerStatistics:
        """Return the current state."""
        self._forget_old(trio.current_time())
        state = self.state
        return BreakerStatistics(
            state=state,
            calls=len(self._outcomes),
            failures=self._failures,
            opened=self._opened,
            retry_after=self._time_to_probe() if state == "open" else None,
        )

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt*, unless the circuit is open.

        Raises:
          CircuitOpen: as for the policy.

        Cancellation: as for the policy.
        """
        probe = self._probe_at is not None
        if probe:
            self._admit_probe(call)
        generation = self._generation
        try:
            result = await attempt(call)
        except Exception as exc:
            if self._policy.counts(exc):
                self._note_failure(call, retry_after(exc), generation)
            raise
        else:
            if self._policy.is_failure(result):
                self._note_failure(call, None, generation)
            else:
                self._note_success(call, generation)
            return result
        finally:
            if probe:
                self._probing = False

    def _admit_probe(self, call: Call) -> None:
        if self.state == "open" or self._probing:
            raise CircuitOpen(provider=self._target, retry_after=self._time_to_probe(), retryable=self._held)
        self._probing = True
        self._report(call, "half_open")

    def _time_to_probe(self) -> float:
        # While a probe runs, the next one can start when it ends, at an unknown time: a second is a short guess.
        assert self._probe_at is not None
        return max(self._probe_at - trio.current_time(), 1.0 if self._probing else 0.0)

    def _note_success(self, call: Call, generation: int) -> None:
        if generation != self._generation:
            return
        if self._probe_at is None:
            self._add(failed=False)
        else:
            self._close(call)

    def _close(self, call: Call) -> None:
        self._outcomes.clear()
        self._failures = 0
        self._probe_at = None
        self._open_for = self._policy.open_for
        self._generation += 1
        self._report(call, "closed")

    def _note_failure(self, call: Call, asked: float | None, generation: int) -> None:
        if generation != self._generation:
            return
        hold = min(asked or 0.0, self._policy.longest_hold)
        if self._probe_at is None:
            self._add(failed=True)
            tripped = self._is_tripped()
        else:
            tripped = not (self._held and hold)
            if tripped and not self._held:
                # If `open_for` is longer than `longest_open`, it applies: a failure never shortens the time.
                self._open_for = min(self._open_for * 2, max(self._policy.longest_open, self._policy.open_for))
        if tripped:
            self._open(call, max(self._open_for, hold), held=False)
        elif hold:
            self._open(call, hold, held=True)

    def _open(self, call: Call, wait: float, *, held: bool) -> None:
        self._probe_at = trio.current_time() + wait
        self._held = held
        self._generation += 1
        self._opened += 1
        self._report(call, "open", wait)

    def _add(self, *, failed: bool) -> None:
        now = trio.current_time()
        self._outcomes.append((now, failed))
        self._failures += failed
        self._forget_old(now)

    def _forget_old(self, now: float) -> None:
        start = now - self._policy.window
        while self._outcomes and self._outcomes[0][0] <= start:
            self._failures -= self._outcomes.popleft()[1]

    def _is_tripped(self) -> bool:
        calls = len(self._outcomes)
        return calls >= self._policy.minimum_calls and self._failures >= self._policy.failure_ratio * calls

    def _report(self, call: Call, state: BreakerState, retry_after: float | None = None) -> None:
        call.observer(
            BreakerChanged(
                target=self._target, state=state, retry_after=retry_after, call_id=call.id, turn_id=call.turn_id
            )
        )
