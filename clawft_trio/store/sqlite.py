"""The one file on disk: SQLite in WAL mode, off the event loop, shared by rooms and by processes."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

import attrs
import trio

from clawft_trio.errors import StoreBusy, StoreClosed, StoreCorrupt, StoreError
from clawft_trio.store.migrations import Migration, apply, checked, missing, present_versions

T = TypeVar("T")

Work: TypeAlias = Callable[[sqlite3.Connection], T]
"""What is done inside one transaction: it may read and write, and never begins or ends a transaction itself."""

_APPLICATION_ID = 0x436C_6177
"""`Claw`, in the file's header: another application's database is refused, not written into."""

_CLOSING_GRACE = 10.0
"""Seconds that closing may take: SQLite moves the write-ahead log into the file then."""

_LOCK_STEP_MS = 100
"""How long SQLite waits for another process's lock before we look whether anybody still wants it."""

_NOT_A_STORE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_BROKEN = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN})


@attrs.frozen(kw_only=True)
class StoreStatistics:
    """What a store has done so far, and who waits for it."""

    #: where the file is; None in memory
    path: Path | None
    #: transactions that were committed
    written: int
    #: reads that have ended
    read: int
    #: transactions and reads that failed or were given up; nothing of them is in the file
    rolled_back: int
    #: tasks that wait for their turn
    waiting: int


class Store:
    """An open store. Made by `open_store`."""

    def __init__(self, writer: _Lane, reader: _Lane, path: Path | None) -> None:
        self._writer = writer
        self._reader = reader
        self._path = path

    def __repr__(self) -> str:
        return f"<Store {self._path or 'in memory'}{' closed' if self._writer.closed else ''}>"

    async def transact(self, function: Work[T]) -> T:
        """Run *function* in one transaction, in a thread, and commit.

        It sees everything committed before and is alone in writing, across processes. Whatever it raises rolls
        everything back and comes out as it is.

        Raises:
          StoreBusy: other processes kept the file locked for longer than `open_store` allows.
          StoreCorrupt: the file is damaged.
          StoreError: the disk is full or gone, or the store is closed.

        Cancellation: `Cancelled` means that nothing was written; a transaction that is already being committed
        ends first and its result is returned.
        """
        return await self._writer.run("BEGIN IMMEDIATE", "COMMIT", function)

    async def read(self, function: Work[T]) -> T:
        """Run *function*, which only reads, on one consistent state, beside whoever is writing.

        Raises:
          sqlite3.OperationalError: *function* tried to write.
          StoreError: as for `transact`.

        Cancellation: as for `transact`.
        """
        return await self._reader.run("BEGIN", "ROLLBACK", function)

    def statistics(self) -> StoreStatistics:
        """What it has done so far."""
        lanes = {self._writer, self._reader}
        return StoreStatistics(
            path=self._path,
            written=self._writer.ended["COMMIT"],
            read=self._reader.ended["ROLLBACK"],
            rolled_back=sum(lane.failed for lane in lanes),
            waiting=sum(lane.limiter.statistics().tasks_waiting for lane in lanes),
        )


@asynccontextmanager
async def open_store(
    path: Path | None,
    *,
    migrations: Iterable[Migration] = (),
    busy: float = 5.0,
    durability: Literal["power", "process"] = "power",
) -> AsyncGenerator[Store, None]:
    """Open the store at *path*, or a new one in memory, and bring its schema up to date.

    A new file belongs to its user alone (0600), and so do the folders made for it. In memory there are no threads,
    so that tests in mock time stay exact.

    Args:
      path: the file; made when it is not there.
      migrations: the schema of every room that will use it; tables of other rooms in the file are left alone.
      busy: seconds to wait for other processes.
      durability: what a commit survives: a power cut (one fsync each), or the end of the process.

    Raises:
      StoreCorrupt: the file is damaged or somebody else's. It is left as it is.
      StoreTooNew: a later version of this package has written it. It is left as it is.
      StoreBusy: other processes kept it locked.
      StoreError: it cannot be opened.

    Cancellation: the file is closed; migrations are applied wholly or not at all.
    """
    steps = checked(migrations)
    if path is None:
        lane = await _open_in_memory(steps)
        writer, reader = lane, lane
    else:
        writer, reader = await _open_file(Path(path), steps, busy=busy, durability=durability)
    try:
        yield Store(writer, reader, path)
    finally:
        with trio.move_on_after(_CLOSING_GRACE, shield=True):
            await reader.close()
            await writer.close()


class _Lane:
    """One connection, used by one task at a time, in the order in which they came."""

    def __init__(self, connection: sqlite3.Connection, *, source: str, busy: float, threaded: bool) -> None:
        self.limiter: trio.CapacityLimiter = trio.CapacityLimiter(1)
        self.closed: bool = False
        self.failed: int = 0
        self.ended: dict[str, int] = {"COMMIT": 0, "ROLLBACK": 0}
        self._connection = connection
        self._source = source
        self._busy = busy
        self._threaded = threaded

    async def run(self, begin: str, end: str, function: Work[T]) -> T:
        if not self._threaded:
            await trio.lowlevel.checkpoint()
            return self._transaction(begin, end, function)
        return await trio.to_thread.run_sync(self._transaction, begin, end, function, limiter=self.limiter)

    def _transaction(self, begin: str, end: str, function: Work[T]) -> T:
        if self.closed:
            raise StoreClosed(f"{self._source} is closed", path=self._source)
        reads = end == "ROLLBACK"
        with _named(self._source, reads=reads), self._rolled_back_on_failure():
            self._begin(begin)
            with self._read_only(reads):
                result = function(self._connection)
            self._give_up_if_cancelled()
            self._connection.execute(end)
        self.ended[end] += 1
        return result

    def _begin(self, begin: str) -> None:
        deadline = time.monotonic() + self._busy
        while True:
            try:
                self._connection.execute(begin)
                return
            except sqlite3.OperationalError as exc:
                if _code(exc) not in _LOCKED or time.monotonic() >= deadline:
                    raise
            self._give_up_if_cancelled()

    def _give_up_if_cancelled(self) -> None:
        if self._threaded:
            trio.from_thread.check_cancelled()

    @contextmanager
    def _rolled_back_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.failed += 1
            # Not there when BEGIN failed, and gone when SQLite itself rolled back (a full disk).
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _read_only(self, wanted: bool) -> Iterator[None]:
        if not wanted:
            yield
            return
        self._connection.execute("PRAGMA query_only = ON")
        try:
            yield
        finally:
            self._connection.execute("PRAGMA query_only = OFF")

    async def close(self) -> None:
        if self._threaded:
            await trio.to_thread.run_sync(self._close, limiter=self.limiter)
        else:
            await trio.lowlevel.checkpoint()
            self._close()

    def _close(self) -> None:
        if not self.closed:
            self.closed = True
            self._connection.close()


async def _open_in_memory(steps: tuple[Migration, ...]) -> _Lane:
    await trio.lowlevel.checkpoint()
    connection = sqlite3.connect(":memory:", isolation_level=None)
    lane = _Lane(connection, source="the store in memory", busy=0.0, threaded=False)
    try:
        lane._transaction("BEGIN IMMEDIATE", "COMMIT", lambda _: apply(connection, steps, source=lane._source))
    except BaseException:
        connection.close()
        raise
    return lane


async def _open_file(path: Path, steps: tuple[Migration, ...], *, busy: float, durability: str) -> tuple[_Lane, _Lane]:
    thread = trio.CapacityLimiter(1)
    lanes: list[_Lane] = []
    try:
        lanes.append(await trio.to_thread.run_sync(_open_lane, path, busy, durability, limiter=thread))
        await trio.to_thread.run_sync(_migrate, lanes[0], steps, limiter=thread)
        lanes.append(await trio.to_thread.run_sync(_open_lane, path, busy, durability, limiter=thread))
    except BaseException:
        with trio.move_on_after(_CLOSING_GRACE, shield=True):  # noqa: ASYNC912 - there may be nothing to close
            for lane in lanes:
                await lane.close()
        raise
    return lanes[0], lanes[1]


def _open_lane(path: Path, busy: float, durability: str) -> _Lane:
    with _named(str(path)):
        _make_private(path)
        connection = sqlite3.connect(path, timeout=_LOCK_STEP_MS / 1000, isolation_level=None, check_same_thread=False)
    lane = _Lane(connection, source=str(path), busy=busy, threaded=True)
    try:
        with _named(str(path)):
            _refuse_foreign(connection, str(path))
            # Several processes may open a new file at once; only one of them can switch it to WAL.
            lane._begin("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'power' else 'NORMAL'}")
            connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return lane


def _make_private(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # An existing file is never opened here: closing it again would drop every POSIX lock that this process holds
        # on it, other connections' included, and a process that closes then deletes their write-ahead log.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        # SQLite gives its log files the mode of the main file.
        if stat.S_IMODE(path.stat().st_mode) != 0o600 and path.is_file():
            path.chmod(0o600)
    except OSError as exc:
        raise StoreError(f"{path}: cannot be opened: {exc.strerror}", path=str(path)) from exc


def _refuse_foreign(connection: sqlite3.Connection, source: str) -> None:
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if mark != _APPLICATION_ID and (mark or tables):
        raise StoreCorrupt(f"{source}: is the database of another application", path=source)


def _migrate(lane: _Lane, steps: tuple[Migration, ...]) -> None:
    # Looks first without a lock: most of the time there is nothing to do, and others may be writing.
    source, connection = lane._source, lane._connection
    with _named(source):
        present = present_versions(connection)
        (mark,) = connection.execute("PRAGMA application_id").fetchone()
        if mark == _APPLICATION_ID and present and not missing(steps, present, source=source):
            return
        missing(steps, present, source=source)

    def bring_up_to_date(connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        apply(connection, steps, source=source)

    lane._transaction("BEGIN IMMEDIATE", "COMMIT", bring_up_to_date)


def _code(exc: sqlite3.Error) -> int:
    # Extended result codes keep the primary one in the low byte.
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF


@contextmanager
def _named(source: str, *, reads: bool = False) -> Iterator[None]:
    """Give SQLite's failures of the file our names; errors of the statements themselves are the caller's."""
    try:
        yield
    except sqlite3.DatabaseError as exc:
        code = _code(exc)
        if code in _NOT_A_STORE:
            raise StoreCorrupt(f"{source}: is damaged or is no store: {exc}", path=source) from exc
        if code in _LOCKED:
            raise StoreBusy(f"{source}: other processes keep it locked", path=source) from exc
        # In a read it is the caller who tried to write.
        if code in _BROKEN or (code == sqlite3.SQLITE_READONLY and not reads):
            raise StoreError(f"{source}: {exc}", path=source) from exc
        raise
