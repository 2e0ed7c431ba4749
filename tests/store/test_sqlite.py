from __future__ import annotations

import sqlite3
import stat
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import trio

from clawft_trio.errors import StoreBusy, StoreCorrupt, StoreError, StoreReadOnly, StoreTooNew
from clawft_trio.store import Connection, Migration, Store, open_store
from clawft_trio.store.migrations import checked, statements
from clawft_trio.store.sqlite_errors import is_locked
from clawft_trio.testing.sweep import cancel_everywhere

WORDS = Migration("words", 1, "CREATE TABLE words (word TEXT PRIMARY KEY) STRICT;")
LENGTHS = Migration(
    "words", 2, "ALTER TABLE words ADD COLUMN length INTEGER; CREATE INDEX by_length ON words (length);"
)
NUMBERS = Migration("numbers", 1, "CREATE TABLE numbers (n INTEGER);")


def add(word: str, connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO words (word) VALUES (?)", (word,))


def words(connection: sqlite3.Connection) -> list[str]:
    return [word for (word,) in connection.execute("SELECT word FROM words ORDER BY word")]


@pytest.fixture(params=["memory", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Only SQLite: what both engines do is in test_store.py."""
    return None if request.param == "memory" else tmp_path / "folder" / "store.db"


async def test_any_exception_rolls_everything_back(place: Path | None) -> None:
    def half(connection: sqlite3.Connection) -> None:
        add("half", connection)
        raise KeyError("stop")

    async with open_store(place, migrations=[WORDS]) as store:
        with pytest.raises(KeyError):
            await store.transact(half)
        assert await store.read(words) == []
        await store.transact(partial(add, "whole"))
        with pytest.raises(sqlite3.IntegrityError):
            await store.transact(partial(add, "whole"))
        assert await store.read(words) == ["whole"]
        assert store.statistics().rolled_back == 2


async def test_a_read_cannot_write(place: Path | None) -> None:
    async with open_store(place, migrations=[WORDS]) as store:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await store.read(partial(add, "oslo"))
        await store.transact(partial(add, "bergen"))
        assert await store.read(words) == ["bergen"]


async def test_the_file_and_its_logs_belong_to_the_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "store.db"
    async with open_store(path, migrations=[WORDS]) as store:
        await store.transact(partial(add, "secret"))
        files = list(path.parent.iterdir())
        assert len(files) == 3
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o644)
    async with open_store(path, migrations=[WORDS]):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_rooms_bring_their_own_migrations_and_leave_each_other_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_store(path, migrations=[WORDS]) as store:
        await store.transact(partial(add, "oslo"))
    async with open_store(path, migrations=[NUMBERS]) as store:
        await store.transact(lambda c: c.execute("INSERT INTO numbers VALUES (1)"))
    async with open_store(path, migrations=[LENGTHS, NUMBERS, WORDS]) as store:
        rows = await store.read(lambda c: c.execute("SELECT word, length, n FROM words, numbers").fetchall())
        assert rows == [("oslo", None, 1)]


async def test_a_migration_is_applied_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    broken = Migration("words", 2, "CREATE TABLE extra (n INTEGER); INSERT INTO nowhere VALUES (1);")
    with pytest.raises(StoreCorrupt, match="nowhere"):
        async with open_store(path, migrations=[WORDS, broken]):
            raise AssertionError("opened")
    async with open_store(path, migrations=[WORDS, LENGTHS]) as store:
        tables = await store.read(lambda c: {name for (name,) in c.execute("SELECT name FROM sqlite_master")})
        assert "extra" not in tables
        assert "by_length" in tables


async def test_a_newer_schema_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_store(path, migrations=[WORDS, LENGTHS]):
        pass
    before = path.read_bytes()
    with pytest.raises(StoreTooNew) as caught:
        async with open_store(path, migrations=[WORDS]):
            raise AssertionError("opened")
    assert caught.value.path == str(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"no database at all\n" * 100, b"SQLite format 3\x00" + b"\xff" * 4080])
async def test_a_corrupt_file_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt):
        async with open_store(path, migrations=[WORDS]):
            raise AssertionError("opened")
    assert path.read_bytes() == content


async def test_damage_that_shows_later_is_named_too(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_store(path, migrations=[WORDS]) as store:
        await store.transact(
            lambda c: c.executemany("INSERT INTO words VALUES (?)", [(f"{n:0200}",) for n in range(500)])
        )
    damaged = bytearray(path.read_bytes())
    damaged[3 * 4096 :] = b"\xa5" * (len(damaged) - 3 * 4096)
    path.write_bytes(damaged)
    async with open_store(path, migrations=[WORDS]) as store:
        with pytest.raises(StoreCorrupt):
            await store.read(words)


async def test_another_applications_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (n INTEGER)")
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt, match="another application"):
        async with open_store(path, migrations=[WORDS]):
            raise AssertionError("opened")
    assert path.read_bytes() == before


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.parent.joinpath("a file").write_text("")])
async def test_a_place_that_cannot_be_a_file_is_a_typed_error(tmp_path: Path, make) -> None:
    make(tmp_path / "store.db")
    path = tmp_path / "store.db" if (tmp_path / "store.db").exists() else tmp_path / "a file" / "store.db"
    with pytest.raises(StoreError, match="open"):
        async with open_store(path):
            raise AssertionError("opened")


@pytest.mark.parametrize("versions", [[2], [1, 3], [1, 1]])
def test_migrations_with_a_gap_or_a_double_are_refused(versions: list[int]) -> None:
    with pytest.raises(ValueError, match="count from 1"):
        checked([Migration("words", version, "") for version in versions])


def test_statements_end_where_sqlite_says() -> None:
    trigger = "CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM b; DELETE FROM c; END;"
    text = f"INSERT INTO a VALUES ('x;y'); {trigger}\n SELECT 1"
    assert [s.strip() for s in statements(text)] == ["INSERT INTO a VALUES ('x;y');", trigger, "SELECT 1;"]


async def test_a_second_writer_waits_and_a_locked_file_is_a_typed_error(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_store(path, migrations=[WORDS], busy=0.0) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreBusy) as caught:
                await store.transact(partial(add, "oslo"))
            assert caught.value.retryable
            assert await store.read(words) == []  # readers do not wait for a writer
            other.execute("COMMIT")
        await store.transact(partial(add, "oslo"))


async def test_a_cancelled_writer_stops_waiting_for_a_lock_and_has_written_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_store(path, migrations=[WORDS], busy=60.0) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with trio.move_on_after(0.05) as scope:
                await store.transact(partial(add, "late"))
            other.execute("ROLLBACK")
        assert scope.cancelled_caught
        assert await store.read(words) == []


async def test_a_store_that_is_cancelled_while_it_opens_can_be_opened_again(tmp_path: Path) -> None:
    count = 0

    def path() -> Path:
        return tmp_path / f"{count}.db"

    async def use() -> None:
        nonlocal count
        count += 1
        async with open_store(path(), migrations=[WORDS]) as store:
            await store.transact(partial(add, "oslo"))

    async def it_opens() -> None:
        async with open_store(path(), migrations=[WORDS]) as store:
            assert await store.read(words) in ([], ["oslo"])

    assert await cancel_everywhere(use, it_opens) >= 5


async def test_opening_a_store_drops_no_lock_of_another_connection_of_this_process(tmp_path: Path) -> None:
    # A process's POSIX locks on a file are gone as soon as it closes any descriptor of that file. Then another
    # process that closes the database believes to be the last, and deletes the log that this one still writes to.
    path = tmp_path / "store.db"
    async with open_store(path, migrations=[WORDS]) as store:
        await store.transact(partial(add, "before"))
        async with open_store(path, migrations=[WORDS]) as second:
            await second.read(words)
            script = f"import sqlite3; c = sqlite3.connect({str(path)!r}); c.execute('SELECT * FROM words'); c.close()"
            await trio.run_process([sys.executable, "-c", script])
            assert path.with_name("store.db-wal").exists()
            await store.transact(partial(add, "after"))
            assert await second.read(words) == ["after", "before"]


async def test_a_file_that_cannot_be_written_is_a_typed_error(tmp_path: Path) -> None:
    async with open_store(tmp_path / "store.db", migrations=[WORDS]) as store:
        # As a file system that was mounted anew, read-only: to root no mode of a file is an obstacle.
        store._writer._connection.execute("PRAGMA query_only = ON")
        with pytest.raises(StoreError):
            await store.transact(partial(add, "oslo"))


COUNT_UP = """
import sys, trio
from pathlib import Path
from clawft_trio.store import Migration, open_store

def bump(connection):
    (n,) = connection.execute("SELECT coalesce(max(n), 0) FROM numbers").fetchone()
    connection.execute("INSERT INTO numbers VALUES (?)", (n + 1,))

async def main():
    numbers = Migration("numbers", 1, "CREATE TABLE numbers (n INTEGER PRIMARY KEY);")
    async with open_store(Path(sys.argv[1]), migrations=[numbers], busy=30.0, durability="process") as store:
        for _ in range(25):
            await store.transact(bump)

trio.run(main)
"""


async def test_processes_share_the_file_from_its_first_moment(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(trio.run_process, [sys.executable, "-c", COUNT_UP, str(path)])
    with closing(sqlite3.connect(path)) as connection:
        assert [n for (n,) in connection.execute("SELECT n FROM numbers ORDER BY n")] == list(range(1, 76))


@pytest.mark.parametrize("content", [b"x", b"{}\n", b"SQLite format 3", b"a" * 511])
async def test_a_file_too_short_for_a_database_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "theirs"
    path.write_bytes(content)
    path.chmod(0o644)
    with pytest.raises(StoreCorrupt):
        async with open_store(path, migrations=[WORDS]):
            raise AssertionError("opened")
    assert path.read_bytes() == content
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [file.name for file in tmp_path.iterdir()] == ["theirs"]


async def test_a_foreign_database_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (n INTEGER)")
    path.chmod(0o644)
    with pytest.raises(StoreCorrupt):
        async with open_store(path, migrations=[WORDS]):
            raise AssertionError("opened")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


async def test_a_read_only_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_store(path, migrations=[WORDS]):
        pass
    path.chmod(0o400)
    before = path.read_bytes()
    with pytest.raises(StoreReadOnly):
        async with open_store(path, migrations=[WORDS, LENGTHS]):
            raise AssertionError("opened")
    assert path.read_bytes() == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o400


async def test_a_commit_waits_for_the_disk_only_when_it_is_to_survive_a_power_cut(tmp_path: Path) -> None:
    async with open_store(tmp_path / "store.db", migrations=[WORDS]) as store:
        before = store.statistics().synced
        await store.transact(partial(add, "a"), durability="process")
        assert store.statistics().synced == before
        assert store._writer._connection.execute("PRAGMA synchronous").fetchone() == (1,)
        await store.transact(partial(add, "b"))
        assert store.statistics().synced == before + 1
        assert store._writer._connection.execute("PRAGMA synchronous").fetchone() == (2,)


async def test_a_store_opened_for_the_process_never_waits_for_the_disk(tmp_path: Path) -> None:
    async with open_store(tmp_path / "store.db", migrations=[WORDS], durability="process") as store:
        await store.transact(partial(add, "a"))
        assert store._writer._connection.execute("PRAGMA synchronous").fetchone() == (1,)
        assert store.statistics().synced == 0


async def test_a_commit_that_fails_fails_every_transaction_of_its_group(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    async def write(store, n: int) -> None:
        try:
            await store.transact(partial(add, f"{n}"))
        except StoreError as exc:
            errors.append(exc)

    async with open_store(tmp_path / "store.db", migrations=[WORDS]) as store:
        connection = store._writer._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreError):
            await store.transact(partial(add, "x" * 100_000))
        connection.execute("PRAGMA max_page_count = 100000")
        async with trio.open_nursery() as nursery:
            for n in range(5):
                nursery.start_soon(write, store, n)
        assert errors == []
        assert len(await store.read(words)) == 5


async def test_a_transaction_that_does_not_fit_on_the_disk_fails_alone(tmp_path: Path) -> None:
    failed: list[str] = []

    async def write(store: Store, word: str) -> None:
        try:
            await store.transact(partial(add, word))
        except StoreError:
            failed.append(word)

    def hold(connection: Connection) -> None:
        # Meanwhile the others wait together, and form a group.
        time.sleep(0.05)

    large = ["x" * 100_000, "y" * 100_000]
    async with open_store(tmp_path / "store.db", migrations=[WORDS]) as store:
        connection = store._writer._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.transact, hold)
            await trio.sleep(0.01)
            for word in ("a", large[0], "b", large[1], "c"):
                nursery.start_soon(write, store, word)
        assert sorted(failed) == large
        assert sorted(await store.read(words)) == ["a", "b", "c"]


def failure(kind: type[sqlite3.Error], code: int | None) -> sqlite3.Error:
    error = kind("as SQLite says it")
    if code is not None:
        error.sqlite_errorcode = code
    return error


FAILURES = [
    (sqlite3.DatabaseError, sqlite3.SQLITE_CORRUPT, StoreCorrupt, "is damaged or is no store"),
    (sqlite3.DatabaseError, sqlite3.SQLITE_NOTADB, StoreCorrupt, "is damaged or is no store"),
    (sqlite3.OperationalError, sqlite3.SQLITE_CORRUPT_VTAB, StoreCorrupt, "is damaged or is no store"),
    (sqlite3.OperationalError, sqlite3.SQLITE_BUSY, StoreBusy, "other processes keep it locked"),
    (sqlite3.OperationalError, sqlite3.SQLITE_LOCKED, StoreBusy, "other processes keep it locked"),
    (sqlite3.OperationalError, sqlite3.SQLITE_BUSY_SNAPSHOT, StoreBusy, "other processes keep it locked"),
    (sqlite3.OperationalError, sqlite3.SQLITE_READONLY, StoreReadOnly, "as SQLite says it"),
    (sqlite3.OperationalError, sqlite3.SQLITE_IOERR_FSYNC, StoreError, "as SQLite says it"),
    (sqlite3.OperationalError, sqlite3.SQLITE_FULL, StoreError, "as SQLite says it"),
    (sqlite3.OperationalError, sqlite3.SQLITE_CANTOPEN, StoreError, "as SQLite says it"),
    (sqlite3.OperationalError, sqlite3.SQLITE_PERM, StoreError, "as SQLite says it"),
    (sqlite3.OperationalError, sqlite3.SQLITE_ERROR, StoreCorrupt, "does not have what a statement needs"),
    (sqlite3.OperationalError, None, StoreCorrupt, "does not have what a statement needs"),
    (sqlite3.IntegrityError, sqlite3.SQLITE_CONSTRAINT_TRIGGER, StoreCorrupt, "holds what this package did not write"),
    # SQLITE_CONSTRAINT_DATATYPE, a value of another type in a STRICT table.
    (sqlite3.IntegrityError, 3091, StoreCorrupt, "holds what this package did not write"),
    (sqlite3.DataError, sqlite3.SQLITE_TOOBIG, StoreError, "a value is too large to be stored"),
]


@pytest.mark.parametrize(
    ("kind", "code", "raised", "words"), FAILURES, ids=lambda value: getattr(value, "__name__", None)
)
async def test_a_failure_of_the_database_is_a_typed_error_with_its_place(kind, code, raised, words: str) -> None:
    error = failure(kind, code)

    def fail(connection: Connection) -> None:
        raise error

    async with open_store(None, migrations=[WORDS]) as store:
        with pytest.raises(StoreError) as caught:
            await store.transact(fail)
        assert type(caught.value) is raised
        assert str(caught.value).startswith("the store in memory: ")
        assert words in str(caught.value)
        assert caught.value.path == "the store in memory"
        assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (sqlite3.IntegrityError, sqlite3.SQLITE_CONSTRAINT_UNIQUE),
        (sqlite3.IntegrityError, None),
        (sqlite3.OperationalError, sqlite3.SQLITE_INTERRUPT),
        (sqlite3.ProgrammingError, sqlite3.SQLITE_MISUSE),
        (sqlite3.ProgrammingError, None),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_a_mistake_of_the_caller_is_raised_as_it_is(kind, code) -> None:
    error = failure(kind, code)

    def fail(connection: Connection) -> None:
        raise error

    async with open_store(None, migrations=[WORDS]) as store:
        for use in (store.transact, store.read):
            with pytest.raises(kind) as caught:
                await use(fail)
            assert caught.value is error


async def test_each_task_of_a_group_has_its_own_error(tmp_path: Path) -> None:
    path, number, errors = tmp_path / "store.db", 3, []

    async def write(store: Store, word: str) -> None:
        try:
            await store.transact(partial(add, word))
        except StoreError as exc:
            errors.append(exc)

    async with open_store(path, migrations=[WORDS]) as store:
        path.rename(tmp_path / "elsewhere.db")
        async with trio.open_nursery() as nursery:
            for n in range(number):
                nursery.start_soon(write, store, f"{n}")
        assert len({id(error) for error in errors}) == number
        assert {(str(error), error.path) for error in errors} == {
            (f"{path}: the file {path.name} was removed or replaced while it was open", str(path))
        }
        assert store.statistics().rolled_back == number
        (tmp_path / "elsewhere.db").rename(path)
        await store.transact(partial(add, "again"))
        assert await store.read(words) == ["again"]


@pytest.mark.parametrize(
    ("code", "locked"),
    [
        (sqlite3.SQLITE_BUSY, True),
        (sqlite3.SQLITE_LOCKED, True),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, True),
        (sqlite3.SQLITE_IOERR, False),
        (None, False),
    ],
)
def test_only_a_lock_of_another_process_is_waited_for(code: int | None, locked: bool) -> None:
    assert is_locked(failure(sqlite3.OperationalError, code)) is locked
