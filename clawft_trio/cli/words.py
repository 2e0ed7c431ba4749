"""Words of the command line: plurals, and ASCII words for terminals that have no other characters."""

from __future__ import annotations

import codecs
import unicodedata

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
    "\u00b0": " deg ",
    "\u00b5": "u",
    "\u03bc": "u",
    "\u00b1": "+/-",
    "\u2264": "<=",
    "\u2265": ">=",
    "\u2022": "*",
    "\u20ac": "EUR",
    "\u00a3": "GBP",
    "\u00df": "ss",
    "\u00e6": "ae",
    "\u00c6": "AE",
    "\u0153": "oe",
    "\u00f8": "o",
    "\u00d8": "O",
    "\u0142": "l",
    "\u0141": "L",
    "\u0111": "d",
    "\u00a0": " ",
    "\u202f": " ",
}
"""Replacements for these characters on a terminal that does not have them."""

ENCODING_ERRORS = "clawft_trio.words"
"""Name of the error handler that writes words in place of symbols; see `register_ascii_words`."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return *number* with its noun in singular or plural: `1 round`, `2 rounds`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def register_ascii_words() -> None:
    """Register `ENCODING_ERRORS` as a handler for `open(errors=)` and `reconfigure(errors=)`."""
    codecs.register_error(ENCODING_ERRORS, _words)


def _words(exc: UnicodeError) -> tuple[str, int]:
    if not isinstance(exc, UnicodeEncodeError):
        raise exc
    text = "".join(map(_word_for, exc.object[exc.start : exc.end]))
    try:
        text.encode(exc.encoding)
    except UnicodeEncodeError:  # an encoding without ASCII: there is none in use as a terminal's
        text = "?" * (exc.end - exc.start)
    return text, exc.end


def _word_for(character: str) -> str:
    """Return ASCII for *character*: its word, the letter without accent, or a symbol's name; `?` for all others."""
    if character in _ASCII:
        return _ASCII[character]
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    if plain:
        return plain
    if unicodedata.category(character).startswith("S"):
        return f"[{unicodedata.name(character, 'symbol').lower()}]"
    return "?"
