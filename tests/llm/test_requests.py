"""What is put on the wire, in both dialects."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings

from clawft_trio.chat import ChatRequest, Image, Message, Opaque, Text, ToolCall, ToolSpec
from clawft_trio.codec import encode_json
from clawft_trio.llm import Quirks
from clawft_trio.llm.anthropic_request import request_body as anthropic_body
from clawft_trio.llm.conform.strict import fits_strict
from clawft_trio.llm.openai_request import request_body as openai_body
from clawft_trio.testing.strategies import requests

THINKING = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
TOOL = ToolSpec(name="read", description="Reads.", parameters=SCHEMA)
CALLS = (ToolCall(id="c1", name="read", arguments='{"a":"x"}'), ToolCall(id="c2", name="read", arguments='{"a"'))
TALK = (
    Message.system("Be brief."),
    Message.user("Look:", Image(data=b"\x89PNG", media_type="image/png"), Image(url="https://x.example/a.jpg")),
    Message("assistant", (Opaque("anthropic", THINKING), Text("I read.")), tool_calls=CALLS),
    Message.tool("done", tool_call_id="c1"),
    Message("tool", (Text("see"), Image(data=b"GIF", media_type="image/gif")), tool_call_id="c2"),
    Message.system("Be kind, too."),
    Message.user("And?"),
)


PLAIN = Quirks()


def openai(request, quirks=PLAIN):
    return json.loads(encode_json(openai_body(request, "m", quirks)))


def anthropic(request, max_tokens=100):
    return json.loads(encode_json(anthropic_body(request, "m", max_tokens)))


def test_a_conversation_in_the_openai_dialect():
    png = "data:image/png;base64,iVBORw=="
    assert openai(ChatRequest(TALK))["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": png}}, {"type": "image_url", "image_url": {"url": "https://x.example/a.jpg"}}]},
        {"role": "assistant", "content": "I read.", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "read", "arguments": '{"a":"x"}'}},
            {"id": "c2", "type": "function", "function": {"name": "read", "arguments": '{"a"'}},
        ]},
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
        {"role": "tool", "tool_call_id": "c2", "content": "see"},
        {"role": "system", "content": "Be kind, too."},
        {"role": "user", "content": "And?"},
    ]  # fmt: skip


def test_a_conversation_in_anthropics_dialect():
    body = anthropic(ChatRequest(TALK))
    assert body["system"] == [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind, too."}]
    assert body["messages"] == [
        {"role": "user", "content": [
            {"type": "text", "text": "Look:"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}},
            {"type": "image", "source": {"type": "url", "url": "https://x.example/a.jpg"}},
        ]},
        {"role": "assistant", "content": [
            THINKING,
            {"type": "text", "text": "I read."},
            {"type": "tool_use", "id": "c1", "name": "read", "input": {"a": "x"}},
            {"type": "tool_use", "id": "c2", "name": "read", "input": {"malformed": '{"a"'}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "done"}]},
            {"type": "tool_result", "tool_use_id": "c2", "content": [
                {"type": "text", "text": "see"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "R0lG"}},
            ]},
            {"type": "text", "text": "And?"},
        ]},
    ]  # fmt: skip


def test_the_plainest_requests():
    hi = ChatRequest([Message.user("Hi")], stream=False)
    assert openai(hi) == {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    assert anthropic(hi) == {
        "model": "m",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    }


FULL = ChatRequest(
    [Message.user("Hi")], tools=(TOOL,), tool_choice="required", max_tokens=7, temperature=0.5, stop=("END",),
    response_schema=SCHEMA, extra={"seed": 1, "temperature": 0.9},
)  # fmt: skip


def test_everything_at_once_in_the_openai_dialect():
    body = openai(FULL)
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}
    assert body["tools"] == [
        {"type": "function", "function": {"name": "read", "description": "Reads.", "parameters": SCHEMA}}
    ]
    assert (body["tool_choice"], body["max_tokens"], body["stop"]) == ("required", 7, ["END"])
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
    }
    assert (body["seed"], body["temperature"]) == (1, 0.9)


def test_everything_at_once_in_anthropics_dialect():
    body = anthropic(FULL)
    assert body["stream"] is True
    assert body["tools"] == [{"name": "read", "description": "Reads.", "input_schema": SCHEMA}]
    assert (body["tool_choice"], body["max_tokens"], body["stop_sequences"]) == ({"type": "any"}, 7, ["END"])
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert (body["seed"], body["temperature"]) == (1, 0.9)


CHOICES = [
    ("auto", "auto", {"type": "auto"}),
    ("none", "none", {"type": "none"}),
    ("required", "required", {"type": "any"}),
    ("read", {"type": "function", "function": {"name": "read"}}, {"type": "tool", "name": "read"}),
]


@pytest.mark.parametrize(("choice", "ours", "theirs"), CHOICES)
def test_tool_choices(choice, ours, theirs):
    request = ChatRequest([Message.user("Hi")], tools=(TOOL,), tool_choice=choice)
    assert openai(request)["tool_choice"] == ours
    assert anthropic(request)["tool_choice"] == theirs


def test_without_tools_there_is_no_tool_choice():
    request = ChatRequest([Message.user("Hi")], tool_choice="none")
    assert "tool_choice" not in openai(request)
    assert "tool_choice" not in anthropic(request)


def test_quirks_change_the_body():
    body = openai(
        FULL, Quirks(max_tokens_field="max_completion_tokens", include_usage=False, response_format="json_object")
    )
    assert body["max_completion_tokens"] == 7
    assert "max_tokens" not in body
    assert "stream_options" not in body
    assert body["response_format"] == {"type": "json_object"}
    assert "response_format" not in openai(FULL, Quirks(response_format=None))


OPEN = {"type": "object", "properties": {"a": {"type": "string"}}}


@pytest.mark.parametrize(
    ("schema", "closed"),
    [
        (SCHEMA, True), (OPEN, False), ({"type": "object"}, False), ({**SCHEMA, "uniqueItems": True}, False),
        ({**SCHEMA, "required": []}, False), ({**SCHEMA, "$defs": {"x": OPEN}}, False),
    ],
)  # fmt: skip
def test_only_a_closed_schema_is_sent_as_strict(schema, closed):
    assert fits_strict(schema) is closed
    body = openai(ChatRequest([Message.user("Hi")], response_schema=schema))
    assert body["response_format"]["json_schema"]["strict"] is closed


@pytest.mark.parametrize("schema", [{"type": "string"}, {"type": "array", "items": SCHEMA}, {"anyOf": [SCHEMA, OPEN]}])
def test_a_schema_that_is_no_object_is_sent_in_words(schema):
    assert not fits_strict(schema)
    body = openai(ChatRequest([Message.user("Hi")], response_schema=schema))
    assert "response_format" not in body
    assert encode_json(schema).decode() in body["messages"][0]["content"]


@pytest.mark.parametrize("response_format", ["json_object", None])
@pytest.mark.parametrize("before", [(), (Message.system("Be kind."),)])
def test_a_schema_that_is_not_supported_is_sent_as_text(response_format, before):
    request = ChatRequest([*before, Message.user("Hi")], response_schema=SCHEMA)
    body = openai(request, Quirks(response_format=response_format))
    system, user = body["messages"]
    assert (system["role"], user["content"]) == ("system", "Hi")
    assert system["content"].startswith("Be kind." if before else "The final answer is JSON")
    assert system["content"].endswith(encode_json(SCHEMA).decode())
    assert ("response_format" in body) is (response_format is not None)


@given(requests())
@settings(deadline=None, max_examples=40)
def test_turns_alternate_and_no_block_is_empty_in_anthropics_dialect(request):
    turns = anthropic(request)["messages"]
    assert all(a["role"] != b["role"] for a, b in pairwise(turns))
    for turn in turns:
        assert turn["content"]
        assert all(block["text"].strip() for block in turn["content"] if block["type"] == "text")


@given(requests())
@settings(deadline=None, max_examples=40)
def test_any_request_can_be_written_in_the_openai_dialect(request):
    messages = openai(request)["messages"]
    assert [m["role"] for m in messages if "tool_calls" in m] == ["assistant" for m in request.messages if m.tool_calls]
    given = "".join(m.text for m in request.messages)
    written = "".join(
        m["content"] if isinstance(m["content"], str) else "".join(p.get("text", "") for p in m["content"] or ())
        for m in messages
    )
    assert written == given
