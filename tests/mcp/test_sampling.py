"""Servers that ask our model."""

from __future__ import annotations

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from clawft_trio.chat import ChatResponse, File, Image, Text, ToolCall
from clawft_trio.errors import BudgetExceeded, PeerError, ServerError
from clawft_trio.mcp.host import Host
from clawft_trio.mcp.sampling import SamplingPolicy, sample_with
from clawft_trio.mcp.types import CreateMessageParams, SamplingMessage, ToolDefinition


class Model:
    """Answers, and keeps what it was asked."""

    name = "model"

    def __init__(self, error=None):
        self.error = error
        self.asked = []
        self.gate = trio.Event()
        self.gate.set()

    async def complete(self, request, call):
        self.asked.append(request)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return ChatResponse(content="hello", model="m-1", finish_reason="length")


def params(content=None, **kwargs):
    content = {"type": "text", "text": "hi"} if content is None else content
    return CreateMessageParams(messages=(SamplingMessage(role="user", content=content),), **kwargs)


async def test_the_model_answers_within_the_policy():
    model = Model()
    sample = sample_with(model, model="m", policy=SamplingPolicy(max_tokens=100))
    answer = await sample(params(max_tokens=99_999, system_prompt="be brief", temperature=0.5, stop_sequences=("x",)))
    assert answer == {
        "role": "assistant",
        "content": {"type": "text", "text": "hello"},
        "model": "m-1",
        "stopReason": "maxTokens",
    }
    [request] = model.asked
    assert (request.max_tokens, request.model, request.temperature, request.stop) == (100, "m", 0.5, ("x",))
    assert [(message.role, message.text) for message in request.messages] == [("system", "be brief"), ("user", "hi")]


async def test_images_recordings_and_several_blocks_are_passed_on():
    model = Model()
    blocks = [{"type": "text", "text": "what is it?"}, {"type": "image", "data": "aGk=", "mimeType": "image/png"}]
    blocks.append({"type": "audio", "data": "aGk=", "mimeType": "audio/wav"})
    await sample_with(model)(params(blocks))
    assert model.asked[0].messages[0].content[1:] == (
        Image(data=b"hi", media_type="image/png"),
        File(data=b"hi", media_type="audio/wav"),
    )


@pytest.mark.parametrize(
    ("parts", "content"),
    [
        ((), {"type": "text", "text": ""}),
        ((Text("a"),), {"type": "text", "text": "a"}),
        ((Text("a"), Text("b")), [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
    ],
)
async def test_an_answer_of_several_blocks_is_a_list_and_of_one_is_none(parts, content):
    class Saying(Model):
        async def complete(self, request, call):
            await trio.lowlevel.checkpoint()
            return ChatResponse(content=parts, model="m", finish_reason="stop")

    assert (await sample_with(Saying())(params()))["content"] == content


@pytest.mark.parametrize("content", [{"type": "audio"}, 7, {"type": "image", "data": "%", "mimeType": "image/png"}])
async def test_what_cannot_be_sampled_from_is_refused(content):
    model = Model()
    with pytest.raises(PeerError) as caught:
        await sample_with(model)(params(content))
    assert caught.value.code == -32602
    assert model.asked == []


@pytest.mark.parametrize(
    "asked",
    [
        params({"type": "text", "text": "x" * 1000}),
        params(system_prompt="x" * 1000),
        params(stop_sequences=("x" * 1000,)),
        params(stop_sequences=("x",) * 100),
        params(tools=(ToolDefinition(name="t", description="x" * 1000),)),
    ],
    ids=["message", "system", "stop", "stops", "tools"],
)
async def test_a_request_that_is_too_large_is_refused(asked):
    model = Model()
    with pytest.raises(PeerError, match="longer than 900") as caught:
        await sample_with(model, policy=SamplingPolicy(max_prompt=900))(asked)
    assert (caught.value.code, model.asked) == (-32602, [])


async def test_a_server_gets_so_many_answers_a_minute(autojump_clock):
    sample = sample_with(Model(), policy=SamplingPolicy(per_minute=2))
    for _ in range(2):
        await sample(params())
    with pytest.raises(PeerError, match="too many"):
        await sample(params())
    await trio.sleep(60)
    await sample(params())


async def test_a_server_gets_so_many_answers_at_once():
    model = Model()
    model.gate = trio.Event()
    sample = sample_with(model, policy=SamplingPolicy(concurrent=2))
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(sample, params())
        await wait_all_tasks_blocked()
        with pytest.raises(PeerError, match="too many"):
            await sample(params())
        model.gate.set()
    await sample(params())


async def test_nothing_is_asked_without_approval():
    async def approve(asked):
        await trio.lowlevel.checkpoint()
        return asked.max_tokens < 10

    model = Model()
    sample = sample_with(model, policy=SamplingPolicy(approve=approve))
    with pytest.raises(PeerError, match="rejected"):
        await sample(params(max_tokens=10))
    assert model.asked == []
    await sample(params(max_tokens=9))


@pytest.mark.parametrize("error", [ServerError("openai: key sk-123 failed"), BudgetExceeded("ana spent 5 dollars")])
async def test_a_servers_answer_to_a_failure_says_nothing_of_ours(error):
    with pytest.raises(PeerError) as caught:
        await sample_with(Model(error))(params())
    assert "sk-123" not in str(caught.value)
    assert "ana" not in str(caught.value)


async def test_a_model_that_takes_too_long_is_given_up(autojump_clock):
    model = Model()
    model.gate = trio.Event()
    with pytest.raises(PeerError, match="too long"):
        await sample_with(model, policy=SamplingPolicy(total=5.0))(params())
    assert trio.current_time() == 5.0


WEATHER = ToolDefinition(name="weather", description="The weather.", input_schema={"type": "object"})


class CallingModel(Model):
    async def complete(self, request, call):
        self.asked.append(request)
        await trio.lowlevel.checkpoint()
        return ChatResponse(
            content="I look.",
            tool_calls=(ToolCall(id="c1", name="weather", arguments='{"city": "Oslo"}'),),
            model="m",
            finish_reason=self.error or "tool_calls",
        )


def use(key="c1", name="weather", given=None):
    return {"type": "tool_use", "id": key, "name": name, "input": given or {}}


def outcome(key="c1", *blocks, **more):
    return {"type": "tool_result", "toolUseId": key, "content": list(blocks), **more}


TEXT = {"type": "text", "text": "sunny"}


def spoken(*turns, **kwargs):
    roles = ["user", "assistant"] * len(turns)
    messages = tuple(SamplingMessage(role=role, content=turn) for role, turn in zip(roles, turns, strict=False))
    return CreateMessageParams(messages=messages, tools=(WEATHER,), **kwargs)


async def test_tools_of_the_server_are_offered_and_calls_go_back_to_it():
    model = CallingModel()
    answer = await sample_with(model)(params(tools=(WEATHER,), tool_choice={"mode": "required"}))
    [request] = model.asked
    assert [(spec.name, spec.description) for spec in request.tools] == [("weather", "The weather.")]
    assert request.tool_choice == "required"
    assert answer["stopReason"] == "toolUse"
    assert answer["content"] == [
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Oslo"}},
    ]


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_calls_of_an_answer_that_was_cut_do_not_go_back(reason):
    answer = await sample_with(CallingModel(reason))(params(tools=(WEATHER,)))
    assert answer["content"] == {"type": "text", "text": "I look."}
    assert answer["stopReason"] != "toolUse"


async def test_calls_and_results_reach_the_model_as_its_own_history():
    model = Model()
    failed = outcome("c2", {"type": "text", "text": "no such city"}, isError=True)
    structured = outcome("c3", structuredContent={"degrees": 3})
    history = spoken(
        {"type": "text", "text": "?"},
        [{"type": "text", "text": "a moment"}, use("c1", given={"city": "Oslo"}), use("c2"), use("c3")],
        [outcome("c1", TEXT), failed, structured],
    )
    await sample_with(model)(history)
    _, called, *results = model.asked[0].messages
    assert called.text == "a moment"
    assert [(call.id, call.arguments) for call in called.tool_calls][0] == ("c1", '{"city":"Oslo"}')
    assert [(one.role, one.tool_call_id, one.text) for one in results] == [
        ("tool", "c1", "sunny"),
        ("tool", "c2", "Error: no such city"),
        ("tool", "c3", '{"degrees":3}'),
    ]


@pytest.mark.parametrize(
    "turns",
    [
        (TEXT, [use()]),
        (TEXT, [use()], TEXT),
        (TEXT, [use()], [outcome(), TEXT]),
        (TEXT, [use()], [outcome("other")]),
        (TEXT, [use()], [outcome(), outcome()]),
        (TEXT, [use(), use()], [outcome()]),
        (TEXT, [use("a"), use("b")], [outcome("a")]),
        ([outcome()],),
        ([use()],),
        (TEXT, [outcome()]),
        (TEXT, [{"type": "tool_use", "id": 3, "name": "x"}], [outcome()]),
        (TEXT, [use()], [{"type": "tool_result", "toolUseId": "c1", "content": "text"}]),
        (["text"],),
        (None,),
    ],
)
async def test_calls_and_results_that_do_not_belong_together_are_refused(turns):
    with pytest.raises(PeerError) as caught:
        await sample_with(Model())(spoken(*turns))
    assert caught.value.code == -32602


async def test_an_unknown_choice_of_tools_is_refused():
    with pytest.raises(PeerError) as caught:
        await sample_with(Model())(params(tools=(WEATHER,), tool_choice={"mode": "any"}))
    assert caught.value.code == -32602


async def test_what_servers_are_told_of_tools_is_what_the_policy_allows():
    assert Host(sample=sample_with(Model())).capabilities()["sampling"] == {"tools": {}}
    narrow = sample_with(Model(), policy=SamplingPolicy(tools=False))
    assert Host(sample=narrow).capabilities()["sampling"] == {}
    assert Host(sample=sample_with(Model()), sample_tools=False).capabilities()["sampling"] == {}
    with pytest.raises(PeerError):
        await narrow(params(tools=(WEATHER,)))


@pytest.mark.parametrize(("longer", "taken"), [(0, True), (1, False)])
async def test_a_prompt_of_the_longest_size_is_taken(longer: int, taken: bool) -> None:
    asked = params(system_prompt="x", stop_sequences=("y",) * 16)
    size = len(msgspec.json.encode(asked.messages[0])) + 1 + 16
    model = Model()
    sample = sample_with(model, policy=SamplingPolicy(max_prompt=size - longer))
    if taken:
        assert (await sample(asked))["model"] == "m-1"
    else:
        with pytest.raises(PeerError, match="longer than"):
            await sample(asked)
    assert len(model.asked) == taken
