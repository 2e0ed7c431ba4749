"""Tool calls that start before the answer that contains them is complete.

A call starts early if its tool may, it needs no approval, and no deferred earlier call of the same answer touches the
same paths or runs alone. Locks, the limit on concurrent calls, time limits and permissions are those of `FanOut`. If
the answer is not used, `discard` cancels and awaits the running calls, and journals each started call with the outcome
`discarded`; its result is never returned.
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
"""Seconds in which discarded calls must be journalled, even during cancellation."""

MayStart: TypeAlias = Callable[[Tool], bool]
"""Returns whether calls of a tool may start before their answer is complete."""

Execute: TypeAlias = Callable[[Sequence[ToolCall], trio.Semaphore], Awaitable[tuple[ToolResult, ...]]]
"""Runs the calls that have not started, each within the slots."""


class HeldJournal:
    """A `ToolJournal` that records intents at once, and results only when the answer with the calls is used.

    After a crash, no result of a discarded answer can be taken for the result of a call with the same id.

    Args:
      journal: receives the records.
    """

    def __init__(self, journal: ToolJournal) -> None:
        self._journal = journal
        self._adopted: set[str] = set()
        self._ended: dict[str, ToolResult] = {}

    async def started(self, call: ToolCall, tool: Tool) -> None:
        """Record that *call* will run now.

        Cancellation: the call does not run.
        """
        await self._journal.started(call, tool)

    async def ended(self, answer: ToolResult) -> None:
        """Record the result if the call is adopted, else keep it.

        Cancellation: the caller shields it.
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

        Cancellation: the record may be written.
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
    """The calls of one answer that may start before the answer is complete. Made by `open_early_calls`.

    Args:
      nursery: the nursery of the calls.
      fan_out: checks and runs the calls.
      journal: the journal of the round.
      context: the sender, session and turn that the calls run for.
      may_start: returns whether a tool's calls may start early.
      execute: runs the calls that have not started, within the given slots.
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
        """Cancel and await every started call, and journal it as discarded. Afterwards new calls may be offered.

        Cancellation: running calls are cancelled; the context manager awaits and journals them.
        """
        if self._seen:
            self.cancel()
            await self._stop_feeding()
            await self._drop(list(self._started.values()))
            self._forget()
        else:
            await trio.lowlevel.checkpoint()

    async def results(self, calls: Sequence[ToolCall]) -> tuple[ToolResult, ...]:
        """Return the results of *calls*, those of a complete answer, in their order.

        A started call with the same id, name and arguments is adopted. Other started calls are discarded.

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
        """Cancel the running calls. Never blocks."""
        if self._feeding is not None:
            self._feeding.scope.cancel(reason="the answer did not stand")
        for one in self._started.values():
            one.scope.cancel(reason="the answer did not stand")

    async def journal_discarded(self) -> None:
        """Journal started calls that were not adopted as discarded. Called after all of them have ended.

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
                    # Its intent is journalled, and the call may be repeated: nothing is lost.
                    self._context.log.exception("the discarded call of tool %s was not recorded", call.name)

    async def _feed(self, feeding: _Feeding) -> None:
        """Start the offered calls that may start, in their order."""
        try:
            with feeding.scope:
                while self._offered:
                    job = await self._fan_out.prepare(self._offered.popleft())
                    await self._fan_out.name_paths([job])
                    if self._starts(job):
                        await self._slots.acquire()
                        started = self._started[job.call.id] = _Started(job)
                        self._nursery.start_soon(self._run, started)
                    else:
                        self._deferred.append(job)
                    # An answer with many calls must not keep other tasks from running.
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
            # With one call at a time, calls run in call order.
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
    """Open the early calls of one answer.

    Args:
      fan_out: has no calls itself, but *journal* and slots.
      journal: keeps results until they are adopted.
      may_start: returns whether a tool's calls may start early.
      execute: runs the calls that did not start early, within the given slots.

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
