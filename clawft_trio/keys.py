"""Keys of sessions, accounts and rows, made from names that come from outside."""

from __future__ import annotations

import hashlib
import re

from clawft_trio.errors import InvalidData, Problem

MAX_NAMES = 1024 * 1024
"""Characters of all names of one message. Every step of its turn makes keys of them, at 2 ms for a million."""


def check_names(source: str, **names: str) -> None:
    """Check the names of one message or question.

    Raises:
      TypeError: a name is not a text.
      InvalidData: they are longer than `MAX_NAMES` together.
    """
    length = 0
    for field, name in names.items():
        if not isinstance(name, str):
            raise TypeError(f"'{field}' must be of type str: {name!r:.200}")
        length += len(name)
    if length > MAX_NAMES:
        longest = max(names, key=lambda field: len(names[field]))
        raise InvalidData(
            [Problem(f"$.{longest}", f"all names have {length} characters together, over {MAX_NAMES}")], source=source
        )


def joined_key(*parts: str) -> str:
    """Join *parts* to one key; different parts never give the same key.

    Colons separate the parts. In all parts but the last, `:` and `%` are escaped; in all parts, characters that a
    database cannot store (NUL, lone surrogates). Of a part longer than 500 bytes the key has the beginning and a
    hash, because keys are compared and indexed often.
    """
    *first, last = parts
    # Most last parts stay unchanged; one that looks like an escaped one is escaped, too.
    return ":".join([*map(_escaped, first), last if _is_plain(last) else _escaped(last)])


def _is_plain(part: str) -> bool:
    return len(part) <= _LONGEST and _NEEDS_ESCAPE.search(part) is None and _fits(part, _LONGEST)


_NEEDS_ESCAPE = re.compile("[\0\ud800-\udfff]|%[0-9A-F]{2}")
_ESCAPED = re.compile("[%:\0\ud800-\udfff]")


def storable_key(text: str) -> str:
    """Return *text* with the characters escaped that a database cannot store (NUL, lone surrogates).

    Of a text longer than 1100 bytes the key has the beginning and a hash. A key is its own key.
    """
    return _limited(text, _NOT_STORABLE, _LONGEST_WHOLE)


def storable_text(text: str) -> str:
    """Return *text* with the characters replaced that a database cannot store (NUL, lone surrogates)."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")


# PostgreSQL indexes at most 2704 bytes: a turn of three parts and a tool call, or a session and a tool call.
_LONGEST = 500
_LONGEST_WHOLE = 1100

_HEAD = 100
"""Number of characters of a long text that are in its key."""

# No other key has it: escapes are those of NUL, `%`, `:` and surrogates.
_CUT = "%FF"


def _fits(text: str, limit: int) -> bool:
    return len(text) <= limit and (text.isascii() or len(text.encode()) <= limit)


def _escaped(part: str) -> str:
    return _limited(part, _ESCAPED, _LONGEST)


def _limited(text: str, escaped: re.Pattern[str], limit: int) -> str:
    # A search through a megabyte takes 8 ms, and a message has several keys.
    key = escaped.sub(_code, text) if len(text) <= limit else text
    return key if _fits(key, limit) else escaped.sub(_code, text[:_HEAD]) + _hash_of(text)


def _hash_of(text: str) -> str:
    return _CUT + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _code(found: re.Match[str]) -> str:
    return f"%{ord(found[0]):02X}"
