"""What asks providers to cache: `cache_control` in Anthropic's dialect, `prompt_cache_key` in OpenAI's."""

from __future__ import annotations

import json

import attrs
import pytest
from hypothesis import given, settings, strategies as st

from clawft_trio.chat import ChatRequest, Image, Message, Opaque, PromptCache, Text, ToolCall, ToolSpec
from clawft_trio.llm.anthropic_request import request_body as anthropic_body
from clawft_trio.llm.catalog import KNOWN
from clawft_trio.llm.openai_request import Quirks, request_body as openai_body

CACHE = PromptCache(key="k1")
CALL = ToolCall(id="c", name="look")
TOOLS = (ToolSpec(name="look"), ToolSpec(name="read"))


def rounds(count: int) -> list[Message]:
    pair = [Message.assistant("", tool_calls=(CALL,)), Message.tool("found", tool_call_id="c")]
    return [Message.system("s"), Message.user("q"), *(pair * count)]


def body(messages: list[Message], cache: PromptCache | None = CACHE) -> dict:
    return anthropic_body(ChatRequest(messages, tools=TOOLS, cache=cache), "m", 100)


def unmarked(value: object) -> str:
    return json.dumps(value).replace(', "cache_control": {"type": "ephemeral"}', "")


def test_tools_system_and_the_last_block_are_marked() -> None:
    made = body(rounds(0))
    assert ["cache_control" in tool for tool in made["tools"]] == [False, True]
    assert made["system"][-1]["cache_control"] == {"type": "ephemeral"}
    assert made["messages"][-1]["content"][-1]["cache_control"] == {"type": "ephemeral"}


def test_a_request_is_marked_where_the_one_before_it_ended() -> None:
    before, after = body(rounds(1))["messages"], body(rounds(2))["messages"]
    end = len(before) - 1
    assert "cache_control" in before[end]["content"][-1]
    assert "cache_control" in after[end]["content"][-1]
    assert "cache_control" in after[-1]["content"][-1]


@given(st.integers(0, 6), st.booleans())
@settings(deadline=None)
def test_there_are_at_most_four_marks_and_they_change_nothing_else(count: int, answered: bool) -> None:  # noqa: FBT001 - drawn
    messages = [*rounds(count), *([Message.assistant("a"), Message.user("next")] if answered else [])]
    made = body(messages)
    assert 3 <= json.dumps(made).count("cache_control") <= 4
    assert unmarked(made) == json.dumps(body(messages, cache=None))


def test_a_lifetime_of_an_hour_is_asked_for() -> None:
    made = body(rounds(0), PromptCache(lifetime="1h"))
    assert made["tools"][-1]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}


def test_reasoning_carries_no_mark() -> None:
    thinking = Opaque("anthropic", {"type": "thinking", "thinking": "hm", "signature": "s"})
    answer = Message("assistant", (thinking,))
    made = anthropic_body(ChatRequest([Message.user("q"), answer], cache=CACHE), "m", 100)
    assert made["messages"][-1]["content"] == [thinking.block]


def test_without_a_cache_nothing_is_marked() -> None:
    assert "cache_control" not in json.dumps(body(rounds(2), cache=None))


def test_the_key_goes_to_those_that_take_it() -> None:
    request = ChatRequest(rounds(0), cache=CACHE)
    assert openai_body(request, "m", KNOWN["openai"].quirks)["prompt_cache_key"] == "k1"
    assert "prompt_cache_key" not in openai_body(request, "m", Quirks())
    assert "prompt_cache_key" not in openai_body(ChatRequest(rounds(0)), "m", KNOWN["openai"].quirks)


@pytest.mark.parametrize("model", ["anthropic/claude-sonnet-4.5", "~anthropic/claude-sonnet-latest"])
def test_openrouter_hands_marks_on_to_anthropics_models(model: str) -> None:
    quirks = KNOWN["openrouter"].quirks
    image = Image(data=b"i", media_type="image/png")
    last = Message("user", (Text("look"), image))
    request = ChatRequest([*rounds(2), last], cache=PromptCache(key="k", lifetime="1h"))
    made = openai_body(request, model, quirks)
    control = {"type": "ephemeral", "ttl": "1h"}
    marked = [message for message in made["messages"] if "cache_control" in json.dumps(message)]
    assert [message["role"] for message in marked] == ["system", "user", "user"]
    assert marked[0]["content"] == [{"type": "text", "text": "s", "cache_control": control}]
    assert [part.get("cache_control") for part in marked[-1]["content"]] == [control, None]
    assert "cache_control" not in json.dumps(openai_body(request, "openai/gpt-5", quirks))
    assert "cache_control" not in json.dumps(openai_body(attrs.evolve(request, cache=None), model, quirks))


@pytest.mark.parametrize("name", sorted(set(KNOWN) - {"openai", "anthropic", "mistral"}))
def test_no_other_provider_gets_the_key(name: str) -> None:
    # Several refuse fields that they do not know.
    assert not KNOWN[name].quirks.prompt_cache_key
