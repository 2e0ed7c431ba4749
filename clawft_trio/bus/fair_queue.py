"""The order of a queue: one FIFO, or for a consumer of sessions one FIFO per session, served round-robin."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from itertools import chain
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")

QueueItem: TypeAlias = tuple[T, int]
"""A message and its weight on arrival, because the content may change later and the counters must not."""


class FifoQueue(Generic[T]):
    """One FIFO for all messages."""

    def __init__(self, *, weighed: bool) -> None:
        self.items: deque[T] = deque()
        #: weights of `items`; None without weights, so that a message costs only an append and a popleft
        self._weights: deque[int] | None = deque() if weighed else None

    def push(self, entry: QueueItem[T]) -> None:
        """Append *entry*."""
        self.items.append(entry[0])
        if self._weights is not None:
            self._weights.append(entry[1])

    def pop(self) -> QueueItem[T]:
        """Remove and return the oldest entry."""
        return self.items.popleft(), 0 if self._weights is None else self._weights.popleft()

    def evict(self, may_go: Callable[[T], bool]) -> QueueItem[T] | None:
        """Remove and return the oldest entry that may go."""
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

    def clear(self) -> list[QueueItem[T]]:
        """Remove and return all entries."""
        return [self.pop() for _ in range(len(self.items))]


class FairQueue(Generic[T]):
    """A FIFO per session; sessions that are not empty and not held are served round-robin.

    Only a `SessionReader` uses sessions: until `limit_sessions` is called, all messages are one FIFO.

    Args:
      session_of: returns the session of a message.
      weighed: whether messages have weights.
    """

    def __init__(self, session_of: Callable[[T], Hashable], *, weighed: bool) -> None:
        self.session_of = session_of
        #: all messages until `limit_sessions` is called; empty afterwards
        self.arrivals: FifoQueue[T] = FifoQueue(weighed=weighed)
        #: largest number of messages of one session; None: messages are not sorted by session
        self.session_limit: int | None = None
        #: messages by session, numbered in the order of arrival
        self._sessions: dict[Hashable, deque[tuple[int, QueueItem[T]]]] = {}
        #: sessions that may be served, in the order of service
        self._turns: OrderedDict[Hashable, None] = OrderedDict()
        #: number of holds of each held session
        self._held: Counter[Hashable] = Counter()
        self._sorted = 0
        self._came = 0

    def __len__(self) -> int:
        return self._sorted or len(self.arrivals.items)

    def __iter__(self) -> Iterator[T]:
        in_sessions = (entry[0] for session in self._sessions.values() for _, entry in session)
        return iter([*self.arrivals.items, *in_sessions])

    def ready(self) -> int:
        """Return the number of sessions that `pop` can serve now; without a session limit, of messages."""
        return len(self._turns) or len(self.arrivals.items)

    def limit_sessions(self, limit: int) -> None:
        """Limit sessions to *limit* messages each from now on, and serve sessions round-robin."""
        self.session_limit = limit
        for entry in self.arrivals.clear():
            self.push(entry)

    def push(self, entry: QueueItem[T]) -> None:
        """Append *entry* to its session."""
        if self.session_limit is None:
            self.arrivals.push(entry)
            return
        session = self.session_of(entry[0])
        waiting = self._sessions.get(session)
        if waiting is None:
            waiting = self._sessions[session] = deque()
            if session not in self._held:
                self._turns[session] = None
        self._came += 1
        self._sorted += 1
        waiting.append((self._came, entry))

    def pop(self, *, hold: bool = False) -> QueueItem[T]:
        """Take the oldest message of the next session; with *hold*, hold that session."""
        if self.session_limit is None:
            return self.arrivals.pop()
        session, _ = self._turns.popitem(last=False)
        _, entry = self._sessions[session].popleft()
        self._sorted -= 1
        if hold:
            self._held[session] += 1
        if not self._sessions[session]:
            del self._sessions[session]
        elif not hold:
            self._turns[session] = None
        return entry

    def hold(self, session: Hashable) -> None:
        """Stop serving *session* until `release` was called for every hold."""
        self._held[session] += 1
        self._turns.pop(session, None)

    def release(self, session: Hashable) -> bool:
        """Release one hold of *session*; return whether it is served again and has messages."""
        self._held[session] -= 1
        if self._held[session] > 0:
            return False
        del self._held[session]
        if session not in self._sessions:
            return False
        self._turns[session] = None
        return True

    def is_full_for(self, item: T) -> bool:
        """Whether the session of *item* is full."""
        return self.session_limit is not None and self.is_session_full(self.session_of(item))

    def is_session_full(self, session: Hashable) -> bool:
        """Whether *session* has its largest number of messages."""
        waiting = self._sessions.get(session)
        return waiting is not None and self.session_limit is not None and len(waiting) >= self.session_limit

    def evict(self, may_go: Callable[[T], bool], newcomer: T) -> QueueItem[T] | None:
        """Remove the oldest message that may go: of the newcomer's session if that is full, else of all."""
        if self.session_limit is None:
            return self.arrivals.evict(may_go)
        session = self.session_of(newcomer)
        among = [session] if self.is_session_full(session) else list(self._sessions)
        oldest = ((other, _first(self._sessions[other], may_go)) for other in among)
        found = [(numbered, other) for other, numbered in oldest if numbered is not None]
        if not found:
            return None
        numbered, session = min(found, key=lambda pair: pair[0][0])
        return self._remove(session, numbered)

    def remove(self, session: Hashable, wanted: Callable[[T], bool]) -> Iterator[QueueItem[T]]:
        """Remove and yield the *wanted* messages of *session*."""
        for numbered in tuple(self._sessions.get(session, ())):
            if wanted(numbered[1][0]):
                yield self._remove(session, numbered)

    def _remove(self, session: Hashable, numbered: tuple[int, QueueItem[T]]) -> QueueItem[T]:
        waiting = self._sessions[session]
        waiting.remove(numbered)
        self._sorted -= 1
        if not waiting:
            del self._sessions[session]
            self._turns.pop(session, None)
        return numbered[1]

    def clear(self) -> list[QueueItem[T]]:
        """Remove and return all messages, in the order of arrival."""
        in_sessions = sorted(chain.from_iterable(self._sessions.values()), key=lambda numbered: numbered[0])
        entries = [*self.arrivals.clear(), *(entry for _, entry in in_sessions)]
        self._sessions.clear()
        self._turns.clear()
        self._sorted = 0
        return entries


def _first(waiting: deque[tuple[int, QueueItem[T]]], may_go: Callable[[T], bool]) -> tuple[int, QueueItem[T]] | None:
    return next((numbered for numbered in waiting if may_go(numbered[1][0])), None)
