"""How good an answer looks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from clawft_trio.attempts import Usage
from clawft_trio.chat import ChatRequest, ChatResponse, Message, ToolCall, ToolSpec
from clawft_trio.pipeline import FitnessScorer, NoScorer

REQUEST = ChatRequest([Message.user("What do I wear in Oslo today?")], tools=[ToolSpec(name="weather")])
GOOD = "Today in Oslo you should wear a warm coat and solid shoes."


def score(response: ChatResponse, request: ChatRequest = REQUEST) -> float:
    return FitnessScorer().score(request, response).overall


def calling(name: str = "weather", arguments: str = '{"city": "Oslo"}') -> ChatResponse:
    return ChatResponse(tool_calls=(ToolCall(id="1", name=name, arguments=arguments),), finish_reason="tool_calls")


def test_a_tool_turn_is_not_a_bad_turn() -> None:
    assert FitnessScorer().score(REQUEST, calling()).overall == 1.0
    assert score(calling()) >= score(ChatResponse(content=GOOD))


@pytest.mark.parametrize("bad", [calling("wether"), calling(arguments="{"), calling(arguments="[]")])
def test_a_call_that_cannot_run_is_a_bad_turn(bad) -> None:
    assert score(bad) < 0.5


def test_not_using_tools_is_no_fault() -> None:
    assert score(ChatResponse(content=GOOD)) == 1.0


@pytest.mark.parametrize(
    "worse",
    [
        ChatResponse(),
        ChatResponse(content="I can't help with that."),
        ChatResponse(content="I can\u2019t help with that."),
        ChatResponse(content="I cannot help with that."),
        ChatResponse(content="I'm unable to say."),
        ChatResponse(content="As an AI, I have no coat."),
        ChatResponse(content=GOOD, finish_reason="length"),
        ChatResponse(content=GOOD, finish_reason="content_filter"),
        ChatResponse(content="It is cold out there. " * 20),
        ChatResponse(content=GOOD, usage=Usage(output_tokens=4096)),
    ],
    ids=map(str, range(10)),
)
def test_what_makes_an_answer_worse(worse) -> None:
    assert score(worse) < score(ChatResponse(content=GOOD))


def test_a_short_answer_can_be_perfect() -> None:
    assert score(ChatResponse(content="Yes.")) == 1.0


def test_apostrophes_of_any_kind_are_one() -> None:
    scores = {score(ChatResponse(content=f"I can{mark}t do it.")) for mark in "'\u2019\u02bc"}
    assert len(scores) == 1


@given(st.integers(1, 4096))
@settings(deadline=None, max_examples=100)
def test_length_costs_evenly_and_without_a_jump(tokens) -> None:
    shorter = score(ChatResponse(content=GOOD, usage=Usage(output_tokens=tokens - 1)))
    longer = score(ChatResponse(content=GOOD, usage=Usage(output_tokens=tokens)))
    assert 0 <= shorter - longer < 0.001


def test_a_short_limit_is_no_reproach_to_a_short_answer() -> None:
    request = ChatRequest(REQUEST.messages, max_tokens=100)
    assert score(ChatResponse(content=GOOD, usage=Usage(output_tokens=50)), request) == 1.0


responses = st.builds(
    lambda text, calls, reason, tokens: ChatResponse(
        content=text,
        tool_calls=tuple(ToolCall(id=str(n), name=name, arguments=raw) for n, (name, raw) in enumerate(calls)),
        finish_reason=reason,
        usage=None if tokens is None else Usage(output_tokens=tokens),
    ),
    st.text(max_size=300),
    st.lists(st.tuples(st.sampled_from(["weather", "x"]), st.sampled_from(["{}", "{", "1"])), max_size=3),
    st.sampled_from(["stop", "length", "tool_calls", "content_filter", "aborted", "new"]),
    st.none() | st.integers(0, 10**6),
)


@given(responses)
@settings(deadline=None, max_examples=200)
def test_every_score_is_between_0_and_1(response) -> None:
    quality = FitnessScorer().score(REQUEST, response)
    assert all(0 <= value <= 1 for value in (quality.overall, quality.relevance, quality.coherence))
    assert NoScorer().score(REQUEST, response).overall == 1.0
