"""What a function takes: a JSON Schema for the model to read, and a check for what the model writes.

A function's own hints are the schema (msgspec). A schema that somebody else wrote is checked by jsonschema.
"""

from __future__ import annotations

import copy
import difflib
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path, PurePath
from typing import Annotated, Any, TypeAlias

import attrs
import jsonschema
import msgspec
import referencing

from clawft_trio.chat import JsonObject
from clawft_trio.errors import InvalidArguments, InvalidData, Problem
from clawft_trio.tools.docstring import read_docstring

Check: TypeAlias = Callable[[JsonObject], Mapping[str, Any]]
"""Turns a decoded JSON object into valid arguments, defaults filled in, or raises `InvalidArguments`."""

_MOST_PROBLEMS = 8
"""More than a model can mend at once."""

_LONGEST_PROBLEM = 300
"""Characters; jsonschema quotes the offending value, however long it is."""


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


def check_schema(schema: JsonObject, *, trusted: bool = True) -> Check:
    """A check of arguments against a JSON *schema* that somebody wrote.

    References out of the schema are never fetched. With *trusted* off, regular expressions in it are not run:
    one that backtracks for ever would stop the event loop, and whoever wrote it checks it again anyway.

    Raises:
      InvalidData: it is no JSON Schema of an object.
    """
    if schema.get("type", "object") != "object":
        raise InvalidData([Problem("$.type", 'arguments are an object: expected "object"')], source="parameters")
    validator = _validator(schema, trusted=trusted)
    try:
        validator.check_schema(schema)
    except (jsonschema.SchemaError, RecursionError) as exc:
        raise InvalidData([Problem("$", str(exc)[:_LONGEST_PROBLEM])], source="parameters") from exc

    def check(raw: JsonObject) -> Mapping[str, Any]:
        problems = _problems(validator, raw, schema)
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
    whole = msgspec.json.schema(struct, schema_hook=_path_schema)
    shared = whole["$defs"]
    schema: dict[str, Any] = shared.pop("Arguments")
    del schema["title"]
    for name, note in notes.items():
        if name in schema["properties"]:
            schema["properties"][name].setdefault("description", note)
    return schema | {"$defs": shared} if shared else schema


def _path_schema(kind: type) -> dict[str, Any]:
    if issubclass(kind, PurePath):
        return {"type": "string"}
    raise TypeError(f"{kind!r} has no JSON Schema")


def _to_path(kind: type, value: Any) -> Any:
    if issubclass(kind, PurePath) and isinstance(value, str):
        return Path(value)
    raise msgspec.ValidationError(f"expected `str`, got `{type(value).__name__}`")


def _check_struct(struct: type[msgspec.Struct], schema: JsonObject) -> Check:
    names = struct.__struct_fields__
    validator = _validator(schema, trusted=True)

    def check(raw: JsonObject) -> Mapping[str, Any]:
        try:
            filled = msgspec.convert(raw, struct, dec_hook=_to_path)
        except (msgspec.ValidationError, RecursionError) as exc:
            # msgspec stops at the first problem; a model mends all it is told of at once.
            raise InvalidArguments(_problems(validator, raw, schema) or [_problem(exc)]) from None
        return {name: getattr(filled, name) for name in names}

    return check


def _problem(exc: BaseException) -> Problem:
    said, _, place = str(exc).partition(" - at `")
    return Problem(place.rstrip("`") or "$", said)


# --- JSON Schema -----------------------------------------------------------------------------------------


def _validator(schema: JsonObject, *, trusted: bool) -> Any:
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    if not trusted:
        extend: Any = jsonschema.validators.extend
        kind = extend(kind, {"pattern": _unchecked, "patternProperties": _unchecked})
    # Without a registry of our own jsonschema would fetch what `$ref` names from the network.
    return kind(schema, registry=referencing.Registry())


def _unchecked(*_: object) -> Iterable[jsonschema.ValidationError]:
    return ()


def _problems(validator: Any, raw: JsonObject, schema: JsonObject) -> list[Problem]:
    found: list[Problem] = []
    try:
        for error in validator.iter_errors(raw):
            found.extend(_unknown(raw, schema) if _is_unknown(error) else [_of_schema(error)])
            if len(found) >= _MOST_PROBLEMS:
                break
    except (RecursionError, referencing.exceptions.Unresolvable) as exc:
        found.append(Problem("$", f"the tool's schema cannot be followed: {type(exc).__name__}"))
    return found


def _is_unknown(error: jsonschema.ValidationError) -> bool:
    return error.validator == "additionalProperties" and not error.absolute_path


def _of_schema(error: jsonschema.ValidationError) -> Problem:
    message = error.message
    return Problem(error.json_path, message if len(message) <= _LONGEST_PROBLEM else f"…{message[-_LONGEST_PROBLEM:]}")


def _unknown(raw: JsonObject, schema: JsonObject) -> Iterable[Problem]:
    known = list(schema.get("properties", ()))
    for name in raw:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known) or 'none'}"
            yield Problem(f"$.{name[:60]}", f"unknown argument{hint}")
