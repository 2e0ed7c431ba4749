"""Pieces of answers for channels that other processes serve: sent as notifications, in batches, best effort.

A notification of PostgreSQL has at most 8000 bytes. What does not fit into the buffer is dropped: the final reply
replaces all pieces.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import attrs
import msgspec
import trio

from clawft_trio.codec import encode_json
from clawft_trio.errors import StoreError
from clawft_trio.messages import OutboundMessage
from clawft_trio.store import Connection, Store

PIECES = "pieces"
"""The topic of notifications with pieces of answers: in the payload, their process and a JSON array of messages."""

_NOTIFICATION = 7900
"""Bytes of one notification; PostgreSQL refuses 8000."""

_BUFFER = 64 * 1024
"""Bytes that wait for the next batch: what a turn shows in some seconds while the server is slow."""

_SENDING = 1.0
"""Seconds that sending a batch may take; then it is dropped."""


@attrs.frozen(kw_only=True)
class RelayStatistics:
    """What a relay has done."""

    #: pieces that were sent
    sent: int
    #: pieces that were dropped
    dropped: int
    #: bytes that wait
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
        #: encoded, each with the chat and the message that it is for
        self._waiting: deque[tuple[tuple[str, str | None], bytes]] = deque()
        self._bytes = 0
        self._sent = 0
        self._dropped = 0
        self._more = trio.Event()

    def __repr__(self) -> str:
        return f"<PieceRelay {self.statistics()}>"

    def statistics(self) -> RelayStatistics:
        """The counters."""
        return RelayStatistics(sent=self._sent, dropped=self._dropped, waiting=self._bytes)

    def offer(self, message: OutboundMessage) -> bool:
        """Send *message* with the next batch; False when there is no room for it, and it was dropped."""
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
        """Send what is offered until cancelled.

        Cancellation: what was not sent is dropped.
        """
        while True:
            await self._more.wait()
            self._more = trio.Event()
            while self._waiting:
                await self._send(self._batch())

    def _batch(self) -> list[bytes]:
        """Take out what fits into one notification."""
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
    """*message* encoded, with its text in as many parts as *room* bytes for each need; nothing when none fits."""
    encoded = encode_json(message)
    if len(encoded) + len(",") <= room:
        yield encoded
    elif message.kind == "partial" and len(message.content) > 1:
        half = len(message.content) // 2
        for text in (message.content[:half], message.content[half:]):
            yield from _parts(attrs.evolve(message, content=text), room)


def decode_pieces(payload: str) -> tuple[str, tuple[OutboundMessage, ...]]:
    """The process and the messages in the payload of a notification; no messages when it cannot be read."""
    owner, _, data = payload.partition("\n")
    try:
        found = msgspec.json.decode(data, type=tuple[OutboundMessage, ...])
    except msgspec.DecodeError:
        return owner, ()
    return owner, tuple(message for message in found if message.kind != "final")
