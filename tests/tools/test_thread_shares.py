"""Threads are shared fairly: one turn's slow tools leave threads for other turns, one sender's for other senders."""

from __future__ import annotations

import threading

import pytest
import trio

from clawft_trio.auth import AuthContext
from clawft_trio.chat import ToolCall
from clawft_trio.testing import cancel_everywhere
from clawft_trio.tools import FanOutPolicy, ThreadPool, ToolContext, ToolRegistry, tool
from clawft_trio.tools.builtin import register_builtins


async def test_slow_tools_of_one_turn_do_not_delay_the_listing_of_another(tmp_path) -> None:
    release = threading.Event()

    @tool(mode="read_only")
    def slow() -> str:
        """Wait."""
        release.wait(30)
        return ""

    registry = ToolRegistry([slow], policy=FanOutPolicy(concurrency=100))
    register_builtins(registry, tmp_path)
    busy = [ToolCall(id=str(number), name="slow", arguments="{}") for number in range(100)]
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(registry.execute_all, busy, ToolContext(auth=AuthContext.local(), turn_id="busy"))
            while registry.statistics().threads.running < 8:
                await trio.sleep(0.01)
            with trio.fail_after(10):
                call = ToolCall(id="1", name="list_directory", arguments="{}")
                (answer,) = await registry.execute_all([call], ToolContext(auth=AuthContext.local(), turn_id="other"))
            assert answer.outcome == "ok"
            assert registry.statistics().threads.running == 8
            release.set()
    finally:
        release.set()


@pytest.mark.parametrize(
    ("keys", "running"),
    [
        ([{"turn": "t", "sender": "s"}] * 40, 2),
        ([{"turn": f"t{number}", "sender": "s"} for number in range(40)], 4),
        ([{"turn": f"t{number}", "sender": f"s{number}"} for number in range(40)], 8),
        ([{}] * 40, 8),
    ],
    ids=["a turn", "a sender", "all", "without a share"],
)
async def test_threads_are_bounded_per_turn_per_sender_and_in_all(keys: list[dict[str, str]], running: int) -> None:
    pool = ThreadPool(8, per_sender=4, per_turn=2)
    release = threading.Event()
    most = 0
    async with trio.open_nursery() as nursery:
        for key in keys:

            async def one(key: dict[str, str] = key) -> None:
                await pool.run(release.wait, {"timeout": 30}, **key)

            nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked(0.01)
        most = pool.statistics().running
        assert pool.statistics().waiting == 40 - most
        release.set()
    assert most == running
    assert (pool.statistics().running, pool.statistics().waiting) == (0, 0)
    assert pool._shares == {}


@pytest.mark.parametrize(
    ("limit", "per_sender", "per_turn"),
    [(32, 16, 8), (100, 50, 25), (9, 4, 4), (8, 4, 4), (4, 4, 4), (2, 2, 2), (1, 1, 1)],
)
def test_a_sender_has_half_of_the_threads_and_a_turn_a_quarter_and_both_at_least_four(
    limit: int, per_sender: int, per_turn: int
) -> None:
    pool = ThreadPool(limit)
    assert (pool.statistics().limit, pool._per_sender, pool._per_turn) == (limit, per_sender, per_turn)
    assert ThreadPool().statistics().limit == 32
    stated = ThreadPool(limit, per_sender=3, per_turn=1)
    assert (stated._per_sender, stated._per_turn) == (3, 1)


async def test_an_abandoned_thread_keeps_its_shares_until_it_ends() -> None:
    pool = ThreadPool(8, per_sender=1, per_turn=1)
    release = threading.Event()
    with trio.move_on_after(0.05):
        await pool.run(release.wait, {"timeout": 30}, abandon=True, sender="s", turn="t")
    assert pool.statistics().abandoned == 1
    with trio.move_on_after(0.05) as scope:
        await pool.run(int, {}, sender="s")
    assert scope.cancelled_caught
    release.set()
    with trio.fail_after(10):
        await pool.run(int, {}, sender="s")
    assert pool._shares == {}


async def test_cancelling_a_call_that_waits_for_its_share_takes_nothing() -> None:
    pool = ThreadPool(2, per_sender=1, per_turn=1)
    release = threading.Event()
    async with trio.open_nursery() as nursery:

        async def holder() -> None:
            await pool.run(release.wait, {"timeout": 30}, sender="s", turn="t")

        nursery.start_soon(holder)
        await trio.testing.wait_all_tasks_blocked(0.01)
        with trio.move_on_after(0.05):
            # It has its turn's share, and waits for its sender's.
            await pool.run(int, {}, sender="s", turn="other")
        assert set(pool._shares) == {("sender", "s"), ("turn", "t")}
        release.set()


async def test_a_call_in_a_share_is_cancelled_anywhere_and_leaves_nothing() -> None:
    pools: list[ThreadPool] = []

    async def operation() -> None:
        pools.append(ThreadPool(1))
        await pools[-1].run(int, {}, sender="s", turn="t")

    async def check() -> None:
        assert pools[-1].statistics().running == 0
        assert pools[-1]._shares == {}

    await cancel_everywhere(operation, check)
