"""Anthropic's Messages dialect, event by event."""

import json

import pytest
from llm.spoken import (
    as_replayed,
    concluded,
    data,
    event,
    read_all,
    reading,
    replayed,
)

from clawft_trio.attempts import Usage
from clawft_trio.chat import Opaque, ReasoningDelta, TextDelta, ToolCall, ToolCallSealed, UsageReport
from clawft_trio.llm.anthropic_response import MAX_BLOCKS

START = event("message_start", message={"id": "msg_1", "model": "claude-x", "content": [], "usage": {"input_tokens": 9, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 2, "output_tokens": 1}})  # fmt: skip
END = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 12}) + event("message_stop")


def block(index, kind, *deltas, **fields):
    opening = event("content_block_start", index=index, content_block={"type": kind, **fields})
    return (
        opening
        + b"".join(event("content_block_delta", index=index, delta=delta) for delta in deltas)
        + event("content_block_stop", index=index)
    )


def text(index, *pieces):
    return block(index, "text", *({"type": "text_delta", "text": piece} for piece in pieces), text="")


def anthropic(*parts, **options):
    reader = reading("anthropic", **options)
    return reader, read_all(reader, b"".join(parts))


def messaged(*parts, **options):
    return concluded(*anthropic(*parts, **options))


def test_usage_adds_up_from_both_ends_cache_included():
    response, events = messaged(START, text(0, "Hi"), END)
    assert response.usage == Usage(input_tokens=15, output_tokens=12, cached_tokens=4, cache_write_tokens=2)
    assert [type(seen) for seen in events] == [UsageReport, TextDelta, UsageReport]
    assert (response.id, response.model) == ("msg_1", "claude-x")


def test_message_start_and_pings_show_no_content():
    reader = reading("anthropic")
    seen = reader.feed(
        START + event("ping") + event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    )
    assert [type(one) for one in seen] == [UsageReport]


def test_thinking_is_reported_and_its_signed_blocks_are_kept_in_place():
    thinking = block(0, "thinking", {"type": "thinking_delta", "thinking": "let me "}, {"type": "thinking_delta", "thinking": "see"}, {"type": "signature_delta", "signature": "c2ln"}, thinking="", signature="")  # fmt: skip
    redacted = block(1, "redacted_thinking", data="ZW5j")
    tool = block(3, "tool_use", {"type": "input_json_delta", "partial_json": '{"p"'}, {"type": "input_json_delta", "partial_json": ":1}"}, id="toolu_1", name="read", input={})  # fmt: skip
    response, events = messaged(START, thinking, redacted, text(2, "So"), tool, END.replace(b"end_turn", b"tool_use"))
    kept = [dict(part.block) for part in response.content[:2]]
    assert kept == [
        {"type": "thinking", "thinking": "let me see", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "ZW5j"},
    ]
    assert response.text == "So"
    assert response.reasoning == "let me see"
    assert response.tool_calls == (ToolCall(id="toolu_1", name="read", arguments='{"p":1}'),)
    assert response.finish_reason == "tool_calls"
    assert [type(seen) for seen in events].count(ReasoningDelta) == 2


def test_a_tool_without_arguments_gets_an_empty_object():
    tool = block(0, "tool_use", {"type": "input_json_delta", "partial_json": ""}, id="t", name="now", input={})
    response, _ = messaged(START, tool, END.replace(b"end_turn", b"tool_use"))
    assert response.tool_calls[0].arguments == "{}"


def test_blocks_of_server_tools_are_kept_whole():
    server = block(
        0,
        "server_tool_use",
        {"type": "input_json_delta", "partial_json": '{"query":"x"}'},
        id="s",
        name="web_search",
        input={},
    )
    result = block(1, "web_search_tool_result", tool_use_id="s", content=[{"type": "web_search_result"}])
    response, _ = messaged(START, server, result, text(2, "Hi"), END)
    assert dict(response.content[0].block)["input"] == {"query": "x"}
    assert response.tool_calls == ()
    assert response.text == "Hi"


def test_events_and_deltas_that_are_still_to_be_invented_are_passed_over():
    new = event("moonbeam", brightness=3) + event(
        "content_block_delta", index=0, delta={"type": "glow_delta", "glow": 1}
    )
    response, _ = messaged(START, new, text(0, "Hi"), new, END)
    assert response.text == "Hi"


@pytest.mark.parametrize(
    ("reason", "ours"),
    [("end_turn", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"), ("refusal", "content_filter"),
     ("pause_turn", "pause_turn"), ("model_context_window_exceeded", "length")],
)  # fmt: skip
def test_stop_reasons_are_given_our_names(reason, ours):
    response, _ = messaged(START, text(0, "Hi"), END.replace(b"end_turn", reason.encode()))
    assert response.finish_reason == ours


def test_a_stream_without_message_stop_is_not_whole():
    mostly = START + text(0, "Hi") + END.partition(b"event: message_stop")[0]
    reader, _ = anthropic(mostly)
    assert not reader.finished
    assert messaged(mostly, ends_with="stop_reason")[0].text == "Hi"


def test_message_stop_without_a_stop_reason_is_not_whole():
    reader, _ = anthropic(START, text(0, "Hi"), event("message_stop"))
    assert not reader.finished
    assert reader.ended


def test_an_error_event_ends_the_answer():
    error = event("error", error={"type": "overloaded_error", "message": "Overloaded"}, request_id="req_7")
    for before in (b"", START, START + text(0, "Hi")):
        reader, _ = anthropic(before, error, END)
        assert reader.error == {"error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_7"}
        assert not reader.finished


def test_an_unsigned_stop_still_keeps_the_thinking():
    opened = event(
        "content_block_start", index=0, content_block={"type": "thinking", "thinking": "hm", "signature": "s"}
    )
    response, _ = messaged(START, opened, END)
    assert dict(response.content[0].block) == {"type": "thinking", "thinking": "hm", "signature": "s"}
    assert response.reasoning == "hm"


def test_a_whole_message_gives_the_same_response():
    reader = reading("anthropic")
    body = {
        "id": "msg_1", "type": "message", "model": "claude-x", "stop_reason": "tool_use", "usage": {"input_tokens": 3, "output_tokens": 4},
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "Hi"},
            {"type": "tool_use", "id": "t", "name": "read", "input": {"p": 1}}, {"type": "tool_use", "id": "u", "name": "now", "input": {}},
        ],
    }  # fmt: skip
    response, events = concluded(reader, reader.feed_whole(json.dumps(body).encode()))
    assert replayed(events) == as_replayed(response)
    assert [(made.id, made.arguments) for made in response.tool_calls] == [("t", '{"p":1}'), ("u", "{}")]
    assert (response.reasoning, response.text, response.usage) == ("hm", "Hi", Usage(input_tokens=3, output_tokens=4))


def fields_of(kind, **fields):
    return {"type": kind, **fields}


def rich():
    """The events of an answer with a block of each kind."""
    blocks = [
        ({"type": "thinking", "thinking": "", "signature": ""},
         {"type": "thinking_delta", "thinking": "hm"}, {"type": "signature_delta", "signature": "c2ln"}),
        ({"type": "text", "text": ""}, {"type": "text_delta", "text": "Hi"}, {"type": "text_delta", "text": " you"},
         {"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "x"}}),
        ({"type": "tool_use", "id": "c1", "name": "look", "input": {}}, {"type": "input_json_delta", "partial_json": "{}"}),
        ({"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}},
         {"type": "input_json_delta", "partial_json": '{"q": 1}'}),
        ({"type": "text", "text": "B"}, {"type": "text_delta", "text": "ye"}),
    ]  # fmt: skip
    usage = {"input_tokens": 9, "output_tokens": 1}
    events = [fields_of("message_start", message={"id": "m", "model": "c", "content": [], "usage": usage})]
    for index, (start, *deltas) in enumerate(blocks):
        events.append(fields_of("content_block_start", index=index, content_block=start))
        events += [fields_of("content_block_delta", index=index, delta=delta) for delta in deltas]
        events.append(fields_of("content_block_stop", index=index))
    end = fields_of("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 5})
    return [*events, end, fields_of("message_stop")]


ODD = {
    "an index that is a text": lambda fields: {
        **fields,
        **({"index": str(fields["index"])} if "index" in fields else {}),
    },
    "an index that is a fraction": lambda fields: {
        **fields,
        **({"index": float(fields["index"])} if "index" in fields else {}),
    },
    "no index": lambda fields: {name: value for name, value in fields.items() if name != "index"},
    "a name in place of a type": lambda fields: {name: value for name, value in fields.items() if name != "type"},
    "a type that is a number": lambda fields: {**fields, "type": 7},
    "deltas without a type": lambda fields: (
        {**fields, "index": float(fields["index"]), "delta": {k: v for k, v in fields["delta"].items() if k != "type"}}
        if fields["type"] == "content_block_delta" and "citation" not in fields["delta"]
        else fields
    ),
}


@pytest.mark.parametrize("how", ODD)
def test_events_with_odd_fields_are_read_as_those_without(how):
    read_as = []
    for change in (dict, ODD[how]):
        body = (b"event: %b\n" % fields["type"].encode() + data(change(fields)) for fields in rich())
        read_as.append(messaged(*body))
    assert read_as[0] == read_as[1]
    response, events = read_as[0]
    assert (response.text, response.reasoning, response.finish_reason) == ("Hi youBye", "hm", "tool_calls")
    assert [(call.id, call.arguments) for call in response.tool_calls] == [("c1", "{}")]
    # A call is sealed when its block ends, before the blocks behind it.
    kinds = [type(seen) for seen in events]
    assert kinds.count(ToolCallSealed) == 1
    assert kinds.index(ToolCallSealed) < len(kinds) - 1 - kinds[::-1].index(TextDelta)


def test_events_without_a_type_and_a_name_are_known_by_their_fields():
    events = [
        {"message": {"id": "m", "model": "c", "content": []}},
        {"index": 0, "content_block": {"type": "text", "text": ""}},
        {"index": 0, "delta": {"text": "Hi"}},
        {"delta": {"stop_reason": "end_turn"}},
    ]
    response, _ = messaged(*map(data, events), event("message_stop"))
    assert (response.text, response.id, response.finish_reason) == ("Hi", "m", "stop")


@pytest.mark.parametrize("more", [{}, {"caller": {"type": "direct"}}])
def test_other_fields_of_a_call_are_kept_for_the_next_request(more):
    call = block(
        0, "tool_use", {"type": "input_json_delta", "partial_json": "{}"}, id="c1", name="look", input={}, **more
    )
    response, _ = messaged(START, call, END.replace(b"end_turn", b"tool_use"))
    kept = [(part.dialect, dict(part.block)) for part in response.content if isinstance(part, Opaque)]
    assert kept == ([("anthropic:tool_use", {"c1": more})] if more else [])


@pytest.mark.parametrize(("count", "broken"), [(MAX_BLOCKS, False), (MAX_BLOCKS + 1, True)])
def test_an_answer_has_a_bounded_number_of_blocks(count, broken):
    reader = reading("anthropic")
    one = event("content_block_start", index=0, content_block={"type": "text"}) + event("content_block_stop", index=0)
    reader.feed(START + one * count)
    assert bool(reader.violation) is broken


@pytest.mark.parametrize("wrong", [{"code": "x", "message": "t"}, {"type": "error", "error": {"message": "t"}}])
def test_a_whole_body_without_content_may_be_an_error(wrong):
    reader = reading("anthropic")
    assert reader.feed_whole(json.dumps(wrong).encode()) == []
    assert (reader.ended, reader.finished, reader.violation, bool(reader.error)) == (True, False, "", True)


@pytest.mark.parametrize("extra", [{}, {"code": "x", "message": "t"}])
def test_a_whole_body_with_content_is_an_answer(extra):
    reader = reading("anthropic")
    events = reader.feed_whole(json.dumps({"content": "Hi", "stop_reason": "end_turn", **extra}).encode())
    assert concluded(reader, events)[0].text == "Hi"
    assert reader.ended


@pytest.mark.parametrize("end", [END, END.rstrip(), b""])
def test_behind_its_last_event_an_answer_has_ended(end):
    reader = reading("anthropic")
    reader.feed(START + text(0, "Hi") + end)
    before = reader.ended
    reader.feed_end()
    assert (before, reader.ended, reader.finished) == (end == END, True, bool(end))


def test_an_unknown_reason_ends_the_answer():
    reader, _ = anthropic(START, text(0, "Hi"), END.replace(b"end_turn", b"tripped"), text(1, "later"))
    assert (reader.ended, reader.finished, reader.answer.partial().text) == (True, False, "Hi")
    assert "tripped" in reader.error["error"]["message"]


@pytest.mark.parametrize(("second", "shown"), [("\\udc3b", "a🐻"), ("b", "a\ufffdb"), ("", "a\ufffd")])
def test_a_character_that_is_split_between_two_events_is_joined(second, shown):
    deltas = b"".join(
        b'data: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "%b"}}\n\n'
        % piece.encode()
        for piece in ("a\\ud83d", second)
    )
    opening = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    assert messaged(START, opening, deltas, event("content_block_stop", index=0), END)[0].text == shown
