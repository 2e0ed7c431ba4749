"""Whether OpenAI can guarantee that an answer fits a schema (`strict`)."""

from __future__ import annotations

from collections.abc import Mapping

from clawft_trio.llm.conform.keywords import TYPING, as_list, is_plain_pattern

STRICT_KEYWORDS = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "anyOf", "enum", "const", "$ref", "$defs",
     "definitions", "description", "title", "pattern", "format", "minimum", "maximum", "exclusiveMinimum",
     "exclusiveMaximum", "multipleOf", "minItems", "maxItems"}
)  # fmt: skip
"""Keywords of OpenAI's structured outputs (platform.openai.com, Structured outputs, "Supported schemas")."""

_STRICT_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
"""Values of `format` in OpenAI's structured outputs (same source)."""


def fits_strict(schema: object) -> bool:
    """Return whether OpenAI accepts *schema* with `strict`, which guarantees its shape; it refuses other schemas.

    Every object requires all its properties and forbids others; the outermost schema is an object, not a combination.
    """
    if not isinstance(schema, Mapping) or schema.get("type") != "object" or "anyOf" in schema:
        return False
    return _is_closed(schema, 0)


def _is_closed(schema: object, depth: int) -> bool:
    if not isinstance(schema, Mapping):
        return False
    if depth > 10 or not schema.keys() <= STRICT_KEYWORDS or ("$ref" in schema and len(schema) > 1):
        return False
    if not is_plain_pattern(str(schema.get("pattern", ""))) or schema.get("format", "email") not in _STRICT_FORMATS:
        return False
    if schema.get("type") == "array" and not any(key in (schema.get("items") or ()) for key in TYPING):
        return False
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, Mapping):
        required = schema.get("required") or ()
        if schema.get("additionalProperties") is not False or set(required) != set(properties or ()):
            return False
    inner = [*(properties or {}).values(), *as_list(schema.get("anyOf"))]
    for keyword in ("$defs", "definitions"):
        inner += (schema.get(keyword) or {}).values()
    if "items" in schema:
        inner.append(schema["items"])
    return all(_is_closed(one, depth + 1) for one in inner)
