"""The order of a queue: one FIFO, or for a consumer of sessions one FIFO per session, served round-robin."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from itertools import chain
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

    def push(self, entry: QueueItem[T]) -> None:
        """Put *entry* at the end."""
        self.items.append(entry[0])
        if self._weights is not None:
            self._weights.append(entry[1])

    def pop(self) -> QueueItem[T]:
        """Take the oldest."""
        return self.items.popleft(), 0 if self._weights is None else self._weights.popleft()

    def evict(self, may_go: Callable[[T], bool]) -> QueueItem[T] | None:
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

    def clear(self) -> list[QueueItem[T]]:
        """Take out everything."""
        return [self.pop() for _ in range(len(self.items))]


class FairQueue(Generic[T]):
    """A FIFO per session; those that are not empty and not held are served round-robin.

    Sessions matter only to a consumer that serves them: until `limit_sessions` is called, all messages are one FIFO.

    Args:
      session_of: the session of a message.
      weighed: whether messages have weights.
    """

    def __init__(self, session_of: Callable[[T], Hashable], *, weighed: bool) -> None:
        self.session_of = session_of
        #: all messages until sessions are limited, and none from then on
        self.arrivals: FifoQueue[T] = FifoQueue(weighed=weighed)
        #: messages of one session; None: they are not sorted by session
        self.session_limit: int | None = None
        #: numbered in the order in which they came
        self._sessions: dict[Hashable, deque[tuple[int, QueueItem[T]]]] = {}
        #: the sessions that may be served, in the order of their turn
        self._turns: OrderedDict[Hashable, None] = OrderedDict()
        #: how often each session that is not served is held
        self._held: Counter[Hashable] = Counter()
        self._sorted = 0
        self._came = 0

    def __len__(self) -> int:
        return self._sorted or len(self.arrivals.items)

    def __iter__(self) -> Iterator[T]:
        in_sessions = (entry[0] for session in self._sessions.values() for _, entry in session)
        return iter([*self.arrivals.items, *in_sessions])

    def ready(self) -> bool:
        """Whether `pop` has something: there is a message whose session is not held."""
        return bool(self._turns or self.arrivals.items)

    def limit_sessions(self, limit: int) -> None:
        """Have at most *limit* messages of one session from now on, and serve sessions in turn."""
        self.session_limit = limit
        for entry in self.arrivals.clear():
            self.push(entry)

    def push(self, entry: QueueItem[T]) -> None:
        """Put *entry* at the end of its session."""
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
        """Take the oldest message of the session that is next in turn; with *hold*, hold its session."""
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
        """Serve nothing of *session* until `release`, as often as it was held."""
        self._held[session] += 1
        self._turns.pop(session, None)

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

    def is_full_for(self, item: T) -> bool:
        """Whether its session is."""
        return self.session_limit is not None and self.is_session_full(self.session_of(item))

    def is_session_full(self, session: Hashable) -> bool:
        """Whether nothing more may be put into *session*."""
        waiting = self._sessions.get(session)
        return waiting is not None and self.session_limit is not None and len(waiting) >= self.session_limit

    def evict(self, may_go: Callable[[T], bool], newcomer: T) -> QueueItem[T] | None:
        """Take out the oldest that may go: of the newcomer's session if that is full, else of all."""
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
        """Take out the messages of *session* that are *wanted*, one after the other."""
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
        """Take out everything, in the order in which it came."""
        in_sessions = sorted(chain.from_iterable(self._sessions.values()), key=lambda numbered: numbered[0])
        entries = [*self.arrivals.clear(), *(entry for _, entry in in_sessions)]
        self._sessions.clear()
        self._turns.clear()
        self._sorted = 0
        return entries


def _first(waiting: deque[tuple[int, QueueItem[T]]], may_go: Callable[[T], bool]) -> tuple[int, QueueItem[T]] | None:
    return next((numbered for numbered in waiting if may_go(numbered[1][0])), None)
