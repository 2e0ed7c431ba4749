"""Deadlines of thousands of calls, watched by one task: a cancel scope for each would cost more than the call."""

from __future__ import annotations

import math
from collections.abc import Callable

import trio


class DeadlineTimer:
    """Wakes when the next deadline may have come.

    Args:
      expire: settles what is overdue at a given time; returns the deadline that comes next, or infinity.
    """

    def __init__(self, expire: Callable[[float], float]) -> None:
        self._expire = expire
        self._scope = trio.CancelScope()
        # Before its first look `run` needs no wake-up.
        self._next = -math.inf

    def notice(self, deadline: float) -> None:
        """Add a new deadline. One that moved to later needs no call: the next look sees it."""
        if deadline < self._next:
            self._next = self._scope.deadline = deadline

    async def run(self) -> None:
        """Look whenever a deadline may have come.

        Cancellation: deadlines are no longer watched.
        """
        while True:
            with trio.CancelScope() as self._scope:
                self._next = math.inf
                self.notice(self._expire(trio.current_time()))
                await trio.sleep_forever()
