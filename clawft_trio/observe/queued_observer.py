"""A bounded queue in front of a slow observer: the program never waits for it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import trio

from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.observe.events import Event
from clawft_trio.observe.observer import Observer

_log = logging.getLogger("clawft_trio.observe")

_BATCH = 256
"""Events per call of a worker thread: enough to outweigh its cost; the queue can be cancelled between calls."""


@attrs.frozen(kw_only=True)
class ObserverQueueStatistics:
    """Counts of the events of one queue."""

    #: events that the observer received
    delivered: int
    #: events that came while the queue was full, or were not delivered before the end
    dropped: int
    #: events on which the observer raised
    failed: int
    #: events in the queue now
    waiting: int
    #: size of the queue
    capacity: int


class QueuedObserver:
    """An observer behind a queue. Created by `open_queue`."""

    def __init__(self, observer: Observer, capacity: int) -> None:
        self._observer = observer
        self._capacity = capacity
        self._events: deque[Event] = deque()
        self._some = trio.Event()
        self._closed = False
        self._delivered = 0
        self._dropped = 0
        self._failed = 0

    def __repr__(self) -> str:
        return f"<QueuedObserver {self._observer!r}: {len(self._events)} waiting, {self._dropped} dropped>"

    def __call__(self, event: Event) -> None:
        """Put *event* into the queue, or drop it when the queue is full. Never blocks."""
        if self._closed or len(self._events) >= self._capacity:
            self._dropped += 1
            return
        self._events.append(event)
        self._some.set()

    def statistics(self) -> ObserverQueueStatistics:
        """Return the current counts."""
        return ObserverQueueStatistics(
            delivered=self._delivered,
            dropped=self._dropped,
            failed=self._failed,
            waiting=len(self._events),
            capacity=self._capacity,
        )

    async def _serve(self, limiter: trio.CapacityLimiter) -> None:
        while self._events or not self._closed:
            if not self._events:
                self._some = trio.Event()
                await self._some.wait()
            # Abandoned after `grace`, because a thread cannot be stopped.
            await trio.to_thread.run_sync(self._deliver, limiter=limiter, abandon_on_cancel=True)

    def _deliver(self) -> None:
        """Pass up to `_BATCH` events to the observer. Runs in a thread, one at a time."""
        for _ in range(_BATCH):
            try:
                event = self._events.popleft()
            except IndexError:
                return
            try:
                self._observer(event)
            except Exception:  # noqa: BLE001  # foreign code; the observed program goes on
                self._failed += 1
                # Only the first failure is logged: a persistent failure such as a full disk would fill the log.
                if self._failed == 1:
                    _log.exception("observer %r failed on %s", self._observer, type(event).__name__)
            else:
                self._delivered += 1

    def _close(self) -> None:
        self._closed = True
        self._some.set()

    def _give_up(self) -> None:
        self._dropped += len(self._events)
        self._events.clear()
        if self._dropped or self._failed:
            _log.warning("observer %r: %d events dropped, %d failed", self._observer, self._dropped, self._failed)


@asynccontextmanager
async def open_queue(
    observer: Observer, *, capacity: int = 10_000, grace: float = 2.0
) -> AsyncGenerator[QueuedObserver, None]:
    """Put a queue in front of *observer* for the duration of the block.

    The observer is called in a worker thread, with one event at a time and in order, so it may block: write files,
    connect to a collector. Events that come while `capacity` events wait are dropped and counted (`statistics()`).

    At the end the waiting events are delivered within *grace* seconds; a thread that takes longer is abandoned. With a
    MockClock that jumps, the seconds pass at once but threads do not run faster: use `grace=math.inf`.

    Cancellation: as at the end of the block.
    """
    queued = QueuedObserver(observer, capacity)
    limiter = trio.CapacityLimiter(1)
    async with open_hidden_nursery() as nursery:
        life = trio.CancelScope(shield=True)

        async def deliver() -> None:
            with life:
                await queued._serve(limiter)
            done.set()

        done = trio.Event()
        nursery.start_soon(deliver)
        try:
            yield queued
        finally:
            queued._close()
            with trio.move_on_after(grace, shield=True):
                await done.wait()
            life.cancel(reason="observer queue closed")
            queued._give_up()
