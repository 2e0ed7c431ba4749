"""The tasks that wait at a queue: publishers that wait for room, consumers that wait for a message."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, TypeVar

import attrs
import trio
from trio.lowlevel import Task

from clawft_trio.bus.fair_queue import QueueItem

T = TypeVar("T")


class WaitingPublishers(Generic[T]):
    """The publishers that wait for room, in the order of arrival, each with its message.

    A publisher whose session is full waits in a separate line, so that it delays no other session.
    """

    def __init__(self) -> None:
        # Ordered dicts, because a plain one searches through all removed keys for its first key: with 10 000
        # waiting publishers that is quadratic.
        #: publishers that wait for room in the whole queue
        self.line: OrderedDict[Task, QueueItem[T]] = OrderedDict()
        #: publishers that wait for room in their session, by session
        self._blocked: dict[Hashable, OrderedDict[Task, QueueItem[T]]] = {}

    def __len__(self) -> int:
        return len(self.line) + sum(map(len, self._blocked.values()))

    def __bool__(self) -> bool:
        return bool(self.line or self._blocked)

    def __iter__(self) -> Iterator[Task]:
        for waiting in (self.line, *self._blocked.values()):
            yield from waiting

    def block(self, task: Task, entry: QueueItem[T], session: Hashable) -> None:
        """Add *task* to the line for room in *session*."""
        self._blocked.setdefault(session, OrderedDict())[task] = entry

    def unblock(self, session: Hashable) -> None:
        """Move the first publisher of *session*, which has room again, to the line for the whole queue."""
        blocked = self._blocked.get(session)
        if blocked:
            task = next(iter(blocked))
            self.line[task] = blocked[task]
            self._remove_blocked(task, session)

    def remove(self, task: Task, session: Hashable) -> None:
        """Remove *task*, which published a message of *session*, from its line."""
        if self.line.pop(task, None) is None:
            self._remove_blocked(task, session)

    def _remove_blocked(self, task: Task, session: Hashable) -> None:
        del self._blocked[session][task]
        if not self._blocked[session]:
            del self._blocked[session]

    def clear(self) -> tuple[Task, ...]:
        """Remove and return all publishers."""
        tasks = tuple(self)
        self.line.clear()
        self._blocked.clear()
        return tasks


@attrs.define(eq=False)
class Consumer:
    """Represents a task that takes messages, as long as this object is referenced."""

    task: Task | None = None


class Consumers:
    """The consumers of a queue: those that wait for a message, and the tasks that take messages."""

    def __init__(self) -> None:
        self._parked = trio.lowlevel.ParkingLot()
        self._known: weakref.WeakSet[Consumer] = weakref.WeakSet()

    def __len__(self) -> int:
        return len(self._parked)

    async def park(self) -> None:
        """Wait until woken.

        Cancellation: safe.
        """
        await self._parked.park()

    def wake(self) -> None:
        """Wake one waiting consumer."""
        self._parked.unpark()

    def wake_all(self) -> None:
        """Wake all waiting consumers."""
        self._parked.unpark_all()

    def note(self, consumer: Consumer) -> None:
        """Register the current task as a consumer, as long as *consumer* is referenced."""
        if consumer.task is None:
            consumer.task = trio.lowlevel.current_task()
            self._known.add(consumer)

    def would_all_wait(self, task: Task, publishers: Iterable[Task]) -> bool:
        """Whether *task* is a consumer, and every other one is among *publishers*."""
        # Most queues have no registered consumer, and this check must be cheaper than the wait.
        if not len(self._known):
            return False
        known = {consumer.task for consumer in self._known}
        return task in known and known <= {task, *publishers}
