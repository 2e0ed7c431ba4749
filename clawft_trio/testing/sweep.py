"""Cancels an async operation at every step at which it can be cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

import attrs
import trio
from trio.lowlevel import Task

from clawft_trio.testing.seeding import seeded_scheduler

Where = Literal["before the start", "parked", "about to resume"]


class _CancelAtStep(trio.abc.Instrument):
    """Cancels *scope* at the n-th step of *root* or of a task that it spawned, directly or not."""

    def __init__(self, root: Task, scope: trio.CancelScope, step: int, *, parked: bool) -> None:
        self.steps = 0
        self._family = {root}
        self._scope = scope
        self._step = step
        self._parked = parked

    def task_spawned(self, task: Task) -> None:
        # By the spawning task, not by the nursery: a stream's producer belongs to the agent or to trio's system
        # nursery.
        if _current_task() in self._family:
            self._family.add(task)

    def task_exited(self, task: Task) -> None:
        self._family.discard(task)

    def before_task_step(self, task: Task) -> None:
        # When cancelled here, the wait has succeeded: the task resumes, and its *next* checkpoint raises.
        if not self._parked and task in self._family:
            self._count()

    def after_task_step(self, task: Task) -> None:
        # When cancelled here, the task is parked: the wait itself is aborted.
        if self._parked and task in self._family:
            self._count()

    def _count(self) -> None:
        self.steps += 1
        if self.steps == self._step:
            self._scope.cancel(reason=f"sweep, step {self._step}")


def _current_task() -> Task | None:
    try:
        return trio.lowlevel.current_task()
    except RuntimeError:
        return None


async def cancel_everywhere(
    operation: Callable[[], Awaitable[object]],
    check: Callable[[], Awaitable[None]],
    *,
    limit: int = 500,
    seed: int = 0,
) -> int:
    """Run *operation* once per step, cancel it there, then *check* what must hold.

    The operation is cancelled once before it starts, and then at each step in two ways: while a task is parked, and
    when it is about to resume. Steps of tasks that it spawned count, too, in any nursery. Any other exception of
    *operation* is raised unchanged, with a note that names the step. Every run has the same seeded scheduler, so on
    in-memory transports every run takes the same steps:

        provider = ScriptedProvider([Say("a"), Wait(1), Finish()])

        async def ask() -> None:
            await provider.complete(request, Call())

        async def check() -> None:
            assert provider.running == 0

        await cancel_everywhere(ask, check)

    Args:
      operation: called for every step; it must not keep anything between runs.
      check: called after each cancellation, shielded from it; asserts that nothing was left behind.
      limit: number of steps after which the operation counts as endless.
      seed: seed of the task order; try others to test other orders.

    Returns:
      The number of cancellations.

    Raises:
      AssertionError: the operation did not finish within *limit* steps.

    Cancellation: stops after the current run of *operation*.
    """
    await trio.lowlevel.checkpoint()
    sweep = _Sweep(operation, check, seed)
    await sweep.run("before the start", 0)
    return 1 + await sweep.steps("parked", limit) + await sweep.steps("about to resume", limit)


@attrs.frozen
class _Sweep:
    """An operation, its check, and the seed of the task order."""

    operation: Callable[[], Awaitable[object]]
    check: Callable[[], Awaitable[None]]
    seed: int

    async def steps(self, where: Where, limit: int) -> int:
        """Cancel at every step, and return the number of steps."""
        for step in range(1, limit + 1):
            if not await self.run(where, step):
                return step - 1
        raise AssertionError(f"{self.operation!r} took more than {limit} steps")

    async def run(self, where: Where, step: int) -> bool:
        """Run once and cancel at *step*; return False when the operation ended before it."""
        scope = trio.CancelScope()
        probe = _CancelAtStep(trio.lowlevel.current_task(), scope, step, parked=where == "parked")
        if step == 0:
            scope.cancel(reason="sweep, before the start")
        try:
            with seeded_scheduler(self.seed):
                with scope:
                    await _watched(self.operation, probe)
                with trio.CancelScope(shield=True):
                    await self.check()
        except BaseException as exc:
            exc.add_note(f"cancel_everywhere: step {step}, {where}, seed {self.seed}")
            raise
        return probe.steps >= step


async def _watched(operation: Callable[[], Awaitable[object]], probe: _CancelAtStep) -> None:
    trio.lowlevel.add_instrument(probe)
    try:
        await operation()
    finally:
        trio.lowlevel.remove_instrument(probe)
