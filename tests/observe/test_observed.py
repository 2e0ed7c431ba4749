"""A chain without an agent, observed."""

from __future__ import annotations

import pytest
import trio
from judged import ScriptedProvider
from observe.turns import USAGE

from clawft_trio.auth import AuthContext
from clawft_trio.chat import Call, ChatRequest, Message
from clawft_trio.errors import AllProvidersExhausted, ConsumerLeft, ServerError
from clawft_trio.observe import Observed, Recorder, RoundEnded, open_queue, spans_of
from clawft_trio.resilience import Failover
from clawft_trio.testing import Fail, Finish, Hang, Say, Wait, cancel_everywhere

REQUEST = ChatRequest([Message.user("hello")])


def down(name: str) -> ScriptedProvider:
    return ScriptedProvider([Wait(1), Fail(lambda: ServerError("down", provider=name))], name=name)


def well(name: str) -> ScriptedProvider:
    return ScriptedProvider([Wait(2), Say("Hello."), Wait(1), Finish(usage=USAGE)], name=name)


async def test_a_call_without_an_agent_has_its_tree(autojump_clock: object) -> None:
    seen = Recorder()
    response = await Observed(Failover(down("a"), well("b")), seen).complete(REQUEST, Call())
    assert response.text == "Hello."
    (call,) = spans_of(seen.events).roots
    assert (call.kind, call.name, call.end - call.start, call.status) == ("call", "b", 4.0, "ok")
    assert [(a.name, a.role, a.status) for a in call.children] == [("a", "first", "failed"), ("b", "failover", "ok")]
    (ended,) = seen.of(RoundEnded)
    assert (ended.latency.total, ended.latency.first_content, ended.input_tokens) == (4.0, 3.0, 100)
    assert (ended.answered_by, ended.sender) == ("b", "")


async def test_two_concurrent_calls_are_distinguished(autojump_clock: object) -> None:
    seen = Recorder()
    chain = Observed(Failover(down("a"), well("b")), seen)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(chain.complete, REQUEST, Call())
    assert [len(root.children) for root in spans_of(seen.events).roots] == [2, 2]


async def test_a_failure_and_a_consumer_that_left_are_reported_as_such(autojump_clock: object) -> None:
    seen = Recorder()
    with pytest.raises(AllProvidersExhausted):
        await Observed(Failover(down("a"), down("b")), seen).complete(REQUEST, Call())

    async def leave(event: object) -> None:
        raise ConsumerLeft

    with pytest.raises(ConsumerLeft):
        await Observed(well("b"), seen).complete(REQUEST, Call(emit=leave))
    assert [ended.ending for ended in seen.of(RoundEnded)] == ["failed", "aborted"]
    assert isinstance(seen.of(RoundEnded)[0].error, AllProvidersExhausted)
    assert [ended.answered_by for ended in seen.of(RoundEnded)] == ["", ""]


async def test_a_call_is_reported_with_its_sender() -> None:
    seen = Recorder()
    auth = AuthContext(sender_id="ana", channel="test")
    observed = Observed(ScriptedProvider.saying("Hello.", name="b"), seen)
    await observed.complete(ChatRequest([Message.user("hello")], auth=auth), Call())
    assert observed.name == "b"
    assert [ended.sender for ended in seen.of(RoundEnded)] == ["test:ana"]


async def test_an_observer_that_hangs_or_raises_never_harms_a_call() -> None:
    def raises(event: object) -> None:
        raise RuntimeError("observer")

    async def main() -> None:
        stuck = trio.Event()
        async with open_queue(lambda event: trio.from_thread.run(stuck.wait), capacity=1, grace=0.01) as queued:
            chain = Observed(ScriptedProvider([Say("Hello."), Finish()]), raises, queued)
            with trio.fail_after(5):
                for _ in range(3):
                    assert (await chain.complete(REQUEST, Call())).text == "Hello."
        assert queued.statistics().dropped > 0
        stuck.set()

    await main()


async def test_cancelled_anywhere_the_call_is_reported_as_cancelled(autojump_clock: object) -> None:
    seen = Recorder()

    async def operation() -> None:
        seen.events.clear()
        chain = Observed(Failover(down("a"), well("b"), hedge_after=0.5), seen)
        await chain.complete(REQUEST, Call())

    async def check() -> None:
        told = seen.of(RoundEnded)
        assert len(told) <= 1
        for span in spans_of(seen.events).walk():
            assert span.end is not None

    assert await cancel_everywhere(operation, check, limit=300) > 5


async def test_a_cancelled_hang_states_the_reason(autojump_clock: object) -> None:
    seen = Recorder()
    with trio.move_on_after(3):
        await Observed(ScriptedProvider([Hang()]), seen).complete(REQUEST, Call())
    (call,) = spans_of(seen.events).roots
    assert (call.status, call.end - call.start) == ("cancelled", 3.0)
