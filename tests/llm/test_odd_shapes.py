"""Shapes that real servers send and the specifications do not have: each one read, in each dialect that it applies to."""

import json

import pytest
from llm.spoken import DONE, chunk, concluded, data, event, read_all, reading

from clawft_trio import errors as e
from clawft_trio.chat import ReasoningDelta, Reset, Text, TextDelta, UsageReport
from clawft_trio.llm.failures import Failures

HI, STOP = chunk({"content": "Hi"}), chunk({}, "stop")


def read(body, dialect="openai", **options):
    reader = reading(dialect, **options)
    return concluded(reader, read_all(reader, body))[0]


def failure(body, dialect="openai", **options):
    """The typed error that an answer with *body* ends in."""
    reader = reading(dialect, **options)
    read_all(reader, body)
    assert reader.error is not None, reader.violation
    return Failures(provider="p").of_event(reader.error, headers={})


def call(**fields):
    return chunk({"tool_calls": [fields]})


def only_call(body, dialect="openai"):
    (made,) = read(body, dialect).tool_calls
    return made.name, made.arguments


START = event("message_start", message={"id": "m", "model": "c", "content": [], "usage": {"input_tokens": 9}})
END = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5}) + event("message_stop")
CALL_END = END.replace(b"end_turn", b"tool_use")


def block(index, start, *deltas):
    out = event("content_block_start", index=index, content_block=start)
    out += b"".join(event("content_block_delta", index=index, delta=delta) for delta in deltas)
    return out + event("content_block_stop", index=index)


def text_block(text, index=0):
    return block(index, {"type": "text", "text": ""}, {"type": "text_delta", "text": text})


def started(**fields):
    return event("response.created", response={"id": "r", "model": "c", "status": "in_progress", **fields})


def completed(status="completed", output=(), **fields):
    kind = "response.incomplete" if status == "incomplete" else "response.completed"
    return event(kind, response={"id": "r", "status": status, "output": list(output), **fields})


def text_item(text, index=0):
    part = {"type": "output_text", "text": text, "annotations": []}
    return (
        event("response.output_item.added", output_index=index, item={"type": "message", "content": []})
        + event("response.output_text.delta", output_index=index, content_index=0, delta=text)
        + event("response.output_item.done", output_index=index, item={"type": "message", "content": [part]})
    )


WHOLE = {"openai": HI + STOP + DONE, "anthropic": START + text_block("Hi") + END,
         "responses": started() + text_item("Hi") + completed()}  # fmt: skip
EACH_DIALECT = pytest.mark.parametrize("dialect", list(WHOLE))


AROUND = {
    "empty data": lambda body: b"data:\n\n" + body,
    "comments": lambda body: b": ping\n\n\n\n" + body,
    "empty events": lambda body: b"data: \n\n" + body.replace(b"\n\n", b"\n\ndata:\n\n"),
    "no last blank line": lambda body: body.rstrip(),
    "one newline at the end": lambda body: body.rstrip() + b"\n",
    "CRLF": lambda body: body.replace(b"\n", b"\r\n"),
    "byte order mark": lambda body: b"\xef\xbb\xbf" + body,
    "error empty": lambda body: body.replace(b'data: {"', b'data: {"error": "", "'),
    "error null": lambda body: body.replace(b'data: {"', b'data: {"error": null, "'),
    "error an empty object": lambda body: body.replace(b'data: {"', b'data: {"error": {}, "'),
    "null as a heartbeat": lambda body: b"data: null\n\n" + body.replace(b"\n\n", b"\n\ndata: []\n\n"),
    "a heartbeat with a name": lambda body: b"event: ping\ndata: ping\n\n" + body,
    "a heartbeat with null": lambda body: b"event: keepalive\ndata: null\n\n" + body,
    "error of empty fields": lambda body: body.replace(b'data: {"', b'data: {"error": {"code": 0, "message": ""}, "'),
    "error of nulls": lambda body: body.replace(b'data: {"', b'data: {"error": {"code": null, "details": []}, "'),
    "error false": lambda body: body.replace(b'data: {"', b'data: {"error": false, "'),
    "index a string": lambda body: body.replace(b'index": 0', b'index": "0"'),
    "index null": lambda body: body.replace(b'index": 0', b'index": null'),
    "id a number": lambda body: body.replace(b'"id": "', b'"id": 7, "ids": "'),
    "no blank behind data": lambda body: body.replace(b"data: ", b"data:"),
    "one newline between events": lambda body: body.replace(b"\n\n", b"\n") + b"\n",
    "one newline between events, none at the end": lambda body: body.replace(b"\n\n", b"\n").rstrip(),
    "data twice": lambda body: body.replace(b"data: ", b"data: data: "),
    "data twice with empty lines": lambda body: (
        b"".join(line.replace(b"data: ", b"data: data: ") + b"data: \ndata: \n\n" for line in body.split(b"\n\n")[:-1])
        .replace(b"}data", b"}\ndata")
        .replace(b"]data", b"]\ndata")
    ),
    "garbage behind the end": lambda body: body + b"data: not JSON, behind the end\n\n",
}


@EACH_DIALECT
@pytest.mark.parametrize("how", AROUND)
def test_what_surrounds_an_answer_costs_nothing(dialect, how):
    assert read(AROUND[how](WHOLE[dialect]), dialect).text == "Hi"


@EACH_DIALECT
def test_a_last_event_that_is_cut_off_is_no_evidence(dialect):
    reader = reading(dialect)
    whole = {"openai": HI + STOP}.get(dialect, WHOLE[dialect])
    read_all(reader, whole.rstrip()[:-1])
    assert not reader.finished


@EACH_DIALECT
@pytest.mark.parametrize("behind", [b"", b"begun"])
@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b'data: {"error": {"type": "overloaded_error", "message": "x"}}', e.ServerError),
        (b'data: {"error": {"message": "x"}}', e.ServerError),
        (b'data: {"error": {"error": {"code": "insufficient_quota", "message": "x"}}}', e.QuotaExhausted),
        (b'data: {"error": {"error": {"error": {"code": "insufficient_quota"}}}}', e.QuotaExhausted),
        (b'data: {"error": "{\\"error\\": {\\"code\\": \\"insufficient_quota\\"}}"}', e.QuotaExhausted),
        (b'data: {"error": "out of order"}', e.ServerError),
        (b'error: {"code": 503, "message": "x", "type": "unavailable_error"}', e.ServerError),
        (b'error: {"error": {"code": "insufficient_quota"}}', e.QuotaExhausted),
        (b"error: out of order", e.ServerError),
        (b'event: error\ndata: {"code": "insufficient_quota", "message": "x"}', e.QuotaExhausted),
        (b"event: error\ndata: out of order", e.ServerError),
        (b'data: {"type": "error", "error": {"type": "rate_limit_error", "message": "x"}}', e.RateLimited),
    ],
    ids=repr,
)
def test_an_error_in_any_shape_is_a_typed_error(dialect, behind, line, kind):
    begun = WHOLE[dialect].partition(b"Hi")[0].rpartition(b"\n\n")[0] + b"\n\n" if behind else b""
    assert type(failure(begun + line + b"\n\n", dialect)) is kind
    assert type(failure(begun + line, dialect)) is kind


@EACH_DIALECT
@pytest.mark.parametrize("place", ["first", "in the middle", "alone"])
@pytest.mark.parametrize(
    "shape",
    [
        {"error_type": "rate_limit_error", "error_message": "x"},
        {"object": "error", "message": "x", "code": 429},
        {"object": "error", "message": "x", "type": "TooManyRequests", "code": 429},
        {"message": "x", "code": "rate_limit_exceeded", "data": None},
        {"status": 429, "message": "x"},
        {"errors": [{"message": "x"}], "code": 429},
        {"detail": "x", "code": 429},
        {"base_resp": {"status_code": 1002, "status_msg": "x"}},
    ],
    ids=repr,
)
def test_an_error_that_is_not_wrapped_is_an_error(dialect, place, shape):
    if place == "alone":
        reader = reading(dialect)
        reader.feed_whole(json.dumps(shape).encode())
        assert type(Failures(provider="p").of_event(reader.error, headers={})) is e.RateLimited
        return
    head = WHOLE[dialect].partition(b"Hi")[0].rpartition(b"\n\n")[0] + b"\n\n" if place != "first" else b""
    # What follows is no evidence of a success.
    assert type(failure(head + data(shape) + WHOLE[dialect], dialect)) is e.RateLimited


@EACH_DIALECT
def test_a_surrogate_pair_may_be_split_over_two_deltas(dialect):
    whole = WHOLE[dialect]
    head, _, rest = whole.partition(b"Hi")
    begin = head.rpartition(b"\n\n")[0] + b"\n\n"
    piece = head.removeprefix(begin) + b"%s" + rest.partition(b"\n\n")[0] + b"\n\n"
    behind = rest.partition(b"\n\n")[2].replace(b"Hi", b"\\ud83d\\ude00")
    assert read(begin + piece % b"\\ud83d" + piece % b"\\ude00" + behind, dialect).text == "\U0001f600"
    lonely = begin + piece % b"\\ud83d" + behind.replace(b"\\ude00", b"")
    assert read(lonely, dialect).text == "\ufffd"


@EACH_DIALECT
@pytest.mark.parametrize("first", ['{"a": "\\ud83d', '{"a": "'])
def test_arguments_may_be_cut_within_an_escape(dialect, first):
    pieces = [first, '\\ude00"}'] if "ud83d" in first else [first + "\\ud8", '3d\\ude00"}']
    quoted = [json.dumps(piece) for piece in pieces]
    assert only_call(with_arguments(dialect, *quoted), dialect)[1] == "".join(pieces)


def with_arguments(dialect, *quoted):
    """An answer that calls `w`, its arguments in the JSON strings *quoted*."""
    if dialect == "openai":
        out = call(index=0, id="c", function={"name": "w", "arguments": ""})
        out += b"".join(call(index=0, function={"arguments": "@"}).replace(b'"@"', one.encode()) for one in quoted)
        return out + chunk({}, "tool_calls") + DONE
    if dialect == "anthropic":
        deltas = [{"type": "input_json_delta", "partial_json": number} for number in range(len(quoted))]
        out = START + block(0, {"type": "tool_use", "id": "c", "name": "w", "input": {}}, *deltas) + CALL_END
        for number, one in enumerate(quoted):
            out = out.replace(b'"partial_json": %d' % number, b'"partial_json": ' + one.encode())
        return out
    item = {"type": "function_call", "call_id": "c", "name": "w", "arguments": ""}
    out = started() + event("response.output_item.added", output_index=0, item=item)
    for one in quoted:
        out += event("response.function_call_arguments.delta", output_index=0, delta="@").replace(b'"@"', one.encode())
    return out + event("response.output_item.done", output_index=0, item=item) + completed()


@EACH_DIALECT
@pytest.mark.parametrize(
    ("pieces", "arguments"),
    [
        (['"{}"', '"{\\"a\\": 1}"'], '{"a": 1}'),
        (['"{}"'], "{}"),
        (['""'], "{}"),
        ([], "{}"),
        (["null", '"{\\"a\\""', '": 1}"'], '{"a": 1}'),
    ],
    ids=repr,
)
def test_arguments_in_odd_pieces_are_whole(dialect, pieces, arguments):
    assert only_call(with_arguments(dialect, *pieces), dialect) == ("w", arguments)


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "Hi", "tool_calls": [None]},
        {"content": "Hi", "tool_calls": []},
        {"content": "Hi", "tool_calls": None},
        {"content": "Hi", "tool_calls": [{"index": 0, "id": "", "function": {"name": "", "arguments": ""}}]},
        {"content": "Hi", "function_call": {"name": "", "arguments": ""}},
        {"content": "Hi", "function_call": {}},
        {"content": "Hi", "role": 5, "refusal": ""},
        {"content": ["Hi"]},
        {"content": [{"type": "text", "text": "Hi"}]},
        {"content": {"type": "text", "text": "Hi"}},
    ],
    ids=repr,
)
def test_an_odd_delta_costs_no_answer(delta):
    response = read(chunk(delta) + STOP + DONE)
    assert (response.text, response.tool_calls) == ("Hi", ())


@pytest.mark.parametrize("reasoning", [{"text": "hm"}, {"content": "hm"}, ["hm"], [{"summary": "hm"}], "hm"])
@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_may_be_an_object(field, reasoning):
    reader = reading("openai")
    response, events = concluded(reader, read_all(reader, chunk({field: reasoning}) + HI + STOP))
    assert (response.reasoning, response.text) == ("hm", "Hi")
    assert ReasoningDelta("hm") in events


@pytest.mark.parametrize("index", [0, "0", 0.0, None], ids=repr)
def test_a_call_may_be_numbered_oddly(index):
    first = call(index=index, id="c", function={"name": "w", "arguments": '{"a"'})
    rest = call(index=index, function={"arguments": ": 1}"})
    assert only_call(first + rest + chunk({}, "tool_calls")) == ("w", '{"a": 1}')


@pytest.mark.parametrize(
    "names", [["get_", "weather"], ["get_weather", "get_weather"], ["get_", "get_weather"], ["get_weather", ""]]
)
def test_a_function_name_may_come_in_pieces(names):
    body = b"".join(call(index=0, id="c", function={"name": name, "arguments": ""}) for name in names)
    body += call(index=0, function={"arguments": "{}"}) + chunk({}, "tool_calls")
    assert only_call(body) == ("get_weather", "{}")


def test_the_legacy_function_call_is_a_call():
    body = chunk({"function_call": {"name": "w", "arguments": ""}}) + chunk({"function_call": {"arguments": '{"a":1}'}})
    response = read(body + chunk({}, "function_call"))
    assert [(made.name, made.arguments) for made in response.tool_calls] == [("w", '{"a":1}')]
    assert response.finish_reason == "tool_calls"


COUNTS = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}


@pytest.mark.parametrize(
    "last",
    [
        chunk({}, "stop", usage=COUNTS),
        STOP + data({"choices": [], "usage": COUNTS}),
        STOP + data({"choices": None, "usage": COUNTS}),
        chunk({}, "stop", x_groq={"id": "q", "usage": COUNTS}),
        STOP.replace(b'"finish_reason"', b'"usage": ' + json.dumps(COUNTS).encode() + b', "finish_reason"'),
        chunk({}, "stop", usage=COUNTS) + data({"choices": [], "usage": dict.fromkeys(COUNTS, 0)}),
        chunk({}, "stop", usage=COUNTS) + data({"choices": [], "usage": None}),
        chunk({}, "stop", usage=COUNTS) + data({"choices": [], "usage": {}}),
        chunk({}, usage={**COUNTS, "completion_tokens": 1, "total_tokens": 10}) + chunk({}, "stop", usage=COUNTS),
    ],
    ids=repr,
)
def test_usage_is_found_wherever_it_stands(last):
    usage = read(HI + last + DONE).usage
    assert (usage.input_tokens, usage.output_tokens) == (9, 5)


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("stop", "stop"), ("STOP", "stop"), ("eos_token", "stop"), ("end_turn", "stop"), ({"type": "stop"}, "stop"),
        ("length", "length"), ("MAX_TOKENS", "length"), ("model_length", "length"),
        ("sensitive", "content_filter"), ("content_filter", "content_filter"), ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"), ("refusal", "content_filter"),
    ],
    ids=repr,
)  # fmt: skip
def test_a_known_finish_reason_is_one_of_ours_and_its_word_is_kept(word, meaning):
    response = read(HI + chunk({}, word) + DONE)
    assert response.finish_reason == meaning
    assert response.raw_finish_reason == (word["type"] if isinstance(word, dict) else word)


def test_a_null_finish_reason_is_none():
    response = read(chunk({"content": "H"}, "null") + chunk({"content": "i"}, "null") + chunk({}, "stop") + DONE)
    assert (response.text, response.finish_reason) == ("Hi", "stop")


UNKNOWN = ["network_error", "abort", "MALFORMED_FUNCTION_CALL", "error", "cancelled", "OTHER", "new_in_2031", 5, [1]]


@pytest.mark.parametrize("word", UNKNOWN, ids=repr)
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("unary", [True, False])
def test_an_unknown_finish_reason_is_the_providers_failure_and_its_word_is_kept(dialect, word, unary):
    reader = reading(dialect)
    if unary:
        whole = {"openai": {"choices": [{"message": {"content": "Hi"}, "finish_reason": word}]},
                 "anthropic": {"content": [{"type": "text", "text": "Hi"}], "stop_reason": word}}  # fmt: skip
        reader.feed_whole(json.dumps(whole[dialect]).encode())
    else:
        end = {"openai": chunk({}, word) + DONE, "anthropic": END.replace(b'"end_turn"', json.dumps(word).encode())}
        read_all(reader, WHOLE[dialect].partition(b"event: message_delta")[0].removesuffix(STOP + DONE) + end[dialect])
    assert not reader.finished
    error = Failures(provider="p").of_event(reader.error, headers={})
    assert type(error) is e.ServerError
    assert str(word).strip("[]") in error.code


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        ("incomplete", "new_in_2031", e.ServerError),
        ("incomplete", None, e.ServerError),
        ("cancelled", None, e.ServerError),
        ("queued", None, e.ServerError),
        ("in_progress", None, e.ServerError),
    ],
    ids=repr,
)
def test_a_response_that_ended_oddly_is_the_providers_failure(status, reason, kind):
    body = started() + text_item("Hi") + completed(status, incomplete_details=reason and {"reason": reason})
    error = failure(body, "responses")
    assert type(error) is kind
    assert error.code == (reason or status)


def test_a_failed_response_is_typed_by_its_code():
    body = started() + event(
        "response.failed", response={"id": "r", "status": "failed", "error": {"code": "rate_limit_exceeded"}}
    )
    assert type(failure(body, "responses")) is e.RateLimited


def test_other_choices_than_the_first_are_left():
    other = chunk({"content": "no"}).replace(b'"index": 0', b'"index": 1')
    assert read(other + HI + other + STOP).text == "Hi"


def test_fields_that_nothing_reads_are_kept_from_any_event():
    body = chunk({"content": "a"}) * 9 + chunk({"executed_tools": [{"x": 1}]}) + chunk({"executed_tools": [{"y": 2}]})
    body += chunk({"content": "b"}) + STOP
    response = read(body)
    assert response.text == "a" * 9 + "b"
    assert response.provider_details["message"]["executed_tools"] == [{"x": 1}, {"y": 2}]


@pytest.mark.parametrize("output", [0, "x", None, [], [None], [5], {}, [{}]], ids=repr)
def test_the_output_that_the_last_event_repeats_may_be_odd(output):
    end = event("response.completed", response={"id": "r", "status": "completed", "output": output})
    assert read(started() + text_item("Hi") + end, "responses").text == "Hi"


@pytest.mark.parametrize(
    ("deltas", "resets"), [(["Hel"], 0), (["Hello ", "there"], 0), (["Hello ", "re"], 1), (["x"], 1), ([], 0)], ids=repr
)
@pytest.mark.parametrize("before", [b"", text_item("First. ", 7)], ids=["alone", "second"])
def test_the_text_of_an_item_is_whole_although_deltas_were_lost(deltas, resets, before):
    body = started() + before
    body += event("response.output_item.added", output_index=8, item={"type": "message", "content": []})
    for piece in deltas:
        body += event("response.output_text.delta", output_index=8, content_index=0, delta=piece)
    done = {"type": "message", "content": [{"type": "output_text", "text": "Hello there"}]}
    body += event("response.output_item.done", output_index=8, item=done) + completed()
    reader = reading("responses")
    response, events = concluded(reader, read_all(reader, body))
    assert response.text == ("First. " if before else "") + "Hello there"
    assert len([seen for seen in events if isinstance(seen, Reset)]) == resets
    assert shown(events) == response.text


def shown(events):
    """The text that a consumer holds at the end: a reset takes back what came before it."""
    text = ""
    for seen in events:
        text = "" if isinstance(seen, Reset) else text + seen.text if isinstance(seen, TextDelta) else text
    return text


def test_an_answer_that_stands_in_the_last_event_only_is_read():
    item = {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}
    assert read(started() + completed(output=[item]), "responses").text == "Hi"
    assert read(completed(output=[item]), "responses").text == "Hi"


@pytest.mark.parametrize("piece", [[{"type": "input_json_delta", "partial_json": ""}], []])
def test_a_call_without_input_has_an_empty_object(piece):
    body = START + block(0, {"type": "tool_use", "id": "c", "name": "w", "input": {}}, *piece) + CALL_END
    assert only_call(body, "anthropic") == ("w", "{}")


def test_a_whole_answer_may_stand_in_message_start():
    message = {"id": "m", "model": "c", "content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn"}
    body = event("message_start", message=message) + event("message_stop")
    assert read(body, "anthropic").text == "Hi"
    body = event("message_start", message=message | {"content": "Hi"}) + END
    assert read(body, "anthropic").text == "Hi"


@pytest.mark.parametrize("begun", [text_block("Hel"), text_block("Hel")[:-60], b""])
def test_a_second_message_start_begins_again_with_a_reset(begun):
    reader = reading("anthropic")
    response, events = concluded(reader, read_all(reader, START + begun + START + text_block("Hi") + END))
    assert response.text == "Hi"
    assert [seen.discarded.text for seen in events if isinstance(seen, Reset)] == (["Hel"] if begun else [])


def test_a_second_response_created_begins_again_with_a_reset():
    again = started().replace(b'"r"', b'"r2"') + text_item("Hi") + completed().replace(b'"r"', b'"r2"')
    reader = reading("responses")
    response, events = concluded(reader, read_all(reader, started() + text_item("Hel") + again))
    assert (response.text, response.id) == ("Hi", "r2")
    assert [seen.discarded.text for seen in events if isinstance(seen, Reset)] == ["Hel"]


def test_a_second_response_created_with_the_same_id_begins_again():
    reader = reading("responses")
    body = started() + text_item("Hel") + started() + text_item("Hi") + completed()
    response, events = concluded(reader, read_all(reader, body))
    assert response.text == "Hi"
    assert [seen.discarded.text for seen in events if isinstance(seen, Reset)] == ["Hel"]


def test_reasoning_that_its_item_repeats_is_read_once():
    item = {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "hm"}]}
    delta = event("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="hm")
    body = started() + delta + event("response.output_item.done", output_index=0, item=item)
    assert read(body + text_item("Hi", 1) + completed(), "responses").reasoning == "hm"


@pytest.mark.parametrize("deltas", [[], ['{"a"', ":1}"], ["{}"]], ids=len)
def test_the_input_of_a_call_may_stand_in_its_start(deltas):
    pieces = [{"type": "input_json_delta", "partial_json": piece} for piece in deltas]
    start = {"type": "tool_use", "id": "t", "name": "w", "input": {"a": 1}}
    body = START + block(0, start, *pieces) + CALL_END
    assert only_call(body, "anthropic") == ("w", '{"a":1}')


def test_an_error_inside_a_choice_is_typed_by_its_code():
    error = {"code": 429, "message": "slow"}
    body = HI + data(
        json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "error", "error": error}]}).encode()
    )
    assert isinstance(failure(body), e.RateLimited)


def test_citations_stay_with_the_text_that_they_support():
    cited = {"type": "page_location", "cited_text": "x", "document_title": "d"}
    delta = {"type": "citations_delta", "citation": cited}
    body = START + block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Hi"}, delta)
    body += text_block("there", 1) + END
    first, second = read(body, "anthropic").content
    assert [(part.text, [one.raw for one in part.citations]) for part in (first, second) if isinstance(part, Text)] == [
        ("Hi", [cited]),
        ("there", []),
    ]


def test_a_compaction_is_kept_whole():
    delta = {"type": "compaction_delta", "content": "so "}
    body = block(0, {"type": "compaction", "content": None}, delta, {**delta, "content": "far"})
    [kept] = read(START + body + END, "anthropic").content
    assert kept.block == {"type": "compaction", "content": "so far"}


@pytest.mark.parametrize(
    "shape",
    [{"error": {"message": "x"}}, {"error": {"type": None, "message": "x"}}, {"type": None, "error": {"message": "x"}}],
)
def test_an_error_without_a_type_is_an_error(shape):
    error = failure(START + data(shape), "anthropic")
    assert (type(error), str(error.message)) == (e.ServerError, "x")


def test_usage_is_reported_once_for_each_new_figure():
    reader = reading("anthropic")
    events = read_all(reader, START + text_block("Hi") + END)
    assert [
        (seen.usage.input_tokens, seen.usage.output_tokens) for seen in events if isinstance(seen, UsageReport)
    ] == [
        (9, 0),
        (9, 5),
    ]


@pytest.mark.parametrize("more", [{}, {"stop_reason": None}, {"stop_reason": ""}])
def test_a_document_without_a_stop_reason_is_a_whole_answer(more):
    reader = reading("anthropic")
    reader.feed_whole(json.dumps({"id": "m", "content": [{"type": "text", "text": "Hi"}], **more}).encode())
    response, _ = concluded(reader, [])
    assert (response.text, response.finish_reason) == ("Hi", "stop")
