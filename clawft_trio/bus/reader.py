"""The consumers of a bounded queue: of its messages one after the other, or of sessions side by side."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

from clawft_trio.bus.bounded_queue import BoundedQueue
from clawft_trio.bus.waiting import Consumer
from clawft_trio.errors import BusClosed

T = TypeVar("T")


class Reader(Generic[T]):
    """A consumer of a queue: `async for` ends when the queue is closed and empty. Several may share a queue."""

    def __init__(self, queue: BoundedQueue[T]) -> None:
        self._queue = queue
        self._fast = queue.fast
        self._consumer = Consumer()

    def __aiter__(self) -> Reader[T]:
        self._queue.consumers.note(self._consumer)
        return self

    async def __anext__(self) -> T:
        fast = self._fast
        free = fast.free_gets
        if free and (items := fast.items):
            fast.free_gets = free - 1
            return items.popleft()
        try:
            return await self.receive()
        except BusClosed:
            raise StopAsyncIteration from None

    async def receive(self) -> T:
        """Take the next message, waiting for one.

        Raises:
          BusClosed: there will be none.

        Cancellation: `Cancelled` means that nothing was taken.
        """
        self._queue.consumers.note(self._consumer)
        return await self._queue.get()

    def receive_nowait(self) -> T:
        """Take the next message now.

        Raises:
          trio.WouldBlock: there is none.
          BusClosed: there is none and there will be none.
        """
        self._queue.consumers.note(self._consumer)
        return self._queue.get_nowait()


class SessionReader(Generic[T]):
    """A consumer that serves the sessions of a queue side by side, each one message at a time, in turn.

    The queue is served so from now on, and has at most *session_capacity* messages of one session: with more, the
    publishers of that session wait, and no others.
    """

    def __init__(self, queue: BoundedQueue[T], session_capacity: int) -> None:
        self._queue = queue
        self._order = queue.order
        queue.order.limit_sessions(session_capacity)
        queue.fast.shut()

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[T]:
        """Everything that waits, in no order in particular."""
        return iter(self._order)

    def is_ready(self) -> bool:
        """Whether something can be claimed now."""
        return self._order.ready()

    async def wait_ready(self) -> None:
        """Wait until something can be claimed, and claim nothing.

        Raises:
          BusClosed: the queue was closed, and everything was taken.

        Cancellation: safe.
        """
        while not self._order.ready():
            if self._queue.closed and not len(self._queue):
                raise BusClosed(f"{self._queue.name} is closed and empty")
            await self._queue.wait_for_news()

    def claim_nowait(self) -> T:
        """Take the next message of the session that is next in turn, and hold the session until `release`.

        Raises:
          trio.WouldBlock: there is none.
          BusClosed: there is none and there will be none.
        """
        return self._queue.get_nowait(hold=True)

    def hold(self, session: Hashable) -> None:
        """Serve nothing of *session* until `release`, as often as it was held."""
        self._order.hold(session)

    def release(self, session: Hashable) -> None:
        """Serve *session* again, once it was released as often as it was held."""
        if self._order.release(session):
            self._queue.consumers.wake()

    def take_session(self, session: Hashable) -> tuple[T, ...]:
        """Take out everything that waits in *session*."""
        return self._queue.take_out(session)

    def take_one(self, session: Hashable, wanted: Callable[[T], bool]) -> T | None:
        """Take out the first message of *session* that is *wanted*; None when there is none."""
        return next(iter(self._queue.take_out(session, wanted, at_most=1)), None)

    def take_all(self) -> tuple[T, ...]:
        """Take out everything."""
        return self._queue.clear(None)
