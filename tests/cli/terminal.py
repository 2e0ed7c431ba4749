"""A command on a pseudo-terminal, as a person has it in front of them."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import trio

CLEAN = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}

_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """The person's end of a terminal with a program on it."""

    def __init__(self, fd: int, process: trio.Process) -> None:
        self._fd = fd
        self.process = process
        #: everything that was written so far, escape codes included
        self.raw = ""
        self._from = 0

    @property
    def text(self) -> str:
        """What was written since the last `see`, without escape codes."""
        return _CODES.sub("", self.raw).replace("\r", "")[self._from :]

    async def see(self, words: str) -> str:
        """Wait until *words* are written; what was until then, since the last time."""
        while words not in self.text:
            if not await self._more():
                raise AssertionError(f"{words!r} was never written: {self.text[-2000:]}")
        before, found, _ = self.text.partition(words)
        self._from += len(before) + len(found)
        return before + found

    async def type(self, text: str) -> None:
        """Type *text*; "\\x03" is Ctrl-C and "\\x04" Ctrl-D."""
        await trio.lowlevel.wait_writable(self._fd)
        os.write(self._fd, text.encode())

    async def end(self) -> int:
        """Read to the end; the exit code."""
        while await self._more():
            pass
        return await self.process.wait()

    async def _more(self) -> bool:
        await trio.lowlevel.wait_readable(self._fd)
        try:
            piece = os.read(self._fd, 65536)
        except OSError:  # once nobody holds the other end, Linux says EIO and others end the file
            piece = b""
        self.raw += piece.decode(errors="replace")
        return bool(piece)


@asynccontextmanager
async def open_terminal(
    *arguments: str, columns: int = 80, env: Mapping[str, str] | None = None, within: float = 20
) -> AsyncGenerator[Terminal, None]:
    """Run `clawft-trio` with *arguments* as the leader of a terminal of its own."""
    ours, theirs = os.openpty()
    environ = {**CLEAN, "TERM": "xterm", "COLUMNS": str(columns), "LINES": "24", **(env or {})}
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", _LEADER, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environ,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        with trio.fail_after(within):
            yield Terminal(ours, process)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            with trio.CancelScope(shield=True):
                await process.wait()
        os.close(ours)


# Makes its stdin the terminal that controls it, so that Ctrl-C typed there is a real SIGINT.
_LEADER = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from clawft_trio.cli.main import main
main()
"""
