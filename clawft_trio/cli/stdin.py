"""Lines of standard input, as they are typed or piped in."""

from __future__ import annotations

import os
import sys
from typing import TextIO

import trio

from clawft_trio.errors import InvalidData, NotConfigured, Problem

_MOST = 1 << 20
"""Bytes of one line: more than any model reads, and less than a machine has."""

_PIECE = 65536


def read_stdin() -> TextIO:
    """Where a person types, or what is piped in.

    Raises:
      NotConfigured: the program was started without (`<&-`).
    """
    # Not always there, whatever its type says.
    stdin: TextIO | None = sys.stdin
    if stdin is None:
        raise NotConfigured("there is nothing to read: standard input is closed")
    return stdin


class StdinLines:
    """Lines that come in over a file descriptor, by default standard input.

    A terminal hands out whole lines: it does the editing, and nothing is read before Enter. Waiting is trio's: no
    thread is left behind that would swallow the next line.
    """

    def __init__(self, fd: int = 0) -> None:
        self._fd = fd
        self._kept = bytearray()
        self._ended = False

    async def next_line(self) -> str | None:
        """The next line without its end; None when there are no more.

        Raises:
          InvalidData: it is longer than a megabyte.

        Cancellation: nothing that was read is lost.
        """
        await trio.lowlevel.checkpoint()
        while b"\n" not in self._kept and not self._ended:
            piece = await self._piece()
            self._ended = not piece
            self._kept += piece
            if len(self._kept) > _MOST + _PIECE:
                raise InvalidData([Problem("$", f"a line of more than {_MOST} bytes")], source="standard input")
        if not self._kept:
            return None
        line, _, rest = bytes(self._kept).partition(b"\n")
        self._kept = bytearray(rest)
        return line.decode(errors="replace").removesuffix("\r")

    def forget(self) -> None:
        """Drop what was read and not yet handed out: the rest of what somebody pasted and now regrets."""
        self._kept.clear()

    async def _piece(self) -> bytes:
        if os.name != "posix":
            return await trio.to_thread.run_sync(os.read, self._fd, _PIECE, abandon_on_cancel=True)
        try:
            await trio.lowlevel.wait_readable(self._fd)
        except PermissionError:
            # epoll takes no regular files: they never make anybody wait.
            await trio.lowlevel.checkpoint()
        return os.read(self._fd, _PIECE)
