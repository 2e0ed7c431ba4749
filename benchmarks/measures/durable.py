"""Turns of the bus that survive a crash: with one tool call each, on SQLite, with a slow disk, and on PostgreSQL."""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from pathlib import Path

import trio

from benchmarks.bench import CPU, WALL, Bench, Case, Figure, Goal, Open, PlainRound, Round, Setting, Stopwatch
from clawft_trio import open_agent, parse_config, tool
from clawft_trio.agent import LoopPolicy
from clawft_trio.messages import InboundMessage
from clawft_trio.testing import CallTool, Finish, Say, ScriptedProvider

sys.path.append(str(Path(__file__).parents[2] / "tests"))
import postgres_server

TURNS = 100
CONFIG = parse_config(
    '{"routing": {"permissions": {"channels": {"ch": {"level": 1, "toolAccess": ["*"], "rateLimit": 0}}}}}'
)
FSYNC = 0.001
"""Seconds that the simulated disk takes for a commit."""


@tool(mode="mutating")
async def pay(n: str) -> str:
    """Pay."""
    await trio.lowlevel.checkpoint()
    return "paid"


def choose(request):
    if request.messages[-1].role == "tool":
        return [Say("done"), Finish()]
    return [CallTool("pay", {"n": "1"}), Finish()]


@contextmanager
def folder_of(setting: Setting, *, slow: bool) -> Iterator[Path]:
    """Where the store is: with a simulated disk in memory where that can be, so that the real disk adds nothing."""
    memory = Path("/dev/shm")
    if not (slow and memory.is_dir()):
        yield setting.folder
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


class SlowDisk:
    """Every commit that waits for the disk takes `FSYNC` longer, without holding the interpreter."""

    def __init__(self, store) -> None:
        writer = store._writer
        commit = writer._commit

        def slow(jobs: int) -> None:
            commit(jobs)
            if jobs and writer._syncs:
                time.sleep(FSYNC)

        writer._commit = slow


def answering(*, engine: str, at_once: int, slow: bool = False) -> Open:
    """Rounds of turns: published, answered, delivered."""

    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        count = setting.sized(TURNS, 4)
        server = postgres_server.running(fsync=True) if engine == "postgresql" else nullcontext()
        with server as running, folder_of(setting, slow=slow) as folder:
            place = {"memory": None, "sqlite": folder / "agent.db"}.get(engine) if running is None else None
            place = running.schema() if running is not None else place
            async with open_agent(
                ["p/m"],
                providers={"p": ScriptedProvider(choose=choose, name="p")},
                tools=[pay],
                config=CONFIG,
                store=place,
                loop=LoopPolicy(max_concurrent_turns=max(at_once, 1)),
            ) as agent:
                store, bus, number = agent.parts.store, agent.bus, 0
                if slow:
                    SlowDisk(store)
                replies = bus.outbound("ch")

                async def send(start: int, stop: int) -> None:
                    for at in range(start, stop):
                        # A session of its own: a growing history would be what is measured.
                        chat = str(at)
                        message = InboundMessage(channel="ch", sender_id="u", chat_id=chat, id=f"m{at}", content="pay")
                        await bus.publish_inbound(message)

                async def finals(wanted: int) -> None:
                    while wanted:
                        wanted -= (await anext(replies)).kind == "final"

                async def one_round(watch: Stopwatch) -> None:
                    nonlocal number
                    before = store.statistics()
                    with watch.timing(count):
                        if at_once == 1:
                            for at in range(number, number + count):
                                await send(at, at + 1)
                                await finals(1)
                        else:
                            async with trio.open_nursery() as nursery:
                                nursery.start_soon(send, number, number + count)
                                await finals(count)
                    number += count
                    after = store.statistics()
                    watch.note("transactions", (after.written - before.written) / count)
                    watch.note("commits", (after.commits - before.commits) / count)
                    watch.note("synced", (after.synced - before.synced) / count)
                    watch.note("per_second", count / watch.wall)

                yield one_round

    return opened


@contextmanager
def bare_commits(setting: Setting) -> Iterator[PlainRound]:
    """Four synced commits of one row for each turn, blocking: the disk, and nothing else."""
    count = setting.sized(TURNS, 4)
    connection = sqlite3.connect(setting.folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, text TEXT)")

    def one_round(watch: Stopwatch) -> None:
        with watch.timing(count):
            for _ in range(4 * count):
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("INSERT INTO rows (text) VALUES ('as long as a step of a turn')")
                connection.execute("COMMIT")
        watch.note("per_second", count / watch.wall)

    try:
        yield one_round
    finally:
        connection.close()


BARE = "four commits of sqlite3, blocking"
_ABSENT = postgres_server.missing() if os.name == "posix" else "POSIX only"

BENCH = Bench(
    title="a durable turn of the bus with one tool call",
    item="turn",
    limit="Four commits: the message, the tool's start, its end with the next answer, the reply.",
    against=BARE,
    figures=(
        WALL,
        CPU,
        Figure("per_second", "turns/s", 0),
        Figure("transactions", "transactions a turn"),
        Figure("commits", "commits a turn"),
        Figure("synced", "of them synced"),
    ),
    cases=(
        Case(BARE, bare_commits, role="limit", loop="none"),
        Case("in memory", answering(engine="memory", at_once=1)),
        Case("in memory, 100 at once", answering(engine="memory", at_once=100)),
        Case("SQLite", answering(engine="sqlite", at_once=1)),
        Case("SQLite, 100 at once", answering(engine="sqlite", at_once=100)),
        Case("SQLite, 1 ms fsync", answering(engine="sqlite", at_once=1, slow=True)),
        Case("SQLite, 1 ms fsync, 100 at once", answering(engine="sqlite", at_once=100, slow=True)),
        Case("PostgreSQL", answering(engine="postgresql", at_once=1), absent=_ABSENT),
        Case("PostgreSQL, 100 at once", answering(engine="postgresql", at_once=100), absent=_ABSENT),
    ),
    goals=(
        Goal(says="synced commits of a turn alone", of="SQLite", figure="synced", at_most=4, unit=""),
        Goal(says="CPU of a durable turn", of="SQLite", to="in memory", at_most=1.5),
    ),
    rounds=5,
)
