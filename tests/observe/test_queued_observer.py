"""A queue before a slow observer."""

from __future__ import annotations

import logging
import threading

import pytest
import trio

from clawft_trio.observe import Noted, open_queue
from clawft_trio.testing import cancel_everywhere


def note(number: int) -> Noted:
    return Noted(at=0.0, component="test", what=str(number))


async def test_a_slow_observer_gets_everything_in_order_in_a_thread() -> None:
    seen: list[str] = []
    threads: set[int] = set()

    def observer(event: Noted) -> None:
        threads.add(threading.get_ident())
        seen.append(event.what)

    async with open_queue(observer) as queued:
        for number in range(1000):
            queued(note(number))
            if number % 100 == 0:
                await trio.sleep(0)
    assert seen == [str(number) for number in range(1000)]
    assert threading.get_ident() not in threads
    assert queued.statistics().delivered == 1000


async def test_what_does_not_fit_is_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    go = threading.Event()

    def observer(event: object) -> None:
        go.wait(5)

    async with open_queue(observer, capacity=3) as queued:
        queued(note(0))
        while queued.statistics().waiting:
            await trio.sleep(0)
        for number in range(10):
            queued(note(number))
        statistics = queued.statistics()
        assert (statistics.waiting, statistics.dropped, statistics.capacity) == (3, 7, 3)
        go.set()
    assert queued.statistics().delivered == 4
    assert "7 events dropped" in caplog.text


async def test_an_observer_that_hangs_is_left_behind_within_the_grace() -> None:
    go = threading.Event()
    with trio.fail_after(5):
        async with open_queue(lambda event: go.wait(20), grace=0.05) as queued:
            for number in range(3):
                queued(note(number))
            while queued.statistics().waiting == 3:
                await trio.sleep(0)
    assert (queued.statistics().waiting, queued.statistics().dropped) == (0, 2)
    queued(note(9))
    assert queued.statistics().dropped == 3
    go.set()


async def test_an_observer_that_raises_is_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    def observer(event: object) -> None:
        raise OSError("disk full")

    async with open_queue(observer) as queued:
        for number in range(5):
            queued(note(number))
    assert queued.statistics().failed == 5
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]


async def test_cancelled_anywhere_every_reported_event_is_delivered() -> None:
    told: list[int] = []
    seen: list[int] = []

    async def operation() -> None:
        async with open_queue(lambda event: seen.append(int(event.what))) as queued:
            for number in range(3):
                told.append(number)
                queued(note(number))
                await trio.lowlevel.checkpoint()

    async def check() -> None:
        assert seen == told

    assert await cancel_everywhere(operation, check, limit=200) > 3
