"""Standard input: lines as they arrive, or all of it up to a limit."""

from __future__ import annotations

import codecs
import os
import stat
import sys
from typing import TextIO

import trio

from clawft_trio.cli.progress import progress
from clawft_trio.errors import InvalidData, NotConfigured, Problem

LONGEST_LINE = 1 << 20
"""Largest line in bytes: more than any model reads."""

LONGEST_INPUT = 4 << 20
"""Bytes that `ask` reads from standard input: about a million tokens, the largest context window in use."""

_CHUNK = 65536


def read_stdin() -> TextIO:
    """Return standard input.

    Raises:
      NotConfigured: the program was started with it closed (`<&-`).
    """
    # It may be None, in spite of its type.
    stdin: TextIO | None = sys.stdin
    if stdin is None:
        raise NotConfigured("there is nothing to read: standard input is closed")
    return stdin


def is_piped(fd: int = 0) -> bool:
    """Return whether standard input is a pipe, a file or a socket, and not a terminal, /dev/null or closed."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    # Python opens /dev/null in place of a standard input that was closed before it started.
    return sys.stdin is not None and (stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode))


async def read_all(limit: int = LONGEST_INPUT, *, fd: int = 0) -> str:
    """Read standard input until it ends. On a terminal, a line on stderr after a second says what is waited for.

    Raises:
      NotConfigured: standard input is closed.
      InvalidData: it has more than *limit* bytes, or is no text.

    Cancellation: what was read is lost.
    """
    read_stdin()
    content = bytearray()
    async with progress("Reading standard input"):
        while chunk := await _read_chunk(fd):
            content += chunk
            if len(content) > limit:
                raise InvalidData([Problem("$", f"more than {limit} bytes")], source="standard input")
    return _text(bytes(content))


def _text(content: bytes) -> str:
    """Decode *content*: UTF-8, or UTF-16 behind its byte order mark, as Windows writes it."""
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    text = content.decode(encoding, errors="replace")
    if "\0" in text:
        # Text of another encoding loses some letters; a picture or an archive would be sent as pages of noise.
        raise InvalidData([Problem("$", "no text: it holds a NUL")], source="standard input")
    return text


class StdinLines:
    """The lines of a file descriptor, by default standard input.

    A terminal delivers complete lines: it does the editing, and nothing is read before Enter. trio waits for the
    descriptor, so no thread is left behind that would take the next line.
    """

    def __init__(self, fd: int = 0) -> None:
        self._fd = fd
        self._buffer = bytearray()
        self._ended = False

    async def next_line(self) -> str | None:
        """Return the next line without its end; None when there are no more.

        Raises:
          InvalidData: it is longer than a megabyte.

        Cancellation: nothing that was read is lost.
        """
        await trio.lowlevel.checkpoint()
        while b"\n" not in self._buffer and not self._ended:
            chunk = await _read_chunk(self._fd)
            self._ended = not chunk
            self._buffer += chunk
            if len(self._buffer) > LONGEST_LINE + _CHUNK:
                raise InvalidData([Problem("$", f"a line of more than {LONGEST_LINE} bytes")], source="standard input")
        if not self._buffer:
            return None
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        return line.decode(errors="replace").removesuffix("\r")

    def forget(self) -> None:
        """Drop what was read but not yet returned, such as the rest of a paste that Ctrl-C interrupted."""
        self._buffer.clear()


async def _read_chunk(fd: int) -> bytes:
    """Return the next bytes of *fd*; empty at its end.

    Cancellation: nothing is read.
    """
    if os.name != "posix":
        return await trio.to_thread.run_sync(os.read, fd, _CHUNK, abandon_on_cancel=True)
    try:
        await trio.lowlevel.wait_readable(fd)
    except PermissionError:
        # epoll does not support regular files; reading them never waits.
        await trio.lowlevel.checkpoint()
    return os.read(fd, _CHUNK)
