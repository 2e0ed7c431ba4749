"""Run one child process to its end; no process, pipe or task remains.

The process leads a separate session and process group. The whole group is killed when the process ends, is cancelled or
exceeds its time, and on Linux every other group of the session (job control, `timeout`). A process that left the
session (setsid) cannot be found and keeps running; the call does not wait for it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from clawft_trio.errors import Unsupported
from clawft_trio.nursery import open_hidden_nursery

_DEATH = 5.0
"""Seconds that the kernel gets to end a killed process; longer only if the process is stuck in a driver."""

_CHUNK = 1 << 16

_PROCESSES = Path("/proc")
"""Processes have folders here, on Linux."""

_MOST_ROUNDS = 10
"""Number of searches for processes of a session, which may start others meanwhile."""

_DESCRIPTORS = "/proc/self/fd"
"""Descriptors of this process, on Linux. Elsewhere (macOS) the child runs a line of Python to change its directory."""


@attrs.frozen(kw_only=True)
class Finished:
    """The outcome of a process."""

    #: negative: ended by that signal; None when it exceeded its time
    exit_code: int | None
    stdout: str
    stderr: str
    #: duration in seconds
    duration: float
    #: whether another process still held its output open after its group had ended
    left_something: bool = False


@attrs.frozen(kw_only=True)
class ChildPolicy:
    """The limits of a child process."""

    #: seconds that it may run; its output up to then is kept
    total: float = attrs.field(default=60.0, validator=attrs.validators.gt(0))
    #: seconds between SIGTERM and SIGKILL, and for its output to end after the process
    grace: float = attrs.field(default=1.0, validator=attrs.validators.ge(0))
    #: bytes kept of each output, half from the beginning and half from the end; the rest is read and discarded
    longest_output: int = attrs.field(default=24_000, validator=attrs.validators.ge(1024))


async def run_child(
    argv: Sequence[str], *, cwd: str | int, environment: Mapping[str, str], stdin: bytes, policy: ChildPolicy
) -> Finished:
    """Run a program until it ends or exceeds its time.

    Args:
      argv: the program, by its path, and its arguments. No shell reads them.
      cwd: the directory that it starts in: a path, or an open descriptor, which cannot be replaced meanwhile.
      environment: its whole environment.
      stdin: the bytes of its standard input.
      policy: the limits of the process.

    Raises:
      OSError: the program cannot be started.
      Unsupported: this platform has no process groups.

    Cancellation: the process group gets SIGTERM, then SIGKILL after `grace`, and is awaited.
    """
    if os.name != "posix":
        raise Unsupported("commands need POSIX process groups")
    began = trio.current_time()
    outputs = _Output(policy.longest_output), _Output(policy.longest_output)
    exit_code, held = None, False
    async with _open_group(argv, cwd, environment, policy.grace) as group:
        with trio.CancelScope(deadline=began + policy.total):
            async with open_hidden_nursery() as nursery:
                _start_pumps(nursery, group.process, outputs, stdin)
                await _wait_exiting(group.process)
                with trio.CancelScope(shield=True):
                    exit_code = await group.kill_and_reap()
                # A process that still holds the pipes has left the session: do not wait for it.
                nursery.cancel_scope.deadline = trio.current_time() + policy.grace
            held = nursery.cancel_scope.cancelled_caught
    return Finished(
        exit_code=exit_code,
        stdout=outputs[0].text(),
        stderr=outputs[1].text(),
        duration=trio.current_time() - began,
        left_something=held,
    )


@asynccontextmanager
async def _open_group(
    argv: Sequence[str], cwd: str | int, environment: Mapping[str, str], grace: float
) -> AsyncGenerator[_Group, None]:
    process = await trio.lowlevel.open_process(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environment),
        start_new_session=True,
        **_start_in(cwd),
    )
    group = _Group(process)
    try:
        yield group
    finally:
        with trio.move_on_after(grace + _DEATH, shield=True):
            await group.end(grace)


def _start_in(cwd: str | int) -> dict[str, Any]:
    """Return the arguments of `Popen` for a process in *cwd*."""
    if isinstance(cwd, str):
        return {"cwd": cwd}
    if str(sys.platform) == "linux":  # a type checker would decide a check of `sys.platform` alone
        # The child looks this up between fork and exec, when it still has this process's descriptors.
        return {"cwd": f"{_DESCRIPTORS}/{cwd}"}
    return {"preexec_fn": partial(os.fchdir, cwd)}


@attrs.define(eq=False)
class _Group:
    """A process, its process group and its session, which all have the same number."""

    process: trio.Process
    #: whether the number may belong to other processes now. `Process.returncode` cannot be used for this, because it
    #: reaps a process that has ended.
    reaped: bool = False

    async def end(self, grace: float) -> None:
        """End the group and the process, and close the pipes."""
        try:
            if not self.reaped:
                _signal_group(self.process, signal.SIGTERM)
                with trio.move_on_after(grace):
                    await _wait_exiting(self.process)
                await self.kill_and_reap()
        finally:
            for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
                if pipe is not None:
                    await trio.aclose_forcefully(pipe)

    async def kill_and_reap(self) -> int:
        """Kill every process of the group and of the session, and return the exit code."""
        _signal_group(self.process, signal.SIGKILL)
        # In a thread of its own, because waiting for one of the tools' threads would have no bound.
        await trio.to_thread.run_sync(_kill_session, self.process.pid, limiter=trio.CapacityLimiter(1))
        self.reaped = True
        return await self.process.wait()


def _kill_session(session: int) -> None:
    """Kill the processes of a session that have other groups; only on Linux can they be listed. Blocks."""
    killed = {session}
    for _ in range(_MOST_ROUNDS):
        try:
            found = {int(one.name) for one in _PROCESSES.iterdir() if one.name.isdecimal()} - killed
        except OSError:
            return
        new = {number for number in found if _killed(number, session)}
        if not new:
            return
        killed |= new


def _killed(number: int, session: int) -> bool:
    """Kill a process if it belongs to *session*."""
    with suppress(OSError, AttributeError):
        if os.getsid(number) == session:
            descriptor = os.pidfd_open(number)
            try:
                # The number may have been given to another process before it was opened.
                if os.getsid(number) == session:
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                    return True
            finally:
                os.close(descriptor)
    return False


async def _wait_exiting(process: trio.Process) -> None:
    """Wait until the process has ended, without reaping it.

    Until it is reaped, its number and its group's number are not reused, so that no other process is killed.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        # Not Linux, or an old kernel: the number may be reused during one function call.
        await process.wait()
        return
    try:
        await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)


def _signal_group(process: trio.Process, number: signal.Signals) -> None:
    # It leads its group, so the group has its number. The group may have ended, or (macOS) wait to be reaped.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


class _Output:
    """The beginning and the end of a process's output, of any length."""

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._total = 0

    def add(self, data: bytes | bytearray) -> None:
        self._total += len(data)
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[max(room, 0) :]
        # Cut rarely, because each cut moves the kept bytes.
        if len(self._tail) > self._half + _CHUNK:
            del self._tail[: -self._half]

    def text(self) -> str:
        tail = self._tail[-self._half :]
        missing = self._total - len(self._head) - len(tail)
        if not missing:
            return (self._head + tail).decode(errors="replace")
        return (
            f"{self._head.decode(errors='replace')}\n[{missing} of {self._total} bytes left out]\n"
            f"{tail.decode(errors='replace')}"
        )


def _start_pumps(nursery: trio.Nursery, process: trio.Process, outputs: tuple[_Output, _Output], stdin: bytes) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    nursery.start_soon(_drain, process.stdout, outputs[0])
    nursery.start_soon(_drain, process.stderr, outputs[1])
    nursery.start_soon(_feed, process.stdin, stdin)


async def _drain(pipe: trio.abc.ReceiveStream, output: _Output) -> None:
    while data := await pipe.receive_some(_CHUNK):
        output.add(data)


async def _feed(pipe: trio.abc.SendStream, data: bytes) -> None:
    # The process may not read its input, or may have ended.
    with suppress(trio.BrokenResourceError):
        async with pipe:
            await pipe.send_all(data)
