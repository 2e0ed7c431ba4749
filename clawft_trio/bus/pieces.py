"""Pieces of answers for channels served by other processes: sent as notifications, in batches, best effort.

A notification of PostgreSQL has at most 8000 bytes. Pieces that do not fit into the buffer are dropped, because the
final reply replaces all pieces.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import attrs
import msgspec
import trio

from clawft_trio.codec import decode_losslessly, encode_losslessly
from clawft_trio.errors import StoreError
from clawft_trio.messages import OutboundMessage
from clawft_trio.store import Connection, Store

PIECES = "pieces"
"""The topic of notifications with pieces of answers: in the payload, their process and a JSON array of messages."""

_NOTIFICATION = 7900
"""Bytes of one notification; PostgreSQL refuses 8000."""

_BUFFER = 64 * 1024
"""Largest size of waiting pieces in bytes: those of some seconds of a turn while the server is slow."""

_SENDING = 1.0
"""Seconds after which a batch that was not sent is dropped."""


@attrs.frozen(kw_only=True)
class RelayStatistics:
    """Counters of a `PieceRelay`."""

    #: number of sent pieces
    sent: int
    #: number of dropped pieces
    dropped: int
    #: size of waiting pieces in bytes
    waiting: int


class PieceRelay:
    """Sends pieces of answers to the processes that serve their channels.

    Args:
      store: carries the notifications.
      owner: the name of this process.
    """

    def __init__(self, store: Store, owner: str) -> None:
        self._store = store
        self._header = f"{PIECES}\n{owner}\n"
        #: encoded pieces, each with its chat and the message that it answers
        self._waiting: deque[tuple[tuple[str, str | None], bytes]] = deque()
        self._bytes = 0
        self._sent = 0
        self._dropped = 0
        self._more = trio.Event()

    def __repr__(self) -> str:
        return f"<PieceRelay {self.statistics()}>"

    def statistics(self) -> RelayStatistics:
        """Return the counters."""
        return RelayStatistics(sent=self._sent, dropped=self._dropped, waiting=self._bytes)

    def offer(self, message: OutboundMessage) -> bool:
        """Send *message* with the next batch; drop it and return False if there is no room."""
        room = _NOTIFICATION - len(self._header.encode()) - len("[]")
        parts = list(_parts(message, room))
        size = sum(map(len, parts))
        if not parts or self._bytes + size > _BUFFER:
            self._dropped += 1
            return False
        self._waiting.extend((_answered_by(message), part) for part in parts)
        self._bytes += size
        self._more.set()
        return True

    def forget(self, final: OutboundMessage) -> None:
        """Drop the pieces that *final* replaces."""
        replaced = _answered_by(final)
        kept = [entry for entry in self._waiting if entry[0] != replaced]
        self._dropped += len(self._waiting) - len(kept)
        self._waiting = deque(kept)
        self._bytes = sum(len(part) for _, part in kept)

    async def serve(self) -> None:
        """Send the offered pieces until cancelled.

        Cancellation: unsent pieces are dropped.
        """
        while True:
            await self._more.wait()
            self._more = trio.Event()
            while self._waiting:
                await self._send(self._batch())

    def _batch(self) -> list[bytes]:
        """Take the pieces that fit into one notification."""
        room = _NOTIFICATION - len(self._header.encode()) - len("[]")
        batch: list[bytes] = []
        while self._waiting and len(self._waiting[0][1]) + len(",") <= room:
            _, part = self._waiting.popleft()
            batch.append(part)
            self._bytes -= len(part)
            room -= len(part) + len(",")
        return batch

    async def _send(self, batch: list[bytes]) -> None:
        text = self._header + (b"[" + b",".join(batch) + b"]").decode()

        def notify(connection: Connection) -> None:
            connection.execute("SELECT notify_listeners(?)", (text,)).fetchone()

        sent = False
        try:
            with trio.move_on_after(_SENDING):
                await self._store.transact(notify, concurrent=True, durability="process")
                sent = True
        except StoreError:
            pass
        if sent:
            self._sent += len(batch)
        else:
            self._dropped += len(batch)


def _answered_by(message: OutboundMessage) -> tuple[str, str | None]:
    return message.chat_id, message.reply_to


def _parts(message: OutboundMessage, room: int) -> Iterator[bytes]:
    """Encode *message*, with its text split into parts of at most *room* bytes; yield nothing if no part fits."""
    encoded = encode_losslessly(message)
    if len(encoded) + len(",") <= room:
        yield encoded
    elif message.kind == "partial" and len(message.content) > 1:
        half = len(message.content) // 2
        for text in (message.content[:half], message.content[half:]):
            yield from _parts(attrs.evolve(message, content=text), room)


def decode_pieces(payload: str) -> tuple[str, tuple[OutboundMessage, ...]]:
    """Decode the payload of a notification: its process and messages; no messages when it is invalid."""
    owner, _, data = payload.partition("\n")
    try:
        found = decode_losslessly(data, tuple[OutboundMessage, ...])
    except msgspec.DecodeError:
        return owner, ()
    return owner, tuple(message for message in found if message.kind != "final")
