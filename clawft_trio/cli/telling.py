"""What went wrong, in words for whoever typed the command."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from clawft_trio.errors import ClawftError, InvalidData


def explain(exc: BaseException) -> None:
    """Say on stderr what *exc* means, attempts and all."""
    for line in lines_about(exc):
        say(line)


def lines_about(exc: BaseException) -> Iterator[str]:
    """What *exc* means, line by line."""
    if isinstance(exc, InvalidData):
        yield from (f"{exc.source}: {problem}" if exc.source else str(problem) for problem in exc.problems)
        return
    yield f"{type(exc).__name__}: {exc}"
    if isinstance(exc, ClawftError):
        for record in exc.attempts:
            why = record.error or record.why
            yield f"  {record.target}: {record.outcome} after {record.latency.total:.2f} s: {why}"
        if exc.retry_after is not None:
            yield f"  Worth trying again in {exc.retry_after:.0f} s."


def say(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr)
