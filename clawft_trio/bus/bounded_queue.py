"""A bounded queue and its overflow policies.

| policy        | what waits      | what is lost                 | counter    |
|---------------|-----------------|------------------------------|------------|
| `block`       | the publisher   | nothing                      | `waiting`  |
| `drop_oldest` | nothing         | the oldest droppable message | `dropped`  |
| `drop_newest` | nothing         | the new message              | `dropped`  |
| `reject`      | nothing         | nothing: `BusFull` is raised | `rejected` |

A *precious* message (a final reply) is never dropped by policy: under every policy its publisher waits.

At any time `published == delivered + dropped + depth`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import islice
from typing import Any, Generic, Literal, TypeAlias, TypeVar, get_args

import outcome
import trio
from trio.lowlevel import Abort

from clawft_trio.bus.fair_queue import FairQueue, QueueItem
from clawft_trio.bus.fast_path import BATCH, FastPath
from clawft_trio.bus.statistics import QueueStatistics
from clawft_trio.bus.waiting import Consumers, WaitingPublishers
from clawft_trio.chat import unobserved
from clawft_trio.errors import BusClosed, BusFull, SelfDeadlock
from clawft_trio.observe import BusPressure, MessageDropped

T = TypeVar("T")

Overflow: TypeAlias = Literal["block", "drop_oldest", "drop_newest", "reject"]
"""Policy for a message that does not fit."""

OVERFLOWS: tuple[Overflow, ...] = get_args(Overflow)


class BoundedQueue(Generic[T]):
    """A queue with a limit, an overflow policy and exact counters.

    Waiting publishers are served in the order of their calls. `put` and `get` yield to other tasks once per 512
    messages, and whenever they wait.

    Args:
      name: name for events and statistics.
      capacity: largest number of messages.
      overflow: the policy when the queue is full.
      max_bytes: limit on the sum of the weights; None: no limit.
      weigh: returns the size of a message.
      precious: returns whether no policy may drop a message.
      session_of: returns the session of a message, for a `SessionReader`; for other consumers the queue is one FIFO.
      warn_at: share of the capacity at which a `BusPressure` event is sent, once until the queue is half empty again.
      observer: receives the events.
    """

    def __init__(
        self,
        name: str,
        *,
        capacity: int,
        overflow: Overflow = "block",
        max_bytes: int | None = None,
        weigh: Callable[[T], int] = lambda _: 0,
        precious: Callable[[T], bool] = lambda _: False,
        session_of: Callable[[T], Hashable] = lambda _: None,
        warn_at: float = 0.8,
        observer: Callable[[Any], None] = unobserved,
    ) -> None:
        self.name: str = name
        self.closed: bool = False
        self.order: FairQueue[T] = FairQueue(session_of, weighed=max_bytes is not None)
        self.fast: FastPath[T] = FastPath(self.order.arrivals.items)
        self.consumers: Consumers = Consumers()
        self._publishers: WaitingPublishers[T] = WaitingPublishers()
        self._drained = trio.lowlevel.ParkingLot()
        self._capacity = capacity
        self._overflow: Overflow = overflow
        self._max_bytes = max_bytes
        self._weigh = weigh
        self._precious = precious
        self._observer = observer
        self._bytes = 0
        self._warn_level = max(1, round(capacity * warn_at))
        self._warned = False
        self._high_water = self._dropped = self._rejected = 0
        self._unyielded_puts = 0
        self._retune()

    def __repr__(self) -> str:
        return f"<BoundedQueue {self.name} {len(self.order)}/{self._capacity}{' closed' if self.closed else ''}>"

    def __len__(self) -> int:
        return len(self.order)

    async def put(self, item: T) -> bool:
        """Publish *item*, waiting for room if the policy is `block`.

        Returns:
          Whether *item* is in the queue; False means that the policy dropped it.

        Raises:
          BusFull: by policy `reject`, or because *item* is larger than the whole queue.
          BusClosed: the queue is closed, or was closed during the wait.
          SelfDeadlock: only consumers of this queue could make room, and all of them wait here.

        Cancellation: `Cancelled` means that it was not published.
        """
        if self.fast.put(item):
            return True
        self._unyielded_puts += 1
        if self._unyielded_puts >= BATCH or self.fast.puts_make_a_batch:
            self._unyielded_puts = 0
            await trio.lowlevel.checkpoint()
        try:
            return self.put_nowait(item)
        except trio.WouldBlock:
            return await self._wait_for_room(item)

    def put_nowait(self, item: T) -> bool:
        """Publish *item* now.

        Raises:
          trio.WouldBlock: the call would have to wait.
          BusFull, BusClosed: as for `put`.
        """
        if self.closed:
            raise BusClosed(f"{self.name} is closed")
        weight = self._weight_of(item)
        if not self._may_enter(item, weight):
            return self._put_into_full(item, weight)
        self._enter(item, weight)
        return True

    def _weight_of(self, item: T) -> int:
        limit = self._max_bytes
        if limit is None:
            return 0
        weight = self._weigh(item)
        if weight <= limit:
            return weight
        if not self._precious(item):
            self._rejected += 1
            raise BusFull(f"{weight} bytes are more than {self.name} may hold ({limit})")
        # A precious message that never fits enters the queue alone.
        return limit

    def _may_enter(self, item: T, weight: int) -> bool:
        """Whether there is room for *item*, and no other publisher waits for it."""
        return not self._publishers.line and self._has_room(weight) and not self.order.is_full_for(item)

    def _has_room(self, weight: int) -> bool:
        return len(self.order) < self._capacity and (self._max_bytes is None or self._bytes + weight <= self._max_bytes)

    def _enter(self, item: T, weight: int) -> None:
        self.order.push((item, weight))
        self._bytes += weight
        depth = len(self.order)
        rising = depth >= self._high_water
        if depth >= self._warn_level and not self._warned:
            self._warned = True
            self._observer(BusPressure(queue=self.name, depth=depth, capacity=self._capacity))
        self.consumers.wake()
        self._retune(rising=rising)

    def _put_into_full(self, item: T, weight: int) -> bool:
        if self._overflow == "block":
            raise trio.WouldBlock
        precious = self._precious(item)
        if self._overflow == "reject" and not precious:
            self._rejected += 1
            raise BusFull(f"{self.name} is full ({len(self.order)} messages)")
        if self._overflow == "drop_oldest" or (precious and self._overflow == "drop_newest"):
            self._evict_for(item, weight)
        if self._may_enter(item, weight):
            self._enter(item, weight)
            return True
        if precious:
            raise trio.WouldBlock
        self._drop(item, self._overflow)
        return False

    def _evict_for(self, item: T, weight: int) -> None:
        # The fast path does not record the depth, so everything that lowers the depth has to.
        self._high_water = max(self._high_water, len(self.order))
        while not self._has_room(weight) or self.order.is_full_for(item):
            evicted = self.order.evict(lambda other: not self._precious(other), item)
            if evicted is None:
                return
            self._bytes -= evicted[1]
            self._drop(evicted[0], self._overflow)

    def _drop(self, item: T, policy: str) -> None:
        self._dropped += 1
        self._observer(MessageDropped(queue=self.name, policy=policy, message=_message_in(item)))

    async def _wait_for_room(self, item: T) -> bool:
        task = trio.lowlevel.current_task()
        if self.consumers.would_all_wait(task, self._publishers):
            raise SelfDeadlock(f"every consumer of {self.name} would wait for itself to make room")
        entry = (item, self._weight_of(item))
        if self.order.is_full_for(item):
            self._publishers.block(task, entry, self.order.session_of(item))
        else:
            self._publishers.line[task] = entry
        self._retune()

        def abort(_: Any) -> Abort:
            self._publishers.remove(task, self.order.session_of(item))
            # The task that left may have blocked others.
            self._admit(item)
            self._retune()
            return Abort.SUCCEEDED

        self._unyielded_puts = 0
        await trio.lowlevel.wait_task_rescheduled(abort)
        return True

    def _admit(self, gone: T) -> None:
        """Let waiting publishers enter, because there may be room now, also in the session of *gone*."""
        publishers, order = self._publishers, self.order
        if order.session_limit is not None and not order.is_full_for(gone):
            publishers.unblock(order.session_of(gone))
        while publishers.line:
            task, entry = next(iter(publishers.line.items()))
            if not self._has_room(entry[1]):
                return
            del publishers.line[task]
            if order.is_full_for(entry[0]):
                publishers.block(task, entry, order.session_of(entry[0]))
            else:
                self._enter(*entry)
                trio.lowlevel.reschedule(task)

    async def get(self) -> T:
        """Wait for the next message and take it.

        Raises:
          BusClosed: the queue is closed and empty.

        Cancellation: `Cancelled` means that nothing was taken.
        """
        if self.fast.gets_make_a_batch:
            await trio.lowlevel.checkpoint()
            self.fast.begin_batch()
        while True:  # noqa: ASYNC913 - a checkpoint per batch, not per message
            try:
                return self.get_nowait()
            except trio.WouldBlock:
                await self.wait_for_news()
                self.fast.begin_batch()

    async def wait_for_news(self) -> None:
        """Wait as a consumer until there may be a message, or `consumers.wake` is called.

        Cancellation: safe.
        """
        # From now on a publisher has to wake this task, which the fast path does not.
        self.fast.shut()
        try:
            await self.consumers.park()
        finally:
            self._retune()

    def get_nowait(self, *, hold: bool = False) -> T:
        """Take the next message without waiting, and with *hold* hold its session; see `SessionReader`.

        Raises:
          trio.WouldBlock: there is no message.
          BusClosed: the queue is closed and empty.
        """
        if not self.order.ready():
            if self.closed and not len(self.order):
                raise BusClosed(f"{self.name} is closed and empty")
            raise trio.WouldBlock
        entry = self.order.pop(hold=hold)
        self.fast.note_delivered(1)
        self._note_taken(entry)
        return entry[0]

    def take_out(
        self, session: Hashable, wanted: Callable[[T], bool] = lambda _: True, *, at_most: int | None = None
    ) -> tuple[T, ...]:
        """Take the *wanted* messages of *session* out of order; see `SessionReader`."""
        entries = tuple(islice(self.order.remove(session, wanted), at_most))
        self.fast.note_delivered(len(entries))
        self._note_taken(*entries)
        return tuple(item for item, _ in entries)

    def clear(self, policy: str | None) -> tuple[T, ...]:
        """Take out all messages: as dropped by *policy*, or as delivered when it is None.

        Waiting publishers enter the queue.
        """
        entries = self.order.clear()
        if policy is None:
            self.fast.note_delivered(len(entries))
        else:
            for item, _ in entries:
                self._drop(item, policy)
        self._note_taken(*entries)
        return tuple(item for item, _ in entries)

    def _note_taken(self, *entries: QueueItem[T]) -> None:
        """Count *entries*, which have just been taken out, and let waiting publishers enter."""
        depth = len(self.order)
        self._high_water = max(self._high_water, depth + len(entries))
        for _, weight in entries:
            self._bytes -= weight
        if self._warned and depth < self._warn_level // 2:
            self._warned = False
        if self._publishers:
            for item, _ in entries:
                self._admit(item)
        self._retune()
        self._wake_if_drained()

    def close(self) -> None:
        """Accept no more messages. Queued messages can still be taken; waiting publishers get `BusClosed`."""
        if self.closed:
            return
        self.closed = True
        for task in self._publishers.clear():
            trio.lowlevel.reschedule(task, outcome.Error(BusClosed(f"{self.name} was closed")))
        self._retune()
        self._wake_if_drained()

    def _wake_if_drained(self) -> None:
        if self.closed and not len(self.order):
            self.consumers.wake_all()
            self._drained.unpark_all()

    async def wait_drained(self) -> None:
        """Wait until the queue is closed and empty.

        Cancellation: safe.
        """
        await trio.lowlevel.checkpoint()
        while not (self.closed and not len(self.order)):
            await self._drained.park()

    def statistics(self) -> QueueStatistics:
        """Return the exact current counters."""
        depth, delivered = len(self.order), self.fast.delivered
        return QueueStatistics(
            name=self.name,
            capacity=self._capacity,
            depth=depth,
            bytes=self._bytes,
            high_water=max(self._high_water, depth),
            published=delivered + self._dropped + depth,
            delivered=delivered,
            dropped=self._dropped,
            rejected=self._rejected,
            waiting=len(self._publishers),
            consumers_waiting=len(self.consumers),
        )

    def _retune(self, *, rising: bool = False) -> None:
        """Open or close the fast path. Called after every change except of the depth.

        While the depth rises to a new high-water mark, the next consumer has to record it.
        """
        depth = len(self.order)
        self._high_water = max(self._high_water, depth)
        ruled = self.closed or self._max_bytes is not None or self.order.session_limit is not None
        if ruled or self._publishers or len(self.consumers):
            self.fast.shut()
            return
        # An event is due at the warning level, and the warning ends when the queue is half empty.
        warn_at = self._capacity if self._warned else self._warn_level - 1
        calm = depth - self._warn_level // 2 if self._warned else BATCH
        self.fast.open(put_below=warn_at if rising else min(warn_at, self._high_water), gets=0 if rising else calm)


def _message_in(item: Any) -> Any:
    return getattr(item, "message", item)
