"""Real shapes with fields dropped, nulled, retyped, moved or split: the true answer, a marked part of it, or a typed error.

The mutated answers are those of the fault server's writers. A mutation of text or arguments themselves changes what the
true answer is, so those fields may only be dropped, nulled or split: what the reader then shows as a success must be a
prefix of the truth, and what it holds for the rest must be so, too.
"""

import json
from itertools import accumulate

import pytest
from hypothesis import given, settings, strategies as st
from llm.spoken import read_all, reading, spoken

from clawft_trio import errors as e
from clawft_trio.attempts import Usage
from clawft_trio.chat import Reset, TextDelta, ToolCallReady
from clawft_trio.llm.failures import Failures
from clawft_trio.llm.response_builder import closing_events
from clawft_trio.testing.script import CallTool, Finish, Say, Think

TEXT = "Hello there, how are you?"
ARGUMENTS = {"path": "a/b.txt", "more": [1, 2]}
TALK = [Say("Hello "), Say("there, "), Say("how are you?"), Finish(usage=Usage(input_tokens=9, output_tokens=5))]
ACT = [
    Think("hm"),
    Say(TEXT),
    CallTool("read", ARGUMENTS, fragments=3),
    Finish(usage=Usage(input_tokens=9, output_tokens=5)),
]
SCRIPTS = {"talk": TALK, "act": ACT}
ODD = [None, 0, 7, -1, 1.5, True, False, "x", "0", "", [], [None], [{}], {}, {"a": 1}, 2**70, "\ud83d"]

# Fields that hold the answer, or its meaning: another value of the right type is another answer.
MEANING = {"content", "text", "delta", "partial_json", "arguments", "name", "type", "finish_reason", "stop_reason",
           "status", "input", "function_call", "refusal", "thinking", "reasoning", "reasoning_content", "message",
           "choices", "output", "item", "content_block", "tool_calls", "function", "id", "call_id", "error",
           "incomplete_details", "summary", "index", "output_index", "response", "object", "0", "code"}  # fmt: skip


def places(value, path=()):
    """The paths of all fields in *value*."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield (*path, key)
        yield from places(inner, (*path, key))


def is_beside(path):
    """Whether the field at *path* is neither the answer nor its meaning."""
    return isinstance(path[-1], str) and path[-1] not in MEANING and "input" not in path


def parent(value, path):
    for key in path[:-1]:
        value = value[key]
    return value


def mutate(events, draw):
    """Change one field or the order of one pair of events, in place; what was done."""
    number = draw(st.integers(0, len(events) - 1))
    how = draw(st.sampled_from(["drop", "null", "retype", "reorder", "split", "twice", "wrap"]))
    if how == "reorder":
        other = draw(st.integers(0, len(events) - 1))
        events[number], events[other] = events[other], events[number]
        return how, None
    if how == "twice":
        events.insert(number, events[number])
        return how, None
    value = events[number]
    paths = list(places(value))
    if how == "split":
        paths = [path for path in paths if isinstance(parent(value, path)[path[-1]], str)]
    if not paths:
        return "nothing", None
    path = draw(st.sampled_from(paths))
    inner, last = parent(value, path), path[-1]
    if how == "drop":
        del inner[last]
    elif how == "null":
        inner[last] = None
    elif how == "retype":
        inner[last] = draw(st.sampled_from(ODD))
    elif how == "wrap":
        inner[last] = draw(st.sampled_from([lambda old: [old], lambda old: {"value": old}, str]))(inner[last])
    else:
        _split(events, number, path, draw)
    return how, path


def _split(events, number, path, draw):
    """Send the event twice, each time with a part of the string at *path*."""
    text = parent(events[number], path)[path[-1]]
    cut = draw(st.integers(0, len(text)))
    first, second = (json.loads(json.dumps(events[number])) for _ in range(2))
    parent(first, path)[path[-1]], parent(second, path)[path[-1]] = text[:cut], text[cut:]
    events[number : number + 1] = [first, second]


def written(events, dialect):
    """The event stream of *events*."""
    out = b""
    for value in events:
        name = value.get("type")
        label = (
            f"event: {name}\n".encode()
            if dialect != "openai" and isinstance(name, str) and name.isprintable() and name.isascii()
            else b""
        )
        out += label + b"data: " + json.dumps(value).encode() + b"\n\n"
    return out + (b"data: [DONE]\n\n" if dialect == "openai" else b"")


def parsed(body):
    return [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]


def outcome(reader, events):
    """The response that counts as a success, and None where the answer is partial or a typed error."""
    answer = reader.answer
    if reader.error is not None:
        assert isinstance(Failures(provider="p").of_event(reader.error, headers={}), e.ProviderError)
    if reader.error is not None or reader.violation or not reader.finished:
        assert answer.partial().finish_reason == "incomplete"
        return None
    response = answer.whole(answer.finish_reason)
    ready = [seen.call for seen in closing_events(response) if isinstance(seen, ToolCallReady)]
    assert all(call.name and isinstance(json.loads(call.arguments), dict) for call in ready)
    assert shown(events) == response.text
    # What is kept can be stored and sent again.
    json.dumps([response.text, response.reasoning], ensure_ascii=False).encode()
    return response


def shown(events):
    """The text that a consumer holds at the end, resets heeded."""
    text = ""
    for seen in events:
        if isinstance(seen, Reset):
            text = ""
        elif isinstance(seen, TextDelta):
            text += seen.text
    return text


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
@pytest.mark.parametrize("dialect", ["openai", "anthropic", "responses"])
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_a_mutated_answer_is_an_answer_or_a_typed_failure(dialect, stream, script, data):
    body = spoken(dialect, SCRIPTS[script], stream=stream)
    events = parsed(body) if stream else [json.loads(body)]
    reader, seen = reading(dialect), []
    for _ in range(data.draw(st.integers(1, 3)) if stream else 1):
        mutate(events, data.draw)
    if stream:
        body = written(events, dialect)
        seen = read_all(reader, body, data.draw(st.lists(st.integers(0, len(body)), max_size=4)))
    else:
        seen = reader.feed_whole(json.dumps(events[0]).encode())
    outcome(reader, seen)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
@pytest.mark.parametrize("dialect", ["openai", "anthropic", "responses"])
@given(data=st.data())
@settings(deadline=None, max_examples=80)
def test_an_invalid_field_outside_the_answer_does_not_change_the_answer(dialect, stream, data):
    body = spoken(dialect, ACT, stream=stream)
    events = parsed(body) if stream else [json.loads(body)]
    number = data.draw(st.integers(0, len(events) - 1))
    paths = [path for path in places(events[number]) if is_beside(path)]
    if not paths:
        return
    path = data.draw(st.sampled_from(paths))
    change = data.draw(st.sampled_from(["drop", *ODD]))
    inner = parent(events[number], path)
    if change == "drop":
        del inner[path[-1]]
    else:
        inner[path[-1]] = change
    reader = reading(dialect)
    seen = read_all(reader, written(events, dialect)) if stream else reader.feed_whole(json.dumps(events[0]).encode())
    response = outcome(reader, seen)
    assert response is not None, (path, change, reader.error, reader.violation)
    assert response.text == TEXT, (path, change)
    assert [(call.name, json.loads(call.arguments)) for call in response.tool_calls] == [("read", ARGUMENTS)]


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "responses"])
@given(data=st.data())
@settings(deadline=None, max_examples=80)
def test_a_stream_without_its_last_events_is_never_a_success_with_less(dialect, data):
    events = parsed(spoken(dialect, TALK))
    lengths = list(accumulate([len(events)]))[0]
    kept = data.draw(st.integers(0, lengths))
    reader = reading(dialect)
    body = written(events[:kept], dialect).removesuffix(b"data: [DONE]\n\n")
    cut = data.draw(st.integers(0, 40))
    response = outcome(reader, read_all(reader, body[: len(body) - cut] if cut < len(body) else body))
    text = reader.answer.partial().text if response is None else response.text
    assert TEXT.startswith(text)
    assert response is None or response.text == TEXT


@pytest.mark.parametrize("odd", [0, 7, 1.5, True, False, 2**70, [7]], ids=repr)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
@pytest.mark.parametrize("dialect", ["openai", "anthropic", "responses"])
def test_a_text_of_another_type_is_a_typed_failure_and_never_left_out(dialect, stream, odd):
    body = spoken(dialect, TALK, stream=stream)
    events = parsed(body) if stream else [json.loads(body)]
    wanted = "there, " if stream else TEXT
    number, path = next((number, path) for number, value in enumerate(events) for path in places(value)
                        if parent(value, path)[path[-1]] == wanted)  # fmt: skip
    parent(events[number], path)[path[-1]] = odd
    if dialect == "responses":
        # The item at the end repeats the text, and would mend the loss.
        events = json.loads(json.dumps(events).replace(json.dumps(TEXT), json.dumps(odd)))
    reader = reading(dialect)
    seen = read_all(reader, written(events, dialect)) if stream else reader.feed_whole(json.dumps(events[0]).encode())
    assert outcome(reader, seen) is None
    assert TEXT.startswith(reader.answer.partial().text)


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "responses"])
@given(data=st.data())
@settings(deadline=None, max_examples=50)
def test_the_text_of_an_answer_may_be_split_anywhere(dialect, data):
    events = parsed(spoken(dialect, TALK))
    texts = [(number, path) for number, value in enumerate(events) for path in places(value)
             if parent(value, path)[path[-1]] in ("Hello ", "there, ", "how are you?")]  # fmt: skip
    number, path = data.draw(st.sampled_from(texts))
    _split(events, number, path, data.draw)
    reader = reading(dialect)
    response = outcome(reader, read_all(reader, written(events, dialect)))
    assert response is not None
    assert response.text == TEXT
