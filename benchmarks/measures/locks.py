"""Path locks that nobody contends for, and one that everybody wants."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from benchmarks.bench import Bench, Case, Open, Round, Setting, Stopwatch
from clawft_trio.tools import PathLocks


def holding(paths: int, *, folders: int = 1) -> Open:
    """Take *paths* write locks one after another, all held until the last is."""

    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        count, locks = setting.sized(paths, min(paths, 20)), PathLocks()
        wants = [[(("w", f"folder{number % folders}", f"file{number}"), "write")] for number in range(count)]

        async def one_round(watch: Stopwatch) -> None:
            with watch.timing(count):
                held = [locks.request(want) for want in wants]
                for request in held:
                    await request.wait_granted()
                for request in held:
                    request.release()
            assert locks.statistics().paths == 0

        yield one_round

    return opened


def queueing(tasks: int) -> Open:
    """Many tasks that all want to write one path."""

    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        count, locks = setting.sized(tasks, min(tasks, 20)), PathLocks()

        async def write() -> None:
            request = locks.request([(("w", "file"), "write")])
            await request.wait_granted()
            await trio.lowlevel.checkpoint()
            request.release()

        async def one_round(watch: Stopwatch) -> None:
            with watch.timing(count):
                async with trio.open_nursery() as nursery:
                    for _ in range(count):
                        nursery.start_soon(write)

        yield one_round

    return opened


def locking(tasks: int) -> Open:
    """The same with one `trio.Lock`, which knows neither paths nor readers."""

    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        count, lock = setting.sized(tasks, min(tasks, 20)), trio.Lock()

        async def write() -> None:
            async with lock:
                await trio.lowlevel.checkpoint()

        async def one_round(watch: Stopwatch) -> None:
            with watch.timing(count):
                async with trio.open_nursery() as nursery:
                    for _ in range(count):
                        nursery.start_soon(write)

        yield one_round

    return opened


BENCH = Bench(
    title="path locks",
    item="lock",
    limit="One `trio.Lock` for everything: no paths, no readers, and everybody waits for everybody.",
    against="trio.Lock, 1 000 tasks want it",
    cases=(
        Case("trio.Lock, 1 000 tasks want it", locking(1000), role="limit"),
        Case("1 000 tasks write one path", queueing(1000)),
        Case("1 000 paths held at once", holding(1000, folders=10)),
    ),
)
