"""How many requests are admitted at once, how many wait, and what is counted."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from clawft_trio.errors import BulkheadFull
from clawft_trio.net.admission import Admission


@pytest.mark.parametrize(("limit", "queue"), [(0, None), (-1, 5), (1, -1), (0, -1)])
def test_a_limit_of_none_and_a_negative_queue_are_refused(limit, queue):
    with pytest.raises(ValueError, match="at least"):
        Admission(limit, max_queue=queue)


async def test_requests_over_the_limit_wait_and_those_over_the_queue_are_refused(autojump_clock):
    admission = Admission(1, max_queue=1, name="vendor")
    ended = []

    async def request(number):
        async with admission.admit():
            await trio.sleep(1)
            ended.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(2):
            nursery.start_soon(request, number)
            await wait_all_tasks_blocked()
        seen = admission.statistics()
        assert (seen.limit, seen.in_use, seen.waiting, seen.most_waiting, seen.refused) == (1, 1, 1, 1, 0)
        for refused in (1, 2):
            with pytest.raises(BulkheadFull, match="1 requests are waiting for 1 connections") as caught:
                async with admission.admit():
                    pass
            assert caught.value.provider == "vendor"
            assert admission.statistics().refused == refused
    assert ended == [0, 1]
    seen = admission.statistics()
    assert (seen.in_use, seen.waiting, seen.most_waiting, seen.refused) == (0, 0, 1, 2)


async def test_without_a_queue_no_request_waits():
    admission = Admission(1, max_queue=0)
    async with admission.admit():
        with pytest.raises(BulkheadFull):
            async with admission.admit():
                pass
    async with admission.admit():
        assert admission.statistics().most_waiting == 0


async def test_a_queue_without_a_limit_takes_every_request(autojump_clock):
    admission = Admission(1)

    async def request():
        async with admission.admit():
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(request)
        await wait_all_tasks_blocked()
        assert admission.statistics().most_waiting == 19
