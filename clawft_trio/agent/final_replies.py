"""The one final reply of every message: its turn ends in the journal in the transaction that stores the reply."""

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
"""Turns that are remembered because they have their reply and may be open in the journal."""

_ENDING = 30.0
"""Seconds for which ending a turn is tried again while the database server is away."""

_END_AGAIN = 0.5
"""Seconds between two attempts to end a turn; each of them waits for the server itself."""


class FinalReplies:
    """Ends turns and hands their replies over, whatever happens meanwhile.

    Args:
      bus: takes the replies.
      journal: where turns end; None: nowhere.
      shared: the sessions of the journal that this process owns; None: it is the only one on its journal.
      policy: how long a reply to what was cancelled may take.
      observer: gets events.
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
        #: how many turns have ended in each way
        self.endings: Counter[TurnEnding] = Counter()
        #: turns that ended without a reply here, because another run answers their messages
        self.abandoned: int = 0
        self._bus = bus
        self._journal = journal
        self._shared = shared
        self._policy = policy
        self._observer = observer
        #: turns that have their reply and may be open in the journal: ended while they waited, and begun in the same
        #: moment, or ended when the store could not be written
        self._replied: OrderedDict[str, None] = OrderedDict()

    async def send(self, message: InboundMessage, reply: OutboundMessage, ending: TurnEnding) -> None:
        """Hand *reply* over, whatever happens.

        Cancellation: it is handed over without waiting for its channel, within `final_reply_grace`.
        """
        kept = False
        try:
            kept = await self._keep(message, reply)
            await self._bus.dispatch_outbound(reply, kept=kept)
            self._note_sent(message, kept=kept)
        except LeaseLost:
            # The worker that has the session now answers it.
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
        """Reply that *message* was cancelled, within `final_reply_grace`; whether its turn has ended in the journal.

        Cancellation: it comes shielded.
        """
        ended = False
        with trio.move_on_after(self._policy.final_reply_grace, shield=True):
            ended = await self._hand_over(message, failure_reply(message, TurnCancelled(reason)))
            self.endings["cancelled"] += 1
        return ended

    async def _hand_over(self, message: InboundMessage, reply: OutboundMessage, *, kept: bool = False) -> bool:
        """Hand *reply* over without waiting for its channel; whether its turn has ended in the journal."""
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

    # --- the end of a turn in the journal ----------------------------------------------------------------

    async def _keep(self, message: InboundMessage, reply: OutboundMessage) -> bool:
        """End the turn in the journal; whether *reply* is stored now."""
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
            # A reply that may come a second time, after a restart, is better than none.
            self._observer(Noted(component="agent", what="reply not written down", details={"error": exc}))
            return False
        return True

    async def _end(self, shared: OwnedSessions, message: InboundMessage, reply: OutboundMessage) -> None:
        """End the turn of *message* together with *reply*, trying again while a database server is away.

        Raises:
          LeaseLost: another run answers the message.
          StoreError: it could not be written; the reply is to be sent all the same.
        """
        deadline = trio.current_time() + _ENDING
        while True:
            try:
                await shared.end(message, reply)
                return
            except LeaseLost:
                raise
            except StoreError as exc:
                if not shared.is_passing(exc):
                    raise
                if trio.current_time() >= deadline or shared.stopping:
                    # Any worker runs the turn again: sent now, its reply would come twice.
                    raise LeaseLost("the turn could not be ended; another run answers the message") from exc
            await trio.sleep(_END_AGAIN)

    def _note_sent(self, message: InboundMessage, *, kept: bool) -> None:
        if not kept:
            self.remember(message)

    def remember(self, message: InboundMessage) -> None:
        """Its reply is on its way: its turn must not run again, also when it is still open in the journal."""
        if self._shared is not None:
            self._replied[turn_id_of(message)] = None
            if len(self._replied) > _REPLIED:
                self._replied.popitem(last=False)

    async def end_again(self, message: InboundMessage) -> bool:
        """End the turn of *message* in the journal if it has its reply; whether it has.

        Cancellation: it is still open.
        """
        if self._shared is None or turn_id_of(message) not in self._replied:
            return False
        try:
            await self._shared.end(message, None)
        except LeaseLost:
            pass  # it has ended
        except StoreError as exc:
            self._observer(Noted(component="agent", what="turn not ended in the journal", details={"error": exc}))
            # It is claimed again at once.
            await trio.sleep(self._policy.poll)
        return True
