"""When each dialect seals a tool call: its arguments are complete while the answer goes on."""

from __future__ import annotations

import json

import pytest
from llm.spoken import chunk, data, read_all, reading
from llm.test_tool_calls import STYLES

from clawft_trio.chat import ToolCall, ToolCallSealed
from clawft_trio.llm.tool_calls import ToolCallAssembler


def sealed(events: list[object]) -> list[ToolCall]:
    return [event.call for event in events if isinstance(event, ToolCallSealed)]


def fragment(index: int, arguments: str, **named: str) -> bytes:
    function = {"arguments": arguments} | ({"name": named["name"]} if "name" in named else {})
    call = {"index": index, "function": function} | ({"id": named["id"]} if "id" in named else {})
    return chunk({"tool_calls": [call]})


def event(kind: str, **fields: object) -> bytes:
    return data({"type": kind, **fields})


A, B = ToolCall(id="a", name="look", arguments='{"p":1}'), ToolCall(id="b", name="look", arguments='{"p":2}')


def test_the_next_index_seals_the_call_before_it() -> None:
    reader = reading("openai")
    assert sealed(reader.feed(fragment(0, "", id="a", name="look"))) == []
    assert sealed(reader.feed(fragment(0, '{"p":1}'))) == []
    assert sealed(reader.feed(fragment(1, "", id="b", name="look"))) == [A]
    assert sealed(reader.feed(fragment(1, '{"p":2}'))) == []


@pytest.mark.parametrize(
    ("reason", "expected"), [("tool_calls", [A]), ("stop", [A]), ("length", []), ("content_filter", [])]
)
def test_a_finish_reason_that_means_success_seals_the_last_call(reason: str, expected: list[ToolCall]) -> None:
    reader = reading("openai")
    reader.feed(fragment(0, '{"p":1}', id="a", name="look"))
    assert sealed(reader.feed(chunk({}, reason))) == expected


@pytest.mark.parametrize("arguments", ['{"p":', "[1]", "", "{}", '{"p":1} x'])
def test_the_next_index_does_not_seal_what_may_go_on_or_is_no_object(arguments: str) -> None:
    reader = reading("openai")
    reader.feed(fragment(0, arguments, id="a", name="look"))
    assert sealed(reader.feed(fragment(1, '{"p":2}', id="b", name="look"))) == []


@pytest.mark.parametrize(("pieces", "arguments"), [(['{"p"', ":1}"], '{"p":1}'), ([], "{}"), ([""], "{}")])
def test_the_end_of_a_block_seals_an_anthropic_call(pieces: list[str], arguments: str) -> None:
    reader = reading("anthropic")
    block = {"type": "tool_use", "id": "a", "name": "look", "input": {}}
    events = [event("message_start", message={}), event("content_block_start", index=0, content_block=block)]
    events += [
        event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": piece})
        for piece in pieces
    ]
    assert sealed(read_all(reader, b"".join(events))) == []
    assert sealed(reader.feed(event("content_block_stop", index=0))) == [
        ToolCall(id="a", name="look", arguments=arguments)
    ]


def test_a_block_that_ends_in_the_middle_of_its_arguments_is_not_sealed() -> None:
    reader = reading("anthropic")
    block = {"type": "tool_use", "id": "a", "name": "look", "input": {}}
    reader.feed(event("content_block_start", index=0, content_block=block))
    reader.feed(event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": '{"p'}))
    assert sealed(reader.feed(event("content_block_stop", index=0))) == []


def test_the_end_of_an_item_seals_a_call_of_the_responses_api() -> None:
    reader = reading("responses")
    item = {"type": "function_call", "id": "fc", "call_id": "a", "name": "look", "arguments": ""}
    reader.feed(event("response.output_item.added", output_index=0, item=item))
    reader.feed(event("response.function_call_arguments.delta", output_index=0, delta='{"p":1}'))
    done = event("response.output_item.done", output_index=0, item=item | {"arguments": '{"p":1}'})
    assert sealed(reader.feed(done)) == [A]
    assert sealed(reader.feed(done)) == []


@pytest.mark.parametrize("style", STYLES)
def test_a_sealed_call_is_the_call_of_the_whole_answer_in_every_style(style: str) -> None:
    fragments, expected = STYLES[style]
    calls, found = ToolCallAssembler(), []
    for index, given, name, arguments in fragments:
        delta = calls.add(index=index, id=given, name=name, arguments=arguments)
        found += calls.seal_before(delta.index)
    found += calls.seal_all()
    whole = {call.id: call for call in calls.calls(whole=True)}
    assert all(whole[one.call.id] == one.call for one in found)
    assert len({one.call.id for one in found}) == len(found)
    assert all(isinstance(json.loads(one.call.arguments), dict) for one in found)
    assert len(found) <= len(expected)
