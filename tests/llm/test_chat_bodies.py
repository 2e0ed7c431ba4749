"""Bodies of `POST /chat/completions`, field by field: options, reasoning in each vendor's form, parts of messages."""

from __future__ import annotations

from typing import Any

import pytest

from clawft_trio.chat import ChatRequest, File, Image, Message, Text, ToolCall, ToolSpec
from clawft_trio.llm.conform.rules import Rules
from clawft_trio.llm.openai_request import Quirks, request_body

OBJECT = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
TOOL = ToolSpec(name="look", description="Look.", parameters=OBJECT)


PLAIN, TOLERANT = Quirks(), Rules()


def body(*messages: Message, quirks: Quirks = PLAIN, rules: Rules = TOLERANT, **options: Any) -> dict[str, Any]:
    request = ChatRequest(messages or (Message.user("q"),), **{"stream": False, **options})
    return request_body(request, "m", quirks, rules)


def test_a_plain_question_has_a_model_and_a_message_and_nothing_else() -> None:
    assert body() == {"model": "m", "messages": [{"role": "user", "content": "q"}]}


def test_options_have_their_fields_also_when_they_are_zero() -> None:
    found = body(max_tokens=1, temperature=0.0, seed=0, verbosity="low", stop=("x", "y"), stream=True)
    assert {key: value for key, value in found.items() if key not in {"model", "messages"}} == {
        "max_tokens": 1,
        "temperature": 0.0,
        "seed": 0,
        "verbosity": "low",
        "stop": ["x", "y"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert "stream_options" not in body(stream=True, quirks=Quirks(include_usage=False))
    assert body(max_tokens=1, quirks=Quirks(max_tokens_field="max_completion_tokens"))["max_completion_tokens"] == 1
    assert body(temperature=0.5, extra={"temperature": 1.5, "top_p": 1})["temperature"] == 1.5


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ("look", {"type": "function", "function": {"name": "look"}}),
    ],
)
def test_tools_are_sent_with_their_choice(choice: str, sent: Any) -> None:
    found = body(tools=(TOOL,), tool_choice=choice)
    function = {"name": "look", "description": "Look.", "parameters": OBJECT}
    assert found["tools"] == [{"type": "function", "function": function}]
    assert found["tool_choice"] == sent
    assert not {"tools", "tool_choice"} & body(tool_choice=choice).keys()


@pytest.mark.parametrize(
    ("schema", "form", "sent", "in_words"),
    [
        (OBJECT, "json_schema", "json_schema", False),
        ({"properties": {}}, "json_schema", "json_schema", False),
        ({"$ref": "#/$defs/A", "$defs": {"A": OBJECT}}, "json_schema", "json_schema", False),
        ({"type": "array"}, "json_schema", None, True),
        ({"enum": [1]}, "json_schema", None, True),
        (OBJECT, "json_object", "json_object", True),
        (OBJECT, None, None, True),
    ],
)
def test_a_schema_of_the_answer_is_a_field_or_words(schema: Any, form: Any, sent: str | None, in_words: bool) -> None:
    found = body(response_schema=schema, quirks=Quirks(response_format=form))
    assert found.get("response_format", {}).get("type") == sent
    assert (found["messages"] != body()["messages"]) is in_words
    if sent == "json_schema":
        assert found["response_format"]["json_schema"]["schema"] == schema


@pytest.mark.parametrize(
    ("form", "effort", "budget", "sent"),
    [
        ("effort", "low", None, {"reasoning_effort": "low"}),
        ("effort", None, 5, {}),
        ("openrouter", "low", None, {"reasoning": {"effort": "low"}}),
        ("openrouter", "low", 5, {"reasoning": {"max_tokens": 5}}),
        ("google", "low", None, {"reasoning_effort": "low"}),
        (
            "google",
            None,
            5,
            {"extra_body": {"google": {"thinking_config": {"thinking_budget": 5, "include_thoughts": True}}}},
        ),
        (
            "google",
            None,
            0,
            {"extra_body": {"google": {"thinking_config": {"thinking_budget": 0, "include_thoughts": False}}}},
        ),
        ("enable_thinking", "low", None, {"enable_thinking": True}),
        ("enable_thinking", "none", None, {"enable_thinking": False}),
        ("enable_thinking", None, 5, {"enable_thinking": True, "thinking_budget": 5}),
        ("enable_thinking", None, 0, {"enable_thinking": False}),
        ("type", "low", None, {"thinking": {"type": "enabled"}}),
        ("type", "none", None, {"thinking": {"type": "disabled"}}),
        ("type", None, 0, {"thinking": {"type": "disabled"}}),
        ("type_and_effort", "low", None, {"thinking": {"type": "enabled"}, "reasoning_effort": "low"}),
        ("type_and_effort", None, 5, {"thinking": {"type": "enabled"}}),
        ("type_and_effort", "none", None, {"thinking": {"type": "disabled"}}),
        ("type", None, None, {}),
    ],
)
def test_reasoning_is_asked_for_in_the_vendors_form(form: Any, effort: Any, budget: Any, sent: dict[str, Any]) -> None:
    found = body(reasoning_effort=effort, thinking_budget=budget, rules=Rules(thinking=form))
    assert {key: value for key, value in found.items() if key not in {"model", "messages"}} == sent


@pytest.mark.parametrize(
    ("part", "rules", "sent"),
    [
        (
            Image(data=b"hi", media_type="image/png"),
            Rules(),
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        ),
        (Image(url="https://a/x"), Rules(), {"type": "image_url", "image_url": {"url": "https://a/x"}}),
        (
            File(data=b"hi", media_type="audio/mpeg"),
            Rules(),
            {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}},
        ),
        (
            File(data=b"hi", media_type="audio/ogg"),
            Rules(audio_addresses=True),
            {"type": "input_audio", "input_audio": {"data": "data:audio/ogg;base64,aGk=", "format": "wav"}},
        ),
        (
            File(data=b"hi", media_type="application/pdf"),
            Rules(),
            {"type": "file", "file": {"filename": "file", "file_data": "data:application/pdf;base64,aGk="}},
        ),
        (
            File(data=b"hi", media_type="application/pdf", name="a.pdf"),
            Rules(),
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}},
        ),
        (
            File(url="https://a/x.pdf", media_type="application/pdf"),
            Rules(file_form="document_url"),
            {"type": "document_url", "document_url": "https://a/x.pdf"},
        ),
        (
            File(data=b"hi", media_type="application/pdf"),
            Rules(file_form="document_url"),
            {"type": "document_url", "document_url": "data:application/pdf;base64,aGk="},
        ),
    ],
)
def test_a_part_beside_a_text_has_its_own_form(part: Image | File, rules: Rules, sent: dict[str, Any]) -> None:
    found = body(Message("user", (Text("see"), part)), rules=rules)
    assert found["messages"][0]["content"] == [{"type": "text", "text": "see"}, sent]


def test_calls_and_results_have_their_fields() -> None:
    call = Message.assistant("so", tool_calls=(ToolCall(id="c1", name="look", arguments='{"a":"b"}'),))
    image = Image(data=b"hi", media_type="image/png")
    answer = Message("tool", (Text("seen"), image), tool_call_id="c1")
    _, sent, result = body(Message.user("q"), call, answer)["messages"]
    assert sent["content"] == "so"
    assert sent["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a":"b"}'}}
    ]
    assert result == {"role": "tool", "tool_call_id": "c1", "content": "seen"}
    with_media = body(Message.user("q"), call, answer, rules=Rules(media_in_results=True))["messages"][2]["content"]
    assert [one["type"] for one in with_media] == ["text", "image_url"]


@pytest.mark.parametrize("role", ["system", "developer", "user"])
def test_system_messages_have_the_role_that_the_vendor_wants(role: Any) -> None:
    found = body(Message.system("s"), Message.user("q"), rules=Rules(system_role=role))
    assert [one["role"] for one in found["messages"]] == [role, "user"]
