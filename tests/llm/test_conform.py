"""What is sent to a target is accepted there: history, tools and options of any origin, in properties and by example."""

import json

import attrs
import pytest
from hypothesis import given, settings, strategies as st
from llm.histories import TARGETS, Target, own_histories, requests

from clawft_trio.chat import ChatRequest, File, Image, Message, Opaque, Text, ToolCall, ToolSpec
from clawft_trio.errors import RequestRejected
from clawft_trio.testing.vendor_rules import refusal

ALL = [Target(*target) for target in TARGETS]
BY_ORIGIN = {target.origin: target for target in ALL}


def conformed_or_none(target, request):
    try:
        return target.conform(request)
    except RequestRejected:
        return None


@given(requests())
@settings(deadline=None, max_examples=60)
def test_what_is_sent_is_accepted_by_every_target(request):
    for target in ALL:
        conformed = conformed_or_none(target, request)
        if conformed is not None:
            body = target.written(conformed)
            complaint = refusal(target.vendor, body)
            assert complaint is None, (target.origin, complaint, json.dumps(body, indent=1))


@given(requests())
@settings(deadline=None, max_examples=30)
def test_conforming_twice_changes_nothing(request):
    for target in ALL:
        conformed = conformed_or_none(target, request)
        if conformed is not None:
            again = target.conform(conformed.request)
            assert again.request == conformed.request, target.origin
            assert target.written(again) == target.written(conformed)


@given(requests())
@settings(deadline=None, max_examples=30)
def test_calls_and_results_stay_paired(request):
    for target in ALL:
        conformed = conformed_or_none(target, request)
        if conformed is None:
            continue
        waiting: list[str] = []
        for message in conformed.request.messages:
            if message.role == "tool":
                assert waiting.pop(0) == message.tool_call_id
            else:
                assert not waiting
                waiting = [call.id for call in message.tool_calls]
        assert not waiting
        ids = [call.id for message in conformed.request.messages for call in message.tool_calls]
        assert len(set(ids)) == len(ids)


WEATHER = ToolSpec(
    name="weather",
    description="Weather in a city.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


@pytest.mark.parametrize("target", ALL, ids=lambda target: target.origin)
@given(data=st.data())
@settings(deadline=None, max_examples=6)
def test_a_history_that_the_target_produced_stays_the_same_object(target, data):
    provider, _, model = target.origin.partition("/")
    tools = () if provider == "perplexity" else (WEATHER,)
    request = ChatRequest(data.draw(own_histories(provider, model)), tools=tools)
    if provider == "perplexity":
        request = attrs.evolve(
            request, messages=[one for one in request.messages if not one.tool_calls and one.role != "tool"]
        )
    conformed = target.conform(request)
    assert conformed.request is request
    assert not conformed.changes


def after(call, *, target, content=(), origin="x/y", result="rain"):
    """The messages that *target* gets of a turn with one *call* of another model."""
    history = (
        Message.user("q"),
        Message("assistant", content, tool_calls=(call,), origin=origin),
        Message.tool(result, tool_call_id=call.id),
    )
    conformed = BY_ORIGIN[target].conform(ChatRequest(history, tools=(WEATHER,)))
    return conformed, BY_ORIGIN[target].written(conformed)["messages"]


def test_an_id_of_another_form_is_rewritten_the_same_way_every_time():
    call = ToolCall(id="functions.weather:0", name="weather", arguments="{}")
    first, messages = after(call, target="mistral/mistral-large-latest")
    second, again = after(call, target="mistral/mistral-large-latest")
    assert messages == again
    id_ = messages[1]["tool_calls"][0]["id"]
    assert len(id_) == 9
    assert id_.isalnum()
    assert messages[2]["tool_call_id"] == id_
    assert first.changes["call ids rewritten"] == 1


def test_equal_ids_of_two_rounds_become_two_ids():
    call = ToolCall(id="call_0", name="weather", arguments="{}")
    rounds = [Message("assistant", (), tool_calls=(call,)), Message.tool("rain", tool_call_id="call_0")]
    request = ChatRequest([Message.user("q"), *rounds, *rounds])
    ids = [
        one.id for message in BY_ORIGIN["openai/gpt-4o"].conform(request).request.messages for one in message.tool_calls
    ]
    assert ids[0] == "call_0"
    assert len(set(ids)) == 2


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ('{"city": "Os', {"malformed": '{"city": "Os'}),
        ("null", {}),
        ("", {}),
        ('"{\\"city\\": \\"Oslo\\"}"', {"city": "Oslo"}),
        ("[1]", {"malformed": "[1]"}),
    ],
)
def test_arguments_that_are_no_object_are_replayed_as_one_that_keeps_them(written, sent):
    _, messages = after(ToolCall(id="c", name="weather", arguments=written), target="vllm/qwen3")
    assert json.loads(messages[1]["tool_calls"][0]["function"]["arguments"]) == sent


def test_two_illegal_names_stay_two_names():
    names = [after(ToolCall(id="c", name=name), target="openai/gpt-4o")[1][1]["tool_calls"][0]["function"]["name"] for name in ("my tool", "my:tool", "")]  # fmt: skip
    assert len(set(names)) == 3
    assert names[0].startswith("my_tool")


def test_a_tool_with_a_name_too_long_is_called_by_its_own_name_again():
    long = attrs.evolve(WEATHER, name="w" * 90)
    target = BY_ORIGIN["openai/gpt-4o"]
    conformed = target.conform(ChatRequest([Message.user("q")], tools=(long,), tool_choice="w" * 90))
    (sent,) = conformed.request.tools
    assert len(sent.name) == 64
    assert conformed.request.tool_choice == sent.name
    assert conformed.restored_call(ToolCall(id="c", name=sent.name)).name == long.name


def test_illegal_keys_are_restored_in_calls_and_rewritten_in_replays():
    parameters = {"type": "object", "properties": {"$filter": {"type": "object", "properties": {"a b": {}}}}}
    tool = ToolSpec(name="query", parameters=parameters)
    call = ToolCall(id="toolu_1", name="query", arguments='{"$filter": {"a b": 1}}')
    history = (
        Message.user("q"),
        Message("assistant", (), tool_calls=(call,)),
        Message.tool("ok", tool_call_id="toolu_1"),
    )
    conformed = BY_ORIGIN["anthropic/claude-sonnet-4-5"].conform(ChatRequest(history, tools=(tool,)))
    (key,) = conformed.request.tools[0].parameters["properties"]
    replayed = conformed.request.messages[1].tool_calls[0]
    assert list(json.loads(replayed.arguments)) == [key]
    assert json.loads(conformed.restored_call(replayed).arguments) == {"$filter": {"a b": 1}}


def test_reasoning_goes_back_to_the_model_that_signed_it_and_to_no_other():
    thinking = Opaque("anthropic", {"type": "thinking", "thinking": "hm", "signature": "c2ln"})
    call = ToolCall(id="toolu_1", name="weather", arguments="{}")
    for origin, kept in (("anthropic/claude-sonnet-4-5", True), ("anthropic/claude-opus-4-8", False)):
        _, messages = after(call, target="anthropic/claude-sonnet-4-5", content=(thinking,), origin=origin)
        assert (messages[1]["content"][0]["type"] == "thinking") is kept


def test_a_refused_turn_is_left_out_with_its_question():
    refused = Message("assistant", (Text("First you"),), refused=True)
    request = ChatRequest([Message.user("a"), Message.assistant("A"), Message.user("bad"), refused, Message.user("b")])
    sent = BY_ORIGIN["openai/gpt-4o"].conform(request).request.messages
    assert [message.text for message in sent] == ["a", "A", "b"]


def test_a_tools_image_follows_its_result_where_results_are_text():
    image = Image(data=b"PNG")
    history = [Message.user("q"), Message("assistant", (), tool_calls=(ToolCall(id="c", name="weather"),))]
    request = ChatRequest([*history, Message("tool", (image,), tool_call_id="c")])
    inside = BY_ORIGIN["anthropic/claude-sonnet-4-5"].conform(request).request.messages
    behind = BY_ORIGIN["openai/gpt-4o"].conform(request).request.messages
    none = BY_ORIGIN["deepseek/deepseek-chat"].conform(request).request.messages
    assert inside[-1].content == (image,)
    assert behind[-1] == Message("user", (image,))
    assert "image/png" in behind[-2].text
    assert none[-1].role == "tool"
    assert "does not take images" in none[-1].text


@pytest.mark.parametrize("kind", ["text/plain", "text/csv", "application/json"])
def test_a_file_of_text_is_read_by_every_model(kind):
    request = ChatRequest([Message.user("What is it?", File(data=b'{"a": 1}', media_type=kind, name="a.txt"))])
    for target in ALL:
        assert '{\\"a\\": 1}' in json.dumps(target.written(target.conform(request))), target.origin


@pytest.mark.parametrize(
    "messages", [(), (Message.user("  \n"),), (Message.user("a"), Message.assistant("A"), Message.user(""))]
)
def test_a_blank_question_is_refused_before_anything_is_sent(messages):
    with pytest.raises(RequestRejected):
        BY_ORIGIN["openai/gpt-4o"].conform(ChatRequest(messages))


def test_a_schema_that_never_ends_costs_that_tool_alone():
    node = {"type": "object", "properties": {f"p{n}": {"$ref": f"#/$defs/n{n}"} for n in range(20)}}
    endless = ToolSpec(name="endless", parameters={**node, "$defs": {f"n{n}": node for n in range(20)}})
    conformed = BY_ORIGIN["gemini/gemini-3-pro-preview"].conform(
        ChatRequest([Message.user("q")], tools=(endless, WEATHER))
    )
    assert [tool.name for tool in conformed.request.tools] == ["weather"]
    assert any("too large" in change for change in conformed.changes)


@pytest.mark.parametrize(
    ("target", "options", "sent"),
    [
        ("openai/gpt-5-mini", {"temperature": 0.7, "reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        ("openai/gpt-4o", {"temperature": 0.7, "reasoning_effort": "low"}, {"temperature": 0.7}),
        ("openai/gpt-5-mini", {"reasoning_effort": "none"}, {}),
        ("anthropic/claude-sonnet-4-5", {"thinking_budget": 2000, "temperature": 0.3}, {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
        ("anthropic/claude-opus-4-8", {"reasoning_effort": "high"}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
        ("anthropic/claude-sonnet-4-5", {"temperature": 1.8, "seed": 3}, {"temperature": 1.0}),
        ("gemini/gemini-2.5-flash", {"thinking_budget": 512}, {"extra_body": {"google": {"thinking_config": {"thinking_budget": 512, "include_thoughts": True}}}}),
        ("openrouter/google/gemini-3-pro", {"reasoning_effort": "low"}, {"reasoning": {"effort": "low"}}),
        ("moonshot/kimi-k2.6", {"temperature": 0.3, "reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
    ],
)  # fmt: skip
def test_options_are_sent_as_the_model_takes_them(target, options, sent):
    body = BY_ORIGIN[target].written(BY_ORIGIN[target].conform(ChatRequest([Message.user("q")], **options)))
    expected = {"model", "messages", "stream", "stream_options", "max_tokens"}
    assert {name: value for name, value in body.items() if name not in expected} == sent


CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
ANSWERS = [
    (CLOSED, CLOSED),
    ({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}, CLOSED),
    (
        {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "description": "age"}}},
        {"type": "object", "properties": {"n": {"type": "integer", "description": 'age {"minimum":0}'}}, "additionalProperties": False},
    ),
    (
        {"type": "object", "properties": {"x": {"$ref": "#/$defs/X"}}, "$defs": {"X": {"enum": ["a", "b"], "type": "string"}}},
        {"type": "object", "properties": {"x": {"enum": ["a", "b"], "type": "string"}}, "additionalProperties": False},
    ),
    (
        {"type": "object", "properties": {"m": {"type": ["string", "null"], "format": "uuid", "title": "M"}}},
        {"type": "object", "properties": {"m": {"anyOf": [{"type": "string", "format": "uuid"}, {"type": "null"}], "title": "M"}}, "additionalProperties": False},
    ),
    ({"type": "object", "properties": {"d": {"type": "object", "additionalProperties": {"type": "string"}}}}, None),
    ({"type": "object", "properties": {"any": {}}}, None),
    ({"type": "object", "properties": {"t": {"type": "array", "prefixItems": [{"type": "string"}]}}}, None),
    ({"$ref": "#/$defs/N", "$defs": {"N": {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}}}}}, None),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "sent"), ANSWERS)
def test_the_schema_of_an_answer_is_closed_for_anthropic_or_written_in_words(schema, sent):
    target = BY_ORIGIN["anthropic/claude-sonnet-4-5"]
    conformed = target.conform(ChatRequest([Message.user("q")], response_schema=schema))
    body = target.written(conformed)
    assert refusal("anthropic", body) is None
    assert body.get("output_config", {}).get("format", {}).get("schema") == sent
    assert ("JSON Schema" in json.dumps(body.get("system", ""))) is (sent is None)
    assert target.conform(conformed.request).request == conformed.request


def test_a_model_without_structured_outputs_reads_the_schema_in_words():
    target = Target("anthropic", "claude-3-7-sonnet-latest", "anthropic")
    body = target.written(target.conform(ChatRequest([Message.user("q")], response_schema=CLOSED)))
    assert "output_config" not in body
    assert "JSON Schema" in body["system"][0]["text"]


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("claude-opus-4-5", {"output_config": {"effort": "high"}}),
        ("claude-sonnet-4-6", {"output_config": {"effort": "high"}, "thinking": {"type": "adaptive"}}),
        ("claude-haiku-4-5", {"thinking": {"type": "enabled", "budget_tokens": 16384}}),
    ],
)
def test_only_models_with_adaptive_thinking_get_its_option(model, sent):
    target = Target("anthropic", model, "anthropic")
    request = ChatRequest([Message.user("q")], reasoning_effort="high", max_tokens=30_000)
    body = target.written(target.conform(request))
    assert refusal("anthropic", body) is None
    assert {name: body[name] for name in ("output_config", "thinking") if name in body} == sent
