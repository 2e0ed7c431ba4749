"""Where final replies wait that could not be delivered, in memory or in the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import attrs
import msgspec
import trio

from clawft_trio.codec import encode_json
from clawft_trio.errors import StoreCorrupt
from clawft_trio.messages import OutboundMessage
from clawft_trio.store import Connection, Migration, Store

MIGRATIONS = (
    Migration(
        "bus",
        1,
        """
        CREATE TABLE undelivered (
            place INTEGER PRIMARY KEY AUTOINCREMENT,
            key TEXT NOT NULL UNIQUE,
            channel TEXT NOT NULL,
            message BLOB NOT NULL
        ) STRICT;
        CREATE INDEX undelivered_by_channel ON undelivered (channel, place);
        """,
    ),
)
"""What `StoredUndelivered` needs in its store."""


@attrs.frozen
class UndeliveredReply:
    """A final reply on the shelf."""

    key: str
    message: OutboundMessage


class UndeliveredReplies(Protocol):
    """Keeps final replies until their channel has them, in the order in which they came."""

    async def keep(self, key: str, message: OutboundMessage) -> None:
        """Keep *message*. A key that is there already stays as it is.

        Cancellation: `Cancelled` means that it is not kept.
        """
        ...

    async def fetch(self, keys: Sequence[str]) -> tuple[UndeliveredReply, ...]:
        """What is under *keys*, in that order, without those that are not there. They stay.

        Cancellation: nothing is changed.
        """
        ...

    async def delivered(self, key: str) -> None:
        """Forget what is under *key*; a key that is not there is no error.

        Cancellation: `Cancelled` means that it is still there.
        """
        ...

    async def waiting(self) -> Mapping[str, tuple[str, ...]]:
        """The keys of everything kept, by channel, oldest first.

        Cancellation: nothing is changed.
        """
        ...


def key_of(message: OutboundMessage) -> str | None:
    """The key of the one final reply to a message; None for what answers nothing."""
    return None if message.reply_to is None else f"{message.channel}\n{message.chat_id}\n{message.reply_to}"


class MemoryUndelivered:
    """Keeps them for the life of the process."""

    def __init__(self) -> None:
        self._kept: dict[str, UndeliveredReply] = {}

    async def keep(self, key: str, message: OutboundMessage) -> None:
        """Keep *message*.

        Cancellation: `Cancelled` means that it is not kept.
        """
        await trio.lowlevel.checkpoint()
        self._kept.setdefault(key, UndeliveredReply(key, message))

    async def fetch(self, keys: Sequence[str]) -> tuple[UndeliveredReply, ...]:
        """What is under *keys*.

        Cancellation: safe.
        """
        await trio.lowlevel.checkpoint()
        return tuple(self._kept[key] for key in keys if key in self._kept)

    async def delivered(self, key: str) -> None:
        """Forget it.

        Cancellation: `Cancelled` means that it is still there.
        """
        await trio.lowlevel.checkpoint()
        self._kept.pop(key, None)

    async def waiting(self) -> Mapping[str, tuple[str, ...]]:
        """The keys of everything kept.

        Cancellation: safe.
        """
        await trio.lowlevel.checkpoint()
        return _by_channel((kept.message.channel, key) for key, kept in self._kept.items())


class StoredUndelivered:
    """Keeps them in the store, across the life of processes. The store needs `MIGRATIONS`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def keep(self, key: str, message: OutboundMessage) -> None:
        """Keep *message*.

        Raises:
          StoreError: it could not be written.

        Cancellation: `Cancelled` means that it is not kept.
        """
        await self._store.transact(lambda connection: insert_undelivered(connection, key, message))

    async def fetch(self, keys: Sequence[str]) -> tuple[UndeliveredReply, ...]:
        """What is under *keys*.

        Raises:
          StoreError: it could not be read.

        Cancellation: safe.
        """
        marks = ", ".join("?" * len(keys))
        query = f"SELECT key, message FROM undelivered WHERE key IN ({marks})"  # noqa: S608 - question marks only
        found = dict(await self._store.read(lambda connection: connection.execute(query, keys).fetchall()))
        return tuple(UndeliveredReply(key, _message(found[key])) for key in keys if key in found)

    async def delivered(self, key: str) -> None:
        """Forget it.

        Raises:
          StoreError: it could not be written.

        Cancellation: `Cancelled` means that it is still there.
        """
        await self._store.transact(lambda connection: delete_undelivered(connection, key))

    async def waiting(self) -> Mapping[str, tuple[str, ...]]:
        """The keys of everything kept.

        Raises:
          StoreError: it could not be read.

        Cancellation: safe.
        """
        query = "SELECT channel, key FROM undelivered ORDER BY place"
        return _by_channel(await self._store.read(lambda connection: connection.execute(query).fetchall()))


def insert_undelivered(connection: Connection, key: str, message: OutboundMessage) -> None:
    """Keep *message*, inside a transaction of the caller's: closing a turn and keeping its reply are one step."""
    connection.execute(
        "INSERT INTO undelivered (key, channel, message) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING",
        (key, message.channel, encode_json(message)),
    )


def delete_undelivered(connection: Connection, key: str) -> None:
    """Forget what is under *key*, inside a transaction of the caller's."""
    connection.execute("DELETE FROM undelivered WHERE key = ?", (key,))


def _message(data: bytes) -> OutboundMessage:
    try:
        return msgspec.json.decode(data, type=OutboundMessage)
    except msgspec.DecodeError as exc:
        raise StoreCorrupt(f"a kept reply cannot be read: {exc}") from exc


def _by_channel(rows: Iterable[tuple[str, str]]) -> Mapping[str, tuple[str, ...]]:
    keys: dict[str, list[str]] = {}
    for channel, key in rows:
        keys.setdefault(channel, []).append(key)
    return {channel: tuple(found) for channel, found in keys.items()}
