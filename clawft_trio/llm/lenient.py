"""Lenient decoding of one JSON event that the typed decoder refused.

The typed decoders of the dialects are fast and strict. What they refuse is decoded again here into plain objects: lone
surrogates, numbers out of range and fields of unexpected types are not errors. The caller then checks the types of the
fields that it uses and ignores the types of the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Exceptions of msgspec for bytes that it cannot decode."""


# Made once: `json.loads` makes one for each call with options, which takes longer than decoding an event.
_DECODER = json.JSONDecoder(strict=False, parse_constant=lambda _: None)


class NotDecodable(ValueError):
    """The bytes are not JSON, or a field that is used has an impossible type."""


def decode(data: bytes) -> Any:
    """Decode JSON; unpaired surrogates stay in the strings, `NaN` and the infinities become None.

    Raises:
      NotDecodable: *data* is not JSON, or is nested too deeply.
    """
    try:
        return _DECODER.decode(data.decode(json.detect_encoding(data), "surrogatepass"))
    except (ValueError, RecursionError) as exc:
        raise NotDecodable(str(exc)) from exc


def is_heartbeat(data: bytes, named: str) -> bool:
    """Return whether an event only shows that the server is alive: it is no object, and empty or named so."""
    if named in _HEARTBEATS and not data.startswith(b"{"):
        return True
    return data in _EMPTY


_HEARTBEATS = frozenset({"ping", "keepalive", "keep-alive", "keep_alive", "heartbeat"})
_EMPTY = frozenset({b"", b"null", b"[]", b'""', b"false", b"0"})


def is_stated(error: Any) -> bool:
    """Return whether the field *error* reports anything: some servers always have it, with empty fields inside."""
    if isinstance(error, dict):
        return any(map(is_stated, error.values()))
    return any(map(is_stated, error)) if isinstance(error, list) else bool(error)


def is_json(data: bytes) -> bool:
    """Return whether *data* is a JSON value."""
    try:
        decode(data)
    except NotDecodable:
        return False
    return True


def documents(data: bytes) -> list[bytes]:
    """Return the JSON objects in the data of one event, as many servers put several events in one.

    Some servers end an event with one newline in place of two; some put `data:` in front of data that already has it.
    Any other data is returned unchanged.
    """
    if b"\n" not in data and not data.startswith(b"data:"):
        return [data]
    lines = [line.strip() for line in data.split(b"\n")]
    found = [line.removeprefix(b"data:").lstrip() for line in lines if line not in (b"", b"data:")]
    if found != [data] and all(line == b"[DONE]" or (line[:1] == b"{" and is_json(line)) for line in found):
        return found or [b""]
    return [data]


def decode_object(data: bytes) -> dict[str, Any]:
    """Decode a JSON object, or the object in a list with one element (Google sends errors in this form).

    Raises:
      NotDecodable: *data* is something else.
    """
    value = decode(data)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        raise NotDecodable(f"expected an object, got {type(value).__name__}")
    return value


def decode_scrubbed(data: bytes) -> dict[str, Any]:
    """Decode a JSON object and replace every unpaired surrogate by U+FFFD.

    Raises:
      NotDecodable: *data* is something else.
    """
    value = decode_object(data)
    # A surrogate is either escaped in the bytes, or encoded as bytes that UTF-8 does not allow.
    return scrubbed(value) if b"\\u" in data or b"\xed" in data else value


def scrubbed(value: Any) -> Any:
    """Return *value* with every unpaired surrogate replaced by U+FFFD, so that it can be encoded again.

    Raises:
      NotDecodable: *value* is nested too deeply.
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
    """Joins surrogate pairs that were split between two deltas.

    A trailing first half is held until the next text of the same key; an unpaired half becomes U+FFFD.
    """

    __slots__ = ("held",)

    def __init__(self) -> None:
        #: first halves by key; nearly always empty
        self.held: dict[object, str] = {}

    def join(self, key: object, text: str) -> str:
        """Return *text*, preceded by the half that was held for *key*, without a trailing first half."""
        text = self.held.pop(key, "") + text
        if text and "\ud800" <= text[-1] <= "\udbff":
            self.held[key] = text[-1]
            text = text[:-1]
        return _scrubbed(text)  # type: ignore[no-any-return]

    def rest(self, key: object) -> str:
        """Return what is held for *key* at the end: U+FFFD for a half without its other half, or an empty string."""
        return "\ufffd" if self.held.pop(key, "") else ""


def as_index(value: Any) -> int | None:
    """Return a position, which may be given as `"0"` or `0.0`; None for any other value."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return int(value) if value.isdecimal() and len(value) < 10 else None
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 1e9 else None
    return value if isinstance(value, int) else None


def as_text(value: Any, *, of: str) -> str | None:
    """Return the string in a field that is used, or None when the field is missing.

    Raises:
      NotDecodable: *value* is of another type.
    """
    if isinstance(value, str):
        return value
    if value is None or value in ([], {}):
        return None
    raise NotDecodable(f"{of} is of the type {type(value).__name__}")


def as_object(value: Any, *, of: str) -> dict[str, Any]:
    """Return the object in a field that is used; empty when the field is missing.

    Raises:
      NotDecodable: *value* is of another type.
    """
    if isinstance(value, dict):
        return value
    if not value:
        return {}
    raise NotDecodable(f"{of} is of the type {type(value).__name__}")


def as_objects(value: Any, *, of: str) -> list[dict[str, Any]]:
    """Return the objects in a field that is used, without nulls; a single object counts as a list of one.

    Falsy values of another type (`""`, `false`, 0) count as missing.

    Raises:
      NotDecodable: *value* is of another type.
    """
    if isinstance(value, dict):
        return [value]
    return [as_object(item, of=of) for item in as_list(value, of=of) if item is not None]


def as_list(value: Any, *, of: str) -> list[Any]:
    """Return the list in a field that is used; empty when the field is missing.

    Raises:
      NotDecodable: *value* is of another type.
    """
    if not value:
        return []
    if not isinstance(value, list):
        raise NotDecodable(f"{of} is of the type {type(value).__name__}")
    return value


_TEXT_FIELDS = ("text", "content", "thinking", "summary", "reasoning", "reasoning_content")


def any_text(value: Any, depth: int = 4) -> str:
    """Return the text in a value that is only displayed: a string, an object with a text field, or a list of those."""
    if isinstance(value, str):
        return value
    if depth and isinstance(value, list):
        return "".join(any_text(item, depth - 1) for item in value)
    if depth and isinstance(value, Mapping):
        return next(filter(None, (any_text(value.get(name), depth - 1) for name in _TEXT_FIELDS)), "")
    return ""
