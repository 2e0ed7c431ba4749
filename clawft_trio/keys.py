"""Keys of sessions, accounts and rows, made of names from outside."""

from __future__ import annotations

import re


def joined_key(*parts: str) -> str:
    """Join *parts* to one key, so that different parts never give the same key.

    Parts are separated by colons. In all but the last, `:` and `%` are escaped; what a database cannot store (NUL,
    lone surrogates) is escaped in all.
    """
    *first, last = parts
    # Most last parts stay as they are; one that could be taken for an escaped one is escaped, too.
    return ":".join([*map(_escaped, first), _escaped(last) if _NEEDS_ESCAPE.search(last) else last])


_NEEDS_ESCAPE = re.compile("[\0\ud800-\udfff]|%[0-9A-F]{2}")
_ESCAPED = re.compile("[%:\0\ud800-\udfff]")


def storable_key(text: str) -> str:
    """A key with what a database cannot store (NUL, lone surrogates) escaped, and all else as it is."""
    return _NOT_STORABLE.sub(_code, text)


_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")


def _escaped(part: str) -> str:
    return _ESCAPED.sub(_code, part)


def _code(found: re.Match[str]) -> str:
    return f"%{ord(found[0]):02X}"
