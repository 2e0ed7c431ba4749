"""The sessions of a shared store that this process answers: claims, the order of their messages, and their end."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence

import trio

from clawft_trio.agent.journal import Claimed, Journal, Unfinished, turn_id_of
from clawft_trio.agent.journal_sql import WORK
from clawft_trio.agent.turn_context import LoopPolicy
from clawft_trio.agent.turn_limiter import TurnLimiter, TurnSlot
from clawft_trio.bus import SessionReader
from clawft_trio.errors import StoreError
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.observe import Noted, Observer
from clawft_trio.store.ownership import RELEASED, Ownership, session_name

_CLAIMED_AT_ONCE = 16
"""Sessions that one claim takes: the rest is left to other workers."""


class OwnedSessions:
    """Serves sessions of the journal while this process holds their leases.

    The store has the messages and their order. The queue of the bus has the sessions of this process that wait for a
    slot; sessions with messages that other processes have accepted are claimed when there are free slots.

    Args:
      journal: where messages come from and replies go.
      ownership: the leases of this process.
      queue: the inbound queue, one FIFO per session.
      slots: how many turns run at once.
      policy: how much at once, and how long at most.
      observer: gets events.
      answer: runs the turn of one message and frees the slot.
      lost: called with every session that another process has taken.
    """

    def __init__(
        self,
        journal: Journal,
        ownership: Ownership,
        *,
        queue: SessionReader[InboundMessage],
        slots: TurnLimiter,
        policy: LoopPolicy,
        observer: Observer,
        answer: Callable[[Unfinished, TurnSlot], Awaitable[None]],
        lost: Callable[[str], None],
    ) -> None:
        #: whether new turns may begin beside those of the queue
        self.accepting: bool = True
        #: whether no turn may begin any more
        self.stopping: bool = False
        #: turns of messages that are still in the queue, and have their reply
        self.answered_early: set[str] = set()
        self._journal = journal
        self._ownership = ownership
        self._queue = queue
        self._slots = slots
        self._policy = policy
        self._observer = observer
        self._answer = answer
        #: turns of messages that are in the queue, or about to be
        self._queued: set[str] = set()
        #: claimed sessions in which no turn has begun
        self._claimed: dict[str, Claimed] = {}
        #: by turn: the next message of its session, begun in the transaction that ended the turn
        self._following: dict[str, Unfinished] = {}
        #: set, and made anew, whenever a turn ends or a session is given back
        self._turn_ended = trio.Event()
        #: by turn: why its message is given up
        self._given_up: dict[str, str] = {}
        #: set when the store may have work
        self._wake = trio.Event()
        #: whether there may be work for which there was no slot at the last look
        self._left: bool = True
        prefix = session_name("")
        ownership.on_lost(lambda name: lost(name.removeprefix(prefix)) if name.startswith(prefix) else None)

    @property
    def on_server(self) -> bool:
        """Whether the store is a database server, which can be away for a while."""
        return self._ownership.store.engine == "postgresql"

    # --- messages ----------------------------------------------------------------------------------------

    async def accept(self, message: InboundMessage) -> bool:
        """Write *message* down, and claim its session when its turn may begin at once; False for a duplicate.

        Raises:
          StoreError: it could not be written; it is not accepted.

        Cancellation: `Cancelled` means that it is not accepted.
        """
        session = message.session_key
        claim = (
            self._may_begin()
            and self._slots.free > len(self._claimed)
            and self._ownership.lease_of(session_name(session)) is None
        )
        new, claimed = await self._journal.accept(message, claim=claim)
        if claimed is not None:
            self._claimed[session] = claimed
        if new:
            self._queued.add(turn_id_of(message))
        return new

    async def withdraw(self, message: InboundMessage) -> None:
        """Forget *message*, which did not get into the queue, and give its session back.

        Raises:
          StoreError: the lease runs out.

        Cancellation: the lease is given back, or runs out.
        """
        turn_id = turn_id_of(message)
        self._queued.discard(turn_id)
        self.answered_early.discard(turn_id)
        claimed = self._claimed_for(message)
        if claimed is not None:
            await self._ownership.release(claimed.lease.name)
            self._note_turn_ended()
        else:
            await trio.lowlevel.checkpoint()

    def _claimed_for(self, message: InboundMessage) -> Claimed | None:
        """Take out the claim of a session in which no turn has begun and *message* is the next; None without one."""
        claimed = self._claimed.get(message.session_key)
        if claimed is None or turn_id_of(claimed.first.message) != turn_id_of(message):
            return None
        return self._claimed.pop(message.session_key)

    def was_answered_early(self, message: InboundMessage) -> bool:
        """Whether *message*, just taken from the queue, has its reply already."""
        turn_id = turn_id_of(message)
        self._queued.discard(turn_id)
        if turn_id not in self.answered_early:
            return False
        self.answered_early.discard(turn_id)
        return True

    async def end(self, message: InboundMessage, reply: OutboundMessage | None) -> None:
        """End the turn of *message* in the journal, and remember the next message of its session.

        Without a *reply* it was sent already.

        Raises:
          StoreError: see `Journal.end`.

        Cancellation: `Cancelled` means that the turn has not ended.
        """
        # With other sessions waiting for a slot, this one is given back, and served again in its turn.
        go_on = not self.stopping and not self._queue.is_ready()
        given_up = self._given_up.pop(turn_id_of(message), "")
        claimed = self._claimed_for(message)
        following = await self._journal.end(message, reply, go_on=go_on, given_up=given_up)
        if following is not None:
            self._following[turn_id_of(message)] = following
        if claimed is not None:
            await self._release(claimed)
            self.wake()

    def give_up(self, message: InboundMessage, error: str) -> None:
        """Keep *message* when its turn ends: it was begun too often."""
        self._given_up[turn_id_of(message)] = error

    # --- sessions ----------------------------------------------------------------------------------------

    async def start(self, services: trio.Nursery, nursery: trio.Nursery) -> None:
        """Begin to renew leases and to claim sessions without an owner.

        Args:
          services: for what runs until the last turn has ended.
          nursery: for the turns.

        Raises:
          StoreError: the journal cannot be used.

        Cancellation: what was claimed is given back by `give_back`.
        """
        await self._journal.prepare()
        if not self._ownership.store.private:
            services.start_soon(self._ownership.keep_renewed)
        if self._policy.resume:
            await self._claim_more(nursery)
            services.start_soon(self._take_over, nursery)

    async def serve(self, session: str, slot: TurnSlot) -> None:
        """Answer the open messages of *session* in their order, while this process owns it.

        Cancellation: running turns are cancelled.
        """
        ended = self._turn_ended
        claimed = self._claimed.pop(session, None) or await self._claim(session)
        if claimed is None:
            slot.free()
            claimed = await self._claim_after_others(session, ended)
            if claimed is not None:
                slot = await self._slots.take()
        following = None if claimed is None else claimed.first
        while claimed is not None and following is not None:
            following = await self._serve_one(claimed, following, slot)
            if following is not None:
                slot = await self._slots.take()

    async def give_back(self) -> None:
        """Give every session back.

        Cancellation: their leases run out.
        """
        self._claimed.clear()
        try:
            await self._ownership.release_all(session_name(""))
        except StoreError as exc:
            self._observer(Noted(component="agent", what="leases not given back", details={"error": exc}))

    def wake(self) -> None:
        """Look for work, if the last look may have left some: a slot is free."""
        if self._left:
            self._wake.set()

    async def _claim(self, session: str) -> Claimed | None:
        try:
            return await self._journal.claim_session(session)
        except StoreError as exc:
            # The message is in the store: it is answered when the store can be used again.
            self._observer(Noted(component="agent", what="session not claimed", details={"error": exc}))
            return None

    async def _claim_after_others(self, session: str, ended: trio.Event) -> Claimed | None:
        """Claim *session* once no other task of this process serves it; None when it is left to others, or has no work.

        Another task may be giving the session back. *ended* is set when a turn ends or a session is given back.
        """
        while not self.stopping:
            try:
                if await self._journal.is_left_to_others(session):
                    return None
            except StoreError as exc:
                self._observer(Noted(component="agent", what="session not looked up", details={"error": exc}))
                return None
            with trio.move_on_after(self._policy.poll):
                await ended.wait()
            ended = self._turn_ended
            claimed = await self._claim(session)
            if claimed is not None:
                return claimed
        await trio.lowlevel.checkpoint()
        return None

    async def _serve_one(self, claimed: Claimed, left: Unfinished, slot: TurnSlot) -> Unfinished | None:
        """Answer one message of an owned session; the next one, when this process is to go on."""
        turn_id = turn_id_of(left.message)
        if turn_id in self._queued:
            self._queued.discard(turn_id)
            # Left in the queue, the message could be dropped by its overflow policy although it is answered. When it is
            # not there yet, its publisher is between the journal and the queue.
            if self._queue.take_one(left.message.session_key, lambda one: turn_id_of(one) == turn_id) is None:
                self.answered_early.add(turn_id)
        while self._ownership.guards(turn_id):
            # This process had lost the session and has it again: its first run of the turn is still being cancelled.
            await self._turn_ended.wait()
        self._ownership.guard(turn_id, claimed.lease, fresh=left.resumes == 0)
        try:
            await self._answer(left, slot)
        finally:
            slot.free()
            self._ownership.unguard(turn_id)
            self._note_turn_ended()
            following = self._following.pop(turn_id, None)
        if following is None and self._ownership.lease_of(claimed.lease.name) == claimed.lease:
            await self._release(claimed)
        return following

    async def _release(self, claimed: Claimed) -> None:
        """Give back a session after a turn that could not be ended in the store: another run answers its message."""
        try:
            await self._ownership.release(claimed.lease.name)
        except StoreError as exc:
            # Not renewed by name any more, it is given back by the renewals.
            self._observer(Noted(component="agent", what="session not given back", details={"error": exc}))
        self._note_turn_ended()

    def _note_turn_ended(self) -> None:
        self._turn_ended.set()
        self._turn_ended = trio.Event()

    async def _take_over(self, nursery: trio.Nursery) -> None:
        """Claim sessions without an owner, in order of arrival, while there are free slots."""
        with self._ownership.store.listening(self._notified):
            while True:
                self._wake = trio.Event()
                if not await self._claim_more(nursery):
                    with trio.move_on_after(math.inf if self._ownership.store.private else self._policy.poll):
                        await self._wake.wait()

    async def _claim_more(self, nursery: trio.Nursery) -> int:
        """Claim as many sessions as there are free slots, and serve them; how many it was."""
        if not (self._slots.free and self._may_begin()):
            self._left = True
            await trio.lowlevel.checkpoint()
            return 0
        # Among the turns, so that the loop does not end before what is being claimed is answered.
        claimed: int = await nursery.start(self._claim_into, nursery)
        return claimed

    async def _claim_into(self, nursery: trio.Nursery, *, task_status: trio.TaskStatus[int]) -> None:
        claimed: Sequence[Claimed] = ()
        self._left = False
        try:
            claimed = await self._journal.claim(min(self._slots.free, _CLAIMED_AT_ONCE))
        except StoreError as exc:
            self._left = True
            self._observer(Noted(component="agent", what="sessions not claimed", details={"error": exc}))
        for one in claimed:
            if not self.stopping:
                self._queue.hold(one.session)
                nursery.start_soon(self._serve_claimed, one)
        task_status.started(len(claimed))

    def _may_begin(self) -> bool:
        return self.accepting and not self.stopping and not self._queue.is_ready()

    def _notified(self, topic: str, _: str) -> None:
        if topic in {WORK, RELEASED, ""}:
            self._wake.set()

    async def _serve_claimed(self, claimed: Claimed) -> None:
        slot = await self._slots.take()
        try:
            self._claimed[claimed.session] = claimed
            await self.serve(claimed.session, slot)
        finally:
            slot.free()
            self._queue.release(claimed.session)
            self.wake()
