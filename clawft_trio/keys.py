"""Keys of sessions, accounts and rows, made from names that come from outside."""

from __future__ import annotations

import re


def joined_key(*parts: str) -> str:
    """Join *parts* to one key; different parts never give the same key.

    Colons separate the parts. In all parts but the last, `:` and `%` are escaped; in all parts, characters that a
    database cannot store (NUL, lone surrogates).
    """
    *first, last = parts
    # Most last parts stay unchanged; one that looks like an escaped one is escaped, too.
    return ":".join([*map(_escaped, first), _escaped(last) if _NEEDS_ESCAPE.search(last) else last])


_NEEDS_ESCAPE = re.compile("[\0\ud800-\udfff]|%[0-9A-F]{2}")
_ESCAPED = re.compile("[%:\0\ud800-\udfff]")


def storable_key(text: str) -> str:
    """Return *text* with the characters escaped that a database cannot store (NUL, lone surrogates)."""
    return _NOT_STORABLE.sub(_code, text)


def storable_text(text: str) -> str:
    """Return *text* with the characters replaced that a database cannot store (NUL, lone surrogates)."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")


def _escaped(part: str) -> str:
    return _ESCAPED.sub(_code, part)


def _code(found: re.Match[str]) -> str:
    return f"%{ord(found[0]):02X}"
