"""The outbox of one channel: a bounded queue and, after it, the stored replies, in one order."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from itertools import islice, takewhile

import attrs
import trio

from clawft_trio.bus.bounded_queue import BoundedQueue
from clawft_trio.bus.shared_replies import LOAD, SharedReplies
from clawft_trio.bus.statistics import QueueStatistics
from clawft_trio.bus.undelivered import UndeliveredReplies, key_of
from clawft_trio.chat import new_id
from clawft_trio.errors import BusClosed, BusFull
from clawft_trio.messages import OutboundMessage
from clawft_trio.observe import MessageDropped, Observer, Undeliverable

_BATCH = 256
"""Messages that a consumer may take between two checkpoints."""

_LOOK = 1.0
"""Seconds between checks for replies of other processes, without a notification."""


@attrs.frozen
class Delivery:
    """An outbound message. `key` is its key in the store, if it is stored."""

    message: OutboundMessage
    key: str | None = None


class Outbox:
    """The messages for one channel, in order. One consumer reads it at a time.

    A final reply without room within its wait is stored, and so is every later one until the consumer has caught up: a
    stored reply is always newer than those in the queue.
    """

    def __init__(
        self,
        channel: str,
        queue: BoundedQueue[Delivery],
        undelivered: UndeliveredReplies,
        *,
        wait: float,
        observer: Observer,
    ) -> None:
        self.channel = channel
        #: whether the channel shows pieces of answers and can remove them
        self.shows_partials = True
        self._queue = queue
        self._undelivered_store = undelivered
        self._wait = wait
        self._observer = observer
        #: keys of stored replies that the consumer has not received yet, oldest first
        self._undelivered_keys: deque[str] = deque()
        #: those of them whose replies are being stored, so that the store may not have them yet
        self._unstored: set[str] = set()
        self._unyielded = 0
        self._shared = SharedReplies(channel, undelivered)
        #: replies returned by a consumer, and those just loaded from the store: older than all others
        self._first: deque[Delivery] = deque()
        #: whether another process may have delivered replies that are in memory here; and the keys of those
        self._unchecked = False
        self._delivered: set[str] = set()

    def __repr__(self) -> str:
        return f"<Outbox {self.channel}: {self._queue!r}, {len(self._undelivered_keys)} stored>"

    @property
    def undelivered(self) -> int:
        """Number of replies that are stored or returned, and not with the consumer."""
        return len(self._undelivered_keys) + len(self._first)

    def note_undelivered(self, keys: Iterable[str]) -> None:
        """Add the keys of replies that an earlier process stored."""
        self._undelivered_keys.extend(keys)
        self._queue.consumers.wake()

    def arrived(self) -> None:
        """Record that another process may have stored a reply for this channel."""
        self._shared.arrived = True
        self._queue.consumers.wake()

    def piece_arrived(self, message: OutboundMessage) -> None:
        """Queue a piece of an answer from another process; drop it if there is no room."""
        if not (self.shows_partials and self._shared.served_here) or self._shared.is_late(message):
            return
        if not self._put_unserved(message):
            self._observer(MessageDropped(queue=self._queue.name, policy="failed", message=message))

    def statistics(self) -> QueueStatistics:
        """Return the counters of the queue."""
        return self._queue.statistics()

    async def put(self, message: OutboundMessage, *, kept: bool = False) -> bool:
        """Send *message* to the channel; see `MessageBus.dispatch_outbound`.

        Cancellation: `Cancelled` means that it was not accepted.
        """
        if message.kind != "final":
            return await self._put_piece(message)
        delivery = self._begin(message, kept=kept)
        if delivery is None:
            await trio.lowlevel.checkpoint()
            return True
        if not self._undelivered_keys and self._shared.served_here:
            with trio.move_on_after(self._wait) as waited:
                await self._queue.put(delivery)
            if not waited.cancelled_caught:
                return True
        await self.store_undelivered(delivery)
        return True

    async def put_or_store(self, message: OutboundMessage, *, kept: bool = False) -> None:
        """Send a final reply without waiting for room: if it does not fit, it is stored at once.

        Raises:
          StoreError: the reply had to be stored, and could not be.

        Cancellation: `Cancelled` means that it was not accepted.
        """
        delivery = self._begin(message, kept=kept)
        if delivery is None:
            return
        try:
            if not self._undelivered_keys and self._shared.served_here:
                self._queue.put_nowait(delivery)
                return
        except (trio.WouldBlock, BusClosed):
            pass
        await self.store_undelivered(delivery)

    async def _put_piece(self, message: OutboundMessage) -> bool:
        if self.shows_partials and self._shared.served_here:
            return await self._queue.put(Delivery(message))
        await trio.lowlevel.checkpoint()
        if self._shared.relay is not None:
            return self._shared.relay.offer(message)
        return self.shows_partials and self._put_unserved(message)

    def _put_unserved(self, message: OutboundMessage) -> bool:
        """Queue a piece of an answer for a later consumer; without waiting, because there may never be one."""
        try:
            return self._queue.put_nowait(Delivery(message))
        except (trio.WouldBlock, BusFull, BusClosed):
            return False

    def _begin(self, message: OutboundMessage, *, kept: bool) -> Delivery | None:
        """Make the delivery of a final reply; None when the consumer will read it from the store."""
        if self._shared.leave_in_store(message, kept=kept):
            self._queue.consumers.wake()
            return None
        delivery = Delivery(message, key_of(message) if kept else None)
        self._shared.note(delivery.key)
        return delivery

    async def store_undelivered(self, delivery: Delivery) -> None:
        """Store *delivery* until the channel is available, after all messages that wait for it.

        Raises:
          StoreError: the store cannot be written.

        Cancellation: `Cancelled` means that it is not stored.
        """
        key = _key_for(delivery)
        # Added first, because from now on every later reply has to come after this one.
        self._undelivered_keys.append(key)
        self._unstored.add(key)
        self._shared.note(key)
        try:
            await self._store(delivery, key)
        except BaseException:
            self._undelivered_keys.remove(key)
            self._shared.forget([key])
            raise
        finally:
            self._unstored.discard(key)
            self._queue.consumers.wake()
        self._observer(Undeliverable(message=delivery.message, error=None))

    async def _store(self, delivery: Delivery, key: str) -> None:
        if delivery.key is None:
            await self._undelivered_store.keep(key, delivery.message)
        else:
            await trio.lowlevel.checkpoint()

    def __aiter__(self) -> Outbox:
        return self

    async def __anext__(self) -> OutboundMessage:
        try:
            delivery = await self.take()
        except BusClosed:
            raise StopAsyncIteration from None
        try:
            await self.settle(delivery)
        except BaseException:
            self.give_back(delivery)
            raise
        return delivery.message

    async def take(self) -> Delivery:
        """Wait for the next message and take it. After sending it, call `settle` or `give_back`.

        Raises:
          BusClosed: the bus is closed and the outbox empty.
          StoreError: the store cannot be read.

        Cancellation: `Cancelled` means that nothing was taken.
        """
        self._unyielded += 1
        if self._unyielded >= _BATCH:
            self._unyielded = 0
            await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:  # noqa: ASYNC913 - a checkpoint per batch, not per message
            if self._shared.has_others:
                await self._look()
            try:
                return self._next()
            except trio.WouldBlock:
                await self._load_or_wait()
            except BusClosed:
                if not self._undelivered_keys:
                    raise
                await self._load_or_wait()

    async def _wait_for_news(self) -> None:
        """Wait for a message; if other processes share the store, check it regularly."""
        with trio.move_on_after(_LOOK if self._shared.has_others else math.inf) as waited:
            await self._queue.wait_for_news()
        self._shared.arrived = self._shared.arrived or waited.cancelled_caught

    async def _look(self) -> None:
        """Become the process that serves the channel, and read the keys of replies that others stored for it."""
        shared = self._shared
        while not shared.served_here:
            if await shared.begin_to_serve():
                self._unchecked = True
            elif self._queue.closed:
                raise BusClosed(f"{self.channel} is served by another process")
            else:
                with trio.move_on_after(_LOOK):
                    await self._queue.wait_for_news()
        if self._unchecked:
            await self._find_delivered()
            self._unchecked = False
        if shared.arrived:
            self._undelivered_keys.extend(await shared.new_keys())
        await trio.lowlevel.checkpoint_if_cancelled()

    async def _find_delivered(self) -> None:
        """Find the stored replies in memory that another process, which has served the channel, has delivered."""
        keys = {delivery.key for delivery in (*self._first, *self._queue.order) if delivery.key is not None}
        if keys:
            stored = {kept.key for kept in await self._undelivered_store.fetch(tuple(keys))}
            self._delivered |= keys - stored

    def _next(self) -> Delivery:
        """Take the next message out of memory, and drop those that another process has delivered.

        Raises:
          trio.WouldBlock: there is none.
          BusClosed: the bus is closed, and there is none.
        """
        while True:
            delivery = self._first.popleft() if self._first else self._queue.get_nowait()
            if delivery.key is None or delivery.key not in self._delivered:
                return delivery
            self._delivered.discard(delivery.key)
            self._shared.forget([delivery.key])

    async def keep(self, delivery: Delivery, error: BaseException) -> None:
        """Store *delivery*, which failed with *error*, and make it the next message.

        Raises:
          StoreError: the store cannot be written.

        Cancellation: it is the next message in any case.
        """
        key = _key_for(delivery)
        self._observer(Undeliverable(message=delivery.message, error=error))
        try:
            await self._store(delivery, key)
        except BaseException:
            self.give_back(delivery)
            raise
        self._shared.note(key)
        self.give_back(Delivery(delivery.message, key))

    def drop(self, delivery: Delivery) -> None:
        """Report *delivery*, a piece of an answer that could not be shown, as dropped."""
        self._observer(MessageDropped(queue=self._queue.name, policy="failed", message=delivery.message))

    def give_back(self, delivery: Delivery) -> None:
        """Make *delivery*, which was taken and not delivered, the next message again."""
        self._first.appendleft(delivery)
        self._queue.consumers.wake()

    async def _load_or_wait(self) -> None:
        """Load the oldest stored replies; if there are none yet, wait for a message."""
        stored = takewhile(lambda key: key not in self._unstored, self._undelivered_keys)
        keys = tuple(islice(stored, LOAD))
        if not keys:
            await self._wait_for_news()
            return
        found = await self._undelivered_store.fetch(keys)
        for _ in keys:
            self._undelivered_keys.popleft()
        self._first.extend(Delivery(kept.message, kept.key) for kept in found)
        # Another process delivered the others.
        self._shared.forget(set(keys) - {kept.key for kept in found})

    async def settle(self, delivery: Delivery) -> None:
        """Remove *delivery*, which was delivered, from the store.

        Raises:
          StoreError: the store cannot be written; after a restart it will be delivered again.

        Cancellation: `Cancelled` means that it is still stored.
        """
        if delivery.key is not None:
            await self._undelivered_store.delivered(delivery.key)
            self._shared.forget([delivery.key])

    async def store_rest(self) -> None:
        """Store every final reply that was not taken; drop the other messages.

        Raises:
          StoreError: the store cannot be written.

        Cancellation: replies that are not stored yet are lost.
        """
        rest = [*self._first, *self._queue.clear(None)]
        self._first.clear()
        await trio.lowlevel.checkpoint_if_cancelled()
        for delivery in rest:
            if delivery.message.kind == "final":
                await self.store_undelivered(delivery)
            else:
                self.drop(delivery)


def _key_for(delivery: Delivery) -> str:
    """Return the key under which *delivery* is or will be stored."""
    return delivery.key or key_of(delivery.message) or new_id()
