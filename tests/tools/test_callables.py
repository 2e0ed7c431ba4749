"""What may become a tool: every kind of callable, with its own hints and its own docstring."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import date
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import pydantic
import pytest

from clawft_trio import AuthContext, Image, InvalidArguments, ToolCall, ToolContext, ToolRegistry, ToolResult, tool
from clawft_trio.chat import Text
from clawft_trio.tools.docstring import read_docstring
from clawft_trio.tools.truncate import answer_text

if TYPE_CHECKING:
    import datetime as dt
    from decimal import Decimal

    from _typeshed import SupportsRead

    from clawft_trio.tools import ToolContext as Context


def search(query: str, index: str, limit: int = 5) -> str:
    """Search an index."""
    return f"{index}: {query} {limit}"


class Station:
    """A weather station."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix

    async def read(self, city: str) -> str:
        """Read the station of a city."""
        return self.prefix + city

    @classmethod
    def count(cls, country: str) -> int:
        """Count the stations of a country."""
        return len(country)

    @staticmethod
    def convert(celsius: float) -> float:
        """Convert to Fahrenheit."""
        return celsius * 9 / 5 + 32

    async def __call__(self, city: str) -> str:
        """Weather in a city."""
        return f"rain in {self.prefix}{city}"


class Bare:
    """What the class does."""

    def __call__(self, word: str) -> str:
        return word


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    """A sync wrapper, as decorators for logging or timing are."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@logged
async def wrapped(word: str) -> str:
    """Repeat a word."""
    return word + word


def unlabelled(word: str) -> Any:
    async def later() -> str:
        return word

    return later()


async def run(made: Any, **arguments: Any) -> object:
    return await made.run(arguments, ToolContext())


@pytest.mark.parametrize(
    ("function", "name", "description", "arguments", "result"),
    [
        (functools.partial(search, index="books"), "search", "Search an index.", {"query": "a"}, "books: a 5"),
        (functools.partial(search, "a"), "search", "Search an index.", {"index": "x"}, "x: a 5"),
        (functools.partial(functools.partial(search, limit=1), index="y"), "search", None, {"query": "q"}, "y: q 1"),
        (Station("S").read, "read", "Read the station of a city.", {"city": "Oslo"}, "SOslo"),
        (functools.partial(Station("P").read), "read", "Read the station of a city.", {"city": "x"}, "Px"),
        (Station.count, "count", "Count the stations of a country.", {"country": "NO"}, 2),
        (Station.convert, "convert", "Convert to Fahrenheit.", {"celsius": 100}, 212.0),
        (Station(), "Station", "Weather in a city.", {"city": "Oslo"}, "rain in Oslo"),
        (Bare(), "Bare", "What the class does.", {"word": "w"}, "w"),
        (wrapped, "wrapped", "Repeat a word.", {"word": "ab"}, "abab"),
        (unlabelled, "unlabelled", None, {"word": "ab"}, "ab"),
    ],
)
async def test_every_callable_is_a_tool_with_its_own_hints(function, name, description, arguments, result):
    made = tool(function)
    assert made.name == name
    assert description is None or made.description == description
    assert await run(made, **arguments) == result


def test_what_a_partial_binds_is_hidden_from_the_model():
    made = tool(functools.partial(search, index="books"), name="search_books", description="Search books.")
    assert set(made.parameters["properties"]) == {"query", "limit"}
    assert made.parameters["required"] == ["query"]
    with pytest.raises(InvalidArguments):
        made.check({"query": "a", "index": "secret"})


def test_hints_of_enclosing_functions_are_found():
    @attrs.frozen
    class Place:
        city: str

    def weather(place: Place) -> str:
        assert isinstance(place, Place)
        return place.city

    assert tool(weather).check({"place": {"city": "Oslo"}})["place"] == Place("Oslo")


def price(item: str) -> Decimal:
    """The price of a thing."""
    return 3  # type: ignore[return-value]


def buy(item: Decimal, day: dt.date, context: Context) -> str:
    """Its hints are imported for type checkers only."""
    return ""


def ask(item: SupportsRead[str]) -> str:
    """Its hint exists for type checkers only."""
    return ""


def test_a_return_type_for_type_checkers_only_does_not_matter():
    assert tool(price).parameters["properties"] == {"item": {"type": "string"}}


@dataclasses.dataclass
class A:
    x: int


@dataclasses.dataclass
class B:
    y: int


class Plain:
    pass


@pytest.mark.parametrize("hint", [A | Plain, "Missing", Callable[[], int], Plain, complex | Plain])
@pytest.mark.parametrize("before", [{}, {"fine": int}])
def test_a_hint_without_a_schema_is_an_error_with_tool_and_parameter(hint, before):
    def weather(fine=1, place=None) -> str:
        """Weather."""
        return ""

    weather.__annotations__ |= {"fine": int, "place": hint}
    with pytest.raises(TypeError, match=r"weather: .*'place'"):
        tool(weather)


def test_types_that_are_imported_for_type_checkers_only_are_imported():
    made = tool(buy)
    assert list(made.parameters["properties"]) == ["item", "day"]
    assert made.check({"item": "1.5", "day": "2024-01-31"})["day"].month == 1


def test_a_hint_that_is_a_text_finds_the_variables_of_the_functions_around_it():
    @dataclasses.dataclass
    class Place:
        city: str

    class Station:
        def weather(self, place: Place) -> str:
            return place.city

    assert tool(Station().weather).check({"place": {"city": "Oslo"}})["place"] == Place("Oslo")


def test_iterables_are_lists_and_objects_are_anything():
    def weather(cities: Iterable[str], more: object, plain: Iterable = ()) -> str:  # type: ignore[type-arg]
        return ""

    properties = tool(weather).parameters["properties"]
    assert properties["cities"] == {"type": "array", "items": {"type": "string"}}
    assert (properties["more"], properties["plain"]["items"]) == ({}, {})


def test_pydantic_reads_what_msgspec_does_not():
    def weather(place: A | B, day: date | str) -> str:
        return ""

    made = tool(weather)
    assert made.check({"place": {"y": 1}, "day": "today"}) == {"place": B(1), "day": "today"}


def test_a_partial_of_an_object_is_named_and_described_by_its_class():
    made = tool(functools.partial(Bare(), word="x"))
    assert (made.name, made.description) == ("Bare", "What the class does.")
    assert tool(Bare().__call__).name == "Bare"


def test_a_tool_is_not_made_twice():
    with pytest.raises(TypeError, match="search is a tool already"):
        tool(tool(search))


def test_a_parameter_for_type_checkers_only_is_named():
    with pytest.raises(TypeError, match=r"ask: .*'item'.*needed when the program runs"):
        tool(ask)


def test_a_raw_classmethod_is_told_what_to_do():
    with pytest.raises(TypeError, match="bound method"):
        tool(classmethod(search))  # type: ignore[call-overload]


class Place(pydantic.BaseModel):
    city: str
    country: str = "NO"


class Trip(pydantic.BaseModel):
    stops: list[Place] = pydantic.Field(min_length=1)


def rate(stars: Annotated[int, pydantic.Field(ge=1, le=5, description="one to five")], note: str = "") -> str:
    return str(stars)


def limited(limit: int = pydantic.Field(default=5, description="how many", ge=1)) -> str:
    return str(limit)


def visit(place: Place, others: list[Place] | None = None) -> str:
    """Visit a place.

    Args:
      place: where to
    """
    return f"{type(place).__name__} {place.city} {place.country} {len(others or [])}"


async def travel(trip: Trip, context: ToolContext) -> str:
    return f"{len(trip.stops)} {type(context).__name__}"


def test_bounds_and_descriptions_of_field_reach_the_model_and_the_check():
    stars = tool(rate).parameters["properties"]["stars"]
    assert (stars["minimum"], stars["maximum"], stars["description"]) == (1, 5, "one to five")
    assert tool(rate).check({"stars": 5}) == {"stars": 5, "note": ""}
    for wrong in (99, 0, "many", 1.5):
        with pytest.raises(InvalidArguments, match="stars"):
            tool(rate).check({"stars": wrong})
    with pytest.raises(InvalidArguments):
        tool(rate).check({"stars": 3, "other": 1})


def test_field_as_a_default_is_a_default():
    made = tool(limited)
    assert made.parameters["properties"]["limit"]["default"] == 5
    assert made.check({}) == {"limit": 5}
    with pytest.raises(InvalidArguments):
        made.check({"limit": 0})


async def test_models_arrive_as_models():
    made = tool(visit)
    assert made.parameters["properties"]["place"]["description"] == "where to"
    assert await run(made, place={"city": "Oslo"}, others=[{"city": "Rome", "country": "IT"}]) == "Place Oslo NO 1"
    with pytest.raises(InvalidArguments, match=r"place"):
        made.check({"place": {"country": "NO"}})


async def test_nested_models_and_the_context_go_together():
    made = tool(travel)
    assert set(made.parameters["properties"]) == {"trip"}
    assert await run(made, trip={"stops": [{"city": "Oslo"}]}) == "1 ToolContext"
    with pytest.raises(InvalidArguments, match="stops"):
        made.check({"trip": {"stops": []}})


def test_google_sections_with_nested_brackets_and_keyword_arguments():
    text, notes = read_docstring(
        "Plan.\n\nMore.\n\nArgs:\n  a (dict[str, tuple[int, ...]], optional): first (really)\n    and on\n"
        "  *rest: others\n\nKeyword Args:\n  b (Callable[[int], str]): second\n\nReturns:\n  a plan\n\nRaises:\n  E: never"
    )
    assert notes == {"a": "first (really) and on", "rest": "others", "b": "second"}
    assert text == "Plan.\n\nMore.\n\nReturns:\n  a plan"


def test_arguments_without_indentation_are_read_by_their_names():
    text, notes = read_docstring(
        "Args:\ncity: Where.\n  Or there.\ndays (int): How many.\nelse: text", ["city", "days"]
    )
    assert notes == {"city": "Where. Or there.", "days": "How many."}
    assert text == "else: text"


def test_numpy_sections():
    text, notes = read_docstring(
        "Plan.\n\nParameters\n----------\na : dict[str, int], optional\n    First.\n    And on.\nx, y : float\n    Where.\n"
        "\nOther Parameters\n----------------\nz\n    Last.\n\nReturns\n-------\nstr\n    A plan.\n\nExamples\n--------\n>>> 1\n"
    )
    assert notes == {"a": "First. And on.", "x": "Where.", "y": "Where.", "z": "Last."}
    assert text.startswith("Plan.\n\nReturns\n-------\nstr")
    assert ">>>" not in text


def test_sphinx_fields():
    text, notes = read_docstring(
        "Plan.\n\n:param dict[str, int] a: first\n  and on\n:keyword b: second\n:type b: int\n:returns: x\n:raises E: never"
    )
    assert notes == {"a": "first and on", "b": "second"}
    assert text == "Plan."


@pytest.mark.parametrize(
    ("lines", "text", "notes"),
    [
        (["Plan.", "Args:", "  a: one", "    two", "  b:", "    three"], "Plan.", {"a": "one two", "b": "three"}),
        (["Args:", "  a: one", "", "  b: two", "More."], "More.", {"a": "one", "b": "two"}),
        (["Args:", "  a: one", "    b: two"], "", {"a": "one b: two"}),
        (["Args:", "  **a: one", "  no note here", "  b (x: y"], "", {"a": "one no note here b (x: y"}),
        (["Args:", "  words without a name"], "", {}),
        (["Note: for readers", "  and more", "Kept."], "Kept.", {}),
        (["Raises:", "  KeyError: never", "", "Returns:", "  a plan"], "Returns:\n  a plan", {}),
        (["Plan.", ":param a: one", ":param int *b:", "  two", ":return: x", "  y"], "Plan.", {"a": "one", "b": "two"}),
        ([":param: nothing", ":keyword c: three"], "", {"c": "three"}),
        (["Parameters", "--", "a : int"], "Parameters\n--\na : int", {}),
        (["Parameters", "---", "*a, **b : int", "  Both.", "c", "  Last."], "", {"a": "Both.", "b": "Both.", "c": "Last."}),
        (["Returns", "-------", "int", "Notes", "-----", "none", "Warnings", "--------", "hot"], "Returns\n-------\nint\nWarnings\n--------\nhot", {}),
        (["Something", "---------", "stays"], "Something\n---------\nstays", {}),
    ],
)  # fmt: skip
def test_a_docstring_is_a_description_and_notes(lines, text, notes):
    assert read_docstring("\n".join(lines)) == (text, notes)


def test_a_heading_that_is_a_sentence_stays():
    assert read_docstring("Note well: this stays.\nWhen: always")[0] == "Note well: this stays.\nWhen: always"


def counting() -> Iterator[int]:
    """Count."""
    yield from range(3)


async def counting_later() -> AsyncIterator[int]:
    """Count."""
    for number in range(3):
        yield number


@pytest.mark.parametrize("function", [counting, counting_later])
async def test_what_a_generator_yields_is_a_list(function):
    assert await run(tool(function)) == [0, 1, 2]


def endless() -> Iterator[int]:
    while True:
        yield 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Place(city="Oslo"), '{"city":"Oslo","country":"NO"}'),
        ({"places": [Place(city="Oslo")]}, '{"places":[{"city":"Oslo","country":"NO"}]}'),
        (range(3), "[0,1,2]"),
        (deque([1, 2]), "[1,2]"),
        ({"a": 1}.keys(), '["a"]'),
        ({"a": 1}.values(), "[1]"),
        ({"a": 1}.items(), '[["a",1]]'),
        ((n for n in (1, 2)), "[1,2]"),
        ({"rows": (n for n in (1, 2)), "n": 2}, '{"rows":[1,2],"n":2}'),
        (map(str, (1, 2)), '["1","2"]'),
        (math.nan, '"NaN"'),
        ({"a": math.nan, "b": [math.inf, -math.inf], "c": None}, '{"a":"NaN","b":["Infinity","-Infinity"],"c":null}'),
        (Forecast := A(1), '{"x":1}'),
        ([dataclasses.replace(Forecast, x=2)], '[{"x":2}]'),
        ({"deep": A(math.nan)}, '{"deep":{"x":"NaN"}}'),
        (frozenset([1]), "[1]"),
        (memoryview(b"ab"), "ab"),
        (PurePosixPath("a/b"), '"a/b"'),
        ({"files": [PurePosixPath("a")], "z": 1j}, '{"files":["a"],"z":"1j"}'),
    ],
)
def test_data_of_every_kind_is_json(value, text):
    assert answer_text(value) == text


def test_an_endless_generator_is_cut():
    assert len(answer_text(endless(), limit=2048)) <= 2048


def test_what_is_its_own_member_is_still_bounded():
    loop: list[Any] = []
    loop.append(loop)
    assert len(answer_text(loop)) <= 65_536


async def test_a_tool_returns_text_for_the_model_data_for_the_program_and_parts():
    picture = Image(data=b"x", media_type="image/png")

    @tool(mode="read_only")
    async def report() -> ToolResult:
        """Report."""
        return ToolResult(text="three rows", data=[1, 2, 3], parts=[picture])

    calls = [ToolCall(id="1", name="report", arguments="{}")]
    (result,) = await ToolRegistry([report]).execute_all(calls, ToolContext(auth=AuthContext.local()))
    assert (result.call_id, result.name, result.text, result.data) == ("1", "report", "three rows", [1, 2, 3])
    assert result.parts == (picture,)
    assert result.message.content == (Text("three rows"), picture)
