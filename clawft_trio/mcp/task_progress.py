"""Progress of tasks: reports that arrive after the response to the request that started the task."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from clawft_trio.mcp.messages import OnProgress, Progress

_log = logging.getLogger("clawft_trio.mcp")


class TaskProgress:
    """Passes progress reports of tasks to their callers, by tokens.

    The server responds to the request that starts a task long before the task ends, and with the response the token of
    the request itself expires.

    Args:
      server: name of the server, for the log.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._callbacks: dict[int | str, OnProgress] = {}
        self._last_token = 0

    @contextmanager
    def reported_to(self, on_progress: OnProgress) -> Iterator[str]:
        """Pass the reports with the yielded token to *on_progress*, inside the block."""
        self._last_token += 1
        token = f"task-{self._last_token}"
        self._callbacks[token] = on_progress
        try:
            yield token
        finally:
            del self._callbacks[token]

    def note(self, progress: Progress) -> None:
        """Handle a report that belongs to no pending call."""
        on_progress = self._callbacks.get(progress.progress_token)
        if on_progress is None:
            return
        try:
            on_progress(progress)
        except Exception:  # noqa: BLE001 - the caller's code; it must not end the connection
            _log.exception("a progress callback failed on a task of %s", self._server)
