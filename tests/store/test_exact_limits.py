"""Stores at their limits: values, versions, addresses, copies, and what a message may show."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from clawft_trio.errors import StoreCorrupt, StoreError, StoreTooNew
from clawft_trio.store import Connection, Migration, Store, open_store
from clawft_trio.store.address import is_address, shown, unknown_scheme
from clawft_trio.store.copying import copy_store, tables_of
from clawft_trio.store.leases import (
    LEASE_MIGRATIONS,
    acquire,
    has_ended,
    new_owner,
    release,
    release_all,
    release_named,
    renew,
)
from clawft_trio.store.listeners import Listeners
from clawft_trio.store.migrations import missing, newest_versions

NUMBERS = Migration("numbers", 1, "CREATE TABLE numbers (n INTEGER) STRICT;")
NAMES = Migration("numbers", 2, "ALTER TABLE numbers ADD COLUMN name TEXT NOT NULL DEFAULT '';")


def count(connection: Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM numbers").fetchone()[0])


@pytest.mark.parametrize(("number", "fits"), [(2**63 - 1, True), (-(2**63), True), (2**63, False), (2**200, False)])
async def test_a_number_of_more_than_64_bits_is_a_typed_error_and_stores_nothing(number: int, fits: bool) -> None:
    async with open_store(None, migrations=[NUMBERS]) as store:

        def insert(connection: Connection) -> None:
            connection.execute("INSERT INTO numbers VALUES (?)", (number,))

        if fits:
            await store.transact(insert)
        else:
            with pytest.raises(StoreError, match="too large"):
                await store.transact(insert)
        assert await store.read(count) == fits


async def test_a_store_that_is_up_to_date_opens_and_is_read_while_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_store(path, migrations=[NUMBERS]):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with open_store(path, migrations=[NUMBERS], busy=0.01) as store:
            assert await store.read(count) == 0


async def test_what_only_looks_like_a_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def refused() -> str:
        with pytest.raises(StoreCorrupt) as caught:
            async with open_store(path, migrations=[NUMBERS]):
                pass
        return str(caught.value)

    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA application_id = 77")
        other.commit()
    assert "another application" in await refused()
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA application_id = 0")
        other.execute("CREATE TABLE theirs (n)")
        other.commit()
    assert "another application" in await refused()
    path.unlink()
    async with open_store(path, migrations=[NUMBERS]):
        pass
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE VIEW strange AS SELECT 1")
        other.commit()
    assert "holds a view" in await refused()


def test_only_newer_tables_than_this_program_knows_are_refused() -> None:
    steps = [NUMBERS, NAMES]
    assert newest_versions(reversed(steps)) == {"numbers": 2}
    assert missing(steps, {}, source="s") == (NUMBERS, NAMES)
    assert missing(steps, {"numbers": 1}, source="s") == (NAMES,)
    assert missing(steps, {"numbers": 2, "other": 9}, source="s") == ()
    with pytest.raises(StoreTooNew, match="has version 3, and this program knows 2"):
        missing(steps, {"numbers": 3}, source="s")


@pytest.mark.parametrize(
    ("place", "address", "scheme"),
    [
        ("postgresql://host/db", True, ""),
        ("postgres://host/db", True, ""),
        ("mysql://host/db", False, "mysql"),
        ("sqlite+x://host/db", False, "sqlite+x"),
        ("folder/store.db", False, ""),
        (Path("postgresql://host/db"), False, ""),
        (None, False, ""),
    ],
)
def test_an_address_is_recognised_by_its_scheme(place: Path | str | None, address: bool, scheme: str) -> None:
    assert (is_address(place), unknown_scheme(place)) == (address, scheme)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("postgresql://host/db", "postgresql://host/db"),
        ("postgresql://ana@host/db", "postgresql://ana@host/db"),
        ("postgresql://ana:secret@host/db", "postgresql://ana:…@host/db"),
        ("postgresql://ana:se:cr@et@host/db", "postgresql://ana:…@host/db"),
        ("postgresql://ana:se?cr@host/db", "postgresql://ana:…@host/db"),
        ("postgresql://host/db?user=ana&password=secret", "postgresql://host/db?user=ana&password=…"),
        ("postgresql://ana:a@host/db?sslkey=k%20y&x=1", "postgresql://ana:…@host/db?sslkey=…&x=1"),
    ],
)
def test_a_password_in_an_address_is_not_shown(address: str, text: str) -> None:
    assert shown(address) == text


async def filled(store: Store, rows: int) -> None:
    await store.transact(
        lambda connection: connection.executemany("INSERT INTO numbers VALUES (?)", [(n,) for n in range(rows)])
    )


@pytest.mark.parametrize("rows", [0, 1, 1000, 1001, 2001])
async def test_every_row_is_copied_once_into_an_empty_store(rows: int) -> None:
    steps = [NUMBERS, *LEASE_MIGRATIONS]
    async with open_store(None, migrations=steps) as source, open_store(None, migrations=steps) as target:
        await filled(source, rows)
        await source.transact(lambda connection: acquire(connection, "a", "me", -1.0))  # has ended
        (table,) = await copy_store(source, target, steps)
        assert (table.name, table.rows) == ("numbers", rows)
        assert await target.read(count) == rows

        def leases(connection: Connection) -> int:
            return int(connection.execute("SELECT count(*) FROM leases").fetchone()[0])

        # Who owns what belongs to the processes of one store.
        assert await target.read(leases) == 0
        if rows:
            with pytest.raises(StoreError, match=f"numbers has {rows} rows"):
                await copy_store(source, target, steps)
    assert tables_of(steps) == ("numbers", "leases")


async def test_a_lease_is_taken_by_one_owner_until_it_is_released() -> None:
    async with open_store(None, migrations=LEASE_MIGRATIONS) as store:

        def play(connection: Connection) -> None:
            first = acquire(connection, "a", "me", 60.0)
            assert first is not None
            assert (first.name, first.owner, first.length) == ("a", "me", 60.0)
            assert acquire(connection, "a", "other", 60.0) is None
            assert acquire(connection, "a", "me", 60.0) is None
            again = acquire(connection, "a", "me", 60.0, again=True)
            assert again is not None
            assert again.token == first.token
            assert acquire(connection, "ab", "me", 60.0) is not None
            assert acquire(connection, "b", "me", 60.0) is not None
            assert acquire(connection, "c", "other", 60.0) is not None
            assert renew(connection, "me", 60.0) == {"a", "ab", "b"}
            assert release_all(connection, "me", "a") == 2
            assert release_all(connection, "me", "a") == 0
            release_named(connection, "b", "other")
            assert renew(connection, "me", 60.0) == {"b"}
            release_named(connection, "b", "me")
            assert renew(connection, "me", 60.0) == set()
            taken = acquire(connection, "a", "other", 60.0)
            assert taken is not None
            # A lease that was lost releases nothing.
            release(connection, first)
            assert renew(connection, "other", 60.0) == {"a", "c"}
            release(connection, taken)
            assert renew(connection, "other", 60.0) == {"c"}

        await store.transact(play)


@pytest.mark.parametrize("change", [lambda parts: parts[:3], lambda parts: [*parts, "x"], lambda parts: ["?", *parts[1:]],
                                    lambda parts: ["elsewhere", *parts[1:]],
                                    lambda parts: [parts[0], "-1", *parts[2:]]],
                         ids=["too few", "too many", "no machine", "another machine", "no process"])  # fmt: skip
def test_of_an_unknown_owner_nothing_is_known_to_have_ended(change) -> None:
    parts = new_owner().split(" ")
    assert len(parts) == 4
    parts[2] = "1"  # the process with this number was started at another time
    assert not has_ended(" ".join(change(parts)))


def test_a_notification_is_split_at_its_first_line_and_a_failing_listener_stops_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listeners, heard = Listeners(), []

    def failing(topic: str, payload: str) -> None:
        raise KeyError(topic)

    with listeners.added(failing), listeners.added(lambda *both: heard.append(both)):
        listeners.notify("topic\nfirst\nsecond")
        listeners.notify("")
    listeners.notify("late\nx")
    assert heard == [("topic", "first\nsecond"), ("", "")]
    assert len(caplog.records) == 2
