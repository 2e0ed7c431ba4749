"""The bytes that the fault server sends for the steps of a script, event by event, in each dialect."""

from __future__ import annotations

import json

import pytest

from clawft_trio.attempts import Usage
from clawft_trio.testing.dialects import DialectSetting, writer
from clawft_trio.testing.script import (
    BadJson,
    BadUtf8,
    CallTool,
    ErrorEvent,
    Finish,
    Pings,
    Preamble,
    Raw,
    Report,
    Say,
    Think,
)

USAGE = Usage(input_tokens=9, output_tokens=4, cached_tokens=3, cache_write_tokens=2, reasoning_tokens=1)
FULL = [
    Think("hm"),
    Say("Hel"),
    Say("lo"),
    CallTool("f", {"a": 1}, fragments=2),
    CallTool("g", "{}", id="own"),
    Finish(usage=USAGE),
]
RESPONSES_USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
    "output_tokens": 4,
    "output_tokens_details": {"reasoning_tokens": 1},
    "total_tokens": 13,
}
OPENAI_USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 4,
    "total_tokens": 13,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 1},
}
ALL = pytest.mark.parametrize("dialect", ["openai", "anthropic", "responses"])


def setting(**more):
    return DialectSetting(number=7, model="m", **more)


def written(dialect, steps, *, stream=True, **more):
    """What is sent for each step, and at the end of the script."""
    made = writer(dialect, setting(**more), stream=stream)
    return [b"".join(made.write(step)) for step in steps], made.end(), made


def payloads(data):
    """The JSON of each event; what is not JSON as bytes."""
    found = []
    for event in data.split(b"\n\n")[:-1]:
        name, _, payload = event.rpartition(b"data: ")
        try:
            found.append(json.loads(payload))
        except ValueError:
            found.append(payload)
        else:
            assert not name or name == b"event: " + found[-1]["type"].encode() + b"\n"
    return found


def events(dialect, *steps, **more):
    parts, end, _ = written(dialect, steps, **more)
    return payloads(b"".join(parts) + end)


def whole(dialect, *steps, **more):
    parts, end, _ = written(dialect, steps, stream=False, **more)
    assert set(parts) <= {b""}
    return json.loads(end)


def test_a_stream_of_chat_completions():
    *chunks, done = events("openai", *FULL)
    envelope = {"id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "m"}
    assert all(envelope.items() <= chunk.items() for chunk in chunks)
    *deltas, last, usage = chunks
    assert [chunk["choices"] for chunk in deltas] == [
        [{"index": 0, "delta": delta, "finish_reason": None}]
        for delta in (
            {"role": "assistant", "content": ""},
            {"reasoning_content": "hm"},
            {"content": "Hel"},
            {"content": "lo"},
            *(
                {"tool_calls": [call]}
                for call in (
                    {"index": 0, "id": "call_0", "type": "function", "function": {"name": "f", "arguments": ""}},
                    {"index": 0, "function": {"arguments": '{"a"'}},
                    {"index": 0, "function": {"arguments": ":1}"}},
                    {"index": 1, "id": "own", "type": "function", "function": {"name": "g", "arguments": ""}},
                    {"index": 1, "function": {"arguments": "{"}},
                    {"index": 1, "function": {"arguments": "}"}},
                )
            ),
        )
    ]
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]
    assert (usage["choices"], usage["usage"]) == ([], OPENAI_USAGE)
    assert done == b"[DONE]"


def test_usage_of_chat_completions_is_sent_only_where_it_may_be():
    steps = [Report(USAGE), Finish(usage=USAGE)]
    assert [event["usage"] for event in events("openai", *steps)[:-1] if "usage" in event] == [OPENAI_USAGE] * 2
    assert not any("usage" in event for event in events("openai", *steps, sends_usage=False)[:-1])
    assert not any("usage" in event for event in events("openai", Finish())[:-1])


def test_a_stream_of_messages():
    start, *middle, delta, stop = events("anthropic", *FULL, usage=USAGE)
    assert start == {
        "type": "message_start",
        "message": {
            "id": "msg_7",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {
                "input_tokens": 4,
                "cache_read_input_tokens": 3,
                "cache_creation_input_tokens": 2,
                "output_tokens": 1,
            },
        },
    }

    def block(index, opening, *deltas):
        yield {"type": "content_block_start", "index": index, "content_block": opening}
        yield from ({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas)
        yield {"type": "content_block_stop", "index": index}

    def pieces(*texts):
        return [{"type": "input_json_delta", "partial_json": text} for text in texts]

    assert middle == [
        *block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "hm"},
            {"type": "signature_delta", "signature": "sig-1"},
        ),
        *block(
            1,
            {"type": "text", "text": ""},
            {"type": "text_delta", "text": "Hel"},
            {"type": "text_delta", "text": "lo"},
        ),
        *block(2, {"type": "tool_use", "id": "call_0", "name": "f", "input": {}}, *pieces('{"a"', ":1}")),
        *block(3, {"type": "tool_use", "id": "own", "name": "g", "input": {}}, *pieces("{", "}")),
    ]
    assert delta == {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 4},
    }
    assert stop == {"type": "message_stop"}


def test_a_stream_of_messages_has_usage_also_when_the_script_has_none():
    start, reported, delta, _ = events("anthropic", Preamble(), Report(USAGE), Finish())
    assert start["message"]["usage"] == {
        "input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "output_tokens": 1,
    }
    assert reported == {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 4}}
    assert (delta["delta"]["stop_reason"], delta["usage"]) == ("end_turn", {"output_tokens": 0})


def test_a_second_tool_call_without_an_id_is_numbered():
    for dialect in ("openai", "anthropic", "responses"):
        calls = [CallTool("f"), Say("x"), CallTool("f"), Finish()]
        parts, end, _ = written(dialect, calls)
        assert b'"call_1"' in parts[2] and b'"call_2"' not in b"".join(parts) + end
        assert '"call_1"' in json.dumps(whole(dialect, *calls))


def envelope(**more):
    return {
        "id": "resp_7",
        "object": "response",
        "created_at": 1_700_000_000,
        "model": "m",
        "error": None,
        "incomplete_details": None,
        **more,
    }


def test_a_stream_of_responses():
    found = events("responses", *FULL)
    assert [event.pop("sequence_number") for event in found] == list(range(len(found)))
    items = [
        {
            "type": "reasoning",
            "id": "rs_0",
            "summary": [{"type": "summary_text", "text": "hm"}],
            "encrypted_content": "sealed",
        },
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hello", "annotations": []}],
        },
        {"type": "function_call", "call_id": "call_0", "name": "f", "arguments": '{"a":1}', "status": "completed"},
        {"type": "function_call", "call_id": "own", "name": "g", "arguments": "{}", "status": "completed"},
    ]

    def item(index, shown, kind, *deltas):
        yield {"type": "response.output_item.added", "output_index": index, "item": shown}
        yield from ({"type": f"response.{kind}.delta", "output_index": index, "delta": delta} for delta in deltas)
        yield {"type": "response.output_item.done", "output_index": index, "item": items[index]}

    opening = envelope(status="in_progress", output=[])
    assert found == [
        {"type": "response.created", "response": opening},
        {"type": "response.in_progress", "response": opening},
        *item(0, {"type": "reasoning", "id": "rs_0", "content": []}, "reasoning_summary_text", "hm"),
        *item(1, {"type": "message", "id": "msg_1", "content": []}, "output_text", "Hel", "lo"),
        *item(
            2,
            {"type": "function_call", "call_id": "call_0", "name": "f", "arguments": ""},
            "function_call_arguments",
            *('{"a"', ":1}"),
        ),
        *item(
            3,
            {"type": "function_call", "call_id": "own", "name": "g", "arguments": ""},
            "function_call_arguments",
            *("{", "}"),
        ),
        {
            "type": "response.completed",
            "response": envelope(status="completed", output=items, usage=RESPONSES_USAGE),
        },
    ]


def test_a_response_has_the_usage_of_its_request_when_its_end_has_none():
    assert events("responses", Finish(), usage=USAGE)[-1]["response"]["usage"] == RESPONSES_USAGE
    assert events("responses", Report(USAGE), Finish())[-1]["response"]["usage"] is None


@pytest.mark.parametrize(
    ("reason", "openai", "anthropic", "responses"),
    [
        (None, "stop", "end_turn", ("completed", None)),
        ("stop", "stop", "end_turn", ("completed", None)),
        ("tool_calls", "tool_calls", "tool_use", ("completed", None)),
        ("length", "length", "max_tokens", ("incomplete", "max_output_tokens")),
        ("content_filter", "content_filter", "refusal", ("incomplete", "content_filter")),
        ("own", "own", "own", ("incomplete", "own")),
    ],
)
def test_a_reason_is_written_as_the_dialect_names_it(reason, openai, anthropic, responses):
    steps = [Say("x"), Finish(reason)]
    status, detail = responses
    detail = detail and {"reason": detail}
    assert events("openai", *steps)[-2]["choices"][0]["finish_reason"] == openai
    assert whole("openai", *steps)["choices"][0]["finish_reason"] == openai
    assert events("anthropic", *steps)[-2]["delta"]["stop_reason"] == anthropic
    assert whole("anthropic", *steps)["stop_reason"] == anthropic
    last = events("responses", *steps)[-1]
    assert last["type"] == f"response.{status}"
    for response in (last["response"], whole("responses", *steps)):
        assert (response["status"], response["incomplete_details"]) == (status, detail)


@ALL
def test_the_opening_is_sent_once_and_the_last_mark_only_after_the_end(dialect):
    first, second, said = written(dialect, [Preamble(), Preamble(), Say("x")])[0]
    assert first and not second and b"x" in said
    _, end, made = written(dialect, [Say("x")])
    assert (end, made.torn()) == (b"", b"")
    _, end, made = written(dialect, [Say("x"), Finish()])
    assert end and made.torn() == b""
    assert made.content_type == "text/event-stream; charset=utf-8"


@ALL
def test_steps_aside_are_sent_without_an_opening(dialect):
    ping, report, error, bad, raw = written(
        dialect, [Pings(), Report(USAGE), ErrorEvent("own"), BadJson(), Raw(b"raw")], sends_usage=False
    )[0]
    assert ping == (b'event: ping\ndata: {"type":"ping"}\n\n' if dialect == "anthropic" else b": ping\n\n")
    assert bool(report) is (dialect == "anthropic")
    assert b"own" in error and error.endswith(b"}\n\n")
    assert isinstance(payloads(bad)[0], bytes) and bad.startswith((b"data: {", b"event: "))
    assert raw == b"raw"


def test_an_error_of_responses_is_an_event_of_its_own():
    assert events("responses", ErrorEvent("own", "broken", 500)) == [
        {"type": "error", "sequence_number": 0, "code": "own", "message": "broken", "param": None}
    ]


@ALL
@pytest.mark.parametrize("before", [[], [Say("a")], [Think("a")], [CallTool("f")]])
def test_bytes_that_are_not_utf8_are_a_delta_of_the_text(dialect, before):
    steps = [*before, BadUtf8(b"\xff"), Say("z"), Finish()]
    parts, end, _ = written(dialect, steps)
    assert parts[len(before)].count(b"\xff") == 1 and b"\xff" not in b"".join([*parts[: len(before)], *parts[-2:], end])
    # The replacement character is what a decoder makes of the byte.
    assert text_of(payloads(b"".join(parts).replace(b"\xff", "�".encode()) + end)) == (
        "a�z" if before == [Say("a")] else "�z"
    )
    assert writer_end(dialect, steps).count(b"\xff") == 1


def writer_end(dialect, steps):
    return written(dialect, steps, stream=False)[1]


def text_of(found):
    text = ""
    for event in found:
        match event:
            case {"choices": [{"delta": {"content": str(more)}}]}:
                text += more
            case {"delta": {"type": "text_delta", "text": more}}:
                text += more
            case {"type": "response.output_text.delta", "delta": more}:
                text += more
    return text


def test_a_text_with_bytes_that_are_not_utf8_is_complete_in_its_item():
    [item] = events("responses", Say("a"), BadUtf8(b"\xff"), Say("z"), Finish())[-1]["response"]["output"]
    assert item["content"][0]["text"] == "a�z"


def test_bytes_that_are_not_utf8_are_of_the_block_that_they_open():
    parts, _, _ = written("anthropic", [BadUtf8(b"\xff"), CallTool("f"), BadUtf8(b"\xff"), Say("z")])
    found = payloads(b"".join(parts).replace(b"\xff", b"?"))
    texts = [event for event in found if event.get("delta", {}).get("type") == "text_delta"]
    assert [event["index"] for event in texts] == [0, 2, 2]


@ALL
def test_a_text_after_a_tool_call_is_a_new_block(dialect):
    kinds = ["content_block_start", "response.output_item.added"]
    starts = [
        event for event in events(dialect, Say("a"), CallTool("f"), Say("b"), Finish()) if is_one_of(event, kinds)
    ]
    assert len(starts) == (0 if dialect == "openai" else 3)


def is_one_of(event, kinds):
    return isinstance(event, dict) and event.get("type") in kinds


@ALL
def test_a_call_with_cut_arguments_stays_open(dialect):
    kinds = ["content_block_stop", "response.output_item.done"]
    found = events(dialect, CallTool("f", '{"a', fragments=1))
    assert not any(is_one_of(event, kinds) for event in found)
    assert sum('{\\"a' in json.dumps(event) for event in found) == 1


def test_a_whole_chat_completion():
    answer = whole("openai", *FULL)
    assert answer == {
        "id": "chatcmpl-7",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hello",
                    "reasoning_content": "hm",
                    "tool_calls": [
                        {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
                        {"id": "own", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                    ],
                },
                "finish_reason": "tool_calls",
            }
        ],
        "usage": OPENAI_USAGE,
    }
    bare = whole("openai", Finish())
    assert bare["choices"][0]["message"] == {"role": "assistant", "content": None}
    assert "usage" not in bare


def test_a_whole_message():
    assert whole("anthropic", *FULL) == {
        "id": "msg_7",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "sig-1"},
            {"type": "text", "text": "Hello"},
            {"type": "tool_use", "id": "call_0", "name": "f", "input": {"a": 1}},
            {"type": "tool_use", "id": "own", "name": "g", "input": {}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 4,
            "cache_read_input_tokens": 3,
            "cache_creation_input_tokens": 2,
            "output_tokens": 4,
        },
    }
    bare = whole("anthropic", Finish())
    assert (bare["content"], bare["usage"]["input_tokens"], bare["usage"]["output_tokens"]) == ([], 0, 0)


def test_a_whole_response():
    answer = whole("responses", *FULL)
    assert answer == {**events("responses", *FULL)[-1]["response"]}
    assert whole("responses", CallTool("f"), Finish(), usage=USAGE)["usage"] == RESPONSES_USAGE
    assert whole("responses", Finish())["output"] == []


@ALL
def test_a_whole_answer_keeps_the_newest_usage(dialect):
    small = Usage(input_tokens=1, output_tokens=1)
    texts = [
        json.dumps(whole(dialect, *steps)["usage"])
        for steps in ([Finish(usage=USAGE)], [Report(small), Finish(usage=USAGE)], [Report(USAGE), Finish()])
    ]
    assert len(set(texts)) == 1 and "9" in texts[0] + "9" * (dialect == "anthropic")


@ALL
def test_arguments_that_are_no_object_make_a_whole_answer_invalid_or_stay_text(dialect):
    end = writer_end(dialect, [CallTool("f", '{"a'), CallTool("g", "{}"), Finish()])
    if dialect == "anthropic":
        assert b'"input":{"a' in end and b'"input":{}' in end
    else:
        assert '{"a' in json.dumps(json.loads(end)).replace("\\", "")


@ALL
def test_a_whole_answer_that_is_not_finished_is_cut_in_half(dialect):
    complete = writer_end(dialect, [Say("hello"), Finish()])
    assert writer_end(dialect, [Say("hello")]) == complete[: len(complete) // 2]
    assert writer_end(dialect, [Say("hello"), BadJson(), Finish()]) == complete[: len(complete) // 2]


@ALL
def test_a_whole_answer_is_torn_only_once_it_has_begun(dialect):
    def torn(*steps):
        return written(dialect, steps, stream=False)[2].torn()

    assert torn() == torn(Preamble()) == torn(ErrorEvent()) == b""
    assert torn(Raw(b"raw")) == b"raw"
    assert torn(Say("hello")) == writer_end(dialect, [Say("hello")])
    assert json.loads(torn(Finish()))
    parts, end, made = written(dialect, [Pings(), Raw(b"a"), Say("x"), Raw(b"b"), Finish()], stream=False)
    assert (parts, end, made.content_type) == ([b"\n", b"", b"", b"", b""], b"ab", "application/json")
