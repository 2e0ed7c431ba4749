"""Pins the definition of a tool at its first use: a changed tool is withheld until it is approved.

A server can be honest when a person inspects it and later change the descriptions of its tools. A model treats a
description like an instruction, so the description must stay the inspected one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Protocol

import msgspec

from clawft_trio.mcp.types import ToolDefinition
from clawft_trio.store import Connection, Migration, Store

PIN_MIGRATIONS = (
    Migration(
        "mcp_pins",
        1,
        "CREATE TABLE mcp_pins (server TEXT NOT NULL, tool TEXT NOT NULL, hash TEXT NOT NULL,"
        " PRIMARY KEY (server, tool)) WITHOUT ROWID;",
    ),
)
"""Migrations of the tables that `StoredPins` uses."""

_encode = msgspec.json.Encoder(order="deterministic").encode


def fingerprint(tool: ToolDefinition) -> str:
    """Return a hash of all parts of *tool* that a model may read: name, description, schemas, annotations."""
    definition = (tool.name, tool.title, tool.description, tool.input_schema, tool.output_schema, tool.annotations)
    return hashlib.sha256(_encode(definition)).hexdigest()


class Pins(Protocol):
    """Storage of fingerprints."""

    async def load(self, server: str) -> Mapping[str, str]:
        """Return the fingerprints of *server*'s tools by the tools' names.

        Cancellation: nothing has changed.
        """
        ...

    async def keep(self, server: str, hashes: Mapping[str, str]) -> None:
        """Store these fingerprints, replacing older ones of the same tools.

        Cancellation: all of them are stored, or none.
        """
        ...


class MemoryPins:
    """Fingerprints that are kept in memory."""

    def __init__(self) -> None:
        self._hashes: dict[str, dict[str, str]] = {}

    async def load(self, server: str) -> Mapping[str, str]:
        """Return the fingerprints of *server*'s tools by the tools' names.

        Cancellation: has no effect here.
        """
        return dict(self._hashes.get(server, {}))

    async def keep(self, server: str, hashes: Mapping[str, str]) -> None:
        """Store these fingerprints, replacing older ones of the same tools.

        Cancellation: has no effect here.
        """
        self._hashes.setdefault(server, {}).update(hashes)


class StoredPins:
    """Fingerprints in the store, which needs `PIN_MIGRATIONS`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def load(self, server: str) -> Mapping[str, str]:
        """Return the fingerprints of *server*'s tools by the tools' names.

        Raises:
          StoreError: the store cannot be read.

        Cancellation: nothing has changed.
        """

        def read(connection: Connection) -> dict[str, str]:
            return dict(connection.execute("SELECT tool, hash FROM mcp_pins WHERE server = ?", (server,)))

        return await self._store.read(read)

    async def keep(self, server: str, hashes: Mapping[str, str]) -> None:
        """Store these fingerprints, replacing older ones of the same tools.

        Raises:
          StoreError: the store cannot be written.

        Cancellation: all of them are stored, or none.
        """
        rows = [(server, tool, digest) for tool, digest in hashes.items()]

        def write(connection: Connection) -> None:
            connection.executemany(
                "INSERT INTO mcp_pins (server, tool, hash) VALUES (?, ?, ?)"
                " ON CONFLICT (server, tool) DO UPDATE SET hash = excluded.hash",
                rows,
            )

        await self._store.transact(write, repeatable=True)
