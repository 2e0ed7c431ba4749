"""Inbound messages before their turn: stored when they are published, and checked for duplicates."""

from __future__ import annotations

from collections import OrderedDict

import trio

from clawft_trio.agent.journal import LoopJournal, turn_id_of
from clawft_trio.agent.owned_sessions import OwnedSessions
from clawft_trio.errors import StoreError
from clawft_trio.messages import InboundMessage
from clawft_trio.observe import MessageDropped, Noted, Observer


class Intake:
    """Stores published messages (`InboundJournal`), and recognises duplicates by the ids seen in this process.

    Args:
      journal: the journal in which messages are stored.
      shared: the sessions of the journal that this process owns; None: no other process shares the journal.
      written: the turns of messages that were stored on publication and still wait; updated here.
      remembered: number of ids kept to recognise duplicates.
      observer: receives events.
    """

    def __init__(
        self,
        journal: LoopJournal | None,
        shared: OwnedSessions | None,
        *,
        written: set[str],
        remembered: int,
        observer: Observer,
    ) -> None:
        #: number of duplicates
        self.duplicates: int = 0
        self._journal = journal
        self._shared = shared
        self._written = written
        self._remembered = remembered
        self._observer = observer
        self._seen: OrderedDict[str, None] = OrderedDict()

    async def received(self, message: InboundMessage) -> bool:
        """Store *message* before it enters the queue; return False for a duplicate.

        Raises:
          StoreError: the store cannot be written.
          InvalidData: its metadata are nested too deeply, over 4 MiB of JSON, or have over 100 000 values.

        Cancellation: `Cancelled` means that it was not stored.
        """
        if self._shared is None:
            new = await self._write(message)
        else:
            new = await self._shared.accept(message)
        if new:
            self._written.add(turn_id_of(message))
        else:
            self._note_duplicate(message)
        return new

    async def withdrawn(self, message: InboundMessage) -> None:
        """Remove *message*, which did not enter the queue.

        Cancellation: the caller shields it.
        """
        self._written.discard(turn_id_of(message))
        try:
            if self._journal is not None:
                await self._journal.withdrawn(message)
            if self._shared is not None:
                await self._shared.withdraw(message)
        except StoreError as exc:
            self._observer(
                Noted(component="agent", what="message not removed from the journal", details={"error": exc})
            )
        await trio.lowlevel.checkpoint_if_cancelled()

    def is_waiting(self, message: InboundMessage) -> bool:
        """Whether *message* was stored on publication, and its turn has not begun."""
        return turn_id_of(message) in self._written

    def take(self, message: InboundMessage) -> bool:
        """Record that *message* was taken from the queue; return whether it was stored on publication."""
        turn_id = turn_id_of(message)
        written = turn_id in self._written
        self._written.discard(turn_id)
        return written

    def is_duplicate(self, message: InboundMessage) -> bool:
        """Whether *message* is a duplicate, by the ids seen in this process; adds its id."""
        turn_id = turn_id_of(message)
        if turn_id in self._seen:
            self._note_duplicate(message)
            return True
        self._seen[turn_id] = None
        if len(self._seen) > self._remembered:
            self._seen.popitem(last=False)
        return False

    async def accept(self, message: InboundMessage) -> bool:
        """Store *message*, which was taken from the queue, if it is not stored yet; return False for a duplicate.

        Raises:
          StoreError: the store cannot be written.

        Cancellation: `Cancelled` means that it was not stored.
        """
        new = await self._write(message)
        if not new:
            self._note_duplicate(message)
        return new

    async def _write(self, message: InboundMessage) -> bool:
        if self._journal is None:
            await trio.lowlevel.checkpoint()
            return True
        return await self._journal.accepted(message)

    def _note_duplicate(self, message: InboundMessage) -> None:
        self.duplicates += 1
        self._observer(MessageDropped(queue="sessions", policy="duplicate", message=message))
