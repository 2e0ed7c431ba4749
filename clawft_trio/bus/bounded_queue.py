"""A bounded queue, and what happens when it is full.

| policy        | what waits      | what is lost                 | counter    |
|---------------|-----------------|------------------------------|------------|
| `block`       | the publisher   | nothing                      | `waiting`  |
| `drop_oldest` | nothing         | the oldest that may be lost  | `dropped`  |
| `drop_newest` | nothing         | the one that comes           | `dropped`  |
| `reject`      | nothing         | nothing: `BusFull` is raised | `rejected` |

What is *precious* (a final reply) is never lost by policy: under every policy its publisher waits.

At every moment `published == delivered + dropped + depth`.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, Literal, TypeAlias, TypeVar, get_args

import attrs
import outcome
import trio
from trio.lowlevel import Abort, Task

from clawft_trio.bus.fair_queue import FairQueue, FifoQueue, QueueItem
from clawft_trio.chat import unobserved
from clawft_trio.errors import BusClosed, BusFull, SelfDeadlock
from clawft_trio.observe import BusPressure, MessageDropped

T = TypeVar("T")

Overflow: TypeAlias = Literal["block", "drop_oldest", "drop_newest", "reject"]
"""What happens to a message that does not fit."""

OVERFLOWS: tuple[Overflow, ...] = get_args(Overflow)

_BATCH = 512
"""Messages that may pass before a user of the queue yields: some 0.2 ms. A switch costs as much as 20 of them."""


@attrs.frozen(kw_only=True)
class QueueStatistics:
    """What has gone through a queue, exactly: `published == delivered + dropped + depth`."""

    name: str
    capacity: int
    #: messages in it now
    depth: int
    #: their size; 0 when there is no limit in bytes
    bytes: int
    #: the largest `depth` so far
    high_water: int
    #: messages taken over from publishers
    published: int
    #: messages handed to consumers
    delivered: int
    #: messages lost by the overflow policy, or left over at the end
    dropped: int
    #: messages refused with `BusFull`; their publishers know
    rejected: int
    #: publishers that wait for room
    waiting: int
    #: consumers that wait for a message
    consumers_waiting: int


class BoundedQueue(Generic[T]):
    """A queue with a limit, a policy, and counters that are exact.

    Publishers that wait are served in the order in which they came. `put` and `get` yield to other tasks once per
    512 messages, and whenever they wait.

    Args:
      name: what events and statistics call it.
      capacity: messages that it holds.
      overflow: what happens when it is full.
      max_bytes: limit on the sum of the weights; None is none.
      weigh: the size of one message.
      precious: which messages no policy may drop.
      warn_at: share of the capacity from which on a `BusPressure` event is sent, once until it is half empty again.
      observer: gets the events.
    """

    # Also for speed: with so many attributes, a dict of them would be looked up by hash.
    __slots__ = (
        "__weakref__",
        "_blocked",
        "_bytes",
        "_capacity",
        "_drained",
        "_dropped",
        "_entries",
        "_free_gets",
        "_get_items",
        "_granted",
        "_high_water",
        "_known_readers",
        "_max_bytes",
        "_observer",
        "_overflow",
        "_pause_at",
        "_precious",
        "_put_below",
        "_put_items",
        "_readers",
        "_rejected",
        "_unyielded_puts",
        "_waiting",
        "_warn_level",
        "_warned",
        "_weigh",
        "_yield_at",
        "closed",
        "name",
    )

    def __init__(
        self,
        name: str,
        *,
        capacity: int,
        overflow: Overflow = "block",
        max_bytes: int | None = None,
        weigh: Callable[[T], int] = lambda _: 0,
        precious: Callable[[T], bool] = lambda _: False,
        warn_at: float = 0.8,
        observer: Callable[[Any], None] = unobserved,
    ) -> None:
        self.name: str = name
        self.closed: bool = False
        self._capacity = capacity
        self._overflow: Overflow = overflow
        self._max_bytes = max_bytes
        self._weigh = weigh
        self._precious = precious
        self._observer = observer
        self._entries: FifoQueue[T] | FairQueue[T] = FifoQueue(weighed=max_bytes is not None)
        self._bytes = 0
        self._warn_level = max(1, round(capacity * warn_at))
        self._warned = False
        self._high_water = self._dropped = self._rejected = 0
        self._unyielded_puts = 0
        #: how many may have been delivered before the next checkpoint of a consumer
        self._pause_at = _BATCH
        #: publishers that wait for room anywhere, in order
        # Ordered dicts, because a plain one walks over every gap at its front to find its first key: with 10 000
        # waiting publishers that is quadratic.
        self._waiting: OrderedDict[Task, QueueItem[T]] = OrderedDict()
        #: publishers that wait for room in a session of their own, in order
        self._blocked: dict[Hashable, OrderedDict[Task, QueueItem[T]]] = {}
        self._readers = trio.lowlevel.ParkingLot()
        self._known_readers: weakref.WeakSet[Reader[T]] = weakref.WeakSet()
        self._drained = trio.lowlevel.ParkingLot()
        # The short way: while nothing is special, a message is one append and one popleft. A queue that is asked for
        # 80 % of a bare channel's speed cannot look at all its rules for every message; `_retune` decides when it must.
        self._put_items: deque[T] = deque()
        self._get_items: deque[T] = deque()
        self._put_below = 0
        #: how many may be taken the short way now, and how many will have been delivered then
        self._free_gets = self._granted = 0
        self._yield_at = _BATCH
        self._retune()

    def _retune(self, *, rising: bool = False) -> None:
        """Say how far the short way is open. Called whenever anything but the depth has changed.

        While the depth is rising to a new high-water mark, the next consumer has to note it.
        """
        self._note_depth()
        entries, delivered = self._entries, self._delivered
        self._put_below = self._free_gets = 0
        if (
            isinstance(entries, FifoQueue)
            and self._max_bytes is None
            and not (self.closed or self._waiting or self._readers)
        ):
            self._put_items = self._get_items = entries.items
            depth = len(entries)
            self._yield_at = depth + _BATCH
            # At the warning level there is an event to send, and when the queue is half empty again.
            warn_at = self._capacity if self._warned else self._warn_level - 1
            self._put_below = min(warn_at, self._yield_at, warn_at if rising else self._high_water)
            calm = depth - self._warn_level // 2 if self._warned else _BATCH
            self._free_gets = 0 if rising else max(0, min(self._pause_at - delivered, calm))
        self._granted = delivered + self._free_gets

    def _note_depth(self) -> None:
        """Whatever is about to lower the depth calls this first: the short way has no time for it."""
        self._high_water = max(self._high_water, len(self._entries))

    @property
    def _delivered(self) -> int:
        return self._granted - self._free_gets

    def __repr__(self) -> str:
        return f"<BoundedQueue {self.name} {len(self._entries)}/{self._capacity}{' closed' if self.closed else ''}>"

    def __len__(self) -> int:
        return len(self._entries)

    # --- putting in ------------------------------------------------------------------------------------

    def put_fast(self, item: T) -> bool:
        """Publish *item* if no rule of the queue needs a look: one append. Otherwise do nothing and return False."""
        if len(self._put_items) < self._put_below:
            self._put_items.append(item)
            return True
        return False

    async def put(self, item: T) -> bool:
        """Publish *item*, waiting for room if the policy is to block.

        Returns:
          Whether it is in the queue; False means that the policy dropped it.

        Raises:
          BusFull: by policy `reject`, or because it is larger than the whole queue.
          BusClosed: the queue was closed, also while this waited.
          SelfDeadlock: only consumers of this very queue could make room, and all of them wait here.

        Cancellation: `Cancelled` means that it was not published.
        """
        if self.put_fast(item):
            return True
        await self._yield_once_per_batch()
        try:
            return self.put_nowait(item)
        except trio.WouldBlock:
            return await self._wait_for_room(item)

    async def _yield_once_per_batch(self) -> None:
        """Let others run if this task has put in a batch by the long way, or one by the short way."""
        self._unyielded_puts += 1
        if self._unyielded_puts >= _BATCH or len(self._entries) >= self._yield_at:
            self._unyielded_puts = 0
            await trio.lowlevel.checkpoint()

    def put_nowait(self, item: T) -> bool:
        """Publish *item* now.

        Raises:
          trio.WouldBlock: it would have to wait.
          BusFull, BusClosed: as for `put`.
        """
        if self.closed:
            raise BusClosed(f"{self.name} is closed")
        weight = 0 if self._max_bytes is None else self._checked_weight(item, self._max_bytes)
        entries = self._entries
        if (
            self._waiting
            or len(entries) >= self._capacity
            or (weight and not self._holds(weight))
            or entries.is_full_for(item)
        ):
            return self._put_into_full(item, weight)
        self._enter(item, weight)
        return True

    def _enter(self, item: T, weight: int) -> None:
        entries = self._entries
        entries.push((item, weight))
        self._bytes += weight
        depth = len(entries)
        rising = depth >= self._high_water
        self._high_water = max(self._high_water, depth)
        if depth >= self._warn_level and not self._warned:
            self._warned = True
            self._observer(BusPressure(queue=self.name, depth=depth, capacity=self._capacity))
        self.wake_reader()
        self._retune(rising=rising)

    def _checked_weight(self, item: T, limit: int) -> int:
        weight = self._weigh(item)
        if weight <= limit:
            return weight
        if not self._precious(item):
            self._rejected += 1
            raise BusFull(f"{weight} bytes are more than {self.name} may hold ({limit})")
        # It must not be lost and never fits: it goes in alone.
        return limit

    def _holds(self, weight: int) -> bool:
        return self._max_bytes is None or self._bytes + weight <= self._max_bytes

    def _has_room(self, item: T, weight: int) -> bool:
        return len(self._entries) < self._capacity and self._holds(weight) and not self._entries.is_full_for(item)

    def _put_into_full(self, item: T, weight: int) -> bool:
        self._note_depth()
        if self._overflow == "block":
            raise trio.WouldBlock
        precious = self._precious(item)
        if self._overflow == "reject" and not precious:
            self._rejected += 1
            raise BusFull(f"{self.name} is full ({len(self._entries)} messages)")
        if self._overflow == "drop_oldest" or (precious and self._overflow == "drop_newest"):
            self._evict_for(item, weight)
        if not self._waiting and self._has_room(item, weight):
            self._enter(item, weight)
            return True
        if precious:
            raise trio.WouldBlock
        self._drop(item, self._overflow)
        return False

    def _evict_for(self, item: T, weight: int) -> None:
        while not self._has_room(item, weight):
            evicted = self._entries.evict(lambda other: not self._precious(other), item)
            if evicted is None:
                return
            self._bytes -= evicted[1]
            self._drop(evicted[0], self._overflow)

    def _drop(self, item: T, policy: str) -> None:
        self._dropped += 1
        self._observer(MessageDropped(queue=self.name, policy=policy, message=_message_in(item)))

    # --- waiting for room ------------------------------------------------------------------------------

    async def _wait_for_room(self, item: T) -> bool:
        task = trio.lowlevel.current_task()
        self._refuse_self_deadlock(task)
        weight = 0 if self._max_bytes is None else self._checked_weight(item, self._max_bytes)
        session = self._entries.session_of(item)
        waiting = self._waiting
        if self._entries.is_session_full(session):
            waiting = self._blocked.setdefault(session, OrderedDict())
        waiting[task] = (item, weight)
        self._retune()

        def abort(_: Any) -> Abort:
            self._forget(task, item)
            return Abort.SUCCEEDED

        self._unyielded_puts = 0
        await trio.lowlevel.wait_task_rescheduled(abort)
        return True

    def _forget(self, task: Task, item: T) -> None:
        session = self._entries.session_of(item)
        if self._waiting.pop(task, None) is None:
            blocked = self._blocked[session]
            del blocked[task]
            if not blocked:
                del self._blocked[session]
        # The order of the others may have depended on the task that left.
        self._admit(session)
        self._retune()

    def _admit(self, session: Hashable) -> None:
        """Let waiting publishers in, now that there is room, possibly in *session*."""
        if session in self._blocked and not self._entries.is_session_full(session):
            blocked = self._blocked[session]
            task = next(iter(blocked))
            self._waiting[task] = blocked.pop(task)
            if not blocked:
                del self._blocked[session]
        while self._waiting:
            task, (item, weight) = next(iter(self._waiting.items()))
            if len(self._entries) >= self._capacity or not self._holds(weight):
                return
            del self._waiting[task]
            if self._entries.is_full_for(item):
                self._blocked.setdefault(self._entries.session_of(item), OrderedDict())[task] = (item, weight)
                continue
            self._enter(item, weight)
            trio.lowlevel.reschedule(task)

    def _refuse_self_deadlock(self, task: Task) -> None:
        # Most queues know no reader by name, and this must not cost more than the waiting itself.
        readers = {reader.task for reader in self._known_readers} if len(self._known_readers) else set()
        if task not in readers:
            return
        stuck = {task, *self._waiting, *(waiting for blocked in self._blocked.values() for waiting in blocked)}
        if readers <= stuck:
            raise SelfDeadlock(f"every consumer of {self.name} would wait for itself to make room")

    # --- taking out ------------------------------------------------------------------------------------

    async def get(self, reader: Reader[T] | None = None, *, hold: bool = False) -> T:
        """Take the next message, waiting for one.

        Args:
          reader: the consumer; it is known as a consumer from now on.
          hold: after `serve_by_session`: serve nothing more of its session until `release`.

        Raises:
          BusClosed: it was closed, and everything was taken.

        Cancellation: `Cancelled` means that nothing was taken.
        """
        if self._delivered >= self._pause_at:
            await trio.lowlevel.checkpoint()
            self._pause_at = self._delivered + _BATCH
        while True:  # noqa: ASYNC913 - a checkpoint per batch, not per message
            try:
                return self.get_nowait(reader, hold=hold)
            except trio.WouldBlock:
                await self.wait_for_news()
                self._pause_at = self._delivered + _BATCH

    async def wait_for_news(self) -> None:
        """Wait as a consumer until there may be something, or `wake_reader` is called.

        Cancellation: safe.
        """
        # A publisher that puts something in now has to wake this task.
        self._put_below = 0
        try:
            await self._readers.park()
        finally:
            self._retune()

    def is_ready(self) -> bool:
        """Whether something can be taken now."""
        return self._entries.ready()

    async def wait_ready(self) -> None:
        """Wait until something can be taken, and take nothing.

        Raises:
          BusClosed: it was closed, and everything was taken.

        Cancellation: safe.
        """
        while not self._entries.ready():
            if self.closed and not self._entries:
                raise BusClosed(f"{self.name} is closed and empty")
            await self.wait_for_news()

    def get_nowait(self, reader: Reader[T] | None = None, *, hold: bool = False) -> T:
        """Take the next message now.

        Raises:
          trio.WouldBlock: there is none.
          BusClosed: there is none and there will be none.
        """
        if reader is not None:
            self.know(reader)
        entries = self._entries
        if not entries.ready():
            if self.closed and not entries:
                raise BusClosed(f"{self.name} is closed and empty")
            raise trio.WouldBlock
        self._note_depth()
        item, weight = entries.pop(hold)
        self._granted += 1
        self._bytes -= weight
        if self._warned and len(entries) < self._warn_level // 2:
            self._warned = False
        if self._waiting or self._blocked:
            self._admit(entries.session_of(item))
        self._retune()
        if self.closed and not entries:
            self._wake_everybody()
        return item

    def know(self, reader: Reader[T]) -> None:
        """Count this task among the consumers, as long as *reader* lives."""
        if reader.task is None:
            reader.task = trio.lowlevel.current_task()
            self._known_readers.add(reader)

    # --- sessions, the end, the counters ------------------------------------------------------------------

    def serve_by_session(self, key: Callable[[T], Hashable], *, session_capacity: int) -> None:
        """Queue per session from now on: each with a limit of its own, served in turn."""
        sessions = FairQueue(key, session_capacity)
        for entry in self._entries.clear():
            sessions.push(entry)
        self._entries = sessions
        self._retune()

    def release(self, session: Hashable) -> None:
        """Serve *session* again, of which a message was taken with `hold`."""
        if self._entries.release(session):
            self.wake_reader()

    def hold(self, session: Hashable) -> None:
        """Serve nothing of *session* until `release`, as often as it was held; after `serve_by_session`."""
        self._entries.hold(session)

    def take_session(self, session: Hashable) -> tuple[T, ...]:
        """Take out everything that waits in *session*."""
        taken = []
        while (entry := self._entries.evict_from(session)) is not None:
            self._bytes -= entry[1]
            self._granted += 1
            taken.append(entry[0])
        for _ in taken:
            self._admit(session)
        self._retune()
        if self.closed and not self._entries:
            self._wake_everybody()
        return tuple(taken)

    def take_one(self, session: Hashable, wanted: Callable[[T], bool]) -> T | None:
        """Take out the first message of *session* that is *wanted*; None when there is none, as in one FIFO."""
        entry = self._entries.remove(session, wanted) if isinstance(self._entries, FairQueue) else None
        if entry is None:
            return None
        self._bytes -= entry[1]
        self._granted += 1
        self._admit(session)
        self._retune()
        if self.closed and not self._entries:
            self._wake_everybody()
        return entry[0]

    def __iter__(self) -> Iterator[T]:
        """Everything that is in it, in no order in particular."""
        return iter(self._entries)

    def close(self) -> None:
        """Take nothing more in. What is in it can still be taken out; publishers that wait get `BusClosed`."""
        if self.closed:
            return
        self.closed = True
        for waiting in (self._waiting, *self._blocked.values()):
            for task in waiting:
                trio.lowlevel.reschedule(task, outcome.Error(BusClosed(f"{self.name} was closed")))
        self._waiting, self._blocked = OrderedDict(), {}
        self._retune()
        if not self._entries:
            self._wake_everybody()

    def _wake_everybody(self) -> None:
        self._readers.unpark_all()
        self._drained.unpark_all()

    async def wait_drained(self) -> None:
        """Wait until it is closed and everything was taken.

        Cancellation: safe.
        """
        await trio.lowlevel.checkpoint()
        while not (self.closed and not self._entries):
            await self._drained.park()

    def clear(self, policy: str | None) -> tuple[T, ...]:
        """Take everything out at once: as dropped by *policy*, or as delivered when it is None."""
        self._note_depth()
        entries = self._entries.clear()
        self._bytes = 0
        if policy is None:
            self._granted += len(entries)
        else:
            for item, _ in entries:
                self._drop(item, policy)
        if self.closed:
            self._wake_everybody()
        return tuple(item for item, _ in entries)

    def wake_reader(self) -> None:
        """Let a waiting consumer look again."""
        self._readers.unpark()

    def statistics(self) -> QueueStatistics:
        """The counters, exactly as they are now."""
        depth = len(self._entries)
        return QueueStatistics(
            name=self.name,
            capacity=self._capacity,
            depth=depth,
            bytes=self._bytes,
            high_water=max(self._high_water, depth),
            published=self._delivered + self._dropped + depth,
            delivered=self._delivered,
            dropped=self._dropped,
            rejected=self._rejected,
            waiting=len(self._waiting) + sum(map(len, self._blocked.values())),
            consumers_waiting=len(self._readers),
        )


class Reader(Generic[T]):
    """A consumer of a queue: `async for` ends when the queue is closed and empty. Several may share a queue."""

    def __init__(self, queue: BoundedQueue[T]) -> None:
        self._queue = queue
        #: the task that reads, once it has begun
        self.task: Task | None = None

    def __aiter__(self) -> Reader[T]:
        self._queue.know(self)
        return self

    async def __anext__(self) -> T:
        queue = self._queue
        free = queue._free_gets
        if free and (items := queue._get_items):
            queue._free_gets = free - 1
            return items.popleft()
        try:
            return await queue.get(self)
        except BusClosed:
            raise StopAsyncIteration from None

    async def receive(self) -> T:
        """Take the next message, waiting for one.

        Raises:
          BusClosed: there will be none.

        Cancellation: `Cancelled` means that nothing was taken.
        """
        return await self._queue.get(self)

    def receive_nowait(self) -> T:
        """Take the next message now.

        Raises:
          trio.WouldBlock: there is none.
          BusClosed: there is none and there will be none.
        """
        return self._queue.get_nowait(self)


def _message_in(item: Any) -> Any:
    return getattr(item, "message", item)
