"""Answer schemas in the closed form that Anthropic's structured outputs accept.

docs.claude.com, Structured outputs, "JSON Schema limitations": objects are closed (`additionalProperties: false`),
there is no recursion, no limit on numbers, texts and lists, and an enum contains no objects. As in Anthropic's own SDK
a limit is written into the description; the answer is still checked against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clawft_trio.chat import JsonObject
from clawft_trio.codec import encode_json

_KEPT = frozenset(
    {"type", "title", "description", "default", "enum", "const", "anyOf", "properties", "required", "items"}
)
_LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
           "pattern", "format", "minItems", "maxItems", "uniqueItems")  # fmt: skip
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
_OPEN = ("patternProperties", "prefixItems", "not", "if", "contains", "propertyNames", "dependentSchemas")
_DEEPEST = 24


class _CannotExpressError(Exception):
    """The closed form has no equivalent."""


def closed_schema(schema: JsonObject) -> JsonObject | None:
    """Return *schema* in the closed form; None when the closed form cannot express it."""
    try:
        return _closed(schema, schema, ())
    except _CannotExpressError:
        return None


def _closed(schema: Any, root: JsonObject, following: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(schema, Mapping) or len(following) > _DEEPEST:
        raise _CannotExpressError
    own = dict(schema)
    if "$ref" in own:
        reference = str(own.pop("$ref"))
        if reference in following:
            raise _CannotExpressError
        return _closed({**_resolved(reference, root), **own}, root, (*following, reference))
    alone = own.get("allOf")
    if isinstance(alone, list) and len(alone) == 1 and isinstance(alone[0], Mapping):
        del own["allOf"]
        return _closed({**alone[0], **own}, root, following)
    if "allOf" in own or any(keyword in own for keyword in _OPEN):
        raise _CannotExpressError
    kind = own.get("type")
    if isinstance(kind, list):
        del own["type"]
        own["anyOf"] = [{"type": one, **({} if one == "null" else _of_one(own))} for one in kind]
        own = {key: value for key, value in own.items() if key in ("anyOf", "title", "description", "default")}
    legal = {key: value for key, value in own.items() if key in _KEPT}
    _inside(legal, own, root, following)
    _note_limits(legal, own)
    return legal


def _of_one(own: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in own.items() if key not in ("title", "description", "default", "anyOf")}


def _inside(legal: dict[str, Any], own: Mapping[str, Any], root: JsonObject, following: tuple[str, ...]) -> None:
    options = own.get("anyOf") or own.get("oneOf")
    if options is not None:
        legal["anyOf"] = [_closed(option, root, following) for option in options]
    if "items" in own:
        legal["items"] = _closed(own["items"], root, following)
    properties = own.get("properties")
    if isinstance(properties, Mapping) or own.get("type") == "object":
        if not properties or own.get("additionalProperties") not in (None, False):
            # An object with any keys.
            raise _CannotExpressError
        legal["properties"] = {name: _closed(one, root, following) for name, one in properties.items()}
        legal["additionalProperties"] = False
    if own.get("type") == "array" and "items" not in legal:
        raise _CannotExpressError
    if any(isinstance(value, Mapping | list) for value in own.get("enum") or ()):
        raise _CannotExpressError
    if not legal.keys() & {"type", "anyOf", "enum", "const"}:
        # Any value at all.
        raise _CannotExpressError


def _note_limits(legal: dict[str, Any], own: Mapping[str, Any]) -> None:
    """Write the limits that Anthropic does not accept into the description."""
    limits = {name: own[name] for name in _LIMITS if name in own}
    if limits.get("format") in _FORMATS:
        legal["format"] = limits.pop("format")
    if limits.get("minItems") in (0, 1):
        legal["minItems"] = limits.pop("minItems")
    if limits:
        described = str(legal.get("description") or "")
        legal["description"] = f"{described} {encode_json(limits).decode()}".lstrip()


def _resolved(reference: str, root: JsonObject) -> Mapping[str, Any]:
    found: Any = root
    for step in reference.removeprefix("#").split("/"):
        if step:
            found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    if not reference.startswith("#") or not isinstance(found, Mapping):
        raise _CannotExpressError
    return found
