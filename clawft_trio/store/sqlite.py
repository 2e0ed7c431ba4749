"""SQLite in WAL mode: one file, shared by processes of one machine, or a database in memory."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import trio

from clawft_trio.codec import shown
from clawft_trio.errors import StoreCorrupt, StoreError, StoreReadOnly
from clawft_trio.store.interface import Connection, Durability, Engine, Listener, StoreStatistics, Work
from clawft_trio.store.listeners import Listeners
from clawft_trio.store.migrations import Migration, apply, missing, present_versions
from clawft_trio.store.sqlite_errors import Named, is_locked
from clawft_trio.store.sqlite_lanes import Lane, Reader, SharedConnection, Writer, beside

T = TypeVar("T")

_APPLICATION_ID = 0x436C_6177
"""`Claw`, in the file's header: another application's database is refused, not written to."""

_CLOSING_GRACE = 10.0
"""Seconds that closing may take: SQLite moves the write-ahead log into the file then."""

_LOCK_STEP_MS = 100
"""How long SQLite waits for another process's lock before the thread checks whether its jobs are still wanted."""

_SMALLEST_DATABASE = 512
"""Bytes of SQLite's smallest page. SQLite takes a shorter file for an empty database and would overwrite it."""


class SqliteStore:
    """A store in an SQLite file or in memory. Created by `open_store`."""

    engine: Engine = "sqlite"

    def __init__(self, writer: Writer, reader: Reader, path: Path | None, listeners: Listeners) -> None:
        self._writer = writer
        self._reader = reader
        self._path = path
        self._listeners = listeners
        #: whether no other process can reach it
        self.private: bool = path is None

    def __repr__(self) -> str:
        return f"<Store {self._path or 'in memory'}{' closed' if self._writer.closed else ''}>"

    async def transact(
        self,
        function: Work[T],
        *,
        concurrent: bool = False,
        durability: Durability = "power",
        repeatable: bool = False,
        large: bool = False,
    ) -> T:
        """Run *function* in one transaction; see `Store.transact`.

        Raises:
          StoreError: see `Store.transact`.

        Cancellation: `Cancelled` means that nothing was written.
        """
        del concurrent, repeatable  # there is one writer, and the result of each commit is known
        return await self._writer.run(function, durable=durability == "power", large=large)

    async def read(self, function: Work[T]) -> T:
        """Run *function*, which only reads, at the same time as a writer.

        Raises:
          sqlite3.OperationalError: *function* tried to write.
          StoreError: as for `transact`.

        Cancellation: nothing was changed.
        """
        return await self._reader.run(function)

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Call *listener* with every notification of this process."""
        with self._listeners.added(listener):
            yield

    def statistics(self) -> StoreStatistics:
        """Return the current counts."""
        writer, reader = self._writer, self._reader
        return StoreStatistics(
            engine=self.engine,
            path=self._path,
            written=writer.written,
            read=reader.done,
            rolled_back=writer.failed + reader.failed,
            waiting=writer.waiting + reader.waiting,
            commits=writer.commits,
            synced=writer.synced,
        )


@asynccontextmanager
async def open_sqlite(
    path: Path | None, steps: tuple[Migration, ...], *, busy: float, durability: Durability
) -> AsyncGenerator[SqliteStore, None]:
    """Open the file at *path*, or a database in memory; see `open_store`.

    Raises:
      StoreError: see `open_store`.

    Cancellation: the file is closed; migrations are applied completely or not at all.
    """
    listeners = Listeners()
    lanes: list[Lane] = []
    try:
        if path is None:
            writer, reader = await _open_in_memory(steps, listeners, lanes)
        else:
            writer, reader = await _open_file(path, steps, listeners, lanes, busy=busy, durability=durability)
        yield SqliteStore(writer, reader, path, listeners)
    finally:
        with trio.move_on_after(_CLOSING_GRACE, shield=True):  # noqa: ASYNC912 - there may be nothing to close
            for lane in reversed(lanes):
                await lane.close()


async def _open_in_memory(
    steps: tuple[Migration, ...], listeners: Listeners, lanes: list[Lane]
) -> tuple[Writer, Reader]:
    await trio.lowlevel.checkpoint()
    source, token = "the store in memory", trio.lowlevel.current_trio_token()
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    shared = SharedConnection()
    writer = Writer(connection, listeners, token, source=source, busy=0.0, shared=shared)
    reader = Reader(connection, token, source=source, shared=shared)
    lanes += [writer, reader]
    writer.transaction(lambda inside: apply(inside, steps, engine="sqlite", source=source))
    return writer, reader


async def _open_file(
    path: Path,
    steps: tuple[Migration, ...],
    listeners: Listeners,
    lanes: list[Lane],
    *,
    busy: float,
    durability: Durability,
) -> tuple[Writer, Reader]:
    token, source = trio.lowlevel.current_trio_token(), str(path)

    def open_writer() -> Writer:
        return Writer(_connect(path), listeners, token, source=source, busy=busy)

    def open_reader() -> Reader:
        return Reader(_connect(path), token, source=source)

    writer = await trio.to_thread.run_sync(open_writer)
    lanes.append(writer)
    await trio.to_thread.run_sync(_prepare, writer, path, steps, durability)
    reader = await trio.to_thread.run_sync(open_reader)
    lanes.append(reader)
    return writer, reader


def _connect(path: Path) -> sqlite3.Connection:
    source = str(path)
    with Named(source):
        _make_private_file(path)
        connection = sqlite3.connect(path, timeout=_LOCK_STEP_MS / 1000, isolation_level=None, check_same_thread=False)
        # The file's schema (defaults, checks, indexes) is not trusted to call functions with side effects.
        connection.execute("PRAGMA trusted_schema = OFF")
        return connection


def _prepare(writer: Writer, path: Path, steps: tuple[Migration, ...], durability: Durability) -> None:
    try:
        _bring_into_use(writer, path, steps, durability)
    except StoreError:
        _close_unchanged(writer._connection, path)
        raise


def _bring_into_use(writer: Writer, path: Path, steps: tuple[Migration, ...], durability: Durability) -> None:
    source, connection = str(path), writer._connection
    with Named(source):
        _refuse_foreign(connection, source)
        # Only now, so that another application's file keeps its mode.
        _restrict(path)
        # Several processes may open a new file at once; only one of them can switch it to WAL.
        _retry_while_locked(lambda: connection.execute("PRAGMA journal_mode = WAL"), writer._busy)
        writer.set_durability(durability)
        connection.execute("PRAGMA foreign_keys = ON")
    _migrate(writer, steps, source)
    writer.watch(path)


def _close_unchanged(connection: sqlite3.Connection, path: Path) -> None:
    """Close *connection* and leave file and log as they are: the log may be that of another file, left after a copy.

    SQLite's last connection to a file moves the log into it. Here that is one which cannot write.
    """
    log = beside(path, "-wal")
    if not log.exists() or not log.stat().st_size:
        return
    with closing(sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)) as last:
        with suppress(sqlite3.Error):
            last.execute("SELECT 1 FROM sqlite_master")
        connection.close()


def _retry_while_locked(attempt: Callable[[], object], busy: float) -> None:
    deadline = time.monotonic() + busy
    while True:
        try:
            attempt()
            return
        except sqlite3.OperationalError as exc:
            if not is_locked(exc) or time.monotonic() >= deadline:
                raise
        trio.from_thread.check_cancelled()


def _make_private_file(path: Path) -> None:
    """Create the file for its user alone, if it is missing.

    Raises:
      StoreCorrupt: it is too short for a database.
      StoreReadOnly: its mode forbids writing.
      StoreError: it cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # An existing file is never opened here: closing it again would drop every POSIX lock that this process holds on
        # it, including those of other connections, and a process that closes then deletes their write-ahead log.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        found = path.stat()
    except OSError as exc:
        raise StoreError(f"{path}: cannot be opened: {exc.strerror}", path=str(path)) from exc
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{path}: cannot be opened: it is not a file", path=str(path))
    # SQLite would wait for the other end of a pipe, or delete it.
    for other in (beside(path, suffix) for suffix in ("-journal", "-wal", "-shm")):
        if other.exists() and not other.is_file():
            raise StoreError(f"{path}: cannot be opened: {other.name} is not a file", path=str(path))
    if 0 < found.st_size < _SMALLEST_DATABASE:
        raise StoreCorrupt(f"{path}: is too short for a database", path=str(path))
    if not found.st_mode & stat.S_IWUSR:
        raise StoreReadOnly(f"{path}: its mode forbids writing", path=str(path))


def _restrict(path: Path) -> None:
    # SQLite gives its log files the mode of the main file.
    try:
        if stat.S_IMODE(path.stat().st_mode) != 0o600:
            path.chmod(0o600)
    except OSError as exc:
        raise StoreError(f"{path}: cannot be made private: {exc.strerror}", path=str(path)) from exc


def _refuse_foreign(connection: sqlite3.Connection, source: str) -> None:
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if mark != _APPLICATION_ID and (mark or tables):
        raise StoreCorrupt(f"{source}: is the database of another application", path=source)
    # Statements that would run inside ours. This package creates none.
    strange = connection.execute("SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view')").fetchone()
    if strange is not None:
        kind, name = strange
        raise StoreCorrupt(f"{source}: holds a {kind} that this package did not make: {shown(name)}", path=source)


def _migrate(writer: Writer, steps: tuple[Migration, ...], source: str) -> None:
    # Checked first without a lock, because mostly there is nothing to do, and others may be writing.
    connection = writer._connection
    with Named(source):
        present = present_versions(connection, engine="sqlite")
        (mark,) = connection.execute("PRAGMA application_id").fetchone()
        if mark == _APPLICATION_ID and present and not missing(steps, present, source=source):
            return
        missing(steps, present, source=source)

    def bring_up_to_date(inside: Connection) -> None:
        inside.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        apply(inside, steps, engine="sqlite", source=source)

    writer.transaction(bring_up_to_date, _still_wanted)


def _still_wanted() -> bool:
    trio.from_thread.check_cancelled()
    return True
