"""The message bus: inbound and outbound messages in bounded queues."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from operator import attrgetter
from typing import Protocol

import trio

from clawft_trio.bus.bounded_queue import BoundedQueue
from clawft_trio.bus.config import BusConfig
from clawft_trio.bus.outbox import Delivery, Outbox
from clawft_trio.bus.reader import Reader, SessionReader
from clawft_trio.bus.statistics import BusStatistics
from clawft_trio.bus.undelivered import MemoryUndelivered, UndeliveredReplies, channel_key, is_shared
from clawft_trio.chat import unobserved
from clawft_trio.codec import encode_json
from clawft_trio.errors import BusClosed
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.observe import Event, MessageDropped, Observer, fan_out

_WITHDRAWING = 5.0
"""Seconds in which a message that did not enter the queue must be removed from the journal."""


class InboundJournal(Protocol):
    """Stores inbound messages before `publish_inbound` returns."""

    async def received(self, message: InboundMessage) -> bool:
        """Store *message*; return False for a duplicate, which is not published again.

        Cancellation: `Cancelled` means that it was not stored.
        """
        ...

    async def withdrawn(self, message: InboundMessage) -> None:
        """Remove *message*, which did not enter the queue or was dropped. Awaited shielded; does not raise.

        Cancellation: the caller shields it.
        """
        ...


class MessageBus:
    """Carries messages between channel adapters and the agent loop.

    It runs no tasks: it is a set of queues. It needs no closing, but consumers wait for `close()`; `open_bus` calls it,
    and stores undelivered replies.

    Args:
      config: sizes and policies.
      undelivered: the store of final replies whose channel is unavailable.
      observer: receives `BusPressure`, `MessageDropped` and `Undeliverable`; its exceptions are only logged.
    """

    def __init__(
        self,
        config: BusConfig | None = None,
        *,
        undelivered: UndeliveredReplies | None = None,
        observer: Observer = unobserved,
    ) -> None:
        self.config: BusConfig = config or BusConfig()
        self._undelivered_store = undelivered or MemoryUndelivered()
        self._observer = fan_out([observer])
        self._inbound: BoundedQueue[InboundMessage] = BoundedQueue(
            "inbound",
            capacity=self.config.inbound_buffer_size,
            overflow=self.config.inbound_overflow_policy or self.config.overflow_policy,
            max_bytes=self.config.inbound_max_bytes,
            weigh=size_of,
            session_of=attrgetter("session_key"),
            warn_at=self.config.warn_at,
            observer=self._note_inbound,
        )
        self._fast = self._inbound.fast
        self._receipts: InboundJournal | None = None
        #: stored messages that were dropped to make room; the next publisher removes them from the journal
        self._evicted: list[InboundMessage] = []
        self._outboxes: dict[str, Outbox] = {}
        self._outbound_queues: dict[str, BoundedQueue[Delivery]] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"<MessageBus {self._inbound!r}, {list(self._outboxes.values())!r}>"

    async def publish_inbound(self, message: InboundMessage) -> bool:
        """Publish *message* to the consumers, waiting for room if the policy is `block`.

        Yields to other tasks at least once per 512 messages.

        Returns:
          Whether *message* was accepted; False means that the policy dropped it, with a `MessageDropped` event.

        Raises:
          BusFull: by policy `reject`, or because *message* is larger than the whole queue.
          BusClosed: the bus is closed, or was closed during the wait.
          SelfDeadlock: the queue is full and all of its consumers wait here.
          StoreError: with a journal, *message* could not be stored; it was not published.
          InvalidData: with a journal, its metadata are nested too deeply or too large; it was not published.

        Cancellation: `Cancelled` means that it was not published.
        """
        # Before `put`, because one more coroutine per message would cost a fifth of the speed.
        if self._fast.put(message):
            return True
        if self._receipts is not None:
            return await self._publish_with_receipt(self._receipts, message)
        return await self._inbound.put(message)

    async def _publish_with_receipt(self, receipts: InboundJournal, message: InboundMessage) -> bool:
        if not await receipts.received(message):
            return True
        taken = False
        try:
            taken = await self._inbound.put(message)
        finally:
            withdrawn, self._evicted = [*self._evicted, *([] if taken else [message])], []
            with trio.move_on_after(_WITHDRAWING, shield=True):  # noqa: ASYNC912 - mostly there is nothing to do
                for other in withdrawn:
                    await receipts.withdrawn(other)
        return taken

    def set_inbound_journal(self, receipts: InboundJournal) -> None:
        """Store every message in *receipts* before `publish_inbound` accepts it.

        For a bus with a `SessionReader`: only then does every message pass through the journal.
        """
        self._receipts = receipts

    def _note_inbound(self, event: Event) -> None:
        if self._receipts is not None and isinstance(event, MessageDropped) and event.policy == "drop_oldest":
            assert isinstance(event.message, InboundMessage)
            self._evicted.append(event.message)
        self._observer(event)

    def publish_inbound_nowait(self, message: InboundMessage) -> bool:
        """Publish *message* without waiting. With a journal, it is stored only when its turn begins.

        Raises:
          trio.WouldBlock: by policy `block`, the call would have to wait.
          BusFull, BusClosed: as for `publish_inbound`.
        """
        return self._inbound.put_nowait(message)

    @property
    def inbound(self) -> Reader[InboundMessage]:
        """A new consumer of inbound messages: `async for message in bus.inbound`.

        Each message goes to one consumer. The iteration ends when the bus is closed and empty.
        """
        return Reader(self._inbound)

    def sessions(self, session_capacity: int) -> SessionReader[InboundMessage]:
        """Make a consumer that serves sessions concurrently and round-robin, each one message at a time.

        Args:
          session_capacity: largest number of waiting messages of one session; with more, only its publishers wait.
        """
        return SessionReader(self._inbound, session_capacity)

    def clone(self) -> Publisher:
        """Make a separate `Publisher`; closing it closes nothing else."""
        return Publisher(self)

    async def dispatch_outbound(self, message: OutboundMessage, *, kept: bool = False) -> bool:
        """Send *message* to its channel.

        A final reply is never lost by policy: if there is no room within `delivery_wait`, it is stored until the
        channel's consumer has caught up, and an `Undeliverable` event is sent.

        Args:
          kept: the reply was already stored, in the transaction that ended its turn.

        Returns:
          Whether the message was accepted; False means that it is a piece of an answer, and that the policy dropped it
          or its channel does not show pieces.

        Raises:
          BusFull, BusClosed, SelfDeadlock: as for `publish_inbound`.
          StoreError: the reply had to be stored, and could not be.

        Cancellation: `Cancelled` means that it was not accepted.
        """
        return await self.outbound(message.channel).put(message, kept=kept)

    def outbound(self, channel: str) -> Outbox:
        """Return the outbox of *channel*: `async for message in bus.outbound("telegram")`."""
        outbox = self._outboxes.get(channel)
        if outbox is None:
            outbox = self._outboxes[channel] = self._new_outbox(channel)
        return outbox

    def _new_outbox(self, channel: str) -> Outbox:
        queue: BoundedQueue[Delivery] = BoundedQueue(
            f"outbound.{channel}",
            capacity=self.config.outbound_buffer_size,
            overflow=self.config.outbound_overflow_policy or self.config.overflow_policy,
            max_bytes=self.config.outbound_max_bytes,
            weigh=_size_of_delivery,
            # If a reset were dropped, text would stay on the screen that is not part of the answer.
            precious=lambda delivery: delivery.message.kind != "partial",
            warn_at=self.config.warn_at,
            observer=self._observer,
        )
        if self._closed:
            queue.close()
        self._outbound_queues[channel] = queue
        return Outbox(channel, queue, self._undelivered_store, wait=self.config.delivery_wait, observer=self._observer)

    def close_inbound(self) -> None:
        """Accept no more inbound messages; queued ones can be consumed and answered."""
        self._inbound.close()

    def close(self) -> None:
        """Accept no more messages in either direction. Consumers get the queued messages, and then end."""
        self._closed = True
        self._inbound.close()
        for queue in self._outbound_queues.values():
            queue.close()

    async def drain(self) -> None:
        """Accept no more messages, and wait until consumers have taken all messages and then all replies.

        The caller sets the limit: `trio.move_on_after`. A reply that is not ready when the last message was taken comes
        too late; the agent loop has its own graceful shutdown.

        Cancellation: closed queues stay closed; remaining messages stay in them.
        """
        self.close_inbound()
        await self._inbound.wait_drained()
        self.close()
        for queue in tuple(self._outbound_queues.values()):
            await queue.wait_drained()

    async def load_undelivered(self) -> None:
        """Load the keys of replies stored by earlier processes; these are delivered before new messages.

        Raises:
          StoreError: the stored replies cannot be read.

        Cancellation: safe; nothing is loaded.
        """
        for channel, keys in (await self._undelivered_store.waiting()).items():
            self.outbound(channel).note_undelivered(keys)

    @contextmanager
    def listening_to_undelivered(self) -> Iterator[None]:
        """Receive notifications of replies that other processes store, during the block."""
        if not is_shared(self._undelivered_store):
            yield
            return

        def arrived(key: str) -> None:
            for channel, outbox in self._outboxes.items():
                if key in {"", channel_key(channel)}:
                    outbox.arrived()

        def shown(message: OutboundMessage) -> None:
            outbox = self._outboxes.get(message.channel)
            if outbox is not None:
                outbox.piece_arrived(message)

        with self._undelivered_store.listening(arrived, shown):
            yield

    async def relay_pieces(self) -> None:
        """Send pieces of answers to the processes that serve their channels, until cancelled.

        Returns at once if the store cannot reach other processes.

        Cancellation: unsent pieces are dropped.
        """
        relay = self._undelivered_store.relay if is_shared(self._undelivered_store) else None
        if relay is None:
            await trio.lowlevel.checkpoint()
        else:
            await relay.serve()

    async def store_rest(self) -> None:
        """After `close`: store the final replies that were not taken, and report the other messages as dropped.

        Raises:
          StoreError: a reply cannot be stored.

        Cancellation: replies that are not stored yet are lost.
        """
        self._inbound.clear("closed")
        for outbox in self._outboxes.values():
            await outbox.store_rest()
        await trio.lowlevel.checkpoint_if_cancelled()

    def statistics(self) -> BusStatistics:
        """Return the exact current counters."""
        return BusStatistics(
            inbound=self._inbound.statistics(),
            outbound={channel: outbox.statistics() for channel, outbox in self._outboxes.items()},
            undelivered={
                channel: outbox.undelivered for channel, outbox in self._outboxes.items() if outbox.undelivered
            },
        )


@asynccontextmanager
async def open_bus(
    config: BusConfig | None = None,
    *,
    undelivered: UndeliveredReplies | None = None,
    observer: Observer = unobserved,
    grace: float = 5.0,
) -> AsyncGenerator[MessageBus, None]:
    """Open a bus for the duration of the block; at its end it is closed, and undelivered final replies are stored.

    Args:
      config: sizes and policies.
      undelivered: the store of undelivered replies; those of earlier processes are delivered first.
      observer: receives the events.
      grace: seconds that storing the remaining replies may take.

    Raises:
      StoreError: the stored replies cannot be read.

    Cancellation: the remaining replies are stored, within *grace*.
    """
    bus = MessageBus(config, undelivered=undelivered, observer=observer)
    await bus.load_undelivered()
    try:
        with bus.listening_to_undelivered():
            yield bus
    finally:
        bus.close()
        with trio.move_on_after(grace, shield=True):
            await bus.store_rest()


class Publisher:
    """A producer of inbound messages."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self._closed = False
        #: number of messages that it has published
        self.published: int = 0

    async def publish(self, message: InboundMessage) -> bool:
        """Publish *message*; see `MessageBus.publish_inbound`.

        Raises:
          BusClosed: this publisher or the bus was closed.
          BusFull, SelfDeadlock: as for `MessageBus.publish_inbound`.

        Cancellation: `Cancelled` means that it was not published.
        """
        self._check()
        taken = await self._bus.publish_inbound(message)
        self.published += 1
        return taken

    def publish_nowait(self, message: InboundMessage) -> bool:
        """Publish *message* without waiting; see `MessageBus.publish_inbound_nowait`.

        Raises:
          trio.WouldBlock: the call would have to wait.
          BusFull, BusClosed: as for `MessageBus.publish_inbound`.
        """
        self._check()
        taken = self._bus.publish_inbound_nowait(message)
        self.published += 1
        return taken

    def _check(self) -> None:
        if self._closed:
            raise BusClosed("this publisher is closed")

    def clone(self) -> Publisher:
        """Make another publisher, independent of this one."""
        return Publisher(self._bus)

    def close(self) -> None:
        """Refuse further messages through this publisher."""
        self._closed = True


def size_of(message: InboundMessage | OutboundMessage) -> int:
    """Return the size of a message: its text, addresses and metadata in bytes of UTF-8."""
    notes = len(encode_json(message.metadata)) if message.metadata else 0
    return (
        len(message.content.encode(errors="surrogatepass"))
        + sum(len(one.encode(errors="surrogatepass")) for one in message.media)
        + notes
    )


def _size_of_delivery(delivery: Delivery) -> int:
    return size_of(delivery.message)
