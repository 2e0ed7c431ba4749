"""Log records on stderr, safe for a terminal like everything else that the command line prints."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from clawft_trio.cli.output import write_line
from clawft_trio.observe import redact_secrets


class _TerminalHandler(logging.Handler):
    """Writes warnings and errors as lines; without it Python writes them to stderr as they are."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            write_line(redact_secrets(self.format(record)), error=True)
        except Exception:  # noqa: BLE001 - as every handler: a record that cannot be formatted ends nothing
            self.handleError(record)


@contextmanager
def logs_on_terminal() -> Iterator[None]:
    """Write warnings and errors of all loggers to stderr, unless the program has handlers of its own."""
    root, handler = logging.getLogger(), _TerminalHandler(logging.WARNING)
    if root.handlers:
        yield
        return
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
