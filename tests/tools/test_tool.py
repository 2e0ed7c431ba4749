"""What a Python function is as a tool."""

from __future__ import annotations

import enum
import functools
import json
import logging
import threading
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import attrs
import pytest
import trio
from msgspec import Meta

from clawft_trio.errors import InvalidArguments, InvalidData
from clawft_trio.tools import Tool, ToolContext, ToolMetadata, check_schema, tool
from clawft_trio.tools.docstring import read_docstring

CONTEXT = ToolContext()


class Unit(enum.Enum):
    C = "celsius"
    F = "fahrenheit"


class Place(TypedDict):
    lat: float
    lon: float


@attrs.frozen
class Wind:
    speed: float
    gusts: bool = False


@tool(total=10.0)
async def weather(
    city: str,
    days: Annotated[int, Meta(ge=1, le=14)] = 1,
    unit: Unit = Unit.C,
    *,
    near: Place | None = None,
    wind: Wind | None = None,
    sort: Literal["time", "place"] = "time",
    tags: list[str] = [],  # noqa: B006
    log: Annotated[Path | None, "Where to write it down."] = None,
) -> dict[str, Any]:
    """The weather in a city, now.

    It comes from the sky.

    Args:
      city: Name of the city,
        with its country.
      days (int): How many: 1 is today.

    Returns:
      Whatever there is.

    Raises:
      OSError: no sky.
    """
    return {"city": city, "days": days, "unit": unit, "near": near, "wind": wind, "tags": tags, "log": log}


def test_hints_and_docstring_make_the_schema():
    schema = weather.parameters
    assert (weather.name, weather.metadata.total) == ("weather", 10.0)
    assert (
        weather.description == "The weather in a city, now.\n\nIt comes from the sky.\n\nReturns:\n  Whatever there is."
    )
    assert schema["required"] == ["city"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["city"] == {"type": "string", "description": "Name of the city, with its country."}
    assert schema["properties"]["days"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 14,
        "default": 1,
        "description": "How many: 1 is today.",
    }
    assert schema["properties"]["sort"]["enum"] == ["place", "time"] or schema["properties"]["sort"]["enum"] == [
        "time",
        "place",
    ]
    assert schema["properties"]["log"]["description"] == "Where to write it down."
    json.dumps(schema)
    check_schema(schema)


async def test_arguments_become_what_the_hints_say():
    result = await weather.run(
        {"city": "Oslo", "unit": "fahrenheit", "near": {"lat": 59, "lon": 10.7}, "wind": {"speed": 3}, "log": "a/b"},
        CONTEXT,
    )
    assert result == {
        "city": "Oslo",
        "days": 1,
        "unit": Unit.F,
        "near": {"lat": 59.0, "lon": 10.7},
        "wind": Wind(3.0),
        "tags": [],
        "log": Path("a/b"),
    }


async def test_a_default_list_is_fresh_for_every_call():
    @tool
    async def collect(into: list[int] = [1]) -> list[int]:  # noqa: B006
        into.append(2)
        return into

    assert await collect.run({}, CONTEXT) == await collect.run({}, CONTEXT) == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "$: 'city' is a required property"),
        ({"city": 1}, "$.city: 1 is not of type 'string'"),
        ({"city": "x", "days": 0}, "$.days: 0 is less than the minimum of 1"),
        ({"city": "x", "days": True}, "$.days: "),
        ({"city": "x", "days": "2"}, "$.days: '2' is not of type 'integer'"),
        ({"city": "x", "unit": "kelvin"}, "$.unit: 'kelvin' is not one of"),
        ({"city": "x", "wind": {"speed": "x"}}, "$.wind"),
        ({"city": "x", "dais": 2}, "$.dais: unknown argument; did you mean 'days'?"),
        ({"city": "x", "zzz": 2}, "$.zzz: unknown argument; known: city, days"),
        ({"city": "x" * 10, "tags": [1]}, "$.tags[0]: 1 is not of type 'string'"),
    ],
)
async def test_a_problem_names_its_place(arguments, problem):
    with pytest.raises(InvalidArguments) as caught:
        await weather.run(arguments, CONTEXT)
    assert any(str(one).startswith(problem) for one in caught.value.problems), caught.value.problems


async def test_all_problems_are_told_at_once_and_briefly():
    with pytest.raises(InvalidArguments) as caught:
        await weather.run({"days": "x" * 100_000, "tags": list(range(50)), "zzz": 1}, CONTEXT)
    assert len({one.path for one in caught.value.problems}) > 4
    assert len(str(caught.value)) < 4000


async def test_who_asks_for_the_context_gets_it_and_the_model_does_not_see_it():
    @tool
    async def who(greeting: str, context: ToolContext) -> str:
        return f"{greeting}, {context.auth.identity}"

    @tool
    def where(context: ToolContext | None = None) -> str:
        return context.session

    assert list(who.parameters["properties"]) == ["greeting"]
    assert await who.run({"greeting": "Hi"}, CONTEXT) == "Hi, :"
    assert await where.run({}, ToolContext(session="local:ana")) == "local:ana"
    with pytest.raises(InvalidArguments):
        await who.run({"greeting": "Hi", "context": {}}, CONTEXT)


async def test_sync_functions_run_in_a_thread_and_async_ones_do_not():
    @tool
    def sync() -> int:
        return threading.get_ident()

    @tool
    async def not_sync() -> int:
        return threading.get_ident()

    assert await sync.run({}, CONTEXT) != threading.get_ident()
    assert await not_sync.run({}, CONTEXT) == threading.get_ident()


async def test_methods_and_callable_objects_are_tools_too():
    class Counter:
        def __init__(self):
            self.count = 0

        async def add(self, by: int = 1) -> int:
            """Count on."""
            self.count += by
            return self.count

        async def __call__(self, by: int) -> int:
            return await self.add(by)

    counter = Counter()
    assert await tool(counter.add).run({"by": 2}, CONTEXT) == 2
    assert await tool(name="count")(counter).run({"by": 2}, CONTEXT) == 4
    with pytest.raises(TypeError, match="'self' needs a type hint"):
        tool(Counter.add)


async def test_a_partial_of_an_async_function_is_one():
    async def add(a: int, b: int) -> int:
        return a + b

    async def add_one(b: int) -> int:
        return await functools.partial(add, 1)(b)

    assert await tool(add_one).run({"b": 1}, CONTEXT) == 2


async def test_what_a_sync_function_returns_to_be_awaited_is_awaited():
    async def inner(n: int) -> int:
        await trio.lowlevel.checkpoint()
        return n

    @tool
    def outer(n: int) -> Any:
        return inner(n)

    assert await outer.run({"n": 1}, CONTEXT) == 1


def any_arguments(*args: int):
    pass


def by_position(a: int, /):
    pass


def unannotated(a):
    pass


class Unknown:
    def __init__(self, x):
        pass


def no_json(a: Unknown):
    pass


@pytest.mark.parametrize("function", [any_arguments, by_position, unannotated, no_json])
def test_what_cannot_be_a_tool_says_so_where_it_is_made(function):
    with pytest.raises(TypeError, match=r"cannot be filled|type hint"):
        tool(function)


def test_a_path_argument_that_does_not_exist_is_noticed():
    with pytest.raises(TypeError, match="no parameter 'file'"):

        @tool(reads="file")
        def read(path: str) -> str:
            return path


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "né", "a.b"])
def test_a_name_that_a_provider_would_refuse_is_refused(name):
    async def nothing(arguments, context):
        pass

    with pytest.raises(ValueError, match="a tool is named by"):
        Tool(name, function=nothing)


@pytest.mark.parametrize("wrong", [{"total": 0}, {"total": -1}, {"mode": "careful"}])
def test_metadata_is_validated(wrong):
    with pytest.raises(ValueError, match=r"total|mode"):
        ToolMetadata(**wrong)


def test_what_only_looks_may_be_repeated():
    assert ToolMetadata(mode="read_only").idempotent
    assert not ToolMetadata().idempotent
    assert ToolMetadata(idempotent=True).idempotent


def test_a_context_does_not_show_its_secrets_or_machinery():
    assert "unobserved" not in repr(CONTEXT)
    assert CONTEXT.log is logging.getLogger("clawft_trio.tools")


def test_a_reference_out_of_a_schema_is_not_fetched():
    check = check_schema({"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:1/schema"}}})
    with pytest.raises(InvalidArguments, match="cannot be followed"):
        check({"a": 1})


def test_a_pattern_of_somebody_elses_is_not_run():
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
    check_schema(schema, trusted=False)({"a": "a" * 40 + "!"})
    with pytest.raises(InvalidArguments):
        check_schema(schema)({"a": "b"})


@pytest.mark.parametrize("schema", [{"type": "array"}, {"type": "object", "properties": 3}, {"type": "nonsense"}])
def test_what_is_no_schema_of_arguments_is_refused(schema):
    with pytest.raises(InvalidData):
        check_schema(schema)


def test_a_schema_that_runs_in_circles_is_a_problem_and_no_crash():
    check = check_schema({"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}})
    with pytest.raises(InvalidArguments):
        check({"a": 1})


@pytest.mark.parametrize(
    ("text", "description", "notes"),
    [
        ("", "", {}),
        ("One line.", "One line.", {}),
        ("Do.\n\nArgs:\n  a: one\n  b (int): two\n    and more: yes\n\n  c:\n    three", "Do.",
         {"a": "one", "b": "two and more: yes", "c": "three"}),
        ("Do.\n\n:param a: one\n  more\n:param int b: two\n:returns: x\n:raises OSError: y", "Do.",
         {"a": "one more", "b": "two"}),
        ("Do: this.\nNote: that.\n\nReturns:\n  x", "Do: this.\n\nReturns:\n  x", {}),
        ("Do.\n\nRaises:\n  A: b\n\nThen more.", "Do.\n\nThen more.", {}),
    ],
)  # fmt: skip
def test_docstrings_are_read(text, description, notes):
    said, found = read_docstring(text)
    assert "\n".join(line for line in said.splitlines() if line) == "\n".join(
        line for line in description.splitlines() if line
    )
    assert found == notes
