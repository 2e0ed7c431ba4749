"""Copies a store to another one, also from one engine to the other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from clawft_trio.errors import StoreError
from clawft_trio.store.interface import Connection, Store
from clawft_trio.store.migrations import Migration

_TABLE = re.compile(r"\bCREATE TABLE (?:IF NOT EXISTS )?(\w+)")
_COUNTED = re.compile(r"\bCREATE TABLE (?:IF NOT EXISTS )?(\w+)\s*\(\s*(\w+) INTEGER PRIMARY KEY AUTOINCREMENT")

_BATCH = 1000
"""Number of rows that are in memory at once."""

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

    Nothing else may use either store at the same time.

    Raises:
      StoreError: *target* already has rows, or one of the stores cannot be used.

    Cancellation: *target* is unchanged.
    """
    names = [name for name in tables_of(migrations) if name not in _SKIPPED]
    counted = dict(match for step in migrations for match in _COUNTED.findall(step.sql))
    rows = {name: await _rows_of(source, name) for name in names}

    def fill(connection: Connection) -> None:
        for name in names:
            (found,) = connection.execute(f"SELECT count(*) FROM {name}").fetchone()
            if found:
                raise StoreError(f"the target is not empty: {name} has {found} rows")
            for columns, values in rows[name]:
                marks = ", ".join("?" * len(columns))
                connection.executemany(f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({marks})", values)
        if target.engine == "postgresql":
            _advance(connection, counted)

    await target.transact(fill)
    return tuple(CopiedTable(name, sum(len(values) for _, values in rows[name])) for name in names)


def _advance(connection: Connection, counted: Mapping[str, str]) -> None:
    # Inserting a number does not advance the sequence that generates the next one.
    for table, column in counted.items():
        connection.execute(
            f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'),"
            f" (SELECT coalesce(max({column}), 1) FROM {table}))"
        ).fetchone()


async def _rows_of(source: Store, table: str) -> list[tuple[list[str], list[Sequence[Any]]]]:
    """Return the rows of *table* in batches, each with the names of its columns."""

    def look(connection: Connection) -> list[tuple[list[str], list[Sequence[Any]]]]:
        cursor: Any = connection.execute(f"SELECT * FROM {table}")
        columns = [column[0] for column in cursor.description]
        values = cursor.fetchall()
        return [(columns, values[at : at + _BATCH]) for at in range(0, len(values), _BATCH)]

    return await source.read(look)
