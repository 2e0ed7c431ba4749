from __future__ import annotations

import pytest
import trio

from clawft_trio.chat import Call, ChatRequest, Message
from clawft_trio.errors import BulkheadFull, ServerError
from clawft_trio.resilience import Bulkhead, Failover, Hold, Live, Policy, Preview, Resilient, Retry, compose
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
