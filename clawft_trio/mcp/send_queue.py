"""Frames that wait for a transport to send them."""

from __future__ import annotations

from collections import OrderedDict

import trio

from clawft_trio.mcp.auto_reset_event import AutoResetEvent
from clawft_trio.mcp.jsonrpc import Id
from clawft_trio.mcp.messages import Outgoing

BATCH = 65_536
"""Bytes passed to one write: the capacity of a Linux pipe."""


class SendQueue:
    """A FIFO of outgoing frames. A request that the transport has not taken yet can be withdrawn.

    Args:
      limit: number of frames above which `has_room` is false. Requests are bounded by the multiplexer's window and
        always fit.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._frames: OrderedDict[Id, Outgoing] = OrderedDict()
        # Requests have positive keys, all other frames negative ones.
        self._last_key = 0
        self._closed = False
        self._available = AutoResetEvent()
        self._taken = trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        return len(self._frames)

    def __contains__(self, key: object) -> bool:
        return key in self._frames

    @property
    def has_room(self) -> bool:
        """Whether another frame may be queued. Always true after `close`, when frames are dropped."""
        return self._closed or len(self._frames) < self._limit

    def put(self, frame: Outgoing) -> None:
        """Append *frame*; after `close` it is dropped."""
        if self._closed:
            return
        if frame.id is None:
            self._last_key -= 1
            self._frames[self._last_key] = frame
        else:
            self._frames[frame.id] = frame
        if len(self._frames) == 1:
            self._available.set()

    def withdraw(self, key: Id) -> bool:
        """Remove the request *key*; return whether it was still queued."""
        return self._frames.pop(key, None) is not None

    async def take(self, limit: int = BATCH) -> list[Outgoing]:
        """Wait for frames; remove and return as many as fit into *limit* bytes, at least one.

        Cancellation: nothing was removed.
        """
        while not self._frames:
            await self._available.wait()
        taken: list[Outgoing] = []
        size = 0
        while self._frames and size < limit:
            _, frame = self._frames.popitem(last=False)
            taken.append(frame)
            size += len(frame.line)
        if self._frames:
            self._available.set()
        if self._taken:
            self._taken.unpark_all()
        return taken

    async def wait_taken(self) -> None:
        """Wait until frames were taken, or the queue was closed.

        Cancellation: nothing has changed.
        """
        await self._taken.park()

    def close(self) -> None:
        """Drop all frames, and those that are put later."""
        self._closed = True
        self._frames.clear()
        self._taken.unpark_all()
