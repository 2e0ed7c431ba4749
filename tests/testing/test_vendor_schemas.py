"""Each vendor's check of tool schemas complains of what it names, at its place, and of no more."""

from __future__ import annotations

import pytest

from clawft_trio.testing.vendor_schemas import (
    anthropic_schemas,
    google_schemas,
    grammar_schemas,
    inner_schemas,
    moonshot_schemas,
    openai_schemas,
    schemas_of,
)

EMPTY = {"type": "object", "properties": {}}


def having(schema, **more):
    """An object with one property."""
    return {"type": "object", "properties": {"x": schema}, **more}


def messages(check, schema):
    body = {"tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]}
    complaints = list(check(body))
    assert {(one.param, one.code) for one in complaints} <= {("tools", "invalid_function_parameters")}
    assert all(one.message.startswith("Invalid schema for function 'f': ") for one in complaints)
    return [one.message.partition("'f': ")[2] for one in complaints]


def test_the_schemas_of_tools_are_found_in_every_dialect():
    tools = [
        {"type": "function", "function": {"name": "chat", "parameters": {"title": "a"}}},
        {"type": "function", "function": {"name": "bare"}},
        {"type": "function", "name": "responses", "parameters": {"title": "b"}},
        {"type": "function", "name": "none"},
        {"type": "web_search", "name": "own", "parameters": {}},
        {"name": "claude", "input_schema": {"title": "c"}},
    ]
    assert list(schemas_of({"tools": tools})) == [
        ("chat", {"title": "a"}),
        ("bare", EMPTY),
        ("responses", {"title": "b"}),
        ("claude", {"title": "c"}),
    ]


def test_inner_schemas_have_their_places():
    leaf = {"type": "string"}
    schema = {
        "properties": {"a": leaf},
        "$defs": {"b": leaf},
        "definitions": {"c": leaf},
        "patternProperties": {"d": {"items": leaf}},
        "anyOf": [leaf, leaf],
        "oneOf": [leaf],
        "allOf": [leaf],
        "prefixItems": [leaf],
        "items": leaf,
        "additionalProperties": leaf,
        "not": leaf,
        "enum": [leaf],
    }
    assert [place for place, _ in inner_schemas(schema)] == [
        *("", "/properties/a", "/$defs/b", "/definitions/c", "/patternProperties/d", "/patternProperties/d/items"),
        *("/anyOf/0", "/anyOf/1", "/oneOf/0", "/allOf/0", "/prefixItems/0"),
        *("/items", "/additionalProperties", "/not"),
    ]
    assert list(inner_schemas({"properties": [leaf], "items": True, "anyOf": None})) == [
        ("", {"properties": [leaf], "items": True, "anyOf": None})
    ]


NOT_AN_OBJECT = [True, {"type": "array", "properties": {}}, {"properties": {}}]

GENERAL = [
    (having({"type": "string"}), []),
    (having({"type": ["string", "null", "array"], "items": {}}), []),
    (having({"enum": [1]}), []),
    (having({"type": "text"}), ["'text' is not valid"]),
    (having({"type": ["string", "text", "date"]}), ["'text' is not valid", "'date' is not valid"]),
    (having({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}), []),
    (having({"type": "number", "exclusiveMinimum": True}), ["exclusiveMinimum is not"]),
    (having({"type": "number", "exclusiveMaximum": False}), ["exclusiveMaximum is not"]),
    (having(EMPTY, required=["x"]), []),
    (having(EMPTY, required=True), ["required is not"]),
    (having({"$ref": "#"}), []),
    (having({"$ref": "#/$defs/a~1b~0c"}, **{"$defs": {"a/b~c": {}}}), []),
    (having({"$ref": "#/anyOf2/1"}, anyOf2=[{}, {}]), []),
    (having({"$ref": "#/anyOf2/2"}, anyOf2=[{}, {}]), ["can not be resolved, at /properties/x"]),
    (having({"$ref": "#/anyOf2/a"}, anyOf2=[{}, {}]), ["can not be resolved"]),
    (having({"$ref": "#/$defs/no"}, **{"$defs": {"yes": {}}}), ["can not be resolved"]),
    (having({"$ref": "#/type/0"}), ["can not be resolved"]),
    (having({"$ref": "https://example.org/#"}), ["can not be resolved"]),
    (having({"$ref": 1}), ["can not be resolved"]),
]

OPENAI = [
    *((schema, ["must have type 'object'"]) for schema in NOT_AN_OBJECT),
    (EMPTY, []),
    ({"type": "object"}, ["object schema missing properties."]),
    ({**EMPTY, "anyOf": [], "not": {}}, ["not have 'anyOf'", "not have 'not'"]),
    ({**EMPTY, "oneOf": [], "allOf": [], "enum": []}, ["'oneOf'", "'allOf'", "'enum'"]),
    (having({"type": "array", "items": {}}), []),
    (having({"type": "array"}), ["array schema missing items, at /properties/x"]),
    (having({"type": "array", "items": [{}]}), ["items is a list", "array schema missing items"]),
    (having({"type": "string", "pattern": "^a(?:b)$"}), []),
    *((having({"pattern": bad}), ["is not a 'regex'"]) for bad in ("(?=a)", "(?!a)", "(?<=a)", "(?<!a)", r"\p{L}", r"\P{L}")),
]  # fmt: skip

ANTHROPIC = [
    *((schema, ["Input should be 'object'"]) for schema in NOT_AN_OBJECT),
    ({"type": "object"}, []),
    ({**EMPTY, "oneOf": [], "allOf": [], "anyOf": []}, ["at the top level"] * 3),
    (having({"anyOf": [{"type": "string"}]}), []),
    (having(having({}), properties={"a.b-C_1": {}, "k" * 64: {}}), []),
    ({"type": "object", "properties": {"$x": {}, "k" * 65: {"type": "text"}, "": {}}}, [*["Property keys"] * 3, "not valid"]),
    (having({"properties": {"a b": {}}}), ["Property keys"]),
    (having({"properties": ["a b"]}), []),
]  # fmt: skip

GOOGLE = [
    *((schema, ["should be of type OBJECT"]) for schema in NOT_AN_OBJECT),
    (EMPTY, []),
    ({"type": "object"}, []),
    ({**EMPTY, "additionalProperties": False}, ['Unknown name "additionalProperties"']),
    (having({}), ["didn't specify the schema type"]),
    (having({"anyOf": [{"type": "string"}]}), []),
    (having({"type": "string", "required": []}), ["properties: only allowed"]),
    (having({"type": "string", "properties": {"a": {"type": "string"}}}), ["properties: only allowed"]),
    (having(EMPTY), ["should be non-empty for OBJECT"]),
    (having(having({"type": "string"})), []),
    (having({"type": "string", "items": {"type": "string"}}), ["items: only allowed"]),
    (having({"type": "array", "items": {"type": "string"}}), []),
    (having({"type": "array"}), ["items: missing field"]),
    (having({"type": "string", "format": "date-time"}), []),
    (having({"type": "string", "format": "enum"}), []),
    (having({"type": "string", "format": "uri"}), ["are supported for STRING"]),
    (having({"type": "number", "format": "double"}), []),
    (having({"type": "string"}, required=["x"]), []),
    (having({"type": "string"}, required=["x", "y"]), ["not defined: y"]),
    ({"type": "object", "required": ["y"]}, ["not defined: y"]),
    (having({"type": "string", "enum": ["a"]}), []),
    (having({"type": "string", "enum": ["a", "", 1]}), ["enum: only strings"] * 2),
    (having({"type": ["string", "null"]}), ["Proto field is not repeating"]),
    ({"type": "object", "properties": {"k" * 64: {"type": "string"}, "_a.b-1": {"type": "string"}}}, []),
    ({"type": "object", "properties": {"k" * 65: {"type": "string"}, "1a": {"type": "string"}}}, ["is not allowed"] * 2),
]  # fmt: skip

MOONSHOT = [
    *((schema, ["not a valid moonshot"]) for schema in [*NOT_AN_OBJECT, {"type": "object"}]),
    (EMPTY, []),
    (having({"$ref": "#/$defs/a"}, **{"$defs": {"a": {"type": "string"}}}), []),
    (having({"$ref": "#/definitions/a"}), ["stand alone, at /properties/x"]),
    (having({"$ref": "#/$defs/a", "title": "t"}), ["stand alone"]),
    (having({"anyOf": [{"type": "string"}]}), []),
    (having({"anyOf": [{"type": "string"}], "type": "string"}), ["when using anyOf"]),
    *((having({keyword: []}), []) for keyword in ("oneOf", "allOf", "enum", "const")),
    (having({"title": "t"}), ["type is required"]),
    (having({"type": "array", "items": {"type": "string"}}), []),
    (having({"type": "array", "items": True}), ["items must be an object"]),
    (having({"type": "array", "items": [{"type": "string"}]}), ["items must be an object"]),
    (having(True), ["property schema for 'x'"]),
    (having({"type": "object", "properties": [1]}), []),
]

GRAMMAR = [
    (True, []),
    ({}, []),
    (having({}), []),
    *((having({keyword: []}), []) for keyword in ("type", "anyOf", "oneOf", "allOf", "enum", "const", "$ref", "properties")),
    (having({"title": "t"}), ["Unrecognized schema at /properties/x"]),
    (having({"type": "string", "not": {}}), ["at /properties/x/not"]),
    (having({"type": "string", "pattern": "^a$"}), []),
    (having({"type": "string", "pattern": "^a"}), ["must start with"]),
    (having({"type": "string", "pattern": "a$"}), ["must start with"]),
    (having({"type": "string", "pattern": "^(?!a)b$"}), ["failed to parse grammar"]),
    (having({"type": "string", "maxLength": 2000}), []),
    (having({"type": "string", "maxLength": 2001}), ["failed to parse grammar"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "schema", "expected"),
    [
        *((openai_schemas(), *case) for case in [*GENERAL, *OPENAI]),
        *((anthropic_schemas(), *case) for case in [*GENERAL, *ANTHROPIC]),
        *((google_schemas(), *case) for case in GOOGLE),
        *((moonshot_schemas(), *case) for case in MOONSHOT),
        *((grammar_schemas(), *case) for case in GRAMMAR),
    ],
)
def test_a_schema_is_refused_for_what_it_has_wrong(check, schema, expected):
    found = messages(check, schema)
    assert len(found) == len(expected), found
    assert all(part in message for part, message in zip(expected, found, strict=True)), found
