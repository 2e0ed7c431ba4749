"""The JSON Schema (draft 2020-12) of config.json, for editors: generated from the classes of the configuration.

The schema has each key in snake case, in camel case and under its aliases, with its allowed values. Checks that need
the whole file are left to the loader: unknown providers, tiers without models, ranges with the end before the start,
senders without a channel. The loader also accepts more spellings of keys (`Max-Retries`).
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import combinations
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

import attrs

from clawft_trio.config.schema import Config
from clawft_trio.config.structuring import Secret, camel, names_of

Schema: TypeAlias = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"

# An amount of money is a number, or a text when it must be exactly a tenth of a dollar.
_MONEY: Schema = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^\+?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"},
    ]
}

_KEYWORDS = {">=": "minimum", ">": "exclusiveMinimum", "<=": "maximum", "<": "exclusiveMaximum"}


def config_schema() -> Schema:
    """Return the schema of a complete config.json."""
    classes: dict[type[Any], Schema] = {}
    _define(Config, classes)
    root = classes.pop(Config)
    # For the editor only; the loader does not read it.
    root["properties"] = {"$schema": {"type": "string"}, **root["properties"]}
    return {
        "$schema": DRAFT,
        "title": "clawft-trio config.json",
        **root,
        "$defs": {cls.__name__: schema for cls, schema in sorted(classes.items(), key=lambda item: item[0].__name__)},
    }


def _define(cls: type[Any], classes: dict[type[Any], Schema]) -> None:
    """Add the schemas of *cls* and of all classes in it to *classes*."""
    if cls in classes:
        return
    classes[cls] = {}
    types, comments = get_type_hints(cls), _comments(cls)
    properties: Schema = {}
    rules: list[Schema] = []
    for field in (one for one in attrs.fields(cls) if one.init):
        names = spellings(field)
        schema = _bounded(_of(types[field.name], classes), field.validator)
        schema |= _annotations(field, comments.get(field.name, ""))
        properties |= dict.fromkeys(names, schema)
        if field.default is attrs.NOTHING:
            rules.append({"anyOf": [{"required": [name]} for name in names]})
        # A key that occurs twice is an error, in whichever spellings.
        rules += [{"not": {"required": list(pair)}} for pair in combinations(names, 2)]
    classes[cls].update(
        type="object",
        description=(cls.__doc__ or "").strip().partition("\n")[0],
        properties=properties,
        additionalProperties=False,
        **({"allOf": rules} if rules else {}),
    )


def spellings(field: attrs.Attribute[Any]) -> tuple[str, ...]:
    """Return the names of *field* in snake case and in camel case, each once; its own name comes first."""
    return tuple(dict.fromkeys(spelling for name in names_of(field) for spelling in (name, camel(name))))


def _of(kind: Any, classes: dict[type[Any], Schema]) -> Schema:
    """Return the schema of a type."""
    simple: dict[Any, Schema] = {
        str: {"type": "string"},
        Secret: {"type": "string"},
        Path: {"type": "string", "minLength": 1},
        bool: {"type": "boolean"},
        int: {"type": "integer"},
        float: {"type": "number"},
        Decimal: _MONEY,
        Any: {},
    }
    if kind in simple:
        return dict(simple[kind])
    if attrs.has(kind):
        _define(kind, classes)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    arguments = get_args(kind)
    if get_origin(kind) is Literal:
        return {"enum": list(arguments)}
    if NoneType in arguments:
        (inner,) = (one for one in arguments if one is not NoneType)
        return {"anyOf": [_of(inner, classes), {"type": "null"}]}
    if get_origin(kind) is tuple:
        return _array(arguments, classes)
    return {"type": "object", "additionalProperties": _of(arguments[1], classes)}


def _array(arguments: tuple[Any, ...], classes: dict[type[Any], Schema]) -> Schema:
    items: Schema = {"type": "array", "items": _of(arguments[0], classes)}
    if arguments[-1] is Ellipsis:
        return items
    return {**items, "minItems": len(arguments), "maxItems": len(arguments)}


def _bounded(schema: Schema, validator: Any) -> Schema:
    """Return *schema* with the bounds of attrs' validators; a value that may be null still may."""
    bounds = dict(_bounds(validator))
    if not bounds:
        return schema
    if "anyOf" in schema:
        return {"anyOf": [one if one == {"type": "null"} else one | bounds for one in schema["anyOf"]]}
    return schema | bounds


def _bounds(validator: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(validator, "compare_op"):
        # A decimal bound belongs to an amount of money, whose schema has its own bounds.
        if not isinstance(validator.bound, Decimal):
            yield _KEYWORDS[validator.compare_op], validator.bound
    elif hasattr(validator, "options"):
        yield "enum", list(validator.options)
    elif hasattr(validator, "min_length"):
        yield "minLength", validator.min_length
    else:
        inner = getattr(validator, "_validators", None) or [getattr(validator, "validator", None)]
        for one in inner:
            if one is not None:
                yield from _bounds(one)


def _annotations(field: attrs.Attribute[Any], comment: str) -> Schema:
    """Return the description and the default value that an editor shows for a key."""
    found: Schema = {"description": comment} if comment else {}
    if isinstance(field.default, str | int | float) and field.default != "":
        found["default"] = field.default
    return found


def _comments(cls: type[Any]) -> Mapping[str, str]:
    """Return the `#:` lines above each field as one text; empty when the source is not available."""
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__[:-1]):
        try:
            source = textwrap.dedent(inspect.getsource(owner))
        except OSError:
            continue
        lines = source.splitlines()
        for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[node.target.id] = _over(lines, node.lineno - 1)
    return found


def _over(lines: list[str], number: int) -> str:
    first = number
    while lines[first - 1].strip().startswith("#:"):
        first -= 1
    return " ".join(line.strip().removeprefix("#:").strip() for line in lines[first:number])
