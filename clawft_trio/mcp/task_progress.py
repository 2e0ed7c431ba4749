"""Progress of tasks: reports that arrive after the request that started the task was answered."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from clawft_trio.mcp.messages import OnProgress, Progress

_log = logging.getLogger("clawft_trio.mcp")


class TaskProgress:
    """Gives progress reports of tasks to their callers, by tokens.

    The request that starts a task is answered long before the task ends, and its own token with it.

    Args:
      server: its name, for the log.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._callbacks: dict[int | str, OnProgress] = {}
        self._last_token = 0

    @contextmanager
    def reported_to(self, on_progress: OnProgress) -> Iterator[str]:
        """Give *on_progress* the reports about the token that is yielded, inside the block."""
        self._last_token += 1
        token = f"task-{self._last_token}"
        self._callbacks[token] = on_progress
        try:
            yield token
        finally:
            del self._callbacks[token]

    def note(self, progress: Progress) -> None:
        """A report arrived that is of no pending call."""
        on_progress = self._callbacks.get(progress.progress_token)
        if on_progress is None:
            return
        try:
            on_progress(progress)
        except Exception:  # noqa: BLE001 - the caller's code; it must not end the connection
            _log.exception("a progress callback failed on a task of %s", self._server)
