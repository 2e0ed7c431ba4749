"""JSON Schemas of types, and conversion of decoded JSON to their values: by msgspec, or by pydantic for its types."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

import attrs
import msgspec

from clawft_trio.chat import JsonObject
from clawft_trio.codec import encode_json
from clawft_trio.errors import InvalidData, Problem
from clawft_trio.tools.json_schema import path_schema, problem_of, to_path
from clawft_trio.tools.pydantic_types import problems_of

_WRAPPED = "answer"
"""The only key of the object around an answer that is no object, because providers enforce schemas only for objects."""


@attrs.frozen
class TypeSchema:
    """The schema of a type for the model, and the function that reads its values."""

    #: JSON Schema of an object
    schema: JsonObject
    #: converts decoded JSON that fits; raises `InvalidData`
    read: Callable[[Any], Any]


def type_schema(kind: Any) -> TypeSchema:
    """Return the schema of *kind*, and the function that reads its values.

    Raises:
      TypeError: *kind* has no schema.
    """
    if hasattr(kind, "__pydantic_validator__"):
        return _by_pydantic(kind)
    try:
        return _by_msgspec(kind)
    except TypeError:
        # For example a list of pydantic models. If pydantic fails, too, msgspec's error is raised.
        if "pydantic" in sys.modules:
            with suppress(Exception):
                return _by_pydantic(kind)
        raise


def refuse_what_json_cannot_fill(kind: Any) -> None:
    """Refuse classes with fields that JSON would set in another way than `__init__` does.

    Raises:
      TypeError: a field has a converter, or is no argument of `__init__`.
    """
    fields: Iterable[Any] = ()
    if isinstance(kind, type) and attrs.has(kind):
        fields = attrs.fields(kind)
    elif dataclasses.is_dataclass(kind) and not hasattr(kind, "__pydantic_validator__"):
        fields = dataclasses.fields(kind)
    for field in fields:
        if not field.init or getattr(field, "converter", None) is not None:
            raise TypeError(
                f"{kind.__qualname__}.{field.name}: an answer cannot have a field with a converter or init=False"
            )


def _by_msgspec(kind: Any) -> TypeSchema:
    (root,), shared = msgspec.json.schema_components([kind], schema_hook=path_schema, ref_template="#/$defs/{name}")

    def convert(raw: Any) -> Any:
        try:
            return msgspec.convert(raw, kind, dec_hook=to_path, str_keys=True)
        except msgspec.ValidationError as exc:
            raise InvalidData([problem_of(exc)]) from exc

    return _as_object(root, shared, convert)


def _by_pydantic(kind: Any) -> TypeSchema:
    adapter = import_module("pydantic").TypeAdapter(kind)
    root = dict(adapter.json_schema())
    shared = root.pop("$defs", {})

    def validate(raw: Any) -> Any:
        try:
            # From JSON, because strict mode accepts a string for a date only in JSON.
            return adapter.validate_json(encode_json(raw))
        except ValueError as exc:
            raise InvalidData(problems_of(exc)) from exc

    return _as_object(root, shared, validate)


def _as_object(root: JsonObject, shared: Mapping[str, JsonObject], read: Callable[[Any], Any]) -> TypeSchema:
    """Return *root*, which may be a reference to *shared*, as a schema of an object without a reference at its root."""
    name = str(root.get("$ref", "")).removeprefix("#/$defs/")
    body = dict(shared[name] if name else root)
    if body.get("type") != "object" or "properties" not in body:
        whole: dict[str, Any] = {"type": "object", "properties": {_WRAPPED: root}, "required": [_WRAPPED]}
        return TypeSchema(_closed(_with_shared(whole, shared)), _unwrapping(read))
    # A recursive type needs its own definition, too.
    others = {key: value for key, value in shared.items() if key != name or _refers_to(name, shared)}
    return TypeSchema(_closed(_with_shared(body, others)), read)


def _with_shared(schema: JsonObject, shared: Mapping[str, JsonObject]) -> JsonObject:
    return {**schema, "$defs": dict(shared)} if shared else schema


def _unwrapping(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read_inside(raw: Any) -> Any:
        try:
            return read(raw[_WRAPPED])
        except InvalidData as exc:
            places = [Problem(f"$.{_WRAPPED}{one.path.removeprefix('$')}", one.message) for one in exc.problems]
            raise InvalidData(places) from exc

    return read_inside


def _refers_to(name: str, shared: Mapping[str, JsonObject]) -> bool:
    return f'"#/$defs/{name}"'.encode() in encode_json(shared)


_BY_NAME = ("properties", "patternProperties", "$defs")
_NESTED = ("items", "prefixItems", "additionalProperties", "anyOf", "oneOf", "allOf")


def _mapped(schema: Any, change: Callable[[dict[str, Any]], None]) -> Any:
    """Copy *schema* with *change* applied to every schema in it."""
    if isinstance(schema, list | tuple):
        return [_mapped(item, change) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    changed = dict(schema)
    for key in _BY_NAME:
        if key in changed:
            changed[key] = {name: _mapped(inner, change) for name, inner in changed[key].items()}
    for key in _NESTED:
        if key in changed:
            changed[key] = _mapped(changed[key], change)
    change(changed)
    return changed


def _closed(schema: JsonObject) -> Any:
    """Make every object in *schema* refuse unknown keys."""

    def close(one: dict[str, Any]) -> None:
        if one.get("type") == "object" and "properties" in one:
            one.setdefault("additionalProperties", False)

    return _mapped(schema, close)


def without_slow_rules(schema: JsonObject) -> Any:
    """Remove the rules from *schema* whose checks can take too long for a text of the model."""

    def drop(one: dict[str, Any]) -> None:
        for rule in ("pattern", "patternProperties", "uniqueItems", "format"):
            one.pop(rule, None)

    return _mapped(schema, drop)
