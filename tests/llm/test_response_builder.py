"""All dialects, from bytes to events, without I/O: what holds for any answer."""

import json

import pytest
from hypothesis import given, settings, strategies as st
from llm.spoken import (
    STEPS,
    USAGE,
    as_replayed,
    concluded,
    data,
    healthy,
    read_all,
    reading,
    replayed,
    spoken,
)

from clawft_trio.attempts import Usage
from clawft_trio.chat import ToolCallReady
from clawft_trio.testing.script import CallTool, Finish, Say, Think

DIALECTS = pytest.mark.parametrize("dialect", ["openai", "anthropic", "responses"])
CUTS = st.lists(st.integers(0, 4000), max_size=12)


@DIALECTS
@given(steps=STEPS, usage=USAGE | st.none(), cuts=CUTS)
@settings(deadline=None, max_examples=120)
def test_what_was_shown_is_what_is_returned_however_the_bytes_are_cut(dialect, steps, usage, cuts):
    body = spoken(dialect, healthy(steps, usage))
    reader = reading(dialect)
    response, events = concluded(reader, read_all(reader, body, cuts))
    assert replayed(events) == as_replayed(response)
    assert response.text == "".join(step.text for step in steps if isinstance(step, Say))
    assert response.reasoning == "".join(step.text for step in steps if isinstance(step, Think))
    asked = [(step.name, json.loads(step.arguments)) for step in steps if isinstance(step, CallTool)]
    assert [(call.name, json.loads(call.arguments)) for call in response.tool_calls] == asked
    assert response.finish_reason == ("tool_calls" if asked else "stop")


@DIALECTS
@given(steps=STEPS, usage=USAGE | st.none(), cuts=CUTS)
@settings(deadline=None, max_examples=60)
def test_cuts_change_no_event(dialect, steps, usage, cuts):
    body = spoken(dialect, healthy(steps, usage))
    assert read_all(reading(dialect), body, cuts) == read_all(reading(dialect), body)


@DIALECTS
@given(steps=STEPS, usage=USAGE | st.none(), where=st.integers(0, 10_000))
@settings(deadline=None, max_examples=150)
def test_a_stream_that_ends_before_its_terminal_mark_is_never_whole(dialect, steps, usage, where):
    body = spoken(dialect, healthy(steps, usage))
    marks = {
        "openai": b'"finish_reason":"',
        "anthropic": b"event: message_stop",
        "responses": b"event: response.completed",
    }
    mark = body.rindex(marks[dialect])
    reader = reading(dialect)
    events = read_all(reader, body[: min(where, mark)])
    assert not reader.finished
    assert reader.error is None
    partial = reader.answer.partial()
    assert partial.finish_reason == "incomplete"
    assert partial.text == replayed(events)["text"]
    assert not any(isinstance(seen, ToolCallReady) for seen in events)


@DIALECTS
@given(steps=STEPS, usage=USAGE | st.none())
@settings(deadline=None, max_examples=60)
def test_a_whole_body_gives_the_same_response_as_a_stream(dialect, steps, usage):
    reader = reading(dialect)
    response, events = concluded(reader, reader.feed_whole(spoken(dialect, healthy(steps, usage), stream=False)))
    assert replayed(events) == as_replayed(response)
    streamed = reading(dialect)
    live, _ = concluded(streamed, read_all(streamed, spoken(dialect, healthy(steps, usage))))
    assert (response.text, response.reasoning) == (live.text, live.reasoning)
    assert [call.name for call in response.tool_calls] == [call.name for call in live.tool_calls]
    assert response.finish_reason == live.finish_reason


@DIALECTS
@given(body=st.binary(max_size=300) | st.binary(max_size=200).map(data), whole=st.booleans())
@settings(deadline=None, max_examples=200)
def test_no_bytes_are_too_odd_to_be_read(dialect, body, whole):
    reader = reading(dialect)
    if whole:
        reader.feed_whole(body)
    else:
        read_all(reader, body)
    assert not reader.finished


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["choices", "delta", "content", "tool_calls", "function", "usage", "error", "type", "index", "message",
             "content_block", "finish_reason", "id", "arguments", "stop_reason"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip
KINDS = ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "error"]


@DIALECTS
@given(value=JSON, kind=st.sampled_from(KINDS))
@settings(deadline=None, max_examples=200)
def test_no_json_is_too_odd_to_be_read(dialect, value, kind):
    for odd in (value, {**value, "type": kind} if isinstance(value, dict) else value, {"choices": [{"delta": value}]}):
        reader = reading(dialect)
        read_all(reader, data(odd))
        reading(dialect).feed_whole(json.dumps(odd).encode())


def test_finish_and_usage_of_both_dialects_agree():
    usage = Usage(input_tokens=30, output_tokens=4, cached_tokens=5)
    seen = {}
    for dialect in ("openai", "anthropic"):
        reader = reading(dialect)
        response, _ = concluded(reader, read_all(reader, spoken(dialect, [Say("Hi"), Finish("length", usage)])))
        seen[dialect] = (response.text, response.finish_reason, response.usage)
    assert seen["openai"] == seen["anthropic"] == ("Hi", "length", usage)
