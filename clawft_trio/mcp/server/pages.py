"""Pages of a sorted list. A cursor is the key of the last entry shown, so entries may change between pages."""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from collections.abc import Sequence
from typing import TypeVar

from clawft_trio.errors import PeerError
from clawft_trio.mcp.jsonrpc import INVALID_PARAMS

T = TypeVar("T")


def page_of(entries: Sequence[tuple[str, T]], cursor: str | None, size: int) -> tuple[list[T], str | None]:
    """Return the page of *entries*, sorted by key, after *cursor* (None: the first page), and the next cursor.

    Raises:
      PeerError: the cursor is invalid.
    """
    start = 0 if cursor is None else bisect_right(entries, _key_of(cursor), key=lambda entry: entry[0])
    shown = entries[start : start + size]
    more = start + size < len(entries)
    return [entry for _, entry in shown], _cursor_of(shown[-1][0]) if more else None


def _cursor_of(key: str) -> str:
    return base64.urlsafe_b64encode(b"k" + key.encode()).decode()


def _key_of(cursor: str) -> str:
    try:
        raw = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True)
        if raw[:1] != b"k":
            raise ValueError
        return raw[1:].decode()
    except (ValueError, binascii.Error) as exc:
        raise PeerError("invalid cursor", code=INVALID_PARAMS) from exc
