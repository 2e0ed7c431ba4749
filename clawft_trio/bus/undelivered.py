"""Where final replies wait that could not be delivered, in memory or in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeGuard

import attrs
import msgspec
import trio

from clawft_trio.bus.pieces import PIECES, PieceRelay, decode_pieces
from clawft_trio.codec import encode_json
from clawft_trio.errors import StoreCorrupt
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
"""What `StoredUndelivered` needs in its store."""

REPLY = "reply"
"""The topic of notifications that a reply was stored: in the payload, its process and its channel."""


@attrs.frozen
class UndeliveredReply:
    """A stored final reply."""

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


class SharedUndelivered(UndeliveredReplies, Protocol):
    """Stored replies that several processes share; one of them at a time serves a channel."""

    def serves(self, channel: str) -> bool:
        """Whether this process serves *channel*, as far as it knows."""
        ...

    async def serve(self, channel: str) -> bool:
        """Try to become the process that serves *channel*.

        Cancellation: `Cancelled` means that it is not.
        """
        ...

    async def keys(self, channel: str, limit: int) -> tuple[str, ...]:
        """The keys of what waits for *channel*, oldest first.

        Cancellation: nothing is changed.
        """
        ...

    @property
    def relay(self) -> PieceRelay | None:
        """Sends pieces of answers to other processes, where the store can."""
        ...

    def listening(
        self, arrived: Callable[[str], None], shown: Callable[[OutboundMessage], None]
    ) -> AbstractContextManager[None]:
        """Call *arrived* with the channel of every reply that another process stores, `""` for any channel, and
        *shown* with every piece of an answer that another process sends.
        """
        ...


def is_shared(undelivered: UndeliveredReplies) -> TypeGuard[SharedUndelivered]:
    """Whether *undelivered* is shared by processes."""
    return isinstance(undelivered, LeasedUndelivered)


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
    """Keeps them in the store, across the life of processes.

    Args:
      store: it needs `MIGRATIONS`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def keep(self, key: str, message: OutboundMessage) -> None:
        """Keep *message*.

        Raises:
          StoreError: it could not be written.

        Cancellation: `Cancelled` means that it is not kept.
        """
        await self._store.transact(
            lambda connection: insert_undelivered(connection, key, message), concurrent=True, repeatable=True
        )

    async def fetch(self, keys: Sequence[str]) -> tuple[UndeliveredReply, ...]:
        """What is under *keys*.

        Raises:
          StoreError: it could not be read.

        Cancellation: safe.
        """
        marks = ", ".join("?" * len(keys))
        query = f"SELECT key, message FROM undelivered WHERE key IN ({marks})"
        found = dict(await self._store.read(lambda connection: connection.execute(query, keys).fetchall()))
        return tuple(UndeliveredReply(key, decode_message(found[key])) for key in keys if key in found)

    async def delivered(self, key: str) -> None:
        """Forget it.

        Raises:
          StoreError: it could not be written.

        Cancellation: `Cancelled` means that it is still there.
        """
        # Lost in a power cut, the reply is delivered once more, as after any crash.
        await self._store.transact(
            lambda connection: delete_undelivered(connection, key),
            concurrent=True,
            durability="process",
            repeatable=True,
        )

    async def waiting(self) -> Mapping[str, tuple[str, ...]]:
        """The keys of everything kept.

        Raises:
          StoreError: it could not be read.

        Cancellation: safe.
        """
        query = "SELECT channel, key FROM undelivered ORDER BY place"
        return _by_channel(await self._store.read(lambda connection: connection.execute(query).fetchall()))


class LeasedUndelivered(StoredUndelivered):
    """A `StoredUndelivered` of which each channel is served by the process that holds its lease.

    Args:
      ownership: the leases of this process; their store needs `MIGRATIONS`.
    """

    def __init__(self, ownership: Ownership) -> None:
        super().__init__(ownership.store)
        self._ownership = ownership
        #: SQLite has no notifications between processes
        self.relay: PieceRelay | None = (
            PieceRelay(ownership.store, ownership.owner) if ownership.store.engine == "postgresql" else None
        )

    def serves(self, channel: str) -> bool:
        """Whether this process serves *channel*."""
        return self._ownership.lease_of(channel_name(channel)) is not None

    async def serve(self, channel: str) -> bool:
        """Try to become the process that serves *channel*.

        Raises:
          StoreError: the store cannot be used.

        Cancellation: `Cancelled` means that it is not.
        """
        return await self._ownership.acquire(channel_name(channel))

    async def keys(self, channel: str, limit: int) -> tuple[str, ...]:
        """The keys of what waits for *channel*, oldest first.

        Raises:
          StoreError: it could not be read.

        Cancellation: nothing is changed.
        """
        query = "SELECT key FROM undelivered WHERE channel = ? ORDER BY place LIMIT ?"
        rows = await self._store.read(lambda connection: connection.execute(query, (channel, limit)).fetchall())
        return tuple(key for (key,) in rows)

    async def waiting(self) -> Mapping[str, tuple[str, ...]]:
        """Nothing: what waits for a channel is read when this process begins to serve it.

        Cancellation: nothing is changed.
        """
        await trio.lowlevel.checkpoint()
        return {}

    @contextmanager
    def listening(self, arrived: Callable[[str], None], shown: Callable[[OutboundMessage], None]) -> Iterator[None]:
        """Call *arrived* with the channel of every reply that another process stores, and *shown* with pieces."""

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
    """Keep *message*, inside a transaction of the caller's: closing a turn and keeping its reply are one step."""
    connection.execute(
        "INSERT INTO undelivered (key, channel, message) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING",
        (key, message.channel, encode_json(message)),
    )


def delete_undelivered(connection: Connection, key: str) -> None:
    """Forget what is under *key*, inside a transaction of the caller's."""
    connection.execute("DELETE FROM undelivered WHERE key = ?", (key,))


def decode_message(data: bytes) -> OutboundMessage:
    """A stored reply.

    Raises:
      StoreCorrupt: it cannot be read.
    """
    try:
        return msgspec.json.decode(data, type=OutboundMessage)
    except msgspec.DecodeError as exc:
        raise StoreCorrupt(f"a kept reply cannot be read: {exc}") from exc


def _by_channel(rows: Iterable[tuple[str, str]]) -> Mapping[str, tuple[str, ...]]:
    keys: dict[str, list[str]] = {}
    for channel, key in rows:
        keys.setdefault(channel, []).append(key)
    return {channel: tuple(found) for channel, found in keys.items()}
