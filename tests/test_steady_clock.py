"""The clock of the tests: real time, without the gaps in which the process did not run."""

from __future__ import annotations

import time

import trio
from steady_clock import LONGEST_STEP, SteadyClock


async def test_tests_that_name_no_clock_run_with_the_steady_clock() -> None:
    await trio.sleep(0)
    assert trio.current_time() < 3600


def test_a_gap_in_which_the_process_did_not_run_is_not_counted() -> None:
    async def main() -> None:
        with trio.move_on_after(0.3) as scope:
            for _ in range(3):
                time.sleep(0.2)  # noqa: ASYNC251 - the process does not run
                await trio.sleep(0)
            assert trio.current_time() <= 3 * LONGEST_STEP + 0.05
        assert not scope.cancelled_caught

    trio.run(main, clock=SteadyClock())


def test_sleeping_takes_as_long_as_it_says() -> None:
    async def main() -> None:
        started = time.perf_counter()
        with trio.fail_after(60):
            await trio.sleep(0.2)
        assert time.perf_counter() - started >= 0.2
        assert 0.2 <= trio.current_time() <= 0.2 + LONGEST_STEP

    trio.run(main, clock=SteadyClock())


async def test_a_wait_with_a_cushion_ends() -> None:
    await trio.testing.wait_all_tasks_blocked(0.01)
