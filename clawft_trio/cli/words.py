"""Words of the command line: plurals, and ASCII for terminals that know nothing else."""

from __future__ import annotations

import codecs

_ASCII = {
    "✓": "ok",
    "✗": "PROBLEM",
    "→": "->",
    "↻": "retry:",
    "↩": "<-",
    "⚙": "running",
    "■": "*",
    "…": "...",
    "·": "|",
    "━": "=",
    "─": "-",
    "\u2013": "-",
    "\u2014": "-",
    "\u00d7": "x",
    "\u201c": '"',
    "\u201d": '"',
    "\u2018": "'",
    "\u2019": "'",
}
"""What a terminal without these characters gets instead."""

ENCODING_ERRORS = "clawft_trio.words"
"""The name of the error handler that writes words in place of symbols; see `register_ascii_words`."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """*number* with its noun in the right number: `1 round`, `2 rounds`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def register_ascii_words() -> None:
    """Make `ENCODING_ERRORS` a handler for `open(errors=)` and `reconfigure(errors=)`."""
    codecs.register_error(ENCODING_ERRORS, _words)


def _words(exc: UnicodeError) -> tuple[str, int]:
    if not isinstance(exc, UnicodeEncodeError):
        raise exc
    text = "".join(_ASCII.get(character, "?") for character in exc.object[exc.start : exc.end])
    try:
        text.encode(exc.encoding)
    except UnicodeEncodeError:  # an encoding without ASCII: there is none in use as a terminal's
        text = "?" * (exc.end - exc.start)
    return text, exc.end
