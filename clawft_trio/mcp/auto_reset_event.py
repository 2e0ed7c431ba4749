"""An event for one waiting task, cheaper than `trio.Event`."""

from __future__ import annotations

import trio


class AutoResetEvent:
    """One task waits, any task sets; a set without a waiter is remembered.

    A `trio.Event` would have to be created for every wait, which costs more than the wait.
    """

    __slots__ = ("_is_set", "_waiter")

    def __init__(self) -> None:
        self._is_set = False
        self._waiter: trio.lowlevel.Task | None = None

    def set(self) -> None:
        """Wake the waiter, or the next one to wait."""
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            self._is_set = True
        else:
            trio.lowlevel.reschedule(waiter)

    async def wait(self) -> None:
        """Wait until the event is set. Only one task may wait at a time.

        Cancellation: the event is unchanged.
        """
        if self._is_set:
            self._is_set = False
            await trio.lowlevel.checkpoint()
            return
        self._waiter = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._leave)

    def _leave(self, _: object) -> trio.lowlevel.Abort:
        self._waiter = None
        return trio.lowlevel.Abort.SUCCEEDED
