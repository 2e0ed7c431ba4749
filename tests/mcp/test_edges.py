"""Behaviour at the edges that other tests pass over: each of these was seen to fail with its line broken."""

from __future__ import annotations

import attrs
import msgspec
import pytest
import trio
import trio.testing
from mcp_http import http_script, initialize
from mcp_wired import wired
from trio.testing import memory_stream_pair

from clawft_trio.errors import PeerError, RequestTimeout, SessionLost
from clawft_trio.mcp import CallOptions, Host, HttpServer, McpOptions, Supervision, open_mcp
from clawft_trio.mcp.handshake import discover, initialize as initialize_at
from clawft_trio.mcp.multiplexer import Multiplexer
from clawft_trio.mcp.notifications import NOTIFICATIONS
from clawft_trio.mcp.tool_pinning import fingerprint
from clawft_trio.mcp.transports.streams import StreamServer
from clawft_trio.mcp.types import ToolAnnotations, ToolDefinition
from clawft_trio.testing.mcp_server import ScriptedMcpServer

HANDSHAKE = McpOptions(protocol="handshake", supervision=None)
TEXT = {"content": [{"type": "text", "text": "hi"}]}


class Held:
    """A transport that takes nothing by itself."""

    async def run(self, mux):
        await trio.sleep_forever()


@pytest.mark.parametrize(
    ("taken", "quiet", "announced"), [(True, False, True), (True, True, False), (False, False, False)]
)
async def test_only_a_request_that_was_sent_and_is_not_quiet_is_cancelled_at_the_peer(
    autojump_clock, taken, quiet, announced
):
    mux = Multiplexer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mux.run, Held())

        async def call():
            with pytest.raises(RequestTimeout):
                await mux.call("initialize", decode=bytes, options=CallOptions(total=1, quiet=quiet))

        nursery.start_soon(call)
        await trio.testing.wait_all_tasks_blocked()
        if taken:
            await mux.outgoing.take()
        await trio.sleep(2)
        assert len(mux.outgoing) == announced
        nursery.cancel_scope.cancel(reason="seen")


@pytest.mark.parametrize("ask", [initialize_at, discover])
async def test_a_timed_out_question_for_the_revision_is_not_cancelled_at_the_server(autojump_clock, ask):
    mux = Multiplexer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mux.run, Held())

        async def call():
            with pytest.raises(RequestTimeout):
                await ask(mux, Host(), total=1)

        nursery.start_soon(call)
        await trio.testing.wait_all_tasks_blocked()
        await mux.outgoing.take()
        await trio.sleep(2)
        assert len(mux.outgoing) == 0
        nursery.cancel_scope.cancel(reason="seen")


async def test_notifications_that_nothing_takes_are_refused_in_the_end():
    mux = Multiplexer(window=1)
    for _ in range(1 + NOTIFICATIONS):
        mux.notify_nowait("n")
    with pytest.raises(trio.WouldBlock):
        mux.notify_nowait("n")
    await mux.outgoing.take()
    mux.notify_nowait("n")


async def test_the_total_of_a_call_includes_its_wait_for_a_restart(autojump_clock):
    servers = []

    async def connect():
        # The second start takes two seconds.
        await trio.sleep(2.0 if servers else 0)
        near, far = memory_stream_pair()
        servers.append(ScriptedMcpServer(hold=["tools/call"]))
        nursery.start_soon(servers[-1].run, far, far)
        ends.append(far)
        return near, near

    ends = []
    supervision = Supervision(first_wait=0.0, ping=None)
    options = McpOptions(protocol="handshake", supervision=supervision)
    async with trio.open_nursery() as nursery:
        async with open_mcp(StreamServer(connect), options=options) as client:
            await ends[0].aclose()
            await trio.sleep(0.5)
            began = trio.current_time()
            with pytest.raises(RequestTimeout):
                await client.call_tool("t", total=3.0)
            assert trio.current_time() - began == pytest.approx(3.0)
            assert len(servers) == 2
        nursery.cancel_scope.cancel(reason="seen")


async def test_a_subscription_that_ends_is_made_again_after_a_pause(autojump_clock):
    asked, wanted = [], []

    async def discover(_):
        await trio.lowlevel.checkpoint()
        capabilities = {"tools": {"listChanged": True}}
        return {"supportedVersions": ["2026-07-28"], "capabilities": capabilities}

    async def listen(params):
        asked.append(trio.current_time())
        wanted.append(params["notifications"])
        await trio.lowlevel.checkpoint()
        return {}

    answers = {"server/discover": discover, "subscriptions/listen": listen}
    async with wired(options=McpOptions(supervision=None, protocol="stateless"), answers=answers):
        await trio.sleep(12)
    assert len(asked) == 3
    assert asked[1] - asked[0] == pytest.approx(5.0)
    assert wanted == [{"toolsListChanged": True}] * 3


async def test_a_subscription_that_is_refused_is_not_asked_for_again(autojump_clock):
    async def discover(_):
        await trio.lowlevel.checkpoint()
        return {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {"listChanged": True}}}

    answers = {"server/discover": discover}
    async with wired(options=McpOptions(supervision=None, protocol="stateless"), answers=answers) as (_, server):
        await trio.sleep(60)
        asked = [message for message in server.received if message.get("method") == "subscriptions/listen"]
    assert len(asked) == 1


async def test_a_broken_answer_is_resumed_after_the_servers_own_time():
    times = []

    async def answer(request):
        if request.method == "GET" and "last-event-id" in request.headers:
            times.append(trio.current_time())
            await request.events()
            await request.event({"jsonrpc": "2.0", "id": 2, "result": TEXT})
        elif not await initialize(request):
            await request.events()
            await request.event(None, event_id="e1", retry=400)
            times.append(trio.current_time())

    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=HANDSHAKE) as client:
        assert (await client.call_tool("x")).text == "hi"
    # A second without the server's word, 400 s with its milliseconds taken for seconds.
    assert 0.35 <= times[1] - times[0] < 0.95


@pytest.mark.parametrize(("session", "error"), [("", PeerError), ("s1", SessionLost)])
async def test_a_404_to_a_post_is_a_lost_session_only_where_there_is_one(session, error):
    async def answer(request):
        if not await initialize(request, session=session):
            await request.respond(404)

    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=HANDSHAKE) as client:
        with pytest.raises(error) as caught:
            await client.call_tool("x")
    assert type(caught.value) is error


async def test_a_listening_stream_that_failed_is_opened_again():
    heard = trio.Event()
    gets = []

    async def answer(request):
        if request.method == "GET":
            gets.append(trio.current_time())
            if len(gets) == 1:
                await request.respond(503)
            elif len(gets) == 2:
                await request.stream.send_all(b"no http at all\r\n\r\n")
            else:
                await request.events()
                await request.event({"jsonrpc": "2.0", "method": "notifications/message", "params": {}})
                await trio.sleep_forever()
        elif not await initialize(request):
            await request.json(request.result(TEXT))

    async def listen(method, params):
        await trio.lowlevel.checkpoint()
        heard.set()

    options = attrs.evolve(HANDSHAKE, host=Host(on_notification=listen))
    async with http_script(answer) as script, open_mcp(HttpServer(script.url), options=options) as client:
        await client.call_tool("x")
        with trio.fail_after(10):
            await heard.wait()
    assert len(gets) == 3
    # The pause doubles.
    assert gets[2] - gets[1] > 1.5 * (gets[1] - gets[0])


@pytest.mark.parametrize(
    "change",
    [
        {"name": "u"},
        {"title": "T"},
        {"description": "other"},
        {"input_schema": {"type": "object", "properties": {"a": {}}}},
        {"output_schema": {"type": "object"}},
        {"annotations": ToolAnnotations(read_only_hint=True)},
    ],
)
def test_a_fingerprint_covers_all_that_a_model_could_be_shown(change):
    tool = ToolDefinition(name="t", description="d", input_schema={"type": "object"})
    assert fingerprint(msgspec.structs.replace(tool, **change)) != fingerprint(tool)


def test_a_fingerprint_does_not_depend_on_the_order_of_keys():
    one = ToolDefinition(name="t", input_schema={"type": "object", "properties": {"a": {}, "b": {}}})
    other = ToolDefinition(name="t", input_schema={"properties": {"b": {}, "a": {}}, "type": "object"})
    assert fingerprint(one) == fingerprint(other)
