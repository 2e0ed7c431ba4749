"""What a function takes: a JSON Schema for the model to read, and a check for what the model writes.

A function's own hints are the schema (msgspec). A schema that somebody else wrote is checked by jsonschema.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, TypeAlias

import attrs
import msgspec

from clawft_trio.chat import JsonObject
from clawft_trio.errors import InvalidArguments, InvalidData, Problem
from clawft_trio.tools.docstring import read_docstring
from clawft_trio.tools.json_schema import SchemaCheck, path_schema, problem_of, to_path

Check: TypeAlias = Callable[[JsonObject], Mapping[str, Any]]
"""Turns a decoded JSON object into valid arguments, defaults filled in, or raises `InvalidArguments`."""


@attrs.frozen
class Parameters:
    """What a function takes, read from its signature, its type hints and its docstring."""

    #: JSON Schema of the arguments
    schema: JsonObject
    check: Check
    #: the docstring without what the schema says
    description: str
    #: the parameter that wants the context, if one does
    context: str | None


def parameters_of(function: Callable[..., Any], *, context_type: type) -> Parameters:
    """Read what *function* takes. The parameter annotated with *context_type* is not the model's to fill in.

    Raises:
      TypeError: a parameter cannot be filled in by name from JSON.
    """
    name = getattr(function, "__name__", type(function).__name__)
    text, notes = read_docstring(inspect.getdoc(function) or "")
    hints = _hints(function)
    wanted = list(inspect.signature(function).parameters.values())
    context = next((one.name for one in wanted if _is_context(hints.get(one.name), context_type)), None)
    fields = [_field(name, one, hints) for one in wanted if one.name != context]
    struct = msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)
    schema = _schema_of(struct, notes)
    return Parameters(schema, _check_struct(struct, schema), text, context)


def output_schema_of(function: Callable[..., Any]) -> JsonObject | None:
    """JSON Schema of what *function* returns, if its hint is a class with fields: a dataclass, an attrs class, a
    `TypedDict` or a msgspec struct. None for everything else, whose answer is text.
    """
    hint = _hints(function).get("return")
    if not (isinstance(hint, type) and _has_fields(hint)):
        return None
    try:
        whole = msgspec.json.schema(hint, schema_hook=path_schema)
    except TypeError:
        return None
    shared = dict(whole.get("$defs", {}))
    schema = shared.pop(str(whole.get("$ref", "")).rpartition("/")[2], whole)
    if schema.get("type") != "object":
        return None
    return {**schema, "$defs": shared} if shared else dict(schema)


def _has_fields(hint: type) -> bool:
    is_struct = issubclass(hint, msgspec.Struct) or attrs.has(hint) or dataclasses.is_dataclass(hint)
    return is_struct or typing.is_typeddict(hint)


def check_schema(schema: JsonObject, *, trusted: bool = True) -> Check:
    """A check of arguments against a JSON *schema* that somebody wrote.

    References out of the schema are never fetched. With *trusted* off, regular expressions in it are not run:
    one that backtracks for ever would stop the event loop, and whoever wrote it checks it again anyway.

    Raises:
      InvalidData: it is no JSON Schema of an object.
    """
    if schema.get("type", "object") != "object":
        raise InvalidData([Problem("$.type", 'arguments are an object: expected "object"')], source="parameters")
    arguments = SchemaCheck(schema, noun="argument", trusted=trusted)
    arguments.check_schema("parameters")

    def check(raw: JsonObject) -> Mapping[str, Any]:
        problems = arguments.problems(raw)
        if problems:
            raise InvalidArguments(problems)
        return raw

    return check


# --- signatures ------------------------------------------------------------------------------------------


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    target = function if inspect.isroutine(function) else type(function).__call__
    return typing.get_type_hints(target, include_extras=True)


def _is_context(hint: Any, context_type: type) -> bool:
    return hint is context_type or context_type in typing.get_args(hint)


def _field(tool: str, parameter: inspect.Parameter, hints: Mapping[str, Any]) -> tuple[str, Any] | tuple[str, Any, Any]:
    name = parameter.name
    if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
        raise TypeError(f"{tool}: {parameter} cannot be filled in by name")
    if name not in hints:
        raise TypeError(f"{tool}: parameter {name!r} needs a type hint (for a method, pass the bound one)")
    hint = _with_description(hints[name])
    if parameter.default is parameter.empty:
        return name, hint
    if isinstance(parameter.default, list | dict | set):
        return name, hint, msgspec.field(default_factory=partial(copy.copy, parameter.default))
    return name, hint, parameter.default


def _with_description(hint: Any) -> Any:
    """`Annotated[str, "what it is"]` describes, as other libraries have it."""
    if typing.get_origin(hint) is not Annotated:
        return hint
    inner, *marks = typing.get_args(hint)
    for mark in marks:
        inner = Annotated[inner, msgspec.Meta(description=mark) if isinstance(mark, str) else mark]
    return inner


def _schema_of(struct: type[msgspec.Struct], notes: Mapping[str, str]) -> JsonObject:
    whole = msgspec.json.schema(struct, schema_hook=path_schema)
    shared = whole["$defs"]
    schema: dict[str, Any] = shared.pop("Arguments")
    del schema["title"]
    for each in (*shared.values(), schema):
        _describe_items(each)
    for name, note in notes.items():
        if name in schema["properties"]:
            schema["properties"][name].setdefault("description", note)
    return schema | {"$defs": shared} if shared else schema


def _describe_items(schema: Any) -> None:
    """Give each array in *schema* its `items`.

    A bare list has none, and vendors refuse every request that offers such a tool.
    """
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "array" and "prefixItems" not in schema:
        schema.setdefault("items", {})
    inner = [*schema.get("properties", {}).values(), schema.get("items"), schema.get("additionalProperties")]
    for keyword in ("anyOf", "prefixItems"):
        inner.extend(schema.get(keyword, ()))
    for one in inner:
        _describe_items(one)


def _check_struct(struct: type[msgspec.Struct], schema: JsonObject) -> Check:
    names = struct.__struct_fields__
    arguments = SchemaCheck(schema, noun="argument")

    def check(raw: JsonObject) -> Mapping[str, Any]:
        try:
            filled = msgspec.convert(raw, struct, dec_hook=to_path)
        except (msgspec.ValidationError, RecursionError) as exc:
            # msgspec stops at the first problem; a model mends all it is told of at once.
            raise InvalidArguments(arguments.problems(raw) or [problem_of(exc)]) from None
        return {name: getattr(filled, name) for name in names}

    return check
