"""Types as JSON Schemas, and values of them out of decoded JSON: by msgspec, or by pydantic where it is pydantic's."""

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
"""The one key of the object around an answer that is no object: providers promise a shape for objects only."""


@attrs.frozen
class TypeSchema:
    """A type: its schema for the model, and how its values are read."""

    #: JSON Schema of an object
    schema: JsonObject
    #: takes decoded JSON that fits; raises `InvalidData`
    read: Callable[[Any], Any]


def type_schema(kind: Any) -> TypeSchema:
    """The schema of *kind*, and how its values are read.

    Raises:
      TypeError: it has none.
    """
    if hasattr(kind, "__pydantic_validator__"):
        return _by_pydantic(kind)
    try:
        return _by_msgspec(kind)
    except TypeError:
        # A list of pydantic's models, for instance. What pydantic cannot do either is reported in msgspec's words.
        if "pydantic" in sys.modules:
            with suppress(Exception):
                return _by_pydantic(kind)
        raise


def refuse_what_json_cannot_fill(kind: Any) -> None:
    """Refuse classes of which JSON would fill the fields in another way than their own `__init__` does.

    Raises:
      TypeError: a field has a converter, or is none of `__init__`'s.
    """
    fields: Iterable[Any] = ()
    if isinstance(kind, type) and attrs.has(kind):
        fields = attrs.fields(kind)
    elif dataclasses.is_dataclass(kind) and not hasattr(kind, "__pydantic_validator__"):
        fields = dataclasses.fields(kind)
    for field in fields:
        if not field.init or getattr(field, "converter", None) is not None:
            raise TypeError(f"{kind.__qualname__}.{field.name}: a field with a converter or init=False is no answer's")


# --- msgspec --------------------------------------------------------------------------------------------


def _by_msgspec(kind: Any) -> TypeSchema:
    (root,), shared = msgspec.json.schema_components([kind], schema_hook=path_schema, ref_template="#/$defs/{name}")

    def convert(raw: Any) -> Any:
        try:
            return msgspec.convert(raw, kind, dec_hook=to_path, str_keys=True)
        except msgspec.ValidationError as exc:
            raise InvalidData([problem_of(exc)]) from exc

    return _as_object(root, shared, convert)


# --- pydantic, known by its attributes: it need not be installed ------------------------------


def _by_pydantic(kind: Any) -> TypeSchema:
    adapter = import_module("pydantic").TypeAdapter(kind)
    root = dict(adapter.json_schema())
    shared = root.pop("$defs", {})

    def validate(raw: Any) -> Any:
        try:
            # As JSON: in strict mode a date is no string, unless it comes out of JSON.
            return adapter.validate_json(encode_json(raw))
        except ValueError as exc:
            raise InvalidData(problems_of(exc)) from exc

    return _as_object(root, shared, validate)


# --- schemas --------------------------------------------------------------------------------------------


def _as_object(root: JsonObject, shared: Mapping[str, JsonObject], read: Callable[[Any], Any]) -> TypeSchema:
    """*root*, which may refer to *shared*, as an object that stands there itself."""
    name = str(root.get("$ref", "")).removeprefix("#/$defs/")
    body = dict(shared[name] if name else root)
    if body.get("type") != "object" or "properties" not in body:
        whole: dict[str, Any] = {"type": "object", "properties": {_WRAPPED: root}, "required": [_WRAPPED]}
        return TypeSchema(_closed(_with_shared(whole, shared)), _unwrapping(read))
    # A tree of itself needs its own definition, too.
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
    """A copy of *schema* with *change* made to every schema in it."""
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
    """*schema* with every object in it refusing what it does not know."""

    def close(one: dict[str, Any]) -> None:
        if one.get("type") == "object" and "properties" in one:
            one.setdefault("additionalProperties", False)

    return _mapped(schema, close)


def without_slow_rules(schema: JsonObject) -> Any:
    """*schema* without the rules with checks that can take too long: of the model's words, not of our own."""

    def drop(one: dict[str, Any]) -> None:
        for rule in ("pattern", "patternProperties", "uniqueItems", "format"):
            one.pop(rule, None)

    return _mapped(schema, drop)
