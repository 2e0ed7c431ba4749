"""A bounded queue in front of an observer that is slow: the program never waits for it."""

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
"""Events for which one trip to a thread is worth it; between trips the queue can be cancelled."""


@attrs.frozen(kw_only=True)
class ObserverQueueStatistics:
    """What became of the events so far."""

    #: the observer got them
    delivered: int
    #: came while the queue was full, or could not be delivered before the end
    dropped: int
    #: the observer raised
    failed: int
    #: in the queue now
    waiting: int
    #: of the queue
    capacity: int


class QueuedObserver:
    """An observer with a queue before it. Made by `open_queue`."""

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
        """Put *event* in the queue, or drop it when that is full. Never blocks."""
        if self._closed or len(self._events) >= self._capacity:
            self._dropped += 1
            return
        self._events.append(event)
        self._some.set()

    def statistics(self) -> ObserverQueueStatistics:
        """What is waiting and what became of the rest."""
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
            # Abandoned after `grace`: a thread cannot be stopped.
            await trio.to_thread.run_sync(self._deliver, limiter=limiter, abandon_on_cancel=True)

    def _deliver(self) -> None:
        """Pass some events to the observer. In a thread, one at a time."""
        for _ in range(_BATCH):
            try:
                event = self._events.popleft()
            except IndexError:
                return
            try:
                self._observer(event)
            except Exception:  # noqa: BLE001  # foreign code; the observed program goes on
                self._failed += 1
                # The first speaks for all: a full disk would fill the log, too.
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
    """Put a queue before *observer* for the length of the block.

    The observer is called in a worker thread, for one event at a time and in order, so it may block: write files,
    talk to a collector. What comes while `capacity` events wait is dropped and counted (`statistics()`).

    At the end what waits is delivered within *grace* seconds; a thread that takes longer is left behind. Under a
    MockClock that jumps, seconds pass at once and threads do not: give it `grace=math.inf`.

    Cancellation: as the end of the block.
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
