"""The fast path of a queue: while no rule needs a look, a message is one append and one popleft."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

BATCH = 512
"""Messages that may pass before a user of the queue yields: some 0.2 ms. A switch costs as much as 20 of them."""


class FastPath(Generic[T]):
    """How many messages may be put into *items* and taken out without a look at the rules of their queue.

    A queue that is asked for 80 % of a bare channel's speed cannot look at all its rules for every message. It says
    how far this way is open whenever anything but its depth has changed. Publishers call `put`; `Reader` takes from
    *items* itself, because a call per message would cost a tenth of the speed.
    """

    __slots__ = ("_pause_at", "_promised", "_yield_at", "free_gets", "items", "put_below")

    def __init__(self, items: deque[T]) -> None:
        self.items = items
        #: the depth from which on nothing may be put in this way
        self.put_below = 0
        #: how many may be taken this way now
        self.free_gets = 0
        #: how many will have been delivered when `free_gets` is used up
        self._promised = 0
        #: the depth at which a publisher has put in a batch this way
        self._yield_at = BATCH
        #: how many may have been delivered before the next checkpoint of a consumer
        self._pause_at = BATCH

    def put(self, item: T) -> bool:
        """Put *item* in if no rule needs a look; otherwise do nothing and return False."""
        if len(self.items) < self.put_below:
            self.items.append(item)
            return True
        return False

    @property
    def delivered(self) -> int:
        """Messages handed to consumers, this way or another."""
        return self._promised - self.free_gets

    def note_delivered(self, count: int) -> None:
        """So many were handed over another way."""
        self._promised += count

    def shut(self) -> None:
        """Let nothing pass."""
        self._promised, self.put_below, self.free_gets = self.delivered, 0, 0

    def open(self, *, put_below: int, gets: int) -> None:
        """Let messages be put in while fewer than *put_below* are there, and *gets* be taken; at most a batch each."""
        delivered = self.delivered
        self._yield_at = len(self.items) + BATCH
        self.put_below = min(put_below, self._yield_at)
        self.free_gets = max(0, min(gets, self._pause_at - delivered))
        self._promised = delivered + self.free_gets

    @property
    def puts_make_a_batch(self) -> bool:
        """Whether a batch was put in since this was opened."""
        return len(self.items) >= self._yield_at

    @property
    def gets_make_a_batch(self) -> bool:
        """Whether a batch was delivered since a consumer has let others run."""
        return self.delivered >= self._pause_at

    def begin_batch(self) -> None:
        """A consumer has let others run."""
        self._pause_at = self.delivered + BATCH
