from __future__ import annotations

import json

import pytest
import trio
from testing.raw_client import Got, connect

from clawft_trio.testing import FAULTS, Finish, Say, open_fault_server

PATHS = ["/v1/chat/completions", "/v1/messages"]


async def got_from(fault, path, stream):
    """What a client has after a second, or when it is over; and whether it was over by itself."""
    async with open_fault_server(fault.script, [Say("fine"), Finish()], scale=0.5) as server:
        client, got = await connect(server), Got()
        async with client.stream:
            with trio.move_on_after(0.3 if fault.endless else 10) as scope:
                await client.ask(path, got, stream=stream)
        # Whatever broke, the next request is answered.
        healthy = await connect(server)
        async with healthy.stream:
            assert (await healthy.ask(path)).text() == "fine"
    return got, not scope.cancelled_caught


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", FAULTS)
async def test_a_stream_breaks_as_its_name_says(name, path):
    fault = FAULTS[name]
    got, over = await got_from(fault, path, stream=True)
    assert over is not fault.endless
    body = got.body.decode("utf-8", "replace") if got.headers.get("content-type", "").startswith("text/event") else ""
    shown = Got(chunks=[body.encode()]).text()
    # What comes after a malformed event is sent, but nobody has to read that far.
    assert shown.startswith(fault.shown) and (shown == fault.shown or name == "a malformed event")
    mark = '"finish_reason":"' if "chat" in path else "event: message_stop"
    wrong_inside = {"a malformed event", "tool arguments that are not JSON"}
    assert (mark in body) is (dialect(path) in fault.whole or name in wrong_inside)


def dialect(path):
    return "openai" if "chat" in path else "anthropic"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", FAULTS)
async def test_a_whole_answer_breaks_as_its_name_says(name, path):
    fault = FAULTS[name]
    got, over = await got_from(fault, path, stream=False)
    assert over is not fault.endless
    if dialect(path) in fault.whole:
        assert got.status == 200
        assert "one two three " in json.dumps(json.loads(got.body.decode("utf-8", "replace")))
    elif got.status == 200 and got.end == "complete" and name != "no last word":
        assert not is_answer(got.body)


def is_answer(body):
    try:
        answer = json.loads(body)
    except ValueError:
        return False
    calls = answer["choices"][0]["message"].get("tool_calls", []) if "choices" in answer else []
    return "error" not in answer and not any(call["function"]["arguments"].endswith("a.t") for call in calls)


def test_every_fault_but_the_odd_ones_is_a_failure():
    assert {name for name, fault in FAULTS.items() if fault.whole} == {"no last word", "bytes that are not UTF-8"}
    assert all(fault.shown or not any(isinstance(step, Say) for step in fault.script) for fault in FAULTS.values())
