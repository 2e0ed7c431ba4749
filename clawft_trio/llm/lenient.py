"""A second, lenient reading of one JSON event that the typed decoder refused.

The typed decoders of the dialects are fast and strict. What they refuse is decoded again here into plain objects: lone
surrogates, numbers out of range and fields of unexpected types are no errors. The caller then takes what it uses,
strictly, and ignores the types of what it does not use.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that it cannot decode."""


class NotDecodable(ValueError):
    """The bytes are not JSON, or a field that is used has a type that it cannot have."""


def decode(data: bytes) -> Any:
    """Decode JSON; unpaired surrogates stay in the strings, `NaN` and the infinities become None.

    Raises:
      NotDecodable: it is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(data, strict=False, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as exc:
        raise NotDecodable(str(exc)) from exc


def is_json(data: bytes) -> bool:
    """Whether *data* is a JSON value."""
    try:
        decode(data)
    except NotDecodable:
        return False
    return True


def decode_object(data: bytes) -> dict[str, Any]:
    """Decode a JSON object; one in a list of one counts (Google sends its errors so).

    Raises:
      NotDecodable: it is something else.
    """
    value = decode(data)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        raise NotDecodable(f"expected an object, got {type(value).__name__}")
    return value


def decode_scrubbed(data: bytes) -> dict[str, Any]:
    """Decode a JSON object, every unpaired surrogate replaced by U+FFFD.

    Raises:
      NotDecodable: it is something else.
    """
    value = decode_object(data)
    # A surrogate stands in the bytes as an escape, or as the bytes that UTF-8 does not allow for it.
    return scrubbed(value) if b"\\u" in data or b"\xed" in data else value


def scrubbed(value: Any) -> Any:
    """*value* with every unpaired surrogate replaced by U+FFFD, so that it can be encoded again.

    Raises:
      NotDecodable: it is nested too deeply.
    """
    try:
        return _scrubbed(value)
    except RecursionError as exc:
        raise NotDecodable("nested too deeply") from exc


def _scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_scrubbed(item) for item in value]
    if isinstance(value, dict):
        return {_scrubbed(name): _scrubbed(item) for name, item in value.items()}
    return value


class SurrogateJoiner:
    """Joins surrogate pairs that were split over two deltas.

    The first half is held back until the next text of the same key; an unpaired half becomes U+FFFD.
    """

    __slots__ = ("held",)

    def __init__(self) -> None:
        #: first halves, by key; empty nearly always
        self.held: dict[object, str] = {}

    def join(self, key: object, text: str) -> str:
        """*text* behind what was kept back for *key*."""
        text = self.held.pop(key, "") + text
        if text and "\ud800" <= text[-1] <= "\udbff":
            self.held[key] = text[-1]
            text = text[:-1]
        return _scrubbed(text)  # type: ignore[no-any-return]

    def rest(self, key: object) -> str:
        """What is left for *key* at the end: U+FFFD for a half without its other half, or nothing."""
        return "\ufffd" if self.held.pop(key, "") else ""


def as_index(value: Any) -> int | None:
    """A position, also as `"0"` or `0.0`; None for everything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return int(value) if value.isdecimal() and len(value) < 10 else None
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 1e9 else None
    return value if isinstance(value, int) else None


def as_text(value: Any, *, of: str) -> str | None:
    """A text that is used, or None where there is none.

    Raises:
      NotDecodable: it is neither.
    """
    if value is None or isinstance(value, str):
        return value
    raise NotDecodable(f"{of} is of the type {type(value).__name__}")


def as_object(value: Any, *, of: str) -> dict[str, Any]:
    """An object that is used; empty where there is none.

    Raises:
      NotDecodable: it is neither.
    """
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    raise NotDecodable(f"{of} is of the type {type(value).__name__}")


def as_objects(value: Any, *, of: str) -> list[dict[str, Any]]:
    """A list of objects that are used, without the nulls in it; one object alone counts as a list of one.

    Raises:
      NotDecodable: it is neither.
    """
    if isinstance(value, dict):
        return [value]
    return [as_object(item, of=of) for item in as_list(value, of=of) if item is not None]


def as_list(value: Any, *, of: str) -> list[Any]:
    """A list that is used; empty where there is none.

    Raises:
      NotDecodable: it is something else.
    """
    if value is None:
        return []
    if not isinstance(value, list):
        raise NotDecodable(f"{of} is of the type {type(value).__name__}")
    return value


_TEXT_FIELDS = ("text", "content", "thinking", "summary", "reasoning", "reasoning_content")


def any_text(value: Any, depth: int = 4) -> str:
    """The text in a value that is only shown: a string, an object with a field for its text, or a list of those."""
    if isinstance(value, str):
        return value
    if depth and isinstance(value, list):
        return "".join(any_text(item, depth - 1) for item in value)
    if depth and isinstance(value, Mapping):
        return next(filter(None, (any_text(value.get(name), depth - 1) for name in _TEXT_FIELDS)), "")
    return ""
