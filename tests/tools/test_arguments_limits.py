"""Arguments by their schema: every way to write one, and how much of large ones is looked at."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from clawft_trio.errors import InvalidArguments, Problem
from clawft_trio.large_json import LARGE
from clawft_trio.tools.arguments import MOST_VALUES, read_arguments
from clawft_trio.tools.json_schema import SchemaCheck


def read(text: str, schema: dict[str, Any], *, lenient: bool = True) -> Any:
    checked = SchemaCheck(schema)

    def check(raw: dict[str, Any]) -> dict[str, Any]:
        if problems := checked.problems(raw):
            raise InvalidArguments(problems)
        return raw

    return read_arguments(text, schema, check, lenient=lenient)


def of(inner: Any, **more: Any) -> dict[str, Any]:
    """An object with one parameter `a` of the schema *inner*."""
    return {"type": "object", "properties": {"a": inner}, **more}


INTEGER = {"type": "integer"}
TEXT = {"type": "string"}

MENDED = [
    # The type is named alone, in a list, by alternatives, by a reference, by the values.
    (INTEGER, "5", 5),
    ({"type": ["integer", "null"]}, "5", 5),
    ({"anyOf": [INTEGER, {"type": "null"}]}, "5", 5),
    ({"oneOf": [INTEGER, {"type": "null"}]}, "5", 5),
    ({"allOf": [INTEGER]}, "5", 5),
    ({"$ref": "#/$defs/n"}, "5", 5),
    ({"$ref": "#/$defs/again"}, "5", 5),
    ({"$ref": "#/$defs/a~1b~0c"}, "5", 5),
    ({"enum": [1, 5]}, "5", 5),
    ({"const": 5}, "5", 5),
    ({"enum": [1, 5]}, "5.0", 5),
    ({"enum": [1.5, 2]}, "1.5", 1.5),
    ({"type": "boolean"}, "false", False),
    ({"type": "boolean"}, " TRUE ", True),
    ({"type": ["boolean", "null"]}, "none", None),
    ({"type": ["integer", "null"]}, "null", None),
    ({"type": "number"}, "5", 5),
    ({"type": "number"}, "5.5", 5.5),
    ({"type": "array"}, "[1]", [1]),
    ({"type": "array"}, "[1,]", [1]),
    ({"type": "object"}, '{"x": 1}', {"x": 1}),
    ({"type": "object"}, '{"x": 1,}', {"x": 1}),
    ({"properties": {"x": INTEGER}, "type": ["object", "null"]}, '{"x": 1}', {"x": 1}),
    ({"type": "array", "items": INTEGER}, ["1", 2], [1, 2]),
    ({"type": "array", "items": INTEGER}, '["1", 2]', [1, 2]),
    ({"type": "array", "prefixItems": [INTEGER, TEXT]}, ["1", "2", "3"], [1, "2", "3"]),
    ({"type": "array", "prefixItems": [TEXT], "items": INTEGER}, ["1", "2", "3"], ["1", 2, 3]),
    ({"type": "object", "additionalProperties": INTEGER}, {"x": "1"}, {"x": 1}),
    ({"type": "object", "properties": {"x": TEXT}, "additionalProperties": INTEGER}, {"x": "1", "y": "2"}, None),
    (
        {"type": "object", "properties": {"x": {"type": "object", "properties": {"y": INTEGER}}}},
        {"x": {"y": "1"}},
        None,
    ),
    ({"enum": ["red", "blue"]}, '"red"', "red"),
    ({"type": "string", "enum": ["red", "blue"]}, '"red"', "red"),
    ({"anyOf": [{"enum": ["red"]}, {"enum": ["blue"]}]}, '"blue"', "blue"),
    ({"const": "red"}, '"red"', "red"),
]
DEFS = {"n": INTEGER, "again": {"$ref": "#/$defs/n"}, "a/b~c": INTEGER}


@pytest.mark.parametrize(("schema", "given", "meant"), MENDED, ids=[f"{one[0]} {one[1]}" for one in MENDED])
def test_a_value_with_one_layer_too_many_is_taken_as_its_schema_wants_it(schema, given, meant) -> None:
    if meant is None and given not in ("none", "null"):
        meant = {"x": "1", "y": 2} if "y" in given else {"x": {"y": 1}}
    whole = of(schema, **{"$defs": DEFS})
    text = json.dumps({"a": given})
    found = read(text, whole)
    assert found.values == {"a": meant}
    assert type(found.values["a"]) is type(meant)
    assert all(place.startswith("$.a") for place in found.repairs)
    assert len(found.repairs) >= 1
    with pytest.raises(InvalidArguments):
        read(text, whole, lenient=False)


LEFT = [
    (TEXT, "5"),
    (TEXT, '"quoted"'),
    (TEXT, "null"),
    ({"type": ["string", "integer"]}, "5"),
    ({"anyOf": [TEXT, INTEGER]}, "5"),
    ({}, "5"),
    (True, "5"),
    ({"description": "anything"}, '{"x": 1}'),
    ({"enum": ["5", 5]}, "5"),
    ({"enum": ["red", '"red"']}, '"red"'),
    ({"$ref": "#/$defs/missing/deeper"}, "5"),
    ({"type": "array", "items": TEXT}, ["1"]),
    ({"type": "array"}, ["1"]),
    ({"type": "object"}, {"x": "1"}),
    ({"type": "number"}, 5.0),
    ({"type": "integer"}, 5),
    ({"properties": {"x": INTEGER}}, {"x": 1}),
]


@pytest.mark.parametrize(("schema", "given"), LEFT, ids=[f"{one[0]} {one[1]}" for one in LEFT])
def test_a_value_that_fits_is_left_as_it_is(schema, given) -> None:
    whole = of(schema)
    found = read_arguments(json.dumps({"a": given}), whole, lambda raw: raw, lenient=True)
    assert found.values == {"a": given}
    assert type(found.values["a"]) is type(given)
    assert found.repairs == ()


REFUSED = [
    (INTEGER, "x"),
    (INTEGER, "5.5"),
    (INTEGER, "null"),
    (INTEGER, "[5]"),
    (INTEGER, "true"),
    (INTEGER, '"5"'),
    ({"type": "boolean"}, "1"),
    ({"type": "boolean"}, "yes"),
    ({"type": "array"}, '{"x": 1}'),
    ({"type": "object"}, "[1]"),
    ({"enum": ["red"]}, '"green"'),
    ({"enum": ["red"]}, "green"),
    ({"enum": [1, 2]}, "3"),
    ({"type": "null"}, "0"),
]


@pytest.mark.parametrize(("schema", "given"), REFUSED, ids=[f"{one[0]} {one[1]}" for one in REFUSED])
def test_what_is_of_another_kind_is_refused_with_its_place(schema, given) -> None:
    with pytest.raises(InvalidArguments) as caught:
        read(json.dumps({"a": given}), of(schema))
    assert [one.path for one in caught.value.problems] == ["$.a"]


@pytest.mark.parametrize("lenient", [True, False])
@pytest.mark.parametrize(
    ("schema", "given", "meant"),
    [
        (INTEGER, 5.0, 5),
        ({"type": ["integer", "null"]}, 5.0, 5),
        ({"anyOf": [INTEGER, TEXT]}, 5.0, 5),
        ({"type": "array", "items": INTEGER}, [1.0, 2], [1, 2]),
        ({"enum": [1, 2]}, 2.0, 2),
        ({"type": "object", "properties": {"x": INTEGER}}, {"x": 2.0}, {"x": 2}),
        ({"type": "number"}, 5.0, 5.0),
        ({"type": ["integer", "number"]}, 5.0, 5.0),
    ],
)
def test_a_number_without_a_fraction_is_an_integer_where_one_is_wanted(schema, given, meant, lenient) -> None:
    values = read(json.dumps({"a": given}), of(schema), lenient=lenient).values
    assert repr(values["a"]) == repr(meant)


def test_only_a_missing_fraction_is_mended_in_the_strict_mode() -> None:
    schema = {"type": "object", "properties": {"a": INTEGER, "b": INTEGER}}
    with pytest.raises(InvalidArguments):
        read('{"a": 5.0, "b": "5"}', schema, lenient=False)
    with pytest.raises(InvalidArguments):
        read('{"a": 5.0, "b": null}', schema, lenient=False)


@pytest.mark.parametrize(
    ("schema", "required", "kept"),
    [
        (INTEGER, (), False),
        (TEXT, (), False),
        ({"anyOf": [INTEGER, TEXT]}, (), False),
        ({"type": ["integer", "null"]}, (), True),
        ({"anyOf": [INTEGER, {"type": "null"}]}, (), True),
    ],
)
def test_null_for_what_may_be_left_out_leaves_it_out(schema, required, kept) -> None:
    found = read('{"a": null, "b": "5"}', {**of(schema), "properties": {"a": schema, "b": INTEGER}})
    assert ("a" in found.values) is kept
    assert ("$.a" in found.repairs) is not kept


def test_null_for_what_is_required_or_unknown_stays() -> None:
    with pytest.raises(InvalidArguments):
        read('{"a": null}', of(INTEGER, required=["a"]))
    found = read('{"b": null, "a": "5"}', of(INTEGER, additionalProperties=True))
    assert found.values == {"b": None, "a": 5}
    found = read('{"b": null, "a": "5"}', of(INTEGER, required=[["b"]]) | {"required": []})
    assert found.values["b"] is None


@pytest.mark.parametrize("text", ["", "  \n", "null", '""', "{}", '"{}"'])
def test_no_arguments_are_an_empty_object_and_nothing_was_mended(text: str) -> None:
    for lenient in (True, False):
        found = read(text, of(INTEGER), lenient=lenient)
        assert found.values == {}
        assert found.repairs == () or (lenient and text == '"{}"')


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("[]", {}),
        ('"[]"', {}),
        ('"null"', {}),
        ('"{\\"a\\": 5}"', {"a": 5}),
        ('"{\\"a\\": 5,}"', {"a": 5}),
        ('```json\n{"a": 5}\n```', {"a": 5}),
        ('```\n{"a": 5}\n```  ', {"a": 5}),
        ('\ufeff {"a": 5}', {"a": 5}),
        ('{"a": 5 , }', {"a": 5}),
        ("{'a': 5}", {"a": 5}),
        ("{'a': 5, 'b': True, 'c': None,}", {"a": 5, "b": True, "c": None}),
        ('{"a": 5, "b": "x\n,}\ty"}', {"a": 5, "b": "x\n,}\ty"}),
        ('{"a": 5, "b": "\\",}"}', {"a": 5, "b": '",}'}),
    ],
)
def test_a_whole_text_that_is_nearly_json_is_mended_and_reported(text: str, values: dict[str, Any]) -> None:
    found = read(text, of(INTEGER))
    assert found.values == values
    mended = () if text == '{"a": 5, "b": "\\",}"}' else ("$",)
    assert found.repairs == mended
    if mended:
        with pytest.raises(InvalidArguments):
            read(text, of(INTEGER), lenient=False)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("5", "int"), ("[1]", "list"), ('"word"', "str"), ('"[1]"', "str"), ("true", "bool"), ('"5"', "str")],
)
@pytest.mark.parametrize("lenient", [True, False])
def test_what_is_no_object_is_refused_by_its_kind(text: str, kind: str, lenient: bool) -> None:
    with pytest.raises(InvalidArguments) as caught:
        read(text, of(INTEGER), lenient=lenient)
    assert caught.value.problems == (Problem("$", f"expected an object, got {kind}"),)


@pytest.mark.parametrize(
    "text", ["{'a': {1, 2}}", "{'a': 1j}", "{'a': inf}", "{'a': 1e999}", "{'a': f()}", "['a']", "('a', 1)", "{1: 2} x"]
)
def test_what_is_no_literal_of_json_values_is_refused(text: str) -> None:
    with pytest.raises(InvalidArguments):
        read(text, of({}))


@pytest.mark.parametrize("size", [9_000, 10_100])
def test_a_python_literal_is_read_up_to_a_length(size: int) -> None:
    text = f"{{'a': '{'x' * size}'}}"
    if size < 10_000:
        assert read(text, of(TEXT)).values == {"a": "x" * size}
    else:
        with pytest.raises(InvalidArguments):
            read(text, of(TEXT))


def test_json_with_line_ends_takes_no_constant_that_json_lacks() -> None:
    with pytest.raises(InvalidArguments):
        read('{"a": NaN, "b": "x\n"}', of({}))


def nested(levels: int) -> tuple[dict[str, Any], Any, Any]:
    """A schema of lists in lists with integers inside, a text for one of them, and what is meant."""
    schema: dict[str, Any] = INTEGER
    given: Any = "5"
    meant: Any = 5
    for _ in range(levels):
        schema, given, meant = {"type": "array", "items": schema}, [given], [meant]
    return of(schema), given, meant


@pytest.mark.parametrize("levels", [0, 1, 10, 15])
def test_values_are_mended_down_to_sixteen_levels(levels: int) -> None:
    schema, given, meant = nested(levels)
    assert read(json.dumps({"a": given}), schema).values == {"a": meant}


@pytest.mark.parametrize(("levels", "kind"), [(0, int), (15, int), (16, float)])
def test_a_number_without_a_fraction_is_an_integer_down_to_sixteen_levels(levels: int, kind: type) -> None:
    schema, given, _ = nested(levels)
    found: Any = read(json.dumps({"a": given}).replace('"5"', "5.0"), schema).values["a"]
    for _ in range(levels):
        (found,) = found
    assert type(found) is kind


def test_a_value_below_sixteen_levels_is_taken_as_it_is() -> None:
    schema, given, _ = nested(16)
    with pytest.raises(InvalidArguments):
        read(json.dumps({"a": given}), schema)


@pytest.mark.parametrize(("count", "mended"), [(9_990, True), (10_010, False)])
def test_ten_thousand_values_are_looked_at(count: int, mended: bool) -> None:
    schema = of({"type": "array", "items": {"type": ["integer", "null"]}})
    text = json.dumps({"a": [None] * (count - 3) + ["5"]})
    if mended:
        assert read(text, schema).values["a"][-1] == 5
    else:
        with pytest.raises(InvalidArguments):
            read(text, schema)


@pytest.mark.parametrize(("count", "found"), [(9_990, True), (10_010, False)])
def test_a_number_without_a_fraction_is_looked_for_among_ten_thousand_values(count: int, found: bool) -> None:
    schema = of({"type": "array", "items": {"type": "integer"}})
    text = json.dumps({"a": [5.0] + [1] * (count - 3)})
    values = read_arguments(text, schema, lambda raw: raw, lenient=False).values
    assert (type(values["a"][0]) is int) is found


def test_scalars_are_mended_although_a_list_beside_them_uses_up_the_bound() -> None:
    schema = {
        "type": "object",
        "properties": {"many": {"type": "array", "items": {"type": "integer"}}, "n": INTEGER},
    }
    found = read(json.dumps({"many": [1] * 20_000, "n": "5"}), schema)
    assert found.values["n"] == 5


def test_a_chain_of_references_is_followed_to_sixteen() -> None:
    def chain(length: int) -> dict[str, Any]:
        names = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(length)}
        return of({"$ref": "#/$defs/d0"}, **{"$defs": {**names, f"d{length}": INTEGER}})

    for length, followed in ((3, True), (15, True), (17, False)):
        found = read_arguments('{"a": 5.0}', chain(length), lambda raw: raw, lenient=False)
        assert (type(found.values["a"]) is int) is followed
    circle = of({"$ref": "#/$defs/x"}, **{"$defs": {"x": {"$ref": "#/$defs/x"}}})
    assert read_arguments('{"a": "5"}', circle, lambda raw: raw, lenient=True).values == {"a": "5"}


def test_the_first_problems_are_told_where_mending_does_not_help() -> None:
    schema = {"type": "object", "properties": {"a": INTEGER, "b": INTEGER}}
    with pytest.raises(InvalidArguments) as caught:
        read('{"a": "5", "b": "x"}', schema)
    assert [one.path for one in caught.value.problems] == ["$.a", "$.b"]


def test_a_quoted_word_that_is_not_allowed_either_is_repaired_to_nothing() -> None:
    def check(raw: dict[str, Any]) -> dict[str, Any]:
        seen.append(raw["a"])
        raise InvalidArguments([Problem("$.a", "not allowed")])

    seen: list[str] = []
    with pytest.raises(InvalidArguments):
        read_arguments(json.dumps({"a": '"green"'}), of({"enum": ["red", "blue"]}), check, lenient=True)
    # Only once: there was nothing to repair.
    assert seen == ['"green"']


@pytest.mark.parametrize(("length", "read_at_all"), [(10_000, True), (10_001, False)])
def test_a_python_literal_is_read_up_to_ten_thousand_characters(length: int, read_at_all: bool) -> None:
    start = "{'a': '"
    text = start + "x" * (length - len(start) - 2) + "'}"
    assert len(text) == length
    if read_at_all:
        assert read(text, of(TEXT)).values == {"a": text[len(start) : -2]}
    else:
        with pytest.raises(InvalidArguments):
            read(text, of(TEXT))


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("value", ["1", "{}", '["a"]', f'"{"x" * 10}"'])
@pytest.mark.parametrize("wrapped", [False, True])
def test_arguments_have_up_to_fifty_thousand_values(value: str, wrapped: bool, more: int) -> None:
    each = 2 if value.startswith("[") else 1
    # Besides the items: the object and its two arrays.
    count, rest = divmod(MOST_VALUES - 3, each)
    text = f'{{"a": [{",".join([value] * count)}], "b": [{",".join(["1"] * (rest + more))}]}}'
    schema = of({"type": "array"})
    if more:
        with pytest.raises(InvalidArguments, match="more than 50000 values"):
            read(json.dumps(text) if wrapped else text, schema)
    else:
        assert len(read(json.dumps(text) if wrapped else text, schema).values["a"]) == count


def test_a_list_in_a_text_counts_like_any_other() -> None:
    text = json.dumps({"a": [json.dumps([1] * 30_000)] * 2})
    with pytest.raises(InvalidArguments):
        read(text, of({"type": "array", "items": {"type": "array"}}))


@pytest.mark.parametrize(
    "broken", ['{{"a": 1, "b": "{0}",}}', '```json\n{{"a": 1, "b": "{0}"}}\n```', '{{"a": 1, "b": "{0}\n"}}']
)
def test_a_large_text_is_parsed_and_a_large_broken_one_is_not_repaired(broken: str) -> None:
    schema = {"type": "object", "properties": {"a": INTEGER, "b": TEXT}}
    assert read(broken.format("x"), schema).values["a"] == 1
    with pytest.raises(InvalidArguments):
        read(broken.format("x" * LARGE), schema)
    assert len(read(json.dumps({"a": 1, "b": "x" * LARGE}), schema).values["b"]) == LARGE


SLOW = {
    "escaped quotes": lambda n: '{"' + '\\"' * n,
    "escaped quotes before a line end": lambda n: '{"' + '\\"' * n + "\\\n",
    "escaped quotes before a backslash": lambda n: '{"' + '\\"' * n + "\\",
    "a fence without an end": lambda n: "```json\n" + "\n" * n + "{",
    "a fence in a fence": lambda n: "```" + "\n```" * n + "x",
    "commas": lambda n: '{"a": 1' + ", " * n,
}


@pytest.mark.parametrize("make", SLOW.values(), ids=SLOW)
def test_the_time_of_a_broken_text_grows_no_faster_than_its_length(make) -> None:
    def cost(count: int) -> float:
        began = time.thread_time()
        with pytest.raises(InvalidArguments):
            read(make(count), of(INTEGER))
        return time.thread_time() - began

    small, large = min(cost(1000) for _ in range(3)), cost(16_000)
    # 16 times the length; with a quadratic reader 256 times the time.
    assert large < 60 * small + 0.02


def test_the_time_of_unique_items_grows_no_faster_than_their_number() -> None:
    checked = SchemaCheck(of({"type": "array", "uniqueItems": True}))

    def cost(count: int) -> float:
        value = {"a": [{"x": number} for number in range(count)]}
        began = time.thread_time()
        assert checked.problems(value) == []
        return time.thread_time() - began

    small, large = min(cost(200) for _ in range(3)), cost(2000)
    assert large < 40 * small + 0.02
    (problem,) = checked.problems({"a": [{"x": 1}, {"x": True}, {"x": 1.0}]})
    assert problem.path == "$.a"
