"""What users ran into, and what must not come back."""

from __future__ import annotations

import pytest
import trio

from clawft_trio.attempts import Usage
from clawft_trio.chat import Call, ChatRequest, ChatResponse, Message, Reset, StreamEvent, TextDelta
from clawft_trio.errors import AllProvidersExhausted, ContentFiltered, ProviderTimeout, ServerError
from clawft_trio.llm.stream import complete
from clawft_trio.resilience import (
    CircuitBreaker,
    Failover,
    Hold,
    Live,
    Policy,
    Preview,
    Resilient,
    Retry,
    RetryBudget,
    Timeout,
    compose,
    resilient_chain,
)
from clawft_trio.testing.screen import Screen
from clawft_trio.testing.script import CallTool, Fail, Finish, Hang, Report, Say, Think, Wait
from clawft_trio.testing.scripted import ScriptedProvider

REQUEST = ChatRequest([Message.user("hello")])


async def test_a_tool_gap_needs_no_other_clock(autojump_clock: trio.testing.MockClock) -> None:
    model = Resilient(ScriptedProvider([CallTool("read"), Hang()]), Timeout(tool_gap=5.0))
    with pytest.raises(ProviderTimeout) as caught, trio.fail_after(100):
        await model.complete(REQUEST, Call())
    assert (caught.value.clock, trio.current_time()) == ("gap", 5.0)


@pytest.mark.parametrize("slow_at", [Report(Usage(input_tokens=1)), Say("b")])
async def test_no_clock_counts_what_the_consumer_takes(
    slow_at: Report | Say, autojump_clock: trio.testing.MockClock
) -> None:
    model = Resilient(ScriptedProvider([Say("a"), slow_at, Wait(4.0), Say("c"), Finish()]), Timeout(gap=5.0))
    screen = Screen(pause=10.0)
    screen.check(await model.complete(REQUEST, Call(emit=screen.emit)))


async def test_usage_starts_the_gap_anew(autojump_clock: trio.testing.MockClock) -> None:
    script = [Say("a"), Wait(3.0), Report(Usage(input_tokens=1)), Wait(3.0), Say("b"), Finish()]
    model = Resilient(ScriptedProvider(script), Timeout(gap=5.0))
    assert (await model.complete(REQUEST, Call())).text == "ab"


async def test_the_clock_that_ends_an_attempt_keeps_what_was_shown(autojump_clock: trio.testing.MockClock) -> None:
    for policy in (Timeout(gap=5.0), Timeout(total=5.0)):
        model = Resilient(ScriptedProvider([Think("hm"), Say("a"), Say("b"), Hang()]), policy)
        with pytest.raises(ProviderTimeout) as caught:
            await model.complete(REQUEST, Call())
        assert (caught.value.partial.reasoning, caught.value.partial.text) == ("hm", "ab")
    silent = Resilient(ScriptedProvider([Hang()]), Timeout(first_content=5.0))
    with pytest.raises(ProviderTimeout) as caught:
        await silent.complete(REQUEST, Call())
    assert caught.value.partial is None


async def test_a_consumer_slow_to_forget_is_no_gap_either(autojump_clock: trio.testing.MockClock) -> None:
    async def emit(event: StreamEvent) -> None:
        if isinstance(event, Reset):
            await trio.sleep(10.0)

    broken = ScriptedProvider([Say("a"), Fail(ServerError("down"))], [Say("b"), Finish()])
    model = Resilient(broken, compose(Timeout(first_content=5.0, gap=5.0), Retry(first_wait=0.0)))
    assert (await model.complete(REQUEST, Call(emit=emit))).text == "b"


async def test_a_retry_after_a_cancelled_showing_is_watched(autojump_clock: trio.testing.MockClock) -> None:
    async def emit(event: StreamEvent) -> None:
        if isinstance(event, TextDelta):
            await trio.sleep(100.0)

    leaf = ScriptedProvider([Say("a"), Finish()], [Hang()])
    policy = compose(Timeout(first_content=5.0), Retry(first_wait=0.0), Timeout(total=20.0))
    with pytest.raises(ProviderTimeout) as caught:
        await Resilient(leaf, policy).complete(REQUEST, Call(emit=emit))
    assert (caught.value.clock, trio.current_time()) == ("first_content", 25.0)


@pytest.mark.parametrize("outermost", [Live(), Preview(characters=1)])
async def test_a_reset_that_was_cancelled_on_its_way_is_said_again(
    outermost: Policy, autojump_clock: trio.testing.MockClock
) -> None:
    screen = Screen()

    async def emit(event: StreamEvent) -> None:
        if isinstance(event, Reset) and trio.current_time() < 5.0:
            await trio.sleep(6.0)
        await screen.emit(event)

    leaf = ScriptedProvider([Say("bad"), Fail(ServerError("down"))], [Say("good"), Finish()])
    again = Retry(first_wait=0.0)
    model = Resilient(leaf, compose(outermost, again, Timeout(total=5.0), again))
    screen.check(await model.complete(REQUEST, Call(emit=emit)))
    assert [reset.discarded.text for reset in screen.resets] == ["bad"]


async def test_a_failed_probe_never_shortens_the_wait(autojump_clock: trio.testing.MockClock) -> None:
    breaker = CircuitBreaker(open_for=60.0, minimum_calls=1).bind("a")

    async def fail(_: Call) -> None:
        raise ServerError("down")

    for _ in range(2):
        with pytest.raises(ServerError):
            await breaker.run(fail, Call())
        assert breaker.statistics().retry_after == 60.0
        await trio.sleep(60.0)


async def test_an_answer_that_is_held_is_watched_as_it_comes(autojump_clock: trio.testing.MockClock) -> None:
    long = [step for _ in range(100) for step in (Wait(1.0), Say("x"))]
    screen = Screen()
    chain = resilient_chain(ScriptedProvider([*long, Finish()]), delivery=Hold())
    screen.check(await chain.complete(REQUEST, Call(emit=screen.emit)))
    assert trio.current_time() == 100.0


async def test_a_held_answer_that_stalls_is_found_by_its_gap(autojump_clock: trio.testing.MockClock) -> None:
    stalls, backup = ScriptedProvider([Say("x"), Hang()], name="a"), ScriptedProvider.saying("hello", name="b")
    chain = resilient_chain(stalls, backup, delivery=Hold(), gap=5.0, hedge_after=None)
    assert (await chain.complete(REQUEST, Call())).provider == "b"
    assert trio.current_time() == 5.0


async def test_a_stall_after_content_is_final_where_content_commits(autojump_clock: trio.testing.MockClock) -> None:
    stalls, backup = ScriptedProvider([Say("x"), Hang()], name="a"), ScriptedProvider.saying("hello", name="b")
    screen = Screen()
    chain = resilient_chain(stalls, backup, delivery=Live(after_content="raise"))
    with pytest.raises(ProviderTimeout) as caught:
        await chain.complete(REQUEST, Call(emit=screen.emit))
    assert (caught.value.partial.text, screen.resets, backup.calls) == ("x", [], 0)


async def test_a_retry_of_ones_own_shares_the_chains_budget(autojump_clock: trio.testing.MockClock) -> None:
    broken = ScriptedProvider([Fail(ServerError("down"))])
    budget = RetryBudget(capacity=1.0, ratio=0.0, per_second=0.0)
    with pytest.raises(ServerError):
        await resilient_chain(broken, retry=Retry(max_retries=5), budget=budget).complete(REQUEST, Call())
    assert broken.calls == 2


async def test_a_refusal_in_a_race_stops_further_starts_and_comes_out_in_the_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    refuses = ScriptedProvider([Wait(2.0), Fail(ContentFiltered("no"))], name="a")
    slow = ScriptedProvider([Wait(5.0), Fail(ServerError("down"))], name="b")
    never = ScriptedProvider.saying("evaded", name="c")
    with pytest.raises(ContentFiltered):
        await Failover(refuses, slow, never, hedge_after=1.5).complete(REQUEST, Call())
    assert (trio.current_time(), slow.running, never.calls) == (6.5, 0, 0)


async def test_the_slow_one_is_asked_again_when_the_faster_one_breaks(autojump_clock: trio.testing.MockClock) -> None:
    slow = ScriptedProvider([Wait(2.0), Say("fine"), Finish()], name="a")
    broken = ScriptedProvider([Say("x"), Fail(ServerError("down"))], name="b")
    screen = Screen()
    response = await Failover(slow, broken, hedge_after=1.0).complete(REQUEST, Call(emit=screen.emit))
    screen.check(response)
    assert (response.provider, slow.calls, broken.calls) == ("a", 2, 1)


async def test_who_was_given_up_and_then_fails_ends_the_walk(autojump_clock: trio.testing.MockClock) -> None:
    slow = ScriptedProvider([Wait(2.0), Fail(ServerError("down"))], name="a")
    broken = ScriptedProvider([Say("x"), Fail(ServerError("down"))], name="b")
    with pytest.raises(AllProvidersExhausted) as caught:
        await Failover(slow, broken, hedge_after=1.0).complete(REQUEST, Call())
    assert sorted(record.target for record in caught.value.attempts if record.outcome == "failed") == ["a", "b"]
    assert (slow.calls, broken.calls) == (2, 1)


class _Nursery:
    """A provider that shows its answer from a child task."""

    name = "own"

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.emit, TextDelta("hi"))
            nursery.start_soon(trio.lowlevel.checkpoint)
        return ChatResponse(content="hi", provider=self.name)


async def test_a_consumer_may_leave_a_provider_that_has_a_nursery() -> None:
    response = await complete(_Nursery(), REQUEST, lambda _: False)
    assert (response.text, response.finish_reason) == ("hi", "aborted")
    assert [record.outcome for record in response.attempts] == ["aborted"]

    def broken(_: StreamEvent) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await complete(Failover(_Nursery(), _Nursery()), REQUEST, broken)


class _Unrecorded:
    """A provider that keeps no record and breaks after it has spoken."""

    name = "own"

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        await call.emit(TextDelta("hi"))
        raise ServerError("down")


async def test_a_provider_without_records_is_not_thought_free_when_it_fails() -> None:
    with pytest.raises(ServerError) as caught:
        await complete(_Unrecorded(), REQUEST)
    assert [record.sent for record in caught.value.attempts] == [True]


def test_a_plain_function_cannot_be_wrapped() -> None:
    with pytest.raises(TypeError, match="fetch is not async"):

        @Retry(max_retries=1)
        def fetch() -> None:
            """Whoever called it would get a coroutine."""
