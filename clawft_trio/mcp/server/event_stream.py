"""The messages of one HTTP response, kept so that a client that reconnects gets those that it missed."""

from __future__ import annotations

from collections import deque

import trio


class EventStream:
    """A bounded log of messages with at most one reader. A new reader displaces the old one.

    Numbers begin at 1; number 0 means the beginning. When the log is full the oldest message is dropped, so the last
    one, the response to a request, is always kept.

    Args:
      name: unique in its session; part of event ids.
      max_events: largest number of kept messages.
      max_bytes: largest size of the kept messages in bytes, without the last one.
      replay: whether messages that were read are kept.
    """

    def __init__(self, name: str, *, max_events: int, max_bytes: int, replay: bool = True) -> None:
        self.name: str = name
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._replay = replay
        self._events: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self._last = 0
        self._readers = 0
        self._wake = trio.lowlevel.ParkingLot()
        #: number of the last message that a reader has received
        self.sent: int = 0
        #: whether no further message will come
        self.finished: bool = False

    def __len__(self) -> int:
        return len(self._events)

    @property
    def size(self) -> int:
        """Size of the kept messages in bytes."""
        return self._size

    @property
    def last(self) -> int:
        """Number of the last message."""
        return self._last

    def put(self, message: bytes) -> None:
        """Append *message*; after `finish` it is dropped."""
        if self.finished:
            return
        self._last += 1
        self._events.append((self._last, message))
        self._size += len(message)
        while len(self._events) > 1 and (len(self._events) > self._max_events or self._size > self._max_bytes):
            self._drop_first()
        self._wake.unpark_all()

    def put_once(self, message: bytes) -> None:
        """Append *message*, unless the last one is equal and no reader has received it."""
        if not (self._events and self.sent < self._last and self._events[-1][1] == message):
            self.put(message)

    def finish(self) -> None:
        """Declare that no further message will come."""
        self.finished = True
        self._wake.unpark_all()

    def attach(self) -> int:
        """Become the reader; return the reader number for `read`."""
        self.detach()
        return self._readers

    def detach(self) -> None:
        """Let the current reader end its response; messages are kept for the next reader."""
        self._readers += 1
        self._wake.unpark_all()

    def is_reader(self, reader: int) -> bool:
        """Return whether *reader* has not been displaced."""
        return reader == self._readers

    async def read(self, reader: int, after: int) -> list[tuple[int, bytes]]:
        """Wait for messages after number *after* and return them; none when there is nothing more to read for *reader*.

        Cancellation: nothing was read.
        """
        await trio.lowlevel.checkpoint()
        while reader == self._readers:
            found = [event for event in self._events if event[0] > after]
            if found:
                self._note_sent(found[-1][0])
                return found
            if self.finished:
                break
            await self._wake.park()
        return []

    async def wait_any(self) -> None:
        """Wait until there is a message, or the reader was displaced, or the stream has finished.

        Cancellation: nothing has changed.
        """
        readers = self._readers
        while not (self._events or self.finished or readers != self._readers):
            await self._wake.park()

    def _note_sent(self, number: int) -> None:
        self.sent = max(self.sent, number)
        while not self._replay and self._events and self._events[0][0] <= number:
            self._drop_first()

    def _drop_first(self) -> None:
        _, message = self._events.popleft()
        self._size -= len(message)
