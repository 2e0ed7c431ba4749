from __future__ import annotations

import pytest
import trio

from clawft_trio.chat import Call, ChatRequest, Message, StreamEvent, TextDelta, Usage, UsageReport
from clawft_trio.errors import ProviderTimeout, ServerError
from clawft_trio.llm.stream import open_stream
from clawft_trio.resilience import Resilient, Timeout
from clawft_trio.testing.screen import Screen
from clawft_trio.testing.script import CallTool, Fail, Finish, Hang, Report, Say, Script, Think, Wait
from clawft_trio.testing.scripted import ScriptedProvider

REQUEST = ChatRequest([Message.user("hello")])
SOME = Usage(input_tokens=1)


async def timed(script: Script, policy: Timeout, **screen: float) -> tuple[str, float]:
    """Ask once; return the clock that ran out, or `ok`, and when."""
    provider = Resilient(ScriptedProvider(script), policy)
    started = trio.current_time()
    try:
        await provider.complete(REQUEST, Call(emit=Screen(**screen).emit))
    except ProviderTimeout as exc:
        assert exc.limit is not None
        return exc.clock, trio.current_time() - started
    return "ok", trio.current_time() - started


WATCH = Timeout(first_content=5.0, gap=2.0)


@pytest.mark.parametrize(
    ("script", "policy", "expected"),
    [
        ([Hang()], WATCH, ("first_content", 5.0)),
        ([Wait(4.9), Say("a"), Finish()], WATCH, ("ok", 4.9)),
        ([Wait(1.0), Say("a"), Hang()], WATCH, ("gap", 3.0)),
        ([Say("a"), Wait(1.9), Say("b"), Wait(1.9), Finish()], WATCH, ("ok", 3.8)),
        ([Say("a"), Wait(1.9), Say("b"), Wait(2.1), Finish()], WATCH, ("gap", 3.9)),
        # Usage is no content, but a sign of life: it starts the clock anew that runs.
        ([Wait(4.0), Report(SOME), Wait(4.0), Say("a"), Finish()], WATCH, ("ok", 8.0)),
        ([Wait(4.0), Report(SOME), Hang()], WATCH, ("first_content", 9.0)),
        ([Say("a"), Wait(1.0), Report(SOME), Wait(1.5), Finish()], WATCH, ("ok", 2.5)),
        ([Say("a"), Wait(1.0), Report(SOME), Hang()], WATCH, ("gap", 3.0)),
        # So is a delta without text, as from a model whose reasoning is hidden.
        ([Wait(4.0), Think(""), Wait(4.0), Think(""), Wait(4.0), Say("a"), Finish()], WATCH, ("ok", 12.0)),
        ([Wait(4.0), Say(""), Hang()], WATCH, ("first_content", 9.0)),
        ([Hang()], Timeout(first_content=5.0), ("first_content", 5.0)),
        ([Wait(1), Say("a"), Wait(1000), Finish()], Timeout(first_content=5.0), ("ok", 1001.0)),
        ([Wait(1000), Say("a"), Hang()], Timeout(gap=2.0), ("gap", 1002.0)),
        ([Wait(10), Say("a"), Hang()], Timeout(first_content=60.0, gap=2.0), ("gap", 12.0)),
        # While tool arguments are on their way a longer silence is normal.
        ([CallTool("t", '{"a": 1'), Hang()], Timeout(gap=2.0, tool_gap=60.0), ("gap", 60.0)),
        ([Say("a"), Wait(1), CallTool("t", '{"a": 1'), Hang()], Timeout(gap=2.0, tool_gap=6.0), ("gap", 7.0)),
        ([Say("a"), Hang()], Timeout(gap=20.0, tool_gap=6.0), ("gap", 20.0)),
        ([Hang()], Timeout(total=3.0), ("total", 3.0)),
        ([Say("a"), Hang()], Timeout(total=3.0, gap=4.0), ("total", 3.0)),
        ([Say("a"), Hang()], Timeout(total=3.0, gap=2.0), ("gap", 2.0)),
        ([Wait(50), Say("a"), Finish()], Timeout(), ("ok", 50.0)),
    ],
)
async def test_each_clock_is_exact(
    script: Script, policy: Timeout, expected: tuple[str, float], autojump_clock: trio.testing.MockClock
) -> None:
    clock, when = await timed(script, policy)
    assert (clock, pytest.approx(when)) == expected


async def test_a_slow_consumers_time_is_the_consumers(autojump_clock: trio.testing.MockClock) -> None:
    assert (await timed([Say("a"), Say("b"), Finish()], WATCH, pause=100.0))[0] == "ok"
    # The gap starts when the consumer gives back the turn.
    assert await timed([Say("a"), Hang()], WATCH, pause=100.0) == ("gap", 102.0)
    assert await timed([Say("a"), Finish()], Timeout(total=50.0), pause=100.0) == ("total", 50.0)


async def test_backpressure_of_an_iterating_reader_is_no_stall(autojump_clock: trio.testing.MockClock) -> None:
    script = [Say(str(n)) for n in range(20)] + [Finish()]
    provider = Resilient(ScriptedProvider(script), Timeout(gap=1.0))
    seen = 0
    async with open_stream(provider, REQUEST, buffer=2) as stream:
        async for _ in stream:
            seen += 1
            await trio.sleep(10)
    assert seen == 20
    assert stream.response.finish_reason == "stop"


async def test_somebody_elses_deadline_is_cancellation(autojump_clock: trio.testing.MockClock) -> None:
    for policy in (WATCH, Timeout(total=3.0)):
        with trio.move_on_after(1.0) as scope:
            await timed([Hang()], policy)
        assert scope.cancelled_caught


async def test_an_error_inside_comes_out_bare(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(ServerError):
        await timed([Say("a"), Fail(ServerError("down"))], WATCH)


async def test_a_consumers_error_comes_out_bare(autojump_clock: trio.testing.MockClock) -> None:
    async def emit(event: StreamEvent) -> None:
        raise KeyboardInterrupt

    provider = Resilient(ScriptedProvider.saying("hello"), WATCH)
    with pytest.raises(KeyboardInterrupt):
        await provider.complete(REQUEST, Call(emit=emit))


async def test_the_attempt_really_ends_and_its_record_says_why(autojump_clock: trio.testing.MockClock) -> None:
    leaf = ScriptedProvider([Say("a"), Hang()])
    call = Call()
    with pytest.raises(ProviderTimeout):
        await Resilient(leaf, WATCH).complete(REQUEST, call)
    assert leaf.running == 0
    assert [(record.outcome, record.why) for record in call.log.records] == [("cancelled", "no gap within 2 s")]


async def test_it_bounds_any_function(autojump_clock: trio.testing.MockClock) -> None:
    @Timeout(total=2.0)
    async def slow() -> None:
        await trio.sleep_forever()

    with pytest.raises(ProviderTimeout):
        await slow()
    assert trio.current_time() == 2.0


def test_nonsense_is_refused_where_it_is_made() -> None:
    for name in ("first_content", "gap", "total"):
        with pytest.raises(ValueError):
            Timeout(**{name: 0})
    assert UsageReport(SOME) == UsageReport(SOME)


@pytest.mark.parametrize("event", [UsageReport(SOME), TextDelta("")], ids=["usage", "an empty delta"])
@pytest.mark.parametrize("before", [True, False], ids=["before content", "after content"])
async def test_time_that_a_consumer_takes_for_what_is_no_content_counts_for_no_clock(autojump_clock, event, before):
    async def slow(shown: StreamEvent) -> None:
        if shown is event:
            await trio.sleep(100.0)

    async def attempt(call: Call) -> str:
        if not before:
            await call.emit(TextDelta("a"))
        await call.emit(event)
        await call.emit(TextDelta("b"))
        return "fine"

    assert await Timeout(first_content=5.0, gap=2.0).run(attempt, Call(emit=slow)) == "fine"
    assert trio.current_time() >= 100.0


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        # An attempt that waits in this process runs no clock.
        ([("waiting", 0.0), 100.0, ("admitted", 0.0), 4.9, "a"], ("ok", 104.9)),
        ([("waiting", 0.0), 100.0, ("admitted", 0.0), 9.0], ("first_content", 105.0)),
        # A target may be silent for as long as was stated, whatever shorter time a later sign states.
        ([("admitted", 20.0), 19.9, "a"], ("ok", 19.9)),
        ([("admitted", 20.0), 30.0], ("first_content", 20.0)),
        ([("admitted", 20.0), ("admitted", 1.0), 19.9, "a"], ("ok", 19.9)),
        # Before content a sign of life starts the clock again; reasoning may take its own time.
        ([4.0, ("alive", 0.0), 4.0, "a"], ("ok", 8.0)),
        ([("admitted", 20.0), 4.0, ("alive", 0.0), 9.0], ("first_content", 9.0)),
        ([("thinking", 30.0), 29.9, "a"], ("ok", 29.9)),
        ([("thinking", 30.0), ("thinking", 1.0), 9.0], ("first_content", 5.0)),
        # After content the time between events counts; a sign of life makes it no longer, and reasoning does.
        (["a", 1.5, ("alive", 0.0), 9.0], ("gap", 2.0)),
        (["a", 1.5, ("thinking", 30.0), 29.9, "b"], ("ok", 31.4)),
        (["a", 1.5, ("thinking", 30.0), 1.0, "b", 9.0], ("gap", 4.5)),
    ],
)
async def test_signs_of_the_target_move_the_clocks(
    steps: list[tuple[str, float] | float | str],
    expected: tuple[str, float],
    autojump_clock: trio.testing.MockClock,
) -> None:
    passed: list[tuple[str, float]] = []

    async def attempt(call: Call) -> None:
        for step in steps:
            if isinstance(step, tuple):
                call.pulse(*step)
            elif isinstance(step, str):
                await call.emit(TextDelta(step))
            else:
                await trio.sleep(step)

    started, ended = trio.current_time(), "ok"
    try:
        await WATCH.run(attempt, Call(pulse=lambda *sign: passed.append(sign)))
    except ProviderTimeout as exc:
        ended = exc.clock
    assert (ended, trio.current_time() - started) == (expected[0], pytest.approx(expected[1]))
    assert passed == [step for step in steps if isinstance(step, tuple)]
