"""What an answer has beside its text and calls: each field is kept once, where a user finds it."""

from __future__ import annotations

import json

import pytest
from llm.spoken import DONE, chunk, concluded, data, event, read_all, reading

from clawft_trio.chat import Citation, Opaque, Reset

STOP = chunk({}, "stop")
HI = chunk({"content": "Hi"})


def read(body, dialect="openai"):
    reader = reading(dialect)
    return concluded(reader, read_all(reader, body))[0]


def with_choice(finish=None, delta=None, **fields):
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish, **fields}
    return data({"id": "c1", "model": "m1", "choices": [choice]})


def test_log_probabilities_of_all_pieces_are_joined():
    first, second = {"content": [{"token": "H"}], "refusal": None}, {"content": [{"token": "i"}], "refusal": [1]}
    body = HI + with_choice(logprobs=first) + with_choice(logprobs=second) + with_choice(logprobs=3) + STOP + DONE
    assert read(body).provider_details["logprobs"] == {"content": [{"token": "H"}, {"token": "i"}], "refusal": [1]}


def test_log_probabilities_count_against_the_longest_answer():
    reader = reading("openai")
    reader.feed(HI)
    before = reader.answer.kept
    reader.feed(with_choice(logprobs={"content": [{"token": "H"}, {"token": "i"}]}))
    assert reader.answer.kept == before + 200


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([[1], [2]], [1, 2]),
        ([{"a": 1}, {"b": 2}], {"a": 1, "b": 2}),
        ([{"a": 1}, {"a": 2}], {"a": 2}),
        (["x", "y"], "y"),
        (["x", None, ""], "x"),
        (["x", "x"], "x"),
        ([[1], {"a": 1}], {"a": 1}),
        ([["\ud800"]], ["\ufffd"]),
    ],
    ids=repr,
)
def test_a_field_that_nothing_reads_grows_or_is_replaced(values, kept):
    body = HI + b"".join(with_choice(delta={"odd": value}) for value in values) + STOP + DONE
    assert read(body).provider_details["message"]["odd"] == kept
    body = HI + b"".join(with_choice(odd=value) for value in values) + STOP + DONE
    assert read(body).provider_details["choice"]["odd"] == kept


def test_fields_that_are_read_are_not_kept_twice():
    details = read(HI + chunk({"content": "!", "reasoning": "r"}, service_tier="flex") + STOP + DONE).provider_details
    assert not {"id", "object", "model", "choices", "error", "service_tier"} & details.keys()
    assert not {"content", "reasoning"} & details.get("message", {}).keys()
    assert not {"index", "delta", "finish_reason"} & details.get("choice", {}).keys()


def test_the_service_tier_and_the_fields_of_the_last_event_are_kept():
    last = chunk({}, "stop", service_tier="flex", created=7, usage={"prompt_tokens": 3, "completion_tokens": 1})
    response = read(HI + last + DONE)
    assert response.service_tier == "flex"
    assert response.provider_details["created"] == 7
    assert response.provider_details["usage"]["prompt_tokens"] == 3
    zeros = data({"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}})
    assert read(HI + last + zeros + DONE).provider_details["usage"]["prompt_tokens"] == 3
    in_choice = read(HI + with_choice("stop", usage={"prompt_tokens": 4}) + DONE)
    assert (in_choice.provider_details["usage"], in_choice.usage.input_tokens) == ({"prompt_tokens": 4}, 4)


def test_results_of_a_content_filter_are_kept():
    results = {"hate": {"filtered": False}}
    response = read(HI + with_choice(content_filter_results=results) + STOP + DONE)
    assert response.provider_details["choice"]["content_filter_results"] == results


@pytest.mark.parametrize("name", ["images", "audio"])
def test_pictures_and_sounds_of_several_events_are_kept(name):
    response = read(chunk({name: [{"a": 1}]}) + chunk({name: [{"b": 2}]}) + HI + STOP + DONE)
    assert response.provider_details[name] == [{"a": 1}, {"b": 2}]


CITED = {"url": "https://a.example", "title": "A", "content": "quoted"}


@pytest.mark.parametrize(
    ("annotation", "citation"),
    [
        (
            {"type": "url_citation", "url_citation": CITED},
            {"url": "https://a.example", "title": "A", "quote": "quoted"},
        ),
        ({"type": "url_citation", **CITED}, {"url": "https://a.example", "title": "A", "quote": "quoted"}),
        (CITED, {"url": "https://a.example", "title": "A", "quote": "quoted"}),
        ({"type": 3, "title": "A"}, {"title": "A"}),
        ("https://a.example", {"title": "https://a.example", "raw": {"value": "https://a.example"}}),
        (7, {"title": "7", "raw": {"value": 7}}),
    ],
    ids=repr,
)
def test_an_annotation_of_any_shape_is_a_citation(annotation, citation):
    raw = {"raw": annotation} if isinstance(annotation, dict) else {}
    (found,) = read(HI + chunk({"annotations": [annotation, None]}) + STOP + DONE).citations
    assert found == Citation(dialect="openai", **{**raw, **citation})


def test_annotations_that_are_no_list_are_kept_as_they_are():
    response = read(HI + chunk({"annotations": {"a": 1}}) + STOP + DONE)
    assert (response.citations, response.provider_details["annotations"]) == ((), {"a": 1})


@pytest.mark.parametrize(
    ("content", "text", "reasoning"),
    [
        ([{"type": "thinking", "thinking": [{"text": "hm"}]}, {"type": "text", "text": "Hi"}], "Hi", "hm"),
        ([{"text": "a"}, "b", {"text": {"value": "c"}}], "abc", ""),
        ({"text": "a"}, "a", ""),
        ([{"text": ""}, {"text": "a"}], "a", ""),
    ],
    ids=repr,
)
def test_content_in_parts_is_text_and_reasoning(content, text, reasoning):
    response = read(chunk({"content": content}) + STOP + DONE)
    assert (response.text, response.reasoning) == (text, reasoning)
    assert "content" not in response.provider_details
    part = {"type": "reference", "ids": [1]}
    assert read(HI + chunk({"content": [part]}) + STOP + DONE).provider_details["content"] == [part]


@pytest.mark.parametrize("content", [3, True, 1.5])
def test_content_that_is_a_number_breaks_the_answer(content):
    reader = reading("openai")
    read_all(reader, chunk({"content": content}) + STOP + DONE)
    assert "the content is of the type" in reader.violation


def test_a_call_without_anything_is_passed_over():
    empty = chunk({"tool_calls": [{"index": 0, "id": None, "function": {"name": None, "arguments": ""}}, {"index": 1}]})
    assert read(HI + empty + STOP + DONE).tool_calls == ()


def test_the_id_and_model_are_those_of_the_first_events_that_have_them():
    anonymous = data({"id": "", "model": "", "choices": []})
    named = data({"id": "c2", "model": "m2", "choices": [{"index": 0, "delta": {"content": "Hi"}}]})
    later = data({"id": "c3", "model": "m3", "choices": [{"index": 0, "delta": {"content": "!"}}]})
    response = read(anonymous + named + later + STOP + DONE)
    assert (response.id, response.model, response.text) == ("c2", "m2", "Hi!")
    assert read(anonymous * 3 + named + STOP + DONE).id == "c2"
    assert read(anonymous * 4 + named + STOP + DONE).model == "m"


START = event("message_start", message={"id": "m", "model": "c", "content": [], "usage": {"input_tokens": 9}})
END = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5}) + event("message_stop")


def block(index, start, *deltas):
    out = event("content_block_start", index=index, content_block=start)
    out += b"".join(event("content_block_delta", index=index, delta=delta) for delta in deltas)
    return out + event("content_block_stop", index=index)


SEEN = {"type": "web_search_result_location", "url": "u", "title": "t", "cited_text": "q"}


@pytest.mark.parametrize(
    ("raw", "citation"),
    [
        (SEEN, {"url": "u", "title": "t", "quote": "q"}),
        ({"source": "s", "document_title": "d"}, {"url": "s", "title": "d"}),
        ({"url": "u", "source": "s", "title": "t", "document_title": "d"}, {"url": "u", "title": "t"}),
    ],
)
def test_citations_of_anthropic_come_with_a_block_or_by_its_deltas(raw, citation):
    expected = Citation(dialect="anthropic", raw=raw, **citation)
    begun = block(0, {"type": "text", "text": "Hi", "citations": [raw]})
    added = block(0, {"type": "text", "text": "Hi"}, {"type": "citations_delta", "citation": raw})
    single = block(0, {"type": "text", "text": "Hi", "citations": raw})
    for body in (begun, added, single):
        response = read(START + body + END, "anthropic")
        assert (response.text, response.citations) == ("Hi", (expected,))
    assert (
        read(START + block(0, {"type": "text", "text": "Hi", "citations": [3, None]}) + END, "anthropic").citations
        == ()
    )


@pytest.mark.parametrize("index", [0, None])
def test_blocks_without_an_index_are_read_in_their_order(index):
    body = START + block(index, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Hi"})
    body += block(
        index, {"type": "tool_use", "id": "t", "name": "look"}, {"type": "input_json_delta", "partial_json": "{}"}
    )
    response = read(body + END.replace(b"end_turn", b"tool_use"), "anthropic")
    assert (response.text, [(call.id, call.arguments) for call in response.tool_calls]) == ("Hi", [("t", "{}")])


@pytest.mark.parametrize(
    ("deltas", "arguments"),
    [
        ((), '{"a":1}'),
        (("{}",), '{"a":1}'),
        (("",), '{"a":1}'),
        (('{"b":2}',), '{"b":2}'),
        (('{"b"', ":2}"), '{"b":2}'),
    ],
)
def test_the_input_at_the_start_of_a_call_counts_unless_deltas_bring_one(deltas, arguments):
    start = {"type": "tool_use", "id": "t", "name": "look", "input": {"a": 1}}
    pieces = [{"type": "input_json_delta", "partial_json": piece} for piece in deltas]
    body = START + block(0, start, *pieces) + END.replace(b"end_turn", b"tool_use")
    assert [call.arguments for call in read(body, "anthropic").tool_calls] == [arguments]


def test_arguments_for_no_call_break_the_answer_and_empty_ones_do_not():
    for piece, broken in (("{}", True), ("", False)):
        reader = reading("anthropic")
        read_all(reader, START + event("content_block_delta", index=3, delta={"type": "input_json_delta", "partial_json": piece}) + END)  # fmt: skip
        assert bool(reader.violation) is broken


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"type": "error", "error": {"message": "m"}, "request_id": "r"}, {"error": {"message": "m"}, "request_id": "r"}),
        ({"error": {"message": "m"}}, {"error": {"message": "m"}, "request_id": None}),
        ({"type": "error", "message": "m"}, {"error": {"type": "error", "message": "m"}, "request_id": None}),
        ({"detail": "m", "request_id": "r"}, {"error": {"detail": "m", "request_id": "r"}, "request_id": "r"}),
    ],
)  # fmt: skip
def test_a_whole_body_of_anthropic_may_be_an_error(body, error):
    reader = reading("anthropic")
    reader.feed_whole(json.dumps(body).encode())
    assert (reader.error, reader.ended) == (error, True)


@pytest.mark.parametrize(
    ("content", "read_as"), [(3, None), (None, None), ("", ""), ([], ""), ([{"type": "text", "text": "a"}, "b"], "ab")]
)
def test_the_content_of_a_whole_message_is_text_or_blocks(content, read_as):
    reader = reading("anthropic")
    reader.feed_whole(json.dumps({"type": "message", "content": content}).encode())
    if read_as is None:
        assert reader.violation == "the answer has no content"
    else:
        response = reader.answer.whole("stop")
        assert (response.text, reader.answer.finish_reason, reader.finished) == (read_as, "stop", True)


def test_the_usage_of_anthropic_is_kept_as_it_grew():
    more = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5, "input_tokens": None, "service_tier": "batch"})  # fmt: skip
    response = read(START + block(0, {"type": "text", "text": "Hi"}) + more + event("message_stop"), "anthropic")
    assert response.provider_details["usage"] == {"input_tokens": 9, "output_tokens": 5, "service_tier": "batch"}
    assert (response.service_tier, response.usage.input_tokens, response.usage.output_tokens) == ("batch", 9, 5)
    assert (response.id, response.model) == ("m", "c")


def responses_start(**fields):
    return event("response.created", response={"id": "r", "model": "c", "status": "in_progress", **fields})


def responses_end(status="completed", output=(), **fields):
    kind = "response.incomplete" if status == "incomplete" else "response.completed"
    return event(kind, response={"id": "r", "status": status, "output": list(output), **fields})


def done(index, item):
    return event("response.output_item.done", output_index=index, item=item)


def said(*parts, **fields):
    return {"type": "message", "content": list(parts), **fields}


PART = {"type": "output_text", "text": "Hi"}


@pytest.mark.parametrize(
    ("annotation", "citation"),
    [
        ({"type": "url_citation", "url": "u", "title": "t"}, {"url": "u", "title": "t"}),
        ({"type": "file_citation", "filename": "f"}, {"title": "f"}),
        ({"title": "t", "filename": "f"}, {"title": "t"}),
    ],
)
def test_citations_of_an_item_come_once_by_its_events_or_its_end(annotation, citation):
    expected = (Citation(dialect="responses", raw=annotation, **citation),)
    added = event("response.output_text.annotation.added", output_index=0, annotation=annotation)
    delta = event("response.output_text.delta", output_index=0, delta="Hi")
    with_end = done(0, said({**PART, "annotations": [annotation, 3]}))
    for body in (delta + added + done(0, said(PART)), delta + with_end, delta + added + with_end):
        assert read(responses_start() + body + responses_end(), "responses").citations == expected


@pytest.mark.parametrize("kind", ["output_text", "text", "refusal"])
def test_an_empty_part_of_a_message_is_not_kept(kind):
    body = done(0, said({"type": kind, "text": ""}, PART))
    assert "content" not in read(responses_start() + body + responses_end(), "responses").provider_details


def test_a_part_of_another_kind_and_the_probabilities_are_kept():
    part = {"type": "output_audio", "data": "x"}
    body = done(0, said(part, {**PART, "logprobs": [1]}, {**PART, "logprobs": [2]}, {**PART, "logprobs": None}))
    response = read(responses_start() + body + responses_end(), "responses")
    assert response.provider_details["content"] == [part]
    assert response.provider_details["logprobs"] == {"content": [1, 2]}
    assert response.text == "HiHiHi"


@pytest.mark.parametrize("field", ["summary_index", "content_index"])
def test_the_parts_of_one_reasoning_are_paragraphs(field):
    def thought(item, part, text):
        return event("response.reasoning_text.delta", output_index=item, **{field: part}, delta=text)

    body = thought(0, 0, "a") + thought(0, 0, "b") + thought(0, 1, "c") + thought(1, 0, "d")
    response = read(responses_start() + body + done(2, said(PART)) + responses_end(), "responses")
    assert response.reasoning == "ab\n\ncd"


@pytest.mark.parametrize(
    ("item", "reasoning"),
    [
        ({"summary": [{"text": "a"}, {"text": "b"}]}, "a\n\nb"),
        ({"content": [{"text": "a"}], "summary": [{"text": "b"}]}, "a"),
        ({"content": "a"}, "a"),
        ({"content": [], "summary": {"text": "b"}}, "b"),
        ({"content": None}, ""),
    ],
    ids=repr,
)
def test_reasoning_that_stands_in_the_item_only_is_read(item, reasoning):
    body = done(0, {"type": "reasoning", **item}) + done(1, said(PART))
    assert read(responses_start() + body + responses_end(), "responses").reasoning == reasoning


@pytest.mark.parametrize(
    ("shown", "whole", "resets"), [("Hi", "Hi", 0), ("H", "Hi", 0), ("Ho", "Hi", 1), ("Hi", "", 0)]
)
def test_the_text_of_an_item_that_ends_is_the_text_of_the_answer(shown, whole, resets):
    body = event("response.output_text.delta", output_index=0, delta=shown) + done(0, said({**PART, "text": whole}))
    reader = reading("responses")
    response, events = concluded(reader, read_all(reader, responses_start() + body + responses_end()))
    assert response.text == (whole or shown)
    assert sum(isinstance(seen, Reset) for seen in events) == resets


@pytest.mark.parametrize("kind", ["output_text", "function_call_arguments"])
def test_a_whole_text_or_whole_arguments_fill_in_missing_deltas_once(kind):
    call = {"type": "function_call", "call_id": "c", "name": "look", "arguments": ""}
    begun = event("response.output_item.added", output_index=0, item=call if "call" in kind else said())
    whole = event(f"response.{kind}.done", output_index=0, text='{"a":1}', arguments='{"a":1}')
    response = read(responses_start() + begun + whole + whole + responses_end(), "responses")
    assert (response.text or response.tool_calls[0].arguments) == '{"a":1}'


@pytest.mark.parametrize("piece", ["", "{}"])
def test_arguments_before_their_call_break_the_answer_only_if_there_are_any(piece):
    reader = reading("responses")
    read_all(reader, responses_start() + event("response.function_call_arguments.delta", output_index=0, delta=piece))
    assert bool(reader.violation) is bool(piece)


@pytest.mark.parametrize(
    ("status", "details", "reason"),
    [
        ("completed", None, "stop"),
        ("complete", None, "stop"),
        ("", None, "stop"),
        (None, 3, "stop"),
        ("incomplete", {"reason": "max_output_tokens"}, "length"),
        ("incomplete", {"reason": "content_filter"}, "content_filter"),
        ("incomplete", {"reason": "odd"}, None),
        ("incomplete", None, None),
        ("failed", None, None),
    ],
)
def test_the_status_of_a_response_is_its_finish_reason(status, details, reason):
    reader = reading("responses")
    whole = {"id": "r", "status": status, "incomplete_details": details, "output": [said(PART)]}
    reader.feed_whole(json.dumps(whole).encode())
    assert (reader.answer.finish_reason, reader.finished, reader.ended) == (reason, reason is not None, True)
    assert (reader.error is None) is (reason is not None)


@pytest.mark.parametrize(("stateful", "id_", "kept"), [(True, "r", True), (True, "", False), (False, "r", False)])
def test_the_id_of_a_stored_response_is_kept_for_the_next_request(stateful, id_, kept):
    reader = reading("responses", stateful=stateful)
    reader.feed_whole(json.dumps({"id": id_, "status": "completed", "output": [said(PART)]}).encode())
    content = reader.answer.whole("stop").content
    found = [part.block for part in content if isinstance(part, Opaque) and part.dialect == "responses:state"]
    assert found == ([{"response_id": "r"}] if kept else [])


@pytest.mark.parametrize("output", [None, 3, "x"])
def test_a_whole_response_has_a_list_or_an_object_of_output(output):
    reader = reading("responses")
    reader.feed_whole(json.dumps({"status": "completed", "output": output}).encode())
    assert reader.violation == "the answer has no output"
    single = reading("responses")
    single.feed_whole(json.dumps({"status": "completed", "output": said(PART)}).encode())
    assert single.answer.whole("stop").text == "Hi"
