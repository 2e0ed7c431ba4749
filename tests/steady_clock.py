"""A real clock that stands still while the machine keeps the test from running."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio

# How long the loop may sleep at once, and the most that may pass between two readings. A reading later than that means
# that the process did not run: the machine was busy, or it stopped the process.
TICK = 0.02
LONGEST_STEP = 0.05


@attrs.define(eq=False)
class SteadyClock(trio.abc.Clock):
    """The time of `time.perf_counter`, without the gaps in which this process did not run.

    Tests over real sockets state times of some tenths of a second: how long a server is silent, and how long a client
    waits for it. On a busy machine the process may not run for longer than that. Both sides are tasks of one run, so
    with this clock neither side's time passes then.

    A synchronous function that blocks the loop does not move this clock either. Tests that measure such functions
    read `time.perf_counter` or `time.thread_time` themselves.
    """

    _now: float = 0.0
    _read: float = attrs.field(factory=time.perf_counter)

    def start_clock(self) -> None:
        """Count from now."""
        self._read = time.perf_counter()

    def current_time(self) -> float:
        """Seconds in which this process could run since the start."""
        read = time.perf_counter()
        self._now += min(read - self._read, LONGEST_STEP)
        self._read = read
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Seconds until *deadline*, at most `TICK`: a longer sleep could not be told from a stop of the process."""
        return min(deadline - self.current_time(), TICK)


def run(main: Callable[[], Awaitable[Any]], *, clock: trio.abc.Clock | None = None, **options: Any) -> Any:
    """Run a test as `trio.run` does, with a steady clock where the test names none."""
    return trio.run(main, clock=clock or SteadyClock(), **options)
