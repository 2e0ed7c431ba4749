"""The cheapest way for one task to wait until another has something for it."""

from __future__ import annotations

import trio


class AutoResetEvent:
    """One task waits, any task sets; a set without a waiter is remembered.

    A `trio.Event` would have to be made anew for every wait, which costs more than the wait.
    """

    __slots__ = ("_rung", "_waiter")

    def __init__(self) -> None:
        self._rung = False
        self._waiter: trio.lowlevel.Task | None = None

    def set(self) -> None:
        """Wake the waiter, or the next one to wait."""
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            self._rung = True
        else:
            trio.lowlevel.reschedule(waiter)

    async def wait(self) -> None:
        """Wait for a ring. Only one task may wait at a time.

        Cancellation: the bell is as before.
        """
        if self._rung:
            self._rung = False
            await trio.lowlevel.checkpoint()
            return
        self._waiter = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._leave)

    def _leave(self, _: object) -> trio.lowlevel.Abort:
        self._waiter = None
        return trio.lowlevel.Abort.SUCCEEDED
