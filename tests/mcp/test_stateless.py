"""Revision 2026-07-28: by choice, and by asking."""

from __future__ import annotations

import sys

import pytest
import trio
from mcp_wired import cancelled_ids, wired
from trio.testing import wait_all_tasks_blocked

from clawft_trio.errors import McpError, PeerError, ProtocolViolation
from clawft_trio.mcp.connect import open_mcp
from clawft_trio.mcp.host import Host
from clawft_trio.mcp.options import McpOptions
from clawft_trio.mcp.types import ElicitResult
from clawft_trio.observe import Recorder, ServerStarted
from clawft_trio.testing.mcp_server import Failure

META = "io.modelcontextprotocol/"


async def discovered(_):
    await trio.lowlevel.checkpoint()
    return {
        "resultType": "complete",
        "supportedVersions": ["2026-07-28"],
        "capabilities": {"tools": {}},
        "_meta": {META + "serverInfo": {"name": "modern", "version": "9"}},
    }


def modern(**kwargs):
    answers = {"server/discover": discovered, **kwargs.pop("answers", {})}
    options = McpOptions(protocol=kwargs.pop("protocol", "stateless"), **kwargs.pop("options", {}))
    return wired(answers=answers, options=options, **kwargs)


def complete(said, **more):
    return {"resultType": "complete", "content": [{"type": "text", "text": said}], **more}


async def test_every_request_says_who_asks_and_nobody_shakes_hands():
    async with modern(hold=()) as (client, server):
        assert client.agreement.server.name == "modern"
        assert client.agreement.protocol_version == "2026-07-28"
        await client.list_tools()
        await client.call_tool("echo", {"text": "x"}, on_progress=lambda _: None)
    assert [m["method"] for m in server.received] == ["server/discover", "tools/list", "tools/call"]
    for message in server.received:
        meta = message["params"]["_meta"]
        assert meta[META + "protocolVersion"] == "2026-07-28"
        assert meta[META + "clientCapabilities"] == {}
        assert meta[META + "clientInfo"]["name"] == "clawft-trio"
    assert "progressToken" in server.received[-1]["params"]["_meta"]


async def test_a_result_without_a_type_is_complete_and_an_unknown_type_is_an_error():
    async with modern() as (client, server):
        results = []

        async def call():
            try:
                results.append((await client.call_tool("t")).text)
            except ProtocolViolation as exc:
                results.append(str(exc))

        for answer in ({"content": [{"type": "text", "text": "plain"}]}, {**complete("x"), "resultType": "mystery"}):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call)
                await (await server.wait_held()).answer(answer)
        assert results[0] == "plain"
        assert "mystery" in results[1]


@pytest.mark.parametrize("state", ["säfe\n ", ""])
async def test_questions_are_answered_and_the_same_is_asked_again_with_a_new_id(state):
    async def elicit(asked):
        await trio.lowlevel.checkpoint()
        return ElicitResult(action="accept", content={"answer": asked.message.upper()})

    async with modern(options={"host": Host(elicit=elicit)}) as (client, server):
        results = []

        async def call():
            results.append((await client.call_tool("t", {"x": 1})).text)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            first = await server.wait_held()
            question = {"method": "elicitation/create", "params": {"message": "who?"}}
            await first.answer(
                {"resultType": "input_required", "inputRequests": {"q1": question}, "requestState": state}
            )
            second = await server.wait_held()
            assert second.id != first.id
            assert second.params["arguments"] == {"x": 1}
            assert second.params["inputResponses"] == {"q1": {"action": "accept", "content": {"answer": "WHO?"}}}
            assert second.params["requestState"] == state
            # Without a state nor questions nothing of the last round is kept.
            await second.answer({"resultType": "input_required", "inputRequests": {}})
            third = await server.wait_held()
            assert "requestState" not in third.params
            assert "inputResponses" not in third.params
            await third.answer(complete("done"))
        assert results == ["done"]


async def test_a_server_that_asks_for_ever_is_stopped(autojump_clock):
    async def ask_again(_):
        await trio.lowlevel.checkpoint()
        return {"resultType": "input_required", "requestState": "s"}

    async with modern(answers={"tools/call": ask_again}, hold=()) as (client, server):
        with pytest.raises(ProtocolViolation, match="more than 10"):
            await client.call_tool("t")
        assert len([m for m in server.received if m["method"] == "tools/call"]) == 11


async def test_a_question_that_nobody_here_answers_fails_the_call():
    async with modern() as (client, server):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def call():
                with pytest.raises(McpError, match="roots/list"):
                    await client.call_tool("t")

            held = await server.wait_held()
            await held.answer({"resultType": "input_required", "inputRequests": {"q": {"method": "roots/list"}}})


async def test_what_the_server_asks_by_itself_is_not_answered():
    async with modern(hold=()) as (client, server):
        await server.write({"jsonrpc": "2.0", "id": "s1", "method": "ping"})
        await client.list_tools()
        assert not [m for m in server.received if m.get("id") == "s1"]


@pytest.mark.parametrize("ending", ["response", "cancelled"])
async def test_a_subscription_hears_only_its_own_and_ends_with_it(ending):
    async with modern(hold=["subscriptions/listen"]) as (client, server):
        heard = []
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def listen():
                await client.listen(lambda method, _: heard.append(method), tools=True, uris=["file:///a"])
                heard.append("the end")

            held = await server.wait_held()
            assert held.params["notifications"] == {"toolsListChanged": True, "resourceSubscriptions": ["file:///a"]}
            seen = client.tools_version
            for key in (held.id, 999):
                tag = {"_meta": {META + "subscriptionId": key}}
                await server.notify("notifications/subscriptions/acknowledged", tag)
                await server.notify("notifications/tools/list_changed", tag)
            if ending == "response":
                await held.answer({"resultType": "complete"})
            else:
                await server.notify("notifications/cancelled", {"requestId": held.id})
        assert heard == ["notifications/subscriptions/acknowledged", "notifications/tools/list_changed", "the end"]
        assert client.tools_version > seen


async def test_what_a_subscriber_raises_is_its_own_and_costs_nobody_else():
    async with modern(hold=["subscriptions/listen"]) as (client, server):

        def fail(*_):
            raise LookupError("the subscriber's own bug")

        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def listen():
                with pytest.raises(LookupError, match="own bug"):
                    await client.listen(fail, tools=True)

            held = await server.wait_held()
            await server.notify("notifications/tools/list_changed", {"_meta": {META + "subscriptionId": held.id}})
        assert await client.list_tools()
        await wait_all_tasks_blocked()
        assert cancelled_ids(server) == [held.id]


async def test_asking_finds_a_modern_server():
    async with modern(protocol="detect") as (client, _):
        assert client.agreement.protocol_version == "2026-07-28"


@pytest.mark.parametrize("code", [-32601, -32602, -32600, -32022, -32000])
async def test_any_error_to_the_question_means_shaking_hands(code):
    async def refuse(_):
        await trio.lowlevel.checkpoint()
        raise Failure(code, "what?")

    async with modern(protocol="detect", answers={"server/discover": refuse}) as (client, server):
        assert client.agreement.protocol_version == "2025-11-25"
        await wait_all_tasks_blocked()
        assert [m["method"] for m in server.received] == [
            "server/discover",
            "initialize",
            "notifications/initialized",
        ]


async def test_silence_to_the_question_costs_the_probe_and_no_more(autojump_clock):
    started = trio.current_time()
    async with modern(protocol="detect", hold=["server/discover"]) as (client, server):
        assert client.agreement.protocol_version == "2025-11-25"
        assert trio.current_time() == started + 5.0


async def test_by_choice_an_old_server_is_refused():
    with pytest.raises(PeerError):
        async with wired(options=McpOptions(protocol="stateless")):
            raise AssertionError("it cannot have started")


DIES = """
import json, sys
for line in sys.stdin:
    m = json.loads(line)
    if m["method"] == "server/discover": sys.exit(1)
    if m["method"] == "initialize":
        r = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "r", "version": "1"}}
        print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": r}), flush=True)
"""


async def test_a_server_that_dies_of_the_question_is_started_again_and_greeted_the_old_way(tmp_path):
    script = tmp_path / "dies.py"
    script.write_text(DIES)
    recorder = Recorder()
    options = McpOptions(protocol="detect", observer=recorder)
    with trio.fail_after(20):
        async with open_mcp([sys.executable, str(script)], options=options) as client:
            assert client.agreement.protocol_version == "2025-11-25"
            assert client.restarts == 0
    assert len(recorder.of(ServerStarted)) == 1
