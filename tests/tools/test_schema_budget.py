"""A stranger's schema: its work is bounded, off the event loop where it takes long, and right where it is decided."""

from __future__ import annotations

import json

import jsonschema
import pytest
import trio
from hypothesis import given, strategies as st

from clawft_trio.errors import InvalidArguments, InvalidData
from clawft_trio.mcp.output_schema import OutputCheck
from clawft_trio.tools import json_schema
from clawft_trio.tools.json_schema import SchemaCheck
from clawft_trio.tools.schema import check_schema
from clawft_trio.tools.schema_budget import (
    MAX_DEPTH,
    MAX_SCHEMA,
    Budget,
    TooComplex,
    bounded_copy,
    canonical,
    limit_schema,
    quoted,
    spending,
)

NAMES = [f"d{k}" for k in range(40)]


def doubling(keyword):
    """Each definition holds the next one twice."""
    defs = {name: {keyword: [{"$ref": f"#/$defs/d{k + 1}"}] * 2} for k, name in enumerate(NAMES)}
    return {"type": "object", "properties": {"x": {"$ref": "#/$defs/d0"}}, "$defs": {**defs, "d40": {"type": "string"}}}


DRAFT = "https://json-schema.org/draft/2020-12/schema"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"

BIG = [{"id": n, "text": "x"} for n in range(30_000)]
HOSTILE = {
    "allOf": (doubling("allOf"), {"x": "s"}),
    "anyOf": (doubling("anyOf"), {"x": 1}),
    "oneOf": (doubling("oneOf"), {"x": "s"}),
    "patternProperties": (
        {"type": "object", "patternProperties": {"(a+)+$": {}}, "additionalProperties": False},
        {"a" * 40 + "!": 1},
    ),
    "pattern": ({"type": "object", "properties": {"x": {"pattern": "(a+)+$"}}}, {"x": "a" * 40 + "!"}),
    "unevaluatedProperties": (
        {"type": "object", "patternProperties": {"(a+)+$": {}}, "unevaluatedProperties": False},
        {"a" * 40 + "!": 1},
    ),
    "uniqueItems": ({"type": "object", "properties": {"x": {"uniqueItems": True}}}, {"x": BIG}),
    "enum": ({"type": "object", "properties": {"x": {"items": {"enum": list(range(5000))}}}}, {"x": BIG}),
    "const": ({"type": "object", "properties": {"x": {"items": {"const": list(range(5000))}}}}, {"x": BIG}),
    "rows": (
        {"type": "object", "properties": {"x": {"items": {"type": "object", "required": ["id"]}}}},
        {"x": BIG},
    ),
    "long messages": ({"type": "object", "properties": {"x": {"anyOf": [{"type": "string"}] * 500}}}, {"x": BIG}),
    "contains": ({"type": "object", "properties": {"x": {"contains": {"const": 1}}}}, {"x": BIG}),
    "itself": ({"type": "object", "properties": {"x": {"$ref": "#/properties/x"}}}, {"x": 1}),
    "a part with a draft": (
        {"type": "object", "properties": {"x": {"$schema": DRAFT, "pattern": "(a+)+$"}}},
        {"x": "a" * 40 + "!"},
    ),
    "a part with another draft": (
        {"type": "object", "properties": {"x": {"$schema": DRAFT_7, "pattern": "(a+)+$"}}},
        {"x": "a" * 40 + "!"},
    ),
    "a draft that is reached again": (
        {"$schema": DRAFT, "properties": {"x": {"$ref": "#"}, "y": {"pattern": "(a+)+$"}}},
        {"x": {"y": "a" * 40 + "!"}},
    ),
    "a definition with a draft": (
        {"properties": {"x": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$schema": DRAFT_7, "pattern": "(a+)+$"}}},
        {"x": "a" * 40 + "!"},
    ),
    "unknown names": ({"type": "object", "additionalProperties": False}, {f"k{n}": n for n in range(200_000)}),
    "dynamic": ({"$id": "http://x/", "$dynamicAnchor": "a", "allOf": [{"$dynamicRef": "#a"}] * 2}, {"x": 1}),
}


@pytest.mark.parametrize(("schema", "value"), HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_schema_is_given_up_and_other_tasks_run_meanwhile(schema, value, monkeypatch):
    monkeypatch.setattr(json_schema, "DEADLINE", 0.3)
    turns = 0

    async def others():
        nonlocal turns
        while True:
            await trio.sleep(0)
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        # Without a budget these take from seconds to for ever.
        with trio.fail_after(60):
            await OutputCheck(schema).find_problem(value)
            await SchemaCheck(schema, trusted=False).find_problems(value)
        nursery.cancel_scope.cancel(reason="the checks are over")
    assert turns > 0


@pytest.mark.parametrize(("schema", "value"), HOSTILE.values(), ids=HOSTILE)
def test_on_the_loop_only_a_few_steps_are_taken(schema, value):
    counted = Counting()
    with spending(counted):
        try:
            list(SchemaCheck(schema, trusted=False)._validator.iter_errors(value))
        except (TooComplex, RecursionError):
            pass
    assert counted.steps <= 5000 or counted.left < 0


class Counting(Budget):
    """A budget of 5000 steps that counts them."""

    def __init__(self):
        super().__init__(5000)

    @property
    def steps(self):
        return 5000 - self.left


def test_what_takes_too_long_on_the_loop_is_left_to_the_owner_of_the_schema():
    schema, value = HOSTILE["allOf"]
    assert check_schema(schema, trusted=False)(value) == value
    assert OutputCheck(schema).problem_with(value) is None


async def test_what_takes_longer_is_decided_in_a_thread():
    schema = {"type": "object", "properties": {"x": {"items": {"type": "object", "required": ["id"]}}}}
    rows = [{"id": n} for n in range(3000)]
    assert await OutputCheck(schema).find_problem({"x": rows}) is None
    problem = await OutputCheck(schema).find_problem({"x": [*rows, {}]})
    assert problem is not None
    assert "$.x[3000]" in problem


async def test_a_cancelled_check_ends_its_thread():
    schema, value = HOSTILE["allOf"]
    before = trio.to_thread.current_default_thread_limiter().borrowed_tokens
    with trio.move_on_after(0.1):
        await SchemaCheck(schema, trusted=False).find_problems(value)
    assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == before


def test_a_schema_has_a_greatest_depth_and_size():
    deep: dict = {}
    for _ in range(MAX_DEPTH + 1):
        deep = {"not": deep}
    for schema in (deep, {"description": "x" * 300_000}):
        with pytest.raises(InvalidData):
            SchemaCheck(schema, trusted=False)
    SchemaCheck(deep)


def test_problems_of_a_strangers_schema_are_found_with_their_places():
    check = check_schema({"type": "object", "properties": {"a": {"enum": [1, 2]}, "b": {"const": 3}}}, trusted=False)
    with pytest.raises(InvalidArguments) as caught:
        check({"a": 5, "b": 4})
    assert [problem.path for problem in caught.value.problems] == ["$.a", "$.b"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-2, 2) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES, VALUES)
def test_canonical_forms_are_equal_where_jsonschema_has_the_values_equal(one, other):
    equal = not list(jsonschema.Draft202012Validator({"const": one}).iter_errors(other))
    assert (canonical(one) == canonical(other)) is equal


@given(st.lists(VALUES, max_size=5))
def test_unique_items_are_what_jsonschema_finds(items):
    schema = {"uniqueItems": True}
    expected = list(jsonschema.Draft202012Validator(schema).iter_errors(items))
    assert bool(SchemaCheck(schema, trusted=False).problems(items)) is bool(expected)


@given(VALUES)
def test_a_bounded_copy_is_equal_and_quoted_briefly(value):
    assert bounded_copy(value) == value
    assert json.dumps(bounded_copy(value)) == json.dumps(value)
    assert len(quoted([value] * 50)) < 20_000


def test_a_message_quotes_a_few_members():
    assert quoted("x" * 1000) == "'" + "x" * 120 + "'…"
    assert quoted(list(range(100))) == "[0, 1, 2, 3, 4, 5, …]"
    assert quoted([[[[1]]]]) == "[[[[…]]]]"


@pytest.mark.parametrize(
    ("schema", "number"),
    [
        ({"multipleOf": 0.1}, 10**400),
        ({"multipleOf": 1e-300}, 1e300),
        ({"maximum": 10**400}, 1.5),
        ({"minimum": 1}, 0.1),
    ],
    ids=str,
)
@pytest.mark.parametrize("trusted", [True, False])
def test_a_number_that_cannot_be_compared_is_a_problem_and_no_error_of_ours(schema, number, trusted):
    check = SchemaCheck({"type": "object", "properties": {"x": schema}}, trusted=trusted)
    assert {problem.path for problem in check.problems({"x": number})} <= {"$", "$.x"}
    if number == 10**400:
        assert [problem.path for problem in check.problems({"x": number})] == ["$"]


def test_a_property_with_the_name_of_the_draft_is_checked_like_any_other():
    schema = {"type": "object", "properties": {"$schema": {"type": "string"}, "x": {"const": {"$schema": DRAFT}}}}
    check = SchemaCheck(schema, trusted=False)
    assert check.problems({"$schema": DRAFT, "x": {"$schema": DRAFT}}) == []
    assert [problem.path for problem in check.problems({"$schema": 5, "x": {}})] == ["$['$schema']", "$.x"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x" * 120, repr("x" * 120)),
        ("x" * 121, repr("x" * 120) + "…"),
        ([1] * 6, "[1, 1, 1, 1, 1, 1]"),
        ([1] * 7, "[1, 1, 1, 1, 1, 1, …]"),
        ({str(n): n for n in range(6)}, "{'0': 0, '1': 1, '2': 2, '3': 3, '4': 4, '5': 5}"),
        ({str(n): n for n in range(7)}, "{'0': 0, '1': 1, '2': 2, '3': 3, '4': 4, '5': 5, …}"),
        ([[[1]]], "[[[1]]]"),
        ({"a": {"b": {"c": {"d": 1}}}}, "{'a': {'b': {'c': {…}}}}"),
        ([[[[1] * 7]]], "[[[[…, …]]]]"),
        (10**130, "1" + "0" * 119),
        (True, "True"),
        (None, "None"),
    ],
)
def test_a_value_is_quoted_up_to_its_limits(value, text):
    assert quoted(value) == text
    if isinstance(value, str | list | dict):
        assert repr(bounded_copy(value)) == text


@pytest.mark.parametrize("levels", [MAX_DEPTH - 1, MAX_DEPTH])
def test_a_schema_may_have_a_hundred_levels(levels):
    schema: dict = {"a": 1}
    for number in range(levels):
        schema = {"not": schema} if number % 2 else {"allOf": [schema] if number == 0 else schema}
    if levels < MAX_DEPTH - 1:
        limit_schema(schema)
    else:
        with pytest.raises(InvalidData, match="more than 100 levels deep"):
            limit_schema(schema)


@pytest.mark.parametrize(("longer", "fits"), [(0, True), (1, False)])
def test_a_schema_may_have_exactly_a_quarter_of_a_megabyte(longer, fits):
    schema = {"a": "x" * (256 * 1024 - len('{"a":""}') + longer)}
    assert MAX_SCHEMA == 256 * 1024
    if fits:
        limit_schema(schema)
    else:
        with pytest.raises(InvalidData, match="longer than 262144 bytes"):
            limit_schema(schema)


@pytest.mark.parametrize(("steps", "enough"), [(0, True), (9, True), (10, True), (11, False)])
def test_a_budget_is_used_up_below_zero(steps, enough):
    budget = Budget(10)
    if enough:
        budget.charge(steps)
        assert budget.left == 10 - steps
    else:
        with pytest.raises(TooComplex):
            budget.charge(steps)


def test_a_budget_polls_with_its_first_step_and_after_every_hundred():
    polls = []
    budget = Budget(1000, poll=lambda: polls.append(1000 - budget.left))
    for _ in range(350):
        budget.charge(1)
    assert polls == [1, 102, 203, 304]


@pytest.mark.parametrize(
    ("schema", "value", "problem"),
    [
        ({"oneOf": [{"const": 1}, {"type": "string"}]}, 1, ""),
        ({"oneOf": [{"const": 1}, {"type": "integer"}]}, 1, "1 is valid under more than one of the given schemas"),
        ({"oneOf": [{"const": 2}, {"type": "string"}]}, 1, "1 is valid under none of the given schemas"),
        ({"anyOf": [{"const": 2}, {"type": "integer"}]}, 1, ""),
        ({"anyOf": [{"const": 2}, {"type": "string"}]}, 1, "1 is not valid under any of the given schemas"),
        ({"enum": [1, 2]}, 3, "3 is not one of [1, 2]"),
        ({"enum": [1, True]}, True, ""),
        ({"enum": [1]}, True, "True is not one of [1]"),
        ({"const": 1}, 1.0, ""),
        ({"const": {"a": [1]}}, {"a": [2]}, "{'a': [1]} was expected"),
        ({"uniqueItems": True}, [1, 2, 1], "[1, 2, 1] has non-unique elements"),
        ({"uniqueItems": True}, [1, True, "1"], ""),
        ({"uniqueItems": False}, [1, 1], ""),
        ({"uniqueItems": True}, {"a": 1}, ""),
        ({"pattern": "^a$"}, "b", ""),
        ({"patternProperties": {"^a": {"const": 1}}}, {"a": 2}, ""),
        ({"additionalProperties": False}, {}, ""),
        ({"patternProperties": {"b": {}}, "additionalProperties": False}, {"b": 1}, ""),
        ({"additionalProperties": False}, [1], ""),
        ({"additionalProperties": {"const": 1}}, {"a": 1, "b": 1}, ""),
    ],
)
def test_a_keyword_of_a_strangers_schema_decides_as_the_standard_does_and_in_few_words(schema, value, problem):
    found = SchemaCheck(schema, trusted=False).problems(value)
    assert [one.message for one in found] == ([problem] if problem else [])


def test_additional_properties_are_checked_at_their_places():
    found = SchemaCheck({"additionalProperties": {"const": 1}, "properties": {"b": {}}}, trusted=False).problems(
        {"a": 2, "b": 3, "c": 1}
    )
    assert [(one.path, one.message) for one in found] == [("$.a", "1 was expected")]
    closed = SchemaCheck({"properties": {"a": {}}, "additionalProperties": False}, trusted=False)
    assert [(one.path, one.message) for one in closed.problems({"a": 1, "b": 2, "c": 3})] == [
        ("$.b", "unknown key; known: a"),
        ("$.c", "unknown key; known: a"),
    ]


def test_a_budget_ends_with_its_last_step_and_polls_after_a_hundred() -> None:
    polls = []
    budget = Budget(250, poll=lambda: polls.append(budget.left))
    for _ in range(250):
        budget.charge(1)
    assert budget.left == 0
    assert polls == [249, 148, 47]
    with pytest.raises(TooComplex):
        budget.charge(1)
    Budget(3).charge(3)
    with pytest.raises(TooComplex):
        Budget(3).charge(4)
