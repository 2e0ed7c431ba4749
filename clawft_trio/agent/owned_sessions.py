"""The sessions of a shared store that this process owns: claiming them, serving their messages, releasing them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence

import trio

from clawft_trio.agent.journal import Claimed, Journal, Unfinished, turn_id_of
from clawft_trio.agent.journal_sql import WORK
from clawft_trio.agent.turn_context import LoopPolicy
from clawft_trio.agent.turn_limiter import TurnLimiter, TurnSlot
from clawft_trio.bus import SessionReader
from clawft_trio.errors import StoreClosed, StoreCorrupt, StoreError
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.observe import Noted, Observer
from clawft_trio.store.ownership import RELEASED, Ownership, session_name

_CLAIMED_AT_ONCE = 16
"""Largest number of sessions per claim, so that other workers get the rest."""


class OwnedSessions:
    """Serves sessions of the journal while this process holds their leases.

    The store has the messages and their order. The queue of the bus has those sessions of this process that wait for a
    slot; sessions with messages accepted by other processes are claimed when there are free slots.

    Args:
      journal: the journal of messages and replies.
      ownership: the leases of this process.
      queue: the inbound queue, one FIFO per session.
      slots: limits concurrent turns.
      policy: limits of the loop.
      observer: receives events.
      written: the turns of messages that were stored on publication and still wait.
      answer: runs the turn of one message and frees the slot.
      lost: called with every session that another process took over.
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
        written: set[str],
        answer: Callable[[Unfinished, TurnSlot], Awaitable[None]],
        lost: Callable[[str], None],
    ) -> None:
        #: whether turns of messages that are not in the queue may begin
        self.accepting: bool = True
        #: whether no turn may begin any more
        self.stopping: bool = False
        #: turns of messages that have their reply and are still in the queue
        self.answered_early: set[str] = set()
        self._journal = journal
        self._ownership = ownership
        self._queue = queue
        self._slots = slots
        self._policy = policy
        self._observer = observer
        self._answer = answer
        self._written = written
        #: claimed sessions in which no turn has begun
        self._claimed: dict[str, Claimed] = {}
        #: number of messages being stored together with a claim of their session
        self._claiming: int = 0
        #: by turn: the next message of its session, begun in the transaction that ended the turn
        self._following: dict[str, Unfinished] = {}
        #: set, and replaced, whenever a turn ends or a session is released
        self._turn_ended = trio.Event()
        #: by turn: the reason why its message is given up
        self._given_up: dict[str, str] = {}
        #: set when the store may have messages to answer
        self._wake = trio.Event()
        #: whether the last check may have left messages because there was no slot
        self._left: bool = True
        prefix = session_name("")
        ownership.on_lost(lambda name: lost(name.removeprefix(prefix)) if name.startswith(prefix) else None)

    def is_passing(self, error: BaseException) -> bool:
        """Whether *error* is of a database server that cannot be used now: away, full, read-only, failed over.

        It is no reason for an error reply: the turn is left to a later run.
        """
        return self.is_of_server(error) and not isinstance(error, StoreCorrupt)

    def is_of_server(self, error: BaseException) -> bool:
        """Whether *error* is of a database server, while this process uses it.

        Another process may then run the turn again, so a reply that is not stored must not be sent.
        """
        server = self._ownership.store.engine == "postgresql"
        return server and isinstance(error, StoreError) and not isinstance(error, StoreClosed)

    async def accept(self, message: InboundMessage) -> bool:
        """Store *message*, and claim its session if its turn may begin at once; return False for a duplicate.

        Raises:
          StoreError: the store cannot be written; *message* is not accepted.

        Cancellation: `Cancelled` means that it is not accepted.
        """
        session = message.session_key
        waiting = self._claiming + len(self._claimed) + self._queue.ready_sessions()
        claim = (
            self.accepting
            and not self.stopping
            and self._slots.free > waiting
            and self._ownership.lease_of(session_name(session)) is None
        )
        self._claiming += claim
        try:
            new, claimed = await self._journal.accept(message, claim=claim)
        finally:
            self._claiming -= claim
        if claimed is not None:
            self._claimed[session] = claimed
        return new

    async def withdraw(self, message: InboundMessage) -> None:
        """Forget *message*, which did not enter the queue, and release its session.

        Raises:
          StoreError: the lease stays until it expires.

        Cancellation: the lease is released or expires.
        """
        turn_id = turn_id_of(message)
        self.answered_early.discard(turn_id)
        claimed = self._claimed_for(message)
        if claimed is not None:
            await self._ownership.release(claimed.lease.name)
            self._note_turn_ended()
        else:
            await trio.lowlevel.checkpoint()

    def _claimed_for(self, message: InboundMessage) -> Claimed | None:
        """Remove and return the claim of a session without a turn in which *message* is the next; None without one."""
        claimed = self._claimed.get(message.session_key)
        if claimed is None or turn_id_of(claimed.first.message) != turn_id_of(message):
            return None
        return self._claimed.pop(message.session_key)

    def was_answered_early(self, message: InboundMessage) -> bool:
        """Whether *message*, just taken from the queue, already has its reply."""
        turn_id = turn_id_of(message)
        if turn_id not in self.answered_early:
            return False
        self.answered_early.discard(turn_id)
        return True

    async def end(self, message: InboundMessage, reply: OutboundMessage | None) -> None:
        """End the turn of *message* in the journal, and store the next message of its session.

        *reply* is None if it was already sent.

        Raises:
          StoreError: see `Journal.end`.

        Cancellation: `Cancelled` means that the turn has not ended.
        """
        # If other sessions wait for a slot, this one is released, and served again later.
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
        """Let the next `end` of *message* give it up, because its turn was begun too often."""
        self._given_up[turn_id_of(message)] = error

    async def start(self, services: trio.Nursery, nursery: trio.Nursery) -> None:
        """Begin to renew leases and to claim sessions without an owner.

        Args:
          services: the nursery of tasks that run until the last turn has ended.
          nursery: the nursery of turns.

        Raises:
          StoreError: the journal cannot be used.

        Cancellation: `give_back` releases the claimed sessions.
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
        """Release all sessions.

        Cancellation: their leases expire.
        """
        self._claimed.clear()
        try:
            await self._ownership.release_all(session_name(""))
        except StoreError as exc:
            self._observer(Noted(component="agent", what="leases not released", details={"error": exc}))

    def wake(self) -> None:
        """Check for messages, if the last check may have left some: a slot is free now."""
        if self._left:
            self._wake.set()

    async def _claim(self, session: str) -> Claimed | None:
        try:
            return await self._journal.claim_session(session)
        except StoreError as exc:
            # The message is stored: it is answered when the store is available again.
            self._observer(Noted(component="agent", what="session not claimed", details={"error": exc}))
            return None

    async def _claim_after_others(self, session: str, ended: trio.Event) -> Claimed | None:
        """Claim *session* when no other task of this process serves it; None if others own it, or it has no messages.

        Another task may be releasing the session. *ended* is set when a turn ends or a session is released.
        """
        while not self.stopping:
            try:
                if await self._journal.is_left_to_others(session):
                    return None
            except StoreError as exc:
                self._observer(Noted(component="agent", what="session not read", details={"error": exc}))
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
        """Answer one message of an owned session; return the next one that this process answers, or None."""
        turn_id = turn_id_of(left.message)
        if turn_id in self._written:
            self._written.discard(turn_id)
            # Otherwise the queue's overflow policy could drop the message although it is answered. If it is not in the
            # queue yet, its publisher is between the journal and the queue.
            if self._queue.take_one(left.message.session_key, lambda one: turn_id_of(one) == turn_id) is None:
                self.answered_early.add(turn_id)
        while self._ownership.guards(turn_id):
            # This process lost the session and owns it again: its first run of the turn is still being cancelled.
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
        """Release a session after a turn that could not be ended in the store: another run answers its message."""
        try:
            await self._ownership.release(claimed.lease.name)
        except StoreError as exc:
            # The next renewal releases the session, because this process no longer holds it.
            self._observer(Noted(component="agent", what="session not released", details={"error": exc}))
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
        """Claim as many sessions as there are free slots, and serve them; return their number."""
        if not (self._slots.free and self._may_begin()):
            self._left = True
            await trio.lowlevel.checkpoint()
            return 0
        # In the nursery of turns, so that the loop does not end before the claimed messages are answered.
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

    def _notified(self, topic: str, payload: str) -> None:
        # A message that this process accepts enters the queue of its bus, from which it is served.
        if topic in {WORK, RELEASED, ""} and payload != self._ownership.owner:
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
