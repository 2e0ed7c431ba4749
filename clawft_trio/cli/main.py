"""The entry point: finds the commands, and turns what goes wrong into words and an exit code.

Exit codes: 0 done, 1 there is no answer or something was found to be wrong, 2 something is wrong with the command, its
configuration or its keys, 130 interrupted, 143 terminated. Nobody who uses the program sees a traceback; set
`CLAWFT_TRACEBACK=1` to see them all the same.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from clawft_trio.cli.errors import explain, say
from clawft_trio.errors import ClawftError, InvalidData, NotConfigured, Refused, Unsupported
from clawft_trio.nursery import leaves

FAILED, WRONG, INTERRUPTED = 1, 2, 130


def main() -> NoReturn:
    """Run the command line and exit."""
    _outlive_early_questions()
    _speak_any_encoding()
    try:
        _run()
    except BaseException as exc:  # noqa: ASYNC103 - outside of any trio run
        if isinstance(exc, SystemExit) or os.environ.get("CLAWFT_TRACEBACK"):
            raise
        # Somebody who presses Ctrl-C twice means it once, and is about to be told.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit(_told(exc))
    sys.exit(0)


def _outlive_early_questions() -> None:
    """`kill -USR1` before anybody can answer it has no answer; by default it would end the program."""
    number = getattr(signal, "SIGUSR1", None)
    if number is not None:
        signal.signal(number, signal.SIG_IGN)


def _speak_any_encoding() -> None:
    """A terminal that knows no `✓` gets a `?`, and where nobody listens nothing is said: neither is a traceback."""
    for name in ("stdout", "stderr"):
        # Python has none when it was started with the descriptor closed (`>&-`).
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for as long as the process lives
        reconfigure = getattr(getattr(sys, name), "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def _run() -> None:
    try:
        # In here, so that Ctrl-C while modules load ends like Ctrl-C at any other time.
        from clawft_trio.cli.commands import app  # noqa: PLC0415  # typer and rich are an extra
    except ImportError as exc:
        if exc.name not in {"typer", "rich"}:
            raise
        say("The command line needs typer and rich: pip install 'clawft-trio[cli]'")
        sys.exit(WRONG)
    app()


def _told(exc: BaseException) -> int:
    """Say what went wrong; the exit code that goes with it."""
    found = leaves(exc)
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in found):
        say("Interrupted.")
        return INTERRUPTED
    for leaf in found:
        if not isinstance(leaf, ClawftError | OSError | ValueError):
            raise exc
    for leaf in found:
        explain(leaf)
    wrong = all(
        isinstance(leaf, InvalidData | NotConfigured | Refused | Unsupported | OSError | ValueError) for leaf in found
    )
    return WRONG if wrong else FAILED
