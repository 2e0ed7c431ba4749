"""Path locks that nobody contends for, and one that everybody wants."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import trio

from benchmarks.bench import Bench, Case, Open, Round, Setting, Stopwatch
from benchmarks.side_by_side import Work, on_trio
from clawft_trio.tools.path_locks import PathLocks, Want


def holding(paths: int, *, folders: int = 1) -> Open:
    """Take *paths* write locks one after another, all held until the last is."""

    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        count, locks = setting.sized(paths, min(paths, 20)), PathLocks()
        wants: list[list[Want]] = [
            [(("w", f"folder{number % folders}", f"file{number}"), "write")] for number in range(count)
        ]

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


def wanting(tasks: int, make: Callable[[], Work]) -> Open:
    """So many tasks at once, each of which holds the same lock over one checkpoint."""

    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        count, hold = setting.sized(tasks, min(tasks, 20)), make()

        async def one_round(watch: Stopwatch) -> None:
            with watch.timing(count):
                await on_trio(hold, count)

        yield one_round

    return opened


def one_path() -> Work:
    locks, want = PathLocks(), ("w", "file")

    async def write() -> None:
        request = locks.request([(want, "write")])
        await request.wait_granted()
        await trio.lowlevel.checkpoint()
        request.release()

    return write


def one_lock() -> Work:
    """The same with one `trio.Lock`, which knows neither paths nor readers."""
    lock = trio.Lock()

    async def write() -> None:
        async with lock:
            await trio.lowlevel.checkpoint()

    return write


BENCH = Bench(
    title="path locks",
    item="lock",
    limit="One `trio.Lock` for everything: no paths, no readers, and everybody waits for everybody.",
    against="trio.Lock, 1 000 tasks want it",
    cases=(
        Case("trio.Lock, 1 000 tasks want it", wanting(1000, one_lock), role="limit"),
        Case("1 000 tasks write one path", wanting(1000, one_path)),
        Case("1 000 paths held at once", holding(1000, folders=10)),
    ),
)
