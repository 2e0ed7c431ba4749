"""Final replies: each message gets exactly one; the transaction that ends its turn also stores the reply."""

from __future__ import annotations

from collections import Counter, OrderedDict

import trio

from clawft_trio.agent.error_replies import failure_reply
from clawft_trio.agent.journal import LoopJournal, turn_id_of
from clawft_trio.agent.owned_sessions import OwnedSessions
from clawft_trio.agent.turn_context import LoopPolicy, TurnEnding
from clawft_trio.bus import MessageBus
from clawft_trio.errors import BusClosed, LeaseLost, StoreError, TurnCancelled
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.observe import Noted, Observer, Undeliverable

_REPLIED = 10_000
"""Number of stored ids of turns that have their reply and may still be open in the journal."""

_ENDING = 30.0
"""Seconds for which ending a turn is retried while the database server is unavailable."""

_END_AGAIN = 0.5
"""Seconds between two attempts to end a turn; each of them waits for the server itself."""


class FinalReplies:
    """Ends turns in the journal and sends their replies, also during a cancellation or after the bus was closed.

    Args:
      bus: the bus for the replies.
      journal: the journal in which turns end; None: none.
      shared: the sessions of the journal that this process owns; None: no other process shares the journal.
      policy: limits the time for replies to cancelled messages.
      observer: receives events.
    """

    def __init__(
        self,
        bus: MessageBus,
        journal: LoopJournal | None,
        shared: OwnedSessions | None,
        *,
        policy: LoopPolicy,
        observer: Observer,
    ) -> None:
        #: number of turns by ending
        self.endings: Counter[TurnEnding] = Counter()
        #: number of turns that ended here without a reply, because another run answers their messages
        self.abandoned: int = 0
        self._bus = bus
        self._journal = journal
        self._shared = shared
        self._policy = policy
        self._observer = observer
        #: turns that have their reply and may be open in the journal: ended during their wait, just when another task
        #: began them, or while the store could not be written
        self._replied: OrderedDict[str, None] = OrderedDict()

    async def send(self, message: InboundMessage, reply: OutboundMessage, ending: TurnEnding) -> None:
        """Send *reply*, also during a cancellation or after the bus was closed.

        Cancellation: *reply* is sent without waiting for its channel, within `final_reply_grace`.
        """
        kept = False
        try:
            kept = await self._keep(message, reply)
            await self._bus.dispatch_outbound(reply, kept=kept)
            self._note_sent(message, kept=kept)
        except LeaseLost:
            # The worker that owns the session now answers the message.
            self.abandoned += 1
            self.endings[ending] -= 1
        except BusClosed:
            with trio.move_on_after(self._policy.final_reply_grace, shield=True):
                await self._hand_over(message, reply, kept=kept)
        except trio.Cancelled:
            with trio.move_on_after(self._policy.final_reply_grace, shield=True):
                await self._hand_over(message, reply, kept=kept)
            raise
        except StoreError as exc:
            self._note_lost(reply, exc)
        finally:
            self.endings[ending] += 1

    async def send_cancelled(self, message: InboundMessage, reason: str) -> bool:
        """Reply that *message* was cancelled; return whether its turn ended in the journal.

        Cancellation: the reply may be lost, so callers shield it, within `grace`.
        """
        ended = await self._hand_over(message, failure_reply(message, TurnCancelled(reason)))
        self.endings["cancelled"] += 1
        return ended

    @property
    def grace(self) -> float:
        """Seconds that a reply may take when its turn was cancelled."""
        return self._policy.final_reply_grace

    async def _hand_over(self, message: InboundMessage, reply: OutboundMessage, *, kept: bool = False) -> bool:
        """Send *reply* without waiting for its channel; return whether its turn has ended in the journal."""
        try:
            kept = kept or await self._keep(message, reply)
            await self._bus.outbound(reply.channel).put_or_store(reply, kept=kept)
            self._note_sent(message, kept=kept)
        except LeaseLost:
            return False
        except StoreError as exc:
            self._note_lost(reply, exc)
        return kept

    def _note_lost(self, reply: OutboundMessage, error: StoreError) -> None:
        self._observer(Undeliverable(message=reply, error=error))

    async def _keep(self, message: InboundMessage, reply: OutboundMessage) -> bool:
        """End the turn in the journal; return whether *reply* is stored."""
        if self._journal is None:
            await trio.lowlevel.checkpoint()
            return False
        try:
            if self._shared is None:
                await self._journal.replied(message, reply)
            else:
                await self._end(self._shared, message, reply)
        except LeaseLost:
            raise
        except StoreError as exc:
            # A reply that may be sent again after a restart is better than none.
            self._observer(Noted(component="agent", what="reply not stored", details={"error": exc}))
            return False
        return True

    async def _end(self, shared: OwnedSessions, message: InboundMessage, reply: OutboundMessage) -> None:
        """End the turn of *message* and store *reply*, with retries while a database server is unavailable.

        Raises:
          LeaseLost: another run answers the message.
          StoreError: the store cannot be written; send the reply in spite of it.
        """
        deadline = trio.current_time() + _ENDING
        while True:
            try:
                await shared.end(message, reply)
                return
            except LeaseLost:
                raise
            except StoreError as exc:
                if not shared.is_of_server(exc):
                    raise
                if trio.current_time() >= deadline or shared.stopping:
                    # Another worker may run the turn again: if this reply were sent, there would be two.
                    raise LeaseLost("the turn could not be ended; another run answers the message") from exc
            await trio.sleep(_END_AGAIN)

    def _note_sent(self, message: InboundMessage, *, kept: bool) -> None:
        if not kept:
            self.remember(message)

    def remember(self, message: InboundMessage) -> None:
        """Record that the reply to *message* was sent, so that its turn does not run again if it is still open."""
        if self._shared is not None:
            self._replied[turn_id_of(message)] = None
            if len(self._replied) > _REPLIED:
                self._replied.popitem(last=False)

    def was_sent(self, message: InboundMessage) -> bool:
        """Whether the reply to *message* was sent without being stored."""
        return turn_id_of(message) in self._replied

    async def end_sent(self, message: InboundMessage) -> None:
        """End the turn of *message*, whose reply was sent without being stored, when the store can be written.

        Until then this process keeps the session, because another one would answer the message again.

        Cancellation: the turn is still open.
        """
        noted = False
        while self._shared is not None and self._shared.accepting:
            try:
                await self._shared.end(message, None)
                return
            except LeaseLost:
                return  # it has already ended
            except StoreError as exc:
                if not noted:
                    what = "turn not ended in the journal"
                    self._observer(Noted(component="agent", what=what, details={"error": exc}))
                noted = True
            await trio.sleep(self._policy.poll)
        await trio.lowlevel.checkpoint()
