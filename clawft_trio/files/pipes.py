"""Reads files that may be named pipes, within a time. Everything here blocks: call it in a thread."""

from __future__ import annotations

import errno
import io
import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import Any


class TimedFile(io.FileIO):
    """A file open for reading, whose reads fail when no data comes: a named pipe may have no writer.

    A thread that waits for data without bound would keep its place in trio's limit of threads until the program ends.

    Args:
      path: the file.
      wait: seconds that one read waits.
      poll: called before every read; an exception that it raises ends the reading.

    Raises:
      OSError: the file cannot be opened. Every read raises it when no data comes in time.
    """

    def __init__(self, path: str | Path, *, wait: float, poll: Callable[[], object] = lambda: None) -> None:
        super().__init__(path, opener=_opened)
        self._wait = wait
        self._poll = poll

    def readinto(self, buffer: Any, /) -> int | None:
        self._poll()
        if hasattr(select, "poll"):  # not on Windows, which has no named pipes among its files
            ready = select.poll()
            ready.register(self, select.POLLIN)
            if not ready.poll(self._wait * 1000):
                raise OSError(errno.ETIMEDOUT, f"no data for {self._wait:g} s", self.name)
        return super().readinto(buffer)


def _opened(name: str, flags: int) -> int:
    # Opening must not wait for a writer.
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
