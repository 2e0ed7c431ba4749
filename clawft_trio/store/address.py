"""Addresses of PostgreSQL databases."""

from __future__ import annotations

import re
from pathlib import Path

_SECRET = re.compile(r"((?:password|options|passfile|sslkey)=)[^&\s]*", re.IGNORECASE)
_ADDRESSES = ("postgresql://", "postgres://")


def is_address(place: Path | str | None) -> bool:
    """Return whether *place* is the address of a PostgreSQL database."""
    return isinstance(place, str) and place.startswith(_ADDRESSES)


def unknown_scheme(place: Path | str | None) -> str:
    """Return the scheme of *place*, when it is another kind of address; empty for files and PostgreSQL."""
    found = (
        None if place is None or is_address(place) else re.match(r"([a-z][a-z0-9+.-]+)://", str(place), re.IGNORECASE)
    )
    return found.group(1) if found else ""


def shown(address: str) -> str:
    """Return *address* without its password, for errors and `repr`."""
    # A password may contain any of `:/?@`, although it should be encoded.
    place, mark, options = address.partition("?")
    if "@" in options and "@" not in place:
        place, mark, options = address, "", ""
    scheme, slashes, rest = place.partition("://")
    account, at, host = rest.rpartition("@")
    user, colon, _ = account.partition(":")
    return _SECRET.sub(r"\1…", f"{scheme}{slashes}{user}{colon and ':…'}{at}{host}{mark}{options}")
