"""Stores of undelivered final replies, in memory or in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeGuard

import attrs
import msgspec
import trio

from clawft_trio.bus.pieces import PIECES, PieceRelay, decode_pieces
from clawft_trio.codec import decode_losslessly, encode_losslessly
from clawft_trio.errors import StoreCorrupt
from clawft_trio.keys import joined_key
from clawft_trio.messages import OutboundMessage
from clawft_trio.store import Connection, Migration, Store
from clawft_trio.store.ownership import Ownership, channel_name

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
"""The tables that `StoredUndelivered` needs in its store."""

REPLY = "reply"
"""The topic of notifications that a reply was stored: in the payload, its process and its channel."""


@attrs.frozen
class UndeliveredReply:
    """A stored final reply."""

    key: str
    message: OutboundMessage


class UndeliveredReplies(Protocol):
    """Stores final replies until they are delivered to their channel, in the order of arrival."""

    async def keep(self, key: str, message: OutboundMessage) -> None:
        """Store *message*. A key that is already stored does not change.

        Cancellation: `Cancelled` means that it is not stored.
        """
        ...

    async def fetch(self, keys: Sequence[str]) -> tuple[UndeliveredReply, ...]:
        """Return the replies with *keys*, in that order, without missing ones. They stay stored.

        Cancellation: nothing is changed.
        """
        ...

    async def delivered(self, key: str) -> None:
        """Remove the reply with *key*; a missing key is no error.

        Cancellation: `Cancelled` means that it is still stored.
        """
        ...

    async def waiting(self) -> Mapping[str, tuple[str, ...]]:
        """Return the keys of all stored replies, by channel, oldest first.

        Cancellation: nothing is changed.
        """
        ...


class SharedUndelivered(UndeliveredReplies, Protocol):
    """Stored replies that several processes share; one process at a time serves a channel."""

    def serves(self, channel: str) -> bool:
        """Whether this process serves *channel*, as far as this process has recorded."""
        ...

    async def serve(self, channel: str) -> bool:
        """Try to become the process that serves *channel*.

        Cancellation: `Cancelled` means that it does not.
        """
        ...

    async def keys(self, channel: str, limit: int) -> tuple[str, ...]:
        """Return the keys of the replies for *channel*, oldest first.

        Cancellation: nothing is changed.
        """
        ...

    @property
    def relay(self) -> PieceRelay | None:
        """Sends pieces of answers to other processes; None if the store cannot."""
        ...

    def listening(
        self, arrived: Callable[[str], None], shown: Callable[[OutboundMessage], None]
    ) -> AbstractContextManager[None]:
        """Call *arrived* with the `channel_key` of every reply that another process stores, `""` for any channel, and
        *shown* with every piece of an answer that another process sends.
        """
        ...


def is_shared(undelivered: UndeliveredReplies) -> TypeGuard[SharedUndelivered]:
    """Whether several processes share *undelivered*."""
    return isinstance(undelivered, LeasedUndelivered)


def key_of(message: OutboundMessage) -> str | None:
    """Return the key of the one final reply to a message; None for a message that answers none."""
    return None if message.reply_to is None else joined_key(message.channel, message.chat_id, message.reply_to)


def channel_key(channel: str) -> str:
    """Return the name under which a store has *channel*: any text becomes storable, and of bounded length."""
    return joined_key(channel)


class MemoryUndelivered:
    """Undelivered replies in memory."""

    def __init__(self) -> None:
        self._kept: dict[str, UndeliveredReply] = {}

    async def keep(self, key: str, message: OutboundMessage) -> None:
        """Store *message*.

        Cancellation: `Cancelled` means that it is not stored.
        """
        await trio.lowlevel.checkpoint()
        self._kept.setdefault(key, UndeliveredReply(key, message))

    async def fetch(self, keys: Sequence[str]) -> tuple[UndeliveredReply, ...]:
        """Return the replies with *keys*.

        Cancellation: safe.
        """
        await trio.lowlevel.checkpoint()
        return tuple(self._kept[key] for key in keys if key in self._kept)

    async def delivered(self, key: str) -> None:
        """Remove the reply with *key*.

        Cancellation: `Cancelled` means that it is still stored.
        """
        await trio.lowlevel.checkpoint()
        self._kept.pop(key, None)

    async def waiting(self) -> Mapping[str, tuple[str, ...]]:
        """Return the keys of all stored replies.

        Cancellation: safe.
        """
        await trio.lowlevel.checkpoint()
        return _by_channel((kept.message.channel, key) for key, kept in self._kept.items())


class StoredUndelivered:
    """Undelivered replies in the store.

    Args:
      store: a store with the tables of `MIGRATIONS`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def keep(self, key: str, message: OutboundMessage) -> None:
        """Store *message*.

        Raises:
          StoreError: the store cannot be written.

        Cancellation: `Cancelled` means that it is not stored.
        """
        await self._store.transact(
            lambda connection: insert_undelivered(connection, key, message), concurrent=True, repeatable=True
        )

    async def fetch(self, keys: Sequence[str]) -> tuple[UndeliveredReply, ...]:
        """Return the replies with *keys*.

        Raises:
          StoreError: the store cannot be read.

        Cancellation: safe.
        """
        marks = ", ".join("?" * len(keys))
        query = f"SELECT key, message FROM undelivered WHERE key IN ({marks})"
        found = dict(await self._store.read(lambda connection: connection.execute(query, keys).fetchall()))
        return tuple(UndeliveredReply(key, decode_message(found[key])) for key in keys if key in found)

    async def delivered(self, key: str) -> None:
        """Remove the reply with *key*.

        Raises:
          StoreError: the store cannot be written.

        Cancellation: `Cancelled` means that it is still stored.
        """
        # If a power cut undoes this, the reply is delivered again, as after any crash.
        await self._store.transact(
            lambda connection: delete_undelivered(connection, key),
            concurrent=True,
            durability="process",
            repeatable=True,
        )

    async def waiting(self) -> Mapping[str, tuple[str, ...]]:
        """Return the keys of all stored replies.

        Raises:
          StoreError: the store cannot be read.

        Cancellation: safe.
        """
        query = "SELECT channel, key FROM undelivered ORDER BY place"
        return _by_channel(await self._store.read(lambda connection: connection.execute(query).fetchall()))


class LeasedUndelivered(StoredUndelivered):
    """A `StoredUndelivered` where each channel is served by the process that holds its lease.

    Args:
      ownership: the leases of this process; their store needs `MIGRATIONS`.
    """

    def __init__(self, ownership: Ownership) -> None:
        super().__init__(ownership.store)
        self._ownership = ownership
        #: None on SQLite, which has no notifications between processes
        self.relay: PieceRelay | None = (
            PieceRelay(ownership.store, ownership.owner) if ownership.store.engine == "postgresql" else None
        )

    def serves(self, channel: str) -> bool:
        """Whether this process serves *channel*."""
        return self._ownership.is_valid(channel_name(channel_key(channel)))

    async def serve(self, channel: str) -> bool:
        """Try to become the process that serves *channel*.

        Raises:
          StoreError: the store cannot be used.

        Cancellation: `Cancelled` means that it does not.
        """
        return await self._ownership.acquire(channel_name(channel_key(channel)))

    async def keys(self, channel: str, limit: int) -> tuple[str, ...]:
        """Return the keys of the replies for *channel*, oldest first.

        Raises:
          StoreError: the store cannot be read.

        Cancellation: nothing is changed.
        """
        query = "SELECT key FROM undelivered WHERE channel = ? ORDER BY place LIMIT ?"
        row = (channel_key(channel), limit)
        rows = await self._store.read(lambda connection: connection.execute(query, row).fetchall())
        return tuple(key for (key,) in rows)

    async def waiting(self) -> Mapping[str, tuple[str, ...]]:
        """Return nothing: the keys of a channel are read when this process begins to serve it.

        Cancellation: nothing is changed.
        """
        await trio.lowlevel.checkpoint()
        return {}

    @contextmanager
    def listening(self, arrived: Callable[[str], None], shown: Callable[[OutboundMessage], None]) -> Iterator[None]:
        """Call *arrived* with the channel's key of every reply that another process stores, *shown* with pieces."""

        def notified(topic: str, payload: str) -> None:
            owner, _, channel = payload.partition("\n")
            if owner == self._ownership.owner:
                return
            if topic == REPLY:
                arrived(channel)
            elif topic == PIECES:
                for message in decode_pieces(payload)[1]:
                    shown(message)
            elif not topic:
                arrived("")

        with self._store.listening(notified):
            yield


def insert_undelivered(connection: Connection, key: str, message: OutboundMessage) -> None:
    """Store *message* in the caller's transaction, so that ending a turn and storing its reply are one step."""
    connection.execute(
        "INSERT INTO undelivered (key, channel, message) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING",
        (key, channel_key(message.channel), encode_losslessly(message)),
    )


def delete_undelivered(connection: Connection, key: str) -> None:
    """Remove the reply with *key* in the caller's transaction."""
    connection.execute("DELETE FROM undelivered WHERE key = ?", (key,))


def decode_message(data: bytes) -> OutboundMessage:
    """Decode a stored reply.

    Raises:
      StoreCorrupt: *data* is not a stored reply.
    """
    try:
        return decode_losslessly(data, OutboundMessage)
    except (msgspec.DecodeError, TypeError) as exc:
        raise StoreCorrupt(f"a kept reply cannot be read: {exc}") from exc


def _by_channel(rows: Iterable[tuple[str, str]]) -> Mapping[str, tuple[str, ...]]:
    keys: dict[str, list[str]] = {}
    for channel, key in rows:
        keys.setdefault(channel, []).append(key)
    return {channel: tuple(found) for channel, found in keys.items()}
