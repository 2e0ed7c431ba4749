"""Bound how many attempts run at once, and how many wait for that and for how long."""

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
    """Let at most `max_concurrent` attempts run, at most `queue` wait, and none for longer than `queue_for` seconds.

    First come, first served. An attempt that waits holds nothing.

    Shared: the slots, between all calls of one decorated function, or of one target under `Resilient`. With `by`, a
    function of the call's arguments, there is one bulkhead per key (of the `strategy.MAX_KEYS` keys used last).
    """

    #: calls that run at once
    max_concurrent: int = attrs.field(default=16, validator=ge(1))
    #: calls that wait; more are refused with `BulkheadFull`
    queue: int = attrs.field(default=64, validator=ge(0))
    #: seconds; None waits as long as the caller does
    queue_for: float | None = attrs.field(default=30.0)
    #: a function of the arguments of the call; each value has a bulkhead of its own
    by: Callable[..., Hashable] | None = attrs.field(
        default=None, repr=False, validator=attrs.validators.optional(attrs.validators.is_callable())
    )
    _own: Strategy = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.queue_for is not None and self.queue_for <= 0:
            raise ValueError("queue_for must be positive, or None")
        object.__setattr__(self, "_own", self.bind(""))

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt* when there is room.

        Raises:
          BulkheadFull: the queue is full, or the wait took too long.

        Cancellation: leaves the queue, or cancels the attempt and frees its place.
        """
        return await self._own.run(attempt, call)

    def bind(self, target: str) -> BoundBulkhead | PerKey[BoundBulkhead]:
        """A bulkhead for *target* alone; with `by`, one for each key there."""
        if self.by is None:
            return BoundBulkhead(self, target)
        return PerKey(self.by, lambda key: BoundBulkhead(self, named(target, key)))


@attrs.frozen(kw_only=True)
class BulkheadStatistics:
    """A bulkhead at one moment."""

    running: int
    waiting: int
    refused: int


class BoundBulkhead:
    """The places of a `Bulkhead` for one target."""

    def __init__(self, policy: Bulkhead, target: str) -> None:
        self._policy = policy
        self._target = target
        # A semaphore, not a CapacityLimiter: that one is per task, and an attempt may start another.
        self._places = trio.Semaphore(policy.max_concurrent, max_value=policy.max_concurrent)
        self._refused = 0

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<Bulkhead {self._target or '(unnamed)'} {now.running} running, {now.waiting} waiting>"

    def statistics(self) -> BulkheadStatistics:
        """The bulkhead now."""
        return BulkheadStatistics(
            running=self._policy.max_concurrent - self._places.value,
            waiting=self._places.statistics().tasks_waiting,
            refused=self._refused,
        )

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt* when there is room.

        Raises:
          BulkheadFull: as the policy's.

        Cancellation: as the policy's.
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
