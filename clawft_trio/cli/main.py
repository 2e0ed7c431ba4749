"""The entry point: runs a command, and converts an error to a message and an exit code.

Exit codes: 0 success, 1 there is no answer or a check found a problem, 2 the command, its configuration or its keys are
wrong, 130 interrupted, 143 terminated. A traceback is printed only if `CLAWFT_TRACEBACK=1` is set.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from clawft_trio.cli.errors import explain, say
from clawft_trio.cli.output import terminal_width
from clawft_trio.cli.words import ENCODING_ERRORS, register_ascii_words
from clawft_trio.errors import ClawftError, InvalidData, NotConfigured, Refused, Unsupported
from clawft_trio.nursery import leaves

FAILED, WRONG, INTERRUPTED = 1, 2, 130


def main() -> NoReturn:
    """Run the command line and exit."""
    _ignore_early_sigusr1()
    _write_any_encoding()
    _fit_plain_terminals()
    try:
        _run()
    except BaseException as exc:  # noqa: ASYNC103 - outside of any trio run
        if isinstance(exc, SystemExit) or os.environ.get("CLAWFT_TRACEBACK"):
            raise
        # A second Ctrl-C must not interrupt the message about the first.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit(_report(exc))
    sys.exit(0)


def _ignore_early_sigusr1() -> None:
    """Ignore SIGUSR1 until its handler is there; by default it would end the program."""
    number = getattr(signal, "SIGUSR1", None)
    if number is not None:
        signal.signal(number, signal.SIG_IGN)


def _write_any_encoding() -> None:
    """Write words for symbols that a terminal's encoding lacks, and discard output to a closed stream."""
    register_ascii_words()
    for name in ("stdout", "stderr"):
        # Python has none when it was started with the descriptor closed (`>&-`).
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for as long as the process lives
        reconfigure = getattr(getattr(sys, name), "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=ENCODING_ERRORS)


def _fit_plain_terminals() -> None:
    """Write words for symbols in the locale C, and lines as wide as the terminal if that is `dumb`.

    Python treats the locale C as UTF-8, and rich assumes 80 columns for a dumb terminal unless both variables are set.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not stream.isatty() or not hasattr(stream, "reconfigure"):
            continue
        if os.environ.get("TERM") in {"dumb", "unknown"}:
            os.environ.setdefault("COLUMNS", str(terminal_width(stream)))
            os.environ.setdefault("LINES", "24")
        if _wants_ascii(os.environ):
            stream.reconfigure(encoding="ascii")


def _wants_ascii(environ: Mapping[str, str]) -> bool:
    """Return whether the locale is C by name. If none is set, as in most containers, terminals show UTF-8."""
    if environ.get("PYTHONIOENCODING") or environ.get("PYTHONUTF8"):
        return False
    # Python itself sets LC_CTYPE to this when LANG is C.
    own = environ.get("LC_CTYPE", "")
    locale = environ.get("LC_ALL") or (own if own != "C.UTF-8" else "") or environ.get("LANG", "")
    return locale in {"C", "POSIX"}


def _run() -> None:
    try:
        # Imported here, so that Ctrl-C while modules load is handled like Ctrl-C at any other time.
        from clawft_trio.cli.commands import app  # noqa: PLC0415  # typer and rich are an extra
    except ImportError as exc:
        if exc.name not in {"typer", "rich"}:
            raise
        say("The command line needs typer and rich: pip install 'clawft-trio[cli]'")
        sys.exit(WRONG)
    app()


def _report(exc: BaseException) -> int:
    """Print the problem on stderr, and return its exit code."""
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
