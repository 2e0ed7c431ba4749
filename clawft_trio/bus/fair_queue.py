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
        self.items: deque[T] = deque()
        #: beside `items`, and only when messages are weighed: an append and a popleft are then all that a message costs
        self._weights: deque[int] | None = deque() if weighed else None

    def __len__(self) -> int:
        return len(self.items)

    def ready(self) -> bool:
        """Whether `pop` has something."""
        return bool(self.items)

    def push(self, entry: QueueItem[T]) -> None:
        """Put *entry* at the end."""
        self.items.append(entry[0])
        if self._weights is not None:
            self._weights.append(entry[1])

    def pop(self, _hold: bool = False) -> QueueItem[T]:
        """Take the oldest."""
        return self.items.popleft(), 0 if self._weights is None else self._weights.popleft()

    def session_of(self, _item: T) -> Hashable:
        """All messages are in one FIFO."""
        return None

    def is_full_for(self, _item: T) -> bool:
        """Never: only the whole queue has a limit."""
        return False

    def is_session_full(self, _session: Hashable) -> bool:
        """Never."""
        return False

    def release(self, _session: Hashable) -> bool:
        """Nothing is ever held."""
        return False

    def hold(self, _session: Hashable) -> None:
        """There is only one, and it is always served."""

    def __iter__(self) -> Iterator[T]:
        return iter(tuple(self.items))

    def evict(self, may_go: Callable[[T], bool], _newcomer: T) -> QueueItem[T] | None:
        """Take out the oldest that may go."""
        for place, item in enumerate(self.items):
            if may_go(item):
                del self.items[place]
                return item, self._weight_at(place)
        return None

    def _weight_at(self, place: int) -> int:
        if self._weights is None:
            return 0
        weight = self._weights[place]
        del self._weights[place]
        return weight

    def evict_from(self, _session: Hashable) -> QueueItem[T] | None:
        """Take out the oldest."""
        return self.pop() if self.items else None

    def clear(self) -> list[QueueItem[T]]:
        """Take out everything."""
        return [self.pop() for _ in range(len(self.items))]


class FairQueue(Generic[T]):
    """A FIFO per key, each with a limit; those that are not empty and not held are served round-robin."""

    def __init__(self, key: Callable[[T], Hashable], session_capacity: int) -> None:
        self.session_of = key
        self._session_capacity = session_capacity
        self._sessions: dict[Hashable, deque[tuple[int, QueueItem[T]]]] = {}
        #: the sessions that may be served, in the order of their turn
        self._turns: OrderedDict[Hashable, None] = OrderedDict()
        #: how often each session that is not served is held
        self._held: Counter[Hashable] = Counter()
        self._length = 0
        self._came = 0

    def __len__(self) -> int:
        return self._length

    def ready(self) -> bool:
        """Whether a session with something in it is not held."""
        return bool(self._turns)

    def push(self, entry: QueueItem[T]) -> None:
        """Put *entry* at the end of its session."""
        session = self.session_of(entry[0])
        waiting = self._sessions.get(session)
        if waiting is None:
            waiting = self._sessions[session] = deque()
            if session not in self._held:
                self._turns[session] = None
        self._came += 1
        self._length += 1
        waiting.append((self._came, entry))

    def pop(self, hold: bool = False) -> QueueItem[T]:
        """Take the oldest message of the FIFO that is next in turn."""
        session, _ = self._turns.popitem(last=False)
        _, entry = self._sessions[session].popleft()
        self._length -= 1
        if not self._sessions[session]:
            del self._sessions[session]
        elif not hold:
            self._turns[session] = None
        if hold:
            self._held[session] += 1
        return entry

    def release(self, session: Hashable) -> bool:
        """Serve *session* again once every hold was released; whether there is something in it."""
        self._held[session] -= 1
        if self._held[session] > 0:
            return False
        del self._held[session]
        if session not in self._sessions:
            return False
        self._turns[session] = None
        return True

    def hold(self, session: Hashable) -> None:
        """Serve nothing of *session* until `release`, as often as it was held."""
        self._held[session] += 1
        self._turns.pop(session, None)

    def __iter__(self) -> Iterator[T]:
        return iter([entry[0] for session in self._sessions.values() for _, entry in session])

    def is_full_for(self, item: T) -> bool:
        """Whether its session is."""
        return self.is_session_full(self.session_of(item))

    def is_session_full(self, session: Hashable) -> bool:
        """Whether nothing more may be put into *session*."""
        waiting = self._sessions.get(session)
        return waiting is not None and len(waiting) >= self._session_capacity

    def evict(self, _may_go: Callable[[T], bool], newcomer: T) -> QueueItem[T] | None:
        """Take out the oldest: of the newcomer's session if that is full, else of all. Here every message may go."""
        session = self.session_of(newcomer)
        if not self.is_session_full(session):
            session = min(self._sessions, key=lambda other: self._sessions[other][0][0], default=None)
        return self.evict_from(session)

    def evict_from(self, session: Hashable) -> QueueItem[T] | None:
        """Take out the oldest of *session*."""
        waiting = self._sessions.get(session)
        if waiting is None:
            return None
        _, entry = waiting.popleft()
        self._length -= 1
        if not waiting:
            del self._sessions[session]
            self._turns.pop(session, None)
        return entry

    def remove(self, session: Hashable, wanted: Callable[[T], bool]) -> QueueItem[T] | None:
        """Take out the first of *session* that is *wanted*; None when there is none."""
        waiting = self._sessions.get(session, deque())
        for numbered in waiting:
            if wanted(numbered[1][0]):
                waiting.remove(numbered)
                self._length -= 1
                if not waiting:
                    del self._sessions[session]
                    self._turns.pop(session, None)
                return numbered[1]
        return None

    def clear(self) -> list[QueueItem[T]]:
        """Take out everything, in the order in which it came."""
        numbered = (one for waiting in self._sessions.values() for one in waiting)
        entries = sorted(numbered, key=lambda one: one[0])
        self._sessions.clear()
        self._turns.clear()
        self._length = 0
        return [entry for _, entry in entries]
