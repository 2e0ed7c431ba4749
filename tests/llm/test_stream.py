"""Consumers: callbacks of every kind, and iteration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from clawft_trio.chat import Call, ChatRequest, Message, StreamEvent, TextDelta
from clawft_trio.errors import ServerError, StreamEnded, StreamTruncated
from clawft_trio.llm.stream import Iteration, complete, open_stream
from clawft_trio.resilience import Failover, Resilient, Retry
from clawft_trio.testing.screen import Screen
from clawft_trio.testing.script import Fail, Finish, Hang, Say, Wait
from clawft_trio.testing.scripted import ScriptedProvider
from clawft_trio.testing.sweep import cancel_everywhere

REQUEST = ChatRequest([Message.user("hello")])
THREE = [Say("one "), Say("two "), Say("three"), Finish()]


async def test_a_counting_object_is_a_callback() -> None:
    class Counter:
        def __init__(self) -> None:
            self.words = 0

        def __call__(self, event: StreamEvent) -> None:
            if isinstance(event, TextDelta):
                self.words += len(event.text.split())

    counter = Counter()
    await complete(ScriptedProvider(THREE), REQUEST, counter)
    assert counter.words == 3


async def test_a_closure_with_nonlocal_state_is_a_callback() -> None:
    words = 0

    def count(event: StreamEvent) -> None:
        nonlocal words
        words += isinstance(event, TextDelta)

    await complete(ScriptedProvider(THREE), REQUEST, count)
    assert words == 3


async def test_an_async_callback_holds_the_model_up(autojump_clock: trio.testing.MockClock) -> None:
    async def slow(event: StreamEvent) -> None:
        await trio.sleep(10)

    await complete(ScriptedProvider(THREE), REQUEST, slow)
    assert trio.current_time() >= 30.0


@pytest.mark.parametrize("is_async", [False, True])
async def test_false_ends_the_answer_at_once(is_async: bool, autojump_clock: trio.testing.MockClock) -> None:
    leaf = ScriptedProvider([Say("one "), Say("two "), Hang()], name="p")
    screen = Screen(stop_after=2)

    async def later(event: StreamEvent) -> bool:
        return screen(event)

    response = await complete(Resilient(leaf, Retry()), REQUEST, later if is_async else screen)
    assert (response.text, response.finish_reason, response.provider) == ("one two ", "aborted", "p")
    assert [record.outcome for record in response.attempts] == ["aborted"]
    assert (leaf.running, leaf.calls) == (0, 1)


async def test_a_callbacks_exception_is_the_callers() -> None:
    leaf, backup = ScriptedProvider(THREE), ScriptedProvider.saying("backup")

    def broken(event: StreamEvent) -> None:
        raise ServerError("mine, although it looks like a provider's")

    with pytest.raises(ServerError, match="mine"):
        await complete(Failover(Resilient(leaf, Retry()), backup), REQUEST, broken)
    assert (leaf.calls, backup.calls) == (1, 0)


async def test_a_reset_refused_ends_the_call(autojump_clock: trio.testing.MockClock) -> None:
    leaf = ScriptedProvider([Say("bad"), Fail(ServerError("down"))], THREE)
    response = await complete(Resilient(leaf, Retry()), REQUEST, lambda event: isinstance(event, TextDelta))
    assert (response.text, response.finish_reason, leaf.calls) == ("", "aborted", 1)


async def test_iteration_shows_everything_and_ends_with_the_response() -> None:
    async with open_stream(ScriptedProvider(THREE), REQUEST) as stream:
        with pytest.raises(StreamEnded):
            _ = stream.response
        texts = [event.text async for event in stream if isinstance(event, TextDelta)]
    assert "".join(texts) == stream.response.text == "one two three"
    with pytest.raises(StopAsyncIteration):
        await stream.__anext__()


async def test_a_block_left_early_stops_the_model_and_keeps_what_was_shown(
    autojump_clock: trio.testing.MockClock,
) -> None:
    leaf = ScriptedProvider([Say("one "), Wait(1), Say("two"), Hang()])
    async with open_stream(leaf, REQUEST) as stream:
        async for _ in stream:
            break
    assert leaf.running == 0
    assert (stream.response.text, stream.response.finish_reason) == ("one ", "aborted")
    assert trio.current_time() == 0.0


async def test_an_error_comes_out_of_the_loop_once_and_bare() -> None:
    async with open_stream(ScriptedProvider([Say("one ")]), REQUEST) as stream:
        with pytest.raises(StreamTruncated) as caught:
            async for _ in stream:
                pass
        assert caught.value.partial.text == "one "
        assert len(caught.value.attempts) == 1
    with pytest.raises(StreamEnded):
        _ = stream.response


async def test_an_error_of_the_body_comes_out_bare() -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_stream(ScriptedProvider([Hang()]), REQUEST):
            1 / 0


async def test_a_slow_reader_holds_the_model_up(autojump_clock: trio.testing.MockClock) -> None:
    leaf = ScriptedProvider([*(Say(str(n)) for n in range(100)), Finish()])
    async with open_stream(leaf, REQUEST, buffer=4) as stream:
        await trio.testing.wait_all_tasks_blocked()
        assert len(stream._ready) == 4
        count = 0
        async for _ in stream:
            count += 1
            await trio.testing.wait_all_tasks_blocked()
            assert len(stream._ready) <= 4
    assert count == 100


async def test_a_response_carries_the_times_of_the_whole_call(autojump_clock: trio.testing.MockClock) -> None:
    leaf = ScriptedProvider([Wait(2), Say("bad"), Fail(ServerError("down"))], [Wait(3), Say("good"), Wait(4), Finish()])
    response = await complete(Resilient(leaf, Retry(first_wait=1.0, uniform=lambda low, high: high)), REQUEST)
    assert response.latency.total == 10.0
    # The retracted text was not the answer: the time until the answer began is counted.
    assert response.latency.first_content == 6.0
    assert [record.latency.total for record in response.attempts] == [2.0, 7.0]
    assert [record.latency.first_content for record in response.attempts] == [2.0, 3.0]


async def test_cancelled_anywhere_a_stream_leaves_nothing(autojump_clock: trio.testing.MockClock) -> None:
    leaf = ScriptedProvider([Say("a"), Wait(1), Say("b"), Finish()])

    async def operation() -> None:
        async with open_stream(leaf, REQUEST, buffer=1) as stream:
            async for _ in stream:
                await trio.sleep(0.1)

    async def check() -> None:
        assert leaf.running == 0

    assert await cancel_everywhere(operation, check) > 5


async def test_a_given_call_is_used(autojump_clock: trio.testing.MockClock) -> None:
    call = Call(id="mine")
    await complete(ScriptedProvider(THREE), REQUEST, call=call)
    assert len(call.log.records) == 1


async def test_a_writer_that_was_held_up_goes_on_at_half_a_buffer() -> None:
    written: list[int] = []

    async def write(show: Callable[[int], Awaitable[None]]) -> str:
        for number in range(40):
            await show(number)
            written.append(number)
        return "done"

    async with Iteration.open(write, buffer=8) as numbers:
        seen = [await anext(numbers)]
        await trio.testing.wait_all_tasks_blocked()
        before = len(written)
        # One task switch for every half buffer and not for every event.
        for _ in range(2):
            seen.append(await anext(numbers))
            await trio.testing.wait_all_tasks_blocked()
            assert len(written) == before
        seen.append(await anext(numbers))
        await trio.testing.wait_all_tasks_blocked()
        assert len(written) > before
        seen += [number async for number in numbers]
        assert seen == list(range(40))
        assert numbers.result == "done"
