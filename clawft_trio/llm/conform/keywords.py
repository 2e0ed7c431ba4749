"""Keywords of one schema, without its inner schemas: repairs for every target, and equivalents in fewer keywords."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
            "minItems", "maxItems", "minProperties", "maxProperties")  # fmt: skip
_OF_DOCUMENTS = ("$schema", "$id", "$comment", "$anchor", "$vocabulary", "$dynamicRef", "$dynamicAnchor",
                 "$recursiveRef", "$recursiveAnchor")  # fmt: skip
"""Keywords of whole documents, which have no meaning in a request."""

_TEXTS = ("title", "description", "format", "pattern")
_SYNONYMS: Mapping[str, str] = MappingProxyType(
    {"str": "string", "text": "string", "int": "integer", "long": "integer", "float": "number", "double": "number",
     "decimal": "number", "bool": "boolean", "dict": "object", "map": "object", "list": "array", "tuple": "array",
     "none": "null"}
)  # fmt: skip
"""Names of types that servers write by mistake."""

_CONDITIONS = frozenset({"required", "not", "description", "title", "minProperties", "maxProperties"})
"""Keywords of an alternative that describes no value, but a condition on the properties next to it."""

TYPING = ("type", "anyOf", "oneOf", "allOf", "enum", "const", "$ref")
"""Keywords that give a schema a type; one of them is enough."""

_OF_TYPE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "object": ("properties", "required", "additionalProperties", "minProperties", "maxProperties"),
        "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
        "string": ("pattern", "format", "minLength", "maxLength", "enum"),
        "number": ("minimum", "maximum", "multipleOf"),
        "integer": ("minimum", "maximum", "multipleOf"),
    }
)
"""Keywords that apply to one type only."""


def repair(own: dict[str, Any]) -> None:
    """Repair what no draft from 2019 on allows: draft-04's booleans, `items` as a list, types that do not exist."""
    for keyword in _OF_DOCUMENTS:
        own.pop(keyword, None)
    own.pop("id", None) if isinstance(own.get("id"), str) else None
    for keyword in _TEXTS:
        if keyword in own and not isinstance(own[keyword], str):
            del own[keyword]
    for limit, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(own.get(exclusive), bool) and own.pop(exclusive) and limit in own:
            own[exclusive] = own.pop(limit)
    for keyword in _NUMBERS:
        if keyword in own and (isinstance(own[keyword], bool) or not isinstance(own[keyword], int | float)):
            del own[keyword]
    if isinstance(own.get("items"), list):
        own.setdefault("prefixItems", own.pop("items"))
        if isinstance(own.get("additionalItems"), Mapping | bool):
            extra = own.pop("additionalItems")
            own |= {"items": extra} if isinstance(extra, Mapping) else {}
    if "required" in own and not isinstance(own["required"], list):
        del own["required"]
    if "enum" in own and not (isinstance(own["enum"], list) and own["enum"]):
        del own["enum"]
    _repair_type(own)


def _repair_type(own: dict[str, Any]) -> None:
    kind = own.get("type")
    if isinstance(kind, str) and kind not in _TYPES:
        kind = own["type"] = _SYNONYMS.get(kind.lower(), kind.lower())
    if isinstance(kind, list):
        kinds = list(dict.fromkeys(one for one in kind if isinstance(one, str) and one in _TYPES))
        own["type"] = kinds
        if len(kinds) < 2:
            own.pop("type")
            own |= {"type": kinds[0]} if kinds else {}
    elif "type" in own and not (isinstance(kind, str) and kind in _TYPES):
        del own["type"]
    if "type" not in own and not any(key in own for key in ("anyOf", "oneOf", "allOf", "$ref", "enum", "const")):
        if isinstance(own.get("properties"), Mapping):
            own["type"] = "object"
        elif "items" in own or "prefixItems" in own:
            own["type"] = "array"


def _type_of(value: object) -> str:
    """Return the JSON type of *value*; empty for null."""
    names = (
        (bool, "boolean"),
        (int, "integer"),
        (float, "number"),
        (str, "string"),
        (Mapping, "object"),
        (list, "array"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "")


def in_fewer_keywords(own: dict[str, Any], keywords: frozenset[str]) -> None:
    """Replace keywords that *keywords* does not contain by equivalent ones that it contains."""
    if "const" in own and "const" not in keywords:
        value = own.pop("const")
        own["enum"] = [value]
        if kind := _type_of(value):
            own.setdefault("type", kind)
    if "oneOf" in own and "oneOf" not in keywords:
        own["anyOf"] = [*as_list(own.get("anyOf")), *as_list(own.pop("oneOf"))]
    if "allOf" in own and "allOf" not in keywords:
        for option in as_list(own.pop("allOf")):
            if isinstance(option, Mapping):
                merge(own, [option], every=True)
                own |= {key: value for key, value in option.items() if key not in own}
    for exclusive, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if exclusive in own and exclusive not in keywords:
            own.setdefault(limit, own.pop(exclusive))
    if isinstance(own.get("additionalProperties"), Mapping) and "additionalProperties" not in keywords:
        own.setdefault("type", "object")


def without_type_list(own: dict[str, Any]) -> None:
    given = own.pop("type")
    kinds = [kind for kind in given if kind != "null"]
    if len(kinds) == 1:
        own["type"] = kinds[0]
    elif kinds and "anyOf" not in own:
        # Keywords that describe only one of the types are moved to that alternative.
        own["anyOf"] = [
            {"type": kind, **{key: own.pop(key) for key in _OF_TYPE.get(kind, ()) if key in own}} for kind in kinds
        ]
    if len(kinds) < len(given):
        own["nullable"] = True


def without_null(own: dict[str, Any]) -> None:
    """Replace an alternative of type null by `nullable`; a single remaining alternative is merged into *own*."""
    options = own.get("anyOf")
    if not isinstance(options, list) or {"type": "null"} not in options:
        return
    rest = [option for option in options if option != {"type": "null"}]
    own |= {"anyOf": rest, "nullable": True}
    if len(rest) == 1 and isinstance(rest[0], Mapping) and "$ref" not in rest[0]:
        del own["anyOf"]
        own |= {key: value for key, value in rest[0].items() if key not in own}
        if isinstance(own.get("type"), list):
            without_type_list(own)


def without_conditions(own: dict[str, Any]) -> None:
    """Remove alternatives that only list required properties: as schemas of their own they have no type."""
    for keyword in ("anyOf", "oneOf", "allOf"):
        options = own.get(keyword)
        if isinstance(options, list) and all(_is_condition(option) for option in options):
            del own[keyword]


def _is_condition(option: object) -> bool:
    return isinstance(option, Mapping) and option.keys() <= _CONDITIONS


def tighten_properties(legal: dict[str, Any]) -> None:
    """Remove `properties` and `required` where the type is not object, or where there are no properties."""
    if legal.get("type") != "object" or not legal.get("properties"):
        legal.pop("properties", None)
        legal.pop("required", None)


def any_value() -> dict[str, Any]:
    """Return a schema with types that accepts nearly every value."""
    kinds = ("string", "number", "boolean", "object")
    return {"anyOf": [*({"type": kind} for kind in kinds), {"type": "array", "items": {"type": "string"}}]}


# Lookaround, and character classes of JavaScript that Python or Rust does not compile.
_NOT_PLAIN = re.compile(r"\(\?(?:[=!]|<[=!])|\\[pPkuc]")


def fits_patterns(pattern: object, accepted: str) -> bool:
    """Return whether *pattern* is of the *accepted* kind."""
    if accepted == "any" or not isinstance(pattern, str):
        return accepted == "any"
    return accepted == "plain" and is_plain_pattern(pattern)


def is_plain_pattern(pattern: str) -> bool:
    """Return whether *pattern* is a regular expression that every engine compiles."""
    if _NOT_PLAIN.search(pattern):
        return False
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def with_text_enum(own: dict[str, Any]) -> None:
    values = own["enum"]
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) < len(values) - values.count(None):
        # Numbers and objects: their type is more useful than their text; the description lists their values.
        del own["enum"]
        kinds = {_type_of(value) for value in values} - {""}
        if len(kinds) == 1 and "anyOf" not in own:
            own.setdefault("type", kinds.pop())
        named = ", ".join(json.dumps(value, ensure_ascii=False, default=str) for value in values[:50])
        described = own.get("description")
        own["description"] = f"{described} (one of: {named})" if isinstance(described, str) else f"One of: {named}"
        return
    # Google: "enum[0]: cannot be empty".
    own["enum"] = [text for text in texts if text]
    if not own["enum"]:
        del own["enum"]
    own["type"] = "string"
    if None in values:
        own["nullable"] = True


def merge(merged: dict[str, Any], options: Sequence[Mapping[str, Any]], *, every: bool) -> None:
    """Merge the properties of *options* into *merged*; required are those of every option, or with *every* of any."""
    properties: dict[str, Any] = {}
    for option in options:
        inner = option.get("properties")
        for name, one in inner.items() if isinstance(inner, Mapping) else ():
            known = properties.get(name)
            properties[name] = one if known in (None, one) else _either(known, one)
    own = merged.get("properties")
    if properties:
        merged["properties"] = {**properties, **(own if isinstance(own, Mapping) else {})}
    lists = [[name for name in as_list(option.get("required")) if isinstance(name, str)] for option in options]
    if every:
        required = [name for names in lists for name in names]
    else:
        required = [name for name in (lists[0] if lists else ()) if all(name in names for names in lists)]
    if required:
        merged["required"] = list(dict.fromkeys([*as_list(merged.get("required")), *required]))


def _either(one: Any, other: Any) -> dict[str, Any]:
    options = one["anyOf"] if isinstance(one, dict) and set(one) == {"anyOf"} else [one]
    return {"anyOf": options if other in options else [*options, other]}


def as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
