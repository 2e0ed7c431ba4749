"""Migrations are data: each component has its own, numbered from 1, and one database contains them all."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from clawft_trio.errors import StoreCorrupt, StoreTooNew
from clawft_trio.store.dialect import schema_for_postgres
from clawft_trio.store.interface import Connection, Engine

# Stores since 0.1 have the component in a column named `room`.
_VERSIONS = """
    CREATE TABLE IF NOT EXISTS schema_versions (room TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""

_HAS_VERSIONS: Mapping[Engine, str] = {
    "sqlite": "SELECT 1 FROM sqlite_master WHERE name = 'schema_versions'",
    "postgresql": "SELECT 1 WHERE to_regclass('schema_versions') IS NOT NULL",
}


@attrs.frozen
class Migration:
    """One step of one component's schema. Once released, it is never changed; a later step corrects it."""

    #: the component that the tables belong to: `sessions`, `costs`, or one of your own
    component: str
    #: number of the step, from 1
    version: int = attrs.field(validator=attrs.validators.ge(1))
    #: one or more statements, each ended by a semicolon; no transaction control
    sql: str = attrs.field(repr=False)
    #: text for PostgreSQL, when `dialect.schema_for_postgres` of *sql* is not suitable
    postgres: str = attrs.field(default="", repr=False)

    def statements(self, engine: Engine) -> Iterator[str]:
        """Yield its statements for *engine*."""
        if engine == "sqlite":
            return statements(self.sql)
        return statements(self.postgres or schema_for_postgres(self.sql))


def checked(migrations: Iterable[Migration]) -> tuple[Migration, ...]:
    """Return *migrations* in the order in which they apply.

    Raises:
      ValueError: the versions of a component are not 1, 2, 3, … without gaps or duplicates.
    """
    ordered = tuple(sorted(migrations, key=lambda step: (step.component, step.version)))
    for component, newest in newest_versions(ordered).items():
        found = [step.version for step in ordered if step.component == component]
        if found != list(range(1, newest + 1)):
            raise ValueError(
                f"the migrations of {component!r} have the versions {found}: they must count from 1 without gap"
            )
    return ordered


def newest_versions(migrations: Iterable[Migration]) -> dict[str, int]:
    """Return the newest version of each component in *migrations*."""
    newest: dict[str, int] = {}
    for step in migrations:
        newest[step.component] = max(step.version, newest.get(step.component, 0))
    return newest


def present_versions(connection: Connection, *, engine: Engine) -> dict[str, object]:
    """Return the version of each component in the database; empty for a new one."""
    if connection.execute(_HAS_VERSIONS[engine]).fetchone() is None:
        return {}
    rows = connection.execute("SELECT room, version FROM schema_versions").fetchall()
    return {component: version for component, version in rows if isinstance(component, str)}


def missing(migrations: Sequence[Migration], present: Mapping[str, object], *, source: str) -> tuple[Migration, ...]:
    """Return the steps that the database does not have yet.

    Raises:
      StoreCorrupt: a version in the database is no number.
      StoreTooNew: the database has tables that are newer than *migrations*.
    """
    versions: dict[str, int] = {}
    for component, newest in newest_versions(migrations).items():
        version = present.get(component, 0)
        if not isinstance(version, int):
            raise StoreCorrupt(f"{source}: the version of {component} is no number", path=source)
        if version > newest:
            raise StoreTooNew(
                f"{source}: {component} has version {version}, and this program knows {newest}", path=source
            )
        versions[component] = version
    return tuple(step for step in migrations if step.version > versions[step.component])


def apply(connection: Connection, migrations: Sequence[Migration], *, engine: Engine, source: str) -> None:
    """Bring the schema up to date, inside the caller's transaction."""
    versions = _VERSIONS if engine == "sqlite" else schema_for_postgres(_VERSIONS)
    connection.execute(versions)
    for step in missing(migrations, present_versions(connection, engine=engine), source=source):
        for statement in step.statements(engine):
            connection.execute(statement)
        connection.execute(
            "INSERT INTO schema_versions (room, version) VALUES (?, ?)"
            " ON CONFLICT (room) DO UPDATE SET version = excluded.version",
            (step.component, step.version),
        )


def statements(sql: str) -> Iterator[str]:
    """Split *sql* at the ends of its statements.

    `executescript` would do it, too, but commits first, and a migration must be applied completely or not at all.
    """
    statement = ""
    for piece in sql.split(";"):
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip("; \n\t"):
        yield statement
