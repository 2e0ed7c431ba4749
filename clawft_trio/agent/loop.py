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

from clawft_trio.agent.error_replies import failure_reply
from clawft_trio.agent.journal import Journal, LoopJournal, Unfinished, turn_id_of
from clawft_trio.agent.owned_sessions import OwnedSessions
from clawft_trio.agent.turn_context import LoopPolicy, LoopStatistics, Turn, TurnContext, TurnEnding, outbound
from clawft_trio.agent.turn_limiter import TurnLimiter, TurnSlot
from clawft_trio.bus import MessageBus
from clawft_trio.chat import unobserved
from clawft_trio.errors import (
    BusClosed,
    LeaseLost,
    StoreClosed,
    StoreCorrupt,
    StoreError,
    StoreReadOnly,
    TurnCancelled,
    TurnInterrupted,
    TurnTimeout,
)
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.observe import MessageDropped, Noted, Observer, Undeliverable, fan_out

_REPLIED = 10_000
"""Turns that are remembered because they have their reply and may be open in the journal."""

_ENDING = 30.0
"""Seconds for which ending a turn is tried again while the database server is away."""

_END_AGAIN = 0.5
"""Seconds between two attempts to end a turn; each of them waits for the server itself."""


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


class _InboundJournal:
    """Journals messages as they are published, for the loop that will answer them."""

    def __init__(self, loop: AgentLoop, journal: LoopJournal) -> None:
        self._loop = loop
        self._journal = journal

    async def received(self, message: InboundMessage) -> bool:
        shared = self._loop._shared
        new = await (self._journal.accepted(message) if shared is None else shared.accept(message))
        if new:
            self._loop._received.add(turn_id_of(message))
        else:
            self._loop._note_duplicate(message)
        return new

    async def withdrawn(self, message: InboundMessage) -> None:
        self._loop._received.discard(turn_id_of(message))
        try:
            await self._journal.withdrawn(message)
            if self._loop._shared is not None:
                await self._loop._shared.withdraw(message)
        except StoreError as exc:
            self._loop._observer(Noted(component="agent", what="message not crossed out", details={"error": exc}))


class AgentLoop:
    """Serves the sessions of a bus. `serve` runs it; everything else is for observers.

    Args:
      bus: where messages come from and replies go to. Its inbound queue is served by session from now on.
      turn: answers one message.
      policy: how much at once, and how long at most.
      journal: lets turns outlive the process; the undelivered replies of *bus* must then be in the same store.
      observer: gets events.
    """

    def __init__(
        self,
        bus: MessageBus,
        turn: Turn,
        *,
        policy: LoopPolicy | None = None,
        journal: LoopJournal | None = None,
        observer: Observer = unobserved,
    ) -> None:
        self.policy: LoopPolicy = policy or LoopPolicy()
        self._bus = bus
        self._turn = turn
        self._journal = journal
        self._observer = fan_out([observer])
        self._queue = bus.sessions(self.policy.session_buffer_size)
        #: written down when they were published, and waiting for their turn
        self._received: set[str] = set()
        if journal is not None:
            bus.set_inbound_journal(_InboundJournal(self, journal))
        self._slots = TurnLimiter(self.policy.max_concurrent_turns)
        #: the sessions of the store that this process owns; None: it is the only one on its journal
        self._shared: OwnedSessions | None = None
        if isinstance(journal, Journal) and journal.ownership is not None:
            self._shared = OwnedSessions(
                journal,
                journal.ownership,
                queue=self._queue,
                slots=self._slots,
                policy=self.policy,
                observer=self._observer,
                answer=self._answer_left,
                lost=self._lose,
            )
        self._running: dict[str, _Running] = {}
        #: by turn: taken out of the queue, to get a reply that they were cancelled, with the reason
        self._refused: dict[str, tuple[InboundMessage, str]] = {}
        #: by turn: set when that reply was handed over
        self._refusing: dict[str, trio.Event] = {}
        #: turns that have their reply and may be open in the journal: ended while they waited, and begun in the same
        #: moment, or ended when the store could not be written
        self._replied: OrderedDict[str, None] = OrderedDict()
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

    def __repr__(self) -> str:
        return f"<AgentLoop {self.statistics()}>"

    def statistics(self) -> LoopStatistics:
        """What it does and has done."""
        waiting, early = len(self._queue), set() if self._shared is None else self._shared.answered_early
        if early:
            # One that was begun early may still be on its way into the queue: only those in it count.
            waiting -= sum(turn_id_of(message) in early for message in self._queue)
        return LoopStatistics(running=len(self._running), waiting=waiting, **self._counts)

    # --- running -----------------------------------------------------------------------------------------

    async def serve(self, *, task_status: trio.TaskStatus[AgentLoop] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer messages until the bus takes no more and everything has its reply. Once per loop.

        With a journal, what an earlier process has left unfinished is resumed first, ahead of new messages of its
        session.

        Raises:
          StoreError: the journal cannot be read.

        Cancellation: running turns are cancelled; each of them, and each waiting message, gets its final reply within
        `final_reply_grace`.
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
            left = self._queue.take_all()
            if self._shared is not None:
                self._shared.stopping = True
            if not self.policy.hand_over:
                self._refuse(left, "the loop has ended")
            with trio.move_on_after(self.policy.final_reply_grace, shield=True):
                await self._refuse_all()
                if self._shared is not None:
                    await self._shared.give_back()
            self._ended.set()

    async def _answer_all(self, services: trio.Nursery, nursery: trio.Nursery, ready: Callable[[], None]) -> None:
        self._nursery = nursery
        self._serving = True
        if self._shared is None:
            await self._resume(nursery)
        else:
            services.start_soon(self._bus.relay_pieces)
            await self._shared.start(services, nursery)
        ready()
        try:
            await self._dispatch(nursery)
        finally:
            # From here on the nursery may close at any time.
            self._nursery = None
            if self._shared is not None:
                self._shared.accepting = False

    async def shutdown(self, grace: float | None = None) -> None:
        """Take no more messages in, finish what is there, and cancel what is not finished in time.

        Args:
          grace: seconds; None is the policy's.

        Cancellation: running turns are cancelled at once, and get a reply.
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
                if self._shared is not None:
                    self._shared.stopping = True
                self.cancel_all(self._stopping)
        # What is cancelled gets its reply in a bounded time.
        await self._ended.wait()

    async def _dispatch(self, nursery: trio.Nursery) -> None:
        while True:
            try:
                await self._queue.wait_ready()
            except BusClosed:
                return
            slot = await self._slots.take()
            try:
                message = self._queue.claim_nowait()
            except (trio.WouldBlock, BusClosed):
                slot.free()
                continue
            nursery.start_soon(self._serve_one, message, slot)

    async def _serve_one(self, message: InboundMessage, slot: TurnSlot) -> None:
        """Answer one message of a session that is held, and let the session go on."""
        try:
            if self._shared is not None and self._shared.was_answered_early(message):
                pass
            elif self._is_known(message):
                self._note_duplicate(message)
            elif await self._accept(message):
                if self._shared is None:
                    await self._answer(message, slot)
                else:
                    await self._shared.serve(message.session_key, slot)
        finally:
            slot.free()
            self._queue.release(message.session_key)
            if self._shared is not None:
                self._shared.wake()

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

    async def _resume_session(self, session: str, unfinished: Sequence[Unfinished]) -> None:
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
            await self._answer_left(attrs.evolve(left, resumes=left.resumes + 1), slot)
        finally:
            slot.free()

    async def _answer_left(self, left: Unfinished, slot: TurnSlot) -> None:
        """Answer a message of the store, which was begun `left.resumes` times before."""
        turn_id = turn_id_of(left.message)
        if turn_id in self._refusing:
            await self._refusing[turn_id].wait()
        if self._shared is not None and turn_id in self._replied:
            await self._end_replied(self._shared, left.message)
            return
        self._received.discard(turn_id)
        self._counts["resumed"] += left.resumes > 0
        if left.resumes <= self.policy.max_resumes:
            await self._answer(left.message, slot, resumed=left.resumes > 0)
        else:
            error = TurnInterrupted(f"given up after {left.resumes - 1} resumptions")
            if self._shared is not None:
                self._shared.give_up(left.message, str(error))
            await self._reply(left.message, failure_reply(left.message, error), "failed")

    async def _end_replied(self, shared: OwnedSessions, message: InboundMessage) -> None:
        """End a turn in the journal that has its reply."""
        try:
            await shared.end(message, None)
        except LeaseLost:
            pass  # it has ended
        except StoreError as exc:
            self._observer(Noted(component="agent", what="turn not ended in the journal", details={"error": exc}))
            # It is claimed again at once.
            await trio.sleep(self.policy.poll)

    def _lose(self, session: str) -> None:
        """Another process has *session*: what runs of it ends without a reply."""
        for running in self._running.values():
            if running.message.session_key == session:
                running.lose()

    # --- one message -------------------------------------------------------------------------------------

    def _is_known(self, message: InboundMessage) -> bool:
        """Whether *message* came before, as far as this process remembers."""
        turn_id = turn_id_of(message)
        if turn_id in self._seen:
            return True
        _remember(self._seen, turn_id, self.policy.remembered_ids)
        return False

    def _note_duplicate(self, message: InboundMessage) -> None:
        self._counts["duplicates"] += 1
        self._observer(MessageDropped(queue="sessions", policy="duplicate", message=message))

    async def _accept(self, message: InboundMessage) -> bool:
        """Write *message* down; False when there is nothing to answer."""
        if self._journal is None or turn_id_of(message) in self._received:
            self._received.discard(turn_id_of(message))
            return True
        try:
            new = await self._journal.accepted(message)
        except StoreError as exc:
            await self._reply(message, failure_reply(message, exc), "failed")
            return False
        except trio.Cancelled:
            with trio.move_on_after(self.policy.final_reply_grace, shield=True):
                await self._reply_cancelled(message, "the loop was cancelled")
            raise
        if not new:
            self._note_duplicate(message)
        return new

    async def _answer(self, message: InboundMessage, slot: TurnSlot, *, resumed: bool = False) -> None:
        """Run the turn of *message*, and see that it gets its one final reply."""
        with self._run(message) as running:
            context = TurnContext(self._bus, message, resumed=resumed, observer=self._observer)
            refused = self._refused.pop(context.turn_id, None)
            if refused is not None:
                # Stopped while it waited: this run replies, so that the message has one reply.
                running.stop(refused[1])
            if self._stopping is not None:
                running.stop(self._stopping)
            try:
                reply, ending = await self._outcome(running, context)
            except BaseException:
                # Cancelled from outside, or the program is ending.
                if not self.policy.hand_over:
                    with trio.move_on_after(self.policy.final_reply_grace, shield=True):
                        await self._reply_cancelled(message, running.stopped or "the loop was cancelled")
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
            if self._running.get(turn_id_of(message)) is running:
                del self._running[turn_id_of(message)]

    async def _outcome(self, running: _Running, context: TurnContext) -> tuple[OutboundMessage, TurnEnding]:
        message, limit = running.message, self.policy.turn
        try:
            with running.scope, trio.move_on_after(math.inf if limit is None else limit) as limited:
                reply = await self._turn(message, context)
                return outbound(message, "final", reply.content, reply.metadata, reply.media), "answered"
        except Exception as exc:  # noqa: BLE001 - a turn may raise anything, and its message gets a reply
            self._note_failure(context, exc)
            running.lost = running.lost or self._is_resumable(exc)
            return failure_reply(message, exc), "failed"
        except BaseExceptionGroup as group:
            # Cancelled from outside, and something broke on the way out: that is the turn's own affair.
            broken, rest = group.split(Exception)
            if broken is not None:
                self._note_failure(context, broken)
            raise rest or group from None
        if limited.cancelled_caught:
            return failure_reply(message, TurnTimeout(f"not answered within {limit} s")), "failed"
        return failure_reply(message, TurnCancelled(running.stopped or "stopped")), "cancelled"

    def _is_resumable(self, error: Exception) -> bool:
        """Whether the turn is left to its next run, which its steps in the journal make short.

        A server that is away, or that crashed during a commit, is no reason to answer with an error; the number of
        runs is bounded by `LoopPolicy.max_resumes`.
        """
        refused = isinstance(error, StoreCorrupt | StoreReadOnly | StoreClosed)
        return self._shared is not None and self._shared.on_server and isinstance(error, StoreError) and not refused

    def _note_failure(self, context: TurnContext, error: BaseException) -> None:
        self._observer(Noted(component="agent", what="turn failed", details={"error": error}, turn_id=context.turn_id))

    # --- replying ----------------------------------------------------------------------------------------

    async def _reply(self, message: InboundMessage, reply: OutboundMessage, ending: TurnEnding) -> None:
        """Hand *reply* over, whatever happens."""
        kept = False
        try:
            kept = await self._keep(message, reply)
            await self._bus.dispatch_outbound(reply, kept=kept)
            self._note_sent(message, kept=kept)
        except LeaseLost:
            # The worker that has the session now answers it.
            self._counts["abandoned"] += 1
            self._counts[ending] -= 1
        except BusClosed:
            with trio.move_on_after(self.policy.final_reply_grace, shield=True):
                await self._hand_over(message, reply, kept=kept)
        except trio.Cancelled:
            with trio.move_on_after(self.policy.final_reply_grace, shield=True):
                await self._hand_over(message, reply, kept=kept)
            raise
        except StoreError as exc:
            self._note_lost(reply, exc)
        finally:
            self._counts[ending] += 1

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

    async def _keep(self, message: InboundMessage, reply: OutboundMessage) -> bool:
        """End the turn in the journal; whether *reply* is stored now."""
        if self._journal is None:
            await trio.lowlevel.checkpoint()
            return False
        try:
            if self._shared is None:
                await self._journal.replied(message, reply)
            else:
                await self._end_in_store(self._shared, message, reply)
        except LeaseLost:
            raise
        except StoreError as exc:
            # A reply that may come a second time, after a restart, is better than none.
            self._observer(Noted(component="agent", what="reply not written down", details={"error": exc}))
            return False
        return True

    def _note_sent(self, message: InboundMessage, *, kept: bool) -> None:
        """The reply to *message* is on its way: its turn must not run again, also when it is still open."""
        if self._journal is not None and not kept:
            _remember(self._replied, turn_id_of(message), _REPLIED)

    async def _end_in_store(self, shared: OwnedSessions, message: InboundMessage, reply: OutboundMessage) -> None:
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
            except StoreError as exc:
                if not self._is_resumable(exc) or isinstance(exc, LeaseLost):
                    raise
                if trio.current_time() >= deadline or self._stopping is not None:
                    # Any worker runs the turn again: sent now, its reply would come twice.
                    raise LeaseLost("the turn could not be ended; another run answers the message") from exc
            await trio.sleep(_END_AGAIN)

    async def _reply_cancelled(self, message: InboundMessage, reason: str) -> bool:
        """Reply to *message* that it was cancelled; whether its turn has ended in the journal."""
        ended = await self._hand_over(message, failure_reply(message, TurnCancelled(reason)))
        self._counts["cancelled"] += 1
        return ended

    # --- cancelling --------------------------------------------------------------------------------------

    def cancel_turn(self, turn_id: str, reason: str = "stopped by the user") -> bool:
        """Stop one turn (`turn_id_of(message)`). It gets a reply with the reason; whether it was running."""
        running = self._running.get(turn_id)
        if running is not None:
            running.stop(reason)
        return running is not None

    def cancel_session(self, session_key: str, reason: str = "stopped by the user") -> int:
        """Stop what runs in a session and what waits in it. Each gets a reply with the reason; how many it was."""
        stopped = [running for running in self._running.values() if running.message.session_key == session_key]
        for running in stopped:
            running.stop(reason)
        waiting = self._queue.take_session(session_key)
        self._refuse_soon(waiting, reason)
        return len(stopped) + len(waiting)

    def cancel_all(self, reason: str = "stopped by the operator") -> int:
        """Stop everything that runs and everything that waits. Each gets a reply with the reason; how many it was."""
        stopped = tuple(self._running.values())
        for running in stopped:
            running.stop(reason)
        waiting = self._queue.take_all()
        self._refuse_soon(waiting, reason)
        return len(stopped) + len(waiting)

    def _refuse_soon(self, messages: Sequence[InboundMessage], reason: str) -> None:
        if not messages or (self.policy.hand_over and self._stopping is not None):
            return
        self._refuse(messages, reason)
        if self._nursery is not None:
            self._nursery.start_soon(self._refuse_all)

    def _refuse(self, messages: Sequence[InboundMessage], reason: str) -> None:
        for message in messages:
            begun = turn_id_of(message) in self._running
            if self._shared is not None:
                begun = self._shared.was_answered_early(message) or begun
            if not begun:
                self._refused.setdefault(turn_id_of(message), (message, reason))

    async def _refuse_all(self) -> None:
        await trio.lowlevel.checkpoint()
        while self._refused:
            turn_id = next(iter(self._refused))
            message, reason = self._refused.pop(turn_id)
            replied = self._refusing[turn_id] = trio.Event()
            try:
                with trio.move_on_after(self.policy.final_reply_grace, shield=True):
                    if await self._reply_cancelled(message, reason) and self._shared is not None:
                        _remember(self._replied, turn_id, _REPLIED)
            finally:
                del self._refusing[turn_id]
                replied.set()


def _remember(ids: OrderedDict[str, None], new: str, limit: int) -> None:
    """Add *new* to *ids*, and drop the oldest beyond *limit*."""
    ids[new] = None
    if len(ids) > limit:
        ids.popitem(last=False)


async def serve_sessions(
    bus: MessageBus,
    turn: Turn,
    *,
    policy: LoopPolicy | None = None,
    journal: LoopJournal | None = None,
    observer: Observer = unobserved,
    task_status: trio.TaskStatus[AgentLoop] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer the messages of *bus* with *turn*, until the bus takes no more and everything has its reply.

    `loop = await nursery.start(serve_sessions, bus, turn)`; see `AgentLoop`.

    Raises:
      StoreError: the journal cannot be read.

    Cancellation: running turns are cancelled; they, and the messages that wait, get a reply.
    """
    loop = AgentLoop(bus, turn, policy=policy, journal=journal, observer=observer)
    await loop._serve(lambda: task_status.started(loop))
