"""Cancel an async operation at every step at which it could be cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
from trio.lowlevel import Task


class _CancelAtStep(trio.abc.Instrument):
    """Cancels *scope* at the n-th step taken by *root* or by any task below it."""

    def __init__(self, root: Task, scope: trio.CancelScope, step: int, *, parked: bool) -> None:
        self.steps = 0
        self._family = {root}
        self._scope = scope
        self._step = step
        self._parked = parked

    def task_spawned(self, task: Task) -> None:
        nursery = task.parent_nursery
        if nursery is not None and nursery.parent_task in self._family:
            self._family.add(task)

    def task_exited(self, task: Task) -> None:
        self._family.discard(task)

    def before_task_step(self, task: Task) -> None:
        # Cancelled here, the wait has succeeded: the task resumes, and its *next* checkpoint raises.
        if not self._parked and task in self._family:
            self._count()

    def after_task_step(self, task: Task) -> None:
        # Cancelled here, the task is parked: the wait itself is aborted.
        if self._parked and task in self._family:
            self._count()

    def _count(self) -> None:
        self.steps += 1
        if self.steps == self._step:
            self._scope.cancel(reason=f"sweep, step {self._step}")


async def cancel_everywhere(
    operation: Callable[[], Awaitable[object]],
    check: Callable[[], Awaitable[None]],
    *,
    limit: int = 500,
) -> int:
    """Run *operation* once per step, cancel it there, then *check* what must hold.

    Twice over: once cancelling where a task is parked, once where it is about to resume. Steps of child tasks
    count, too. Whatever else *operation* raises comes out as it is. Use it on in-memory transports and with a
    seeded scheduler, so that every run takes the same steps.

    Args:
      operation: started afresh for every step; it must not keep anything between runs.
      check: runs after each cancellation, shielded from it, and asserts that nothing was left behind.
      limit: steps after which the operation counts as endless.

    Returns:
      How many cancellations were delivered.

    Raises:
      AssertionError: the operation did not finish within *limit* steps.

    Cancellation: stops after the current run of *operation*.
    """
    delivered = 0
    for parked in (True, False):
        for step in range(1, limit + 1):
            scope = trio.CancelScope()
            probe = _CancelAtStep(trio.lowlevel.current_task(), scope, step, parked=parked)
            with scope:
                trio.lowlevel.add_instrument(probe)
                try:
                    await operation()
                finally:
                    trio.lowlevel.remove_instrument(probe)
            with trio.CancelScope(shield=True):
                await check()
            if probe.steps < step:
                break
            delivered += 1
        else:
            raise AssertionError(f"{operation!r} took more than {limit} steps")
    return delivered
