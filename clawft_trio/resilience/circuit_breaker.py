"""Leave a failing target alone, and look now and then whether it is back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import attrs
import trio
from attrs.validators import ge, gt, le

from clawft_trio.chat import Call
from clawft_trio.errors import CircuitOpen, ClawftError
from clawft_trio.nursery import leaves
from clawft_trio.observe.events import BreakerChanged
from clawft_trio.resilience.strategy import Attempt, Policy, Strategy

T = TypeVar("T")

BreakerState = Literal["closed", "open", "half_open"]


def blames_target(exc: Exception) -> bool:
    """Whether *exc* speaks against its target's health. What is no error of ours counts, being all that is known."""
    return any(getattr(leaf, "blames_target", True) for leaf in leaves(exc))


def _never(_: Any) -> bool:
    return False


@attrs.frozen(kw_only=True)
class CircuitBreaker(Policy):
    """Stop asking a target of which too many attempts fail, and probe it after a while.

    Closed, it counts the outcomes of the last `window` seconds, and opens when at least `minimum_calls` are among
    them and the share of failures reaches `failure_ratio`. Open, it raises `CircuitOpen` without trying. After
    `open_for` seconds, or what the target's Retry-After said if that is longer, it is half-open: one attempt at a
    time goes through as a probe. A success closes it with a clean window; a failure opens it again, for twice as
    long as before, up to `longest_open`.

    A failure whose `retry_after` is beyond `patience` opens it at once, until then: nobody would wait that long,
    and asking sooner is asking in vain. Cancellation is nobody's failure and counts for nothing.
    """

    failure_ratio: float = attrs.field(default=0.5, validator=[gt(0), le(1)])
    minimum_calls: int = attrs.field(default=4, validator=ge(1))
    #: seconds
    window: float = attrs.field(default=60.0, validator=gt(0))
    #: seconds
    open_for: float = attrs.field(default=10.0, validator=gt(0))
    #: seconds; never less than `open_for`
    longest_open: float = attrs.field(default=20.0, validator=gt(0))
    #: seconds
    patience: float = attrs.field(default=60.0, validator=ge(0))
    #: which exceptions count as failures; what does not count as one does not count as a success either
    counts: Callable[[Exception], bool] = blames_target
    #: which results count as failures
    is_failure: Callable[[Any], bool] = _never
    _own: Strategy = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_own", self.bind(""))

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt*, unless the circuit is open.

        Raises:
          CircuitOpen: it is; `retry_after` is the time until the next probe.

        Cancellation: counts for nothing; a cancelled probe leaves its place to the next.
        """
        return await self._own.run(attempt, call)

    def bind(self, target: str) -> BoundBreaker:
        """A breaker for *target* alone."""
        return BoundBreaker(self, target)


@attrs.frozen(kw_only=True)
class BreakerStatistics:
    """A breaker at one moment."""

    state: BreakerState
    #: outcomes in the window, and failures among them
    calls: int
    failures: int
    #: how often it has opened
    opened: int
    #: seconds until the next probe; None unless open
    retry_after: float | None


class BoundBreaker:
    """The memory of a `CircuitBreaker` for one target."""

    def __init__(self, policy: CircuitBreaker, target: str) -> None:
        self._policy = policy
        self._target = target
        self._outcomes: deque[tuple[float, bool]] = deque()
        self._failures = 0
        self._opened = 0
        # Times are trio's. None: closed.
        self._probe_at: float | None = None
        self._open_for = policy.open_for
        self._probing = False

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self._target or '(unnamed)'} {self.state}>"

    @property
    def state(self) -> BreakerState:
        """`half_open` from the moment at which a probe may go through."""
        if self._probe_at is None:
            return "closed"
        return "half_open" if trio.current_time() >= self._probe_at else "open"

    def statistics(self) -> BreakerStatistics:
        """The breaker now."""
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
          CircuitOpen: as the policy's.

        Cancellation: as the policy's.
        """
        probe = self._probe_at is not None
        if probe:
            self._admit_probe(call)
        try:
            result = await attempt(call)
        except Exception as exc:
            if self._policy.counts(exc):
                self._note_failure(call, _retry_after(exc), probe=probe)
            raise
        else:
            if self._policy.is_failure(result):
                self._note_failure(call, None, probe=probe)
            else:
                self._note_success(call, probe=probe)
            return result
        finally:
            if probe:
                self._probing = False

    def _admit_probe(self, call: Call) -> None:
        if self.state == "open" or self._probing:
            raise CircuitOpen("circuit is open", provider=self._target, retry_after=self._time_to_probe())
        self._probing = True
        self._tell(call, "half_open")

    def _time_to_probe(self) -> float:
        # While a probe is under way its end is the next chance, and nobody knows when that is: look again soon.
        assert self._probe_at is not None
        return max(self._probe_at - trio.current_time(), 1.0 if self._probing else 0.0)

    def _note_success(self, call: Call, *, probe: bool) -> None:
        if probe:
            self._close(call)
        else:
            self._add(failed=False)

    def _close(self, call: Call) -> None:
        self._outcomes.clear()
        self._failures = 0
        self._probe_at = None
        self._open_for = self._policy.open_for
        self._tell(call, "closed")

    def _note_failure(self, call: Call, retry_after: float | None, *, probe: bool) -> None:
        if probe:
            # A policy whose first time is longer than `longest_open` keeps to it: failing again never shortens it.
            self._open_for = min(self._open_for * 2, max(self._policy.longest_open, self._policy.open_for))
            self._open(call, retry_after)
            return
        self._add(failed=True)
        if self._probe_at is None and (self._is_tripped() or (retry_after or 0.0) > self._policy.patience):
            self._open(call, retry_after)

    def _open(self, call: Call, retry_after: float | None) -> None:
        wait = max(self._open_for, retry_after or 0.0)
        self._probe_at = trio.current_time() + wait
        self._opened += 1
        self._tell(call, "open", wait)

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

    def _tell(self, call: Call, state: BreakerState, retry_after: float | None = None) -> None:
        call.observer(
            BreakerChanged(
                target=self._target, state=state, retry_after=retry_after, call_id=call.id, turn_id=call.turn_id
            )
        )


def _retry_after(exc: Exception) -> float | None:
    asked = [leaf.retry_after for leaf in leaves(exc) if isinstance(leaf, ClawftError)]
    return max((seconds for seconds in asked if seconds is not None), default=None)
