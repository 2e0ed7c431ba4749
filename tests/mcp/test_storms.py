"""Servers that break, change or end all the time: how many requests per minute they get.

The requests go over real sockets, and the clock runs faster: a loaded machine makes fewer requests per minute of that
clock, never more. Like the other tests' clock it stands still while the process does not run.
"""

from __future__ import annotations

import math

import pytest
import trio
from hypothesis import given, strategies as st
from mcp_http import http_script, initialize
from steady_clock import TICK, SteadyClock

from clawft_trio.errors import McpError, RequestTimeout
from clawft_trio.mcp import HttpServer, McpOptions, Supervision, ToolServer, open_mcp, open_toolset
from clawft_trio.mcp.transports.answer_stream import Reconnects
from clawft_trio.tools import ToolRegistry

MINUTE = 60.0
RATE = 60.0
TEXT = {"content": [{"type": "text", "text": "hi"}]}
TOOLS = {"tools": [{"name": "x", "inputSchema": {"type": "object"}}]}
CHANGED = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
# Nothing but the storm ends anything: at 60 times the speed of a wall clock, a loaded machine exceeds every limit.
UNLIMITED = {"protocol": "handshake", "total": 1e6, "start": 1e6}
PATIENT = McpOptions(**UNLIMITED, supervision=Supervision(ping=None))


class FastClock(SteadyClock):
    def current_time(self):
        return RATE * super().current_time()

    def deadline_to_sleep_time(self, deadline):
        return min((deadline - self.current_time()) / RATE, TICK)


@pytest.fixture
def fast_clock():
    return FastClock()


async def calls_in_a_minute(script, method):
    """How often *method* was called within a minute. It is called at least twice, at the latest afterwards."""
    await trio.sleep(MINUTE)
    found = script.methods().count(method)
    while script.methods().count(method) < 2:
        await trio.sleep(1)
    return found


def server_at(url):
    return HttpServer(url, connect=1e6)


async def answer_lists(request):
    if request.message["method"] == "tools/list":
        await request.json(request.result(TOOLS))
    else:
        await request.json(request.result(TEXT))


async def nothing(_):
    await trio.lowlevel.checkpoint()


async def retry_0(request):
    await request.stream.send_all(b"retry: 0\n\n")


async def priming(request):
    await request.event(None, event_id="e", retry=1)


async def a_message(request):
    await request.stream.send_all(b"retry: 0\n\n")
    await request.event(CHANGED)


STREAMS = {
    "ends at once": (nothing, 12),
    "retry: 0": (retry_0, 12),
    "an empty event": (priming, 12),
    "a message": (a_message, 30),
}


@pytest.mark.parametrize(("stream", "most"), STREAMS.values(), ids=STREAMS)
async def test_a_listening_stream_that_always_ends_is_opened_a_few_times_a_minute(fast_clock, stream, most):
    async def answer(request):
        if request.method == "GET":
            await request.events()
            await stream(request)
        elif not await initialize(request):
            await answer_lists(request)

    async with http_script(answer) as script, open_mcp(server_at(script.url), options=PATIENT) as client:
        await client.call_tool("x")
        assert await calls_in_a_minute(script, "GET") <= most


@pytest.mark.parametrize("status", [500, 429])
async def test_a_listening_stream_that_fails_is_opened_a_few_times_a_minute(fast_clock, status):
    async def answer(request):
        if request.method == "GET":
            await request.respond(status, **{"retry-after": "0"})
        elif not await initialize(request):
            await answer_lists(request)

    async with http_script(answer) as script, open_mcp(server_at(script.url), options=PATIENT) as client:
        await client.call_tool("x")
        assert await calls_in_a_minute(script, "GET") <= 12


@pytest.mark.parametrize("pause", [0.001, 2.0])
async def test_tools_that_keep_changing_are_read_a_few_times_a_minute(fast_clock, pause):
    async def answer(request):
        if request.method == "GET":
            await request.events()
            while True:
                await request.event(CHANGED)
                await trio.sleep(pause)
        elif not await initialize(request):
            await answer_lists(request)

    async with http_script(answer) as script:
        async with open_toolset({"s": ToolServer(server_at(script.url))}, ToolRegistry(), options=PATIENT):
            assert await calls_in_a_minute(script, "tools/list") <= 12


async def test_tools_that_change_with_every_stream_are_read_a_few_times_a_minute(fast_clock):
    async def answer(request):
        if request.method == "GET":
            await request.events()
            await a_message(request)
        elif not await initialize(request):
            await answer_lists(request)

    async with http_script(answer) as script:
        async with open_toolset({"s": ToolServer(server_at(script.url))}, ToolRegistry(), options=PATIENT):
            assert await calls_in_a_minute(script, "tools/list") <= 12


@pytest.mark.parametrize("status", [404, 400])
async def test_a_server_that_forgets_its_session_at_every_call_is_greeted_a_few_times_a_minute(fast_clock, status):
    async def answer(request):
        session = f"s{len(script.requests)}"
        if not await initialize(request, session=session):
            if request.message["method"] == "tools/list":
                await request.json(request.result(TOOLS))
            else:
                await request.respond(status)

    async def call_often(client):
        while True:
            try:
                await client.call_tool("x")
            except McpError:
                await trio.sleep(0.5)

    async with http_script(answer) as script, trio.open_nursery() as nursery:
        async with open_toolset({"s": ToolServer(server_at(script.url))}, ToolRegistry(), options=PATIENT) as toolset:
            for _ in range(10):
                nursery.start_soon(call_often, toolset.clients["s"])
            # 1 at the start, 3 restarts, and a probe every 30 s.
            assert await calls_in_a_minute(script, "initialize") <= 7
            nursery.cancel_scope.cancel()


async def test_a_subscription_that_always_ends_is_made_a_few_times_a_minute(fast_clock):
    discovered = {
        "supportedVersions": ["2026-07-28"],
        "capabilities": {"tools": {"listChanged": True}},
        "resultType": "complete",
    }

    async def answer(request):
        if request.method == "GET":
            await request.respond(405)
        elif request.message["method"] == "server/discover":
            await request.json(request.result(discovered))
        elif request.message["method"] == "subscriptions/listen":
            await request.json(request.result({"resultType": "complete"}))
        else:
            await request.json(request.result({**TOOLS, "resultType": "complete"}))

    options = McpOptions(**{**UNLIMITED, "protocol": "stateless"}, supervision=None)
    async with http_script(answer) as script:
        async with open_toolset({"s": ToolServer(server_at(script.url))}, ToolRegistry(), options=options):
            assert await calls_in_a_minute(script, "subscriptions/listen") <= 13
            assert script.methods().count("tools/list") <= 13


async def test_a_response_whose_stream_always_ends_is_asked_for_a_few_times_until_its_call_ends(fast_clock):
    async def answer(request):
        if request.method == "GET" and "last-event-id" not in request.headers:
            await request.respond(405)
        elif request.method == "GET" or not await initialize(request):
            await request.events()
            await request.event(None, event_id="e", retry=1)

    async with http_script(answer) as script, open_mcp(server_at(script.url), options=PATIENT) as client:
        with pytest.raises(RequestTimeout):
            await client.call_tool("x", total=MINUTE)
        assert script.methods().count("GET") <= 25


async def test_a_response_arrives_however_often_its_server_closes_the_stream(fast_clock):
    async def answer(request):
        resumed = [one for one in script.requests if "last-event-id" in one.headers]
        if request.method == "GET" and "last-event-id" not in request.headers:
            await request.respond(405)
        elif len(resumed) == 40:
            await request.events()
            await request.event({"jsonrpc": "2.0", "id": 2, "result": TEXT})
        elif request.method == "GET" or not await initialize(request):
            await request.events()
            await trio.sleep(6)
            await request.event(None, event_id="e", retry=1)

    async with http_script(answer) as script, open_mcp(server_at(script.url), options=PATIENT) as client:
        assert (await client.call_tool("x")).text == "hi"


@given(
    lives=st.lists(st.floats(0, 4.9), min_size=200, max_size=200),
    retry=st.floats(0.1, 30),
    longest=st.sampled_from([5.0, 30.0]),
)
def test_streams_that_end_at_once_are_opened_at_most_so_often(lives, retry, longest):
    reconnects, now, opened = Reconnects(longest=longest), 0.0, []
    for lived in lives:
        opened.append(now)
        wait = reconnects.wait_after(lived, retry=retry)
        assert wait >= retry
        now += lived + wait
    for n, began in enumerate(opened):
        assert len([at for at in opened[n:] if at < began + MINUTE]) <= 20


def test_a_stream_that_was_open_for_a_while_is_opened_again_after_the_servers_own_wait():
    reconnects = Reconnects(shortest=1.0, longest=30.0)
    waits = [reconnects.wait_after(0.0, retry=0.5) for _ in range(8)]
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    assert reconnects.wait_after(5.0, retry=0.5) == 0.5
    assert [reconnects.wait_after(0.0, retry=0.5) for _ in range(2)] == [1, 2]
    reconnects.reset()
    assert reconnects.wait_after(0.0, retry=0.5) == 1
    assert reconnects.wait_after(0.0, retry=math.pi) == 2 * math.pi
