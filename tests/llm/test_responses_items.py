"""The items of the Responses dialect: kept, sent back, and how a response ends."""

import json

import pytest
from llm.spoken import concluded, reading

from clawft_trio.chat import ChatRequest, Message, Opaque
from clawft_trio.llm.responses_request import ResponsesOptions, request_body

REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "w", "arguments": '{"a":1}'}
WHOLE = {"id": "r", "object": "response", "status": "completed", "model": "m", "output": [REASONING, CALL]}


def test_items_of_a_response_go_back_in_their_order():
    reader = reading("responses")
    response, _ = concluded(reader, reader.feed_whole(json.dumps(WHOLE).encode()))
    request = ChatRequest([Message.user("q"), response.message, Message.tool("ok", tool_call_id="c1")])
    _, reasoning, call, result = request_body(request, "gpt-5", ResponsesOptions())["input"]
    assert reasoning == REASONING
    assert (call["type"], call["call_id"], call["arguments"]) == ("function_call", "c1", '{"a":1}')
    assert result == {"type": "function_call_output", "call_id": "c1", "output": "ok"}


def test_a_stored_response_is_continued_by_its_id():
    reader = reading("responses", stateful=True)
    response, _ = concluded(reader, reader.feed_whole(json.dumps(WHOLE).encode()))
    request = ChatRequest([Message.system("be brief"), Message.user("q"), response.message, Message.user("and?")])
    body = request_body(request, "gpt-5", ResponsesOptions(stateful=True))
    assert (body["previous_response_id"], body["store"], body["instructions"]) == ("r", True, "be brief")
    assert [item["content"] for item in body["input"]] == ["and?"]
    assert any(isinstance(part, Opaque) for part in response.content)


@pytest.mark.parametrize(
    ("status", "reason", "finish"),
    [("completed", None, "stop"), ("incomplete", "max_output_tokens", "length"), ("incomplete", "?", None)],
)
def test_how_a_response_ended_is_typed(status, reason, finish):
    message = {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}
    body = {**WHOLE, "status": status, "incomplete_details": reason and {"reason": reason}, "output": [message]}
    reader = reading("responses")
    reader.feed_whole(json.dumps(body).encode())
    assert reader.answer.finish_reason == finish
    assert (reader.error is None) == (finish is not None)
