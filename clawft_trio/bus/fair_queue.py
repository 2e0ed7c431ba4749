"""Queue orders: one FIFO, or one FIFO per session served round-robin."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")

QueueItem: TypeAlias = tuple[T, int]
"""A message and its weight, taken when it came: its content may change, the counters may not."""


class FifoQueue(Generic[T]):
    """One FIFO for all messages."""

    def __init__(self, *, weighed: bool) -> None:
        self.line: deque[T] = deque()
        #: beside `line`, and only when messages are weighed: an append and a popleft are then all that a message costs
        self._weights: deque[int] | None = deque() if weighed else None

    def __len__(self) -> int:
        return len(self.line)

    def ready(self) -> bool:
        """Whether `pop` has something."""
        return bool(self.line)

    def push(self, entry: QueueItem[T]) -> None:
        """Put *entry* at the end."""
        self.line.append(entry[0])
        if self._weights is not None:
            self._weights.append(entry[1])

    def pop(self, _hold: bool = False) -> QueueItem[T]:
        """Take the oldest."""
        return self.line.popleft(), 0 if self._weights is None else self._weights.popleft()

    def line_of(self, _item: T) -> Hashable:
        """All messages are in one FIFO."""
        return None

    def is_full_for(self, _item: T) -> bool:
        """Never: only the whole queue has a limit."""
        return False

    def is_line_full(self, _line: Hashable) -> bool:
        """Never."""
        return False

    def release(self, _line: Hashable) -> bool:
        """Nothing is ever held."""
        return False

    def hold(self, _line: Hashable) -> None:
        """There is only one, and it is always served."""

    def __iter__(self) -> Iterator[T]:
        return iter(tuple(self.line))

    def evict(self, may_go: Callable[[T], bool], _newcomer: T) -> QueueItem[T] | None:
        """Take out the oldest that may go."""
        for place, item in enumerate(self.line):
            if may_go(item):
                del self.line[place]
                return item, self._weight_at(place)
        return None

    def _weight_at(self, place: int) -> int:
        if self._weights is None:
            return 0
        weight = self._weights[place]
        del self._weights[place]
        return weight

    def evict_from(self, _line: Hashable) -> QueueItem[T] | None:
        """Take out the oldest."""
        return self.pop() if self.line else None

    def clear(self) -> list[QueueItem[T]]:
        """Take out everything."""
        return [self.pop() for _ in range(len(self.line))]


class FairQueue(Generic[T]):
    """A FIFO per key, each with a limit; those that are not empty and not held are served round-robin."""

    def __init__(self, key: Callable[[T], Hashable], line_capacity: int) -> None:
        self.line_of = key
        self._line_capacity = line_capacity
        self._lines: dict[Hashable, deque[tuple[int, QueueItem[T]]]] = {}
        #: the lines that may be served, in the order of their turn
        self._turns: OrderedDict[Hashable, None] = OrderedDict()
        #: how often each line that is not served is held
        self._held: Counter[Hashable] = Counter()
        self._length = 0
        self._came = 0

    def __len__(self) -> int:
        return self._length

    def ready(self) -> bool:
        """Whether a line with something in it is not held."""
        return bool(self._turns)

    def push(self, entry: QueueItem[T]) -> None:
        """Put *entry* at the end of its line."""
        line = self.line_of(entry[0])
        waiting = self._lines.get(line)
        if waiting is None:
            waiting = self._lines[line] = deque()
            if line not in self._held:
                self._turns[line] = None
        self._came += 1
        self._length += 1
        waiting.append((self._came, entry))

    def pop(self, hold: bool = False) -> QueueItem[T]:
        """Take the oldest message of the FIFO that is next in turn."""
        line, _ = self._turns.popitem(last=False)
        _, entry = self._lines[line].popleft()
        self._length -= 1
        if not self._lines[line]:
            del self._lines[line]
        elif not hold:
            self._turns[line] = None
        if hold:
            self._held[line] += 1
        return entry

    def release(self, line: Hashable) -> bool:
        """Serve *line* again once every hold was released; whether there is something in it."""
        self._held[line] -= 1
        if self._held[line] > 0:
            return False
        del self._held[line]
        if line not in self._lines:
            return False
        self._turns[line] = None
        return True

    def hold(self, line: Hashable) -> None:
        """Serve nothing of *line* until `release`, as often as it was held."""
        self._held[line] += 1
        self._turns.pop(line, None)

    def __iter__(self) -> Iterator[T]:
        return iter([entry[0] for line in self._lines.values() for _, entry in line])

    def is_full_for(self, item: T) -> bool:
        """Whether its line is."""
        return self.is_line_full(self.line_of(item))

    def is_line_full(self, line: Hashable) -> bool:
        """Whether nothing more may be put into *line*."""
        waiting = self._lines.get(line)
        return waiting is not None and len(waiting) >= self._line_capacity

    def evict(self, _may_go: Callable[[T], bool], newcomer: T) -> QueueItem[T] | None:
        """Take out the oldest: of the newcomer's own line if that is full, else of all. Here every message may go."""
        line = self.line_of(newcomer)
        if not self.is_line_full(line):
            line = min(self._lines, key=lambda other: self._lines[other][0][0], default=None)
        return self.evict_from(line)

    def evict_from(self, line: Hashable) -> QueueItem[T] | None:
        """Take out the oldest of *line*."""
        waiting = self._lines.get(line)
        if waiting is None:
            return None
        _, entry = waiting.popleft()
        self._length -= 1
        if not waiting:
            del self._lines[line]
            self._turns.pop(line, None)
        return entry

    def remove(self, line: Hashable, wanted: Callable[[T], bool]) -> QueueItem[T] | None:
        """Take out the first of *line* that is *wanted*; None when there is none."""
        waiting = self._lines.get(line, deque())
        for numbered in waiting:
            if wanted(numbered[1][0]):
                waiting.remove(numbered)
                self._length -= 1
                if not waiting:
                    del self._lines[line]
                    self._turns.pop(line, None)
                return numbered[1]
        return None

    def clear(self) -> list[QueueItem[T]]:
        """Take out everything, in the order in which it came."""
        entries = sorted((numbered for line in self._lines.values() for numbered in line), key=lambda one: one[0])
        self._lines.clear()
        self._turns.clear()
        self._length = 0
        return [entry for _, entry in entries]
