"""Setting money aside and settling it: two transactions of the ledger, off the event loop."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from pathlib import Path

import trio

from benchmarks.bench import CPU, WALL, Bench, Case, Figure, Goal, Open, PlainRound, Round, Setting, Stopwatch
from benchmarks.stalls import Stalls
from clawft_trio.attempts import Usage
from clawft_trio.costs import MIGRATIONS, Bill, Claim, Ledger, Limits
from clawft_trio.store import open_store

CHARGES = 200
LIMITS = Limits(daily=Decimal(1_000_000))


async def charge(ledger: Ledger, sender: str) -> None:
    """Reserve and settle, as every attempt does."""
    claim = Claim(sender_id=sender, target="openai/mini")
    reservation = await ledger.reserve(claim, Decimal("0.01"), own=LIMITS, everybody=LIMITS)
    used = Usage(input_tokens=1000, output_tokens=100)
    await ledger.settle(reservation, Bill(cost=Decimal("0.004"), usage=used, certainty="exact", outcome="ok"))


def charging(*, on_disk: bool, charges: int = CHARGES, at_once: int = 1) -> Open:
    """Rounds of charges on a ledger that already has as many, each in two transactions."""

    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        count = setting.sized(charges, 4)
        path = setting.folder / "ledger.db" if on_disk else None
        async with open_store(path, migrations=MIGRATIONS) as store:
            ledger = Ledger(store)

            async def some(number: int) -> None:
                for _ in range(count // at_once or 1):
                    await charge(ledger, f"bench:{number}")

            async def one_round(watch: Stopwatch) -> None:
                stalls = Stalls()
                async with stalls.watched():
                    with watch.timing((count // at_once or 1) * at_once):
                        async with trio.open_nursery() as nursery:
                            for number in range(at_once):
                                nursery.start_soon(some, number)
                watch.note("stall_ms", stalls.longest * 1e3)

            yield one_round

    return opened


def _commits(path: Path, count: int) -> float:
    """Seconds for so many commits of one row, with what the store asks of the disk."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, text TEXT)")
        began = time.perf_counter()
        for _ in range(count):
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO rows (text) VALUES ('as long as a charge is, more or less')")
            connection.execute("COMMIT")
        return time.perf_counter() - began
    finally:
        connection.close()


@contextmanager
def bare_sqlite(setting: Setting) -> Iterator[PlainRound]:
    """Two commits of one row each, blocking: the disk, and nothing else."""
    count = setting.sized(CHARGES, 4)

    def one_round(watch: Stopwatch) -> None:
        with watch.timing(count):
            _commits(setting.folder / "bare.db", 2 * count)

    yield one_round


BARE = "two commits of sqlite3, blocking"

BENCH = Bench(
    title="a charge on the ledger: reserved, then settled",
    item="charge",
    limit="Two commits of the disk; in memory, two visits to a thread.",
    against=BARE,
    figures=(WALL, CPU, Figure("stall_ms", "longest stall of the loop, ms")),
    cases=(
        Case(BARE, bare_sqlite, role="limit", loop="none"),
        Case("on disk, one after another", charging(on_disk=True)),
        Case("on disk, 20 senders at once", charging(on_disk=True, at_once=20)),
        Case("in memory", charging(on_disk=False)),
    ),
    goals=(
        Goal(
            says="the loop's longest stall while the ledger writes",
            of="on disk, 20 senders at once",
            figure="stall_ms",
            at_most=10,
            unit="ms",
        ),
    ),
)
