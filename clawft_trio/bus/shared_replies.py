"""The replies of a channel in a store that several processes write to, of which one serves the channel."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from clawft_trio.bus.pieces import PieceRelay
from clawft_trio.bus.undelivered import SharedUndelivered, UndeliveredReplies, is_shared, key_of
from clawft_trio.messages import OutboundMessage

LOAD = 100
"""Stored replies that are loaded at once."""

_RECENT = 1000
"""Replies of which late pieces are recognized: a piece is at most about a second late."""


class SharedReplies:
    """Which stored replies of *channel* this process knows, and whether it is the one that serves the channel.

    With a store of its own it serves every channel, and knows all replies.
    """

    def __init__(self, channel: str, undelivered: UndeliveredReplies) -> None:
        self._channel = channel
        self._store: SharedUndelivered | None = undelivered if is_shared(undelivered) else None
        #: whether another process may have stored a reply that is not known
        self.arrived: bool = False
        #: keys of replies that are stored and not delivered
        self._known: set[str] = set()
        #: keys of the last replies of other processes: their pieces may come after them
        self._recent: OrderedDict[str, None] = OrderedDict()

    @property
    def has_others(self) -> bool:
        """Whether other processes may write to the store."""
        return self._store is not None

    @property
    def served_here(self) -> bool:
        """Whether the consumer of the channel is in this process."""
        return self._store is None or self._store.serves(self._channel)

    @property
    def relay(self) -> PieceRelay | None:
        """Sends pieces of answers to the process that serves the channel, where the store can."""
        return None if self._store is None else self._store.relay

    def leave_in_store(self, message: OutboundMessage, *, kept: bool) -> bool:
        """Whether the consumer reads a final reply from the store, where it is when *kept*, behind those of others."""
        if self.relay is not None:
            self.relay.forget(message)
        left = kept and (self.arrived or not self.served_here)
        self.arrived = self.arrived or left
        return left

    def note(self, key: str | None) -> None:
        """A reply of this process is stored under *key*; None: it is not stored."""
        if key is not None:
            self._known.add(key)

    def forget(self, keys: Iterable[str]) -> None:
        """The replies under *keys* were delivered, or could not be stored."""
        self._known.difference_update(keys)

    def is_late(self, piece: OutboundMessage) -> bool:
        """Whether the reply that replaces *piece* has come already."""
        return key_of(piece) in self._recent

    async def begin_to_serve(self) -> bool:
        """Try to become the process that serves the channel, if it is not.

        Raises:
          StoreError: the store cannot be used.

        Cancellation: `Cancelled` means that it has not become it.
        """
        assert self._store is not None
        begun = await self._store.serve(self._channel)
        self.arrived = self.arrived or begun
        return begun

    async def new_keys(self) -> list[str]:
        """The keys of replies that others have stored, oldest first; they are known from now on.

        Raises:
          StoreError: the store cannot be read.

        Cancellation: none is known.
        """
        assert self._store is not None
        self.arrived, limit = False, LOAD + len(self._known)
        try:
            found = await self._store.keys(self._channel, limit)
        except BaseException:
            self.arrived = True
            raise
        if len(found) == limit:
            self.arrived = True
        new = [key for key in found if key not in self._known]
        self._known.update(new)
        for key in new:
            self._recent[key] = None
            if len(self._recent) > _RECENT:
                self._recent.popitem(last=False)
        return new
