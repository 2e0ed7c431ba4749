"""JSON Schemas of tools and answers: what a target does not accept becomes what it accepts, one rule at a time."""

from __future__ import annotations

from typing import Any

import pytest

from clawft_trio.llm.conform.answers import closed_schema
from clawft_trio.llm.conform.rules import SchemaRules
from clawft_trio.llm.conform.schemas import TooLarge, legal_schema
from clawft_trio.llm.conform.strict import fits_strict

ANY = SchemaRules(patterns="any")
TEXT, WHOLE, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
ANYTHING = {"anyOf": [TEXT, NUMBER, {"type": "boolean"}, {"type": "object"}, {"type": "array", "items": TEXT}]}


def legal(schema: Any, rules: SchemaRules = ANY) -> Any:
    """*schema* as it is sent as the property `a` of a tool."""
    return legal_schema({"type": "object", "properties": {"a": schema}}, rules).schema["properties"]["a"]


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        ({**TEXT, "$schema": "x", "$id": "y", "$comment": "z", "id": "w"}, TEXT),
        ({**TEXT, "id": 1}, {**TEXT, "id": 1}),
        ({**TEXT, "title": 1, "description": None, "format": [], "pattern": 2}, TEXT),
        # Booleans of draft 4.
        ({**NUMBER, "minimum": 1, "exclusiveMinimum": True}, {**NUMBER, "exclusiveMinimum": 1}),
        ({**NUMBER, "maximum": 1, "exclusiveMaximum": True}, {**NUMBER, "exclusiveMaximum": 1}),
        ({**NUMBER, "maximum": 1, "exclusiveMaximum": False}, {**NUMBER, "maximum": 1}),
        ({**NUMBER, "exclusiveMaximum": True}, NUMBER),
        ({**NUMBER, "exclusiveMaximum": 3, "maximum": 4}, {**NUMBER, "exclusiveMaximum": 3, "maximum": 4}),
        ({**NUMBER, "minimum": "1", "maximum": True, "multipleOf": 0.5}, {**NUMBER, "multipleOf": 0.5}),
        ({**TEXT, "minLength": 1, "maxLength": None}, {**TEXT, "minLength": 1}),
        # Items as a list.
        ({"type": "array", "items": [TEXT]}, {"type": "array", "prefixItems": [TEXT], "items": TEXT}),
        ({"items": [TEXT, WHOLE]}, {"type": "array", "prefixItems": [TEXT, WHOLE], "items": {"anyOf": [TEXT, WHOLE]}}),
        ({"type": "array", "items": [TEXT, TEXT]}, {"type": "array", "prefixItems": [TEXT, TEXT], "items": TEXT}),
        ({"type": "array", "items": [TEXT, {}]}, {"type": "array", "prefixItems": [TEXT, {}], "items": {}}),
        (
            {"type": "array", "items": [TEXT], "additionalItems": WHOLE},
            {"type": "array", "prefixItems": [TEXT], "items": WHOLE},
        ),
        (
            {"type": "array", "items": [TEXT], "additionalItems": False},
            {"type": "array", "prefixItems": [TEXT], "items": TEXT},
        ),
        ({"type": "array"}, {"type": "array", "items": {}}),
        ({"type": ["array", "null"]}, {"type": ["array", "null"], "items": {}}),
        ({"type": "array", "items": True}, {"type": "array", "items": {}}),
        # Required and enum.
        ({"type": "object", "properties": {"b": {}}, "required": True}, {"type": "object", "properties": {"b": {}}}),
        (
            {"type": "object", "properties": {"b": {}}, "required": ["b", "b", "c"]},
            {"type": "object", "properties": {"b": {}}, "required": ["b"]},
        ),
        ({"type": "object", "properties": {}, "required": ["c"]}, {"type": "object", "properties": {}}),
        ({**TEXT, "enum": []}, TEXT),
        ({**TEXT, "enum": "x"}, TEXT),
        ({**TEXT, "enum": ["x"]}, {**TEXT, "enum": ["x"]}),
        # Types that do not exist.
        ({"type": "String"}, TEXT),
        ({"type": "str"}, TEXT),
        ({"type": "Float"}, NUMBER),
        ({"type": "tuple"}, {"type": "array", "items": {}}),
        ({"type": "any"}, {}),
        ({"type": 3}, {}),
        ({"type": ["string", "string"]}, TEXT),
        ({"type": ["string", "odd", 3, "null"]}, {"type": ["string", "null"]}),
        ({"type": []}, {}),
        # Types that are missing.
        ({"properties": {"b": TEXT}}, {"type": "object", "properties": {"b": TEXT}}),
        ({"properties": {"b": TEXT}, "anyOf": [{}]}, {"properties": {"b": TEXT}, "anyOf": [{}]}),
        ({"items": TEXT}, {"type": "array", "items": TEXT}),
        ({"items": TEXT, "enum": [["x"]]}, {"items": TEXT, "enum": [["x"]]}),
        # Keywords with values of another type.
        ({"type": "object", "properties": [], "anyOf": {}}, {"type": "object"}),
        ({**TEXT, "anyOf": [], "oneOf": [TEXT]}, {**TEXT, "oneOf": [TEXT]}),
        ({**TEXT, "$ref": 5}, TEXT),
        (True, {}),
        (False, {}),
        ({"not": {"type": "int"}}, {"not": WHOLE}),
        ({"type": "object", "patternProperties": {"x": {"type": "int"}}}, {"type": "object", "patternProperties": {"x": WHOLE}}),
    ],
)  # fmt: skip
def test_what_no_draft_allows_is_repaired_for_every_target(schema: Any, sent: Any) -> None:
    assert legal(schema) == sent


def test_a_schema_that_is_accepted_stays_the_same_object() -> None:
    schema = {"type": "object", "properties": {"a": TEXT}, "required": ["a"]}
    assert legal_schema(schema, ANY).schema is schema
    assert legal_schema(None, ANY).schema == {"type": "object", "properties": {}}
    assert legal_schema({}, ANY).schema == {"type": "object", "properties": {}}


FEW = SchemaRules(
    patterns="any", keywords={"type", "properties", "required", "items", "anyOf", "enum", "minimum", "maximum"}
)


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        ({"const": "x"}, {"enum": ["x"], "type": "string"}),
        ({"const": True}, {"enum": [True], "type": "boolean"}),
        ({"const": 1}, {"enum": [1], "type": "integer"}),
        ({"const": 1.5}, {"enum": [1.5], "type": "number"}),
        ({"const": {}}, {"enum": [{}], "type": "object"}),
        ({"const": []}, {"enum": [[]], "type": "array", "items": {}}),
        ({"const": None}, {"enum": [None]}),
        ({"const": 1, "type": "number"}, {"enum": [1], "type": "number"}),
        ({"oneOf": [TEXT], "anyOf": [WHOLE]}, {"anyOf": [WHOLE, TEXT]}),
        ({"oneOf": [TEXT]}, {"anyOf": [TEXT]}),
        (
            {"allOf": [{"properties": {"b": TEXT}, "required": ["b"]}, {"properties": {"c": WHOLE}, "type": "object"}]},
            {"type": "object", "properties": {"b": TEXT, "c": WHOLE}, "required": ["b"]},
        ),
        ({"type": "number", "allOf": [True, {"minimum": 1, "type": "integer"}]}, {"type": "number", "minimum": 1}),
        ({**NUMBER, "exclusiveMinimum": 1, "exclusiveMaximum": 9}, {**NUMBER, "minimum": 1, "maximum": 9}),
        ({**NUMBER, "exclusiveMinimum": 1, "minimum": 0}, {**NUMBER, "minimum": 0}),
        ({"additionalProperties": TEXT}, {"type": "object"}),
        ({"additionalProperties": False}, {}),
        ({**TEXT, "maxLength": 3}, TEXT),
    ],
)
def test_a_keyword_that_a_target_does_not_accept_becomes_one_that_it_accepts(schema: Any, sent: Any) -> None:
    assert legal(schema, FEW) == sent


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        ({"type": ["string", "null"]}, {**TEXT, "nullable": True}),
        (
            {"type": ["string", "array"], "minLength": 1, "items": TEXT, "description": "d"},
            {"anyOf": [{**TEXT, "minLength": 1}, {"type": "array", "items": TEXT}], "description": "d"},
        ),
        (
            {"type": ["string", "integer", "null"], "maximum": 5},
            {"anyOf": [TEXT, {**WHOLE, "maximum": 5}], "nullable": True},
        ),
        ({"type": ["string", "null"], "anyOf": [TEXT]}, {**TEXT, "anyOf": [TEXT], "nullable": True}),
        ({"type": ["string", "integer"], "anyOf": [TEXT]}, {"anyOf": [TEXT]}),
        ({"anyOf": [TEXT, {"type": "null"}]}, {**TEXT, "nullable": True}),
        ({"anyOf": [TEXT, WHOLE, {"type": "null"}]}, {"anyOf": [TEXT, WHOLE], "nullable": True}),
        ({"anyOf": [TEXT, WHOLE]}, {"anyOf": [TEXT, WHOLE]}),
        ({"title": "t", "anyOf": [{**TEXT, "title": "u"}, {"type": "null"}]}, {**TEXT, "title": "t", "nullable": True}),
        (
            {"anyOf": [{"type": ["string", "integer"]}, {"type": "null"}]},
            {"anyOf": [TEXT, WHOLE], "nullable": True},
        ),
    ],
)
def test_null_is_nullable_where_a_type_is_one_name(schema: Any, sent: Any) -> None:
    assert legal(schema, SchemaRules(patterns="any", type_lists=False)) == sent


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        ({"enum": ["x", "y"]}, {**TEXT, "enum": ["x", "y"]}),
        ({"enum": ["x", "", None]}, {**TEXT, "enum": ["x"], "nullable": True}),
        ({"enum": [""]}, TEXT),
        ({"enum": [1, 2]}, {**WHOLE, "description": "One of: 1, 2"}),
        ({"enum": [1, "x"], "description": "d"}, {"description": 'd (one of: 1, "x")'}),
        ({"enum": [1, None]}, {**WHOLE, "description": "One of: 1, null"}),
        ({"enum": [1], "anyOf": [WHOLE]}, {"anyOf": [WHOLE], "description": "One of: 1"}),
        (
            {"enum": [*range(51)], "type": "number"},
            {**NUMBER, "description": f"One of: {', '.join(map(str, range(50)))}"},
        ),
    ],
)
def test_an_enum_of_other_values_is_described_where_only_texts_are_accepted(schema: Any, sent: Any) -> None:
    assert legal(schema, SchemaRules(patterns="any", mixed_enums=False)) == sent


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        ({}, ANYTHING),
        (True, ANYTHING),
        ({"description": "d"}, {"description": "d", **ANYTHING}),
        (TEXT, TEXT),
        ({"enum": ["x"]}, {"enum": ["x"]}),
        (
            {"type": "object", "properties": {"b": TEXT}, "anyOf": [{"required": ["b"]}, {"not": {}, "title": "t"}]},
            {"type": "object", "properties": {"b": TEXT}},
        ),
        ({"oneOf": [{"required": ["b"]}, TEXT]}, {"oneOf": [ANYTHING, TEXT]}),
    ],
)
def test_a_schema_without_a_type_accepts_the_usual_types_where_one_is_required(schema: Any, sent: Any) -> None:
    assert legal(schema, SchemaRules(patterns="any", typed=True)) == sent


@pytest.mark.parametrize(
    ("rules", "schema", "sent"),
    [
        ({"patterns": "any"}, {**TEXT, "pattern": "(?=x)"}, {**TEXT, "pattern": "(?=x)"}),
        ({"patterns": "plain"}, {**TEXT, "pattern": "(?=x)"}, TEXT),
        ({"patterns": "plain"}, {**TEXT, "pattern": "(?<!x)"}, TEXT),
        ({"patterns": "plain"}, {**TEXT, "pattern": r"\p{L}"}, TEXT),
        ({"patterns": "plain"}, {**TEXT, "pattern": "("}, TEXT),
        ({"patterns": "plain"}, {**TEXT, "pattern": "(?:x)"}, {**TEXT, "pattern": "(?:x)"}),
        ({"patterns": "none"}, {**TEXT, "pattern": "x"}, TEXT),
        ({"formats": {"date"}}, {**TEXT, "format": "date"}, {**TEXT, "format": "date"}),
        ({"formats": {"date"}}, {**TEXT, "format": "uri"}, TEXT),
        ({}, {**TEXT, "format": "uri"}, {**TEXT, "format": "uri"}),
        ({"drops": {"title"}}, {**TEXT, "title": "t"}, TEXT),
        ({"loose_properties": False}, {**TEXT, "properties": {"b": {}}, "required": ["b"]}, TEXT),
        ({"loose_properties": False}, {"type": "object", "properties": {}}, {"type": "object"}),
        (
            {"loose_properties": False},
            {"type": "object", "properties": {"b": {}}, "required": ["b"]},
            {"type": "object", "properties": {"b": {}}, "required": ["b"]},
        ),
        (
            {"typed_alternatives": False},
            {"type": "object", "anyOf": [{"title": "t"}, TEXT]},
            {"anyOf": [{"type": "object", "title": "t"}, TEXT]},
        ),
        ({}, {"type": "object", "anyOf": [{}]}, {"type": "object", "anyOf": [{}]}),
        ({"items": TEXT}, {"type": "array"}, {"type": "array", "items": TEXT}),
        ({"depth": 1}, {"type": "object", "properties": {"b": TEXT}}, {"type": "object", "properties": {"b": {}}}),
        ({"depth": 2}, {"type": "object", "properties": {"b": TEXT}}, {"type": "object", "properties": {"b": TEXT}}),
        (
            {"depth": 1, "typed": True},
            {"type": "object", "properties": {"b": TEXT}},
            {"type": "object", "properties": {"b": ANYTHING}},
        ),
    ],
)
def test_a_rule_of_schemas_changes_just_what_it_names(rules: Any, schema: Any, sent: Any) -> None:
    assert legal(schema, SchemaRules(**rules)) == sent


DEFINED = {
    "$defs": {
        "T": TEXT,
        "a/b~c d": WHOLE,
        "Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}},
        "L": [TEXT, WHOLE],
        "All": {"allOf": [{"$ref": "#/$defs/P"}, {"allOf": [{"$ref": "#/$defs/All"}, {"required": ["b"]}]}]},
        "P": {"type": "object", "properties": {"b": TEXT}},
    }
}


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        ({"$ref": "#/$defs/T"}, TEXT),
        ({"$ref": "#/$defs/T", "description": "d"}, {**TEXT, "description": "d"}),
        ({"$ref": "#/$defs/a~1b~0c%20d"}, WHOLE),
        ({"$ref": "#/$defs/L/1"}, WHOLE),
        ({"$ref": "#/$defs/L/2"}, {}),
        ({"$ref": "#/$defs/L/x"}, {}),
        ({"$ref": "#/$defs/Missing"}, {}),
        ({"$ref": "other.json#/$defs/T"}, {}),
        ({"$ref": "#/$defs/Node"}, {"type": "object", "properties": {"next": {"type": "object"}}}),
        (
            {"allOf": [{"$ref": "#/$defs/P", "title": "t"}, {"properties": {"c": WHOLE}}]},
            {"allOf": [{"type": "object", "properties": {"b": TEXT}, "title": "t"}, {"type": "object", "properties": {"c": WHOLE}}]},
        ),
        ({"$ref": "#/$defs/All"}, {"allOf": [{"type": "object", "properties": {"b": TEXT}}, {}, {}]}),
    ],
)  # fmt: skip
def test_a_reference_is_replaced_where_references_are_refused(schema: Any, sent: Any) -> None:
    root = {"type": "object", "properties": {"a": schema}, **DEFINED}
    found = legal_schema(root, SchemaRules(patterns="any", refs=False)).schema
    assert found == {"type": "object", "properties": {"a": sent}}


def test_a_reference_stays_where_references_are_accepted() -> None:
    root = {"type": "object", "properties": {"a": {"$ref": "#/$defs/T"}, "b": {"$ref": "#/no"}}, **DEFINED}
    found = legal_schema(root, ANY).schema
    assert found["properties"] == {"a": {"$ref": "#/$defs/T"}, "b": {}}
    assert found["$defs"]["T"] == TEXT
    quoted = {"type": "object", "properties": {"a": {"$ref": "#/$defs/a~1b~0c%20d"}}, **DEFINED}
    assert legal_schema(quoted, ANY).schema["properties"]["a"] == {"$ref": "#/$defs/a~1b~0c d"}


@pytest.mark.parametrize(
    ("schema", "properties", "required"),
    [
        ({"anyOf": [{"properties": {"a": TEXT}, "required": ["a"]}, {"properties": {"b": TEXT}}]}, {"a": TEXT, "b": TEXT}, None),
        ({"oneOf": [{"properties": {"a": TEXT}, "required": ["a", "b"]}, {"properties": {"a": TEXT}, "required": ["a"]}]}, {"a": TEXT}, ["a"]),
        ({"allOf": [{"properties": {"a": TEXT}, "required": ["a"]}, {"properties": {"b": TEXT}, "required": ["b"]}]}, {"a": TEXT, "b": TEXT}, ["a", "b"]),
        ({"anyOf": [{"properties": {"a": TEXT}}, {"properties": {"a": WHOLE}}, {"properties": {"a": TEXT}}]}, {"a": {"anyOf": [TEXT, WHOLE]}}, None),
        ({"anyOf": [{"properties": {"a": TEXT}}], "properties": {"a": WHOLE}}, {"a": WHOLE}, None),
        ({"anyOf": [{"properties": 3}, 4]}, {}, None),
        ({"$ref": "#/$defs/P"}, {"b": TEXT}, None),
        ({"anyOf": [{"anyOf": [{"properties": {"a": TEXT}}]}]}, {"a": TEXT}, None),
        ({"enum": [{}], "const": {}, "not": {}, "if": {}, "then": {}, "nullable": True, "items": {}}, {}, None),
    ],
)  # fmt: skip
def test_combinations_of_the_outermost_schema_are_merged_into_its_properties(
    schema: Any, properties: Any, required: Any
) -> None:
    found = dict(legal_schema({**schema, **DEFINED}, ANY).schema)
    del found["$defs"]
    assert found == {"type": "object", "properties": properties, **({"required": required} if required else {})}


@pytest.mark.parametrize(
    ("name", "begins"),
    [("a b", "a_b_"), ("$filter", "filter_"), ("ä", "key_"), ("x" * 70, "x" * 40 + "_"), ("", "key_")],
)
def test_a_property_name_that_is_refused_is_renamed(name: str, begins: str) -> None:
    rules = SchemaRules(key_pattern="[a-zA-Z0-9_.-]{1,64}")
    found = legal_schema({"type": "object", "properties": {name: TEXT, "b": TEXT}, "required": [name]}, rules)
    new, kept = found.schema["properties"]
    assert (found.keys, kept, found.schema["required"]) == ({new: name}, "b", [new])
    assert new.startswith(begins)
    assert len(new) == len(begins) + 8
    digits = legal_schema({"type": "object", "properties": {"1": TEXT}}, SchemaRules(key_pattern="[a-z][a-z0-9_]*"))
    (renamed,) = digits.schema["properties"]
    assert renamed.startswith("key_")


@pytest.mark.parametrize("refs", [True, False])
def test_a_schema_of_more_than_five_thousand_schemas_is_refused(refs: bool) -> None:
    rules = SchemaRules(refs=refs)
    fits = {"type": "object", "properties": {f"p{number}": TEXT for number in range(4999)}}
    assert legal_schema(fits, rules).schema is fits
    with pytest.raises(TooLarge):
        legal_schema({"type": "object", "properties": {f"p{number}": TEXT for number in range(5000)}}, rules)


def closed(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("schema", "fits"),
    [
        (closed(a=TEXT), True),
        (closed(), True),
        (closed(a=closed(b=TEXT)), True),
        (TEXT, False),
        (None, False),
        ({**closed(a=TEXT), "anyOf": [closed(a=TEXT)]}, False),
        ({**closed(a=TEXT), "required": []}, False),
        ({**closed(a=TEXT), "additionalProperties": True}, False),
        ({"type": "object", "properties": {"a": TEXT}, "required": ["a"]}, False),
        (closed(a=3), False),
        (closed(a={**TEXT, "default": "x"}), False),
        (closed(a={"properties": {"b": TEXT}}), False),
        (closed(a={"type": "object"}), False),
        (closed(a={"$ref": "#/$defs/A"}), True),
        (closed(a={"$ref": "#/$defs/A", "description": "d"}), False),
        ({**closed(), "$defs": {"A": TEXT}}, True),
        ({**closed(), "$defs": {"A": {"type": "object"}}}, False),
        ({**closed(), "definitions": {"A": {"type": "object"}}}, False),
        (closed(a={**TEXT, "pattern": "^x$"}), True),
        (closed(a={**TEXT, "pattern": "(?=x)"}), False),
        (closed(a={**TEXT, "format": "date"}), True),
        (closed(a={**TEXT, "format": "uri"}), False),
        (closed(a={"type": "array", "items": TEXT}), True),
        (closed(a={"type": "array", "items": {"enum": ["x"]}}), True),
        (closed(a={"type": "array", "items": {}}), False),
        (closed(a={"type": "array"}), False),
        (closed(a={"type": "array", "items": {"type": "object"}}), False),
        (closed(a={"anyOf": [TEXT, closed(b=TEXT)]}), True),
        (closed(a={"anyOf": [TEXT, {"type": "object"}]}), False),
    ],
)
def test_a_schema_is_strict_when_openai_can_guarantee_it(schema: Any, fits: bool) -> None:
    assert fits_strict(schema) is fits


def nested(levels: int) -> dict[str, Any]:
    return closed(a=nested(levels - 1)) if levels else closed()


def test_a_strict_schema_has_at_most_ten_inner_levels() -> None:
    assert fits_strict(nested(10))
    assert not fits_strict(nested(11))


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        (TEXT, TEXT),
        (True, None),
        ({**TEXT, "default": "x", "examples": ["y"], "title": "t"}, {**TEXT, "default": "x", "title": "t"}),
        ({"allOf": [TEXT], "title": "t"}, {**TEXT, "title": "t"}),
        ({"allOf": [TEXT, TEXT]}, None),
        ({"allOf": []}, None),
        ({"allOf": [True]}, None),
        ({**TEXT, "not": {}}, None),
        ({"oneOf": [TEXT, WHOLE]}, {"anyOf": [TEXT, WHOLE]}),
        ({"anyOf": [TEXT], "oneOf": [WHOLE]}, {"anyOf": [TEXT]}),
        ({"anyOf": [TEXT, True]}, None),
        ({"type": "array", "items": WHOLE}, {"type": "array", "items": WHOLE}),
        ({"type": "array"}, None),
        ({"enum": ["x", 1]}, {"enum": ["x", 1]}),
        ({"enum": [{}]}, None),
        ({"enum": [[]]}, None),
        ({"const": 1}, {"const": 1}),
        ({"description": "any"}, None),
        ({**TEXT, "format": "uri"}, {**TEXT, "format": "uri"}),
        ({**TEXT, "format": "odd"}, {**TEXT, "description": '{"format":"odd"}'}),
        ({"type": "array", "items": TEXT, "minItems": 1}, {"type": "array", "items": TEXT, "minItems": 1}),
        ({"type": "array", "items": TEXT, "minItems": 0}, {"type": "array", "items": TEXT, "minItems": 0}),
        (
            {"type": "array", "items": TEXT, "minItems": 2, "description": "d"},
            {"type": "array", "items": TEXT, "description": 'd {"minItems":2}'},
        ),
        ({"type": ["string", "null"], "description": "d"}, {"anyOf": [TEXT, {"type": "null"}], "description": "d"}),
        ({"$ref": "#/$defs/a~1b", "title": "t"}, {**TEXT, "title": "t"}),
        ({"$ref": "#/$defs/none"}, None),
        ({"$ref": "#/$defs/a~1b/type/x"}, None),
        ({"$ref": "other#/$defs/a~1b"}, None),
        ({"properties": {"b": TEXT}}, None),
        ({"type": "object", "properties": {}}, None),
        ({"type": "object"}, None),
        ({"type": "object", "properties": {"b": TEXT}, "additionalProperties": True}, None),
    ],
)
def test_an_answers_schema_is_closed_or_has_no_closed_form(schema: Any, sent: Any) -> None:
    root = {"type": "object", "properties": {"p": schema}, "$defs": {"a/b": TEXT}}
    found = closed_schema(root)
    assert (found and found["properties"]["p"]) == sent


@pytest.mark.parametrize(("links", "expressed"), [(24, True), (25, False)])
def test_an_answers_schema_follows_24_references(links: int, expressed: bool) -> None:
    names = {f"d{number}": {"$ref": f"#/$defs/d{number + 1}"} for number in range(1, links)}
    root = {"$ref": "#/$defs/d1", "$defs": {**names, f"d{links}": {"type": "object", "properties": {"a": TEXT}}}}
    assert (closed_schema(root) is not None) is expressed
