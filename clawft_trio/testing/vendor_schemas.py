"""Checks of the JSON Schemas of tools, written from the vendors' documentation and error messages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from clawft_trio.chat import JsonObject
from clawft_trio.testing.vendor_checks import Check, Complaint, function_of, objects

_COMBINATIONS = ("anyOf", "oneOf", "allOf", "enum", "not")

_GOOGLE_KEYWORDS = frozenset(
    {"type", "format", "title", "description", "nullable", "enum", "maxItems", "minItems", "properties", "required",
     "minProperties", "maxProperties", "minLength", "maxLength", "pattern", "example", "anyOf", "propertyOrdering",
     "default", "items", "minimum", "maximum"}
)  # fmt: skip
"""The fields of `Schema` in Google's reference (ai.google.dev/api/caching#Schema)."""

_JSON_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")


def schemas_of(body: JsonObject) -> Iterator[tuple[str, Any]]:
    """Yield each tool's name and its schema, in any dialect."""
    for tool in objects(body.get("tools")):
        function = function_of(tool)
        if function:
            yield str(function.get("name")), function.get("parameters", {"type": "object", "properties": {}})
        elif tool.get("type") == "function" and "parameters" in tool:
            # The form of the Responses dialect.
            yield str(tool.get("name")), tool["parameters"]
        elif "input_schema" in tool:
            yield str(tool.get("name")), tool["input_schema"]


def inner_schemas(schema: object, place: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield *schema* and every schema inside it, with its place."""
    if not isinstance(schema, Mapping):
        return
    yield place, schema
    for keyword in ("properties", "$defs", "definitions", "patternProperties"):
        inner = schema.get(keyword)
        for name, one in inner.items() if isinstance(inner, Mapping) else ():
            yield from inner_schemas(one, f"{place}/{keyword}/{name}")
    for keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for number, one in enumerate(schema.get(keyword) or ()):
            yield from inner_schemas(one, f"{place}/{keyword}/{number}")
    for keyword in ("items", "additionalProperties", "not"):
        yield from inner_schemas(schema.get(keyword), f"{place}/{keyword}")


def _check(complain: Any) -> Check:
    def check(body: JsonObject) -> Iterator[Complaint]:
        for name, schema in schemas_of(body):
            for problem in complain(schema):
                yield Complaint(
                    f"Invalid schema for function '{name}': {problem}",
                    param="tools",
                    code="invalid_function_parameters",
                )

    return check


def openai_schemas() -> Check:
    r"""OpenAI: "object schema missing properties", "array schema missing items", "schema must have type 'object' and
    not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level"; references must resolve. Patterns: "is not a
    'regex'" for `\p{…}` (BerriAI/litellm#40485), "regex lookaround is not supported" (decolua/9router#1556).
    """

    def complain(schema: Any) -> Iterator[str]:
        if not isinstance(schema, Mapping) or schema.get("type") != "object":
            yield "schema must have type 'object'"
            return
        if "properties" not in schema:
            yield "object schema missing properties."
        for keyword in _COMBINATIONS:
            if keyword in schema:
                yield f"schema must not have '{keyword}' at the top level."
        for place, one in inner_schemas(schema):
            yield from _general(place, one, schema)
            if one.get("type") == "array" and not isinstance(one.get("items"), Mapping):
                yield f"array schema missing items, at {place}"
            if re.search(r"\(\?<?[=!]|\\[pP]\{", str(one.get("pattern", ""))):
                yield f"{one['pattern']!r} is not a 'regex', at {place}"

    return _check(complain)


def _general(place: str, one: Mapping[str, Any], root: Mapping[str, Any]) -> Iterator[str]:
    """Yield violations of draft 2020-12, which Anthropic and OpenAI check."""
    kinds = one.get("type", "object")
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if kind not in _JSON_TYPES:
            yield f"{kind!r} is not valid under any of the given schemas, at {place}/type"
    if isinstance(one.get("items"), list):
        yield f"items is a list, at {place}"
    for keyword in ("exclusiveMinimum", "exclusiveMaximum"):
        if isinstance(one.get(keyword), bool):
            yield f"{keyword} is not of type 'number', at {place}"
    if "required" in one and not isinstance(one["required"], list):
        yield f"required is not of type 'array', at {place}"
    reference = one.get("$ref")
    if reference is not None and not _resolves(reference, root):
        yield f"reference {reference!r} can not be resolved, at {place}"


def _resolves(reference: object, root: Mapping[str, Any]) -> bool:
    if not isinstance(reference, str) or not reference.startswith("#"):
        return False
    found: Any = root
    for step in [step for step in reference[1:].split("/") if step]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            return False
    return True


def anthropic_schemas() -> Check:
    """Anthropic: "input_schema.type: Field required", "input_schema does not support oneOf, allOf, or anyOf at the top
    level", "Property keys should match pattern '^[a-zA-Z0-9_.-]{1,64}$'", "JSON schema is invalid. It must match JSON
    Schema draft 2020-12".
    """

    def complain(schema: Any) -> Iterator[str]:
        if not isinstance(schema, Mapping) or schema.get("type") != "object":
            yield "input_schema.type: Input should be 'object'"
            return
        for keyword in ("oneOf", "allOf", "anyOf"):
            if keyword in schema:
                yield "input_schema does not support oneOf, allOf, or anyOf at the top level"
        for place, one in inner_schemas(schema):
            yield from (f"JSON schema is invalid: {problem}" for problem in _general(place, one, schema))
            properties = one.get("properties")
            for key in properties if isinstance(properties, Mapping) else ():
                if not re.fullmatch(r"[a-zA-Z0-9_.-]{1,64}", key):
                    yield "Property keys should match pattern '^[a-zA-Z0-9_.-]{1,64}$'"

    return _check(complain)


def google_schemas() -> Check:
    """Google: "Unknown name … Cannot find field" (zed-industries/zed#44875), "items: missing field", "only 'enum' and
    'date-time' are supported for STRING type", "property is not defined" for `required` (Kilo-Org/kilocode#11955), one
    type for each schema (voocel/litellm#9), which is not left out (UKGovernmentBEIS/inspect_ai#3097), enums of texts
    that are not empty; "only allowed for OBJECT type" (anomalyco/opencode#11889), "should be non-empty for OBJECT
    type" (browser-use/browser-use#3786).
    """

    def complain(schema: Any) -> Iterator[str]:
        if not isinstance(schema, Mapping) or schema.get("type") != "object":
            yield "parameters schema should be of type OBJECT."
            return
        for place, one in inner_schemas(schema):
            for keyword in one.keys() - _GOOGLE_KEYWORDS:
                yield f'Unknown name "{keyword}" at {place}: Cannot find field.'
            yield from _google(place, one)

    return _check(complain)


def _google(place: str, one: Mapping[str, Any]) -> Iterator[str]:
    if not one.keys() & {"type", "anyOf"}:
        yield f"schema didn't specify the schema type field, at {place}"
    if one.get("type") != "object" and one.keys() & {"properties", "required"}:
        yield f"properties: only allowed for OBJECT type, at {place}"
    if place and one.get("properties") == {}:
        yield f"properties: should be non-empty for OBJECT type, at {place}"
    if one.get("type") != "array" and "items" in one:
        yield f"items: only allowed for ARRAY type, at {place}"
    yield from _google_values(place, one)
    if one.get("type") == "array" and not one.get("items"):
        yield f"items: missing field, at {place}"
    if one.get("type") == "string" and one.get("format") not in {None, "enum", "date-time"}:
        yield f"only 'enum' and 'date-time' are supported for STRING type, at {place}"
    for name in one.get("required") or ():
        if name not in (one.get("properties") or {}):
            yield f"required: property is not defined: {name}, at {place}"
    for name in one.get("properties") or ():
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_.-]{0,63}", name):
            yield f"properties: key {name!r} is not allowed, at {place}"


def _google_values(place: str, one: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(one.get("type"), list):
        yield f"Proto field is not repeating, cannot start list, at {place}/type"
    for value in one.get("enum") or ():
        if not isinstance(value, str) or not value:
            yield f"enum: only strings, which cannot be empty, at {place}"


def moonshot_schemas() -> Check:
    """Moonshot's MFJS: "references must start with #/$defs/" (anomalyco/opencode#27054), "conflicting keywords found
    after $ref expansion" (MoonshotAI/kimi-cli#2061); `anyOf` stands without a `type` beside it
    (abhigyanpatwari/GitNexus#2703); "property schema must be an object" (can1357/oh-my-pi#5952), with a type
    (NousResearch/hermes-agent#14805).
    """

    def complain(schema: Any) -> Iterator[str]:
        if not isinstance(schema, Mapping) or schema.get("type") != "object" or "properties" not in schema:
            yield "tools.function.parameters is not a valid moonshot flavored json schema"
            return
        for place, one in inner_schemas(schema):
            reference = one.get("$ref")
            if reference is not None and (not str(reference).startswith("#/$defs/") or len(one) > 1):
                yield f"references must start with #/$defs/ and stand alone, at {place}"
            if "anyOf" in one and "type" in one:
                yield f"when using anyOf, type should be defined in anyOf items, at {place}"
            if not one.keys() & {"type", "anyOf", "oneOf", "allOf", "enum", "const", "$ref"}:
                yield f"type is required, at {place}"
            if isinstance(one.get("items"), bool | list):
                yield f"items must be an object, at {place}"
            properties = one.get("properties")
            for name, inner in properties.items() if isinstance(properties, Mapping) else ():
                if not isinstance(inner, Mapping):
                    yield f"property schema for {name!r} must be an object, at {place}"

    return _check(complain)


def grammar_schemas() -> Check:
    """Servers on llama.cpp: "JSON schema conversion failed: Unrecognized schema" for schemas without a type
    (ggml-org/llama.cpp#19716) and `not` (#17574); "Pattern must start with '^' and end with '$'"
    (containers/kubernetes-mcp-server#758), "failed to parse grammar" for lookaround (codefuturist/email-mcp#58) and for
    texts of thousands of characters (firecrawl/firecrawl#4512).
    """

    def complain(schema: Any) -> Iterator[str]:
        for place, one in inner_schemas(schema):
            if one and not one.keys() & {"type", "anyOf", "oneOf", "allOf", "enum", "const", "$ref", "properties"}:
                yield f"JSON schema conversion failed: Unrecognized schema at {place}"
            if "not" in one:
                yield f"JSON schema conversion failed: Unrecognized schema at {place}/not"
            pattern = one.get("pattern")
            if isinstance(pattern, str) and not (pattern.startswith("^") and pattern.endswith("$")):
                yield f"Pattern must start with '^' and end with '$', at {place}"
            if re.search(r"\(\?<?[=!]", str(pattern)) or one.get("maxLength", 0) > 2000:
                yield f"failed to parse grammar, at {place}"

    return _check(complain)
