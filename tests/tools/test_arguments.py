"""From the text of a model to arguments: what is taken as it is, what is mended, and what is refused."""

from __future__ import annotations

import enum
import json
from typing import Any, Literal

import pytest
from hypothesis import given, strategies as st

from clawft_trio import AuthContext, InvalidArguments, ToolCall, ToolContext, ToolRegistry, tool
from clawft_trio.observe import Noted, Recorder
from clawft_trio.tools.arguments import read_arguments


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


async def search(
    query: str,
    filters: dict[str, int] | None = None,
    limit: int = 5,
    tags: list[str] | None = None,
    exact: bool = False,
    weight: float = 1.0,
) -> str:
    """Search."""
    return ""


SEARCH = tool(search)


def read(text: str, made: Any = SEARCH, *, lenient: bool = True) -> Any:
    return read_arguments(text, made.parameters, made.check, lenient=lenient)


@tool
async def bare() -> str:
    """Takes nothing."""
    return ""


@pytest.mark.parametrize("text", ["", " ", "null", '""', "{}", '"{}"', "{ }"])
@pytest.mark.parametrize("lenient", [True, False])
def test_no_arguments_are_written_in_many_ways(text, lenient):
    assert read(text, bare, lenient=lenient).values == {}


@pytest.mark.parametrize("lenient", [True, False])
def test_a_number_without_a_fraction_is_an_integer(lenient):
    found = read('{"query": "a", "limit": 5.0, "filters": {"year": 2e3}}', lenient=lenient)
    assert (found.values["limit"], found.values["filters"]) == (5, {"year": 2000})
    assert type(found.values["limit"]) is int
    assert found.repairs == ()


MENDED = {
    '{"query": "a", "filters": "{\\"year\\": 2024}"}': ({"filters": {"year": 2024}}, ["$.filters"]),
    '{"query": "a", "limit": "5"}': ({"limit": 5}, ["$.limit"]),
    '{"query": "a", "limit": "5.0"}': ({"limit": 5}, ["$.limit"]),
    '{"query": "a", "filters": {"year": "2024"}}': ({"filters": {"year": 2024}}, ["$.filters.year"]),
    '{"query": "a", "exact": "true"}': ({"exact": True}, ["$.exact"]),
    '{"query": "a", "exact": "True"}': ({"exact": True}, ["$.exact"]),
    '{"query": "a", "weight": "0.5"}': ({"weight": 0.5}, ["$.weight"]),
    '{"query": "a", "tags": "[\\"x\\", \\"y\\"]"}': ({"tags": ["x", "y"]}, ["$.tags"]),
    '{"query": "a", "filters": "null"}': ({"filters": None}, ["$.filters"]),
    '"{\\"query\\": \\"a\\"}"': ({"query": "a"}, ["$"]),
    '{"query": "a", "limit": 5,}': ({"limit": 5}, ["$"]),
    '{"query": "a,}", "tags": ["x", ], }': ({"query": "a,}", "tags": ["x"]}, ["$"]),
    '{"query": "a", "limit": "5",}': ({"limit": 5}, ["$", "$.limit"]),
    '```json\n{"query": "a", "limit": 5}\n```': ({"limit": 5}, ["$"]),
    '```{"query": "a"}```': ({"query": "a"}, ["$"]),
    '\ufeff{"query": "a"}': ({"query": "a"}, ["$"]),
    '{"query": "a\n\tb"}': ({"query": "a\n\tb"}, ["$"]),
    "{'query': 'it is', 'exact': True, 'tags': None}": ({"query": "it is", "exact": True, "tags": None}, ["$"]),
    '{"query": "a", "exact": "TRUE"}': ({"exact": True}, ["$.exact"]),
    '{"query": "a", "tags": "None"}': ({"tags": None}, ["$.tags"]),
    '{"query": "a", "limit": null, "exact": null}': ({"limit": 5, "exact": False}, ["$.limit", "$.exact"]),
}


@pytest.mark.parametrize("text", MENDED)
def test_one_layer_of_json_too_many_and_commas_are_mended(text):
    values, places = MENDED[text]
    found = read(text)
    assert {name: found.values[name] for name in values} == values
    assert list(found.repairs) == places
    with pytest.raises(InvalidArguments):
        read(text, lenient=False)


@pytest.mark.parametrize(
    "text",
    [
        '{"query": "a", "limit": "five"}',
        '{"query": "a", "limit": "\\"5\\""}',
        '{"query": "a", "limit": 5.5}',
        '{"query": 1}',
        '{"query": null}',
        '{"query": "a", "weight": NaN}',
        "{'query': {1, 2}}",
        "{'query': b'a'}",
        '{"query": "a"} and more',
        '{"query": "a", "limit": "null"}',
        '{"query": "a" "limit": 5}',
        '{"quer": "a"}',
        "[1]",
        '"words"',
        "5",
    ],
)
def test_what_is_wrong_in_another_way_is_refused_as_before(text):
    problems = []
    for lenient in (True, False):
        with pytest.raises(InvalidArguments) as caught:
            read(text, lenient=lenient)
        problems.append(caught.value.problems)
    assert problems[0] == problems[1]


def choose(color: Literal["red", "blue"], size: Size = Size.SMALL, pair: tuple[int, str] = (0, "")) -> str:
    """Choose."""
    return ""


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('{"color": "\\"red\\""}', {"color": "red"}),
        ('{"color": "red", "size": "2"}', {"size": Size.LARGE}),
        ('{"color": "red", "size": 2.0}', {"size": Size.LARGE}),
        ('{"color": "red", "pair": ["1", "x"]}', {"pair": (1, "x")}),
        ('{"color": "red", "pair": [1.0, "x"]}', {"pair": (1, "x")}),
    ],
)
def test_words_numbers_of_an_enum_and_items_of_a_tuple_are_mended(text, values):
    found = read(text, tool(choose)).values
    assert {name: found[name] for name in values} == values


def test_an_empty_list_is_no_arguments():
    assert read("[]", bare).values == read('"[]"', bare).values == {}
    with pytest.raises(InvalidArguments):
        read("[]", bare, lenient=False)


def test_text_that_looks_like_json_stays_text_where_text_is_wanted():
    found = read('{"query": "{\\"a\\": 1}", "limit": "3"}')
    assert found.values["query"] == '{"a": 1}'
    assert found.repairs == ("$.limit",)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_anything_is_read_or_refused(value):
    for text in (json.dumps(value), json.dumps({"query": value}), json.dumps({"query": "a", "filters": value})):
        try:
            read(text)
        except InvalidArguments:
            pass


@given(
    st.fixed_dictionaries(
        {"query": st.text()}, optional={"limit": st.integers(-(2**60), 2**60), "exact": st.booleans()}
    )
)
def test_arguments_that_fit_are_never_changed(arguments):
    found = read(json.dumps(arguments))
    assert {name: found.values[name] for name in arguments} == arguments
    assert found.repairs == ()


async def test_what_was_mended_is_an_event():
    seen = Recorder()
    (result,) = await ToolRegistry([SEARCH]).execute_all(
        [ToolCall(id="1", name="search", arguments='{"query": "a", "limit": "5"}')],
        ToolContext(auth=AuthContext.local(), observer=seen),
    )
    assert result.outcome == "ok"
    assert [event.details["places"] for event in seen.of(Noted)] == [["$.limit"]]


async def test_a_tool_may_refuse_what_does_not_fit():
    strict = tool(search, lenient=False)
    (result,) = await ToolRegistry([strict]).execute_all(
        [ToolCall(id="1", name="search", arguments='{"query": "a", "limit": "5"}')],
        ToolContext(auth=AuthContext.local()),
    )
    assert result.outcome == "invalid"


def test_huge_arguments_are_taken_as_they_are():
    made = tool(search)
    text = json.dumps({"query": "a", "tags": ["x"] * 40_000, "limit": 5.0})
    assert len(read(text, made).values["tags"]) == 40_000
