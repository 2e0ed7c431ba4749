"""Answers as bytes, and what came of reading them."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import strategies as st

from clawft_trio.attempts import Usage
from clawft_trio.chat import ReasoningDelta, TextDelta, ToolCallDelta, ToolCallReady, UsageReport
from clawft_trio.llm.anthropic_response import AnthropicResponseReader
from clawft_trio.llm.openai_response import OpenAIResponseReader
from clawft_trio.llm.response_builder import ResponseBuilder, closing_events
from clawft_trio.llm.responses_response import ResponsesResponseReader
from clawft_trio.testing.dialects import DialectSetting, writer
from clawft_trio.testing.script import CallTool, Finish, Pings, Preamble, Report, Say, Think

READINGS = {"openai": OpenAIResponseReader, "anthropic": AnthropicResponseReader, "responses": ResponsesResponseReader}


def reading(dialect, **options):
    return READINGS[dialect](ResponseBuilder(provider="p", model="m"), **options)


def chunk(delta=None, finish=None, **more):
    """One `data:` event of the OpenAI dialect."""
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps({"id": "c1", "model": "m1", "choices": choices, **more}).encode() + b"\n\n"


def data(value):
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


def event(kind, **fields):
    """One event of the Anthropic dialect."""
    return f"event: {kind}\n".encode() + data({"type": kind, **fields})


DONE = b"data: [DONE]\n\n"


def spoken(dialect, steps, *, stream=True):
    """The body that a healthy server makes of *steps*."""
    reported = [step.usage for step in steps if isinstance(step, Finish | Report) and step.usage]
    out = writer(dialect, DialectSetting(number=1, model="m1", usage=reported[-1] if reported else None), stream=stream)
    return b"".join(piece for step in steps for piece in out.write(step)) + out.end()


def read_all(reader, body, cuts=()):
    """Feed *body* cut at *cuts*; the events, the last ones included when it is whole."""
    places = [0, *sorted({min(cut, len(body)) for cut in cuts}), len(body)]
    events = []
    for start, end in pairwise(places):
        events += reader.feed(body[start:end])
        if reader.ended:
            break
    if not reader.ended:
        events += reader.feed_end()
    return events


def concluded(reader, events):
    """The whole answer and all its events."""
    assert reader.error is None, reader.error
    assert not reader.violation, reader.violation
    assert reader.finished
    response = reader.answer.whole(reader.answer.finish_reason)
    return response, [*events, *reader.answer.calls.late_fragments(), *closing_events(response)]


def replayed(events):
    """The answer as a consumer of the events alone would build it."""
    calls = {}
    usage = None
    for seen in events:
        if isinstance(seen, ToolCallDelta):
            name, arguments = calls.get(seen.index, ("", ""))
            calls[seen.index] = (name or seen.name, arguments + seen.arguments)
        elif isinstance(seen, UsageReport):
            usage = seen.usage
    return {
        "text": "".join(seen.text for seen in events if isinstance(seen, TextDelta)),
        "reasoning": "".join(seen.text for seen in events if isinstance(seen, ReasoningDelta)),
        "calls": [(name, arguments.strip() or "{}") for name, arguments in calls.values()],
        "ready": [seen.call for seen in events if isinstance(seen, ToolCallReady)],
        "usage": usage,
    }


def as_replayed(response):
    return {
        "text": response.text,
        "reasoning": response.reasoning,
        "calls": [(call.name, call.arguments) for call in response.tool_calls],
        "ready": list(response.tool_calls),
        "usage": response.usage,
    }


TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
ARGUMENTS = st.dictionaries(TEXT, TEXT | st.integers(-9, 9) | st.none(), max_size=3)
USAGE = st.builds(
    Usage,
    input_tokens=st.integers(20, 40),
    output_tokens=st.integers(5, 40),
    cached_tokens=st.integers(0, 10),
    reasoning_tokens=st.just(0),
)
STEPS = st.lists(
    st.builds(Say, TEXT)
    | st.builds(Think, TEXT)
    | st.builds(lambda name, arguments, fragments: CallTool(name, arguments, fragments=fragments),
                st.sampled_from(["read", "write"]), ARGUMENTS, st.integers(1, 4))
    | st.just(Pings())
    | st.just(Preamble()),
    max_size=8,
)  # fmt: skip


def healthy(steps, usage):
    return [*steps, Finish(usage=usage)]
