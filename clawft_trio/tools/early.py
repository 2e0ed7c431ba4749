"""Calls that start while the answer that makes them is still streamed.

A call starts early when its tool is allowed to, needs no approval, and no earlier call of the same answer has to wait
that touches the same paths or must run alone. Locks, the limit of calls at once, time limits and permissions are those
of `FanOut`. When the answer does not stand, `discard` cancels what runs, waits for it, and journals each started call
with the outcome `discarded`; its result is never returned.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

import attrs
import trio

from clawft_trio.chat import ToolCall
from clawft_trio.nursery import cleanup_scope, open_hidden_nursery
from clawft_trio.observe.events import Noted
from clawft_trio.tools.fan_out import FanOut, Job, ToolJournal
from clawft_trio.tools.result import ToolResult
from clawft_trio.tools.tool import Tool, ToolContext

_JOURNAL_GRACE = 5.0
"""Seconds in which discarded calls must be journalled, also while everything is being cancelled."""

MayStart: TypeAlias = Callable[[Tool], bool]
"""Whether calls of a tool may start before their answer is complete."""

Execute: TypeAlias = Callable[[Sequence[ToolCall], trio.Semaphore], Awaitable[tuple[ToolResult, ...]]]
"""Runs the calls that have not started, each within one of the slots."""


class HeldJournal:
    """A `ToolJournal` that records intents at once, and results only once the answer that made the calls stands.

    After a crash no result of a discarded answer can be taken for that of a call with the same id.

    Args:
      journal: gets everything in the end.
    """

    def __init__(self, journal: ToolJournal) -> None:
        self._journal = journal
        self._adopted: set[str] = set()
        self._ended: dict[str, ToolResult] = {}

    async def started(self, call: ToolCall, tool: Tool) -> None:
        """Record that *call* is about to run.

        Cancellation: the call does not run.
        """
        await self._journal.started(call, tool)

    async def ended(self, answer: ToolResult) -> None:
        """Record the result if the call is adopted, else keep it.

        Cancellation: it comes shielded.
        """
        if answer.call_id in self._adopted:
            await self._journal.ended(answer)
        else:
            self._ended[answer.call_id] = answer

    async def adopt(self, call_id: str) -> None:
        """Record the result of this call: now if it has one, else when it ends.

        Cancellation: the result may be recorded.
        """
        self._adopted.add(call_id)
        answer = self._ended.pop(call_id, None)
        if answer is not None:
            await self._journal.ended(answer)

    async def discard(self, call: ToolCall) -> None:
        """Record that the result of *call* is not used.

        Cancellation: it may be recorded.
        """
        self._ended.pop(call.id, None)
        await self._journal.ended(ToolResult(call.id, name=call.name, outcome="discarded"))


@attrs.define(eq=False)
class _Started:
    """A call that was started early."""

    job: Job
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    done: trio.Event = attrs.field(factory=trio.Event)
    result: ToolResult | None = None


@attrs.define(eq=False)
class _Feeding:
    """The task that starts calls."""

    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    done: trio.Event = attrs.field(factory=trio.Event)


class EarlyCalls:
    """The calls of one answer that may start before it is complete. Made by `open_early_calls`.

    Args:
      nursery: where they run.
      fan_out: checks and runs them.
      journal: of the round.
      context: the sender, session and turn that the calls run for.
      may_start: which tools may.
      execute: runs the calls that have not started, within the slots that it is given.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        fan_out: FanOut,
        journal: HeldJournal,
        context: ToolContext,
        may_start: MayStart,
        execute: Execute,
    ) -> None:
        self._nursery = nursery
        self._fan_out = fan_out
        self._journal = journal
        self._context = context
        self._may_start = may_start
        self._execute = execute
        assert fan_out.slots is not None
        self._slots = fan_out.slots
        self._offered: deque[ToolCall] = deque()
        self._seen: set[str] = set()
        self._deferred: list[Job] = []
        self._started: dict[str, _Started] = {}
        self._feeding: _Feeding | None = None

    def __repr__(self) -> str:
        running = sum(not one.done.is_set() for one in self._started.values())
        return f"<EarlyCalls: {len(self._started)} started, {running} running, {len(self._deferred)} deferred>"

    def offer(self, call: ToolCall) -> None:
        """Start *call* as soon as it may start. Never blocks; a repeated id is ignored."""
        if not call.id or call.id in self._seen:
            return
        self._seen.add(call.id)
        self._offered.append(call)
        if self._feeding is None:
            self._feeding = _Feeding()
            self._nursery.start_soon(self._feed, self._feeding)

    async def discard(self) -> None:
        """Cancel and await every call that has started, and journal it as discarded. New calls may be offered then.

        Cancellation: what runs is cancelled; it is awaited and journalled by the context manager.
        """
        if self._seen:
            self.cancel()
            await self._stop_feeding()
            await self._drop(list(self._started.values()))
            self._forget()
        else:
            await trio.lowlevel.checkpoint()

    async def results(self, calls: Sequence[ToolCall]) -> tuple[ToolResult, ...]:
        """The results of *calls*, those of a complete answer, in their order.

        A call that was started with the same id, name and arguments is adopted. What else was started is discarded.

        Cancellation: every call is cancelled and awaited.
        """
        await self._stop_feeding()
        adopted = [
            call.id for call in calls if (one := self._started.get(call.id)) is not None and one.job.call == call
        ]
        await self._drop([one for name, one in self._started.items() if name not in adopted])
        for call_id in adopted:
            await self._journal.adopt(call_id)
        rest = [call for call in calls if call.id not in adopted]
        found = {answer.call_id: answer for answer in (await self._execute(rest, self._slots) if rest else ())}
        for call_id in adopted:
            one = self._started[call_id]
            await one.done.wait()
            assert one.result is not None
            found[call_id] = one.result
        self._forget()
        return tuple(found[call.id] for call in calls)

    def cancel(self) -> None:
        """Cancel what is running. Never blocks."""
        if self._feeding is not None:
            self._feeding.scope.cancel(reason="the answer did not stand")
        for one in self._started.values():
            one.scope.cancel(reason="the answer did not stand")

    async def journal_discarded(self) -> None:
        """Journal what has started and was not adopted as discarded. For after everything has ended.

        Cancellation: shielded, for a few seconds at most.
        """
        await self._note_discarded(list(self._started.values()))
        self._forget()

    def _forget(self) -> None:
        self._offered.clear()
        self._seen.clear()
        self._deferred.clear()
        self._started.clear()

    async def _stop_feeding(self) -> None:
        feeding, self._feeding = self._feeding, None
        if feeding is not None:
            feeding.scope.cancel(reason="nothing more starts early")
            await feeding.done.wait()
        else:
            await trio.lowlevel.checkpoint()

    async def _drop(self, calls: Sequence[_Started]) -> None:
        for one in calls:
            one.scope.cancel(reason="the answer did not stand")
        for one in calls:
            await one.done.wait()
        await self._note_discarded(calls)

    async def _note_discarded(self, calls: Sequence[_Started]) -> None:
        begun = [one.job.call for one in calls if one.job.started is not None]
        for one in calls:
            self._started.pop(one.job.call.id, None)
        if not begun:
            return
        self._context.observer(
            Noted(
                component="tools",
                what="early calls discarded",
                turn_id=self._context.turn_id,
                details={"calls": [call.id for call in begun]},
            )
        )
        with cleanup_scope(_JOURNAL_GRACE):
            for call in begun:
                try:
                    await self._journal.discard(call)
                except Exception:
                    # Its intent is on record as that of a call that may be repeated: nothing is lost.
                    self._context.log.exception("the discarded call of tool %s was not recorded", call.name)

    # --- starting ----------------------------------------------------------------------------------------

    async def _feed(self, feeding: _Feeding) -> None:
        """Start the offered calls that may start, in their order."""
        try:
            with feeding.scope:
                while self._offered:
                    job = self._fan_out.prepare(self._offered.popleft())
                    await self._fan_out.name_paths([job])
                    if self._starts(job):
                        await self._slots.acquire()
                        started = self._started[job.call.id] = _Started(job)
                        self._nursery.start_soon(self._run, started)
                    else:
                        self._deferred.append(job)
                    # A long answer with many calls must not keep other tasks from running.
                    await trio.lowlevel.checkpoint()
        finally:
            feeding.done.set()
            if self._feeding is feeding:
                self._feeding = None

    def _starts(self, job: Job) -> bool:
        if job.refusal is not None or job.tool is None or job.alone or not self._may_start(job.tool):
            return False
        if self._fan_out.approve is not None and job.tool.metadata.mode != "read_only":
            return False
        if self._deferred and self._fan_out.policy.concurrency == 1:
            # One at a time means in call order.
            return False
        return not any(one.conflicts_with(job) for one in self._deferred)

    async def _run(self, started: _Started) -> None:
        try:
            with started.scope:
                started.result = await self._fan_out.answer(started.job)
        finally:
            self._slots.release()
            started.done.set()


@asynccontextmanager
async def open_early_calls(
    fan_out: FanOut, journal: HeldJournal, may_start: MayStart, execute: Execute
) -> AsyncGenerator[EarlyCalls, None]:
    """Let calls of one answer start while it is streamed.

    Args:
      fan_out: without calls of its own; with *journal* and with slots.
      journal: holds results back until they are adopted.
      may_start: which tools may start early.
      execute: runs the calls that did not, within the slots that it is given.

    Cancellation: every call is cancelled and awaited, and journalled as discarded.
    """
    early: EarlyCalls | None = None
    try:
        async with open_hidden_nursery() as nursery:
            early = EarlyCalls(nursery, fan_out, journal, fan_out.context, may_start, execute)
            try:
                yield early
            finally:
                early.cancel()
    finally:
        if early is not None:
            await early.journal_discarded()  # noqa: ASYNC102 - shielded and bounded inside
