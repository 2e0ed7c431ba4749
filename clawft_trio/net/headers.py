"""Headers whose values may be changing secrets: evaluated per request, checked, never in logs or errors."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from clawft_trio.errors import NotConfigured

HeaderValue: TypeAlias = str | Callable[[], str | Awaitable[str]]
"""A header's value, or a sync or async callable that returns it before every request."""

# RFC 9110, 5.5: printable ASCII, with blanks and tabs inside only.
_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")


def bearer(key: HeaderValue) -> HeaderValue:
    """Return the value of an `Authorization` header: `Bearer` and *key*."""

    async def value() -> str:
        return f"Bearer {await _value_of(key)}"

    return value


async def look_up(*layers: Mapping[str, HeaderValue]) -> dict[str, str]:
    """Return the headers of one request, with names in lower case; later layers override earlier ones.

    Raises:
      NotConfigured: a value is not valid in a header. The message has the header's name but not its value.

    Cancellation: nothing was sent.
    """
    chosen = {name.lower(): value for layer in layers for name, value in layer.items()}
    return {name: _checked(name, await _value_of(value)) for name, value in chosen.items()}


async def _value_of(value: HeaderValue) -> str:
    made = value() if callable(value) else value
    return made if isinstance(made, str) else await made


def _checked(name: str, value: str) -> str:
    # The HTTP library's error would quote the value, which may be a key.
    if value and not _VALUE.fullmatch(value):
        raise NotConfigured(f"the value of the header {name!r} has characters that no header may have")
    return value
