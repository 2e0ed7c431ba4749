"""Log records on stderr, safe for a terminal like everything else that the command line prints."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from clawft_trio.cli.output import write_line
from clawft_trio.observe import redact_secrets


class _SafeStream:
    """Stderr for log records; without it Python writes them as they are."""

    def write(self, text: str) -> None:
        write_line(redact_secrets(text.removesuffix("\n")), error=True)

    def flush(self) -> None:
        """Do nothing; `write` has flushed."""


@contextmanager
def logs_on_terminal() -> Iterator[None]:
    """Write warnings and errors of all loggers to stderr, unless the program has handlers of its own."""
    root, handler = logging.getLogger(), logging.StreamHandler(_SafeStream())
    handler.setLevel(logging.WARNING)
    if root.handlers:
        yield
        return
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
