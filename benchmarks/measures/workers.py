"""Durable turns that 1, 2 and 4 worker processes answer together, from one store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path

import trio

from benchmarks.bench import WALL, Bench, Case, Figure, Open, PlainRound, Round, Setting, Stopwatch
from benchmarks.measures.durable import bare_commits, postgres_server
from clawft_trio.agent.journal import Journal
from clawft_trio.agent.open_agent import MIGRATIONS
from clawft_trio.messages import InboundMessage
from clawft_trio.store import Connection, open_store
from clawft_trio.store.ownership import Ownership

TURNS = 200
ROOT = Path(__file__).parents[2]


@contextmanager
def processes(place: str, count: int) -> Iterator[None]:
    """Worker processes on *place* that have opened it."""
    command = [sys.executable, "-m", "benchmarks.worker", place]
    with ExitStack() as stack:
        started = []
        for _ in range(count):
            process = stack.enter_context(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE))
            stack.callback(process.kill)
            started.append(process)
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        yield


def answering(*, engine: str, workers: int) -> Open:
    """Rounds of turns: accepted here, each in a session of its own, and answered by the workers."""

    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        turns = setting.sized(TURNS, 4)
        server = postgres_server.running(fsync=True) if engine == "postgresql" else nullcontext()
        with server as running:
            place = str(setting.folder / "agent.db") if running is None else running.schema()
            async with open_store(place, migrations=MIGRATIONS, busy=30) as store:
                journal, number = Journal(store, ownership=Ownership(store)), 0
                with processes(place, workers):

                    def answered(connection: Connection) -> int:
                        (count,) = connection.execute("SELECT count(*) FROM undelivered").fetchone()
                        return int(count)

                    async def accept(at: int) -> None:
                        message = InboundMessage(
                            channel="ch", sender_id="u", chat_id=str(at), id=f"m{at}", content="pay"
                        )
                        await journal.accept(message, claim=False)

                    async def one_round(watch: Stopwatch) -> None:
                        nonlocal number
                        with watch.timing(turns):
                            async with trio.open_nursery() as nursery:
                                for at in range(number, number + turns):
                                    nursery.start_soon(accept, at)
                            number += turns
                            while await store.read(answered) < number:
                                await trio.sleep(0.01)
                        watch.note("per_second", turns / watch.wall)

                    yield one_round

    return opened


@contextmanager
def bare_commits_on_a_server(setting: Setting) -> Iterator[PlainRound]:
    """Four commits of one row for each turn, one after another."""
    import psycopg

    turns = setting.sized(TURNS, 4)
    with postgres_server.running(fsync=True) as server, psycopg.connect(server.schema()) as connection:
        connection.execute("CREATE TABLE rows (text TEXT)")
        connection.commit()

        def one_round(watch: Stopwatch) -> None:
            with watch.timing(turns):
                for _ in range(4 * turns):
                    connection.execute("INSERT INTO rows (text) VALUES ('as long as a step of a turn')")
                    connection.commit()
            watch.note("per_second", turns / watch.wall)

        yield one_round


BARE = "four commits of sqlite3"
_ABSENT = postgres_server.missing() if os.name == "posix" else "POSIX only"

BENCH = Bench(
    title="durable turns of worker processes with one tool call each",
    item="turn",
    limit="A bare loop of four commits for each turn, on one connection.",
    against=BARE,
    figures=(Figure("per_second", "turns/s", 0), WALL),
    cases=(
        Case(BARE, bare_commits, role="limit", loop="none"),
        Case("four commits of psycopg", bare_commits_on_a_server, role="limit", loop="none", absent=_ABSENT),
        *(Case(f"SQLite, {count} workers", answering(engine="sqlite", workers=count)) for count in (1, 2, 4)),
        *(
            Case(f"PostgreSQL, {count} workers", answering(engine="postgresql", workers=count), absent=_ABSENT)
            for count in (1, 2, 4)
        ),
    ),
    rounds=3,
)
