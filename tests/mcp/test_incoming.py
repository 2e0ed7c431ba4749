"""The peer's requests: how many run and wait at once, in which order, and what a used id costs."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import pytest
import trio
from msgspec import Raw
from trio.testing import wait_all_tasks_blocked

from clawft_trio.mcp.incoming import CONCURRENT, IncomingRequests

QUEUED = 3


class Peer:
    """Sends requests, and lets each be answered."""

    def __init__(self):
        self.started = []
        self.gates = {}
        self.answers = []
        self.requests = IncomingRequests(self.send, self.send_nowait, self.serve, limit=QUEUED)

    async def serve(self, incoming):
        self.started.append(incoming.id)
        gate = self.gates[incoming.id] = trio.Event()
        await gate.wait()
        return {}

    async def send(self, line):
        await trio.lowlevel.checkpoint()
        self.send_nowait(line)

    def send_nowait(self, line):
        message = json.loads(line)
        self.answers.append((message["id"], message.get("error", {}).get("code")))

    def request(self, *ids, method="x"):
        for key in ids:
            self.requests.request(key, method, Raw(b"{}"))

    async def finish(self, *ids):
        for key in ids:
            self.gates[key].set()
            await wait_all_tasks_blocked()

    def counts(self):
        return self.requests.active, self.requests.queued


@asynccontextmanager
async def busy_peer():
    """A peer with as many requests as may run at once."""
    peer = Peer()
    async with trio.open_nursery() as nursery:
        peer.requests.use(nursery)
        peer.request(*range(CONCURRENT))
        await wait_all_tasks_blocked()
        yield peer
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_so_many_requests_run_at_once_so_many_wait_in_order_and_more_are_refused():
    async with busy_peer() as peer:
        peer.request("a", "b", "c", "d")
        await wait_all_tasks_blocked()
        assert sorted(peer.started) == [*range(64)]
        assert peer.answers == [("d", -32000)]
        assert peer.counts() == (67, 3)
        await peer.finish(5, 0, 63)
        assert peer.started[64:] == ["a", "b", "c"]
        assert peer.counts() == (64, 0)
        peer.request("d")
        assert peer.counts() == (65, 1)


async def test_an_id_is_used_by_one_request_at_a_time():
    async with busy_peer() as peer:
        peer.request("a", "a", 7)
        assert peer.answers == [("a", -32000), (7, -32000)]
        # With free places, too.
        await peer.finish(0, 1, 2)
        peer.request("a", 7, "b")
        await peer.finish("a", 7, "b")
        assert peer.answers[2:] == [(0, None), (1, None), (2, None), ("a", -32000), (7, -32000)] + [
            ("a", None),
            (7, None),
            ("b", None),
        ]
        peer.request("a")
        await wait_all_tasks_blocked()
        assert peer.started[-1] == "a"


async def test_a_cancelled_request_gets_no_answer_whether_it_runs_or_waits():
    async with busy_peer() as peer:
        peer.request("a", "b")
        for key in ("a", 3, "unknown"):
            peer.requests.cancel(key, "not needed")
        await wait_all_tasks_blocked()
        assert peer.started[64:] == ["b"]
        assert (peer.answers, peer.counts()) == ([], (64, 0))


async def test_the_wait_for_the_end_lasts_until_every_request_has_its_answer():
    async with busy_peer() as peer:
        peer.request("a")
        ended = trio.Event()

        async def wait():
            await peer.requests.wait_idle()
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await peer.finish(*range(CONCURRENT))
            assert not ended.is_set()
            await peer.finish("a")
            assert ended.is_set()
        await peer.requests.wait_idle()


@pytest.mark.parametrize("full", [False, True])
async def test_a_ping_is_answered_at_once(full):
    async with busy_peer() as peer:
        peer.request(*(["a", "b", "c"] if full else []))
        peer.request("p", method="ping")
        assert peer.answers == [("p", None)]


@pytest.mark.parametrize("started", [False, True])
async def test_without_an_answerer_every_request_but_a_ping_is_unknown(started):
    peer = Peer()
    async with trio.open_nursery() as nursery:
        requests = IncomingRequests(peer.send, peer.send_nowait, None if started else peer.serve)
        if started:
            requests.use(nursery)
        for key, method in (("a", "x"), ("p", "ping")):
            requests.request(key, method, Raw(b"{}"))
    assert peer.answers == [("a", -32601), ("p", None)]
