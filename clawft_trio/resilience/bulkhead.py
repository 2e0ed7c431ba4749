"""A bound on how many run at once, and on how many wait and for how long."""

from __future__ import annotations

from typing import TypeVar

import attrs
import trio
from attrs.validators import ge

from clawft_trio.chat import Call
from clawft_trio.errors import BulkheadFull
from clawft_trio.resilience.strategy import Attempt, Policy, Strategy

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Bulkhead(Policy):
    """Let at most `concurrency` attempts run, at most `queue` wait, and none for longer than `queue_for` seconds.

    First come, first served. An attempt that waits holds nothing.
    """

    concurrency: int = attrs.field(default=16, validator=ge(1))
    queue: int = attrs.field(default=64, validator=ge(0))
    #: seconds; None waits as long as the caller does
    queue_for: float | None = attrs.field(default=30.0)
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

    def bind(self, target: str) -> BoundBulkhead:
        """A bulkhead for *target* alone."""
        return BoundBulkhead(self, target)


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
        self._places = trio.Semaphore(policy.concurrency, max_value=policy.concurrency)
        self._refused = 0

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<Bulkhead {self._target or '(unnamed)'} {now.running} running, {now.waiting} waiting>"

    def statistics(self) -> BulkheadStatistics:
        """The bulkhead now."""
        return BulkheadStatistics(
            running=self._policy.concurrency - self._places.value,
            waiting=self._places.statistics().tasks_waiting,
            refused=self._refused,
        )

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt* when there is room.

        Raises:
          BulkheadFull: as the policy's.

        Cancellation: as the policy's.
        """
        await self._enter()
        try:
            return await attempt(call)
        finally:
            self._places.release()

    async def _enter(self) -> None:
        try:
            self._places.acquire_nowait()
        except trio.WouldBlock:
            await self._wait()

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
