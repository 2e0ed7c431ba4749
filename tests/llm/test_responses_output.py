"""The items of a response: each is read once, at its place, whichever of its events a server sends."""

from __future__ import annotations

from itertools import permutations

import pytest
from llm.spoken import as_replayed, concluded, data, event, read_all, reading, replayed
from llm.test_odd_items import arguments, call_item, item_added, item_done, kinds
from llm.test_odd_shapes import completed, read, started, text_item

from clawft_trio.chat import Reset
from clawft_trio.llm.responses_output import MAX_ITEMS

CALL = ("weather", '{"in":"Oslo"}')


def message(*texts, **fields):
    parts = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {"type": "message", "content": parts, **fields}


def delta(text, **fields):
    return event("response.output_text.delta", delta=text, **fields)


def done(text, **fields):
    return event("response.output_text.done", text=text, **fields)


@pytest.mark.parametrize("order", [*permutations(range(4))], ids=str)
def test_items_have_their_places_in_whatever_order_they_end(order):
    items = [{"type": "reasoning", "id": "0", "encrypted_content": "x"}, {"type": "web_search_call", "id": "1"},
             {"type": "reasoning", "id": "2", "encrypted_content": "y"}, {"type": "file_search_call", "id": "3"}]  # fmt: skip
    begun = b"".join(item_added(at, {"type": item["type"], "id": item["id"]}) for at, item in enumerate(items))
    ended = b"".join(item_done(at, items[at]) for at in order)
    response = read(
        started() + text_item("Hi", 9) + begun + ended + completed(output=[message("Hi"), *items]), "responses"
    )
    assert [part.block.get("id") for part in response.content if hasattr(part, "block")] == [None, "0", "1", "2", "3"]


def test_items_that_end_late_stay_in_front_of_a_call_and_a_text():
    body = b"".join(item_added(at, {"type": "reasoning", "id": str(at)}) for at in (0, 1))
    body += item_added(2, call_item(CALL)) + item_done(2, call_item(CALL)) + text_item("Hi", 3)
    for at in (1, 0):
        body += item_done(at, {"type": "reasoning", "id": str(at), "encrypted_content": "x"})
    response = read(started() + body + text_item("!", 4) + completed(), "responses")
    assert kinds(response) == ["reasoning", "reasoning", "function_call", "message", "message"]
    assert [part.block.get("id") for part in response.content[:2]] == ["0", "1"]
    assert response.text == "Hi!"


@pytest.mark.parametrize("known", [1, 2, 3])
def test_items_that_only_the_last_event_has_come_after_all_others(known):
    streamed = b"".join(text_item(f"{at} ", at) for at in range(known))
    output = [*(message(f"{at} ") for at in range(known)), call_item(CALL), message("end")]
    response = read(started() + streamed + completed(output=output), "responses")
    assert response.text == "".join(f"{at} " for at in range(known)) + "end"
    assert [(call.name, call.arguments) for call in response.tool_calls] == [CALL]


def test_events_without_an_index_are_of_the_latest_item():
    body = delta("Hi") + item_added(1, call_item((CALL[0], "")))
    body += event("response.function_call_arguments.delta", delta=CALL[1])
    response = read(started() + body + completed(output=[message("Hi"), call_item(CALL)]), "responses")
    assert (response.text, [(call.name, call.arguments) for call in response.tool_calls]) == ("Hi", [CALL])


@pytest.mark.parametrize("end", [item_done(0, message("Hi")), b""])
def test_events_without_an_index_begin_the_first_item(end):
    assert read(started() + delta("Hi") + end + completed(output=[message("Hi")]), "responses").text == "Hi"


@pytest.mark.parametrize(("more", "broken"), [(0, False), (1, True)])
def test_an_answer_has_a_bounded_number_of_items(more, broken):
    reader = reading("responses")
    reader.feed(b"".join(item_added(at, {"type": "web_search_call"}) for at in range(MAX_ITEMS + more)))
    assert bool(reader.violation) is broken


def test_whole_arguments_of_what_is_no_call_change_nothing():
    whole = event("response.function_call_arguments.done", output_index=0, arguments="{}")
    response = read(started() + whole + text_item("Hi") + whole + completed(), "responses")
    assert (response.text, response.tool_calls) == ("Hi", ())


@pytest.mark.parametrize("pieces", [["No", "."], ["No.", None], [None, "No."]])
def test_a_refusal_is_the_text_and_the_reason_of_the_end(pieces):
    body = b"".join(event("response.refusal.delta", output_index=0, content_index=0, delta=piece) for piece in pieces)
    item = {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}
    for deltas in (body, b""):
        response = read(started() + deltas + item_done(0, item) + completed(), "responses")
        assert (response.text, response.refusal, response.finish_reason) == ("No.", "No.", "content_filter")


@pytest.mark.parametrize("place", [0, 3])
@pytest.mark.parametrize("field", ["summary_index", "content_index"])
def test_reasoning_is_not_read_again_at_the_end_of_its_item(place, field):
    body = event("response.reasoning_text.delta", output_index=place, delta="hm", **{field: 0})
    body += event("response.reasoning_text.delta", output_index=place, delta="so", **{field: 1})
    ended = item_done(place, {"type": "reasoning", "content": [{"text": "hm"}, {"text": "so"}]})
    assert read(started() + body + ended + text_item("Hi", 9) + completed(), "responses").reasoning == "hm\n\nso"


@pytest.mark.parametrize("item", [message("Hi"), call_item(CALL), {"type": "web_search_call", "id": "w"}], ids=str)
def test_an_item_that_ends_twice_is_read_once(item):
    body = item_added(0, item) + item_done(0, item) + item_done(0, item) + text_item(".", 1)
    response = read(started() + body + completed(output=[item, message(".")]), "responses")
    assert len(response.tool_calls) + response.text.count("Hi") + kinds(response).count("web_search_call") == 1


@pytest.mark.parametrize("item", [message("Hi"), call_item(CALL)], ids=str)
def test_the_end_of_an_item_may_state_its_kind_first(item):
    body = item_added(0, {"id": "i"}) + item_done(0, item)
    response = read(started() + body + completed(output=[item]), "responses")
    assert response.text == "Hi" or [(call.name, call.arguments) for call in response.tool_calls] == [CALL]


def test_a_half_of_a_character_at_the_end_of_its_item_is_corrected_by_it():
    half = b'data: {"type": "response.output_text.delta", "output_index": 0, "delta": "%b\\ud83d"}\n\n'
    for text, whole in ((b"", "🐻"), (b"a", "a🐻")):
        body = started() + half % text + item_done(0, message(whole)) + completed()
        assert read(body, "responses").text == whole
    assert read(started() + half % b"" + item_done(0, message()) + completed(), "responses").text == "\ufffd"


@pytest.mark.parametrize("count", [1, 50])
def test_probabilities_count_against_the_longest_answer(count):
    sizes = []
    for logprobs in ([], [{"token": "H"}] * count):
        reader = reading("responses")
        item = message("Hi")
        item["content"][0]["logprobs"] = logprobs
        reader.feed(item_done(0, item))
        sizes.append(reader.answer.size)
    assert sizes[1] - sizes[0] >= 100 * count


def test_after_a_correction_a_consumer_has_the_whole_answer_again():
    body = event("response.reasoning_text.delta", output_index=0, content_index=0, delta="hm") + text_item("One.", 1)
    body += item_added(2, call_item((CALL[0], ""))) + arguments(2, '{"in"') + item_added(3, message()) + delta("Tw")
    # An index is missing: the text belongs to the latest item.
    body += item_done(3, message("Three."))
    reader = reading("responses")
    events = read_all(reader, started() + body + arguments(2, ':"Oslo"}') + completed())
    response, events = concluded(reader, events)
    resets = [at for at, seen in enumerate(events) if isinstance(seen, Reset)]
    assert len(resets) == 1
    assert (events[resets[0]].discarded.text, events[resets[0]].discarded.reasoning) == ("One.Tw", "hm")
    assert replayed(events[resets[0] + 1 :]) == as_replayed(response)
    assert (response.text, [call.arguments for call in response.tool_calls]) == ("One.Three.", [CALL[1]])


def test_a_whole_response_may_have_its_output_as_one_item():
    reader = reading("responses")
    reader.feed(started() + event("response.completed", response={"output": message("Hi"), "status": "completed"}))
    assert reader.answer.whole("stop").text == "Hi"


def test_bare_data_is_read_like_events_with_names():
    body = data({"type": "response.output_text.delta", "output_index": 0, "delta": "Hi"})
    assert (
        read(body + data({"type": "response.completed", "response": {"status": "completed"}}), "responses").text == "Hi"
    )
