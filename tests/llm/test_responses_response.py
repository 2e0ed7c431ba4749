"""A response of the Responses API from its first event to its last, or to where it fails."""

from __future__ import annotations

import json

import pytest
from llm.spoken import DONE, concluded, data, event, read_all, reading
from llm.test_odd_shapes import completed, failure, read, started, text_item

from clawft_trio.chat import Reset

RESTARTS = {
    "created again": event("response.created", response={}),
    "created again under its id": started(),
    "created under another id": event("response.created", response={"id": "other"}),
    "in progress under another id": event("response.in_progress", response={"id": "other"}),
}
GOES_ON = {
    "in progress": event("response.in_progress", response={}),
    "in progress under its id": event("response.in_progress", response={"id": "r"}),
    "in progress without a response": event("response.in_progress"),
    "in progress with null": event("response.in_progress", response=None),
    "queued under its id": event("response.queued", response={"id": "r"}),
}


@pytest.mark.parametrize("name", [*RESTARTS, *GOES_ON])
def test_a_second_beginning_starts_the_answer_again(name):
    again = {**RESTARTS, **GOES_ON}[name]
    reader = reading("responses")
    ending = event("response.completed", response={"status": "completed"})
    response, events = concluded(
        reader, read_all(reader, started() + text_item("One", 0) + again + text_item("Two", 1) + ending)
    )
    restarted = name in RESTARTS
    assert response.text == ("Two" if restarted else "OneTwo")
    assert [seen.discarded.text for seen in events if isinstance(seen, Reset)] == ["One"] * restarted
    assert response.id == ("other" if "another" in name else "" if name == "created again" else "r")


@pytest.mark.parametrize("again", [*RESTARTS.values()], ids=[*RESTARTS])
def test_an_answer_that_has_shown_nothing_starts_again_unseen(again):
    reader = reading("responses")
    events = read_all(reader, started() + again + text_item("Hi") + completed())
    assert concluded(reader, events)[0].text == "Hi"
    assert not any(isinstance(seen, Reset) for seen in events)


@pytest.mark.parametrize(
    ("first", "last", "known"),
    [
        ({"id": "r", "model": "c"}, {}, ("r", "c")),
        ({}, {"id": "r", "model": "c"}, ("r", "c")),
        ({"id": "r", "model": "c"}, {"model": "d"}, ("r", "d")),
        ({"model": "c"}, {"id": "r"}, ("r", "c")),
        ({}, {}, ("", "m")),
    ],
)
def test_the_id_and_the_model_are_those_that_were_stated_last(first, last, known):
    body = event("response.created", response=first) + text_item("Hi")
    response = read(body + event("response.completed", response={"status": "completed", **last}), "responses")
    assert (response.id, response.model) == known


def test_fields_that_hold_something_and_are_read_nowhere_are_kept():
    response = read(
        text_item("Hi") + completed(metadata={"a": 1}, moderation={"b": 2}, empty={}, none=None), "responses"
    )
    assert response.provider_details == {"moderation": {"b": 2}}


@pytest.mark.parametrize("kind", ["response.web_search_call.searching", "response.output_text.done.later", "keepalive"])
def test_events_of_other_kinds_change_nothing(kind):
    body = started() + event(kind, item_id="w", code="x") + text_item("Hi") + event(kind) + completed()
    assert read(body, "responses").text == "Hi"


@pytest.mark.parametrize(
    "error",
    [
        data({"type": "error", "code": "slow_down", "message": "the text"}),
        data({"type": "response.error", "code": "slow_down", "message": "the text"}),
        data({"type": "error", "error": {"code": "slow_down", "message": "the text"}}),
        data({"type": "anything", "error": {"code": "slow_down", "message": "the text"}}),
        b"event: error\n" + data({"type": "anything", "code": "slow_down", "message": "the text"}),
        event("response.failed", response={"status": "failed", "error": {"code": "slow_down", "message": "the text"}}),
    ],
)
def test_an_error_ends_the_answer(error):
    body = started() + text_item("Hi") + error + text_item("later", 1)
    found = failure(body, "responses")
    assert (found.code, found.message) == ("slow_down", "the text")
    reader = reading("responses")
    read_all(reader, body)
    assert (reader.ended, reader.finished, reader.answer.partial().text) == (True, False, "Hi")


@pytest.mark.parametrize(
    "body", [{"error": {"code": "slow_down", "message": "t"}}, {"code": "slow_down", "message": "t", "type": "error"}]
)
def test_a_whole_body_may_be_an_error(body):
    reader = reading("responses")
    assert reader.feed_whole(json.dumps(body).encode()) == []
    assert (reader.ended, reader.finished, reader.violation, bool(reader.error)) == (True, False, "", True)


@pytest.mark.parametrize("extra", [{}, {"code": "x", "message": "t", "type": "error"}])
def test_a_whole_body_with_output_is_an_answer(extra):
    whole = {"output": [{"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}], "status": "completed"}
    reader = reading("responses")
    events = reader.feed_whole(json.dumps({**whole, **extra}).encode())
    assert concluded(reader, events)[0].text == "Hi"
    assert reader.ended


@pytest.mark.parametrize("last", [completed(), completed().rstrip(), DONE, b""])
def test_behind_its_last_event_an_answer_has_ended(last):
    reader = reading("responses")
    reader.feed(started() + text_item("Hi") + last)
    before = reader.ended
    reader.feed_end()
    assert (before, reader.ended) == (last == completed(), True)
    assert reader.finished is last.startswith(b"event")


@pytest.mark.parametrize(
    ("status", "details", "raw"),
    [("completed", None, "completed"), ("incomplete", {"reason": "max_output_tokens"}, "max_output_tokens")],
)
def test_the_reason_of_the_end_is_kept_as_it_was_sent(status, details, raw):
    response = read(text_item("Hi") + completed(status, incomplete_details=details), "responses")
    assert response.raw_finish_reason == raw


@pytest.mark.parametrize(("second", "text"), [("\\udc3b", "a🐻"), ("b", "a\ufffdb"), ("", "a\ufffd")])
def test_a_character_that_is_split_between_two_events_is_joined(second, text):
    deltas = b"".join(
        b'data: {"type": "response.output_text.delta", "output_index": 0, "delta": "%b"}\n\n' % piece.encode()
        for piece in ("a\\ud83d", second)
    )
    item = event("response.output_item.done", output_index=0, item={"type": "message", "content": []})
    assert read(started() + deltas + item + completed(), "responses").text == text


def rich():
    """The events of a response with each kind of delta."""
    part = {"type": "output_text", "text": "Hi.", "annotations": [{"type": "url_citation", "url": "https://a"}]}
    call = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": ""}
    deltas = [
        ("response.reasoning_summary_text.delta", 0, {"summary_index": 0, "delta": "hm"}),
        ("response.reasoning_summary_text.delta", 0, {"summary_index": 1, "delta": "so"}),
        ("response.reasoning_text.delta", 1, {"content_index": 0, "delta": "well"}),
        ("response.output_item.added", 2, {"item": {"type": "message", "phase": "final"}}),
        ("response.output_text.delta", 2, {"delta": "Hi"}),
        ("response.output_text.annotation.added", 2, {"annotation": part["annotations"][0]}),
        ("response.output_text.done", 2, {"text": "Hi"}),
        ("response.output_item.done", 2, {"item": {"type": "message", "content": [{**part, "text": "Hi"}]}}),
        ("response.output_text.done", 3, {"text": "Bye"}),
        ("response.refusal.delta", 4, {"delta": "No."}),
        ("response.output_item.added", 5, {"item": call}),
        ("response.function_call_arguments.delta", 5, {"delta": "{"}),
        ("response.function_call_arguments.done", 5, {"arguments": "{}"}),
    ]
    response = {"id": "r", "model": "c", "status": "completed", "usage": {"input_tokens": 3, "output_tokens": 2}}
    return [
        {"type": "response.created", "response": {"id": "r", "model": "c"}},
        *({"type": kind, "output_index": index, **fields} for kind, index, fields in deltas),
        {"type": "response.completed", "response": response},
    ]


ODD = {
    "an id that is a number": lambda fields: {**fields, "item_id": 7},
    "an index that is a text": lambda fields: (
        {name: str(value) if name.endswith("_index") else value for name, value in fields.items()} | {"item_id": None}
    ),
    "an index that is a fraction": lambda fields: {
        name: float(value) if name.endswith("_index") else value for name, value in fields.items()
    },
    "a name in place of a type": lambda fields: {name: value for name, value in fields.items() if name != "type"},
    "an empty type": lambda fields: {**fields, "type": ""},
    "a type that is a number": lambda fields: {**fields, "type": 7},
}


@pytest.mark.parametrize("how", ODD)
def test_events_with_odd_fields_are_read_as_those_without(how):
    read_as = []
    for change in (dict, ODD[how]):
        reader = reading("responses")
        body = b"".join(b"event: %b\n" % fields["type"].encode() + data(change(fields)) for fields in rich())
        read_as.append(concluded(reader, read_all(reader, body)))
    assert read_as[0] == read_as[1]
    response, _ = read_as[0]
    assert (response.text, response.reasoning, response.refusal) == ("HiByeNo.", "hm\n\nsowell", "No.")
    assert [call.arguments for call in response.tool_calls] == ["{}"]


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "response.output_text.delta", "delta": 7},
        {"type": "response.reasoning_text.delta", "delta": [7]},
        {"type": "response.refusal.delta", "delta": {"a": 1}},
        {"type": "response.function_call_arguments.delta", "delta": True},
        {"type": "response.output_item.done", "item": "x"},
        {"type": "response.completed", "response": "x"},
        {"delta": "no type and no name"},
    ],
)
def test_an_event_without_what_it_is_for_breaks_the_answer(fields):
    reader = reading("responses")
    read_all(reader, started() + data(fields) + completed())
    assert "not one of the Responses API" in reader.violation
    assert not reader.finished


@pytest.mark.parametrize("fields", [{"delta": 7}, {"item": "x"}, {"response": "x"}])
def test_fields_of_other_events_are_not_looked_at(fields):
    body = started() + event("response.later", **fields) + text_item("Hi") + completed()
    assert read(body, "responses").text == "Hi"


@pytest.mark.parametrize("content", ["Hi", [{"type": "output_text", "text": "Hi"}], {"type": "text", "text": "Hi"}])
def test_the_content_of_an_item_may_be_a_text_or_a_part(content):
    item = event("response.output_item.done", output_index=0, item={"type": "message", "content": content})
    assert read(started() + item + completed(), "responses").text == "Hi"


def test_halves_of_characters_are_joined_within_their_item_only():
    deltas = b"".join(
        b'data: {"type": "response.output_text.delta", "output_index": %d, "delta": "%b"}\n\n' % delta
        for delta in [(0, b"\\ud83d"), (1, b"b\\ud83d"), (1, b"\\udc3b"), (0, b"\\udc3b")]
    )
    assert read(started() + deltas + completed(), "responses").text == "b🐻🐻"
