"""What waits for one channel: a bounded queue, and behind it the stored replies, in one order."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterable
from itertools import islice

import attrs
import trio

from clawft_trio.bus.bounded_queue import BoundedQueue, QueueStatistics
from clawft_trio.bus.pieces import PieceRelay
from clawft_trio.bus.undelivered import SharedUndelivered, UndeliveredReplies, is_shared, key_of
from clawft_trio.chat import new_id
from clawft_trio.errors import BusClosed, BusFull
from clawft_trio.messages import OutboundMessage
from clawft_trio.observe import MessageDropped, Observer, Undeliverable

_BATCH = 256
"""Messages that a consumer may take before it yields to the others."""

_LOOK = 1.0
"""Seconds between looks for replies of other processes, where no notification comes."""

_RECENT = 1000
"""Replies of which late pieces are recognized: a piece is at most about a second late."""

_LOAD = 100
"""Stored replies that are loaded at once."""


@attrs.frozen
class Delivery:
    """A message on its way out. `key` is the key under which it is stored, if it is."""

    message: OutboundMessage
    key: str | None = None


class Outbox:
    """The messages for one channel, in order. One consumer reads it at a time.

    A final reply that finds no room within its wait is stored, and so is every later one until the
    consumer has caught up: a stored reply is always younger than what is in the queue.
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
        #: whether the channel shows pieces of answers and can take them back
        self.shows_partials = True
        self._queue = queue
        self._undelivered_store = undelivered
        self._wait = wait
        self._observer = observer
        #: stored replies that the consumer has not been given yet, oldest first
        self._undelivered_keys: deque[str] = deque()
        self._unyielded = 0
        self._shared: SharedUndelivered | None = undelivered if is_shared(undelivered) else None
        #: keys of replies that are stored and not delivered, as far as this process has them
        self._known: set[str] = set()
        #: whether another process may have stored a reply that is not in `_known`
        self._arrived = False
        #: keys of the last replies of other processes: their pieces may come after them
        self._recent: OrderedDict[str, None] = OrderedDict()
        #: replies given back by a consumer, and those just loaded from the store: older than everything else
        self._first: deque[Delivery] = deque()

    def __repr__(self) -> str:
        return f"<Outbox {self.channel}: {self._queue!r}, {len(self._undelivered_keys)} stored>"

    @property
    def undelivered(self) -> int:
        """How many replies were stored or given back, and are not with the consumer."""
        return len(self._undelivered_keys) + len(self._first)

    def note_undelivered(self, keys: Iterable[str]) -> None:
        """Note the replies that an earlier process has stored."""
        self._undelivered_keys.extend(keys)
        self._queue.consumers.wake()

    def arrived(self) -> None:
        """Another process may have stored a reply for this channel."""
        self._arrived = True
        self._queue.consumers.wake()

    def piece_arrived(self, message: OutboundMessage) -> None:
        """Another process shows a piece of an answer. It is dropped when there is no room for it."""
        if not (self.shows_partials and self._serves) or key_of(message) in self._recent:
            return
        if not self._put_unserved(message):
            self._observer(MessageDropped(queue=self._queue.name, policy="failed", message=message))

    @property
    def _relay(self) -> PieceRelay | None:
        return None if self._shared is None else self._shared.relay

    @property
    def _serves(self) -> bool:
        """Whether the consumer of this channel is in this process."""
        return self._shared is None or self._shared.serves(self.channel)

    def statistics(self) -> QueueStatistics:
        """The counters of the queue."""
        return self._queue.statistics()

    # --- in ----------------------------------------------------------------------------------------------

    async def put(self, message: OutboundMessage, *, kept: bool = False) -> bool:
        """Hand *message* over to the channel; see `MessageBus.dispatch_outbound`.

        Cancellation: `Cancelled` means that it was not handed over.
        """
        if message.kind != "final":
            if self.shows_partials and self._serves:
                return await self._queue.put(Delivery(message))
            await trio.lowlevel.checkpoint()
            if self._relay is not None:
                return self._relay.offer(message)
            return self.shows_partials and self._put_unserved(message)
        if self._is_left_in_store(message, kept=kept):
            await trio.lowlevel.checkpoint()
            return True
        delivery = self._noted(Delivery(message, key_of(message) if kept else None))
        if not self._undelivered_keys and self._serves:
            with trio.move_on_after(self._wait) as waited:
                await self._queue.put(delivery)
            if not waited.cancelled_caught:
                return True
        await self.store_undelivered(delivery)
        return True

    async def put_or_store(self, message: OutboundMessage, *, kept: bool = False) -> None:
        """Hand a final reply over without waiting for room: what does not fit is stored at once.

        Raises:
          StoreError: it should have been kept, and could not be.

        Cancellation: `Cancelled` means that it was not handed over.
        """
        if self._is_left_in_store(message, kept=kept):
            return
        delivery = self._noted(Delivery(message, key_of(message) if kept else None))
        try:
            if not self._undelivered_keys and self._serves:
                self._queue.put_nowait(delivery)
                return
        except (trio.WouldBlock, BusClosed):
            pass
        await self.store_undelivered(delivery)

    def _put_unserved(self, message: OutboundMessage) -> bool:
        """Show a piece of an answer to a consumer that may come; without waiting, because it may never come."""
        try:
            return self._queue.put_nowait(Delivery(message))
        except (trio.WouldBlock, BusFull, BusClosed):
            return False

    def _is_left_in_store(self, message: OutboundMessage, *, kept: bool) -> bool:
        """Whether the consumer reads a stored reply from the store, behind replies of other processes."""
        if self._relay is not None:
            self._relay.forget(message)
        if kept and (self._arrived or not self._serves):
            self._arrived = True
            self._queue.consumers.wake()
            return True
        return False

    def _noted(self, delivery: Delivery) -> Delivery:
        if delivery.key is not None:
            self._known.add(delivery.key)
        return delivery

    async def store_undelivered(self, delivery: Delivery, error: BaseException | None = None) -> None:
        """Store *delivery* until the channel comes back, behind everything that is waiting for it.

        Raises:
          StoreError: the store cannot be written.

        Cancellation: `Cancelled` means that it is not kept.
        """
        key = delivery.key or key_of(delivery.message) or new_id()
        # Noted first: from now on every later reply has to stand behind this one.
        self._undelivered_keys.append(key)
        self._known.add(key)
        try:
            if delivery.key is None:
                await self._undelivered_store.keep(key, delivery.message)
            else:
                await trio.lowlevel.checkpoint()
        except BaseException:
            self._undelivered_keys.remove(key)
            self._known.discard(key)
            raise
        self._observer(Undeliverable(message=delivery.message, error=error))
        self._queue.consumers.wake()

    # --- out ---------------------------------------------------------------------------------------------

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
        """Take the next one, waiting for it. It is `settle`d or given back when it was tried.

        Raises:
          BusClosed: the bus was closed, and everything was taken.
          StoreError: the store cannot be read.

        Cancellation: `Cancelled` means that nothing was taken.
        """
        self._unyielded += 1
        if self._unyielded >= _BATCH:
            self._unyielded = 0
            await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:  # noqa: ASYNC913 - a checkpoint per batch, not per message
            if self._shared is not None:
                await self._look(self._shared)
            if self._first:
                return self._first.popleft()
            try:
                return self._queue.get_nowait()
            except trio.WouldBlock:
                await (self._load() if self._undelivered_keys else self._wait_for_news())
            except BusClosed:
                if not self._undelivered_keys:
                    raise
                await self._load()

    async def _wait_for_news(self) -> None:
        """Wait for a message; with other processes on the store, look there now and then."""
        with trio.move_on_after(math.inf if self._shared is None else _LOOK) as waited:
            await self._queue.wait_for_news()
        self._arrived = self._arrived or waited.cancelled_caught

    async def _look(self, undelivered: SharedUndelivered) -> None:
        """Become the process that serves the channel, and learn of the replies that others have stored for it."""
        while not undelivered.serves(self.channel):
            if await undelivered.serve(self.channel):
                self._arrived = True
            elif self._queue.closed:
                raise BusClosed(f"{self.channel} is served by another process")
            else:
                with trio.move_on_after(_LOOK):
                    await self._queue.wait_for_news()
        if self._arrived:
            self._arrived = False
            for key in await undelivered.keys(self.channel, _LOAD + len(self._known)):
                if key not in self._known:
                    self._known.add(key)
                    self._recent[key] = None
                    if len(self._recent) > _RECENT:
                        self._recent.popitem(last=False)
                    self._undelivered_keys.append(key)
            self._arrived = self._arrived or len(self._undelivered_keys) >= _LOAD
        await trio.lowlevel.checkpoint_if_cancelled()

    async def keep(self, delivery: Delivery, error: BaseException) -> None:
        """It could not be delivered because of *error*: store it, and make it the next one.

        Raises:
          StoreError: the store cannot be written.

        Cancellation: it is the next one all the same.
        """
        key = delivery.key or key_of(delivery.message) or new_id()
        self._observer(Undeliverable(message=delivery.message, error=error))
        try:
            if delivery.key is None:
                await self._undelivered_store.keep(key, delivery.message)
            else:
                await trio.lowlevel.checkpoint()
        except BaseException:
            self.give_back(delivery)
            raise
        self.give_back(self._noted(Delivery(delivery.message, key)))

    def drop(self, delivery: Delivery) -> None:
        """A piece of an answer could not be shown: report it as dropped."""
        self._observer(MessageDropped(queue=self._queue.name, policy="failed", message=delivery.message))

    def give_back(self, delivery: Delivery) -> None:
        """It was taken and could not be delivered: it is the next one again."""
        self._first.appendleft(delivery)
        self._queue.consumers.wake()

    async def _load(self) -> None:
        keys = tuple(islice(self._undelivered_keys, _LOAD))
        found = await self._undelivered_store.fetch(keys)
        for _ in keys:
            self._undelivered_keys.popleft()
        self._first.extend(Delivery(kept.message, kept.key) for kept in found)
        # The rest was delivered by another process.
        self._known.difference_update(set(keys) - {kept.key for kept in found})

    async def settle(self, delivery: Delivery) -> None:
        """It is delivered: forget it.

        Raises:
          StoreError: the store cannot be written; after a restart it will be delivered again.

        Cancellation: `Cancelled` means that it is still stored.
        """
        if delivery.key is not None:
            await self._undelivered_store.delivered(delivery.key)
            self._known.discard(delivery.key)

    # --- the end -----------------------------------------------------------------------------------------

    async def store_rest(self) -> None:
        """Store every final reply that was not taken; the other messages are dropped.

        Raises:
          StoreError: the store cannot be written.

        Cancellation: what was not kept yet is lost.
        """
        rest = [*self._first, *self._queue.clear(None)]
        self._first.clear()
        await trio.lowlevel.checkpoint_if_cancelled()
        for delivery in rest:
            if delivery.message.kind == "final":
                await self.store_undelivered(delivery)
            else:
                self.drop(delivery)
