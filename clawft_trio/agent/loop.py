"""The agent loop: takes messages from the bus, and sends exactly one final reply to every accepted message.

Messages queue per session from their publication. One worker at a time serves a session, so that its messages are
answered in order; sessions are served concurrently and round-robin, up to a limit. A worker serves one message and
ends: an idle session costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import attrs
import trio

from clawft_trio.agent.error_replies import failure_reply
from clawft_trio.agent.final_replies import FinalReplies
from clawft_trio.agent.intake import Intake
from clawft_trio.agent.journal import Journal, LoopJournal, Unfinished, turn_id_of
from clawft_trio.agent.owned_sessions import OwnedSessions
from clawft_trio.agent.refusals import Refusals
from clawft_trio.agent.running_turns import RunningTurn, RunningTurns
from clawft_trio.agent.turn_context import LoopPolicy, LoopStatistics, Turn, TurnContext, TurnEnding, outbound
from clawft_trio.agent.turn_limiter import TurnLimiter, TurnSlot
from clawft_trio.bus import MessageBus
from clawft_trio.chat import unobserved
from clawft_trio.errors import BusClosed, StoreError, TurnCancelled, TurnInterrupted, TurnTimeout
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.observe import Noted, Observer, fan_out


class AgentLoop:
    """Serves the sessions of a bus. `serve` runs it; the other methods stop turns and report the state.

    Args:
      bus: the bus; its inbound queue is sorted by session from now on.
      turn: answers one message.
      policy: limits of the loop.
      journal: lets other processes resume turns; the undelivered replies of *bus* must be in the same store.
      observer: receives events.
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
        #: turns of messages that were stored on publication and still wait
        written: set[str] = set()
        self._running = RunningTurns()
        self._slots = TurnLimiter(self.policy.max_concurrent_turns)
        #: the sessions that this process owns; None if no other process shares the journal
        self._shared: OwnedSessions | None = None
        if isinstance(journal, Journal) and journal.ownership is not None:
            self._shared = OwnedSessions(
                journal,
                journal.ownership,
                queue=self._queue,
                slots=self._slots,
                policy=self.policy,
                observer=self._observer,
                written=written,
                answer=self._answer_left,
                lost=self._running.lose,
            )
        self._intake = Intake(
            journal, self._shared, written=written, remembered=self.policy.remembered_ids, observer=self._observer
        )
        if journal is not None:
            bus.set_inbound_journal(self._intake)
        self._replies = FinalReplies(bus, journal, self._shared, policy=self.policy, observer=self._observer)
        self._refusals = Refusals(self._replies)
        #: number of resumed turns of an earlier process
        self._resumed = 0
        #: the nursery of workers, while new ones may start
        self._nursery: trio.Nursery | None = None
        self._serving = False
        #: the reason why no turn may begin any more; None before
        self._stopping: str | None = None
        self._ended = trio.Event()

    def __repr__(self) -> str:
        return f"<AgentLoop {self.statistics()}>"

    def statistics(self) -> LoopStatistics:
        """Return the counters and the current state."""
        waiting, early = len(self._queue), set() if self._shared is None else self._shared.answered_early
        if early:
            # A message answered early may not be in the queue yet: only those in the queue count.
            waiting -= sum(turn_id_of(message) in early for message in self._queue)
        endings = self._replies.endings
        return LoopStatistics(
            running=len(self._running),
            waiting=waiting,
            answered=endings["answered"],
            failed=endings["failed"],
            cancelled=endings["cancelled"],
            duplicates=self._intake.duplicates,
            resumed=self._resumed,
            abandoned=self._replies.abandoned,
        )

    async def serve(self, *, task_status: trio.TaskStatus[AgentLoop] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer messages until the bus accepts no more and every message has its reply. Call it once.

        With a journal, unfinished messages of an earlier process are resumed first, before new messages of their
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
                await self._refusals.reply_to_all()
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
            # From now on the nursery may close at any time.
            self._nursery = None
            if self._shared is not None:
                self._shared.accepting = False

    async def shutdown(self, grace: float | None = None) -> None:
        """Accept no more messages, finish the accepted ones, and cancel those not finished in time.

        Args:
          grace: seconds; None: that of the policy.

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
        # Cancelled messages get their replies within a bounded time.
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
        """Answer one message of a held session, and release the session."""
        try:
            written = self._journal is None or self._intake.take(message)
            if self._shared is not None and self._shared.was_answered_early(message):
                pass
            elif not self._intake.is_duplicate(message) and (written or await self._accept(message)):
                if self._shared is None:
                    await self._answer(message, slot)
                else:
                    await self._shared.serve(message.session_key, slot)
        finally:
            slot.free()
            self._queue.release(message.session_key)
            if self._shared is not None:
                self._shared.wake()

    async def _resume(self, nursery: trio.Nursery) -> None:
        if self._journal is None:
            await trio.lowlevel.checkpoint()
            return
        sessions: dict[str, list[Unfinished]] = {}
        for left in await self._journal.unfinished():
            if self._intake.is_waiting(left.message):
                continue  # just published to this process: it is in the queue
            sessions.setdefault(left.message.session_key, []).append(left)
        for session, unfinished in sessions.items():
            self._queue.hold(session)
            nursery.start_soon(self._resume_session, session, unfinished)

    async def _resume_session(self, session: str, unfinished: Sequence[Unfinished]) -> None:
        try:
            for left in unfinished:
                if self._stopping is not None:
                    break
                # After a cancellation here the message stays unfinished, and the next process resumes it.
                slot = await self._slots.take()
                try:
                    await self._answer_left(attrs.evolve(left, resumes=left.resumes + 1), slot)
                finally:
                    slot.free()
        finally:
            self._queue.release(session)

    async def _answer_left(self, left: Unfinished, slot: TurnSlot) -> None:
        """Answer a message from the store whose turn was begun `left.resumes` times before."""
        message = left.message
        await self._refusals.wait_replied(turn_id_of(message))
        if not self._replies.was_sent(message):
            self._resumed += left.resumes > 0
            if left.resumes <= self.policy.max_resumes:
                await self._answer(message, slot, resumed=left.resumes > 0)
            else:
                error = TurnInterrupted(f"given up after {left.resumes - 1} resumptions")
                if self._shared is not None:
                    self._shared.give_up(message, str(error))
                await self._replies.send(message, failure_reply(message, error), "failed")
        if self._replies.was_sent(message):
            # A turn that waits for the store needs no slot.
            slot.free()
            await self._replies.end_sent(message)

    async def _accept(self, message: InboundMessage) -> bool:
        """Store *message*; return False if it must not be answered."""
        try:
            return await self._intake.accept(message)
        except StoreError as exc:
            await self._replies.send(message, failure_reply(message, exc), "failed")
            return False
        except trio.Cancelled:
            with trio.move_on_after(self.policy.final_reply_grace, shield=True):
                await self._replies.send_cancelled(message, "the loop was cancelled")
            raise

    async def _answer(self, message: InboundMessage, slot: TurnSlot, *, resumed: bool = False) -> None:
        """Run the turn of *message*, and send its one final reply."""
        with self._running.run(message) as running:
            context = TurnContext(self._bus, message, resumed=resumed, observer=self._observer)
            refused = self._refusals.withdraw(context.turn_id)
            if refused is not None:
                # Stopped while it waited: this run sends the reply, so that there is only one.
                running.stop(refused)
            if self._stopping is not None:
                running.stop(self._stopping)
            try:
                reply, ending = await self._outcome(running, context)
            except BaseException:
                # Cancelled from outside, or the program is ending.
                if not self.policy.hand_over:
                    with trio.move_on_after(self.policy.final_reply_grace, shield=True):
                        await self._replies.send_cancelled(message, running.stopped or "the loop was cancelled")
                raise
            finally:
                context.end()
            if running.lost or (self.policy.hand_over and self._stopping is not None and ending == "cancelled"):
                # Another worker answers the message.
                self._replies.abandoned += 1
                return
            # A reply that waits for its channel needs no slot.
            slot.free()
            await self._replies.send(message, reply, ending)

    async def _outcome(self, running: RunningTurn, context: TurnContext) -> tuple[OutboundMessage, TurnEnding]:
        message, limit = running.message, self.policy.turn
        try:
            with running.scope, trio.move_on_after(math.inf if limit is None else limit) as limited:
                reply = await self._turn(message, context)
                return outbound(message, "final", reply.content, reply.metadata, reply.media), "answered"
        except Exception as exc:  # noqa: BLE001 - a turn may raise anything, and its message still gets a reply
            self._note_failure(context, exc)
            # The steps in the journal make the next run short; `LoopPolicy.max_resumes` limits the number of runs.
            running.lost = running.lost or (self._shared is not None and self._shared.is_passing(exc))
            return failure_reply(message, exc), "failed"
        except BaseExceptionGroup as group:
            # Cancelled from outside, and the turn raised an error during the cancellation: that is only reported.
            broken, rest = group.split(Exception)
            if broken is not None:
                self._note_failure(context, broken)
            raise rest or group from None
        if limited.cancelled_caught:
            return failure_reply(message, TurnTimeout(f"not answered within {limit} s")), "failed"
        return failure_reply(message, TurnCancelled(running.stopped or "stopped")), "cancelled"

    def _note_failure(self, context: TurnContext, error: BaseException) -> None:
        self._observer(Noted(component="agent", what="turn failed", details={"error": error}, turn_id=context.turn_id))

    def cancel_turn(self, turn_id: str, reason: str = "stopped by the user") -> bool:
        """Stop one turn (`turn_id_of(message)`). It gets a reply with the reason. Return whether it was running."""
        return self._running.stop(turn_id, reason)

    def cancel_session(self, session_key: str, reason: str = "stopped by the user") -> int:
        """Stop running and waiting messages of a session. Each gets a reply with the reason; return their number."""
        stopped = self._running.stop_session(session_key, reason)
        return stopped + self._refuse_soon(self._queue.take_session(session_key), reason)

    def cancel_all(self, reason: str = "stopped by the operator") -> int:
        """Stop all running and waiting messages. Each gets a reply with the reason; return their number."""
        stopped = self._running.stop_all(reason)
        return stopped + self._refuse_soon(self._queue.take_all(), reason)

    def _refuse_soon(self, messages: Sequence[InboundMessage], reason: str) -> int:
        if self.policy.hand_over and self._stopping is not None:
            return len(messages)
        refused = self._refuse(messages, reason)
        if refused and self._nursery is not None:
            self._nursery.start_soon(self._refusals.reply_to_all)
        return refused

    def _refuse(self, messages: Sequence[InboundMessage], reason: str) -> int:
        """Prepare replies to *messages*, which were taken out of the queue; return how many have none and no turn."""
        refused = 0
        for message in messages:
            self._intake.take(message)
            early = self._shared is not None and self._shared.was_answered_early(message)
            begun = early or turn_id_of(message) in self._running
            if not begun and not self._intake.is_duplicate(message):
                self._refusals.add(message, reason)
                refused += 1
        return refused


async def serve_sessions(
    bus: MessageBus,
    turn: Turn,
    *,
    policy: LoopPolicy | None = None,
    journal: LoopJournal | None = None,
    observer: Observer = unobserved,
    task_status: trio.TaskStatus[AgentLoop] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer the messages of *bus* with *turn*, until the bus accepts no more and every message has its reply.

    `loop = await nursery.start(serve_sessions, bus, turn)`; see `AgentLoop`.

    Raises:
      StoreError: the journal cannot be read.

    Cancellation: running turns are cancelled; their messages and the waiting ones get a reply.
    """
    loop = AgentLoop(bus, turn, policy=policy, journal=journal, observer=observer)
    await loop._serve(lambda: task_status.started(loop))
