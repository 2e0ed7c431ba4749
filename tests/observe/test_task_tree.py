"""The nursery tree, as text."""

from __future__ import annotations

import os
import re
import signal
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from clawft_trio.observe.task_tree import TaskClock, serve_task_tree, task_tree
from clawft_trio.testing import cancel_everywhere


async def sleeper(seconds: float) -> None:
    await trio.sleep(seconds)


async def test_the_tree_shows_which_task_waits_where_and_since_when(autojump_clock: MockClock) -> None:
    with TaskClock.running() as clock:
        async with trio.open_nursery() as outer:
            outer.start_soon(sleeper, 60)
            async with trio.open_nursery() as inner:
                inner.cancel_scope.deadline = trio.current_time() + 10
                inner.start_soon(sleeper, 60, name="second")
                await trio.sleep(4)
                text = task_tree(clock=clock, root=trio.lowlevel.current_task())
                inner.cancel_scope.cancel(reason="seen")
            outer.cancel_scope.cancel(reason="seen")
    line = sleeper.__code__.co_firstlineno + 1
    lines = text.splitlines()
    assert lines[0].endswith("  running")
    # Before them is the nursery in which the test itself runs.
    assert lines[-4:] == [
        "├─ nursery",
        f"│  └─ test_task_tree.sleeper  waits 4 s in trio sleep, at test_task_tree.py:{line} sleeper",
        "└─ nursery, deadline in 6 s",
        f"   └─ second  waits 4 s in trio sleep, at test_task_tree.py:{line} sleeper",
    ]


async def test_the_whole_program_is_there_and_without_a_clock_no_times() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleeper, 60)
        nursery.start_soon(sleeper, 60)
        await trio.testing.wait_all_tasks_blocked()
        text = task_tree()
        nursery.cancel_scope.cancel(reason="seen")
        ending = task_tree()
    assert text.startswith("<init>")
    assert text.count("waits in trio sleep, at") == 2
    assert "running" in text
    assert "nursery, cancelled" in ending


async def test_a_task_in_the_exit_of_its_nursery_waits_for_it() -> None:
    async def parent() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleeper, 60)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(parent)
        await trio.testing.wait_all_tasks_blocked()
        assert re.search(r"parent  waits for its nursery, at test_task_tree.py:\d+ ", task_tree())
        nursery.cancel_scope.cancel(reason="seen")


async def test_the_clock_forgets_tasks_that_have_ended(autojump_clock: MockClock) -> None:
    with TaskClock.running() as clock:
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(sleeper, 1)
        assert len(clock._ran) <= 3


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal here")
async def test_a_signal_shows_the_tree_and_afterwards_means_what_it_did() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    shown = []
    got = trio.Event()

    def write(text: str) -> None:
        shown.append(text)
        got.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_task_tree, write=write))
        os.kill(os.getpid(), signal.SIGUSR1)
        with trio.fail_after(5):
            await got.wait()
        nursery.cancel_scope.cancel(reason="seen")
    assert "serve_task_tree  running" in shown[0]
    assert signal.getsignal(signal.SIGUSR1) is before


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal here")
async def test_cancelled_anywhere_the_signal_means_what_it_did() -> None:
    before = signal.getsignal(signal.SIGUSR1)

    async def operation() -> None:
        with trio.move_on_after(0.01):
            await serve_task_tree(write=str)

    async def check() -> None:
        assert signal.getsignal(signal.SIGUSR1) is before

    assert await cancel_everywhere(operation, check, limit=50) >= 1


async def test_a_task_that_runs_a_function_of_trio_alone_has_no_place() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        await trio.testing.wait_all_tasks_blocked()
        text = task_tree(root=trio.lowlevel.current_task())
        nursery.cancel_scope.cancel(reason="seen")
    assert text.splitlines()[-1].endswith("sleep_forever  waits in trio sleep_forever")
