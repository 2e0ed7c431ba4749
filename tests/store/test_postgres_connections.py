"""Connections to PostgreSQL after cancelled statements, failed transactions and crashes of the server."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from urllib.parse import quote

import postgres_server
import psycopg
import pytest
import trio

from clawft_trio.errors import StoreBusy, StoreCorrupt, StoreError, StoreReadOnly
from clawft_trio.store import Connection, Migration, open_store
from clawft_trio.store.address import shown
from clawft_trio.store.postgres_lane import _LIFE, Lane

NUMBERS = Migration("numbers", 1, "CREATE TABLE numbers (n INTEGER NOT NULL);")


def add(connection: Connection) -> None:
    connection.execute("INSERT INTO numbers VALUES (1)")


def count(connection: Connection) -> int:
    return connection.execute("SELECT count(*) FROM numbers").fetchone()[0]


async def test_many_transactions_cancelled_at_once_leave_usable_connections(postgres) -> None:
    async with open_store(postgres.schema(), migrations=[NUMBERS]) as store:
        for _ in range(10):
            # Not concurrent: most of them are cancelled while they wait for the lock that the first one has.
            with trio.move_on_after(0.01):
                async with trio.open_nursery() as nursery:
                    for _ in range(50):
                        nursery.start_soon(store.transact, add)
        before = await store.read(count)
        for _ in range(16):
            await store.transact(add)
        assert await store.read(count) == before + 16


async def test_a_commit_that_the_server_turns_into_a_rollback_is_no_success(postgres) -> None:
    def fail_and_go_on(connection: Connection) -> None:
        add(connection)
        try:
            connection.execute("SELECT 1 / 0").fetchone()
        except psycopg.Error:
            pass

    async with open_store(postgres.schema(), migrations=[NUMBERS], busy=0.2) as store:
        with pytest.raises(StoreBusy, match="rolled the transaction back"):
            await store.transact(fail_and_go_on)
        assert await store.read(count) == 0


@pytest.fixture
def own_server(postgres):
    """A server that the test may stop."""
    with postgres_server.running() as server:
        yield server


def life(server) -> str:
    with psycopg.connect(server.address, autocommit=True) as connection:
        return connection.execute(_LIFE).fetchone()[0]


def test_only_a_crash_ends_the_life_of_a_server(own_server) -> None:
    first = life(own_server)
    own_server.restart("fast")
    assert life(own_server) == first
    own_server.restart("immediate")
    second = life(own_server)
    assert second != first
    # The crash of one process restarts all of them below the same postmaster.
    with psycopg.connect(own_server.address, autocommit=True) as connection:
        os.kill(connection.info.backend_pid, signal.SIGKILL)
    # It answers until the postmaster has seen the crash, and refuses while it recovers.
    for _ in range(1200):
        with suppress(psycopg.OperationalError):
            if life(own_server) != second:
                return
        time.sleep(0.05)
    raise AssertionError("the crash has not changed the life of the server")


class CutAtCommit:
    """Ends its own connection inside the transaction, the first time."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, connection: Connection) -> None:
        add(connection)
        self.runs += 1
        if self.runs == 1:
            connection.execute("SELECT pg_terminate_backend(pg_backend_pid(), 0)")


async def test_a_transaction_whose_connection_ended_before_the_commit_runs_again(postgres) -> None:
    work = CutAtCommit()
    async with open_store(postgres.schema(), migrations=[NUMBERS]) as store:
        await store.transact(work)
        assert work.runs == 2
        assert await store.read(count) == 1


@pytest.mark.parametrize("repeatable", [True, False])
async def test_after_a_crash_only_a_repeatable_transaction_runs_again(postgres, repeatable: bool, monkeypatch) -> None:
    original, runs = Lane._commit, 0

    def commit(lane: Lane, session, transaction: str) -> None:
        nonlocal runs
        runs += 1
        original(lane, session, transaction)
        if runs == 1:
            # As if the answer were lost, and the server had crashed meanwhile.
            lane._life = "an earlier life"
            lane._look_up(transaction, psycopg.OperationalError("lost"))

    async with open_store(postgres.schema(), migrations=[NUMBERS]) as store:
        monkeypatch.setattr(Lane, "_commit", commit)
        if repeatable:
            await store.transact(add, repeatable=True)
            assert await store.read(count) == 2
        else:
            with pytest.raises(StoreError, match="not known"):
                await store.transact(add)
            assert await store.read(count) == 1


async def test_transactions_that_queue_in_one_process_do_not_wait_for_the_servers_lock(postgres) -> None:
    """Together they take longer than a lock may be waited for; none of them fails."""

    def slow(connection: Connection) -> None:
        connection.execute("SELECT pg_sleep(0.1)").fetchone()
        add(connection)

    async with open_store(postgres.schema(), migrations=[NUMBERS], busy=0.3) as store:
        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(store.transact, slow)
        assert await store.read(count) == 12
        assert store.statistics().rolled_back == 0


async def test_those_that_queue_for_a_server_that_is_away_fail_together(own_server) -> None:
    async with open_store(own_server.schema(), migrations=[NUMBERS], busy=0.3) as store:
        own_server.stop("fast")
        failed = 0

        async def fail() -> None:
            nonlocal failed
            with pytest.raises(StoreError):
                await store.transact(add)
            failed += 1

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(fail)
        assert failed == 50
        own_server.start()
        await store.transact(add)
        assert await store.read(count) == 1


async def test_an_error_of_a_statement_whose_result_is_not_looked_at_rolls_back(postgres) -> None:
    def fail_and_go_on(connection: Connection) -> None:
        add(connection)
        connection.execute("SELECT 1 / 0")
        add(connection)

    async with open_store(postgres.schema(), migrations=[NUMBERS]) as store:
        with pytest.raises(StoreError, match="division by zero"):
            await store.transact(fail_and_go_on)
        assert await store.read(count) == 0
        # On the same lane: statements that the server has skipped are prepared again.
        await store.transact(add)
        assert await store.read(count) == 1


async def test_reads_leave_prepared_statements_prepared(postgres) -> None:
    def prepared(connection: Connection) -> list[str]:
        return [sql for (sql,) in connection.execute("SELECT statement FROM pg_prepared_statements").fetchall()]

    async with open_store(postgres.schema(), migrations=[NUMBERS]) as store:
        for _ in range(3):
            await store.transact(add)
            await store.read(count)
        assert any("INSERT" in sql for sql in await store.read(prepared))


@pytest.mark.parametrize("name", ["s" * 63, "é" * 31, 'a "b" % c'], ids=["long", "accents", "marks"])
async def test_a_schema_of_any_name_has_notifications(postgres, name: str) -> None:
    with psycopg.connect(postgres.address, autocommit=True) as connection:
        connection.execute(psycopg.sql.SQL("CREATE SCHEMA {}").format(psycopg.sql.Identifier(name)))
    search_path = '-csearch_path="' + name.replace('"', '""').replace(" ", "\\ ") + '"'
    place = f"{postgres.address}&options={quote(search_path, safe='')}"
    received: list[str] = []

    def listener(topic: str, payload: str) -> None:
        if topic:
            received.append(payload)

    async with open_store(place) as one, open_store(place) as other:
        with other.listening(listener), trio.fail_after(30):
            # Until the other's connection listens, notifications are lost.
            while not received:
                await one.transact(lambda c: c.execute("SELECT notify_listeners(?)", ("topic\nhello",)).fetchone())
                await trio.sleep(0.01)
    assert set(received) == {"hello"}


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_stores_every_text_or_is_refused(postgres, encoding: str) -> None:
    name = f"db_{encoding}".lower()
    with psycopg.connect(postgres.address, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name}")
        connection.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    place = postgres.address.replace("/postgres?", f"/{name}?")
    if encoding == "SQL_ASCII":
        async with open_store(place) as store:
            row = await store.read(lambda connection: connection.execute("SELECT ?", ("é€😀",)).fetchone())
            assert row == ("é€😀",)
    else:
        with pytest.raises(StoreError, match="encoding is LATIN1"):
            async with open_store(place):
                pass


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("//clawft@", "//nouser:hunter2@"), '"nouser"'),
        (("/postgres?", "/nodb?"), '"nodb"'),
        # Not encoded, so that a part of the password is taken for the name of the database.
        (("//clawft@/postgres?", "//clawft:/hunter2@/postgres?"), '"…"'),
        (("//clawft@/postgres?", "//clawft:hunter2@[::1/postgres?"), "is not an address"),
    ],
)
async def test_why_there_is_no_connection_is_named_without_a_part_of_the_password(postgres, change, named: str) -> None:
    with pytest.raises(StoreError) as caught:
        async with open_store(postgres.address.replace(*change), busy=0):
            pass
    assert named in str(caught.value)
    assert "hunter" not in str(caught.value)


STATES = {
    StoreReadOnly: ["25006"],
    # Serialization failure, deadlock, lock not available, forgotten statement; connection failure, too many, shutdown,
    # starting, idle for too long; a statement that took too long.
    StoreBusy: ["40001", "40P01", "55P03", "26000", "08006", "53300", "57P01", "57P03", "25P03", "57014"],
    # No such table, column, schema; damaged pages.
    StoreCorrupt: ["42P01", "42703", "3F000", "XX001", "XX002"],
    # Disk full, no memory, I/O, internal; password, no database, no privilege; a value that does not fit; any other.
    StoreError: ["53100", "53200", "58030", "XX000", "28P01", "3D000", "42501", "22003", "54000", "22P05", "0A000"],
}


async def test_a_failure_of_the_server_is_a_typed_error_and_the_next_transaction_works(postgres) -> None:
    # Without any wait: nothing is tried twice, and an earlier failure is no reason to fail.
    place = postgres.schema()
    async with open_store(place, migrations=[NUMBERS], busy=0) as store:
        for raised, states in STATES.items():
            for state in states:
                error = psycopg.errors.lookup(state)(f"state {state}")
                for use in (store.transact, store.read):
                    with pytest.raises(StoreError) as caught:
                        await use(failing(error))
                    assert type(caught.value) is raised, state
                    assert caught.value.path == shown(place)
                    assert caught.value.__cause__ is error
                await store.transact(add)
        violated = psycopg.errors.lookup("23505")("the caller's")
        with pytest.raises(psycopg.errors.UniqueViolation):
            await store.transact(failing(violated))
        done = sum(map(len, STATES.values()))
        assert await store.read(count) == done
        found = store.statistics()
        assert (found.written, found.commits, found.synced, found.waiting) == (done + 1, done + 1, done + 1, 0)
        assert found.rolled_back == 2 * done + 1


def failing(error: Exception):
    def fail(connection: Connection) -> None:
        raise error

    return fail
