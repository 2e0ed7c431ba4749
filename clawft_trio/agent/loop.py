"""From the bus to sessions and back: every accepted message gets exactly one final reply.

Messages queue per session from the moment they are published. A session is served by one worker at a time, so that its
messages are answered in order; sessions are served side by side and in turn, up to a cap. A worker serves one message
and ends: a session at rest costs nothing.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import attrs
import trio

from clawft_trio.agent.journal import Claimed, Journal, LoopJournal, Unfinished, turn_id_of
from clawft_trio.agent.journal_sql import WORK
from clawft_trio.agent.replies import failure_reply
from clawft_trio.agent.slots import Slot, Slots
from clawft_trio.agent.turn_context import Ending, LoopPolicy, LoopStatistics, Turn, TurnContext, outbound
from clawft_trio.bus import MessageBus
from clawft_trio.chat import unobserved
from clawft_trio.errors import BusClosed, LeaseLost, StoreError, TurnCancelled, TurnInterrupted, TurnTimeout
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.observe import MessageDropped, Noted, Observer, Undeliverable, fan_out
from clawft_trio.store.ownership import RELEASED, Ownership, session_name

_CLAIMED_AT_ONCE = 16
"""Sessions that one claim takes: the rest is left to other workers."""


@attrs.define(eq=False)
class _Running:
    """A turn that runs."""

    message: InboundMessage
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    #: why it was stopped, once it was
    stopped: str | None = None
    #: whether another process has its session now: it ends without a reply
    lost: bool = False

    def stop(self, reason: str) -> None:
        self.stopped = self.stopped or reason
        self.scope.cancel(reason=reason)

    def lose(self) -> None:
        self.lost = True
        self.stop("another worker has taken over")


class _Receipts:
    """Journals messages as they are published, for the loop that will answer them."""

    def __init__(self, loop: AgentLoop, journal: LoopJournal) -> None:
        self._loop = loop
        self._journal = journal

    async def received(self, message: InboundMessage) -> bool:
        new = await self._loop._write_down(self._journal, message)
        if new:
            self._loop._received.add(turn_id_of(message))
        else:
            self._loop._note_duplicate(message)
        return new

    async def withdrawn(self, message: InboundMessage) -> None:  # noqa: ASYNC910 - the journal is awaited
        self._loop._received.discard(turn_id_of(message))
        self._loop._answered_early.discard(turn_id_of(message))
        try:
            await self._journal.withdrawn(message)
        except StoreError as exc:
            self._loop._notify(Noted(room="agent", what="message not crossed out", details={"error": exc}))


class AgentLoop:
    """Serves the sessions of a bus. `serve` runs it; everything else is for those who look on.

    Args:
      bus: where messages come from and replies go to. Its inbound queue is served by session from now on.
      turn: answers one message.
      policy: how much at once, and how long at most.
      journal: lets turns outlive the process; the shelf of *bus* must then be in the same store.
      notify: gets events.
    """

    def __init__(
        self,
        bus: MessageBus,
        turn: Turn,
        *,
        policy: LoopPolicy | None = None,
        journal: LoopJournal | None = None,
        notify: Observer = unobserved,
    ) -> None:
        self.policy: LoopPolicy = policy or LoopPolicy()
        self._bus = bus
        self._turn = turn
        self._journal = journal
        self._notify = fan_out([notify])
        self._queue = bus.inbound_queue
        self._queue.serve_by_line(lambda message: message.session_key, line_capacity=self.policy.session_buffer_size)
        #: written down when they were published, and waiting for their turn
        self._received: set[str] = set()
        #: of those, what was answered ahead of its place in the queue, because the store had it first
        self._answered_early: set[str] = set()
        #: sessions that were taken when their message was published
        self._claimed: dict[str, Claimed] = {}
        self._ownership: Ownership | None = getattr(journal, "ownership", None)
        if self._ownership is not None:
            self._ownership.on_lost(self._lose)
        #: set when a slot is free or the store may have work
        self._wake = trio.Event()
        if journal is not None:
            bus.keep_receipts(_Receipts(self, journal))
        self._slots = Slots(self.policy.max_concurrent_turns)
        self._running: dict[str, _Running] = {}
        #: taken out of the queue to be told that they were cancelled
        self._refused: list[tuple[InboundMessage, str]] = []
        #: where workers are started, while there may be new ones
        self._nursery: trio.Nursery | None = None
        self._serving = False
        #: why no turn may begin any more, once that is so
        self._stopping: str | None = None
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._counts: dict[str, int] = {
            "answered": 0,
            "failed": 0,
            "cancelled": 0,
            "duplicates": 0,
            "resumed": 0,
            "abandoned": 0,
        }
        self._ended = trio.Event()
        #: by turn: the next message of its session, begun in the transaction that ended the turn
        self._following: dict[str, Unfinished] = {}

    def __repr__(self) -> str:
        return f"<AgentLoop {self.statistics()}>"

    def statistics(self) -> LoopStatistics:
        """What it does and has done."""
        waiting = len(self._queue) - len(self._answered_early)
        return LoopStatistics(running=len(self._running), waiting=waiting, **self._counts)

    # --- running -----------------------------------------------------------------------------------------

    async def serve(self, *, task_status: trio.TaskStatus[AgentLoop] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer messages until the bus takes no more and everything has its reply. Once per loop.

        With a journal, what an earlier process has left unfinished is resumed first, ahead of new messages of its
        session.

        Raises:
          StoreError: the journal cannot be read.

        Cancellation: running turns are cancelled; they, and the messages that wait, are told so within `farewell`.
        """
        await self._serve(lambda: task_status.started(self))

    async def _serve(self, ready: Callable[[], None]) -> None:
        try:
            async with open_hidden_nursery() as services:
                async with open_hidden_nursery() as nursery:
                    await self._answer_all(services, nursery, ready)
                services.cancel_scope.cancel(reason="the loop has ended")
        finally:
            self._bus.close_inbound()
            left = self._queue.clear(None)
            if not self.policy.hand_over:
                self._refused.extend((message, "the loop has ended") for message in left)
            with trio.move_on_after(self.policy.farewell, shield=True):
                await self._refuse_all()
                await self._disown()
            self._ended.set()

    async def _answer_all(self, services: trio.Nursery, nursery: trio.Nursery, ready: Callable[[], None]) -> None:
        self._nursery = nursery
        self._serving = True
        if self._ownership is None:
            await self._resume(nursery)
        else:
            await self._own(services, nursery, self._ownership)
        ready()
        try:
            await self._dispatch(nursery)
        finally:
            # From here on the nursery may close at any time.
            self._nursery = None

    async def shutdown(self, grace: float | None = None) -> None:
        """Take no more messages in, finish what is there, and cancel what is not finished in time.

        Args:
          grace: seconds; None is the policy's.

        Cancellation: what is running is cancelled at once, and told so.
        """
        self._bus.close_inbound()
        if not self._serving:
            await trio.lowlevel.checkpoint()
            return
        try:
            with trio.move_on_after(self.policy.grace if grace is None else grace):
                await self._ended.wait()
        finally:
            if not self._ended.is_set():
                self._stopping = "shutting down"
                self.cancel_all(self._stopping)
        # What is cancelled says goodbye in a bounded time.
        await self._ended.wait()

    async def _dispatch(self, nursery: trio.Nursery) -> None:
        while True:
            try:
                await self._queue.wait_ready()
            except BusClosed:
                return  # noqa: ASYNC910 - nothing is left that could be delayed
            slot = await self._slots.take()
            try:
                message = self._queue.get_nowait(hold=True)
            except (trio.WouldBlock, BusClosed):
                slot.free()
                continue
            nursery.start_soon(self._serve_one, message, slot)

    async def _serve_one(self, message: InboundMessage, slot: Slot) -> None:  # noqa: ASYNC910 - the start of a task
        """Answer one message of a session that is held, and let the session go on."""
        try:
            if turn_id_of(message) in self._answered_early:
                self._answered_early.discard(turn_id_of(message))
            elif self._is_known(message):
                self._note_duplicate(message)
            elif await self._accept(message):
                if self._ownership is None:
                    await self._answer(message, slot)
                else:
                    await self._serve_session(message.session_key, slot)
        finally:
            slot.free()
            self._queue.release(message.session_key)
            self._wake.set()

    # --- with other processes on the same store ----------------------------------------------------------

    async def _write_down(self, journal: LoopJournal, message: InboundMessage) -> bool:
        """Journal *message*, and take its session if this process may begin at once."""
        if self._ownership is None or not isinstance(journal, Journal):
            return await journal.accepted(message)
        session = message.session_key
        free = self._slots.free > len(self._claimed) and not self._queue.is_ready()
        owned = self._ownership.lease_of(session_name(session)) is not None
        new, claimed = await journal.accept(message, claim=free and not owned and self._stopping is None)
        if claimed is not None:
            self._claimed[session] = claimed
        return new

    async def _own(self, services: trio.Nursery, nursery: trio.Nursery, ownership: Ownership) -> None:
        """Keep the leases, and take over what nobody works on."""
        assert isinstance(self._journal, Journal)
        await self._journal.prepare()
        if not ownership.store.private:
            services.start_soon(ownership.keep_renewed)
        if self.policy.resume:
            await self._claim_more(nursery, self._journal)
            services.start_soon(self._take_over, nursery, self._journal, ownership)

    async def _take_over(self, nursery: trio.Nursery, journal: Journal, ownership: Ownership) -> None:
        """Claim sessions without an owner, in order of arrival, while there are free slots."""
        with ownership.store.listening(self._heard):
            while True:
                self._wake = trio.Event()
                if not await self._claim_more(nursery, journal):
                    with trio.move_on_after(math.inf if ownership.store.private else self.policy.poll):
                        await self._wake.wait()

    async def _claim_more(self, nursery: trio.Nursery, journal: Journal) -> int:
        """Claim as many sessions as there are free slots, and serve them; how many it was."""
        claimed: Sequence[Claimed] = ()
        if self._slots.free and self._may_begin() and not self._queue.is_ready():
            try:
                claimed = await journal.claim(min(self._slots.free, _CLAIMED_AT_ONCE))
            except StoreError as exc:
                self._notify(Noted(room="agent", what="sessions not claimed", details={"error": exc}))
        for one in claimed:
            if self._may_begin():
                self._queue.hold(one.session)
                nursery.start_soon(self._serve_claimed, one)
        return len(claimed)

    def _may_begin(self) -> bool:
        return self._stopping is None and self._nursery is not None

    def _heard(self, topic: str, _: str) -> None:
        if topic in {WORK, RELEASED, ""}:
            self._wake.set()

    async def _serve_claimed(self, claimed: Claimed) -> None:  # noqa: ASYNC910 - the start of a task
        slot = await self._slots.take()
        try:
            self._claimed[claimed.session] = claimed
            await self._serve_session(claimed.session, slot)
        finally:
            slot.free()
            self._queue.release(claimed.session)
            self._wake.set()

    async def _serve_session(self, session: str, slot: Slot) -> None:
        """Answer the open messages of *session* in the store's order, while this process owns it."""
        assert isinstance(self._journal, Journal)
        claimed = self._claimed.pop(session, None)
        if claimed is None:
            try:
                claimed = await self._journal.claim_session(session)
            except StoreError as exc:
                # The message is in the store: it is answered when the store can be used again.
                self._notify(Noted(room="agent", what="session not claimed", details={"error": exc}))
        next_one = None if claimed is None else claimed.first
        while next_one is not None and claimed is not None:
            next_one = await self._serve_owned(claimed, next_one, slot)
            if next_one is not None:
                slot = await self._slots.take()

    async def _serve_owned(self, claimed: Claimed, left: Unfinished, slot: Slot) -> Unfinished | None:
        """Answer one message of an owned session; the next one of it, when this process is to go on."""
        assert self._ownership is not None
        turn_id = turn_id_of(left.message)
        if turn_id in self._received:
            self._received.discard(turn_id)
            self._answered_early.add(turn_id)
        self._ownership.guard(turn_id, claimed.lease)
        self._following.pop(turn_id, None)
        try:
            if left.resumes:
                self._counts["resumed"] += 1
            if left.resumes <= self.policy.max_resumes:
                await self._answer(left.message, slot, resumed=left.resumes > 0)
            else:
                error = TurnInterrupted(f"given up after {left.resumes} resumptions")
                await self._reply(left.message, failure_reply(left.message, error), "failed")
            return self._following.pop(turn_id, None)
        finally:
            slot.free()
            self._ownership.unguard(turn_id)

    def _lose(self, name: str) -> None:
        """Another process has taken the lease *name*: what runs under it ends without a reply."""
        for running in self._running.values():
            if session_name(running.message.session_key) == name:
                running.lose()

    async def _disown(self) -> None:
        """Give back the sessions that are not being worked on."""
        self._claimed.clear()
        if self._ownership is not None:
            try:
                await self._ownership.release_all(session_name(""))
            except StoreError as exc:
                self._notify(Noted(room="agent", what="leases not given back", details={"error": exc}))
        await trio.lowlevel.checkpoint_if_cancelled()

    # --- what an earlier process has left ----------------------------------------------------------------

    async def _resume(self, nursery: trio.Nursery) -> None:
        if self._journal is None:
            await trio.lowlevel.checkpoint()
            return
        sessions: dict[str, list[Unfinished]] = {}
        for left in await self._journal.unfinished():
            if turn_id_of(left.message) in self._received:
                continue  # published to this process a moment ago: it is in the queue
            sessions.setdefault(left.message.session_key, []).append(left)
        for session, unfinished in sessions.items():
            self._queue.hold(session)
            nursery.start_soon(self._resume_session, session, unfinished)

    async def _resume_session(self, session: str, unfinished: Sequence[Unfinished]) -> None:  # noqa: ASYNC910 - same
        try:
            for left in unfinished:
                if self._stopping is None:
                    await self._resume_one(left)
        finally:
            self._queue.release(session)

    async def _resume_one(self, left: Unfinished) -> None:
        # Cancelled here, it stays unfinished, and the next process resumes it.
        slot = await self._slots.take()
        try:
            self._counts["resumed"] += 1
            if left.resumes < self.policy.max_resumes:
                await self._answer(left.message, slot, resumed=True)
            else:
                error = TurnInterrupted(f"given up after {left.resumes} resumptions")
                await self._reply(left.message, failure_reply(left.message, error), "failed")
        finally:
            slot.free()

    # --- one message -------------------------------------------------------------------------------------

    def _is_known(self, message: InboundMessage) -> bool:
        """Whether *message* came before, as far as this process remembers."""
        turn_id = turn_id_of(message)
        if turn_id in self._seen:
            return True
        self._seen[turn_id] = None
        if len(self._seen) > self.policy.remembered_ids:
            self._seen.popitem(last=False)
        return False

    def _note_duplicate(self, message: InboundMessage) -> None:
        self._counts["duplicates"] += 1
        self._notify(MessageDropped(queue="sessions", policy="duplicate", message=message))

    async def _accept(self, message: InboundMessage) -> bool:
        """Write *message* down; False when there is nothing to answer."""
        if self._journal is None or turn_id_of(message) in self._received:
            self._received.discard(turn_id_of(message))
            return True  # noqa: ASYNC910 - cancelled here, the message would be lost
        try:
            new = await self._journal.accepted(message)
        except StoreError as exc:
            await self._reply(message, failure_reply(message, exc), "failed")
            return False
        except trio.Cancelled:
            with trio.move_on_after(self.policy.farewell, shield=True):
                await self._farewell(message, "the loop was cancelled")
            raise
        if not new:
            self._note_duplicate(message)
        return new

    async def _answer(self, message: InboundMessage, slot: Slot, *, resumed: bool = False) -> None:
        """Run the turn of *message*, and see that it gets its one final reply."""
        with self._run(message) as running:
            context = TurnContext(self._bus, message, resumed=resumed, notify=self._notify)
            if self._stopping is not None:
                running.stop(self._stopping)
            try:
                reply, ending = await self._outcome(running, context)
            except BaseException:
                # Cancelled from outside, or the program is ending.
                if not self.policy.hand_over:
                    with trio.move_on_after(self.policy.farewell, shield=True):
                        await self._farewell(message, running.stopped or "the loop was cancelled")
                raise
            finally:
                context.end()
            if running.lost or (self.policy.hand_over and self._stopping is not None and ending == "cancelled"):
                # Another worker answers it.
                self._counts["abandoned"] += 1
                return
            # A reply that waits for its channel takes no other session's slot.
            slot.free()
            await self._reply(message, reply, ending)

    @contextmanager
    def _run(self, message: InboundMessage) -> Iterator[_Running]:
        running = _Running(message)
        self._running[turn_id_of(message)] = running
        try:
            yield running
        finally:
            del self._running[turn_id_of(message)]

    async def _outcome(self, running: _Running, context: TurnContext) -> tuple[OutboundMessage, Ending]:
        message, limit = running.message, self.policy.turn
        try:
            with running.scope, trio.move_on_after(math.inf if limit is None else limit) as patience:
                reply = await self._turn(message, context)
                return outbound(message, "final", reply.content, reply.metadata, reply.media), "answered"
        except Exception as exc:  # noqa: BLE001 - whatever a turn raises, its message gets a reply
            self._note_failure(context, exc)
            return failure_reply(message, exc), "failed"  # noqa: ASYNC910 - the turn was awaited
        except BaseExceptionGroup as group:
            # Cancelled from outside, and something broke on the way out: that is the turn's own affair.
            broken, rest = group.split(Exception)
            if broken is not None:
                self._note_failure(context, broken)
            raise rest or group from None
        if patience.cancelled_caught:
            return failure_reply(message, TurnTimeout(f"not answered within {limit} s")), "failed"
        return failure_reply(message, TurnCancelled(running.stopped or "stopped")), "cancelled"

    def _note_failure(self, context: TurnContext, error: BaseException) -> None:
        self._notify(Noted(room="agent", what="turn failed", details={"error": error}, turn_id=context.turn_id))

    # --- replying ----------------------------------------------------------------------------------------

    async def _reply(  # noqa: ASYNC910 - `_keep` checkpoints
        self, message: InboundMessage, reply: OutboundMessage, ending: Ending
    ) -> None:
        """Hand *reply* over, whatever happens."""
        kept = False
        try:
            kept = await self._keep(message, reply)
            await self._bus.dispatch_outbound(reply, kept=kept)
        except LeaseLost:
            # The worker that has the session now answers it.
            self._counts["abandoned"] += 1
            self._counts[ending] -= 1
        except BusClosed:
            with trio.move_on_after(self.policy.farewell, shield=True):
                await self._hand_over(message, reply, kept=kept)
        except trio.Cancelled:
            with trio.move_on_after(self.policy.farewell, shield=True):
                await self._hand_over(message, reply, kept=kept)
            raise
        except StoreError as exc:
            self._note_lost(reply, exc)
        finally:
            self._counts[ending] += 1

    async def _hand_over(  # noqa: ASYNC910 - `_keep` checkpoints, unless it was done before
        self, message: InboundMessage, reply: OutboundMessage, *, kept: bool = False
    ) -> None:
        """Hand *reply* over without waiting for its channel."""
        try:
            kept = kept or await self._keep(message, reply)
            await self._bus.outbound(reply.channel).put_or_shelve(reply, kept=kept)
        except LeaseLost:
            pass
        except StoreError as exc:
            self._note_lost(reply, exc)

    def _note_lost(self, reply: OutboundMessage, error: StoreError) -> None:
        self._notify(Undeliverable(message=reply, error=error))

    async def _keep(self, message: InboundMessage, reply: OutboundMessage) -> bool:
        """End the turn in the journal; whether *reply* is on the shelf now."""
        if self._journal is None:
            await trio.lowlevel.checkpoint()
            return False
        try:
            if isinstance(self._journal, Journal):
                go_on = self._stopping is None and not self._queue.is_ready()
                following = await self._journal.end(message, reply, go_on=go_on)
                if following is not None:
                    self._following[turn_id_of(message)] = following
            else:
                await self._journal.replied(message, reply)
        except LeaseLost:
            raise
        except StoreError as exc:
            # A reply that may come a second time, after a restart, is better than none.
            self._notify(Noted(room="agent", what="reply not written down", details={"error": exc}))
            return False  # noqa: ASYNC910 - the journal was awaited
        return True

    async def _farewell(self, message: InboundMessage, reason: str) -> None:
        """Tell *message* that it was cancelled."""
        await self._hand_over(message, failure_reply(message, TurnCancelled(reason)))
        self._counts["cancelled"] += 1

    # --- cancelling --------------------------------------------------------------------------------------

    def cancel_turn(self, turn_id: str, reason: str = "stopped by the user") -> bool:
        """Stop one turn (`turn_id_of(message)`). It gets a reply that says so; whether it was running."""
        running = self._running.get(turn_id)
        if running is not None:
            running.stop(reason)
        return running is not None

    def cancel_session(self, session_key: str, reason: str = "stopped by the user") -> int:
        """Stop what runs in a session and what waits in it. Each gets a reply that says so; how many it was."""
        stopped = [running for running in self._running.values() if running.message.session_key == session_key]
        for running in stopped:
            running.stop(reason)
        waiting = self._queue.take_line(session_key)
        self._refuse_soon(waiting, reason)
        return len(stopped) + len(waiting)

    def cancel_all(self, reason: str = "stopped by the operator") -> int:
        """Stop everything that runs and everything that waits. Each gets a reply that says so; how many it was."""
        stopped = tuple(self._running.values())
        for running in stopped:
            running.stop(reason)
        waiting = self._queue.clear(None)
        self._refuse_soon(waiting, reason)
        return len(stopped) + len(waiting)

    def _refuse_soon(self, messages: Sequence[InboundMessage], reason: str) -> None:
        if not messages or (self.policy.hand_over and self._stopping is not None):
            return
        self._refused.extend((message, reason) for message in messages)
        if self._nursery is not None:
            self._nursery.start_soon(self._refuse_all)

    async def _refuse_all(self) -> None:
        await trio.lowlevel.checkpoint()
        while self._refused:
            message, reason = self._refused.pop(0)
            with trio.move_on_after(self.policy.farewell, shield=True):
                await self._farewell(message, reason)


async def serve_sessions(
    bus: MessageBus,
    turn: Turn,
    *,
    policy: LoopPolicy | None = None,
    journal: LoopJournal | None = None,
    notify: Observer = unobserved,
    task_status: trio.TaskStatus[AgentLoop] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer the messages of *bus* with *turn*, until the bus takes no more and everything has its reply.

    `loop = await nursery.start(serve_sessions, bus, turn)`; see `AgentLoop`.

    Raises:
      StoreError: the journal cannot be read.

    Cancellation: running turns are cancelled; they, and the messages that wait, are told so.
    """
    loop = AgentLoop(bus, turn, policy=policy, journal=journal, notify=notify)
    await loop._serve(lambda: task_status.started(loop))
