"""Both dialects, from bytes to events, without I/O."""

import json

import pytest
from hypothesis import given, settings, strategies as st
from llm.spoken import (
    DONE,
    STEPS,
    USAGE,
    as_replayed,
    chunk,
    concluded,
    data,
    event,
    healthy,
    read_all,
    reading,
    replayed,
    spoken,
)

from clawft_trio.attempts import Usage
from clawft_trio.chat import ReasoningDelta, TextDelta, ToolCall, ToolCallReady, UsageReport
from clawft_trio.testing.script import CallTool, Finish, Say, Think

DIALECTS = pytest.mark.parametrize("dialect", ["openai", "anthropic"])
CUTS = st.lists(st.integers(0, 4000), max_size=12)


# --- any valid answer, cut anywhere -------------------------------------------------------------------


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
    mark = body.rindex(b'"finish_reason":"') if dialect == "openai" else body.rindex(b"event: message_stop")
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
def test_a_whole_body_says_the_same_as_a_stream(dialect, steps, usage):
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


# --- the OpenAI-compatible dialect, as its servers speak it ---------------------------------------------


def openai(*parts, **options):
    reader = reading("openai", **options)
    return reader, read_all(reader, b"".join(parts))


def answered(*parts, **options):
    return concluded(*openai(*parts, **options))


STOP = chunk({}, "stop")


def test_a_role_chunk_shows_nothing():
    reader = reading("openai")
    assert reader.feed(chunk({"role": "assistant", "content": ""})) == []
    assert reader.feed(chunk({"role": "assistant", "content": None, "refusal": None})) == []


def test_usage_comes_in_a_chunk_without_choices():
    for choices in ([], None):
        usage = data({"choices": choices, "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}})
        response, events = answered(chunk({"content": "Hi"}), STOP, usage, DONE)
        assert response.usage == Usage(input_tokens=7, output_tokens=5)
        assert events[-1] == UsageReport(response.usage)


ODD_USAGE = [
    ({"prompt_tokens": 7}, Usage(input_tokens=7)),
    ({"completion_tokens": 5}, Usage(output_tokens=5)),
    ({"prompt_tokens": None, "completion_tokens": "5", "total_tokens": -1}, Usage()),
    ({"prompt_tokens": -4, "completion_tokens": 2.0}, Usage(output_tokens=2)),
    ({"prompt_tokens": 7, "prompt_tokens_details": None, "completion_tokens_details": []}, Usage(input_tokens=7)),
    ({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": 0}}, Usage(input_tokens=7, cached_tokens=3)),
    ({"prompt_tokens": 7, "prompt_cache_hit_tokens": 4}, Usage(input_tokens=7, cached_tokens=4)),
    ({"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 6}}, Usage(output_tokens=9, reasoning_tokens=6)),
    (True, None),
    ("lots", None),
    ([1], None),
]  # fmt: skip


@pytest.mark.parametrize(("usage", "expected"), ODD_USAGE)
def test_usage_with_missing_or_odd_fields_costs_no_answer(usage, expected):
    response, _ = answered(chunk({"content": "Hi"}), STOP, data({"choices": [], "usage": usage}), DONE)
    assert (response.text, response.usage) == ("Hi", expected)


def test_usage_told_with_every_chunk_ends_with_the_last():
    told = [chunk({"content": "x"}, usage={"prompt_tokens": 3, "completion_tokens": n}) for n in (1, 2, 2)]
    response, events = answered(*told, STOP, DONE)
    assert response.usage.output_tokens == 2
    assert sum(isinstance(seen, UsageReport) for seen in events) == 2


def test_azures_filter_chunks_are_passed_over():
    response, _ = answered(
        data({"choices": [], "id": "", "model": "", "prompt_filter_results": [{}]}),
        chunk({"content": "Hi"}),
        data({"choices": [{"index": 0, "delta": None, "finish_reason": None, "content_filter_offsets": {}}]}),
        STOP,
        DONE,
    )
    assert (response.text, response.id, response.model) == ("Hi", "c1", "m1")


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_is_told_apart(field):
    response, events = answered(
        chunk({field: "hm"}), chunk({field: " so", "content": ""}), chunk({"content": "Hi"}), STOP
    )
    assert events == [ReasoningDelta("hm"), ReasoningDelta(" so"), TextDelta("Hi")]
    assert (response.reasoning, response.text) == ("hm so", "Hi")


def test_reasoning_given_under_both_names_counts_once():
    response, _ = answered(chunk({"reasoning_content": "hm", "reasoning": "hm", "content": "Hi"}), STOP)
    assert (response.reasoning, response.text) == ("hm", "Hi")


def test_content_in_parts_is_understood():
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "Hi"},
        {"type": "reference"},
    ]
    response, _ = answered(chunk({"content": parts}), STOP, DONE)
    assert (response.reasoning, response.text) == ("hm", "Hi")


def test_a_refusal_is_text_and_a_finish_reason():
    response, _ = answered(chunk({"refusal": "I can't"}), STOP, DONE)
    assert (response.text, response.finish_reason) == ("I can't", "content_filter")


def test_only_the_first_of_several_choices_counts():
    second = data({"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"}]})
    response, _ = answered(chunk({"content": "Hi"}), second, STOP, DONE)
    assert response.text == "Hi"
    reader, _ = openai(chunk({"content": "Hi"}), second)
    assert not reader.finished


def call(index=0, given="a", name="read", arguments='{"p":1}', **more):
    return {
        "tool_calls": [
            {
                "index": index,
                "id": given,
                "type": "function",
                "function": {"name": name, "arguments": arguments},
                **more,
            }
        ]
    }


def test_arguments_sent_as_an_object_are_used():
    response, events = answered(chunk(call(arguments={"p": 1})), chunk({}, "tool_calls"))
    assert response.tool_calls == (ToolCall(id="a", name="read", arguments='{"p":1}'),)
    assert events[-1] == ToolCallReady(response.tool_calls[0])


@pytest.mark.parametrize("index", [None, "0", 1.0, "missing"])
def test_a_tool_call_with_an_odd_index_is_used(index):
    delta = call(index=index)
    if index == "missing":
        del delta["tool_calls"][0]["index"]
    response, _ = answered(chunk(delta), chunk({}, "tool_calls"))
    assert response.tool_calls == (ToolCall(id="a", name="read", arguments='{"p":1}'),)


@pytest.mark.parametrize("given", [None, "", 7])
def test_a_tool_call_with_an_odd_id_is_used(given):
    response, events = answered(chunk(call(given=given)), chunk({}, "tool_calls"))
    assert response.tool_calls[0].id == ("7" if given else "call_0")
    assert events[-1] == ToolCallReady(response.tool_calls[0])


def test_stop_with_tool_calls_is_a_request_for_tools():
    response, _ = answered(chunk(call()), STOP, DONE)
    assert response.finish_reason == "tool_calls"


@pytest.mark.parametrize("reason", ["length", "content_filter", "model_length"])
def test_tool_calls_of_an_answer_that_was_cut_short_are_not_released(reason):
    response, events = answered(chunk(call()), chunk(call(1, "b", "write", "")), chunk({}, reason), DONE)
    assert not any(isinstance(seen, ToolCallReady) for seen in events)
    # Kept as they came, so that each can be answered.
    assert [(made.id, made.arguments) for made in response.tool_calls] == [("a", '{"p":1}'), ("b", "")]
    assert response.finish_reason == ("length" if reason == "model_length" else reason)


def test_only_calls_that_parse_are_released():
    response, events = answered(
        chunk(call(arguments='{"path": "/tmp')), chunk(call(1, "b", "now", "")), chunk({}, "tool_calls")
    )
    assert [seen.call.id for seen in events if isinstance(seen, ToolCallReady)] == ["b"]
    assert response.tool_calls[0].arguments == '{"path": "/tmp'


def test_done_alone_or_the_end_alone_proves_nothing():
    for tail in (b"", DONE):
        reader, _ = openai(chunk({"content": "Hi"}), tail)
        assert not reader.finished
        assert reader.ended


def test_an_empty_finish_reason_is_none():
    reader, _ = openai(chunk({"content": "Hi"}, ""), DONE)
    assert not reader.finished


@pytest.mark.parametrize(
    ("ends_with", "tail", "whole"),
    [("done", DONE, True), ("done", b"", False), ("eof", b"", True), ("eof", DONE, True), ("done", STOP, True)],
)
def test_servers_without_finish_reasons_may_be_believed_by_exception(ends_with, tail, whole):
    reader, events = openai(chunk({"content": "Hi"}), tail, ends_with=ends_with)
    assert reader.finished is whole
    if whole:
        assert concluded(reader, events)[0].finish_reason == "stop"


def test_the_end_of_a_body_that_holds_an_error_is_not_believed():
    reader, _ = openai(chunk({"content": "Hi"}), data({"error": {"message": "x"}}), ends_with="eof")
    assert not reader.finished


@pytest.mark.parametrize("reason", ["error", "abort", "insufficient_system_resource"])
def test_a_finish_reason_that_says_failure_is_one(reason):
    reader, _ = openai(chunk({"content": "Hi"}), chunk({"content": ""}, reason), DONE)
    assert not reader.finished
    assert reader.error == {"error": {"code": reason, "message": f"the provider ended its answer with {reason!r}"}}


ERRORS = [
    data({"error": {"message": "x", "code": "server_error"}}),
    data({"id": "c", "error": {"message": "x", "code": 502}, "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]}),
    b"event: error\n" + data({"message": "x", "type": "server_error"}),
    data({"object": "error", "message": "x", "code": 400}),
    data({"error": "x"}),
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("before", [b"", chunk({"content": "Hi"})])
def test_errors_in_a_stream_are_found_in_every_shape(error, before):
    reader, events = openai(before, error, chunk({"content": "never"}), STOP, DONE)
    assert reader.error is not None
    assert not reader.finished
    assert reader.ended
    assert replayed(events)["text"] == ("Hi" if before else "")


def test_a_line_that_is_not_json_breaks_the_answer():
    for bad in (b"{", b'{"choices": [{"delta": {"content": "tru', b"oops", b'{"choices": 5}', b"[]", b"\xff\xfe"):
        reader, _ = openai(chunk({"content": "Hi"}), data(bad), chunk({"content": " there"}), STOP, DONE)
        assert reader.violation
        assert not reader.finished
        assert reader.answer.partial().text == "Hi"


def test_a_bad_line_behind_the_finish_reason_costs_only_the_usage():
    response, _ = answered(chunk({"content": "Hi"}), STOP, data(b"{oops"), DONE)
    assert (response.text, response.usage) == ("Hi", None)


def test_comments_empty_blocks_and_a_byte_order_mark_are_nothing():
    response, _ = answered(
        b"\xef\xbb\xbf: hello\n\n", b"event: ping\n\n", b"id: 4\n\n\n", chunk({"content": "Hi"}), b": x\n\n", STOP, DONE
    )
    assert response.text == "Hi"


def test_nothing_is_read_behind_the_last_word():
    response, _ = answered(chunk({"content": "Hi"}), STOP, DONE, chunk({"content": " there"}))
    assert response.text == "Hi"


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b"null", b'{"choices": []}', b'{"choices": null}', b"", b"<html>", b'"x"']
)
def test_a_body_without_an_answer_is_not_one(body):
    reader = reading("openai")
    assert reader.feed_whole(body) == []
    assert reader.violation
    assert not reader.finished


def test_a_body_that_holds_an_error_is_one():
    for body in ({"error": {"message": "x"}}, {"object": "error", "message": "x"}):
        reader = reading("openai")
        reader.feed_whole(json.dumps(body).encode())
        assert reader.error is not None
        assert not reader.finished


def test_a_whole_body_needs_no_finish_reason():
    reader = reading("openai")
    body = {"choices": [{"message": {"content": "Hi"}, "finish_reason": None}], "usage": {"prompt_tokens": 2}}
    response, _ = concluded(reader, reader.feed_whole(json.dumps(body).encode()))
    assert (response.text, response.finish_reason, response.usage) == ("Hi", "stop", Usage(input_tokens=2))


# --- Anthropic's dialect ----------------------------------------------------------------------------------

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


def test_thinking_is_told_and_its_signed_blocks_are_kept_in_place():
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


def test_a_whole_message_says_the_same():
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


def test_finish_and_usage_of_both_dialects_agree():
    usage = Usage(input_tokens=30, output_tokens=4, cached_tokens=5)
    seen = {}
    for dialect in ("openai", "anthropic"):
        reader = reading(dialect)
        response, _ = concluded(reader, read_all(reader, spoken(dialect, [Say("Hi"), Finish("length", usage)])))
        seen[dialect] = (response.text, response.finish_reason, response.usage)
    assert seen["openai"] == seen["anthropic"] == ("Hi", "length", usage)
