"""How long the event loop's thread computes in one pass, in time of its processor: load of the machine does not count."""

from __future__ import annotations

import gc
import importlib
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from clawft_trio.testing import no_stall

# The first request of a process imports it, which takes longer than any pass with input.
importlib.import_module("httpcore")

LIMIT = 0.05
"""Seconds that one pass may take, as documented."""

_SLOWER = 1.5
"""How much slower the processor is than usual while its caches and its other half serve other programs."""

_WALL = 2.0
"""Seconds of real time, threads that hold the interpreter included: far less than hostile input took once."""


class _Passes(trio.abc.Instrument):
    def __init__(self) -> None:
        self._began = time.thread_time()
        self._task_began = self._began
        self._slowest_task = ("", 0.0)
        self.longest: tuple[float, str] = (0.0, "")

    def after_io_wait(self, timeout: float) -> None:
        self._began, self._slowest_task = time.thread_time(), ("", 0.0)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._task_began = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        took = time.thread_time() - self._task_began
        self._slowest_task = max(self._slowest_task, (task.name, took), key=lambda one: one[1])

    def before_io_wait(self, timeout: float) -> None:
        self.longest = max(self.longest, (time.thread_time() - self._began, self._slowest_task[0]))


@asynccontextmanager
async def bounded_loop(limit: float = LIMIT) -> AsyncGenerator[None, None]:
    """Fail when a pass of the event loop computes for longer than *limit* seconds, or stands still for very long."""
    passes = _Passes()
    # The objects of all tests before this one would make a full collection take a second.
    gc.freeze()
    trio.lowlevel.add_instrument(passes)
    try:
        async with no_stall(_WALL):
            yield
    finally:
        trio.lowlevel.remove_instrument(passes)
        gc.unfreeze()
    seconds, task = passes.longest
    assert seconds <= limit * _SLOWER, f"one pass computed for {seconds * 1000:.0f} ms, most of it in {task}"
