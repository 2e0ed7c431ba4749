"""`clawft-trio store`: upgrade, check and copy the store of an agent."""

from __future__ import annotations

from functools import partial

import trio

from clawft_trio.agent.from_config import owed_file
from clawft_trio.agent.open_agent import MIGRATIONS
from clawft_trio.agent.serialization import inbound_from_json, message_from_json
from clawft_trio.bus.undelivered import decode_message
from clawft_trio.cli.errors import say
from clawft_trio.costs import Ledger
from clawft_trio.costs.settling import Settling
from clawft_trio.errors import NotConfigured, StoreCorrupt
from clawft_trio.store import Connection, open_store
from clawft_trio.store.address import is_address
from clawft_trio.store.copying import copy_store, tables_of
from clawft_trio.store.migrations import newest_versions, present_versions

_SHOWN = 20
"""Largest number of problems that are shown."""

_DECODERS = (
    ("messages", "message", message_from_json),
    ("turns", "message", inbound_from_json),
    ("undelivered", "message", decode_message),
)


async def existing(place: str) -> None:
    """Refuse a file that is missing, because it would be created.

    Raises:
      NotConfigured: there is no such file.

    Cancellation: nothing is changed.
    """
    if is_address(place):
        await trio.lowlevel.checkpoint()
    elif not await trio.Path(place).exists():
        raise NotConfigured(f"no store: {place} is not there")


async def upgrade(place: str) -> None:
    """Bring the tables up to date.

    Raises:
      NotConfigured: there is no such file.
      StoreError: the store cannot be used.

    Cancellation: the tables are brought up to date completely or not at all.
    """
    await existing(place)
    async with open_store(place, migrations=MIGRATIONS, busy=30.0):
        say("Up to date.")


async def check(place: str) -> bool:
    """Read everything in the store; return whether all of it can be read.

    Raises:
      NotConfigured: there is no such file.
      StoreError: the store cannot be used.

    Cancellation: nothing is changed.
    """
    await existing(place)
    async with open_store(place, migrations=MIGRATIONS) as store:
        shown, count = await store.read(_problems if store.engine == "postgresql" else _problems_of_file)
    for problem in shown:
        say(problem)
    if count > len(shown):
        say(f"… and {count - len(shown)} more")
    say(f"{count} problems." if count else "No problems.")
    return not count


def _problems_of_file(connection: Connection) -> tuple[list[str], int]:
    rows = connection.execute(f"PRAGMA integrity_check({_SHOWN})").fetchall()
    found = [line for (line,) in rows if line != "ok"]
    return (found, len(found)) if found else _problems(connection)


def _problems(connection: Connection) -> tuple[list[str], int]:
    """Return some rows that cannot be read, and the number of all."""
    found: list[str] = []
    count = 0
    for table, column, decode in _DECODERS:
        query = f"SELECT place, {column} FROM {table} WHERE {column} IS NOT NULL"
        for place, data in connection.execute(query):
            try:
                decode(data)
            except StoreCorrupt as exc:
                count += 1
                if len(found) < _SHOWN:
                    found.append(f"{table}, row {place}: {exc}")
    for table in tables_of(MIGRATIONS):
        connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return found, count


async def copy(source: str, target: str) -> None:
    """Copy an agent's tables from one store into another, where they must be empty, and print what was copied.

    Raises:
      NotConfigured: there is no such file.
      StoreError: one of the stores cannot be used, or *target* is not empty.

    Cancellation: *target* is unchanged.
    """
    await existing(source)
    async with (
        open_store(source, migrations=MIGRATIONS) as old,
        open_store(target, migrations=MIGRATIONS, busy=30.0) as new,
    ):
        # They are in a file beside the source.
        await Settling(Ledger(old), owed_file(old)).read_file()
        for table in await copy_store(old, new, MIGRATIONS):
            say(f"{table.name}: {table.rows} rows")
        present = await old.read(partial(present_versions, engine=old.engine))
        if others := sorted(present.keys() - newest_versions(MIGRATIONS).keys()):
            say(f"Not copied, because they are not an agent's: the tables of {', '.join(others)}.")
