"""Messages in and messages out, through bounded queues: a publisher that is too fast waits, and memory is bounded."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from operator import attrgetter
from typing import Protocol

import attrs
import trio

from clawft_trio.bus.bounded_queue import OVERFLOWS, BoundedQueue, Overflow, QueueStatistics
from clawft_trio.bus.outbox import Delivery, Outbox
from clawft_trio.bus.reader import Reader, SessionReader
from clawft_trio.bus.undelivered import MemoryUndelivered, UndeliveredReplies, is_shared
from clawft_trio.chat import unobserved
from clawft_trio.checks import one_of
from clawft_trio.codec import encode_json
from clawft_trio.errors import BusClosed
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.observe import Event, MessageDropped, Observer, fan_out

_WITHDRAWING = 5.0
"""Seconds that crossing out a message that did not get in may take."""

_positive = attrs.validators.ge(1)


@attrs.frozen(kw_only=True)
class BusConfig:
    """How much the bus holds, and what happens to what does not fit."""

    #: messages
    inbound_buffer_size: int = attrs.field(default=1024, validator=_positive)
    #: messages, for each channel
    outbound_buffer_size: int = attrs.field(default=1024, validator=_positive)
    #: for both directions
    overflow_policy: Overflow = attrs.field(default="block", validator=one_of(*OVERFLOWS))
    #: for inbound messages only; None is `overflow_policy`
    inbound_overflow_policy: Overflow | None = attrs.field(
        default=None, validator=attrs.validators.optional(one_of(*OVERFLOWS))
    )
    #: for outbound messages only; None is `overflow_policy`
    outbound_overflow_policy: Overflow | None = attrs.field(
        default=None, validator=attrs.validators.optional(one_of(*OVERFLOWS))
    )
    #: limit in bytes beside the one in messages; None is none
    inbound_max_bytes: int | None = attrs.field(default=None, validator=attrs.validators.optional(_positive))
    #: limit in bytes for each channel; None is none
    outbound_max_bytes: int | None = attrs.field(default=None, validator=attrs.validators.optional(_positive))
    #: seconds that a final reply waits for room in its channel's queue before it is stored
    delivery_wait: float = attrs.field(default=30.0, validator=attrs.validators.ge(0.0))
    #: share of a queue's size from which on it warns
    warn_at: float = attrs.field(default=0.8, validator=[attrs.validators.gt(0.0), attrs.validators.le(1.0)])


@attrs.frozen(kw_only=True)
class BusStatistics:
    """The counters of every queue."""

    inbound: QueueStatistics
    #: by channel
    outbound: Mapping[str, QueueStatistics]
    #: stored final replies that wait for delivery, by channel
    undelivered: Mapping[str, int]


class InboundJournal(Protocol):
    """Writes inbound messages down before `publish_inbound` returns to their publishers."""

    async def received(self, message: InboundMessage) -> bool:
        """Write *message* down; False when it came before and is not to be taken in again.

        Cancellation: `Cancelled` means that it was not written.
        """
        ...

    async def withdrawn(self, message: InboundMessage) -> None:
        """It did not get in, or was dropped. Awaited shielded from cancellation; does not raise.

        Cancellation: it comes shielded.
        """
        ...


class MessageBus:
    """Carries messages between channel adapters and the agent loop.

    Nothing runs in it: it is a set of queues. It needs no closing, but consumers wait for `close()`; `open_bus`
    calls it, and keeps what was not delivered.

    Args:
      config: sizes and policies.
      undelivered: where final replies wait for their channel to come back.
      observer: gets `BusPressure`, `MessageDropped` and `Undeliverable`; what it raises is logged and goes no further.
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
        #: written down, and then dropped to make room: to be withdrawn by the next publisher
        self._evicted: list[InboundMessage] = []
        self._outboxes: dict[str, Outbox] = {}
        self._outbound_queues: dict[str, BoundedQueue[Delivery]] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"<MessageBus {self._inbound!r}, {list(self._outboxes.values())!r}>"

    # --- in ----------------------------------------------------------------------------------------------

    async def publish_inbound(self, message: InboundMessage) -> bool:
        """Hand *message* over to the consumers, waiting for room if the policy is to block.

        Yields to other tasks at least once per 512 messages.

        Returns:
          Whether it was taken in; False means that the policy dropped it, and a `MessageDropped` event has it.

        Raises:
          BusFull: by policy `reject`, or because it is larger than the whole queue.
          BusClosed: nothing more goes in, also when that happened while this waited.
          SelfDeadlock: the queue is full and every consumer of it is waiting here.
          StoreError: with a journal, it could not be written down; it was not published.

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
        """Have every message that `publish_inbound` takes in written down first.

        For a bus whose `sessions` are served: only then does every message come by here.
        """
        self._receipts = receipts

    def _note_inbound(self, event: Event) -> None:
        if self._receipts is not None and isinstance(event, MessageDropped) and event.policy == "drop_oldest":
            assert isinstance(event.message, InboundMessage)
            self._evicted.append(event.message)
        self._observer(event)

    def publish_inbound_nowait(self, message: InboundMessage) -> bool:
        """Hand *message* over now. With a journal, it is written down only when its turn begins.

        Raises:
          trio.WouldBlock: by policy `block`, it would have to wait.
          BusFull, BusClosed: as for `publish_inbound`.
        """
        return self._inbound.put_nowait(message)

    @property
    def inbound(self) -> Reader[InboundMessage]:
        """A new consumer of the inbound messages: `async for message in bus.inbound`.

        Several share the messages among them. The loop ends when the bus is closed and everything was taken.
        """
        return Reader(self._inbound)

    def sessions(self, session_capacity: int) -> SessionReader[InboundMessage]:
        """A new consumer that answers sessions side by side, each one message at a time and in turn.

        Args:
          session_capacity: messages that wait in one session; with more, its publishers wait, and no others.
        """
        return SessionReader(self._inbound, session_capacity)

    def clone(self) -> Publisher:
        """A way in of its own for one more producer; closing it closes nothing else."""
        return Publisher(self)

    # --- out ---------------------------------------------------------------------------------------------

    async def dispatch_outbound(self, message: OutboundMessage, *, kept: bool = False) -> bool:
        """Hand *message* over to its channel.

        A final reply is never lost by policy: when there is no room within `delivery_wait`, it is stored
        until the channel's consumer has caught up, and an `Undeliverable` event is sent.

        Args:
          kept: the reply is stored already, in the transaction that ended its turn.

        Returns:
          Whether it is on its way; False means that it is no final reply and that the policy dropped it, or that its
          channel does not show pieces.

        Raises:
          BusFull, BusClosed, SelfDeadlock: as for `publish_inbound`.
          StoreError: it should have been kept, and could not be.

        Cancellation: `Cancelled` means that it was not handed over.
        """
        return await self.outbound(message.channel).put(message, kept=kept)

    def outbound(self, channel: str) -> Outbox:
        """What waits for *channel*: `async for message in bus.outbound("telegram")`."""
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
            # A lost retraction would leave text on the screen that is not part of the answer.
            precious=lambda delivery: delivery.message.kind != "partial",
            warn_at=self.config.warn_at,
            observer=self._observer,
        )
        if self._closed:
            queue.close()
        self._outbound_queues[channel] = queue
        return Outbox(channel, queue, self._undelivered_store, wait=self.config.delivery_wait, observer=self._observer)

    # --- the end -----------------------------------------------------------------------------------------

    def close_inbound(self) -> None:
        """Take no more messages in; those that are in can be consumed, and answered."""
        self._inbound.close()

    def close(self) -> None:
        """Take nothing more in, in neither direction. Consumers get what there is, and then end."""
        self._closed = True
        self._inbound.close()
        for queue in self._outbound_queues.values():
            queue.close()

    async def drain(self) -> None:
        """Take nothing more in, wait until consumers have taken every message, then every reply, and be closed.

        The caller sets the bound: `trio.move_on_after`. An answer that is still being made when the last message was
        taken comes too late; the agent loop has a graceful end of its own.

        Cancellation: what was closed stays closed; what is left stays in it.
        """
        self.close_inbound()
        await self._inbound.wait_drained()
        self.close()
        for queue in tuple(self._outbound_queues.values()):
            await queue.wait_drained()

    async def load_undelivered(self) -> None:
        """Load the keys of the replies that earlier processes have stored; they are delivered before anything new.

        Raises:
          StoreError: the stored replies cannot be read.

        Cancellation: safe; nothing is recalled.
        """
        for channel, keys in (await self._undelivered_store.waiting()).items():
            self.outbound(channel).note_undelivered(keys)

    @contextmanager
    def listening_to_undelivered(self) -> Iterator[None]:
        """Learn of replies that other processes store, while the block runs."""
        if not is_shared(self._undelivered_store):
            yield
            return

        def arrived(channel: str) -> None:
            for name, outbox in self._outboxes.items():
                if channel in {"", name}:
                    outbox.arrived()

        def shown(message: OutboundMessage) -> None:
            outbox = self._outboxes.get(message.channel)
            if outbox is not None:
                outbox.piece_arrived(message)

        with self._undelivered_store.listening(arrived, shown):
            yield

    async def relay_pieces(self) -> None:
        """Send pieces of answers to the processes that serve their channels, until cancelled.

        Returns at once where no other process can be reached so.

        Cancellation: what was not sent is dropped.
        """
        relay = self._undelivered_store.relay if is_shared(self._undelivered_store) else None
        if relay is None:
            await trio.lowlevel.checkpoint()
        else:
            await relay.serve()

    async def store_rest(self) -> None:
        """After `close`: store the final replies that were not taken, and report the other messages as dropped.

        Raises:
          StoreError: the reply cannot be stored.

        Cancellation: what was not kept yet is lost.
        """
        self._inbound.clear("closed")
        for outbox in self._outboxes.values():
            await outbox.store_rest()
        await trio.lowlevel.checkpoint_if_cancelled()

    def statistics(self) -> BusStatistics:
        """The counters, exactly as they are now."""
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
    """Open a bus for the length of the block; at its end it is closed, and undelivered final replies are kept.

    Args:
      config: sizes and policies.
      undelivered: where final replies wait; what earlier processes left there is delivered first.
      observer: gets the events.
      grace: seconds that keeping the rest may take.

    Raises:
      StoreError: the stored replies cannot be read.

    Cancellation: the rest is kept all the same, within *grace*.
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
    """One producer's way into the bus."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self._closed = False
        #: messages that it has handed over
        self.published: int = 0

    async def publish(self, message: InboundMessage) -> bool:
        """Hand *message* over; see `MessageBus.publish_inbound`.

        Raises:
          BusClosed: this publisher or the bus was closed.
          BusFull, SelfDeadlock: as there.

        Cancellation: `Cancelled` means that it was not published.
        """
        self._check()
        taken = await self._bus.publish_inbound(message)
        self.published += 1
        return taken

    def publish_nowait(self, message: InboundMessage) -> bool:
        """Hand *message* over now; see `MessageBus.publish_inbound_nowait`.

        Raises:
          trio.WouldBlock: it would have to wait.
          BusFull, BusClosed: as there.
        """
        self._check()
        taken = self._bus.publish_inbound_nowait(message)
        self.published += 1
        return taken

    def _check(self) -> None:
        if self._closed:
            raise BusClosed("this publisher is closed")

    def clone(self) -> Publisher:
        """Another one, independent of this one."""
        return Publisher(self._bus)

    def close(self) -> None:
        """Publish nothing more through this one."""
        self._closed = True


def size_of(message: InboundMessage | OutboundMessage) -> int:
    """Bytes of what a message carries: its text, its addresses and its notes, as UTF-8."""
    notes = len(encode_json(message.metadata)) if message.metadata else 0
    return (
        len(message.content.encode(errors="surrogatepass"))
        + sum(len(one.encode(errors="surrogatepass")) for one in message.media)
        + notes
    )


def _size_of_delivery(delivery: Delivery) -> int:
    return size_of(delivery.message)
