"""Messages on their way into the queue: written down when they are published, and recognized when they come again."""

from __future__ import annotations

from collections import OrderedDict

import trio

from clawft_trio.agent.journal import LoopJournal, turn_id_of
from clawft_trio.agent.owned_sessions import OwnedSessions
from clawft_trio.errors import StoreError
from clawft_trio.messages import InboundMessage
from clawft_trio.observe import MessageDropped, Noted, Observer


class Intake:
    """The journal of the messages that a bus takes in (`InboundJournal`), and what this process remembers of them.

    Args:
      journal: where messages are written down.
      shared: the sessions of the journal that this process owns; None: it is the only one on its journal.
      written: the turns of messages that were written down when they were published, and wait; it is kept up to date.
      remembered: ids of messages to know a duplicate by.
      observer: gets events.
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
        #: messages that came before
        self.duplicates: int = 0
        self._journal = journal
        self._shared = shared
        self._written = written
        self._remembered = remembered
        self._observer = observer
        self._seen: OrderedDict[str, None] = OrderedDict()

    async def received(self, message: InboundMessage) -> bool:
        """Write *message* down before it goes into the queue; False when it came before.

        Raises:
          StoreError: it could not be written.

        Cancellation: `Cancelled` means that it was not written.
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
        """*message* did not get into the queue: cross it out.

        Cancellation: it comes shielded.
        """
        self._written.discard(turn_id_of(message))
        try:
            if self._journal is not None:
                await self._journal.withdrawn(message)
            if self._shared is not None:
                await self._shared.withdraw(message)
        except StoreError as exc:
            self._observer(Noted(component="agent", what="message not crossed out", details={"error": exc}))
        await trio.lowlevel.checkpoint_if_cancelled()

    def is_waiting(self, message: InboundMessage) -> bool:
        """Whether *message* was written down when it was published, and its turn has not begun."""
        return turn_id_of(message) in self._written

    def take(self, message: InboundMessage) -> bool:
        """*message* was taken from the queue; whether it was written down when it was published."""
        turn_id = turn_id_of(message)
        written = turn_id in self._written
        self._written.discard(turn_id)
        return written

    def is_duplicate(self, message: InboundMessage) -> bool:
        """Whether *message* came before, as far as this process remembers; from now on it does."""
        turn_id = turn_id_of(message)
        if turn_id in self._seen:
            self._note_duplicate(message)
            return True
        self._seen[turn_id] = None
        if len(self._seen) > self._remembered:
            self._seen.popitem(last=False)
        return False

    async def accept(self, message: InboundMessage) -> bool:
        """Write *message* down when it is taken from the queue, unless that was done; False when it came before.

        Raises:
          StoreError: it could not be written.

        Cancellation: `Cancelled` means that it was not written.
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
