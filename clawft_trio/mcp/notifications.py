"""The peer's notifications: one listener gets them in order, from a bounded queue that never blocks the reader."""

from __future__ import annotations

from collections import deque
from functools import partial

import msgspec
from msgspec import Raw

from clawft_trio.mcp.auto_reset_event import AutoResetEvent
from clawft_trio.mcp.messages import Decode, NotificationCallback, Progress
from clawft_trio.mcp.types import decode_without_nulls

NOTIFICATIONS = 1024
"""Largest number of notifications that wait for the listener; beyond it the oldest is dropped and counted."""

# Key that 2026-07-28 adds to `_meta` of every message of a subscription.
_SUBSCRIPTION_ID = "io.modelcontextprotocol/subscriptionId"
SUBSCRIPTION_TAG = _SUBSCRIPTION_ID.encode()


class NotificationQueue:
    """Queue of notifications for their listener.

    Args:
      listen: gets them one after the other; None: there is no listener, and nothing is queued.
    """

    def __init__(self, listen: NotificationCallback | None) -> None:
        self._listen = listen
        self._queue: deque[tuple[str, Raw]] = deque()
        self._available = AutoResetEvent()
        #: number of notifications that were dropped because the listener was too slow
        self.dropped: int = 0

    @property
    def waiting(self) -> int:
        """Number of notifications that the listener has not received."""
        return len(self._queue)

    def put(self, method: str, params: Raw) -> None:
        """Queue one notification."""
        if self._listen is None:
            return
        if len(self._queue) >= NOTIFICATIONS:
            self._queue.popleft()
            self.dropped += 1
        # A copy, because the raw text would keep the whole chunk that it came in.
        self._queue.append((method, params.copy()))
        if len(self._queue) == 1:
            self._available.set()

    def clear(self) -> None:
        """Drop the notifications that were not delivered."""
        self._queue.clear()

    async def run(self) -> None:
        """Pass the notifications to the listener.

        Cancellation: as for the listener; what is queued stays queued.
        """
        while True:
            while self._queue:
                method, params = self._queue.popleft()
                assert self._listen is not None
                await self._listen(method, params)
            await self._available.wait()


class Cancelled(msgspec.Struct, frozen=True, rename="camel"):
    """Parameters of `notifications/cancelled`."""

    request_id: int | str | None = None
    reason: str = ""


class Tag(msgspec.Struct, frozen=True):
    """The `_meta` of a subscription's notification."""

    subscription_id: int | str | None = msgspec.field(name=_SUBSCRIPTION_ID, default=None)


class Tagged(msgspec.Struct, frozen=True):
    """The parameters of a subscription's notification that are read here."""

    meta: Tag = msgspec.field(name="_meta", default=Tag())


decode_progress: Decode[Progress] = partial(decode_without_nulls, decoder=msgspec.json.Decoder(Progress))
decode_cancelled: Decode[Cancelled] = partial(decode_without_nulls, decoder=msgspec.json.Decoder(Cancelled))
decode_tagged: Decode[Tagged] = msgspec.json.Decoder(Tagged).decode
