from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest
import trio
from hypothesis import given, settings, strategies as st
from testing.raw_client import Client

from clawft_trio.chat import Call, ChatRequest, Image, Message, Text
from clawft_trio.errors import ProviderError
from clawft_trio.testing import InPieces, Screen, ScriptedProvider, strategies
from clawft_trio.testing.fault_server import FaultServer
from clawft_trio.testing.machine import in_mock_time

SOME = settings(max_examples=60, deadline=None)
ASK = ChatRequest([Message.user("hi")])
PATHS = st.sampled_from(["/v1/chat/completions", "/v1/messages"])


@given(script=strategies.scripts(), request=strategies.requests())
@SOME
@in_mock_time
async def test_what_was_seen_is_what_was_returned(script, request):
    screen, provider = Screen(), ScriptedProvider(script)
    try:
        response = await provider.complete(request, Call(emit=screen.emit))
    except ProviderError as exc:
        # A failure has the same partial as its consumer saw.
        if exc.partial is not None:
            screen.check(exc.partial)
    else:
        screen.check(response)
    assert provider.running == 0


@given(script=strategies.failing_scripts())
@SOME
@in_mock_time
async def test_a_failing_script_fails(script):
    with pytest.raises(ProviderError):
        await ScriptedProvider(script).complete(ASK, Call())


@given(script=strategies.healthy_scripts())
@SOME
@in_mock_time
async def test_a_healthy_script_answers(script):
    assert (await ScriptedProvider(script).complete(ASK, Call())).finish_reason


@given(script=strategies.healthy_scripts(), path=PATHS, stream=st.booleans(), pieces=st.none() | strategies.pieces())
@SOME
@in_mock_time
async def test_a_script_says_the_same_in_memory_and_on_the_wire(script, path, stream, pieces):
    response = await ScriptedProvider(script).complete(ASK, Call())
    got = await played([*([pieces] if pieces else []), *script], path, stream=stream)
    assert got.end == "complete"
    assert wire_text(got, stream) == response.text
    assert [call.name for call in response.tool_calls] == wire_tools(got, stream)


@given(script=strategies.fault_scripts(), path=PATHS, stream=st.booleans())
@SOME
@in_mock_time
async def test_every_fault_script_comes_to_an_end(script, path, stream):
    got = await played(script, path, stream=stream)
    assert got.end in ("complete", "closed")


@given(script=strategies.fault_scripts(hang=True), path=PATHS, stream=st.booleans())
@SOME
@in_mock_time
async def test_a_script_that_hangs_is_left_by_its_client(script, path, stream):
    with trio.move_on_after(100):
        await played(script, path, stream=stream)


async def played(script, path, **body):
    """What a client gets over a connection in memory."""
    server = FaultServer(lambda request: script, scale=1.0)
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_stream, theirs)
        try:
            return await Client(ours).ask(path, bounded=False, **body)
        finally:
            await trio.aclose_forcefully(ours)


def wire_text(got, stream):
    if stream:
        return got.text()
    answer = msgspec.json.decode(got.body)
    if "choices" in answer:
        return answer["choices"][0]["message"]["content"] or ""
    return "".join(block.get("text", "") for block in answer["content"])


def wire_tools(got, stream):
    if not stream:
        answer = msgspec.json.decode(got.body)
        if "choices" in answer:
            return [c["function"]["name"] for c in answer["choices"][0]["message"].get("tool_calls", ())]
        return [block["name"] for block in answer["content"] if block["type"] == "tool_use"]
    names = []
    for event in got.events():
        if isinstance(event, dict):
            for choice in event.get("choices") or ():
                names += [call["function"].get("name") for call in choice["delta"].get("tool_calls", ())]
            names.append(event.get("content_block", {}).get("name"))
    return [name for name in names if name is not None]


@given(usage=strategies.usages())
@SOME
def test_usage_adds_up(usage):
    assert usage.cached_tokens + usage.cache_write_tokens <= usage.input_tokens
    assert usage.reasoning_tokens <= usage.output_tokens


@given(messages=strategies.conversations())
@SOME
def test_every_tool_call_of_a_conversation_is_answered_at_once(messages):
    for number, message in enumerate(messages):
        answers = messages[number + 1 : number + 1 + len(message.tool_calls)]
        assert [answer.tool_call_id for answer in answers] == [call.id for call in message.tool_calls]
    assert messages[-1].role == "user"


@given(error=strategies.provider_errors(retryable=True), other=strategies.provider_errors(retryable=False))
@SOME
def test_failures_come_as_asked(error, other):
    assert error.retryable and not other.retryable


@given(part=strategies.parts())
@SOME
def test_parts_are_not_empty(part):
    assert not isinstance(part, Text) or part.text
    assert not isinstance(part, Image) or bool(part.url) != bool(part.data)


@given(pieces=strategies.pieces())
@SOME
def test_pieces_have_a_size(pieces):
    assert min(pieces.sizes) >= 1


@pytest.mark.parametrize("sizes", [(), 0, (3, 0)])
def test_pieces_without_a_size_are_refused(sizes):
    with pytest.raises(ValueError, match="at least 1"):
        InPieces(sizes)


def test_hypothesis_is_not_needed_to_use_the_kit():
    found = "import clawft_trio.testing, sys; print(sorted(m for m in sys.modules if m.startswith('hypothesis')))"
    done = subprocess.run([sys.executable, "-c", found], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
