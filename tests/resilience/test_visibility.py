from __future__ import annotations

import pytest
import trio

from clawft_trio.attempts import Usage
from clawft_trio.chat import (
    Call,
    ChatRequest,
    ChatResponse,
    Discarded,
    Message,
    ReasoningDelta,
    Reset,
    StreamEvent,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallReady,
    ToolCallSealed,
    UsageReport,
)
from clawft_trio.errors import BulkheadFull, ConsumerLeft, ServerError, StreamTruncated
from clawft_trio.observe import Retracted
from clawft_trio.resilience import Bulkhead, Failover, Hold, Live, Policy, Preview, Resilient, Retry, compose
from clawft_trio.resilience.visibility import Shown, partial_response, shown_of
from clawft_trio.testing.screen import Screen
from clawft_trio.testing.script import CallTool, Fail, Finish, Hang, Say, Script, Think, Wait
from clawft_trio.testing.scripted import ScriptedProvider

REQUEST = ChatRequest([Message.user("hello")])
BROKEN: Script = [Say("bad"), Wait(1), Say("ly"), Fail(ServerError("down"))]
WHOLE: Script = [Say("go"), Wait(1), Say("od"), Finish()]


async def watch(policy: Policy, *scripts: Script) -> tuple[Screen, list[tuple[float, str]]]:
    """Ask once under *policy*; what stands on the screen at each event, and seconds since the question."""
    screen, started = Screen(), trio.current_time()
    frames: list[tuple[float, str]] = []

    async def emit(event: object) -> None:
        await screen.emit(event)
        frames.append((trio.current_time() - started, screen.text))

    provider = Resilient(ScriptedProvider(*scripts), policy)
    screen.check(await provider.complete(REQUEST, Call(emit=emit)))
    return screen, frames


NO_WAIT = Retry(first_wait=0.0)


async def test_live_shows_at_once_and_takes_back(autojump_clock: trio.testing.MockClock) -> None:
    screen, frames = await watch(compose(NO_WAIT, Live()), BROKEN, WHOLE)
    assert frames[:4] == [(0.0, "bad"), (1.0, "badly"), (1.0, ""), (1.0, "go")]
    assert len(screen.resets) == 1


async def test_hold_shows_only_what_succeeded(autojump_clock: trio.testing.MockClock) -> None:
    screen, frames = await watch(compose(NO_WAIT, Hold()), BROKEN, WHOLE)
    assert screen.resets == []
    assert [text for _, text in frames if text] == ["good"]


async def test_hold_outside_the_retry_holds_all_attempts(autojump_clock: trio.testing.MockClock) -> None:
    screen, _ = await watch(compose(Hold(), NO_WAIT), BROKEN, WHOLE)
    assert screen.resets == []
    assert screen.text == "good"


async def test_what_hold_cannot_hold_commits(autojump_clock: trio.testing.MockClock) -> None:
    screen, frames = await watch(Hold(max_characters=3), [Say("ab"), Say("cd"), Wait(5), Say("e"), Finish()])
    assert frames[0] == (0.0, "abcd")
    assert screen.text == "abcde"


async def test_preview_hides_an_early_failure(autojump_clock: trio.testing.MockClock) -> None:
    screen, frames = await watch(compose(NO_WAIT, Preview(characters=10)), BROKEN, WHOLE)
    assert screen.resets == []
    assert screen.text == "good"


async def test_preview_goes_live_after_its_characters_or_seconds(autojump_clock: trio.testing.MockClock) -> None:
    script = [Say("abc"), Wait(1), Say("def"), Wait(1), Say("ghi"), Finish()]
    _, frames = await watch(Preview(characters=4), script)
    assert [frame for frame in frames if frame[1]][:2] == [(1.0, "abcdef"), (2.0, "abcdefghi")]
    _, frames = await watch(Preview(seconds=2.0), script)
    assert [(when, text) for when, text in frames if text][0] == (2.0, "abcdefghi")


async def test_a_later_failure_after_a_preview_is_taken_back_and_proved_anew(
    autojump_clock: trio.testing.MockClock,
) -> None:
    screen, frames = await watch(compose(NO_WAIT, Preview(characters=4)), BROKEN, WHOLE)
    assert len(screen.resets) == 1
    assert screen.text == "good"


async def test_order_is_kept_among_all_kinds_of_events(autojump_clock: trio.testing.MockClock) -> None:
    script = [Think("hm"), Say("a"), CallTool("t", {"x": 1}), Say("b"), Finish()]
    plain, _ = await watch(Live(), script)
    held, _ = await watch(Hold(), script)
    assert (held.text, held.reasoning, held.tool_calls) == (plain.text, plain.reasoning, plain.tool_calls)


async def test_after_content_raise_is_final_and_has_the_partial(autojump_clock: trio.testing.MockClock) -> None:
    broken, backup = ScriptedProvider(BROKEN, name="a"), ScriptedProvider.saying("hello", name="b")
    chain = Failover(Resilient(broken, compose(Retry(), Live(after_content="raise"))), backup)
    screen = Screen()
    with pytest.raises(ServerError) as caught:
        await chain.complete(REQUEST, Call(emit=screen.emit))
    assert caught.value.partial.text == screen.text == "badly"
    assert (broken.calls, backup.calls, screen.resets) == (1, 0, [])


async def test_after_content_raise_leaves_earlier_failures_alone(autojump_clock: trio.testing.MockClock) -> None:
    silent = ScriptedProvider([Fail(ServerError("down"))], WHOLE)
    provider = Resilient(silent, compose(Retry(), Live(after_content="raise")))
    assert (await provider.complete(REQUEST, Call())).text == "good"


def test_a_preview_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError):
        Preview()


async def test_a_bulkhead_bounds_what_runs_what_waits_and_how_long(autojump_clock: trio.testing.MockClock) -> None:
    leaf = ScriptedProvider([Hang()], [Hang()], [Wait(1), Say("a"), Finish()])
    provider = Resilient(leaf, Bulkhead(max_concurrent=2, queue=1, queue_for=5.0))
    with trio.move_on_after(100):
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(provider.complete, REQUEST, Call())
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(BulkheadFull) as waited:
                async with trio.open_nursery() as inner:
                    inner.start_soon(_refused_at_once, provider)
                    try:
                        await provider.complete(REQUEST, Call())
                    except BulkheadFull as exc:
                        waited_for = exc
                raise waited_for
            assert trio.current_time() == 5.0
            assert not waited.value.retryable
            assert provider.strategy.statistics().running == 2
            nursery.cancel_scope.cancel(reason="seen enough")
    assert provider.strategy.statistics().running == 0
    assert (await provider.complete(REQUEST, Call())).text == "a"


async def _refused_at_once(provider: Resilient) -> None:
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(BulkheadFull):
        await provider.complete(REQUEST, Call())
    assert trio.current_time() == 0.0


async def test_first_come_first_served(autojump_clock: trio.testing.MockClock) -> None:
    order: list[int] = []
    bulkhead = Bulkhead(max_concurrent=1)

    async def work(number: int) -> None:
        order.append(number)
        await trio.sleep(1)

    async def come(number: int) -> None:
        await trio.sleep(number / 100)
        await bulkhead(work, number)

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(come, number)
    assert order == list(range(10))


async def test_a_caller_that_leaves_the_queue_holds_nothing(autojump_clock: trio.testing.MockClock) -> None:
    provider = Resilient(ScriptedProvider([Hang()], [Say("a"), Finish()]), Bulkhead(max_concurrent=1, queue_for=None))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(provider.complete, REQUEST, Call())
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(1):
            await provider.complete(REQUEST, Call())
        nursery.cancel_scope.cancel(reason="seen enough")
    now = provider.strategy.statistics()
    assert (now.running, now.waiting) == (0, 0)


CALL = ToolCall(id="c", name="t", arguments="{}")
DOWN = ServerError("down")
USAGE = UsageReport(Usage(input_tokens=3, output_tokens=2))


async def arrivals(policy: Policy, *steps: StreamEvent | float) -> list[tuple[float, StreamEvent]]:
    """The events that a consumer gets of an attempt that emits *steps*, with their times; numbers are seconds."""
    started, seen = trio.current_time(), []

    async def emit(event: StreamEvent) -> None:
        seen.append((trio.current_time() - started, event))

    async def attempt(call: Call) -> str:
        for step in steps:
            await (trio.sleep(step) if isinstance(step, float) else call.emit(step))
        return "done"

    assert await policy.run(attempt, Call(emit=emit)) == "done"
    return seen


def text(value: str) -> TextDelta:
    return TextDelta(value)


MIXED = [text("a"), text("b"), ReasoningDelta("hm"), text("c"), ToolCallDelta(0, "c", "t", "{}"), USAGE, text("d"),
         text("e"), ToolCallSealed(CALL), ToolCallReady(CALL)]  # fmt: skip


@pytest.mark.parametrize("policy", [Hold(), Preview(characters=1000), Preview(seconds=100.0)], ids=repr)
async def test_held_events_come_at_the_end_in_their_order(
    policy: Policy, autojump_clock: trio.testing.MockClock
) -> None:
    steps = [step for event in MIXED for step in (event, 1.0)]
    seen = await arrivals(policy, *steps)
    joined = [text("ab"), *MIXED[2:6], text("de"), *MIXED[8:]]
    assert seen == [(float(len(MIXED)), event) for event in joined]


@pytest.mark.parametrize(
    ("event", "size"),
    [
        (text("x" * 70), 70),
        (ReasoningDelta("x" * 70), 70),
        (ToolCallDelta(0, "c", "t", "x" * 6), 70),
        (ToolCallReady(CALL), 64),
        (USAGE, 64),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_more_characters_than_a_preview_has_end_its_delay(
    event: StreamEvent, size: int, autojump_clock: trio.testing.MockClock
) -> None:
    for characters, when in ((size - 1, 1.0), (size, 2.0), (size + 1, 3.0)):
        seen = await arrivals(Preview(characters=characters), 1.0, event, 1.0, text("!"), 1.0)
        assert seen[0][0] == when
        assert len(seen) == 2 or seen == [(when, text("x" * 70 + "!"))]


async def test_after_its_delay_a_preview_is_live_until_the_next_reset(autojump_clock: trio.testing.MockClock) -> None:
    reset = Reset(Discarded("abcd"), DOWN)
    again = [text("ab"), 1.0, text("cd"), 1.0, text("e"), 1.0]
    assert await arrivals(Preview(characters=3), *again, reset, *again, reset, text("ab"), reset, 1.0, text("f")) == [
        (1.0, text("abcd")),
        (2.0, text("e")),
        (3.0, reset),
        (4.0, text("abcd")),
        (5.0, text("e")),
        (6.0, reset),
        # Nothing was sent since then, and what was held is gone.
        (7.0, text("f")),
    ]


async def test_the_seconds_of_a_preview_begin_with_its_first_content(autojump_clock: trio.testing.MockClock) -> None:
    steps = [5.0, USAGE, 5.0, text("a"), 2.9, text("b"), 0.1, text("c"), 1.0, text("d"), 1.0]
    assert await arrivals(Preview(seconds=3.0), *steps) == [(13.0, USAGE), (13.0, text("abc")), (14.0, text("d"))]
    reset = Reset(Discarded("abcd"), DOWN)
    seen = await arrivals(Preview(seconds=3.0), *steps, reset, *steps)
    assert seen[2:] == [(14.0, text("d")), (15.0, reset), (28.0, USAGE), (28.0, text("abc")), (29.0, text("d"))]


async def test_what_hold_had_before_a_reset_does_not_count(autojump_clock: trio.testing.MockClock) -> None:
    reset = Reset(Discarded("abc"), DOWN)
    assert await arrivals(Hold(max_characters=3), text("abc"), 1.0, reset, text("def"), 1.0) == [(2.0, text("def"))]


async def test_a_consumers_content_is_known_until_it_is_taken_back() -> None:
    seen: list[StreamEvent] = []
    calls: list[ToolCall] = []
    order: list[str] = []

    async def emit(event: StreamEvent) -> None:
        seen.append(event)

    async def before() -> None:
        order.append("before" if not any(isinstance(event, Reset) for event in seen) else "after")

    shown = Shown(emit, on_call=calls.append, before_reset=before)
    await shown(USAGE)
    assert not shown.content
    for event in (ReasoningDelta("h"), ReasoningDelta("m"), *MIXED[3:]):
        await shown(event)
        assert shown.content
    assert shown.so_far() == Discarded("cde", reasoning="hm", tool_calls=(CALL,))
    assert (shown.text.getvalue(), calls) == ("cde", [CALL, CALL])
    observed: list[Retracted] = []
    for _ in range(2):
        await shown.retract(DOWN, Call(observer=observed.append, id="c", turn_id="t"))
    assert seen[-1] == Reset(Discarded("cde", reasoning="hm", tool_calls=(CALL,)), DOWN)
    assert [type(event) for event in seen].count(Reset) == 1
    assert order == ["before"]
    assert [(event.characters, event.cause, event.call_id, event.turn_id) for event in observed] == [
        (3, DOWN, "c", "t")
    ]
    assert (shown.content, shown.so_far()) == (False, Discarded(""))


@pytest.mark.parametrize(("error", "known"), [(ConsumerLeft(), False), (RuntimeError("cut"), True)])
async def test_a_reset_that_may_not_have_arrived_is_sent_again(error: Exception, known: bool) -> None:
    async def emit(event: StreamEvent) -> None:
        if isinstance(event, Reset):
            raise error

    shown = Shown(emit)
    await shown(text("a"))
    with pytest.raises(type(error)):
        await shown.retract(DOWN, Call())
    assert (shown.content, shown.so_far().text) == (known, "a" * known)


async def test_one_unused_record_of_what_was_shown_serves_all_layers() -> None:
    async def emit(event: StreamEvent) -> None:
        pass

    first = shown_of(Call(emit=emit))
    assert (first.to, shown_of(Call(emit=first))) == (emit, first)
    await first(text("a"))
    second = shown_of(Call(emit=first))
    assert second is not first
    assert (second.to, second.content) == (first, False)


def test_the_content_of_a_failed_attempt_is_a_response_if_there_is_any() -> None:
    assert partial_response(Discarded("")) is None
    for seen in (Discarded("a"), Discarded("", reasoning="hm"), Discarded("", tool_calls=(CALL,))):
        assert partial_response(seen, provider="p", model="m") == ChatResponse(
            content=seen.text,
            reasoning=seen.reasoning,
            tool_calls=seen.tool_calls,
            finish_reason="incomplete",
            provider="p",
            model="m",
        )


@pytest.mark.parametrize("own", [None, ChatResponse(content="more than was shown")])
async def test_an_error_after_content_keeps_its_own_partial(own: ChatResponse | None) -> None:
    error = StreamTruncated("cut", provider="p", model="m", partial=own)
    assert error.retryable
    assert error.curable_elsewhere

    async def attempt(call: Call) -> None:
        await call.emit(text("shown"))
        raise error

    with pytest.raises(StreamTruncated):
        await Live(after_content="raise").run(attempt, Call())
    assert (error.retryable, error.curable_elsewhere) == (False, False)
    assert error.partial is not None
    assert error.partial.text == ("shown" if own is None else own.text)
