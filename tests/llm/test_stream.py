"""Consumers: callbacks of every kind, and iteration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from clawft_trio.attempts import Usage
from clawft_trio.chat import Call, ChatRequest, Message, StreamEvent, TextDelta
from clawft_trio.errors import ServerError, StreamEnded, StreamTruncated
from clawft_trio.llm.stream import Iteration, complete, consuming, open_stream
from clawft_trio.resilience import Failover, Resilient, Retry
from clawft_trio.testing.screen import Screen
from clawft_trio.testing.script import Fail, Finish, Hang, Report, Say, Wait
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


@pytest.mark.parametrize("stopped", [(True, False), (False, True), (True, True), (False, False)])
async def test_each_answer_of_one_call_has_its_own_times(
    stopped: tuple[bool, bool], autojump_clock: trio.testing.MockClock
) -> None:
    leaf, call = ScriptedProvider([Wait(1), Say("a "), Wait(1), Say("b"), Finish()]), Call()
    for stop in stopped:
        response = await complete(leaf, REQUEST, lambda event, stop=stop: not stop, call=call)
        assert response.finish_reason == ("aborted" if stop else "stop")
        assert (response.latency.first_content, response.latency.total) == (1.0, 1.0 if stop else 2.0)


async def test_an_answer_that_was_stopped_has_the_usage_so_far() -> None:
    usage = Usage(input_tokens=3, output_tokens=2)
    leaf = ScriptedProvider([Report(usage), Say("one "), Hang()])
    response = await complete(leaf, REQUEST, lambda event: not isinstance(event, TextDelta))
    assert (response.text, response.usage, response.finish_reason) == ("one ", usage, "aborted")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ServerError, ValueError])
async def test_a_block_left_early_raises_only_what_ends_the_program(error: type[BaseException]) -> None:
    async def write(show: Callable[[int], Awaitable[None]]) -> str:
        await show(1)
        raise error("from within")

    async def leave() -> None:
        async with Iteration.open(write) as numbers:
            assert await anext(numbers) == 1
            await trio.testing.wait_all_tasks_blocked()

    if issubclass(error, Exception):
        await leave()
    else:
        with pytest.raises(error):
            await leave()


@pytest.mark.parametrize("error", [None, ValueError("mine")])
async def test_events_of_any_operation_go_to_a_callback(error: ValueError | None) -> None:
    seen: list[int] = []

    async def run(show: Callable[[int], Awaitable[None]]) -> str:
        for number in range(3):
            await show(number)
        return "done"

    def take(number: int) -> None:
        seen.append(number)
        if error is not None:
            raise error

    if error is None:
        assert await consuming(run, take) == "done"
        assert seen == [0, 1, 2]
    else:
        with pytest.raises(ValueError, match="mine") as caught:
            await consuming(run, take)
        assert (caught.value, seen) == (error, [0])


async def test_a_callback_that_stops_an_operation_without_an_answer_is_a_fault() -> None:
    async def run(show: Callable[[int], Awaitable[None]]) -> None:
        await show(1)

    with pytest.raises(AssertionError, match="must return"):
        await consuming(run, lambda number: False)
