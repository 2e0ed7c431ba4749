"""Typed answers: the form a model is told, what its text becomes, and what happens when it does not fit."""

from __future__ import annotations

import enum
import threading
from dataclasses import dataclass, field
from datetime import date
from typing import Literal, TypedDict

import attrs
import msgspec
import pytest
import trio
from hypothesis import given, strategies as st
from judged import ScriptedProvider

from clawft_trio import InvalidAnswer, Message, Reset, open_agent, tool
from clawft_trio.agent import AnswerForm, TurnPolicy
from clawft_trio.agent.answer_form import correction
from clawft_trio.chat import ChatResponse, ToolCall
from clawft_trio.errors import ContentFiltered, InvalidData, Problem
from clawft_trio.llm.conform.strict import fits_strict
from clawft_trio.observe import Recorder
from clawft_trio.observe.events import Retracted
from clawft_trio.testing import CallTool, Finish, Say, Screen, cancel_everywhere


def _plausible(_: object, __: object, value: int) -> None:
    if not -90 <= value <= 60:
        raise ValueError("no place on earth is like that")


@attrs.frozen
class Forecast:
    """The weather that is expected."""

    city: str
    degrees: int = attrs.field(validator=_plausible)
    sky: Literal["clear", "rain"] = "clear"


@dataclass
class Tree:
    name: str
    children: list[Tree] = field(default_factory=list)


class Place(TypedDict):
    city: str


class Thing:
    """Nothing that JSON could be."""


class Sky(enum.Enum):
    RAIN = "rain"


GOOD = '{"city": "Oslo", "degrees": 7, "sky": "rain"}'
WRONG = '{"city": 3, "degrees": 7, "sky": "fog"}'


def saying(*texts: str) -> ScriptedProvider:
    return ScriptedProvider(*[[Say(text), Finish()] for text in texts])


def response(text: str, **fields: object) -> ChatResponse:
    return ChatResponse(content=text, **fields)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Forecast, GOOD, Forecast("Oslo", 7, "rain")),
        (Forecast, f"```json\n{GOOD}\n```", Forecast("Oslo", 7, "rain")),
        (Tree, '{"name": "a", "children": [{"name": "b"}]}', Tree("a", [Tree("b")])),
        (Place, '{"city": "Oslo"}', {"city": "Oslo"}),
        (list[str], '{"answer": ["a", "b"]}', ["a", "b"]),
        (Sky, '{"answer": "rain"}', Sky.RAIN),
        (int | None, '{"answer": null}', None),
        (bool, '{"answer": false}', False),
    ],
)
def test_text_becomes_a_value_of_the_type(kind: object, text: str, value: object) -> None:
    form = AnswerForm.of(kind)
    assert form.schema["type"] == "object"  # providers promise nothing else
    assert form.value_of(response(text)) == value


@pytest.mark.parametrize(
    ("kind", "text", "problems"),
    [
        (Forecast, WRONG, {"$.city", "$.sky"}),
        (Forecast, '{"city": "Oslo", "degrees": 7, "wind": 3}', {"$.wind"}),
        (Forecast, '{"city": "Oslo"}', {"$"}),
        (Forecast, '{"city": "Venus", "degrees": 464}', {"$"}),
        (Tree, '{"name": "a", "children": [{"name": "b", "children": [{"name": 1}]}]}', {"$.children[0].children[0].name"}),
        (Tree, '{"name": "a", "children": [{"name": "b", "weight": 1}]}', {"$.children[0]"}),
        (int, '{"answer": "7"}', {"$.answer"}),
        (Forecast, "It will rain.", {"$"}),
        (Forecast, "", {"$"}),
        (Forecast, "[" * 5000, {"$"}),
        (Forecast, "null", {"$"}),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_reported_with_its_place(kind: object, text: str, problems: set[str]) -> None:
    with pytest.raises(InvalidAnswer) as told:
        AnswerForm.of(kind).value_of(response(text))
    assert {problem.path for problem in told.value.problems} == problems
    assert told.value.partial == text


def test_the_message_of_a_validator_is_reported() -> None:
    with pytest.raises(InvalidAnswer, match="no place on earth"):
        AnswerForm.of(Forecast).value_of(response('{"city": "Venus", "degrees": 464}'))


@pytest.mark.parametrize("fields", [{"finish_reason": "length"}, {"tool_calls": (ToolCall(id="1", name="x"),)}])
def test_what_was_cut_off_or_calls_a_tool_is_no_answer_however_whole_it_looks(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidAnswer):
        AnswerForm.of(Forecast).value_of(response(GOOD, **fields))


@pytest.mark.parametrize("kind", [Place, Tree, list[Place], str | Place])
def test_objects_refuse_what_they_do_not_know(kind: object) -> None:
    def closed(schema: object) -> bool:
        if isinstance(schema, dict):
            said = "properties" not in schema or schema["additionalProperties"] is False
            return said and all(map(closed, schema.values()))
        return not isinstance(schema, list) or all(map(closed, schema))

    assert closed(AnswerForm.of(kind).schema)


def test_schemas_that_openai_can_guarantee_are_sent_as_strict() -> None:
    assert fits_strict(AnswerForm.of(Place).schema)


def test_a_property_may_have_any_name() -> None:
    class Odd(TypedDict):
        properties: Place
        required: int
        default: str

    text = '{"properties": {"city": "Oslo"}, "required": 1, "default": "x"}'
    assert AnswerForm.of(Odd).value_of(response(text)) == {
        "properties": {"city": "Oslo"},
        "required": 1,
        "default": "x",
    }


def test_a_schema_of_ones_own() -> None:
    form = AnswerForm.of_schema({"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}})
    assert form.value_of(response('{"n": 3}')) == {"n": 3}
    with pytest.raises(InvalidAnswer, match=r"\$\.n: 2 is less than"):
        form.value_of(response('{"n": 2}'))
    with pytest.raises(InvalidData):
        AnswerForm.of_schema({"type": 3})


def test_an_answer_of_exactly_the_largest_length_is_read() -> None:
    form = AnswerForm.of_schema({"type": "string"})
    largest = "a" * ((1 << 20) - 2)
    assert form.value_of(response(f'"{largest}"')) == largest
    with pytest.raises(InvalidAnswer, match="1048577 characters are more than the 1048576"):
        form.value_of(response(f'"{largest}a"'))


async def test_a_long_answer_is_read_in_a_thread_that_is_not_awaited_by_a_cancellation() -> None:
    left, threads = threading.Event(), set[int]()

    def read(raw: object) -> object:
        threads.add(threading.get_ident())
        return left.wait(60) if raw == "b" * 5000 else raw

    form = AnswerForm({"type": "string"}, read=read)
    assert await form.read_answer(response('"short"')) == "short"
    assert threads == {threading.get_ident()}
    with trio.move_on_after(0.01) as scope:
        await form.read_answer(response(f'"{"b" * 5000}"'))
    assert scope.cancelled_caught
    assert not left.is_set()
    left.set()


def test_a_reader_of_ones_own() -> None:
    def even(raw: dict[str, int]) -> int:
        if raw["n"] % 2:
            raise InvalidData([Problem("$.n", "odd")])
        return raw["n"]

    form = AnswerForm({"type": "object", "required": ["n"]}, read=even)
    assert form.value_of(response('{"n": 4}')) == 4
    with pytest.raises(InvalidAnswer, match=r"\$\.n: odd"):
        form.value_of(response('{"n": 3}'))


def test_pydantic_models_are_types_like_others() -> None:
    pydantic = pytest.importorskip("pydantic")

    class Trip(pydantic.BaseModel):
        city: str
        days: list[int]

        @pydantic.field_validator("days")
        @classmethod
        def short(cls, days: list[int]) -> list[int]:
            if len(days) > 2:
                raise ValueError("too long")
            return days

    form = AnswerForm.of(Trip)
    assert form.value_of(response('{"city": "Oslo", "days": [1]}')) == Trip(city="Oslo", days=[1])
    with pytest.raises(InvalidAnswer, match=r"\$\.days: .*too long"):
        form.value_of(response('{"city": "Oslo", "days": [1, 2, 3]}'))
    with pytest.raises(InvalidAnswer, match=r"\$\.days\[0\]"):
        form.value_of(response('{"city": "Oslo", "days": ["1"]}'))


def test_whatever_pydantic_makes_is_a_type() -> None:
    pydantic = pytest.importorskip("pydantic")

    class Trip(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(strict=True)
        when: date
        next: Trip | None = None

    @pydantic.dataclasses.dataclass
    class Positive:
        n: int = pydantic.Field(gt=0)

    class Days(pydantic.RootModel):
        root: list[int]

    Trip.model_rebuild(_types_namespace={"Trip": Trip, "date": date})
    trip = '{"when": "2026-01-01", "next": {"when": "2026-01-02"}}'
    assert AnswerForm.of(Trip).value_of(response(trip)).next.when == date(2026, 1, 2)
    assert AnswerForm.of(list[Trip]).value_of(response(f'{{"answer": [{trip}]}}'))[0].when == date(2026, 1, 1)
    assert AnswerForm.of(Days).value_of(response('{"answer": [1]}')) == Days([1])
    for kind in (Trip, list[Trip], Days, Positive):
        assert AnswerForm.of(kind).schema["type"] == "object"
    with pytest.raises(InvalidAnswer, match=r"\$\.n: "):
        AnswerForm.of(Positive).value_of(response('{"n": -1}'))


def test_keys_of_a_mapping_have_the_declared_type() -> None:
    form = AnswerForm.of(dict[int, str])
    assert form.value_of(response('{"answer": {"3": "x"}}')) == {3: "x"}
    with pytest.raises(InvalidAnswer) as told:
        form.value_of(response('{"answer": {"three": "x"}}'))
    assert [problem.path for problem in told.value.problems] == ["$.answer"]


def test_fields_that_json_would_fill_in_another_way_are_refused() -> None:
    @attrs.frozen
    class Converted:
        a: int = attrs.field(converter=lambda value: value * 10)

    @dataclass
    class Hidden:
        a: int = field(init=False, default=3)

    for kind in (Converted, Hidden):
        with pytest.raises(TypeError, match=r"\.a: "):
            AnswerForm.of(kind)


def test_the_correction_message_is_short_for_any_problem() -> None:
    def refuse(raw: object) -> None:
        raise ValueError("z" * 2_000_000)

    with pytest.raises(InvalidAnswer) as told:
        AnswerForm({"type": "object"}, read=refuse).value_of(response("{}"))
    assert len(correction(told.value)) < 1000
    with pytest.raises(InvalidAnswer) as told:
        AnswerForm.of(list[int]).value_of(response(msgspec.json.encode({"answer": ["x" * 1000] * 1000}).decode()))
    assert len(correction(told.value)) < 5000


def test_what_a_filter_cut_off_is_no_mistake_in_the_form() -> None:
    with pytest.raises(ContentFiltered):
        AnswerForm.of(Forecast).value_of(response(GOOD, finish_reason="content_filter"))


async def test_a_long_answer_is_read_off_the_event_loop() -> None:
    where = []

    def note(raw: object) -> object:
        where.append(threading.current_thread() is threading.main_thread())
        return raw

    form = AnswerForm({"type": "object"}, read=note)
    for text in ("{}", "{}" + " " * 10_000):
        await form.read_answer(response(text))
    assert where == [True, False]
    with pytest.raises(InvalidAnswer, match="characters"):
        await form.read_answer(response("{}" + " " * 2_000_000))


def test_a_type_that_json_cannot_be_is_refused_at_once() -> None:
    with pytest.raises(TypeError):
        AnswerForm.of(object())
    with pytest.raises(TypeError):
        AnswerForm.of(Thing)


@attrs.frozen
class Everything:
    number: int
    share: float | None
    words: list[str]
    table: dict[str, bool]
    place: Place


values = st.builds(
    Everything,
    number=st.integers(-(2**53), 2**53),
    share=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    words=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4),
    table=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.booleans(), max_size=4),
    place=st.fixed_dictionaries({"city": st.text(st.characters(exclude_categories=["Cs"]))}),
)
FORM = AnswerForm.of(Everything)


@given(values)
def test_every_value_of_a_type_comes_back_from_its_json(value: Everything) -> None:
    assert FORM.value_of(response(msgspec.json.encode(value).decode())) == value


async def test_ask_returns_a_validated_object() -> None:
    model = saying(GOOD)
    async with open_agent(["p/m"], providers={"p": model}) as agent:
        assert await agent.ask("And tomorrow?", answer=Forecast) == Forecast("Oslo", 7, "rain")
    assert model.requests[0].response_schema == AnswerForm.of(Forecast).schema


async def test_an_answer_that_does_not_fit_goes_back_with_its_places() -> None:
    model = saying(WRONG, "Sorry!", GOOD)
    async with open_agent(["p/m"], providers={"p": model}) as agent:
        assert await agent.ask("And tomorrow?", answer=Forecast) == Forecast("Oslo", 7, "rain")
    asked, told, again = model.requests
    assert [message.role for message in told.messages[len(asked.messages) :]] == ["assistant", "user"]
    assert told.messages[-2].text == WRONG
    assert "- $.city: 3 is not of type 'string'" in told.messages[-1].text
    assert "- $.sky: 'fog' is not one of" in told.messages[-1].text
    assert "JSON is malformed" in again.messages[-1].text


async def test_after_so_many_corrections_it_is_an_error_with_the_last_text() -> None:
    model = saying(WRONG, WRONG, "Sorry!", GOOD)
    async with open_agent(["p/m"], providers={"p": model}, turn=TurnPolicy(max_answer_corrections=2)) as agent:
        with pytest.raises(InvalidAnswer) as told:
            await agent.ask("And tomorrow?", answer=Forecast)
    assert model.calls == 3
    assert told.value.partial == "Sorry!"
    assert [record.outcome for record in told.value.attempts] == ["ok"] * 3


async def test_no_correction_at_all_can_be_asked_for() -> None:
    model = saying(WRONG, GOOD)
    async with open_agent(["p/m"], providers={"p": model}, turn=TurnPolicy(max_answer_corrections=0)) as agent:
        with pytest.raises(InvalidAnswer):
            await agent.ask("And tomorrow?", answer=Forecast)
    assert model.calls == 1


async def test_what_was_shown_of_a_wrong_answer_is_taken_back() -> None:
    recorder, screen = Recorder(), Screen()
    async with open_agent(["p/m"], providers={"p": saying(WRONG, GOOD)}, observers=[recorder]) as agent:
        async with agent.stream("And tomorrow?", answer=Forecast) as asked:
            async for event in asked:
                screen(event)
    assert screen.text == GOOD == asked.reply.text
    assert asked.reply.answer == Forecast("Oslo", 7, "rain")
    assert [reset.discarded.text for reset in screen.resets] == [WRONG]
    assert isinstance(screen.resets[0].cause, InvalidAnswer)
    assert [event.characters for event in recorder.events if isinstance(event, Retracted)] == [len(WRONG)]


async def test_a_wrong_answer_is_paid_for_and_not_part_of_the_conversation() -> None:
    async with open_agent(["p/m"], providers={"p": saying(WRONG, GOOD, "Bye.")}) as agent:
        await agent.ask("And tomorrow?", answer=Forecast, session="s")
        reply = await agent.ask("Thanks.", session="s")
        history = await agent.parts.turns.history.history(reply.session)
    assert [message.text for message in history] == ["And tomorrow?", GOOD, "Thanks.", "Bye."]


async def test_tools_come_first_and_the_form_holds_for_the_final_answer(autojump_clock: object) -> None:
    @tool(mode="read_only")
    async def thermometer(city: str) -> int:
        """Degrees there."""
        return 7

    model = ScriptedProvider(
        [Say("Let me look."), CallTool("thermometer", {"city": "Oslo"}), Finish()],
        [Say("7 degrees"), Finish()],
        [Say(GOOD), Finish()],
    )
    async with open_agent(["p/m"], providers={"p": model}, tools=[thermometer]) as agent:
        assert (await agent.ask("And tomorrow?", answer=Forecast)).degrees == 7
    assert [message.role for message in model.requests[-1].messages[-4:]] == ["assistant", "tool", "assistant", "user"]


async def test_a_model_that_only_calls_tools_gives_no_answer() -> None:
    @tool(mode="read_only")
    async def look() -> str:
        """Look."""
        return "nothing"

    model = ScriptedProvider([CallTool("look", {}), Finish()])
    policy = TurnPolicy(max_tool_iterations=2)
    async with open_agent(["p/m"], providers={"p": model}, tools=[look], turn=policy) as agent:
        with pytest.raises(InvalidAnswer, match="a call of a tool"):
            await agent.ask("And tomorrow?", answer=Forecast)
    # Two rounds of tools, the last without, and two corrections.
    assert model.calls == 5
    assert [message.role for message in model.requests[-1].messages[-3:]] == ["assistant", "tool", "user"]


async def test_a_typed_answer_that_the_consumer_stops_is_an_error() -> None:
    async with open_agent(["p/m"], providers={"p": saying(GOOD)}) as agent:
        with pytest.raises(InvalidAnswer, match="stopped"):
            await agent.ask("And tomorrow?", answer=Forecast, on_event=lambda event: False)


async def test_a_type_that_cannot_be_is_refused_before_anybody_is_asked() -> None:
    model = saying(GOOD)
    async with open_agent(["p/m"], providers={"p": model}) as agent:
        with pytest.raises(TypeError):
            await agent.ask("And tomorrow?", answer=Thing)
    assert model.calls == 0


async def test_cancelled_anywhere_a_typed_answer_leaves_nothing(autojump_clock: object) -> None:
    model = ScriptedProvider(
        choose=lambda request: [Say(GOOD if request.messages[-1].text.startswith("That answer") else WRONG), Finish()]
    )

    async def operation() -> None:
        async with open_agent(["p/m"], providers={"p": model}) as agent:
            seen: list[object] = []
            assert (await agent.ask(Message.user("?"), answer=Forecast, on_event=seen.append)).city == "Oslo"
            assert sum(isinstance(event, Reset) for event in seen) == 1

    async def check() -> None:
        assert model.running == 0

    await cancel_everywhere(operation, check)
