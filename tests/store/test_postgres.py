"""What only PostgreSQL does: a server that goes away, is restarted, or is read-only."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from functools import partial
from pathlib import Path

import postgres_server
import pytest
import trio

from clawft_trio.errors import StoreBusy, StoreError, StoreReadOnly
from clawft_trio.store import Connection, Migration, open_store
from clawft_trio.store.address import is_address, shown

NUMBERS = Migration("numbers", 1, "CREATE TABLE numbers (n INTEGER NOT NULL);")


@pytest.fixture
def own_server(postgres):
    """A server that the test may stop."""
    with postgres_server.running() as server:
        yield server


def children(parent: int) -> list[int]:
    """The processes that *parent* has started."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdecimal() and (folder / "stat").read_text().rpartition(")")[2].split()[1] == str(parent):
                found.append(int(folder.name))
    return found


def signalled(processes: list[int], number: int) -> None:
    for process in processes:
        os.kill(process, number)


def add(n: int, connection: Connection) -> None:
    connection.execute("INSERT INTO numbers VALUES (?)", (n,))


async def test_nothing_acknowledged_is_lost_when_the_server_is_restarted(own_server) -> None:
    written: list[int] = []
    unknown: list[int] = []
    stop = trio.Event()

    async def write(store, start: int) -> None:
        n = start
        while not stop.is_set():
            try:
                await store.transact(partial(add, n), concurrent=True)
                written.append(n)
            except StoreError:
                unknown.append(n)
            n += 1
            await trio.sleep(0.002)

    async with open_store(own_server.schema(), migrations=[NUMBERS], busy=20) as store:
        async with trio.open_nursery() as nursery:
            for start in (0, 100_000, 200_000):
                nursery.start_soon(write, store, start)
            for mode in ("immediate", "fast"):
                await trio.sleep(0.3)
                await trio.to_thread.run_sync(own_server.stop, mode)
                await trio.to_thread.run_sync(own_server.start)
            await trio.sleep(0.3)
            stop.set()
        rows = await store.read(lambda c: c.execute("SELECT n FROM numbers ORDER BY n").fetchall())
    found = [n for (n,) in rows]
    assert set(written) <= set(found)
    assert len(found) == len(set(found)), "a commit whose answer was lost was repeated"
    assert set(found) <= set(written) | set(unknown)
    # The restarts are waited for, within `busy`.
    assert len(unknown) <= 6


async def test_listeners_are_reconnected_after_a_restart(own_server) -> None:
    heard: list[str] = []
    lost = trio.Event()

    def listener(topic: str, _: str) -> None:
        if topic:
            heard.append(topic)
        else:
            lost.set()

    async with open_store(own_server.schema(), busy=20) as store:
        with store.listening(listener), trio.fail_after(40):
            await lost.wait()
            lost = trio.Event()
            await trio.to_thread.run_sync(own_server.stop, "fast")
            await trio.to_thread.run_sync(own_server.start)
            # Something may have been sent meanwhile: that is said, too.
            await lost.wait()
            await store.transact(lambda c: c.execute("SELECT notify_listeners(?)", ("again\n",)).fetchone())
            while heard != ["again"]:
                await trio.sleep(0.01)


async def test_a_server_that_is_away_is_a_typed_error_within_the_bound(own_server) -> None:
    async with open_store(own_server.schema(), migrations=[NUMBERS], busy=0.3) as store:
        await trio.to_thread.run_sync(own_server.stop, "fast")
        with pytest.raises(StoreBusy) as caught, trio.fail_after(20):
            await store.transact(partial(add, 1))
        assert caught.value.retryable
    with pytest.raises(StoreBusy):
        async with open_store(own_server.address, busy=0.3):
            raise AssertionError("opened")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the processes of the server in /proc")
async def test_a_server_that_hangs_does_not_hold_a_cancelled_task(own_server) -> None:
    async with open_store(own_server.schema(), migrations=[NUMBERS]) as store:
        await store.transact(partial(add, 1))
        server = [own_server.pid, *children(own_server.pid)]
        signalled(server, signal.SIGSTOP)
        try:
            with trio.fail_after(20), trio.move_on_after(0.3) as scope:
                await store.transact(partial(add, 2))
        finally:
            signalled(server, signal.SIGCONT)
        assert scope.cancelled_caught
        await store.transact(partial(add, 3))
        rows = await store.read(lambda c: c.execute("SELECT n FROM numbers ORDER BY n").fetchall())
    assert rows in ([(1,), (3,)], [(1,), (2,), (3,)])


async def test_a_read_only_database_is_a_typed_error(postgres) -> None:
    address = postgres.schema()
    async with open_store(address, migrations=[NUMBERS]):
        pass
    async with open_store(f"{address}%20-cdefault_transaction_read_only%3Don", migrations=[NUMBERS]) as store:
        with pytest.raises(StoreReadOnly):
            await store.transact(partial(add, 1))
        assert await store.read(lambda c: c.execute("SELECT n FROM numbers").fetchall()) == []


async def test_a_text_with_nul_is_a_typed_error(postgres) -> None:
    words = Migration("words", 1, "CREATE TABLE words (word TEXT);")
    async with open_store(postgres.schema(), migrations=[words]) as store:
        with pytest.raises(StoreError, match="cannot be stored"):
            await store.transact(lambda c: c.execute("INSERT INTO words VALUES (?)", ("a\0b",)).rowcount)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("postgresql://ana:s3cret@db/agents", "postgresql://ana:…@db/agents"),
        ("postgresql://ana:s3:c/r@et@db:5432/agents", "postgresql://ana:…@db:5432/agents"),
        ("postgresql://ana:s3?cret@db/agents", "postgresql://ana:…@db/agents"),
        ("postgresql://ana@db/agents", "postgresql://ana@db/agents"),
        ("postgresql://db/agents?user=ana&password=s3cret&x=1", "postgresql://db/agents?user=ana&password=…&x=1"),
    ],
)
def test_a_password_is_not_shown(address: str, text: str) -> None:
    assert is_address(address)
    assert shown(address) == text


@pytest.mark.parametrize("place", [None, "agent.db", "file:agent.db"])
def test_a_file_is_no_address(place: str | None) -> None:
    assert not is_address(place)
