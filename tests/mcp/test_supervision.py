"""When a server that died is started again, and when it is not."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import given, settings, strategies as st
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from clawft_trio.errors import PeerGone, RequestTimeout, ServerDown
from clawft_trio.mcp.client import McpClient
from clawft_trio.mcp.options import McpOptions
from clawft_trio.mcp.supervision import RestartHistory, Supervision
from clawft_trio.mcp.transports.streams import StreamTransport
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.observe import Recorder, ServerGone, ServerStarted
from clawft_trio.testing.mcp_server import ScriptedMcpServer


def longest(_, high):
    return high


@settings(deadline=None, max_examples=200)
@given(restart=st.integers(1, 5000), share=st.floats(0, 1))
def test_waits_grow_to_their_bound_and_stay_in_it(restart, share):
    policy = Supervision(first_wait=0.25, longest_wait=10.0)
    wait = policy.wait_before(restart, lambda low, high: low + share * (high - low))
    assert 0.125 <= wait <= 10.0
    if restart > 6:
        assert wait >= 5.0


def test_more_ends_than_allowed_within_the_window_mean_down_and_a_failed_probe_means_still_down():
    history = RestartHistory(Supervision(max_restarts=3, window=60.0, probe_after=30.0), longest)
    assert [history.note_end(now, lived=1).down for now in (0, 10, 20)] == [False, False, False]
    assert history.note_end(30, lived=1) == history.note_end(60, lived=0)
    assert history.note_end(500, lived=0).down
    assert history.note_end(530, lived=0).wait == 30.0


def test_a_long_life_starts_afresh():
    history = RestartHistory(Supervision(max_restarts=1, window=60.0, first_wait=1.0), longest)
    assert not history.note_end(0, lived=5).down
    assert history.note_end(5, lived=5).down
    verdict = history.note_end(100, lived=60)
    assert (verdict.down, verdict.wait) == (False, 1.0)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(0, 200), max_size=30))
def test_a_server_that_keeps_dying_is_never_started_more_often_than_the_policy_says(lives):
    policy = Supervision(max_restarts=3, window=60.0)
    history = RestartHistory(policy, longest)
    now, starts = 0.0, [0.0]
    for lived in lives:
        now += lived
        now += history.note_end(now, lived=lived).wait
        starts.append(now)
    for start in starts:
        # Probes come every 30 s: two more at most in any window.
        short = [
            other
            for other, life in zip(starts, [*lives, 0.0], strict=True)
            if start <= other < start + 60.0 and life < 60.0
        ]
        assert len(short) <= policy.max_restarts + 1 + 3


DEFAULT = Supervision()


class Host:
    """Where servers live: each start is a fresh scripted server over memory, unless there is a reason against it."""

    def __init__(self, nursery, **script):
        self.nursery = nursery
        self.script = script
        self.servers = []
        self.ends = []
        self.refuse = False

    def transport(self):
        near, far = memory_stream_pair()
        if self.refuse:
            far.send_stream.close()
            far.receive_stream.close()
        else:
            server = ScriptedMcpServer(**self.script)
            self.servers.append(server)
            self.ends.append(far)
            self.nursery.start_soon(server.run, far, far)
        return StreamTransport(near, near)

    async def kill(self):
        await self.ends[-1].aclose()
        await wait_all_tasks_blocked()


@asynccontextmanager
async def supervised(policy=DEFAULT, recorder=None, protocol="detect", **script):
    options = McpOptions(supervision=policy, uniform=longest, observer=recorder or (lambda _: None), protocol=protocol)
    async with open_hidden_nursery() as nursery:
        host = Host(nursery, **script)
        client = McpClient("s", options, host.transport)
        await nursery.start(client.run_until_closed)
        yield client, host
        await client.aclose()
        nursery.cancel_scope.cancel(reason="the test is over")


async def echo(client, said="hi"):
    return (await client.call_tool("echo", {"text": said})).text


async def test_calls_wait_for_the_restart_on_their_own_clock(autojump_clock):
    async with supervised(Supervision(first_wait=2.0)) as (client, host):
        await host.kill()
        started = trio.current_time()
        with pytest.raises(RequestTimeout, match="not up"):
            await client.call_tool("echo", {"text": "x"}, total=0.5)
        assert trio.current_time() == started + 0.5
        assert await echo(client) == "hi"
        assert trio.current_time() == started + 2.0
        assert len(host.servers) == 2


async def test_a_client_shows_whether_its_server_starts_runs_or_was_closed():
    recorder = Recorder()
    async with supervised(Supervision(first_wait=0.0), recorder, hold=["tools/call"]) as (client, host):
        assert repr(McpClient("new", McpOptions(), host.transport)) == "<McpClient 'new': starting>"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.call_tool, "t")
            held = await host.servers[0].wait_held()
            assert "1 in flight" in repr(client)
            await held.answer({"content": []})
        assert "0 in flight" in repr(client)
        await host.kill()
        await client.list_tools()
        await client.aclose()
        assert repr(client) == "<McpClient 's': closed>"
    assert [event.restarts for event in recorder.of(ServerStarted)] == [0, 1]


@pytest.mark.parametrize("protocol", ["handshake", "stateless"])
async def test_a_server_that_did_not_answer_a_call_is_asked_for_a_sign_of_life(protocol, autojump_clock):
    async def discovered(_):
        await trio.lowlevel.checkpoint()
        return {"supportedVersions": ["2026-07-28"], "capabilities": {}}

    answers = {"server/discover": discovered}
    async with supervised(Supervision(ping=1.0), protocol=protocol, hold=["tools/call"], answers=answers) as (
        client,
        host,
    ):
        with pytest.raises(RequestTimeout):
            await client.call_tool("t", total=1.0)
        await trio.sleep(5)
        asked = host.servers[-1].received[-1]
        assert len(host.servers) == 1
    if protocol == "handshake":
        assert (asked["method"], asked.get("params")) == ("ping", None)
    else:
        assert asked["method"] == "server/discover"
        assert asked["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"


async def test_restarts_back_off_until_the_server_is_declared_down_and_a_probe_brings_it_back(autojump_clock):
    recorder = Recorder()
    policy = Supervision(max_restarts=3, window=60.0, first_wait=1.0, longest_wait=10.0, probe_after=30.0)
    async with supervised(policy, recorder) as (client, host):
        host.refuse = True
        await host.kill()
        while "down" not in repr(client):
            await trio.sleep(0.5)
        with pytest.raises(ServerDown) as caught:
            await client.call_tool("echo", {"text": "x"})
        assert 29.0 <= caught.value.retry_after <= 30.0
        host.refuse = False
        await trio.sleep(caught.value.retry_after)
        await wait_all_tasks_blocked()
        assert await echo(client) == "hi"
        waits = [event.restart_in for event in recorder.of(ServerGone)]
        assert waits == [1.0, 2.0, 4.0, 30.0]


async def test_a_failed_probe_keeps_it_down(autojump_clock):
    policy = Supervision(max_restarts=0, probe_after=30.0)
    async with supervised(policy) as (client, host):
        host.refuse = True
        await host.kill()
        for _ in range(3):
            with pytest.raises(ServerDown) as caught:
                await echo(client)
            assert caught.value.retry_after == 30.0
            await trio.sleep(30.0)
            await wait_all_tasks_blocked()
        host.refuse = False
        await trio.sleep(30.0)
        await wait_all_tasks_blocked()
        assert await echo(client) == "hi"


async def test_a_hung_server_is_told_from_a_busy_one(autojump_clock):
    async with supervised(Supervision(ping=10.0, first_wait=1.0), hold=["tools/call"]) as (client, host):
        # Busy: it still answers pings.
        with pytest.raises(RequestTimeout):
            await client.call_tool("slow", total=5.0)
        await trio.sleep(20.0)
        assert client.restarts == 0
        # Hung: it answers nothing.
        host.servers[0]._hold.add("ping")
        with pytest.raises(RequestTimeout):
            await client.call_tool("slow", total=5.0)
        await trio.sleep(9.0)
        assert client.restarts == 0
        await trio.sleep(2.5)
        assert client.restarts == 1
        assert len(host.servers) == 2


async def test_a_server_that_says_anything_is_not_hung(autojump_clock):
    async with supervised(Supervision(ping=10.0), hold=["tools/call", "ping"]) as (client, host):
        with pytest.raises(RequestTimeout):
            await client.call_tool("slow", total=5.0)
        await trio.sleep(5.0)
        await host.servers[0].notify("notifications/message", {"level": "info", "data": "still at it"})
        await trio.sleep(20.0)
        assert client.restarts == 0


async def test_without_supervision_the_end_is_the_end(autojump_clock):
    async with supervised(None) as (client, host):
        await host.kill()
        for _ in range(2):
            with pytest.raises(PeerGone):
                await echo(client)
        await trio.sleep(100)
        assert len(host.servers) == 1


async def test_a_closed_client_refuses_calls_and_fails_those_under_way():
    async with supervised(hold=["tools/call"]) as (client, host):
        errors = []

        async def doomed():
            with pytest.raises(PeerGone) as caught:
                await client.call_tool("x")
            errors.append(caught.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(doomed)
            await host.servers[0].wait_held()
            await client.aclose()
            await client.aclose()
        with pytest.raises(PeerGone, match="closed"):
            await client.ping()
        assert len(errors) == 1


async def test_closing_while_it_waits_for_a_restart_is_immediate(autojump_clock):
    async with supervised(Supervision(first_wait=100.0, longest_wait=100.0)) as (client, host):
        await host.kill()
        started = trio.current_time()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def waiting():
                with pytest.raises(PeerGone):
                    await client.call_tool("x")

            await wait_all_tasks_blocked()
            await client.aclose()
        assert trio.current_time() == started
