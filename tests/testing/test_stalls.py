"""no_stall finds what keeps the event loop from others, and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import trio
import trio.testing

from clawft_trio.testing import LoopStalled, no_stall, stalls
from clawft_trio.testing.stalls import Stall, StallWatch


async def test_a_long_step_is_found_with_its_task() -> None:
    async def guilty() -> None:
        await trio.lowlevel.checkpoint()
        time.sleep(0.2)  # noqa: ASYNC251 - this is what has to be found

    with pytest.raises(LoopStalled, match="guilty") as caught:
        async with no_stall(0.1), trio.open_nursery() as nursery:
            nursery.start_soon(guilty)
    stall = caught.value.stalls[0]
    assert stall.step > 0.15
    assert stall.steps >= 1


async def test_a_rush_of_short_steps_is_found() -> None:
    async def short() -> None:
        await trio.lowlevel.checkpoint()
        time.sleep(0.002)  # noqa: ASYNC251

    with pytest.raises(LoopStalled) as caught:
        async with no_stall(0.1), trio.open_nursery() as nursery:
            for _ in range(150):
                nursery.start_soon(short)
    assert caught.value.stalls[0].steps > 50
    assert caught.value.stalls[0].step < 0.1


async def test_waiting_is_no_stall() -> None:
    async with no_stall(0.2) as watch:
        await trio.sleep(0.5)
    assert watch.stalls == ()


async def test_a_thread_that_holds_the_interpreter_is_found() -> None:
    def hold() -> None:
        # One call of C, which gives nobody a turn.
        pow(7, 2_000_000)

    with pytest.raises(LoopStalled):
        async with no_stall(0.05):
            await trio.to_thread.run_sync(hold)
            await trio.sleep(0.1)


def test_it_works_under_a_mock_clock_without_moving_it() -> None:
    async def main() -> None:
        async with no_stall(0.2):
            await trio.sleep(1000)
        assert trio.current_time() == 1000
        with pytest.raises(LoopStalled):
            async with no_stall(0.1):
                time.sleep(0.2)  # noqa: ASYNC251
                await trio.sleep(1)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_the_twenty_longest_stalls_over_the_limit_are_kept_and_told_in_words() -> None:
    watch = StallWatch(0.5)
    for number in (*range(30), 4, 7):
        watch.note(Stall(seconds=number / 10, task="guilty", step=0.01, steps=number))
    assert [stall.seconds for stall in watch.stalls] == [number / 10 for number in range(29, 9, -1)]
    assert watch.longest == 2.9
    assert StallWatch(0.5).stalls == ()
    watch = StallWatch(0.5)
    watch.note(Stall(seconds=0.5, task="", step=0.0, steps=0))
    assert (watch.stalls, watch.longest) == ((), 0.5)
    assert str(Stall(seconds=0.25, task="", step=0.0, steps=0)) == "250 ms by a thread"
    long = Stall(seconds=0.25, task="guilty", step=0.1, steps=3)
    assert str(LoopStalled((long,), 0.05)) == (
        "the event loop stood still for more than 50 ms: 250 ms by 3 steps, the longest by guilty (100 ms)"
    )


async def test_stalls_are_found_where_the_system_does_not_tell_how_long_a_thread_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stalls, "_WAITED", tmp_path / "missing")
    with pytest.raises(LoopStalled):
        async with no_stall(0.02):
            time.sleep(0.05)  # noqa: ASYNC251
            await trio.lowlevel.checkpoint()


async def test_an_exception_of_the_block_comes_first_and_the_watch_ends() -> None:
    with pytest.raises(KeyError):
        async with no_stall(0.05):
            raise KeyError
    async with no_stall(0.2) as watch:
        await trio.sleep(0)
    assert watch.longest < 0.2
