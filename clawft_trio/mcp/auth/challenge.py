"""Parses `WWW-Authenticate` challenges (RFC 9110, 11.6.1) without trusting their length or grammar."""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

MAX_HEADER = 8192
"""Characters of the header that are read."""

_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# A scheme is a token that is not followed by `=`; a parameter is `name=token` or `name="quoted"`.
_PART = re.compile(
    rf'\s*,?\s*(?:(?P<name>{_WORD})\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*+)"|(?P<plain>{_WORD}))'
    rf"|(?P<scheme>{_WORD})(?=\s|,|\Z)|(?P<other>[^\s,]+))",
    re.DOTALL,
)


@attrs.frozen
class Challenge:
    """One challenge: its scheme in lower case, and its parameters by names in lower case."""

    scheme: str
    params: Mapping[str, str]

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes in the parameter `scope`."""
        return tuple(self.params.get("scope", "").split())


def parse_challenges(header: str) -> list[Challenge]:
    """Return the challenges of a `WWW-Authenticate` header in order; invalid parts are skipped."""
    found: list[tuple[str, dict[str, str]]] = []
    text = header[:MAX_HEADER]
    position = 0
    while position < len(text) and (part := _PART.match(text, position)):
        position = part.end()
        if part["scheme"]:
            found.append((part["scheme"].lower(), {}))
        elif part["name"] and found:
            value = part["plain"] if part["quoted"] is None else re.sub(r"\\(.)", r"\1", part["quoted"])
            found[-1][1].setdefault(part["name"].lower(), value)
    return [Challenge(scheme, params) for scheme, params in found]


def bearer_challenge(header: str) -> Challenge | None:
    """Return the first `Bearer` challenge of the header, or None."""
    return next((one for one in parse_challenges(header) if one.scheme == "bearer"), None)
