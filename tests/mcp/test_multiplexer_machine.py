"""The multiplexer against a model: calls, answers in any order, cancellations, deadlines, notices, death, new life."""

from __future__ import annotations

import json

import trio
from hypothesis import settings, strategies as st
from hypothesis.stateful import Bundle, invariant, rule
from trio.testing import wait_all_tasks_blocked

from clawft_trio.codec import decode_json
from clawft_trio.errors import PeerError, PeerGone, ProtocolViolation, RequestTimeout
from clawft_trio.mcp.jsonrpc import parse
from clawft_trio.mcp.messages import CallOptions
from clawft_trio.mcp.multiplexer import Multiplexer
from clawft_trio.testing.machine import TrioMachine

WINDOW = 3


class Wire:
    """A transport that keeps what was sent, and lets the test say what comes in and when it ends."""

    def __init__(self):
        self.sent = []
        self.ended = trio.Event()

    async def run(self, mux):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._take, mux)
            await self.ended.wait()
            nursery.cancel_scope.cancel(reason="dead")
        return PeerGone("dead")

    async def _take(self, mux):
        while True:
            for frame in await mux.outgoing.take(1):
                self.sent.append(json.loads(frame.line))


class Call:
    """What the model knows of a call."""

    def __init__(self, number, deadline):
        self.number = number
        self.deadline = deadline
        self.scope = trio.CancelScope()
        self.outcome = None
        self.expected = None


class MultiplexerMachine(TrioMachine):
    calls = Bundle("calls")

    def __init__(self):
        super().__init__()
        self.number = 0
        self.now = 0.0
        self.live = []
        self.all = []
        self.heard = []
        self.told = []
        self.be_born()

    def be_born(self):
        self.wire = Wire()
        self.mux = Multiplexer(name="m", window=WINDOW, listen=self.listen)

        async def start():
            self.nursery.start_soon(self.mux.run, self.wire)
            await wait_all_tasks_blocked()

        self.run(start)

    async def listen(self, method, params):
        await trio.lowlevel.checkpoint()
        self.heard.append(json.loads(bytes(params))["n"])

    @rule(target=calls, total=st.sampled_from([1.0, 2.0, 5.0]))
    def call(self, total):
        self.number += 1
        call = Call(self.number, self.now + total)

        async def ask():
            with call.scope:
                try:
                    result = await self.mux.call(
                        "m", {"n": call.number}, decode=decode_json_bytes, options=CallOptions(total=total)
                    )
                    call.outcome = ("answer", result)
                except Exception as exc:
                    call.outcome = ("error", type(exc))
            if call.scope.cancelled_caught:
                call.outcome = ("cancelled", None)

        async def start():
            self.nursery.start_soon(ask)
            await wait_all_tasks_blocked()

        self.live.append(call)
        self.all.append(call)
        self.run(start)
        return call

    def requests(self):
        return {m["params"]["n"]: m["id"] for m in self.wire.sent if m.get("method") == "m"}

    def deliver(self, data):
        for message in parse(data):
            self.mux.deliver(message)
        self.settle()

    def settle_call(self, call, expected):
        if call in self.live:
            self.live.remove(call)
            call.expected = expected

    def reply(self, call, data, expected):
        key = self.requests().get(call.number)
        if key is None:
            return
        self.deliver(data.replace(b"@", str(key).encode()))
        self.settle_call(call, expected)

    # Calls are not consumed: a second answer, or one to a call that has ended, must change nothing.

    @rule(call=calls)
    def answer(self, call):
        self.reply(call, b'{"jsonrpc":"2.0","id":@,"result":%d}' % call.number, ("answer", call.number))

    @rule(call=calls)
    def answer_with_a_string_id(self, call):
        self.reply(call, b'{"jsonrpc":"2.0","id":"@","result":%d}' % call.number, ("answer", call.number))

    @rule(call=calls)
    def answer_with_an_error(self, call):
        self.reply(call, b'{"jsonrpc":"2.0","id":@,"error":{"code":1,"message":"no"}}', ("error", PeerError))

    @rule(call=calls)
    def answer_with_rubbish(self, call):
        self.reply(call, b'{"jsonrpc":"2.0","id":@,"result":"\\ud800"}', ("error", ProtocolViolation))

    @rule(call=calls)
    def ask_with_the_same_id(self, call):
        key = self.requests().get(call.number)
        if key is not None and self.mux.ended is None:
            self.deliver(b'{"jsonrpc":"2.0","id":%d,"method":"ping"}' % key)
            assert self.wire.sent[-1] == {"jsonrpc": "2.0", "id": key, "result": {}}

    @rule(call=calls)
    def cancel(self, call):
        call.scope.cancel(reason="the machine says so")
        self.settle()
        self.settle_call(call, ("cancelled", None))

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0]))
    def pass_time(self, seconds):
        self.advance(seconds)
        self.now += seconds
        for call in [call for call in self.live if call.deadline <= self.now]:
            self.settle_call(call, ("error", RequestTimeout))

    @rule(n=st.integers(0, 99))
    def observer(self, n):
        if self.mux.ended is None:
            self.told.append(n)
        self.deliver(b'{"jsonrpc":"2.0","method":"notifications/message","params":{"n":%d}}' % n)

    @rule()
    def die(self):
        self.wire.ended.set()
        self.settle()
        for call in list(self.live):
            self.settle_call(call, ("error", PeerGone))

    @rule()
    def be_born_again(self):
        if self.mux.ended is not None:
            # Ids start anew: what is said to an earlier life must not be taken for this one's.
            self.be_born()

    @invariant()
    def everybody_has_what_was_due_and_nothing_else(self):
        if self.mux.ended is not None:
            for call in list(self.live):
                self.settle_call(call, ("error", PeerGone))  # called after the death: refused at once
        assert [(call.number, call.outcome) for call in self.all] == [(call.number, call.expected) for call in self.all]

    @invariant()
    def the_books_agree(self):
        statistics = self.mux.statistics()
        assert statistics.in_flight + statistics.waiting == len(self.live)
        assert statistics.in_flight <= WINDOW
        assert statistics.in_flight == min(WINDOW, len(self.live))
        assert statistics.outgoing == 0
        assert self.heard == self.told


def decode_json_bytes(raw):
    return decode_json(bytes(raw))


TestMultiplexerMachine = MultiplexerMachine.TestCase
TestMultiplexerMachine.settings = settings(deadline=None, max_examples=40, stateful_step_count=30)
