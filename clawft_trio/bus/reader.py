"""The consumers of a bounded queue: of messages in order, or of sessions concurrently."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

from clawft_trio.bus.bounded_queue import BoundedQueue
from clawft_trio.bus.waiting import Consumer
from clawft_trio.errors import BusClosed

T = TypeVar("T")


class Reader(Generic[T]):
    """A consumer of a queue: `async for` ends when the queue is closed and empty. A queue may have several."""

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
        self._queue.consumers.note(self._consumer)
        try:
            return await self._queue.get()
        except BusClosed:
            raise StopAsyncIteration from None

    async def receive(self) -> T:
        """Wait for the next message and take it.

        Raises:
          BusClosed: the queue is closed and empty.

        Cancellation: `Cancelled` means that nothing was taken.
        """
        self._queue.consumers.note(self._consumer)
        return await self._queue.get()

    def receive_nowait(self) -> T:
        """Take the next message without waiting.

        Raises:
          trio.WouldBlock: there is no message.
          BusClosed: the queue is closed and empty.
        """
        self._queue.consumers.note(self._consumer)
        return self._queue.get_nowait()


class SessionReader(Generic[T]):
    """A consumer that serves the sessions of a queue concurrently and round-robin, each one message at a time.

    The queue is sorted by session from now on, and has at most *session_capacity* messages of one session: with more,
    only the publishers of that session wait.
    """

    def __init__(self, queue: BoundedQueue[T], session_capacity: int) -> None:
        self._queue = queue
        self._order = queue.order
        queue.order.limit_sessions(session_capacity)
        queue.fast.shut()

    def __len__(self) -> int:
        return len(self._queue)

    def __iter__(self) -> Iterator[T]:
        """Iterate over the waiting messages, in no particular order."""
        return iter(self._order)

    def is_ready(self) -> bool:
        """Whether a message can be claimed now."""
        return self._order.ready() > 0

    def ready_sessions(self) -> int:
        """Return the number of sessions with a message that can be claimed now."""
        return self._order.ready()

    async def wait_ready(self) -> None:
        """Wait until a message can be claimed, without claiming it.

        Raises:
          BusClosed: the queue is closed and empty.

        Cancellation: safe.
        """
        while not self._order.ready():
            if self._queue.closed and not len(self._queue):
                raise BusClosed(f"{self._queue.name} is closed and empty")
            await self._queue.wait_for_news()

    def claim_nowait(self) -> T:
        """Take the next message of the next session, and hold that session until `release`.

        Raises:
          trio.WouldBlock: there is no message.
          BusClosed: the queue is closed and empty.
        """
        return self._queue.get_nowait(hold=True)

    def hold(self, session: Hashable) -> None:
        """Stop serving *session* until `release` was called for every hold."""
        self._order.hold(session)

    def release(self, session: Hashable) -> None:
        """Release one hold of *session*; after the last one it is served again."""
        if self._order.release(session):
            self._queue.consumers.wake()

    def take_session(self, session: Hashable) -> tuple[T, ...]:
        """Take all waiting messages of *session*."""
        return self._queue.take_out(session)

    def take_one(self, session: Hashable, wanted: Callable[[T], bool]) -> T | None:
        """Take the first *wanted* message of *session*; None when there is none."""
        return next(iter(self._queue.take_out(session, wanted, at_most=1)), None)

    def take_all(self) -> tuple[T, ...]:
        """Take all waiting messages."""
        return self._queue.clear(None)
