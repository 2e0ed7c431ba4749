"""HTTP headers that repeat arguments of a tool (`x-mcp-header` in its schema, 2026-07-28)."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from clawft_trio.mcp.types import JsonObject

Path: TypeAlias = tuple[str, ...]

_KEY = "x-mcp-header"
_TYPES = frozenset(("string", "integer", "boolean"))

# RFC 9110, 5.6.2: the characters of a field name.
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PLAIN = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_WRAPPED = re.compile(r"=\?base64\?.*\?=", re.IGNORECASE)

# Keywords of JSON Schema 2020-12 with inner schemas. `default`, `enum` and `examples` contain data, and a `$ref` is not
# followed, so the walk ends for every schema.
_ONE = (
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
_SOME = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED = ("patternProperties", "dependentSchemas", "$defs", "definitions")


def header_paths(schema: JsonObject) -> dict[Path, str]:
    """Return the annotated properties with the names of their headers.

    Raises:
      ValueError: an annotation is misplaced or invalid. Such a tool must not be offered.
    """
    found: dict[Path, str] = {}
    for path, inner in _positions(schema):
        if _KEY not in inner:
            continue
        header = inner[_KEY]
        if not path:
            raise ValueError(f"{_KEY} stands where no property of the arguments is")
        if not isinstance(header, str) or not _TOKEN.fullmatch(header):
            raise ValueError(f"{'.'.join(path)}: {_KEY} is no header name")
        if not isinstance(inner.get("type"), str) or inner["type"] not in _TYPES:
            raise ValueError(f"{'.'.join(path)}: only strings, integers and booleans go into headers")
        if header.lower() in {other.lower() for other in found.values()}:
            raise ValueError(f"{'.'.join(path)}: the header {header} is taken")
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


def _positions(root: JsonObject) -> Iterator[tuple[Path | None, Mapping[str, Any]]]:
    """Yield every schema inside *root*, with its path if only `properties` lead to it."""
    stack: list[tuple[Path | None, Any]] = [((), root)]
    while stack:
        path, schema = stack.pop()
        if not isinstance(schema, Mapping):
            continue
        yield path, schema
        for name, inner in _members(schema, "properties"):
            stack.append((None if path is None else (*path, name), inner))
        stack.extend((None, schema[key]) for key in _ONE if key in schema)
        stack.extend((None, inner) for key in _NAMED for _, inner in _members(schema, key))
        for key in _SOME:
            some = schema.get(key)
            stack.extend((None, inner) for inner in (some if isinstance(some, list) else ()))


def _members(schema: Mapping[str, Any], key: str) -> list[tuple[str, Any]]:
    members = schema.get(key)
    return list(members.items()) if isinstance(members, Mapping) else []


def value_at(arguments: Any, path: Path) -> Any:
    """Return the argument at *path*; None when there is none."""
    for key in path:
        if not isinstance(arguments, Mapping):
            return None
        arguments = arguments.get(key)
    return arguments
