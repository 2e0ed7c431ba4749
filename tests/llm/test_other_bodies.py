"""Bodies of Anthropic's `POST /messages` and of `POST /responses`, field by field."""

from __future__ import annotations

from typing import Any

import pytest

from clawft_trio.chat import ChatRequest, Citation, File, Image, Message, Opaque, Text, ToolCall, ToolSpec
from clawft_trio.llm import anthropic_request, responses_request
from clawft_trio.llm.conform.rules import Rules
from clawft_trio.llm.responses_request import ResponsesOptions
from clawft_trio.llm.responses_response import STATE

SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}
TOOL = ToolSpec(name="look", description="Look.", parameters=SCHEMA)
CALL = ToolCall(id="c1", name="look", arguments='{"a":1}')
USER = Message.user("q")


def anthropic(*messages: Message, rules: Rules | None = None, **options: Any) -> dict[str, Any]:
    request = ChatRequest(messages or (USER,), **{"stream": False, **options})
    return anthropic_request.request_body(request, "m", 1000, rules or Rules())


def responses(
    *messages: Message, state: bool = False, encrypted: bool | None = False, **options: Any
) -> dict[str, Any]:
    request = ChatRequest(messages or (USER,), **{"stream": False, **options})
    how = ResponsesOptions(stateful=state, encrypted_reasoning=encrypted)
    return responses_request.request_body(request, "m", how)


def but(found: dict[str, Any], *left_out: str) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in left_out}


def test_a_plain_question_to_anthropic() -> None:
    turn = {"role": "user", "content": [{"type": "text", "text": "q"}]}
    assert anthropic() == {"model": "m", "max_tokens": 1000, "messages": [turn]}
    assert anthropic(max_tokens=5)["max_tokens"] == 5
    assert anthropic(thinking_budget=500)["max_tokens"] == 1500
    assert anthropic(max_tokens=2000, thinking_budget=500)["max_tokens"] == 2000


def test_options_for_anthropic() -> None:
    found = anthropic(temperature=0.0, stop=("x",), stream=True, response_schema=SCHEMA, extra={"top_k": 1})
    assert but(found, "model", "max_tokens", "messages") == {
        "temperature": 0.0,
        "stop_sequences": ["x"],
        "stream": True,
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
        "top_k": 1,
    }


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ("look", {"type": "tool", "name": "look"}),
    ],
)
def test_tools_for_anthropic(choice: str, sent: dict[str, Any]) -> None:
    found = anthropic(tools=(TOOL,), tool_choice=choice)
    assert found["tools"] == [{"name": "look", "description": "Look.", "input_schema": SCHEMA}]
    assert found["tool_choice"] == sent
    assert not {"tools", "tool_choice"} & anthropic(tool_choice=choice).keys()


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"thinking_budget": 999, "max_tokens": 1000}, {"thinking": {"type": "enabled", "budget_tokens": 999}}),
        ({"thinking_budget": 1000, "max_tokens": 1000}, {}),
        ({"thinking_budget": 0}, {}),
        ({"reasoning_effort": "none", "thinking_budget": 5}, {}),
        ({"reasoning_effort": "low"}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
        (
            {"reasoning_effort": "low", "tools": (TOOL,)},
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        ),
        (
            {"reasoning_effort": "low", "tools": (TOOL,), "tool_choice": "none"},
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        ),
        (
            {"reasoning_effort": "low", "tools": (TOOL,), "tool_choice": "required"},
            {"output_config": {"effort": "low"}},
        ),
        (
            {"reasoning_effort": "low", "tool_choice": "required"},
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        ),
        (
            {"reasoning_effort": "low", "thinking_budget": 5},
            {"thinking": {"type": "enabled", "budget_tokens": 5}, "output_config": {"effort": "low"}},
        ),
    ],
)
def test_thinking_of_anthropic(options: dict[str, Any], sent: dict[str, Any]) -> None:
    rules = Rules(thinking="anthropic", adaptive_thinking=True, efforts=("low",))
    found = anthropic(rules=rules, **options)
    assert but(found, "model", "max_tokens", "messages", "tools", "tool_choice") == sent
    plain = anthropic(rules=Rules(thinking="anthropic", efforts=()), reasoning_effort="low")
    assert not {"thinking", "output_config"} & plain.keys()


def test_turns_of_anthropic_alternate_and_hold_results() -> None:
    thought = Opaque("anthropic", {"type": "thinking"})
    call = Message("assistant", (thought, Opaque("other", {}), Text("so")), tool_calls=(CALL,))
    found = anthropic(
        Message.system("s"), USER, call, Message.tool("seen", tool_call_id="c1"), Message.user(" "), Message.user("and")
    )
    assert found["system"] == [{"type": "text", "text": "s"}]
    assert [turn["role"] for turn in found["messages"]] == ["user", "assistant", "user"]
    assert found["messages"][1]["content"] == [
        {"type": "thinking"},
        {"type": "text", "text": "so"},
        {"type": "tool_use", "id": "c1", "name": "look", "input": {"a": 1}},
    ]
    assert found["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "seen"}]},
        {"type": "text", "text": "and"},
    ]


@pytest.mark.parametrize("arguments", ["{", "[1]", "3", "\ud800", "[" * 5000])
def test_arguments_that_are_no_object_are_wrapped_for_anthropic(arguments: str) -> None:
    call = Message.assistant(tool_calls=(ToolCall(id="c1", name="look", arguments=arguments),))
    (block,) = anthropic(USER, call)["messages"][1]["content"]
    assert list(block["input"].values()) == [arguments]


@pytest.mark.parametrize(
    ("part", "sent"),
    [
        (
            Image(data=b"hi", media_type="image/png"),
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
        ),
        (Image(url="https://a/x"), {"type": "image", "source": {"type": "url", "url": "https://a/x"}}),
        (
            File(data=b"hi", media_type="text/csv", name="a.csv"),
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "hi"},
                "title": "a.csv",
            },
        ),
        (
            File(data=b"hi", media_type="application/pdf"),
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}},
        ),
    ],
)
def test_parts_for_anthropic(part: Image | File, sent: dict[str, Any]) -> None:
    assert anthropic(Message("user", (part,)))["messages"][0]["content"] == [sent]


def test_a_plain_question_to_the_responses_api() -> None:
    item = {"type": "message", "role": "user", "content": "q"}
    assert responses() == {"model": "m", "input": [item], "store": False}
    assert responses(encrypted=True)["include"] == ["reasoning.encrypted_content"]
    assert responses(state=True)["store"] is True


def test_options_for_the_responses_api() -> None:
    found = responses(
        temperature=0.0, stop=("x",), stream=True, reasoning_effort="low", verbosity="low", extra={"user": "u"}
    )
    assert but(found, "model", "input", "store") == {
        "temperature": 0.0,
        "stream": True,
        "reasoning": {"effort": "low"},
        "text": {"verbosity": "low"},
        "user": "u",
    }
    text = responses(response_schema=SCHEMA)["text"]
    assert text["format"]["type"] == "json_schema"
    assert text["format"]["schema"] == SCHEMA
    assert [responses(max_tokens=limit)["max_output_tokens"] for limit in (1, 15, 16, 17)] == [16, 16, 16, 17]


def test_tools_for_the_responses_api() -> None:
    found = responses(tools=(TOOL,), tool_choice="look")
    assert found["tools"] == [
        {"type": "function", "name": "look", "description": "Look.", "parameters": SCHEMA, "strict": False}
    ]
    assert found["tool_choice"] == {"type": "function", "name": "look"}
    assert responses(tools=(TOOL,), tool_choice="required")["tool_choice"] == "required"


def test_the_first_system_messages_are_instructions_of_the_responses_api() -> None:
    found = responses(Message.system("a"), Message.system("b"), USER, Message.system("c"))
    assert found["instructions"] == "a\n\nb"
    assert [item["role"] for item in found["input"]] == ["user", "system"]
    assert responses(Message.system("a"))["input"] == []


def test_a_stored_answer_is_continued_by_its_id() -> None:
    stored = Message("assistant", (Opaque(STATE, {"response_id": "r1"}), Text("so")))
    messages = (Message.system("s"), USER, stored, Message.user("and"))
    found = responses(*messages, state=True)
    assert (found["previous_response_id"], found["instructions"]) == ("r1", "s")
    assert found["input"] == [{"type": "message", "role": "user", "content": "and"}]
    first = responses(stored, Message.user("and"), state=True)
    assert (first["previous_response_id"], len(first["input"])) == ("r1", 1)
    without = responses(*messages)
    assert "previous_response_id" not in without
    assert len(without["input"]) == 3


def test_an_answer_goes_back_item_by_item() -> None:
    answer = Message(
        "assistant",
        (
            Opaque("responses", {"type": "reasoning", "encrypted_content": "x"}),
            Opaque("responses", {"type": "reasoning"}),
            Text("so"),
            Opaque("responses", {"type": "web_search_call", "id": "w"}),
            Opaque("responses", {"type": "reasoning", "encrypted_content": "y"}),
        ),
        tool_calls=(CALL,),
    )
    items = responses(USER, answer, Message.tool("seen", tool_call_id="c1"))["input"][1:]
    assert [item["type"] for item in items] == [
        "reasoning",
        "message",
        "web_search_call",
        "reasoning",
        "function_call",
        "function_call_output",
    ]
    assert items[4] == {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"a":1}'}
    assert items[5] == {"type": "function_call_output", "call_id": "c1", "output": "seen"}
    alone = Message("assistant", (Text("so"), Opaque("responses", {"type": "reasoning", "encrypted_content": "y"})))
    assert [item["type"] for item in responses(USER, alone, USER)["input"]] == ["message"] * 3


@pytest.mark.parametrize(
    ("part", "sent"),
    [
        (Image(data=b"hi", media_type="image/png"), {"image_url": "data:image/png;base64,aGk="}),
        (Image(url="https://a/x"), {"image_url": "https://a/x"}),
        (File(url="https://a/x.pdf", media_type="application/pdf"), {"file_url": "https://a/x.pdf"}),
        (
            File(data=b"hi", media_type="application/pdf"),
            {"filename": "file", "file_data": "data:application/pdf;base64,aGk="},
        ),
    ],
)
def test_parts_for_the_responses_api(part: Image | File, sent: dict[str, Any]) -> None:
    kind = "input_image" if isinstance(part, Image) else "input_file"
    content = [{"type": "input_text", "text": "see"}, {"type": kind, **sent}]
    assert responses(Message("user", (Text("see"), part)))["input"][0]["content"] == content
    assert responses(Message("tool", (Text("see"), part), tool_call_id="c1"))["input"][0]["output"] == content


def cited(dialect: str, **more: Any) -> Text:
    return Text("so", citations=tuple(Citation(dialect=name, raw={"by": name}) for name in ("other", dialect)), **more)


def test_citations_go_back_to_their_own_dialect_only() -> None:
    (item,) = responses(Message("assistant", (cited("responses"), Text("and"))))["input"]
    text = {"type": "output_text", "text": "so", "annotations": [{"by": "responses"}]}
    assert item["content"] == [text, {"type": "output_text", "text": "and", "annotations": []}]
    (turn,) = anthropic(Message("assistant", (cited("anthropic"), Text("and"))))["messages"]
    text = {"type": "text", "text": "so", "citations": [{"by": "anthropic"}]}
    assert turn["content"] == [text, {"type": "text", "text": "and"}]


def test_fields_of_a_call_go_back_to_anthropic_with_it() -> None:
    thinking = {"type": "thinking", "thinking": "hm"}
    kept = (
        Opaque("anthropic", thinking),
        Opaque("other", {"c1": {"no": 1}}),
        Opaque("anthropic:tool_use", {"c1": {"caller": "x"}}),
    )
    (turn,) = anthropic(Message("assistant", kept, tool_calls=(CALL,)))["messages"]
    assert turn["content"] == [
        thinking,
        {"type": "tool_use", "id": "c1", "name": "look", "input": {"a": 1}, "caller": "x"},
    ]


@pytest.mark.parametrize("behind", [0, 1, 2, 3])
def test_the_last_stored_answer_of_a_history_is_continued(behind: int) -> None:
    stored = [Message("assistant", (Text("so"), Opaque(STATE, {"response_id": f"r{number}"}))) for number in range(3)]
    found = responses(*stored, *[USER] * behind, state=True)
    assert (found["previous_response_id"], len(found["input"])) == ("r2", behind)


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ("gpt-5.1", True),
        ("openai/O3-mini", True),
        ("codex-mini", True),
        ("gpt-5-chat-latest", False),
        ("gpt-4.1", False),
    ],
)
def test_reasoning_comes_encrypted_from_models_that_reason_unless_the_server_keeps_it(model: str, wanted: bool) -> None:
    def asked(**options: Any) -> bool:
        body = responses_request.request_body(ChatRequest((USER,)), model, ResponsesOptions(**options))
        return body.get("include") == ["reasoning.encrypted_content"]

    assert asked() is wanted
    assert not asked(stateful=True)
    assert [asked(encrypted_reasoning=given, stateful=True) for given in (True, False)] == [True, False]
    assert not asked(encrypted_reasoning=False)


@pytest.mark.parametrize("name", ["", "a.pdf"])
def test_only_a_file_with_a_name_has_a_title(name: str) -> None:
    parts = (File(data=b"%PDF", media_type="application/pdf", name=name), Image(url="https://a/x"))
    (turn,) = anthropic(Message("user", parts))["messages"]
    assert [block.get("title") for block in turn["content"]] == [name or None, None]
