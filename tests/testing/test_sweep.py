from __future__ import annotations

import pytest
import trio
from trio._core import _run

from clawft_trio.testing.leaks import nothing_left
from clawft_trio.testing.seeding import seeded_scheduler
from clawft_trio.testing.sweep import cancel_everywhere


async def nothing():
    pass


async def test_it_cancels_at_every_step_twice_over():
    seen = []

    async def operation():
        for step in range(3):
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled:
                seen.append(step)
                raise

    # Before the start, parked in each of the three, and resuming from each of them.
    assert await cancel_everywhere(operation, nothing) == 7
    assert seen == [0, 0, 1, 2, 0, 1, 2]


async def test_it_cancels_before_the_start():
    seen = []

    async def operation():
        seen.append("begun")
        # Takes no step of its own unless it is cancelled already.
        await trio.lowlevel.checkpoint_if_cancelled()
        seen.append("ended")

    await cancel_everywhere(operation, nothing)
    assert seen == ["begun", *["begun", "ended"] * 2]


async def test_it_reaches_the_steps_of_child_tasks():
    reached = set()

    async def child():
        for step in range(3):
            try:
                await trio.sleep(0)
            except trio.Cancelled:
                reached.add(step)
                raise

    async def operation():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    await cancel_everywhere(operation, nothing)
    assert reached == {0, 1, 2}


async def test_steps_of_strangers_do_not_count(nursery):
    async def stranger():
        while True:
            await trio.sleep(0)

    alone = await cancel_everywhere(trio.lowlevel.checkpoint, nothing)
    nursery.start_soon(stranger)
    assert await cancel_everywhere(trio.lowlevel.checkpoint, nothing) == alone
    nursery.cancel_scope.cancel(reason="over")


async def test_what_is_left_behind_is_found_with_its_step():
    lock = trio.Lock()

    async def operation():
        await trio.lowlevel.checkpoint()
        await lock.acquire()
        await trio.sleep(0)
        lock.release()

    async def check():
        assert not lock.locked()

    with pytest.raises(AssertionError) as caught:
        await cancel_everywhere(operation, check)
    assert caught.value.__notes__ == ["cancel_everywhere: step 2, parked, seed 0"]


async def test_a_swallowed_cancellation_is_no_failure_of_the_sweep():
    async def operation():
        with trio.CancelScope(shield=True):
            await trio.sleep(0)

    assert await cancel_everywhere(operation, nothing) == 3


async def test_an_operation_that_never_ends_is_endless():
    async def operation():
        with trio.CancelScope(shield=True):
            for _ in range(1000):
                await trio.lowlevel.checkpoint()

    with pytest.raises(AssertionError, match="more than 20 steps"):
        await cancel_everywhere(operation, nothing, limit=20)


async def test_other_errors_come_out_as_they_are():
    async def operation():
        await trio.lowlevel.checkpoint()
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await cancel_everywhere(operation, nothing)


async def test_the_check_is_shielded():
    checked = []

    async def check():
        await trio.lowlevel.checkpoint()
        checked.append(1)

    with trio.move_on_after(60) as scope:
        scope.cancel(reason="test")
        await cancel_everywhere(lambda: trio.sleep(0), check)
    # Our own checkpoint came first; a cancelled sweep does not begin.
    assert scope.cancelled_caught and checked == []

    with trio.CancelScope() as scope:

        async def operation():
            scope.cancel(reason="test")
            await trio.lowlevel.checkpoint()

        await cancel_everywhere(operation, check)
    assert scope.cancelled_caught and checked == []


async def shuffled() -> list[int]:
    order = []

    async def task(number):
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(task, number)
    return order


async def test_a_seed_gives_the_same_order_every_time():
    orders = []
    for seed in (1, 1, 2, 3, 1):
        with seeded_scheduler(seed):
            orders.append(tuple(await shuffled()))
    assert orders[0] == orders[1] == orders[4]
    assert len(set(orders)) == 3


def test_a_seed_gives_the_same_order_from_run_to_run():
    def run(seed):
        with seeded_scheduler(seed):
            return trio.run(shuffled)

    assert run(5) == run(5) != run(6)


def test_the_scheduler_is_given_back_as_it_was():
    before = (_run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r.getstate())
    with pytest.raises(KeyError), seeded_scheduler(3):
        raise KeyError
    assert (_run._ALLOW_DETERMINISTIC_SCHEDULING, _run._r.getstate()) == before


async def test_every_run_of_a_sweep_takes_the_same_turns():
    orders = set()

    async def operation():
        orders.add(tuple(await shuffled()))

    await cancel_everywhere(operation, nothing, seed=4)
    assert len(orders) == 1


async def test_a_descriptor_left_open_is_found(tmp_path):
    check = nothing_left(grace=0.05)
    await check()
    with (tmp_path / "a").open("w"):
        with pytest.raises(AssertionError, match="left behind: .*/a"):
            await check()
    await check()


async def test_a_task_left_running_is_found(nursery):
    check = nothing_left(grace=0.05)
    nursery.start_soon(trio.sleep_forever)
    with pytest.raises(AssertionError, match="1 tasks"):
        await check()
    nursery.cancel_scope.cancel(reason="over")


async def test_what_ends_in_time_is_not_left(nursery):
    check = nothing_left(grace=5)
    nursery.start_soon(trio.sleep, 0.05)
    await check()


async def test_the_check_needs_no_clock(nursery, mock_clock):
    check = nothing_left(grace=0.05)
    nursery.start_soon(trio.sleep_forever)
    with pytest.raises(AssertionError, match="1 tasks"):
        await check()
    nursery.cancel_scope.cancel(reason="over")
