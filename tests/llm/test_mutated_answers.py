"""Real shapes with one field dropped, nulled, retyped or moved: an answer or a typed failure, and nothing else."""

import json

import pytest
from hypothesis import given, settings, strategies as st
from llm.spoken import read_all, reading, spoken

from clawft_trio.attempts import Usage
from clawft_trio.chat import ToolCallReady
from clawft_trio.llm.response_builder import closing_events
from clawft_trio.testing.script import CallTool, Finish, Say, Think

SCRIPT = [
    Think("hm"),
    Say("Hello "),
    Say("there"),
    CallTool("read", {"path": "a"}, fragments=2),
    Finish(usage=Usage(input_tokens=9, output_tokens=5)),
]
ODD = [None, 0, 7, -1, 1.5, True, "", "x", "0", [], [None], {}, {"a": 1}]


def places(value, path=()):
    """The paths of all fields in *value*."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def mutated(value, path, change):
    """*value* with the field at *path* removed, when *change* is `drop`, or replaced by it."""
    *way, last = path
    inner = value
    for key in way:
        inner = inner[key]
    if change == "drop":
        del inner[last]
    else:
        inner[last] = change


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
@pytest.mark.parametrize("dialect", ["openai", "anthropic", "responses"])
@given(data=st.data())
@settings(deadline=None, max_examples=250)
def test_one_odd_field_gives_an_answer_or_a_typed_failure(dialect, stream, data):
    body = spoken(dialect, SCRIPT, stream=stream)
    lines = body.split(b"\n") if stream else [b"data: " + body]
    chosen = [n for n, line in enumerate(lines) if line.startswith(b"data: {")]
    number = data.draw(st.sampled_from(chosen))
    value = json.loads(lines[number][6:])
    path = data.draw(st.sampled_from(list(places(value))))
    change = data.draw(st.sampled_from(["drop", *ODD]))
    mutated(value, path, change)
    lines[number] = b"data: " + json.dumps(value).encode()
    reader = reading(dialect)
    if stream:
        read_all(reader, b"\n".join(lines), data.draw(st.lists(st.integers(0, len(body)), max_size=4)))
    else:
        reader.feed_whole(lines[0][6:])
    answer = reader.answer
    if reader.error is not None or reader.violation or not reader.finished:
        assert answer.partial().finish_reason == "incomplete"
        return
    response = answer.whole(answer.finish_reason)
    ready = [seen.call for seen in closing_events(response) if isinstance(seen, ToolCallReady)]
    assert all(call.name and isinstance(json.loads(call.arguments), dict) for call in ready)
