"""Parameters of a function: a JSON Schema for the model, and a check of the arguments that the model writes.

A function's type hints give the schema (msgspec). Any other schema is checked by jsonschema.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Annotated, Any, TypeAlias

import attrs
import msgspec

from clawft_trio.chat import JsonObject
from clawft_trio.errors import InvalidArguments, InvalidData, Problem
from clawft_trio.tools.docstring import read_docstring
from clawft_trio.tools.json_schema import OF_A_SCHEMA, SchemaCheck, path_schema, problem_of, to_path
from clawft_trio.tools.pydantic_types import PydanticArguments, has_pydantic, needs_pydantic, problems_of
from clawft_trio.tools.schema_budget import TooComplex
from clawft_trio.tools.signature import Signature, read_signature, return_hint

Check: TypeAlias = Callable[[JsonObject], Mapping[str, Any]]
"""Converts a decoded JSON object to valid arguments with defaults, or raises `InvalidArguments`."""


@attrs.frozen
class Parameters:
    """The parameters of a function, read from its signature, its type hints and its docstring."""

    #: the tool's name: the given one, else the function's
    name: str
    #: JSON Schema of the arguments
    schema: JsonObject
    check: Check
    #: the docstring without the notes on arguments, which the schema has
    description: str
    #: the parameter that receives the context, if there is one
    context: str | None


def parameters_of(function: Callable[..., Any], *, context_type: type, name: str | None = None) -> Parameters:
    """Read the parameters of *function*. The parameter annotated with *context_type* is hidden from the model.

    Args:
      function: any callable; see `tools.signature`.
      context_type: the class of the context.
      name: the tool's name, if it was given.

    Raises:
      TypeError: a parameter cannot be filled in by name from JSON; the message names the tool and the parameter.
    """
    signature = read_signature(function, name=name)
    text, notes = read_docstring(signature.docstring, [one.name for one in signature.parameters])
    context = next(
        (one.name for one in signature.parameters if _is_context(signature.hints.get(one.name), context_type)), None
    )
    wanted = [one for one in signature.parameters if one.name != context]
    for one in wanted:
        _check_named(signature, one)
    hints = {one.name: (signature.hints[one.name], one.default) for one in wanted}
    if any(needs_pydantic(*both) for both in hints.values()):
        schema, check = _by_pydantic(signature.name, hints, notes)
    else:
        schema, check = _by_either(signature.name, hints, notes)
    return Parameters(signature.name, schema, check, text, context)


def output_schema_of(function: Callable[..., Any]) -> JsonObject | None:
    """Make the JSON Schema of *function*'s return value, if its hint is a class with fields: a dataclass, an attrs
    class, a `TypedDict` or a msgspec struct. None for everything else: the result is only text.
    """
    hint = return_hint(function)
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
    """Make a check of arguments against a JSON *schema*.

    References out of the schema are never fetched. With *trusted* off, regular expressions in it are not run, and
    arguments that need too many steps are accepted: the owner of the schema checks them again.

    Raises:
      InvalidData: *schema* is no JSON Schema of an object, or exceeds the limits of an untrusted one.
    """
    return check_of(schema_check(schema, trusted=trusted))


def schema_check(schema: JsonObject, *, trusted: bool = True, steps: int = OF_A_SCHEMA) -> SchemaCheck:
    """Make the validator of arguments for a JSON *schema*, which is itself checked within *steps*.

    Raises:
      InvalidData: *schema* is no JSON Schema of an object, or exceeds the limits of an untrusted one.
    """
    if schema.get("type", "object") != "object":
        raise InvalidData([Problem("$.type", 'arguments are an object: expected "object"')], source="parameters")
    arguments = SchemaCheck(schema, noun="argument", trusted=trusted)
    arguments.check_schema("parameters", steps=steps)
    return arguments


def check_of(arguments: SchemaCheck) -> Check:
    """Make a check that runs *arguments* on the event loop."""

    def check(raw: JsonObject) -> Mapping[str, Any]:
        try:
            problems = arguments.problems(raw)
        except TooComplex:
            return raw
        if problems:
            raise InvalidArguments(problems)
        return raw

    return check


Hints: TypeAlias = Mapping[str, tuple[Any, Any]]
"""Hint and default by parameter name; `inspect.Parameter.empty` where there is no default."""


def _is_context(hint: Any, context_type: type) -> bool:
    return hint is context_type or context_type in typing.get_args(hint)


def _check_named(signature: Signature, parameter: inspect.Parameter) -> None:
    if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
        raise TypeError(f"{signature.name}: {parameter} cannot be filled in by name")
    if parameter.name not in signature.hints:
        raise TypeError(
            f"{signature.name}: parameter {parameter.name!r} needs a type hint (for a method, pass the bound one)"
        )


def _by_pydantic(tool: str, hints: Hints, notes: Mapping[str, str]) -> tuple[JsonObject, Check]:
    try:
        model = PydanticArguments(hints)
        schema = _described(model.schema(), notes)
    except Exception as exc:
        raise _unusable(tool, hints, lambda one: PydanticArguments(one).schema(), exc) from exc
    arguments = SchemaCheck(schema, noun="argument")

    def check(raw: JsonObject) -> Mapping[str, Any]:
        try:
            return model.read(raw)
        except ValueError as exc:
            raise InvalidArguments(arguments.problems(raw) or problems_of(exc)) from None

    return schema, check


def _by_either(tool: str, hints: Hints, notes: Mapping[str, str]) -> tuple[JsonObject, Check]:
    """Use msgspec; for hints that it lacks (`date | str`, a union of dataclasses) use pydantic, if it is imported."""
    try:
        return _by_msgspec(tool, hints, notes)
    except TypeError as exc:
        if not has_pydantic():
            raise
        problem = exc
    try:
        return _by_pydantic(tool, hints, notes)
    except TypeError:
        raise problem from None


def _by_msgspec(tool: str, hints: Hints, notes: Mapping[str, str]) -> tuple[JsonObject, Check]:
    try:
        struct = _struct_of(hints)
        schema = _schema_of(struct, notes)
    except Exception as exc:
        raise _unusable(tool, hints, lambda one: _schema_of(_struct_of(one), {}), exc) from exc
    return schema, _check_struct(struct, schema)


def _unusable(tool: str, hints: Hints, try_out: Callable[[Hints], object], exc: Exception) -> TypeError:
    """Make the error for hints without a schema; it names the parameter that causes it."""
    for name, both in hints.items():
        try:
            try_out({name: both})
        except Exception as own:  # noqa: BLE001 - a library may raise anything for an unknown hint
            return TypeError(f"{tool}: parameter {name!r} has a type hint without a JSON Schema ({_first_line(own)})")
    return TypeError(f"{tool}: its parameters have no JSON Schema together ({_first_line(exc)})")


def _first_line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0][:300]


def _struct_of(hints: Hints) -> type[msgspec.Struct]:
    fields = [_field(name, hint, default) for name, (hint, default) in hints.items()]
    return msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)


def _field(name: str, hint: Any, default: Any) -> tuple[str, Any] | tuple[str, Any, Any]:
    hint = _with_description(_readable(hint))
    if default is inspect.Parameter.empty:
        return name, hint
    if isinstance(default, list | dict | set):
        return name, hint, msgspec.field(default_factory=partial(copy.copy, default))
    return name, hint, default


def _readable(hint: Any) -> Any:
    """Convert *hint* to one that msgspec knows: an iterable is a list, an object is anything."""
    if hint is object:
        return Any
    if hint is Iterable or typing.get_origin(hint) is Iterable:
        return list[typing.get_args(hint) or (Any,)]  # type: ignore[misc]
    return hint


def _with_description(hint: Any) -> Any:
    """Use the text in `Annotated[str, "what it is"]` as description, like other libraries."""
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
    return _described(schema | {"$defs": shared} if shared else schema, notes)


def _described(schema: JsonObject, notes: Mapping[str, str]) -> JsonObject:
    for name, note in notes.items():
        if name in schema["properties"]:
            schema["properties"][name].setdefault("description", note)
    return schema


def _describe_items(schema: Any) -> None:
    """Add `items` to each array in *schema* without them.

    A plain `list` has none, and vendors refuse every request with such a tool.
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
            # msgspec stops at the first problem; a model can correct all problems at once.
            raise InvalidArguments(arguments.problems(raw) or [problem_of(exc)]) from None
        return {name: getattr(filled, name) for name in names}

    return check
