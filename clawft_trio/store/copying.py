"""Copies a store to another one, also from one engine to the other."""

from __future__ import annotations

import queue
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import attrs
import trio

from clawft_trio.errors import StoreError
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.store.interface import Connection, Engine, Store
from clawft_trio.store.leases import expire_ended
from clawft_trio.store.migrations import Migration

_TABLE = re.compile(r"\bCREATE TABLE (?:IF NOT EXISTS )?(\w+)")
_COUNTED = re.compile(r"\bCREATE TABLE (?:IF NOT EXISTS )?(\w+)\s*\(\s*(\w+) INTEGER PRIMARY KEY AUTOINCREMENT")

_BATCH = 256
"""Largest number of rows that are read at once."""

_BATCH_BYTES = 4 * 1024 * 1024
"""About as many bytes and characters are read at once, because a message may hold pictures."""

_WAITING = 4
"""Largest number of batches that wait to be written."""

_LOOK = 0.05
"""Seconds between checks whether the other thread has stopped."""

_SKIPPED = frozenset({"leases"})
"""Who owns what belongs to the processes of one store."""


@attrs.frozen
class CopiedTable:
    """Name and size of a table that was copied."""

    name: str
    rows: int


def tables_of(migrations: Iterable[Migration]) -> tuple[str, ...]:
    """Return the tables that *migrations* create, in that order."""
    return tuple(name for step in migrations for name in _TABLE.findall(step.sql))


async def copy_store(source: Store, target: Store, migrations: Sequence[Migration]) -> tuple[CopiedTable, ...]:
    """Copy every row of the tables of *migrations* into *target*, which must be empty, in one transaction.

    The rows are one consistent state of *source*. What is written to it later is not copied, so nothing should use it.

    Raises:
      StoreError: a process holds leases in *source*, *target* already has rows, or one of the stores cannot be used.

    Cancellation: *target* is unchanged.
    """
    names = [name for name in tables_of(migrations) if name not in _SKIPPED]
    counted = dict(match for step in migrations for match in _COUNTED.findall(step.sql))
    # A store in memory runs its functions in this thread, one after another.
    one_by_one = source.private or target.private
    rows = _Rows(0 if one_by_one else _WAITING)
    read = partial(source.read, partial(_read, names=names, rows=rows, engine=source.engine))
    sizes: dict[str, int] = {}

    def fill(connection: Connection) -> dict[str, int]:
        found = _fill(connection, names, rows)
        if target.engine == "postgresql":
            _advance(connection, counted)
        return found

    if not source.private:
        await source.transact(expire_ended)
    async with open_hidden_nursery() as nursery:
        nursery.start_soon(rows.stop_at_cancellation)
        if one_by_one:
            await read()
        else:
            nursery.start_soon(read)
        # Otherwise the error of the reading task is raised.
        with suppress(_Stopped):
            sizes = await target.transact(fill)
            # The target is written: a cancellation from now on would report that it is not.
            nursery.cancel_scope.shield = True
            nursery.cancel_scope.cancel(reason="copied")
    return tuple(CopiedTable(name, sizes[name]) for name in names)


class _Stopped(Exception):
    """The thread that reads has failed, or the copy was cancelled."""


@attrs.frozen
class _Batch:
    """Some rows of one table."""

    table: str
    columns: Sequence[str]
    values: Sequence[Sequence[Any]]


class _Rows:
    """Passes batches from the thread that reads to the thread that writes."""

    def __init__(self, size: int) -> None:
        self._batches: queue.Queue[_Batch | None] = queue.Queue(size)
        self._stopped = False
        self._taken = False

    async def stop_at_cancellation(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.stop()

    def stop(self) -> None:
        self._stopped = True

    def put(self, batch: _Batch | None) -> None:
        """Add a batch; None is the end."""
        while True:
            if self._stopped:
                raise _Stopped
            try:
                return self._batches.put(batch, timeout=_LOOK)
            except queue.Full:
                pass

    def __iter__(self) -> Iterator[_Batch]:
        if self._taken:
            raise StoreError("the target was interrupted, and nothing is copied: copy again")
        self._taken = True
        while True:
            if self._stopped:
                raise _Stopped
            try:
                batch = self._batches.get(timeout=_LOOK)
            except queue.Empty:
                continue
            if batch is None:
                return
            yield batch


def _read(connection: Connection, *, names: Sequence[str], rows: _Rows, engine: Engine) -> None:
    try:
        owners = connection.execute("SELECT DISTINCT owner FROM leases WHERE expires >= now_seconds()").fetchall()
        if owners:
            raise StoreError(f"the source is in use by {len(owners)} processes: end them first")
        for name in names:
            for columns, values in _batches_of(connection, name, engine):
                rows.put(_Batch(name, columns, values))
        rows.put(None)
    except _Stopped:
        pass
    except BaseException:
        rows.stop()
        raise


def _batches_of(connection: Connection, table: str, engine: Engine) -> Iterator[tuple[list[str], list[Any]]]:
    """Yield the rows of *table* in batches, each with the names of its columns."""
    query, count = f"SELECT * FROM {table}", 1
    if engine == "postgresql":
        # Without a cursor on the server, all rows would be in memory.
        connection.execute(f"DECLARE copied CURSOR FOR {query}")
        query = "FETCH 1 FROM copied"
    cursor: Any = connection.execute(query)
    columns = [column[0] for column in cursor.description]
    while values := cursor.fetchmany(count):
        yield columns, values
        count = _next_count(values)
        if engine == "postgresql":
            cursor = connection.execute(f"FETCH {count} FROM copied")
    if engine == "postgresql":
        connection.execute("CLOSE copied")


def _next_count(values: Sequence[Sequence[Any]]) -> int:
    """Return how many rows to read after *values*: twice as many at most, and as if they were as large."""
    size = sum(len(value) for row in values for value in row if isinstance(value, bytes | str))
    return max(1, min(_BATCH, 2 * len(values), len(values) * _BATCH_BYTES // max(1, size)))


def _fill(connection: Connection, names: Sequence[str], rows: _Rows) -> dict[str, int]:
    """Write all rows, and return the number of rows by table.

    Raises:
      StoreError: a table is not empty.
    """
    try:
        for name in names:
            (found,) = connection.execute(f"SELECT count(*) FROM {name}").fetchone()
            if found:
                raise StoreError(f"the target is not empty: {name} has {found} rows")
        sizes = dict.fromkeys(names, 0)
        for batch in rows:
            marks = ", ".join("?" * len(batch.columns))
            query = f"INSERT INTO {batch.table} ({', '.join(batch.columns)}) VALUES ({marks})"
            connection.executemany(query, batch.values)
            sizes[batch.table] += len(batch.values)
        return sizes
    except BaseException:
        rows.stop()
        raise


def _advance(connection: Connection, counted: Mapping[str, str]) -> None:
    # Inserting a number does not advance the sequence that generates the next one.
    for table, column in counted.items():
        connection.execute(
            f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'),"
            f" (SELECT coalesce(max({column}), 1) FROM {table}))"
        ).fetchone()
