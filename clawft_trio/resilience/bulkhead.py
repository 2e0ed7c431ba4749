"""A bulkhead: limit concurrent attempts, the number of waiting calls and the time of the wait."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

import attrs
import trio
from attrs.validators import ge

from clawft_trio.chat import Call
from clawft_trio.errors import BulkheadFull
from clawft_trio.resilience.strategy import Attempt, PerKey, Policy, Strategy, named

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Bulkhead(Policy):
    """Limit concurrent attempts to `max_concurrent`, waiting calls to `queue`, and their wait to `queue_for` seconds.

    First come, first served. A waiting call holds nothing.

    Shared: the slots, between all calls of one decorated function, or of one target under `Resilient`. With `by`, a
    function of the call's arguments, there is one bulkhead per key (of the `strategy.MAX_KEYS` keys used last).
    """

    #: largest number of concurrent calls
    max_concurrent: int = attrs.field(default=16, validator=ge(1))
    #: largest number of waiting calls; more are refused with `BulkheadFull`
    queue: int = attrs.field(default=64, validator=ge(0))
    #: largest wait in seconds; None: no limit
    queue_for: float | None = attrs.field(default=30.0)
    #: a function of the arguments of the call; each value has a separate bulkhead
    by: Callable[..., Hashable] | None = attrs.field(
        default=None, repr=False, validator=attrs.validators.optional(attrs.validators.is_callable())
    )
    _own: Strategy = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.queue_for is not None and self.queue_for <= 0:
            raise ValueError("queue_for must be positive, or None")
        object.__setattr__(self, "_own", self.bind(""))

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt* when a slot is free.

        Raises:
          BulkheadFull: the queue is full, or the wait took too long.

        Cancellation: the call leaves the queue, or its attempt is cancelled and its slot freed.
        """
        return await self._own.run(attempt, call)

    def bind(self, target: str) -> BoundBulkhead | PerKey[BoundBulkhead]:
        """Make a bulkhead for *target*; with `by`, one for each key."""
        if self.by is None:
            return BoundBulkhead(self, target)
        return PerKey(self.by, lambda key: BoundBulkhead(self, named(target, key)))


@attrs.frozen(kw_only=True)
class BulkheadStatistics:
    """State of a bulkhead."""

    running: int
    waiting: int
    refused: int


class BoundBulkhead:
    """The slots of a `Bulkhead` for one target."""

    def __init__(self, policy: Bulkhead, target: str) -> None:
        self._policy = policy
        self._target = target
        # Not a CapacityLimiter, which allows one slot per task, because an attempt may start another in the same task.
        self._places = trio.Semaphore(policy.max_concurrent, max_value=policy.max_concurrent)
        self._refused = 0

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<Bulkhead {self._target or '(unnamed)'} {now.running} running, {now.waiting} waiting>"

    def statistics(self) -> BulkheadStatistics:
        """Return the current state."""
        return BulkheadStatistics(
            running=self._policy.max_concurrent - self._places.value,
            waiting=self._places.statistics().tasks_waiting,
            refused=self._refused,
        )

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt* when a slot is free.

        Raises:
          BulkheadFull: as for the policy.

        Cancellation: as for the policy.
        """
        await self._enter(call)
        try:
            return await attempt(call)
        finally:
            self._places.release()

    async def _enter(self, call: Call) -> None:
        try:
            self._places.acquire_nowait()
        except trio.WouldBlock:
            call.pulse("waiting", 0.0)
            await self._wait()
            call.pulse("admitted", 0.0)

    async def _wait(self) -> None:
        if self._places.statistics().tasks_waiting >= self._policy.queue:
            raise self._refuse(f"{self._policy.queue} calls are waiting already")
        limit = self._policy.queue_for
        if limit is None:
            await self._places.acquire()
            return
        with trio.move_on_after(limit) as scope:
            await self._places.acquire()
            return
        assert scope.cancelled_caught
        raise self._refuse(f"no place became free within {limit:g} s")

    def _refuse(self, why: str) -> BulkheadFull:
        self._refused += 1
        return BulkheadFull(why, provider=self._target)
