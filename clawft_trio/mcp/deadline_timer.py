"""Watches the deadlines of thousands of calls in one task: a cancel scope per call would cost more than the call."""

from __future__ import annotations

import math
from collections.abc import Callable

import trio


class DeadlineTimer:
    """Wakes up when the next deadline may have passed.

    Args:
      expire: ends what is overdue at a given time; returns the next deadline, or infinity.
    """

    def __init__(self, expire: Callable[[float], float]) -> None:
        self._expire = expire
        self._scope = trio.CancelScope()
        # Before its first pass `run` needs no wake-up.
        self._next = -math.inf

    def notice(self, deadline: float) -> None:
        """Add a new deadline. A deadline that was postponed needs no call: the next pass reads it."""
        if deadline < self._next:
            self._next = self._scope.deadline = deadline

    async def run(self) -> None:
        """Call *expire* whenever a deadline may have passed.

        Cancellation: deadlines are no longer watched.
        """
        while True:
            with trio.CancelScope() as self._scope:
                self._next = math.inf
                self.notice(self._expire(trio.current_time()))
                await trio.sleep_forever()
