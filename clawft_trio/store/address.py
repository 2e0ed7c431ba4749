"""Addresses of PostgreSQL databases."""

from __future__ import annotations

import re
from pathlib import Path

_SECRET = re.compile(r"(?<=:)[^:@/]*(?=@)|(?<=password=)[^&\s]*", re.IGNORECASE)
_ADDRESSES = ("postgresql://", "postgres://")


def is_address(place: Path | str | None) -> bool:
    """Whether *place* is the address of a PostgreSQL database."""
    return isinstance(place, str) and place.startswith(_ADDRESSES)


def shown(address: str) -> str:
    """*address* without its password, for errors and `repr`."""
    return _SECRET.sub("…", address)
