"""Makes everything that the command line prints safe for a terminal.

Text of models, MCP servers, senders, files and stores may control a terminal or deceive its reader: escape sequences,
bidirectional overrides, characters without a width. No other file of `cli/` writes to a stream.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
from typing import IO

from clawft_trio.cli.words import ENCODING_ERRORS, register_ascii_words
from clawft_trio.codec import encode_json

register_ascii_words()

_BIDI_CONTROLS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Characters that reorder text: `exe.txt` may be `txt.exe`. Arabic and Hebrew text does not need them."""

_INVISIBLE = (0x00AD, 0x180E, 0x200B, *range(0x2060, 0x2065), 0xFEFF, *range(0xFFF9, 0xFFFC), *range(0xE0000, 0xE01F0))
"""Characters without a width or glyph: names that look equal may differ. The joiners of emoji are not included."""

_LINE_ENDS = (0x2028, 0x2029)
_SURROGATES = range(0xD800, 0xE000)

_PICTURES: dict[int, int | str] = {
    # Control characters become their pictures. Those above 127 have none.
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"},
    0x7F: 0x2421,
    **dict.fromkeys(
        (*range(0x80, 0xA0), *_BIDI_CONTROLS, *_INVISIBLE, *_LINE_ENDS, *_SURROGATES), "\N{REPLACEMENT CHARACTER}"
    ),
}

_PILED = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f\u200c\u200d]{9,}"
)
"""Combining marks, variation selectors and joiners: text of a language has up to three of them in a row."""

_UNSAFE_IN_JSON = re.compile(
    f"[{''.join(re.escape(chr(code)) for code in _PICTURES if code >= 0x7F and code not in _SURROGATES)}]"
)

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", *"\uff1d\uff0b\uff0d\uff20")
"""First characters of a cell that a spreadsheet evaluates; the last four are the wide forms of the signs."""


def sanitize(text: str) -> str:
    """Return *text* without characters that control a terminal or are hidden.

    Line ends and tabs stay; other control characters become their pictures (␛), and C1 controls, bidirectional
    overrides, invisible characters and lone surrogates become U+FFFD. So do the rest of more than eight combining marks
    in a row, which would be drawn over other lines.
    """
    return _PILED.sub(_cut_pile, text.replace("\r\n", "\n").translate(_PICTURES))


def _cut_pile(found: re.Match[str]) -> str:
    return f"{found[0][:8]}\N{REPLACEMENT CHARACTER}"


def write_line(text: str, *, error: bool = False) -> None:
    """Print *text* and a line end on stdout, or on stderr; on a terminal, lines are broken between words."""
    stream = sys.stderr if error else sys.stdout
    # Made encodable first, because a word in place of a symbol is longer.
    safe = _encodable(sanitize(text), stream)
    _write(stream, (_wrapped(safe, terminal_width(stream)) if stream.isatty() else safe) + "\n")


def write_verbatim(text: str) -> None:
    """Print *text* and a line end on stdout without breaking lines: code, or the result of a tool."""
    _write(sys.stdout, f"{sanitize(text)}\n")


def terminal_width(stream: IO[str]) -> int:
    """Return the columns of the terminal behind *stream*; the variable COLUMNS has precedence."""
    given = os.environ.get("COLUMNS", "")
    try:
        return int(given) if given.isdecimal() and int(given) else os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _wrapped(text: str, width: int) -> str:
    """Return *text* with no line wider than *width* except for long words; continued lines are indented."""
    return "\n".join(line if len(line) <= width else "\n".join(_broken(line, width)) for line in text.split("\n"))


def _broken(line: str, width: int) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip(" ")) + 2)
    return textwrap.wrap(line, max(width, 20), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def write_answer(text: str, stream: IO[str] | None = None) -> None:
    """Print text of a model: unchanged into a pipe or a file, where programs read it, and made safe for a terminal."""
    out = sys.stdout if stream is None else stream
    _write(out, sanitize(text) if out.isatty() else text)


def write_json(value: object) -> None:
    """Print *value* as one line of JSON. Unsafe characters are escaped, so that a program reads them unchanged."""
    text = encode_json(value).decode()
    _write(sys.stdout, _PILED.sub(_escaped, _UNSAFE_IN_JSON.sub(_escaped, text)) + "\n")


def write_status(text: str) -> None:
    """Print *text* on stderr without a line end, over the current line."""
    _write(sys.stderr, f"\r\x1b[K{sanitize(text)}")


def csv_cell(text: str) -> str:
    """Return *text* as a CSV cell that no spreadsheet treats as a formula, by an apostrophe before it."""
    return f"'{sanitize(text)}" if text.startswith(_FORMULA) else sanitize(text)


def _escaped(found: re.Match[str]) -> str:
    # JSON escapes code units of UTF-16.
    units = found[0].encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _write(stream: IO[str], text: str) -> None:
    stream.write(_encodable(text, stream))
    stream.flush()


def _encodable(text: str, stream: IO[str]) -> str:
    """Return *text* with words for characters that *stream* cannot encode, lone surrogates included."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, ENCODING_ERRORS).decode(encoding)
