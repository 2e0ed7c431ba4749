"""Run `clawft-trio` with arguments in this process, which takes milliseconds instead of seconds."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from threading import Thread
from typing import Any, TextIO

import outcome
import pytest
import trio

from clawft_trio.cli.logs import logs_on_terminal
from clawft_trio.cli.main import main

CLEAN = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}

_SECONDS = 60


class _Command(BaseException):
    """Raised in place of running the command that the arguments named."""

    def __init__(self, command: Callable[[], Awaitable[Any]]) -> None:
        self.command = command


async def run(
    *arguments: str, env: Mapping[str, str] | None = None, stdin: bytes | int = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run the program in this process and return its exit code and output.

    The variables, streams and descriptor 0 of this process are replaced meanwhile, so only one may run at a time.
    """
    variables = {**CLEAN, "COLUMNS": "100", **(env or {})}
    encoding = variables.get("PYTHONIOENCODING", "utf-8")
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding, newline="\n", write_through=True) for _ in range(2))
    async with _stdin(stdin) as given:
        with _replaced(variables, stdin=given, stdout=out, stderr=err) as patch:
            code = await _exit_code(arguments, patch)
    return subprocess.CompletedProcess(arguments, code, *(stream.buffer.getvalue() for stream in (out, err)))


async def run_on_terminal(*arguments: str, columns: int, env: Mapping[str, str], typed: str = "") -> bytes:
    """Run the program in this process on a terminal that is *columns* wide, on which *typed* was typed before.

    Returns what it writes there.
    """
    ours, theirs = os.openpty()
    os.write(ours, typed.encode())
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    written = bytearray()
    variables = {name: value for name, value in CLEAN.items() if not name.startswith(("LC_", "LANG", "COLUMNS"))}
    # In a thread, because the program may wait for its reader.
    reader = Thread(target=_read, args=(ours, written))
    reader.start()
    try:
        with open(theirs, "w", encoding="utf-8", closefd=False) as terminal:  # noqa: ASYNC230, PTH123
            async with _stdin(theirs) as given:
                streams = {"stdin": given, "stdout": terminal, "stderr": terminal}
                with _replaced({**variables, **env}, **streams) as patch:
                    await _exit_code(arguments, patch)
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)
    return bytes(written)


def _read(terminal: int, written: bytearray) -> None:
    # Once the other end is closed, Linux answers EIO and others end the file.
    with suppress(OSError):
        while piece := os.read(terminal, 65536):
            written += piece


@contextmanager
def _replaced(variables: Mapping[str, str], **streams: object) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - variables.keys():
            patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        for name, stream in streams.items():
            patch.setattr(sys, name, stream)
        patch.setattr(sys, "excepthook", sys.excepthook)
        yield patch


async def _exit_code(arguments: Sequence[str], patch: pytest.MonkeyPatch) -> int:
    """Call `main`, which cannot start trio here: the command runs between two calls that parse the same arguments."""

    def named(command: Callable[..., Awaitable[Any]], *args: Any) -> None:
        raise _Command(partial(command, *args))

    patch.setattr(sys, "argv", ["clawft-trio", *arguments])
    patch.setattr("clawft_trio.cli.run.run", named)
    try:
        return _main()
    except _Command as found:
        # Without handlers of its own, such as those of pytest, a program logs to stderr.
        patch.setattr(logging.getLogger(), "handlers", [])
        with trio.fail_after(_SECONDS), logs_on_terminal():
            result = await outcome.acapture(found.command)
    patch.setattr("clawft_trio.cli.run.run", lambda *_: result.unwrap())
    return _main()


def _main() -> int:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)}
    try:
        main()
    except SystemExit as exc:
        assert isinstance(exc.code, int)
        return exc.code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@asynccontextmanager
async def _stdin(content: bytes | int) -> AsyncGenerator[TextIO, None]:
    """Make *content*, through a pipe, or a descriptor the descriptor 0 during the block."""
    saved = os.dup(0)
    ours, theirs = os.pipe()
    os.dup2(ours if isinstance(content, bytes) else content, 0)
    os.close(ours)
    try:
        with open(0, closefd=False) as stream:  # noqa: ASYNC230, PTH123 - nothing is read by it
            async with trio.open_nursery() as nursery, trio.lowlevel.FdStream(theirs) as pipe:
                nursery.start_soon(_written, pipe, content if isinstance(content, bytes) else b"")
                yield stream
                nursery.cancel_scope.cancel(reason="the program has ended")
    finally:
        os.dup2(saved, 0)
        os.close(saved)


async def _written(pipe: trio.lowlevel.FdStream, content: bytes) -> None:
    async with pipe:
        await pipe.send_all(content)
