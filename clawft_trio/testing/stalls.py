"""A watchdog that fails when a task, or a burst of tasks, blocks the event loop for longer than a limit."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from timeit import default_timer

import attrs
import trio
import trio.testing

from clawft_trio.nursery import open_hidden_nursery

_KEPT = 20
"""Number of stalls that are kept, the longest ones."""

_WAITED = Path("/proc/thread-self/schedstat")
"""Linux: nanoseconds that this thread ran, and that it waited for a processor."""


@attrs.frozen(kw_only=True)
class Stall:
    """A period in which the event loop did not return to I/O and clocks."""

    #: duration in seconds, without the time in which the system ran other threads and programs
    seconds: float
    #: task that ran for the longest part of it; empty when a thread held the interpreter
    task: str
    #: duration of that task's longest step in seconds
    step: float
    #: number of task steps in it: many short ones are a stall, too
    steps: int

    def __str__(self) -> str:
        by = f"{self.steps} steps, the longest by {self.task} ({self.step * 1000:.0f} ms)" if self.task else "a thread"
        return f"{self.seconds * 1000:.0f} ms by {by}"


class LoopStalled(AssertionError):
    """The event loop was blocked for longer than allowed."""

    def __init__(self, stalls: tuple[Stall, ...], limit: float) -> None:
        super().__init__(stalls, limit)
        self.stalls: tuple[Stall, ...] = stalls
        self.limit: float = limit

    def __str__(self) -> str:
        lines = "; ".join(map(str, self.stalls))
        return f"the event loop stood still for more than {self.limit * 1000:.0f} ms: {lines}"


class StallWatch:
    """Stalls that `no_stall` has detected so far."""

    def __init__(self, limit: float) -> None:
        self.limit: float = limit
        #: longest pass of the loop so far, in seconds
        self.longest: float = 0.0
        self._stalls: list[Stall] = []

    @property
    def stalls(self) -> tuple[Stall, ...]:
        """Stalls over the limit, the longest first."""
        return tuple(self._stalls)

    def note(self, stall: Stall) -> None:
        """Record one pass of the loop."""
        self.longest = max(self.longest, stall.seconds)
        if stall.seconds > self.limit:
            self._stalls = sorted([*self._stalls, stall], key=lambda one: one.seconds, reverse=True)[:_KEPT]


@asynccontextmanager
async def no_stall(limit: float = 0.05) -> AsyncGenerator[StallWatch, None]:
    """Fail when the event loop is blocked for longer than *limit* seconds during the block.

    A stall is one long step of a task, a burst of steps without a look at I/O and clocks, or a thread that holds the
    interpreter. The time is real time also under a `MockClock`; time in which the system ran other programs is not
    counted (on Linux). Threads are not watched under a `MockClock`, because that needs a task that wakes up.

        async with no_stall(0.05):
            await agent.ask("hello")

    Args:
      limit: longest allowed block, in seconds.

    Raises:
      LoopStalled: at the end of the block, with the longest stalls and the tasks that caused them.

    Cancellation: the block is cancelled; nothing is raised for earlier stalls.
    """
    watch = StallWatch(limit)
    meter = _Meter(watch)
    trio.lowlevel.add_instrument(meter)
    try:
        async with open_hidden_nursery() as nursery:
            if not isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock):
                nursery.start_soon(_tick, watch)
            yield watch
            nursery.cancel_scope.cancel(reason="the block is over")
    finally:
        trio.lowlevel.remove_instrument(meter)
    if watch.stalls:
        raise LoopStalled(watch.stalls, limit)


class _Meter(trio.abc.Instrument):
    """Measures each pass of the loop: from one wait for I/O to the next."""

    def __init__(self, watch: StallWatch) -> None:
        self._watch = watch
        self._clock = _Clock()
        # Start of the current pass.
        self._began = self._clock.now()
        self._step_began = default_timer()
        self._longest = ("", 0.0)
        self._steps = 0

    def after_io_wait(self, timeout: float) -> None:
        self._began = self._clock.now()
        self._longest, self._steps = ("", 0.0), 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._step_began = default_timer()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        took = default_timer() - self._step_began
        self._steps += 1
        if took > self._longest[1]:
            self._longest = (task.name, took)

    def before_io_wait(self, timeout: float) -> None:
        task, step = self._longest
        took = self._clock.now() - self._began
        self._watch.note(Stall(seconds=took, task=task, step=step, steps=self._steps))


async def _tick(watch: StallWatch) -> None:
    """Wake up often, and record when that happens late because a thread, not a task, held the interpreter."""
    clock = _Clock()
    nap = watch.limit / 4
    while True:
        before = clock.now()
        await trio.sleep(nap)
        late = clock.now() - before - nap
        # The passes already include the time of tasks; this records only time that no pass explains.
        if late > watch.limit and late > watch.longest * 1.5:
            watch.note(Stall(seconds=late, task="", step=0.0, steps=0))


class _Clock:
    """Real time (trio's clock may be a mock), without the time in which this thread waited for a processor."""

    def now(self) -> float:
        return default_timer() - _waited()


def _waited() -> float:
    try:
        return int(_WAITED.read_bytes().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
