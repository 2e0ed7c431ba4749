"""Strict decoding of JSON and structured data from outside; errors give the place of every problem.

Wire formats and tool arguments are decoded by msgspec, which is fast and strict. Config and records are attrs
classes structured by cattrs; its default of coercing `7` to `"7"` is switched off.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import attrs
import cattrs
import msgspec
from cattrs.errors import (
    AttributeValidationNote,
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
)
from cattrs.v import format_exception

from clawft_trio.errors import InvalidData, Problem

T = TypeVar("T")

_encoder = msgspec.json.Encoder(enc_hook=str)
_decoder = msgspec.json.Decoder()
_skipper = msgspec.json.Decoder(msgspec.Raw)

_LARGE = 64 * 1024
"""Characters from which on a text is checked without building its values: 2 ms a MiB instead of 30."""

_STEP = 64 * 1024
"""Characters of base64 that are decoded in one step, which holds the interpreter; a multiple of four."""

_TOO_DEEP = (Problem("$", "nested too deeply"),)

_OBJECT_START = re.compile(r"[ \t\r\n]*\{")

_MOST_CHECKED = 16 * 1024 * 1024
"""Characters of a text that is checked at all: at most 35 ms."""


def encode_json(value: object) -> bytes:
    """Encode *value* as compact UTF-8 JSON. A value of a type that JSON lacks (Decimal, a path) becomes its `str`.

    A lone surrogate, which UTF-8 cannot encode, becomes U+FFFD.

    Raises:
      InvalidData: *value* is nested too deeply.
    """
    try:
        try:
            return _encoder.encode(value)
        except UnicodeEncodeError:
            return _encoder.encode(without_surrogates(_builtins(value)))
    except RecursionError as exc:
        raise InvalidData(_TOO_DEEP) from exc


def encode_losslessly(value: object) -> bytes:
    """Encode *value* like `encode_json`, but with its lone surrogates, as escapes that `decode_losslessly` reads.

    Raises:
      InvalidData: *value* is nested too deeply.
    """
    try:
        try:
            return _encoder.encode(value)
        except UnicodeEncodeError:
            return json.dumps(_builtins(value), separators=(",", ":")).encode()
    except RecursionError as exc:
        raise InvalidData(_TOO_DEEP) from exc


def _builtins(value: object) -> Any:
    return msgspec.to_builtins(value, enc_hook=str, str_keys=True)


def decode_losslessly(data: bytes | str, kind: type[T]) -> T:
    """Decode what `encode_losslessly` made of a value of *kind*.

    Raises:
      msgspec.DecodeError: *data* is not JSON, is nested too deeply, or is not a value of *kind*.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except RecursionError as exc:
        raise msgspec.DecodeError(str(exc)) from exc
    except msgspec.DecodeError:
        # msgspec refuses an escaped lone surrogate.
        with suppress(ValueError, RecursionError):
            return msgspec.convert(json.loads(data), type=kind)
        raise


def without_surrogates(value: Any) -> Any:
    """Return decoded JSON with every lone surrogate replaced by U+FFFD."""
    if isinstance(value, str):
        return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, Mapping):
        return {without_surrogates(key): without_surrogates(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_surrogates(one) for one in value]
    return value


_SURROGATE = re.compile("[\ud800-\udfff]")


def decode_json(data: bytes | str) -> Any:
    """Decode JSON.

    Raises:
      InvalidData: *data* is not JSON, or is nested too deeply.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidData([Problem("$", str(exc))]) from exc


def decode_base64(text: str, start: int = 0) -> bytes:
    """Decode *text* from the character *start* on, in steps of 64 KiB, between which other threads run.

    Raises:
      ValueError: it is not base64.
    """
    steps = [b64decode(text[at : at + _STEP], validate=True) for at in range(start, len(text), _STEP)]
    # Only the last step may end with padding.
    if any(len(step) % 3 for step in steps[:-1]):
        raise ValueError("there is text after the end of the base64")
    return b"".join(steps)


def is_json_object(text: str) -> bool:
    """Return whether *text* is exactly one complete JSON object; False for more than 16 MiB characters."""
    if len(text) > _MOST_CHECKED:
        return False
    try:
        if len(text) < _LARGE:
            return isinstance(_decoder.decode(text), dict)
        _skipper.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return _OBJECT_START.match(text) is not None


def make_converter() -> cattrs.Converter:
    """Make a cattrs converter that coerces no primitive and forbids unknown keys."""
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    for cls in (str, int, float, bool):
        converter.register_structure_hook(cls, _strict(cls))
    return converter


def _strict(cls: type) -> Callable[[Any, Any], Any]:
    # In Python a bool is an int, which it is not in JSON; in JSON an int is a float, which it is not in Python.
    allowed: tuple[type, ...] = (int, float) if cls is float else (cls,)

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, allowed) or (isinstance(value, bool) and cls is not bool):
            raise TypeError(f"expected {cls.__name__}, got {shown(value)}")
        return cls(value)

    return structure


def structure(data: Any, cls: type[T], *, converter: cattrs.Converter, source: str = "") -> T:
    """Convert decoded JSON to *cls*, an attrs class.

    Raises:
      InvalidData: *data* does not fit; with every problem and its place.
    """
    try:
        return converter.structure(data, cls)
    except (
        ClassValidationError,
        IterableValidationError,
        ForbiddenExtraKeysError,
        TypeError,
        ValueError,
    ) as exc:
        raise InvalidData(problems_in(exc), source=source) from exc


def problems_in(exc: BaseException, path: str = "$") -> list[Problem]:
    """Return the problems of a failed structuring, one for each leaf error, with its JSON path."""
    if isinstance(exc, ClassValidationError | IterableValidationError):
        noted, other = exc.group_exceptions()
        found: list[Problem] = []
        for inner, note in noted:
            step = f".{note.name}" if isinstance(note, AttributeValidationNote) else f"[{_item(note.index)}]"
            found.extend(problems_in(inner, path + step))
        for inner in other:
            found.extend(problems_in(inner, path))
        return found
    if isinstance(exc, ForbiddenExtraKeysError):
        return [Problem(f"{path}.{key}", "unknown key") for key in sorted(exc.extra_fields)]
    if isinstance(exc, KeyError):
        return [Problem(path, "required, and missing")]
    return [Problem(path, format_exception(exc, None) if not exc.args else str(exc.args[0]))]


def _item(index: object) -> str:
    return str(index) if isinstance(index, int) else repr(index)


def shown(value: object) -> str:
    """Return *value* as text for an error message: its JSON, at most 60 characters."""
    text = encode_json(value).decode() if attrs.has(type(value)) or _is_json(value) else type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."


def _is_json(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool | list | dict)
