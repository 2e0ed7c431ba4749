"""The nursery tree of a running program as text: where each task waits, and for how long.

    <init>
    └─ main  running
       ├─ nursery
       │  ├─ AgentLoop.serve  waits 3.2 s in trio MemoryReceiveChannel.receive, at loop.py:214 AgentLoop._take
       │  └─ QueuedObserver._serve  waits 41 ms in trio Event.wait, at queue.py:74 QueuedObserver._serve
       └─ nursery, cancelled, deadline in 4.5 s

Trio does not record when a task last ran. The instrument `TaskClock` does; without it the tree shows where a task
waits, but not for how long.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import trio

from clawft_trio.errors import Unsupported
from clawft_trio.observe.timeline_rows import seconds

_TRIO = str(Path(trio.__file__).parent)

_MOST_TASKS = 2000
"""Largest number of lines. A program with more tasks has a leak, and the first two thousand show it."""


class TaskClock(trio.abc.Instrument):
    """Records when each task last ran. Costs well under a microsecond for each step of each task.

    Use it for a block by `with TaskClock.running() as clock:`.
    """

    def __init__(self) -> None:
        self._ran: dict[trio.lowlevel.Task, float] = {}
        self._clock: trio.abc.Clock | None = None
        self._ended: trio.lowlevel.Task | None = None

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[TaskClock]:
        """Record for the duration of the block."""
        clock = cls()
        clock._clock = trio.lowlevel.current_clock()
        trio.lowlevel.add_instrument(clock)
        try:
            yield clock
        finally:
            trio.lowlevel.remove_instrument(clock)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Record the time of the step. Called by trio."""
        if task is self._ended:
            self._ended = None
        elif self._clock is not None:
            self._ran[task] = self._clock.current_time()

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Drop the record of an ended task. Called by trio."""
        # Trio calls this during the task's last step; nothing of an ended task is kept.
        self._ran.pop(task, None)
        self._ended = task

    def last_ran(self, task: trio.lowlevel.Task) -> float | None:
        """Return the `trio.current_time()` when *task* last ran; None when it has not run since the clock began."""
        return self._ran.get(task)


def task_tree(*, clock: TaskClock | None = None, root: trio.lowlevel.Task | None = None) -> str:
    """Return every task of the program with its nurseries, as text. Call it inside trio.

    Args:
      clock: provides the times since when tasks wait.
      root: draw only this task and its descendants.
    """
    top = root or trio.lowlevel.current_root_task()
    if top is None:
        return ""
    lines = list(_Drawing(clock).task(top, "", ""))
    if len(lines) > _MOST_TASKS:
        lines[_MOST_TASKS:] = [f"… and {len(lines) - _MOST_TASKS} more lines"]
    return "\n".join(lines) + "\n"


async def serve_task_tree(
    *,
    write: Callable[[str], object] | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Write the task tree whenever the process receives SIGUSR1: `kill -USR1 PID`.

    Works only in the main thread, and not while the program is blocked outside of trio; use `faulthandler` for that.

    Args:
      write: receives the text; by default it is written to standard error.

    Raises:
      Unsupported: this platform has no such signal.

    Cancellation: the previous handler of the signal is restored.
    """
    number = getattr(signal, "SIGUSR1", None)
    if number is None:
        raise Unsupported("the task tree is shown on SIGUSR1, which this platform does not have")
    with TaskClock.running() as clock, trio.open_signal_receiver(number) as signals:
        task_status.started()
        async for _ in signals:
            (write or sys.stderr.write)(task_tree(clock=clock))


class _Drawing:
    def __init__(self, clock: TaskClock | None) -> None:
        self._clock = clock
        self._now = trio.current_time()
        self._current = trio.lowlevel.current_task()

    def task(self, task: trio.lowlevel.Task, first: str, rest: str) -> Iterator[str]:
        yield f"{first}{_short(task.name)}  {self._state(task)}".rstrip()
        nurseries = task.child_nurseries
        for nursery in nurseries:
            last = nursery is nurseries[-1]
            yield f"{rest}{'└─' if last else '├─'} nursery{self._bounds(nursery)}"
            below = rest + ("   " if last else "│  ")
            children = sorted(nursery.child_tasks, key=lambda child: child._counter)
            for child in children:
                end = child is children[-1]
                yield from self.task(child, below + ("└─ " if end else "├─ "), below + ("   " if end else "│  "))

    def _state(self, task: trio.lowlevel.Task) -> str:
        if task is self._current:
            return "running"
        frames = [(frame, line) for frame, line in task.iter_await_frames() if frame.f_code.co_filename]
        if not frames:
            return "about to start"
        # The deepest frame outside of trio, and the trio function that it called.
        depth = max((n for n, (frame, _) in enumerate(frames) if not _is_trios(frame)), default=-1)
        inside = _purpose(frames[depth + 1][0]) if depth + 1 < len(frames) else ""
        text = " ".join(filter(None, ["waits", self._waited(task), inside]))
        return text if depth < 0 else f"{text}, at {_place(*frames[depth])}"

    def _waited(self, task: trio.lowlevel.Task) -> str:
        ran = None if self._clock is None else self._clock.last_ran(task)
        return "" if ran is None else seconds(self._now - ran)

    def _bounds(self, nursery: trio.Nursery) -> str:
        scope = nursery.cancel_scope
        text = "" if nursery.child_tasks else ", empty"
        text += ", cancelled" if scope.cancel_called else ""
        if scope.shield:
            text += ", shielded"
        left = scope.deadline - self._now
        return text if left == float("inf") else f"{text}, deadline in {seconds(left)}"


def _is_trios(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_TRIO)


def _purpose(frame: FrameType) -> str:
    """Describe the trio function that user code called."""
    name = frame.f_code.co_qualname
    if name.startswith("NurseryManager."):
        return "for its nursery"
    return f"in trio {name}"


def _place(frame: FrameType, line: int) -> str:
    return f"{Path(frame.f_code.co_filename).name}:{line} {_short(frame.f_code.co_qualname)}"


def _short(name: str) -> str:
    """Return a dotted name without its modules, which are long; the line already has the file."""
    parts = name.replace("<locals>.", "").split(".")
    return ".".join(part for number, part in enumerate(parts) if number >= len(parts) - 2)
