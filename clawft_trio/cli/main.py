"""The entry point: finds the commands, and turns what goes wrong into words and an exit code.

Exit codes: 0 done, 1 there is no answer, 2 something is wrong with the command, its configuration or its keys,
130 interrupted, 143 terminated. Nobody who uses the program sees a traceback; set `CLAWFT_TRACEBACK=1` to see them all
the same.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from clawft_trio.errors import ClawftError, InvalidData, NotConfigured, Refused, Unsupported
from clawft_trio.nursery import leaves

FAILED, WRONG, INTERRUPTED = 1, 2, 130


def main() -> NoReturn:
    """Run the command line and exit."""
    try:
        _run()
    except BaseException as exc:  # noqa: ASYNC103 - outside of any trio run
        if isinstance(exc, SystemExit) or os.environ.get("CLAWFT_TRACEBACK"):
            raise
        sys.exit(_told(exc))
    sys.exit(0)


def _run() -> None:
    try:
        # In here, so that Ctrl-C while modules load ends like Ctrl-C at any other time.
        from clawft_trio.cli.commands import app  # noqa: PLC0415  # typer and rich are an extra
    except ImportError as exc:
        if exc.name not in {"typer", "rich"}:
            raise
        _say("The command line needs typer and rich: pip install 'clawft-trio[cli]'")
        sys.exit(WRONG)
    app()


def _told(exc: BaseException) -> int:
    """Say what went wrong; the exit code that goes with it."""
    found = leaves(exc)
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in found):
        _say("Interrupted.")
        return INTERRUPTED
    for leaf in found:
        if not isinstance(leaf, ClawftError | OSError | ValueError):
            raise exc
    for leaf in found:
        _explain(leaf)
    wrong = all(
        isinstance(leaf, InvalidData | NotConfigured | Refused | Unsupported | OSError | ValueError) for leaf in found
    )
    return WRONG if wrong else FAILED


def _explain(exc: BaseException) -> None:
    if isinstance(exc, InvalidData):
        for problem in exc.problems:
            _say(f"{exc.source}: {problem}" if exc.source else str(problem))
        return
    _say(f"{type(exc).__name__}: {exc}")
    if isinstance(exc, ClawftError):
        for record in exc.attempts:
            _say(
                f"  {record.target}: {record.outcome} after {record.latency.total:.2f} s: {record.error or record.why}"
            )
        if exc.retry_after is not None:
            _say(f"  Worth trying again in {exc.retry_after:.0f} s.")


def _say(text: str) -> None:
    print(text, file=sys.stderr)
