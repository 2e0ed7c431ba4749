"""The OpenAI-compatible dialect as its servers speak it: their oddities, one by one."""

import json

import pytest
from hypothesis import given, strategies as st
from llm.spoken import (
    DONE,
    chunk,
    concluded,
    data,
    read_all,
    reading,
    replayed,
)

from clawft_trio.attempts import Usage
from clawft_trio.chat import (
    Opaque,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallReady,
    ToolCallSealed,
    UsageReport,
)


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
    ({"prompt_tokens": None, "completion_tokens": "5", "total_tokens": -1}, None),
    ({"prompt_tokens": -4, "completion_tokens": 2.0}, None),
    ({"prompt_tokens": 4.0, "completion_tokens": 2.0}, Usage(input_tokens=4, output_tokens=2)),
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


def test_usage_reported_with_every_chunk_is_that_of_the_last():
    reported = [chunk({"content": "x"}, usage={"prompt_tokens": 3, "completion_tokens": n}) for n in (1, 2, 2)]
    response, events = answered(*reported, STOP, DONE)
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
def test_reasoning_is_separated_from_text(field):
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
def test_a_finish_reason_that_names_a_failure_is_an_error(reason):
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
    for bad in (b"{", b'{"choices": [{"delta": {"content": "tru', b"oops", b'{"choices": 5}', b"[5]", b"\xff\xfe"):
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


deltas = st.fixed_dictionaries(
    {},
    optional={
        "content": st.sampled_from(["", "a", "b \U0001f600", None, [{"type": "text", "text": "c"}]]),
        "reasoning_content": st.sampled_from([None, "", "thought"]),
        "refusal": st.sampled_from([None, "no"]),
        "tool_calls": st.sampled_from(
            [None, [], [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}], [{"function": {"arguments": "}"}}]]
        ),
    },
)  # fmt: skip


@given(st.lists(deltas, max_size=30))
def test_a_usage_of_zeros_beside_each_piece_changes_no_event(pieces):
    """An event with a usage is not read as a plain one: both ways of reading give the same answer."""
    alone, beside = reading("openai"), reading("openai")
    seen = read_all(alone, b"".join([*map(chunk, pieces), STOP, DONE]))
    others = [chunk(piece, usage={"total_tokens": 0}) for piece in pieces]
    assert read_all(beside, b"".join([*others, STOP, DONE])) == seen
    assert alone.answer.whole("stop") == beside.answer.whole("stop")


def test_fields_behind_many_plain_pieces_are_kept():
    plain = [chunk({"content": "a"})] * 20
    odd = data({"choices": [{"index": 0, "delta": {"content": "b", "mood": "good"}, "finish_reason": None}]})
    response, _ = answered(*plain, odd, *plain, STOP, DONE)
    assert response.text == "a" * 20 + "b" + "a" * 20
    assert response.provider_details["message"] == {"mood": "good"}


def fragment(index, **fields):
    return chunk({"tool_calls": [{"index": index, **fields}]})


def test_an_index_in_any_form_is_one_index():
    pieces = [fragment(0, id="a", function={"name": "look", "arguments": "{"}), fragment("0", function={"arguments": '"x"'}),
              fragment(0.0, function={"arguments": ":1}"}), fragment("1", id="b", function={"name": "see", "arguments": '{"a":1}'})]  # fmt: skip
    response, events = answered(*pieces, chunk({}, "tool_calls"), DONE)
    assert [(made.name, made.arguments) for made in response.tool_calls] == [("look", '{"x":1}'), ("see", '{"a":1}')]
    # A call is sealed when the next one begins, the last one with the finish reason.
    sealed = [at for at, seen in enumerate(events) if isinstance(seen, ToolCallSealed)]
    deltas = [at for at, seen in enumerate(events) if isinstance(seen, ToolCallDelta)]
    assert deltas[2] < sealed[0] < deltas[3] < sealed[1]
    assert len(sealed) == 2


@pytest.mark.parametrize(("finish", "sealed"), [("tool_calls", 1), ("stop", 1), ("length", 0)])
def test_the_last_call_is_sealed_by_a_finish_reason_that_lets_it_run(finish, sealed):
    _, events = answered(
        fragment(0, id="a", function={"name": "look", "arguments": '{"a":1}'}), chunk({}, finish), DONE
    )
    assert sum(isinstance(seen, ToolCallSealed) for seen in events) == sealed


@pytest.mark.parametrize("last", [chunk({}, "stop"), chunk({}, "stop").rstrip(), chunk({}, "stop").rstrip() + b"\n"])
@pytest.mark.parametrize("done", [b"", DONE, DONE.rstrip()])
def test_behind_its_last_event_a_stream_has_ended(last, done):
    if done and not last.endswith(b"\n\n"):
        last += b"\n\n"
    reader = reading("openai")
    reader.feed(chunk({"content": "Hi"}) + last + done)
    reader.feed_end()
    assert (reader.ended, reader.finished, reader.violation, reader.answer.text.getvalue()) == (True, True, "", "Hi")


@pytest.mark.parametrize("tail", [b'data: {"choices": [{"delta"', b"data: [DONE", b"event: x"])
def test_a_last_event_that_is_cut_is_none(tail):
    reader = reading("openai")
    reader.feed(chunk({"content": "Hi"}) + tail)
    reader.feed_end()
    assert (reader.ended, reader.finished, reader.violation) == (True, False, "")


@pytest.mark.parametrize(
    ("fields", "failed"),
    [
        ({"object": "error", "message": "t"}, True),
        ({"code": "x", "message": "t"}, True),
        ({"code": "x", "message": "t", "id": "c1"}, False),
        ({"code": "x", "message": "t", "usage": {"prompt_tokens": 1, "completion_tokens": 1}}, False),
        ({"base_resp": {"status_code": 1002}, "id": "c1"}, True),
        ({"id": "c1"}, False),
    ],
)
def test_an_event_without_choices_may_be_an_error(fields, failed):
    reader = reading("openai")
    reader.feed(chunk({"content": "Hi"}) + data(fields) + chunk({}, "stop") + DONE)
    assert (bool(reader.error), reader.finished, reader.ended) == (failed, not failed, True)


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize(("second", "shown"), [("\\udc3b", "a🐻!"), ("b", "a\ufffdb!"), ("", "a\ufffd!")])
@pytest.mark.parametrize("field", ["content", "reasoning"])
def test_a_character_that_is_split_between_two_chunks_is_joined(early, second, shown, field):
    pieces = b"".join(
        b'data: {"id": "c", "choices": [{"index": 0, "delta": {"%b": "%b"}}]}\n\n' % (field.encode(), piece.encode())
        for piece in ("a\\ud83d", second, "!")
    )
    before = b"" if early else chunk({"role": "assistant"}) * 9
    response, _ = answered(before, pieces, chunk({}, "stop"), DONE)
    # A half that is followed by nothing is shown at the end.
    expected = shown if second else "a\ufffd!"
    assert (response.text if field == "content" else response.reasoning) == expected


def test_only_calls_with_fields_to_send_back_have_them():
    plain = fragment(0, id="a", function={"name": "look", "arguments": '{"a":1}'})
    signed = fragment(1, id="b", function={"name": "see", "arguments": '{"a":1}'}, extra_content={"google": {"s": "x"}})
    response, _ = answered(plain, signed, chunk({}, "tool_calls"), DONE, returns=("extra_content",))
    kept = [dict(part.block) for part in response.content if isinstance(part, Opaque)]
    assert json.dumps(kept).count('"x"') == 1
    assert "null" not in json.dumps(kept)
