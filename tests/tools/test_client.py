"""What a tool asks the MCP client that called it: which capability each request needs, and how answers are read."""

from __future__ import annotations

import pytest

from clawft_trio.errors import ClientLacksCapability, ProtocolViolation
from clawft_trio.tools.client import (
    NO_CLIENT,
    ClientRequest,
    ClientRoot,
    Elicited,
    Sampled,
    ToolClient,
    read_elicited,
    read_roots,
    read_sampled,
)

FORM = ClientRequest("elicitation/create", {"mode": "form"})
URL = ClientRequest("elicitation/create", {"mode": "url"})
SAMPLE = ClientRequest("sampling/createMessage")
SAMPLE_TOOLS = ClientRequest("sampling/createMessage", {"tools": []})
ROOTS = ClientRequest("roots/list")
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


class Answering(ToolClient):
    """A client that keeps what it is asked, and answers it."""

    def __init__(self, answer):
        super().__init__({"elicitation": {"form": {}, "url": {}}, "sampling": {"tools": {}}, "roots": {}})
        self.answer, self.asked = answer, []

    async def ask_all(self, requests):
        self.asked += requests.items()
        return dict.fromkeys(requests, self.answer)


@pytest.mark.parametrize(
    ("capabilities", "capability", "supported"),
    [
        (None, "roots", False),
        ({"roots": {}}, "roots", True),
        ({"roots": True}, "roots", True),
        ({"roots": None}, "roots", False),
        ({"roots": False}, "roots", False),
        ({"roots": {}}, "roots.listChanged", False),
        ({"sampling": {"tools": {}}}, "sampling.tools", True),
        ({"sampling": {"tools": False}}, "sampling.tools", False),
        ({"sampling": True}, "sampling.tools", False),
    ],
)
def test_a_capability_counts_when_it_and_what_is_around_it_are_declared(capabilities, capability, supported):
    assert ToolClient(capabilities).supports(capability) is supported


@pytest.mark.parametrize(
    ("request_", "enough", "too_little", "missing"),
    [
        (FORM, [{"elicitation": {}}, {"elicitation": {"form": {}}}, {"elicitation": {"form": {}, "url": {}}}], [{}, {"elicitation": {"url": {}}}], {"elicitation": {"form": {}}}),
        (URL, [{"elicitation": {"url": {}}}], [{}, {"elicitation": {}}, {"elicitation": {"form": {}}}], {"elicitation": {"url": {}}}),
        (SAMPLE, [{"sampling": {}}], [{}], {"sampling": {}}),
        (SAMPLE_TOOLS, [{"sampling": {"tools": {}}}], [{}, {"sampling": {}}], {"sampling": {"tools": {}}}),
        (ROOTS, [{"roots": {}}], [{}], {"roots": {}}),
    ],
)  # fmt: skip
def test_a_request_needs_its_capability(request_, enough, too_little, missing):
    for capabilities in enough:
        ToolClient(capabilities).require({"a": request_})
    for capabilities in too_little:
        with pytest.raises(ClientLacksCapability) as caught:
            ToolClient(capabilities).require({"a": request_})
        assert caught.value.capabilities == missing


async def test_without_a_client_every_question_is_refused_and_a_log_line_is_dropped():
    NO_CLIENT.log("info", "words")
    NO_CLIENT.release_stream()
    with pytest.raises(ClientLacksCapability) as caught:
        await NO_CLIENT.list_roots()
    assert caught.value.capabilities == {"roots": {}}
    with pytest.raises(ClientLacksCapability, match="No MCP client"):
        await NO_CLIENT.ask_all({})


async def test_a_form_is_asked_for_and_read():
    client = Answering({"action": "accept", "content": {"n": 1}})
    answer = await client.elicit("How many?", SCHEMA)
    assert (answer.accepted, answer.content) == (True, {"n": 1})
    params = {"mode": "form", "message": "How many?", "requestedSchema": SCHEMA}
    assert client.asked == [("elicitation-1", ClientRequest("elicitation/create", params))]
    client.answer = {"action": "accept", "content": {"n": "many"}}
    with pytest.raises(ProtocolViolation):
        await client.elicit("How many?", SCHEMA)


async def test_an_address_is_shown_without_a_form():
    client = Answering({"action": "accept"})
    answer = await client.elicit_url("Pay.", "https://a/b", elicitation_id="e", key="pay")
    assert (answer.accepted, answer.content) == (True, {})
    params = {"mode": "url", "message": "Pay.", "url": "https://a/b", "elicitationId": "e"}
    assert client.asked == [("pay", ClientRequest("elicitation/create", params))]


async def test_a_text_is_sampled_as_one_message_of_the_user():
    client = Answering({"content": {"type": "text", "text": "A"}, "model": "m", "stopReason": "endTurn"})
    answer = await client.sample("q", max_tokens=5, temperature=0)
    assert answer == Sampled(text="A", content=({"type": "text", "text": "A"},), model="m", stop_reason="endTurn")
    messages = [{"role": "user", "content": {"type": "text", "text": "q"}}]
    params = {"messages": messages, "maxTokens": 5, "temperature": 0}
    await client.sample(tuple(messages), max_tokens=5, temperature=0)
    assert client.asked == [(f"sampling-{n}", ClientRequest("sampling/createMessage", params)) for n in (1, 2)]


async def test_questions_without_a_key_are_numbered_by_their_kind():
    client = Answering({"roots": [], "action": "decline"})
    assert await client.list_roots() == ()
    await client.elicit("?", {})
    await client.list_roots(key="own")
    await client.list_roots()
    assert [key for key, _ in client.asked] == ["roots-1", "elicitation-1", "own", "roots-2"]


@pytest.mark.parametrize("action", ["decline", "cancel"])
def test_a_form_that_was_not_accepted_is_empty(action):
    answer = read_elicited({"action": action, "content": {"n": "x"}}, SCHEMA)
    assert (answer, answer.accepted) == (Elicited(action=action), False)


@pytest.mark.parametrize("answer", [{}, {"action": "ok"}, {"action": "accept", "content": []}, {"action": "accept"}])
def test_an_elicitation_without_an_action_or_with_a_wrong_form_is_a_violation(answer):
    with pytest.raises(ProtocolViolation, match=r"^elicitation: "):
        read_elicited(answer, SCHEMA)


def test_the_texts_of_an_answer_of_the_model_are_joined():
    blocks = [{"text": "a"}, {"type": "image"}, {"text": 1}, {"text": "b"}]
    assert read_sampled({"content": blocks}) == Sampled(text="a\nb", content=tuple(blocks))
    assert read_sampled({"content": {}, "model": 1, "stopReason": 2}) == Sampled(text="", content=({},))
    for bad in ({}, {"content": "text"}, {"content": [{"text": "a"}, "b"]}):
        with pytest.raises(ProtocolViolation, match="sampling"):
            read_sampled(bad)


def test_roots_without_an_address_are_left_out():
    roots = [{"uri": "file:///a", "name": "A"}, {"uri": "file:///b", "name": 1}, {"name": "c"}, {"uri": 2}, "d"]
    assert read_roots({"roots": roots}) == (ClientRoot(uri="file:///a", name="A"), ClientRoot(uri="file:///b"))
    for bad in ({}, {"roots": {}}):
        with pytest.raises(ProtocolViolation, match="roots"):
            read_roots(bad)
