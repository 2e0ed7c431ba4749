"""HTTP headers that repeat arguments of a tool (`x-mcp-header` in its schema, 2026-07-28)."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from clawft_trio.mcp.types import JsonObject

Path: TypeAlias = tuple[str, ...]

MAX_HEADERS = 64
"""Largest number of a tool's arguments that headers repeat. Servers accept about 100 headers."""

_KEY = "x-mcp-header"
_TYPES = frozenset(("string", "integer", "boolean"))

# RFC 9110, 5.6.2: the characters of a field name.
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PLAIN = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_WRAPPED = re.compile(r"=\?base64\?.*\?=", re.IGNORECASE)

# Keywords of JSON Schema 2020-12 with inner schemas. `default`, `enum` and `examples` contain data, and a `$ref` is not
# followed, so the walk ends for every schema.
_ONE = frozenset(
    (
        "items",
        "contains",
        "unevaluatedItems",
        "additionalProperties",
        "propertyNames",
        "unevaluatedProperties",
        "not",
        "if",
        "then",
        "else",
        "contentSchema",
    )
)
_SOME = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_NAMED = frozenset(("patternProperties", "dependentSchemas", "$defs", "definitions"))


def header_paths(schema: JsonObject) -> dict[Path, str]:
    """Return the annotated properties with the names of their headers.

    Raises:
      ValueError: an annotation is misplaced or invalid. Such a tool must not be offered.
    """
    found: dict[Path, str] = {}
    taken: set[str] = set()
    for place, inner in _positions(schema):
        if _KEY not in inner:
            continue
        header = inner[_KEY]
        if not place:
            raise ValueError(f"{_KEY} stands where no property of the arguments is")
        if len(found) == MAX_HEADERS:
            raise ValueError(f"more than {MAX_HEADERS} arguments have headers")
        path = _path_of(place)
        if not isinstance(header, str) or not _TOKEN.fullmatch(header):
            raise ValueError(f"{'.'.join(path)}: {_KEY} is no header name")
        if not isinstance(inner.get("type"), str) or inner["type"] not in _TYPES:
            raise ValueError(f"{'.'.join(path)}: only strings, integers and booleans go into headers")
        if header.lower() in taken:
            raise ValueError(f"{'.'.join(path)}: the header {header} is taken")
        taken.add(header.lower())
        found[path] = header
    return found


def param_headers(paths: Mapping[Path, str], arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers that repeat *arguments*; an argument that is missing or null has none."""
    headers: dict[str, str] = {}
    for path, name in paths.items():
        value = value_at(arguments, path)
        if isinstance(value, bool):
            headers[f"Mcp-Param-{name}"] = "true" if value else "false"
        elif isinstance(value, str | int):
            headers[f"Mcp-Param-{name}"] = header_value(str(value))
    return headers


def header_value(text: str) -> str:
    """Return *text* as a header value: unchanged, or marked and in base64."""
    if (_PLAIN.fullmatch(text) or not text) and not _WRAPPED.fullmatch(text):
        return text
    return f"=?base64?{base64.b64encode(text.encode(errors='replace')).decode()}?="


_Place: TypeAlias = tuple[Any, str] | tuple[()]
"""A position in the arguments: the one around it, and a name; empty for the arguments themselves."""


def _path_of(place: _Place) -> Path:
    names: list[str] = []
    while place:
        place, name = place
        names.append(name)
    return tuple(reversed(names))


def _positions(root: JsonObject) -> Iterator[tuple[_Place | None, Mapping[str, Any]]]:
    """Yield every schema inside *root*, with its place if only `properties` lead to it."""
    stack: list[tuple[_Place | None, Any]] = [((), root)]
    while stack:
        place, schema = stack.pop()
        if not isinstance(schema, Mapping):
            continue
        yield place, schema
        for key, inner in schema.items():
            if key in _ONE:
                stack.append((None, inner))
            elif key in _SOME and isinstance(inner, list):
                stack.extend((None, one) for one in inner)
            elif key in _NAMED and isinstance(inner, Mapping):
                stack.extend((None, one) for one in inner.values())
            elif key == "properties" and isinstance(inner, Mapping):
                stack.extend((None if place is None else (place, name), one) for name, one in inner.items())


def value_at(arguments: Any, path: Path) -> Any:
    """Return the argument at *path*; None when there is none."""
    for key in path:
        if not isinstance(arguments, Mapping):
            return None
        arguments = arguments.get(key)
    return arguments
