"""Keys of sessions, accounts and rows, made from names that come from outside."""

from __future__ import annotations

import hashlib
import re


def joined_key(*parts: str) -> str:
    """Join *parts* to one key; different parts never give the same key.

    Colons separate the parts. In all parts but the last, `:` and `%` are escaped; in all parts, characters that a
    database cannot store (NUL, lone surrogates). Of a part longer than 500 characters the key has the beginning and a
    hash, because keys are compared and indexed often.
    """
    *first, last = parts
    # Most last parts stay unchanged; one that looks like an escaped one is escaped, too.
    return ":".join([*map(_escaped, first), last if _is_plain(last) else _escaped(last)])


def _is_plain(part: str) -> bool:
    return len(part) <= _LONGEST and _NEEDS_ESCAPE.search(part) is None


_NEEDS_ESCAPE = re.compile("[\0\ud800-\udfff]|%[0-9A-F]{2}")
_ESCAPED = re.compile("[%:\0\ud800-\udfff]")


def storable_key(text: str) -> str:
    """Return *text* with the characters escaped that a database cannot store (NUL, lone surrogates)."""
    return _NOT_STORABLE.sub(_code, text)


def storable_text(text: str) -> str:
    """Return *text* with the characters replaced that a database cannot store (NUL, lone surrogates)."""
    return text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")


_LONGEST = 500

# No other key has it: escapes are those of NUL, `%`, `:` and surrogates.
_CUT = "%FF"


def _escaped(part: str) -> str:
    if len(part) <= _LONGEST:
        return _ESCAPED.sub(_code, part)
    digest = hashlib.sha256(part.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{_ESCAPED.sub(_code, part[:100])}{_CUT}{digest}"


def _code(found: re.Match[str]) -> str:
    return f"%{ord(found[0]):02X}"
