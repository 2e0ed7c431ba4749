"""The stored replies of a channel, when several processes write to the store and one of them serves the channel."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from clawft_trio.bus.pieces import PieceRelay
from clawft_trio.bus.undelivered import SharedUndelivered, UndeliveredReplies, is_shared, key_of
from clawft_trio.messages import OutboundMessage

LOAD = 100
"""Number of stored replies loaded at once."""

_RECENT = 1000
"""Number of replies for which late pieces are recognised: a piece is at most about a second late."""


class SharedReplies:
    """The stored replies of *channel* that this process has read or written, and whether it serves the channel.

    Without other processes on the store it serves every channel, and has all replies.
    """

    def __init__(self, channel: str, undelivered: UndeliveredReplies) -> None:
        self._channel = channel
        self._store: SharedUndelivered | None = undelivered if is_shared(undelivered) else None
        #: whether another process may have stored a reply that is not in `_known`
        self.arrived: bool = False
        #: keys of stored undelivered replies that this process has read or written
        self._known: set[str] = set()
        #: keys of the last replies of other processes; their pieces may arrive later
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
        """Sends pieces of answers to the process that serves the channel; None if the store cannot."""
        return None if self._store is None else self._store.relay

    def leave_in_store(self, message: OutboundMessage, *, kept: bool) -> bool:
        """Whether the consumer will read a final reply, stored if *kept*, from the store, after replies of others."""
        if self.relay is not None:
            self.relay.forget(message)
        left = kept and (self.arrived or not self.served_here)
        self.arrived = self.arrived or left
        return left

    def note(self, key: str | None) -> None:
        """Add the *key* of a stored reply of this process; None: it is not stored."""
        if key is not None:
            self._known.add(key)

    def forget(self, keys: Iterable[str]) -> None:
        """Remove the *keys* of replies that were delivered, or could not be stored."""
        self._known.difference_update(keys)

    def is_late(self, piece: OutboundMessage) -> bool:
        """Whether the reply that replaces *piece* has already arrived."""
        return key_of(piece) in self._recent

    async def begin_to_serve(self) -> bool:
        """Try to become the process that serves the channel.

        Raises:
          StoreError: the store cannot be used.

        Cancellation: `Cancelled` means that it does not.
        """
        assert self._store is not None
        begun = await self._store.serve(self._channel)
        self.arrived = self.arrived or begun
        return begun

    async def new_keys(self) -> list[str]:
        """Read the new keys of replies that others stored, oldest first.

        Raises:
          StoreError: the store cannot be read.

        Cancellation: no key is added.
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
