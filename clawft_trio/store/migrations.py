"""Migrations are data: each room brings its own, numbered from 1, and one file on disk holds them all."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from clawft_trio.errors import StoreTooNew

_VERSIONS = """
    CREATE TABLE IF NOT EXISTS schema_versions (room TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT, WITHOUT ROWID
"""


@attrs.frozen
class Migration:
    """One step of one room's schema. Once released, it is never changed; the next step mends it."""

    #: whose tables these are: `sessions`, `costs`
    room: str
    #: 1 is the room's first
    version: int = attrs.field(validator=attrs.validators.ge(1))
    #: one or more statements, each ended by a semicolon; no transaction control
    sql: str = attrs.field(repr=False)


def checked(migrations: Iterable[Migration]) -> tuple[Migration, ...]:
    """*migrations* in the order in which they apply.

    Raises:
      ValueError: a room's versions are not 1, 2, 3, ... without gap or double.
    """
    ordered = tuple(sorted(migrations, key=lambda step: (step.room, step.version)))
    for room, newest in newest_versions(ordered).items():
        found = [step.version for step in ordered if step.room == room]
        if found != list(range(1, newest + 1)):
            raise ValueError(
                f"the migrations of {room!r} have the versions {found}: they must count from 1 without gap"
            )
    return ordered


def newest_versions(migrations: Iterable[Migration]) -> dict[str, int]:
    """The newest version of each room in *migrations*."""
    newest: dict[str, int] = {}
    for step in migrations:
        newest[step.room] = max(step.version, newest.get(step.room, 0))
    return newest


def present_versions(connection: sqlite3.Connection) -> dict[str, int]:
    """The version of each room in the file; empty for a new file."""
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_versions'").fetchone()
    return dict(connection.execute("SELECT room, version FROM schema_versions")) if known else {}


def missing(migrations: Sequence[Migration], present: Mapping[str, int], *, source: str) -> tuple[Migration, ...]:
    """The steps that the file does not have yet.

    Raises:
      StoreTooNew: the file has a room that is newer than *migrations* know.
    """
    for room, newest in newest_versions(migrations).items():
        if present.get(room, 0) > newest:
            raise StoreTooNew(
                f"{source}: {room} has version {present[room]}, and this program knows {newest}", path=source
            )
    return tuple(step for step in migrations if step.version > present.get(step.room, 0))


def apply(connection: sqlite3.Connection, migrations: Sequence[Migration], *, source: str) -> None:
    """Bring the file up to date, inside the caller's transaction."""
    connection.execute(_VERSIONS)
    for step in missing(migrations, present_versions(connection), source=source):
        for statement in statements(step.sql):
            connection.execute(statement)
        connection.execute("INSERT OR REPLACE INTO schema_versions VALUES (?, ?)", (step.room, step.version))


def statements(sql: str) -> Iterator[str]:
    """Split *sql* where its statements end.

    `executescript` would do it, too, but commits first, and a migration has to be whole or not at all.
    """
    statement = ""
    for piece in sql.split(";"):
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip("; \n\t"):
        yield statement
