"""Blocks and items of an answer that real servers repeat, number or fill in odd ways: each is read once and whole."""

import json

import pytest
from llm.spoken import DONE, chunk, concluded, data, event, read_all, reading
from llm.test_odd_shapes import CALL_END, END, START, block, completed, read, started, text_item

from clawft_trio import errors as e
from clawft_trio.chat import Opaque, Reset, ToolCallReady
from clawft_trio.llm.failures import Failures

WEATHER, TIME = ("weather", '{"in":"Oslo"}'), ("time", '{"in":"Rome"}')


def made(body, dialect):
    return [(call.name, call.arguments) for call in read(body, dialect).tool_calls]


def tool_block(index, call, id="t1"):
    start = {"type": "tool_use", "id": id, "name": call[0], "input": {}}
    return block(index, start, {"type": "input_json_delta", "partial_json": call[1]})


def call_item(call, id="c1"):
    return {"type": "function_call", "id": "i" + id, "call_id": id, "name": call[0], "arguments": call[1]}


def item_added(index, item):
    return event("response.output_item.added", output_index=index, item=item)


def item_done(index, item):
    return event("response.output_item.done", output_index=index, item=item)


def arguments(index, *pieces):
    kind = "response.function_call_arguments.delta"
    return b"".join(event(kind, output_index=index, delta=piece) for piece in pieces)


def call_stream(index, call, id="c1"):
    begun = item_added(index, call_item((call[0], ""), id))
    return begun + arguments(index, call[1]) + item_done(index, call_item(call, id))


@pytest.mark.parametrize("second", [WEATHER, TIME, ("weather", '{"in":"Rome"}')], ids=["same", "other", "same name"])
@pytest.mark.parametrize("index", [0, 1])
def test_each_tool_block_is_a_call_although_ids_and_indices_repeat(index, second):
    body = START + tool_block(0, WEATHER) + tool_block(index, second) + CALL_END
    assert made(body, "anthropic") == [WEATHER, second]


def test_a_start_that_is_repeated_within_an_open_block_is_one_call():
    start = event("content_block_start", index=0, content_block={"type": "tool_use", "id": "t", "name": "weather"})
    assert made(START + start + tool_block(0, WEATHER, "t") + CALL_END, "anthropic") == [WEATHER]


@pytest.mark.parametrize("second", [TIME, ("weather", '{"in":"Rome"}')], ids=["other", "same name"])
@pytest.mark.parametrize("id", ["c1", "c2"])
@pytest.mark.parametrize("index", [0, 1])
def test_each_function_item_is_a_call_although_ids_and_indices_repeat(index, id, second):
    output = [call_item(WEATHER), call_item(second, id)]
    body = started() + call_stream(0, WEATHER) + call_stream(index, second, id) + completed(output=output)
    assert made(body, "responses") == [WEATHER, second]


def test_arguments_in_the_start_of_an_item_and_in_its_deltas_are_read_once():
    body = item_added(0, call_item(WEATHER)) + arguments(0, *WEATHER[1]) + item_done(0, call_item(WEATHER))
    assert made(started() + body + completed(), "responses") == [WEATHER]


def test_arguments_that_stand_in_the_start_of_an_item_only_are_read():
    body = item_added(0, call_item(WEATHER)) + item_done(0, {"type": "function_call"})
    assert made(started() + body + completed(), "responses") == [WEATHER]


@pytest.mark.parametrize("pieces", ['{"in"', '"Oslo"}', '{"in""Oslo"}', "x"])
@pytest.mark.parametrize("told", ["event", "item", "response"])
def test_lost_pieces_of_arguments_are_corrected(pieces, told):
    whole = {"event": event("response.function_call_arguments.done", output_index=0, arguments=WEATHER[1]),
             "item": item_done(0, call_item(WEATHER)), "response": b""}[told]  # fmt: skip
    body = started() + item_added(0, call_item(("weather", ""))) + arguments(0, pieces) + whole
    reader = reading("responses")
    response, events = concluded(reader, read_all(reader, body + completed(output=[call_item(WEATHER)])))
    assert [(call.name, call.arguments) for call in response.tool_calls] == [WEATHER]
    (ready,) = (seen.call for seen in events if isinstance(seen, ToolCallReady))
    assert ready.arguments == WEATHER[1]
    # A consumer that has received other arguments is told to forget them.
    assert any(isinstance(seen, Reset) for seen in events) == (not WEATHER[1].startswith(pieces))


def test_complete_arguments_are_kept_although_the_item_spells_them_differently():
    spaced = json.dumps(json.loads(WEATHER[1]))
    body = item_added(0, call_item(("weather", ""))) + arguments(0, WEATHER[1])
    body += item_done(0, call_item(("weather", spaced)))
    assert made(started() + body + completed(), "responses") == [WEATHER]


@pytest.mark.parametrize("first", [0, 1, 7])
def test_the_last_event_repeats_items_under_other_indices_and_ids(first):
    body = started() + text_item("Hi", first) + call_stream(first + 1, WEATHER)
    message = {"type": "message", "id": "another", "content": [{"type": "output_text", "text": "Hi"}]}
    response = read(body + completed(output=[message, {**call_item(WEATHER), "id": "another"}]), "responses")
    assert response.text == "Hi"
    assert [(call.name, call.arguments) for call in response.tool_calls] == [WEATHER]


def test_an_item_that_only_the_last_event_has_is_read():
    message = {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}
    body = started() + text_item("Hi", 3) + completed(output=[message, call_item(WEATHER)])
    assert (read(body, "responses").text, made(body, "responses")) == ("Hi", [WEATHER])


def test_a_delta_before_the_start_of_its_item_is_read_once():
    early = event("response.output_text.delta", output_index=0, content_index=0, delta="Hi")
    message = {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}
    body = early + item_added(0, {"type": "message", "content": []}) + item_done(0, message)
    assert read(started() + body + completed(output=[message]), "responses").text == "Hi"


@pytest.mark.parametrize("deltas", [0, 1])
def test_text_that_stands_in_the_end_of_its_part_only_is_read(deltas):
    delta = event("response.output_text.delta", output_index=0, content_index=0, delta="Hi")
    done = event("response.output_text.done", output_index=0, content_index=0, text="Hi")
    body = started() + item_added(0, {"type": "message", "content": []}) + deltas * delta + done + completed()
    assert read(body, "responses").text == "Hi"


@pytest.mark.parametrize("citations", [True, 7, 1.5, "x", {}, {"type": "x"}, [None], [[]]], ids=repr)
def test_odd_citations_cost_no_answer(citations):
    body = START + block(0, {"type": "text", "text": "Hi", "citations": citations}) + END
    assert read(body, "anthropic").text == "Hi"


@pytest.mark.parametrize("logprobs", [True, 7, 1.5, "x", {"a": 1}, [None]], ids=repr)
def test_odd_logprobs_cost_no_answer(logprobs):
    part = {"type": "output_text", "text": "Hi", "logprobs": logprobs}
    body = started() + item_done(0, {"type": "message", "content": [part]}) + completed()
    assert read(body, "responses").text == "Hi"


@pytest.mark.parametrize(
    "content", ["Hi", {"type": "text", "text": "Hi"}, ["H", {"type": "text", "text": "i"}]], ids=repr
)
def test_the_content_of_a_message_may_be_text_or_one_block(content):
    reader = reading("anthropic")
    reader.feed_whole(json.dumps({"type": "message", "content": content, "stop_reason": "end_turn"}).encode())
    assert reader.answer.whole("stop").text == "Hi"


@pytest.mark.parametrize("field", ["tool_calls", "function_call", "refusal", "content"])
@pytest.mark.parametrize("value", [None, "", {}, []], ids=repr)
def test_an_empty_field_of_a_delta_counts_as_missing(field, value):
    body = chunk({"content": "Hi"}) + chunk({"reasoning": "x", field: value}) + chunk({}, "stop") + DONE
    assert read(body).text == "Hi"


def test_a_text_may_be_an_object_with_its_value():
    body = chunk({"content": [{"type": "text", "text": {"value": "Hi", "annotations": []}}]}) + chunk({}, "stop") + DONE
    assert read(body).text == "Hi"


@pytest.mark.parametrize(
    "delta",
    [{"images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]},
     {"audio": {"id": "a", "data": "aGk=", "transcript": "Hi"}},
     {"content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]}],
    ids=lambda delta: next(iter(delta)),
)  # fmt: skip
def test_an_answer_that_is_a_picture_or_a_sound_is_not_empty(delta):
    response = read(chunk(delta) + chunk({}, "stop") + DONE)
    assert not response.is_empty
    assert response.provider_details


MINIMAX = {
    1002: e.RateLimited,
    1004: e.AuthFailed,
    1008: e.QuotaExhausted,
    1026: e.ContentFiltered,
    1033: e.ServerError,
}


@pytest.mark.parametrize("number", MINIMAX)
@pytest.mark.parametrize("unary", [False, True])
def test_an_error_may_stand_in_base_resp_only(number, unary):
    whole = {"id": "x", "choices": None, "usage": {"total_tokens": 0},
             "base_resp": {"status_code": number, "status_msg": "the text"}}  # fmt: skip
    reader = reading("openai")
    if unary:
        reader.feed_whole(json.dumps(whole).encode())
    else:
        read_all(reader, data(whole))
    failure = Failures(provider="p").of_event(reader.error, headers={})
    assert (type(failure), failure.message) == (MINIMAX[number], "the text")


def test_a_base_resp_of_a_success_is_none_of_an_error():
    body = chunk({"content": "Hi"}, base_resp={"status_code": 0}) + chunk({}, "stop")
    assert read(body + data({"choices": [], "base_resp": {"status_code": 0, "status_msg": ""}}) + DONE).text == "Hi"


def kinds(response):
    """The types of the items in the content, in order."""
    return [part.block["type"] for part in response.content if isinstance(part, Opaque)]


def test_an_item_that_ends_late_keeps_its_place():
    thought, search = {"type": "reasoning", "encrypted_content": "x"}, {"type": "web_search_call", "id": "s"}
    body = started() + item_added(0, {"type": "reasoning"}) + item_added(1, {"type": "web_search_call", "id": "s"})
    body += call_stream(2, WEATHER) + item_done(1, search) + item_done(0, thought) + text_item("Hi", 3) + completed()
    response = read(body, "responses")
    assert kinds(response) == ["reasoning", "web_search_call", "function_call", "message"]
    assert response.text == "Hi"


def test_reasoning_whose_events_have_different_indices_is_read_once():
    delta = event("response.reasoning_text.delta", output_index=0, item_id="i1", content_index=0, delta="hm")
    done = item_done(1, {"type": "reasoning", "id": "i1", "content": [{"type": "reasoning_text", "text": "hm"}]})
    response = read(started() + delta + done + text_item("Hi", 1) + completed(), "responses")
    assert (response.reasoning, response.text) == ("hm", "Hi")


def test_an_id_that_several_items_share_does_not_join_them():
    items = [item_added(n, call_item(("weather", ""))) + arguments(n, call[1]) + item_done(n, call_item(call))
             for n, call in enumerate([WEATHER, ("weather", "{}")])]  # fmt: skip
    assert made(started() + b"".join(items) + completed(), "responses") == [WEATHER, ("weather", "{}")]


def test_a_response_may_stand_without_the_event_around_it():
    message = {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}
    whole = {"object": "response", "id": "r", "status": "completed", "output": [message],
             "usage": {"input_tokens": 9, "output_tokens": 5}}  # fmt: skip
    response = read(b"event: response.completed\n" + data(whole), "responses")
    assert (response.text, response.usage.input_tokens) == ("Hi", 9)
    cut = {**whole, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    assert read(b"event: response.incomplete\n" + data(cut), "responses").finish_reason == "length"


@pytest.mark.parametrize("pieces", [['{"a"', ":1}"], ['{"a":1}']])
@pytest.mark.parametrize("again", [{}, {"id": "c"}])
def test_arguments_that_are_sent_once_more_as_a_whole_are_read_once(pieces, again):
    deltas = [{"index": 0, "id": "c", "function": {"name": "weather", "arguments": ""}}]
    deltas += [{"index": 0, "function": {"arguments": piece}} for piece in pieces]
    deltas += [{"index": 0, "function": {"arguments": '{"a":1}'}, **again}]
    body = b"".join(chunk({"tool_calls": [delta]}) for delta in deltas) + chunk({}, "tool_calls") + DONE
    assert made(body, "openai") == [("weather", '{"a":1}')]
