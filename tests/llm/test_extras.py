"""What some servers insist on getting back, from their answer to the next request."""

import json

import pytest
from llm.spoken import DONE, chunk, concluded, read_all, reading

from clawft_trio.chat import Call, ChatRequest, Message
from clawft_trio.codec import encode_json
from clawft_trio.llm import KNOWN, Anthropic, OpenAICompatible, Quirks, provider_named
from clawft_trio.llm.openai_request import request_body
from clawft_trio.testing import CallTool, Finish, Say, Think, open_fault_server

SIGNED = {"google": {"thought_signature": "c2ln"}}
DETAILS = [
    {"type": "reasoning.text", "index": 0, "text": "let ", "format": "anthropic-claude-v1"},
    {"type": "reasoning.text", "index": 0, "text": "me see", "signature": None},
    {"type": "reasoning.text", "index": 0, "signature": "c2ln"},
    {"type": "reasoning.encrypted", "index": 1, "data": "ZW5j"},
    {"type": "reasoning.encrypted", "index": 2, "data": "bW9y"},
    {"type": "reasoning.summary", "index": 3, "summary": "sa"},
    {"type": "reasoning.summary", "index": 3, "summary": "w"},
]
WHOLE = [
    {"type": "reasoning.text", "index": 0, "text": "let me see", "format": "anthropic-claude-v1", "signature": "c2ln"},
    {"type": "reasoning.encrypted", "index": 1, "data": "ZW5j"},
    {"type": "reasoning.encrypted", "index": 2, "data": "bW9y"},
    {"type": "reasoning.summary", "index": 3, "summary": "saw"},
]


def called(*, extra=None):
    call = {"index": 0, "id": "c1", "function": {"name": "read", "arguments": "{}"}}
    return chunk({"tool_calls": [call | ({"extra_content": extra} if extra else {})]}) + chunk({}, "tool_calls") + DONE


def answered(body, *returns):
    reader = reading("openai", returns=returns)
    return concluded(reader, read_all(reader, body))[0]


def sent_back(response, *returns):
    request = ChatRequest([Message.user("Hi"), response.message])
    return json.loads(encode_json(request_body(request, "m", Quirks(returns=returns))))["messages"][1]


def test_thoughts_before_a_tool_call_go_back():
    response = answered(
        chunk({"reasoning_content": "let me "}) + chunk({"reasoning_content": "see"}) + called(), "reasoning_content"
    )
    assert sent_back(response, "reasoning_content")["reasoning_content"] == "let me see"
    assert "reasoning_content" not in sent_back(response)


def test_thoughts_without_a_tool_call_stay():
    response = answered(chunk({"reasoning_content": "hm", "content": "Hi"}) + chunk({}, "stop"), "reasoning_content")
    assert "reasoning_content" not in sent_back(response, "reasoning_content")


def test_the_signature_of_a_call_goes_back_with_it():
    response = answered(called(extra=SIGNED), "extra_content")
    assert sent_back(response, "extra_content")["tool_calls"][0]["extra_content"] == SIGNED
    assert "extra_content" not in sent_back(response)["tool_calls"][0]


def test_reasoning_details_go_back_whole():
    pieces = b"".join(chunk({"reasoning": "x", "reasoning_details": [detail]}) for detail in DETAILS)
    response = answered(pieces + called(), "reasoning_details")
    assert sent_back(response, "reasoning_details")["reasoning_details"] == WHOLE
    assert answered(chunk({"reasoning_details": DETAILS}) + called(), "reasoning_details").content == response.content


@pytest.mark.parametrize("odd", [5, "x", {}, [None], [[]], [{"type": 1, "text": 2}]])
def test_odd_extras_cost_no_answer(odd):
    body = chunk({"content": "Hi", "reasoning_details": odd}) + called(extra={"odd": odd})
    assert answered(body, "reasoning_details", "extra_content").text == "Hi"


def test_extras_are_kept_for_those_who_want_them_only():
    body = chunk({"reasoning_content": "hm", "reasoning_details": DETAILS}) + called(extra=SIGNED)
    assert answered(body).content == ()


async def test_a_conversation_with_deepseek_keeps_its_thoughts_and_one_with_others_does_not():
    async with open_fault_server([Think("hm"), CallTool("now", {}), Finish()]) as server:
        options = {"base_url": server.url, "api_key": "k", "model": "m"}
        async with (
            OpenAICompatible("deepseek", quirks=KNOWN["deepseek"].quirks, **options) as deepseek,
            OpenAICompatible("other", **options) as other,
            Anthropic(**options) as claude,
        ):
            first = await deepseek.complete(ChatRequest([Message.user("Hi")]), Call())
            talk = [Message.user("Hi"), first.message, Message.tool("noon", tool_call_id="call_0")]
            for provider in (deepseek, other, claude):
                await provider.complete(ChatRequest(talk), Call())
        again, elsewhere, native = (request.body["messages"][1] for request in server.requests[1:])
        assert again["reasoning_content"] == "hm"
        assert "reasoning_content" not in elsewhere
        assert [block["type"] for block in native["content"]] == ["tool_use"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_signature_of_the_message_itself_goes_back_to_gemini(stream):
    body = chunk({"content": "Hi", "extra_content": SIGNED}) + chunk({}, "stop") + DONE
    reader = reading("openai", returns=KNOWN["gemini"].quirks.returns)
    if stream:
        response, _ = concluded(reader, read_all(reader, body))
    else:
        message = {"role": "assistant", "content": "Hi", "extra_content": SIGNED}
        whole = {"choices": [{"message": message, "finish_reason": "stop"}]}
        response, _ = concluded(reader, reader.feed_whole(json.dumps(whole).encode()))
    assert sent_back(response, "extra_content")["extra_content"] == SIGNED
    assert "extra_content" not in sent_back(response)
    async with open_fault_server([Say("ok"), Finish()]) as server:
        async with provider_named("gemini", base_url=server.url, api_key="k") as gemini:
            request = ChatRequest([Message.user("Hi"), response.message, Message.user("and?")], model="gemini-3-pro")
            await gemini.complete(request, Call())
        sent = server.requests[0].body["messages"]
    assert [message.get("extra_content") for message in sent] == [None, SIGNED, None]
