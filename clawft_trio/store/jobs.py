"""A function that waits to run in a database thread, and the task that waits for its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import outcome
import trio

from clawft_trio.store.interface import Work

T = TypeVar("T")


def nothing() -> None:
    """Do nothing."""


class Job(Generic[T]):
    """One function for a database thread.

    Either the database thread takes it or its task withdraws it, never both. Once it is taken, a cancelled task waits
    until the thread has rolled back or committed.
    """

    __slots__ = ("_task", "_ticket", "durable", "function", "raise_cancel", "result")

    def __init__(self, function: Work[T], *, durable: bool) -> None:
        self.function: Work[T] = function
        self.durable: bool = durable
        #: result; None until the thread is done, and also when the job was rolled back because its task was cancelled
        self.result: outcome.Outcome[T] | None = None
        #: raises the cancellation; None until the task was cancelled
        self.raise_cancel: Callable[[], Any] | None = None
        #: has one item until the job is taken; `list.pop` is atomic
        self._ticket = [True]
        self._task: trio.lowlevel.Task | None = None

    @property
    def abandoned(self) -> bool:
        """Whether its task was cancelled."""
        return self.raise_cancel is not None

    def take(self) -> bool:
        """Claim the job for the calling thread; False when it was taken or withdrawn before."""
        try:
            return self._ticket.pop()
        except IndexError:
            return False

    async def wait(self, on_abandon: Callable[[], None] = nothing) -> T:
        """Wait for `deliver`.

        Cancellation: a job that was not taken is withdrawn at once. Otherwise *on_abandon* is called, and the wait ends
        when the thread has rolled back (`Cancelled`) or committed (the result).
        """
        self._task = trio.lowlevel.current_task()

        def abort(raise_cancel: Any) -> trio.lowlevel.Abort:
            self.raise_cancel = raise_cancel
            if self.take():
                return trio.lowlevel.Abort.SUCCEEDED
            on_abandon()
            return trio.lowlevel.Abort.FAILED

        result: T = await trio.lowlevel.wait_task_rescheduled(abort)
        return result

    def deliver(self) -> None:
        """Resume the waiting task; called in the trio thread."""
        assert self._task is not None
        result: outcome.Outcome[Any] | None = self.result
        if result is None:
            assert self.raise_cancel is not None
            result = outcome.capture(self.raise_cancel)
        trio.lowlevel.reschedule(self._task, result)
