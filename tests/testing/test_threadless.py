"""Threads that are none: everything they do, on the loop."""

from __future__ import annotations

import threading

import pytest
import trio
import trio.testing

from clawft_trio.testing import cancel_everywhere, threadless


async def test_functions_run_on_the_loop_and_time_stands_still(autojump_clock):
    def where():
        return threading.current_thread()

    with threadless():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1e6)  # a real thread would let the clock jump there
            assert await trio.to_thread.run_sync(where) is threading.main_thread()
            assert trio.current_time() == 0.0
            nursery.cancel_scope.cancel(reason="seen enough")
    assert await trio.to_thread.run_sync(where) is not threading.main_thread()


async def test_errors_and_the_way_back_to_trio_are_as_in_threads():
    def fail():
        raise KeyError("x")

    with threadless():
        with pytest.raises(KeyError):
            await trio.to_thread.run_sync(fail)
        assert await trio.to_thread.run_sync(lambda: trio.from_thread.run_sync(trio.current_time)) > 0
        await trio.to_thread.run_sync(trio.from_thread.check_cancelled)


async def test_a_limiter_is_asked_and_given_back(autojump_clock):
    limiter = trio.CapacityLimiter(1)
    ran = []
    with threadless():
        async with limiter:
            with trio.move_on_after(1):
                await trio.to_thread.run_sync(ran.append, 1, limiter=limiter)
        assert ran == []

        async def operation():
            await trio.to_thread.run_sync(ran.append, 2, limiter=limiter)
            await trio.to_thread.run_sync(ran.append, 3)

        async def check():
            assert limiter.borrowed_tokens == 0

        await cancel_everywhere(operation, check)
    assert {2, 3} <= set(ran)


def test_a_file_read_by_trio_comes_at_once(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("hi")

    async def main():
        assert await trio.Path(path).read_text() == "hi"
        assert trio.current_time() == 0.0

    with threadless():
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
