"""Servers that ask our model."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from clawft_trio.chat import ChatResponse, Image
from clawft_trio.errors import BudgetExceeded, PeerError, ServerError
from clawft_trio.mcp.sampling import SamplingPolicy, sample_with
from clawft_trio.mcp.types import CreateMessageParams, SamplingMessage


class Model:
    """Answers, and keeps what it was asked."""

    name = "model"

    def __init__(self, error=None):
        self.error = error
        self.asked = []
        self.gate = trio.Event()
        self.gate.set()

    async def complete(self, request, call):
        self.asked.append(request)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return ChatResponse(content="hello", model="m-1", finish_reason="length")


def params(content=None, **kwargs):
    content = {"type": "text", "text": "hi"} if content is None else content
    return CreateMessageParams(messages=(SamplingMessage(role="user", content=content),), **kwargs)


async def test_the_model_answers_within_the_policy():
    model = Model()
    sample = sample_with(model, model="m", policy=SamplingPolicy(max_tokens=100))
    answer = await sample(params(max_tokens=99_999, system_prompt="be brief", temperature=0.5, stop_sequences=("x",)))
    assert answer == {
        "role": "assistant",
        "content": {"type": "text", "text": "hello"},
        "model": "m-1",
        "stopReason": "maxTokens",
    }
    [request] = model.asked
    assert (request.max_tokens, request.model, request.temperature, request.stop) == (100, "m", 0.5, ("x",))
    assert [(message.role, message.text) for message in request.messages] == [("system", "be brief"), ("user", "hi")]


async def test_images_and_several_blocks_are_passed_on():
    model = Model()
    blocks = [{"type": "text", "text": "what is it?"}, {"type": "image", "data": "aGk=", "mimeType": "image/png"}]
    await sample_with(model)(params(blocks))
    assert model.asked[0].messages[0].content[1] == Image(data=b"hi", media_type="image/png")


@pytest.mark.parametrize("content", [{"type": "audio"}, 7, {"type": "image", "data": "%", "mimeType": "image/png"}])
async def test_what_cannot_be_sampled_from_is_refused(content):
    model = Model()
    with pytest.raises(PeerError) as caught:
        await sample_with(model)(params(content))
    assert caught.value.code == -32602
    assert model.asked == []


async def test_a_server_gets_so_many_answers_a_minute(autojump_clock):
    sample = sample_with(Model(), policy=SamplingPolicy(per_minute=2))
    for _ in range(2):
        await sample(params())
    with pytest.raises(PeerError, match="too many"):
        await sample(params())
    await trio.sleep(60)
    await sample(params())


async def test_a_server_gets_so_many_answers_at_once():
    model = Model()
    model.gate = trio.Event()
    sample = sample_with(model, policy=SamplingPolicy(concurrent=2))
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(sample, params())
        await wait_all_tasks_blocked()
        with pytest.raises(PeerError, match="too many"):
            await sample(params())
        model.gate.set()
    await sample(params())


async def test_nothing_is_asked_without_approval():
    async def approve(asked):
        await trio.lowlevel.checkpoint()
        return asked.max_tokens < 10

    model = Model()
    sample = sample_with(model, policy=SamplingPolicy(approve=approve))
    with pytest.raises(PeerError, match="rejected"):
        await sample(params(max_tokens=10))
    assert model.asked == []
    await sample(params(max_tokens=9))


@pytest.mark.parametrize("error", [ServerError("openai: key sk-123 failed"), BudgetExceeded("ana spent 5 dollars")])
async def test_a_servers_answer_to_a_failure_says_nothing_of_ours(error):
    with pytest.raises(PeerError) as caught:
        await sample_with(Model(error))(params())
    assert "sk-123" not in str(caught.value)
    assert "ana" not in str(caught.value)


async def test_a_model_that_takes_too_long_is_given_up(autojump_clock):
    model = Model()
    model.gate = trio.Event()
    with pytest.raises(PeerError, match="too long"):
        await sample_with(model, policy=SamplingPolicy(total=5.0))(params())
    assert trio.current_time() == 5.0
