"""A bulkhead: what runs, what waits, for how long, and what a refused call gets."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from clawft_trio.chat import Call
from clawft_trio.errors import BulkheadFull
from clawft_trio.resilience import Bulkhead
from clawft_trio.resilience.bulkhead import BoundBulkhead


async def hang(call: Call) -> None:
    await trio.sleep_forever()


@pytest.mark.parametrize(("queue", "queue_for"), [(0, 5.0), (1, 5.0), (2, 5.0), (0, None), (2, None)])
async def test_so_many_calls_wait_and_for_so_long(
    queue: int, queue_for: float | None, autojump_clock: trio.testing.MockClock
) -> None:
    bulkhead = Bulkhead(max_concurrent=2, queue=queue, queue_for=queue_for).bind("t")
    assert isinstance(bulkhead, BoundBulkhead)
    refused: list[tuple[float, str]] = []

    async def ask() -> None:
        try:
            await bulkhead.run(hang, Call())
        except BulkheadFull as exc:
            refused.append((trio.current_time(), exc.provider))

    async with trio.open_nursery() as nursery:
        started = trio.current_time()
        for _ in range(2 + queue + 1):
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
        now = bulkhead.statistics()
        assert (now.running, now.waiting, now.refused) == (2, queue, 1)
        await trio.sleep(100.0)
        late = queue if queue_for is not None else 0
        assert refused == [(started, "t")] + [(started + 5.0, "t")] * late
        assert bulkhead.statistics().refused == 1 + late
        nursery.cancel_scope.cancel(reason="seen enough")
    now = bulkhead.statistics()
    assert (now.running, now.waiting) == (0, 0)


async def test_only_a_call_that_waits_says_so(autojump_clock: trio.testing.MockClock) -> None:
    bulkhead = Bulkhead(max_concurrent=1).bind("t")
    signs: list[tuple[str, float, float]] = []

    async def brief(call: Call) -> str:
        await trio.sleep(1.0)
        return "done"

    async def ask() -> None:
        call = Call(pulse=lambda sign, quiet: signs.append((sign, quiet, trio.current_time())))
        assert await bulkhead.run(brief, call) == "done"

    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert signs == []
        nursery.start_soon(ask)
    assert signs == [("waiting", 0.0, started), ("admitted", 0.0, started + 1.0)]
