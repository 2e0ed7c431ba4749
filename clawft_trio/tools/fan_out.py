"""Concurrent tool calls: every call gets a result, in call order, whatever happens to the others.

A bounded number of workers takes the calls in order. A failure in a call becomes its result. Calls of one turn that
touch the same paths take effect in call order. No task outlives `execute`: cancelling it cancels and awaits every
call.
"""

from __future__ import annotations

import logging
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import attrs
import trio

from clawft_trio.chat import Text, ToolCall, unobserved
from clawft_trio.errors import (
    InvalidArguments,
    PermissionDenied,
    Problem,
    ToolTimeout,
)
from clawft_trio.nursery import cleanup_scope, open_hidden_nursery
from clawft_trio.observe.events import LockWaited, Noted, ToolEnded, ToolStarted
from clawft_trio.observe.redaction import cut_redacted
from clawft_trio.tools.arguments import read_arguments
from clawft_trio.tools.media import MEDIA_LIMIT, Media, split_result
from clawft_trio.tools.path_keys import path_keys
from clawft_trio.tools.path_locks import LockMode, LockRequest, PathLocks, Want, wants_conflict
from clawft_trio.tools.result import ToolOutcome, ToolResult, contained, error_text, outcome_of
from clawft_trio.tools.thread_pool import ThreadPool
from clawft_trio.tools.tool import Tool, ToolContext
from clawft_trio.tools.truncate import RESULT_LIMIT, is_large

_LONGEST_TRACEBACK = 8192
"""Characters of a traceback in the log: its frames, and the beginning of a long message."""

_LONGEST_LOGGED = 300
"""Characters of an error's text in the log line of a tool that raised."""

_LARGE_ARGUMENTS = 2048
"""Characters from which on arguments are read in a thread; up to so many take at most 20 ms."""

_JOURNAL_GRACE = 5.0
"""Seconds in which the result of a finished call must be journalled, even during cancellation."""


@attrs.frozen(kw_only=True)
class FanOutPolicy:
    """Limits on the calls of one turn. Durations are in seconds."""

    #: number of calls that run at once
    concurrency: int = attrs.field(default=16, validator=attrs.validators.ge(1))
    #: seconds that a tool may run, if it has no `total` itself
    total: float = attrs.field(default=120.0, validator=attrs.validators.gt(0))
    #: seconds that a call may wait for paths that other calls hold
    lock_wait: float = attrs.field(default=120.0, validator=attrs.validators.gt(0))
    #: seconds that a call may wait for approval; without a decision it is refused
    approval: float = attrs.field(default=300.0, validator=attrs.validators.gt(0))
    #: largest number of characters of arguments
    longest_arguments: int = attrs.field(default=4 * 1024 * 1024, validator=attrs.validators.ge(1024))
    #: largest size of a result in bytes; longer results are cut
    longest_answer: int = attrs.field(default=RESULT_LIMIT, validator=attrs.validators.ge(1024))
    #: largest size in bytes of one image or file in a result; a larger one is replaced by a line of text
    largest_media: int = attrs.field(default=MEDIA_LIMIT, validator=attrs.validators.ge(0))


@attrs.frozen(kw_only=True)
class ApprovalRequest:
    """A call that waits for approval."""

    #: the tool; `tool.name` and `tool.metadata` describe it
    tool: Tool
    #: values by parameter: checked, converted to the types of the hints, with defaults
    arguments: Mapping[str, Any]
    #: the sender (`auth`), session and workspace of the call
    context: ToolContext


Approve: TypeAlias = Callable[[ApprovalRequest], Awaitable[bool | str]]
"""Decides whether a call may run: True, False, or a refusal as text for the model."""


class ToolJournal(Protocol):
    """A record that survives a crash: the intent before a call, its result after it."""

    async def started(self, call: ToolCall, tool: Tool) -> None:
        """Record that the call is about to run; it runs after this returned. If this raises, the call does not run.

        Cancellation: the call does not run.
        """
        ...

    async def ended(self, answer: ToolResult) -> None:
        """Record the result of a started call. Awaited shielded from cancellation, for a few seconds at most.

        Cancellation: the caller shields it.
        """
        ...


@attrs.define(eq=False)
class Job:
    """A call with its state until it has a result."""

    call: ToolCall
    #: `trio.current_time()` when the call was prepared
    began: float = attrs.field(factory=trio.current_time)
    tool: Tool | None = None
    #: checked arguments with defaults
    arguments: Mapping[str, Any] = attrs.field(factory=dict)
    #: the paths that the call locks
    wants: tuple[Want, ...] = ()
    #: whether it runs only while no other call does
    alone: bool = False
    #: the reason why it cannot run
    refusal: Exception | None = None
    #: `trio.current_time()` when the call began to run
    started: float | None = None
    #: what the tool function returned
    value: object = None
    #: images and files in the value
    media: tuple[Media, ...] = ()

    def conflicts_with(self, other: Job) -> bool:
        """Whether the two may not run concurrently: one runs alone, or one writes a path of the other."""
        if self.refusal is not None or other.refusal is not None:
            return False
        return self.alone or other.alone or wants_conflict(self.wants, other.wants)


@attrs.define(eq=False, kw_only=True)
class FanOut:
    """Runs the calls of one turn. Used once."""

    calls: Sequence[ToolCall]
    context: ToolContext
    #: finds a tool by its name, or raises `UnknownTool` or `PermissionDenied`
    find: Callable[[str], Tool]
    policy: FanOutPolicy
    locks: PathLocks
    threads: ThreadPool
    approve: Approve | None = None
    journal: ToolJournal | None = None
    #: shared with early calls of the same answer; None: only `policy.concurrency` is the limit
    slots: trio.Semaphore | None = None
    #: a queue of this turn's calls during approvals, so that no call overtakes an earlier call that touches the same
    #: paths, and no other turn has to wait for a person
    _line: PathLocks = attrs.field(factory=PathLocks, init=False)
    #: cache of found tools
    _tools: dict[str, Tool] = attrs.field(factory=dict, init=False)

    async def execute(self) -> tuple[ToolResult, ...]:
        """Run every call, and return the results in call order.

        Cancellation: every call is cancelled and awaited; every lock is released.
        """
        if not self.calls:
            await trio.lowlevel.checkpoint()
            return ()
        jobs = [await self.prepare(call) for call in self.calls]
        await self.name_paths(jobs)
        answers: dict[int, ToolResult] = {}
        remaining = deque(enumerate(jobs))

        async def work() -> None:
            while remaining:
                # A tool that never waits must not keep other tasks from running, or prevent its cancellation. The
                # checkpoint comes before a call is taken: a taken call must enter the queue for its locks at once.
                await trio.lowlevel.checkpoint()
                if self.slots is not None:
                    await self.slots.acquire()
                try:
                    if remaining:
                        index, job = remaining.popleft()
                        answers[index] = await self.answer(job)
                finally:
                    if self.slots is not None:
                        self.slots.release()

        workers = min(self.policy.concurrency, len(jobs))
        if workers <= 1:
            await work()
        else:
            async with open_hidden_nursery() as nursery:
                for _ in range(workers):
                    nursery.start_soon(work)
        return tuple(answers[index] for index in range(len(jobs)))

    async def prepare(self, call: ToolCall) -> Job:
        """Find the tool of *call* and check its arguments; a failure becomes the refusal of the job.

        Cancellation: nothing has begun.
        """
        # A turn may have thousands of calls, and each takes up to some milliseconds here.
        await trio.lowlevel.checkpoint()
        job = Job(call)
        try:
            job.tool = self._tools.get(call.name) or self._tools.setdefault(call.name, self.find(call.name))
            job.arguments = await self._arguments(call, job.tool)
            job.alone = job.tool.metadata.mode == "exclusive"
        except Exception as exc:  # noqa: BLE001 - a check may be foreign code, and only this call is refused
            job.refusal = exc
        return job

    async def _arguments(self, call: ToolCall, tool: Tool) -> Mapping[str, Any]:
        if len(call.arguments) > self.policy.longest_arguments:
            raise InvalidArguments([Problem("$", f"longer than {self.policy.longest_arguments} characters")])
        work = partial(read_arguments, call.arguments, tool.parameters, tool.check, lenient=tool.metadata.lenient)
        large = len(call.arguments) > _LARGE_ARGUMENTS
        read = await trio.to_thread.run_sync(work, abandon_on_cancel=True) if large else work()
        if read.repairs:
            self.context.observer(
                Noted(
                    component="tools",
                    what="arguments repaired",
                    turn_id=self.context.turn_id,
                    details={"tool": tool.name, "tool_call_id": call.id, "places": list(read.repairs)},
                )
            )
        return read.values

    async def name_paths(self, jobs: Sequence[Job]) -> None:
        """Find the paths that each call locks: one call in a thread for all paths of the turn.

        Cancellation: no job has its paths yet.
        """
        named = [(job, paths) for job in jobs if (paths := _paths(job, self.context.workspace))]
        if named:
            # Abandoned on cancellation, because a path on a mount that hangs would block the thread endlessly.
            await trio.to_thread.run_sync(_want_paths, named, abandon_on_cancel=True, limiter=self.locks.threads)

    async def answer(self, job: Job) -> ToolResult:
        """Run *job* and return its result. A failure becomes the result.

        Cancellation: the call is cancelled and awaited; its locks are released.
        """
        error: Exception | None = None
        try:
            text = await self._run(job)
        except (Exception, SystemExit, BaseExceptionGroup) as exc:  # noqa: BLE001 - a tool may raise anything
            error = self._contain(job, exc)
            text = error_text(error)
        except BaseException:
            # Cancelled, or control flow of the caller: this call has no result.
            self._report_end(job, "cancelled", trio.current_time())
            raise
        answer = self._close(job, text, error)
        if self.journal is not None and job.started is not None:
            await self._record(self.journal, answer)
        return answer

    async def _run(self, job: Job) -> str:
        if job.refusal is not None:
            raise job.refusal
        assert job.tool is not None
        if self.approve is None:
            return await self._run_locked(job, job.tool)
        place = self._line.request(job.wants, alone=job.alone)
        try:
            await self._approved(self.approve, job, job.tool)
            await self._wait(place, job, self.context.deadline)
            return await self._run_locked(job, job.tool)
        finally:
            place.release()

    async def _run_locked(self, job: Job, tool: Tool) -> str:
        # No checkpoint between taking a call and entering the queue: that keeps calls in order.
        request = self.locks.request(job.wants, alone=job.alone)
        try:
            if not request.granted:
                await self._wait(request, job, trio.current_time() + self.policy.lock_wait)
            return await self._run_timed(job, tool)
        finally:
            request.release()

    async def _run_timed(self, job: Job, tool: Tool) -> str:
        now = trio.current_time()
        if now >= self.context.deadline:
            raise ToolTimeout("not started: the time for all calls is over", tool=tool.name)
        if self.journal is not None:
            await self.journal.started(job.call, tool)
            now = trio.current_time()
        job.started = now
        total = self.policy.total if tool.metadata.total is None else tool.metadata.total
        context = self._context_of(job, min(now + total, self.context.deadline))
        self._report_start(job, now)
        scope = trio.CancelScope(deadline=context.deadline)
        try:
            with scope:
                return await self._text_of(job, await tool.function(job.arguments, context))
        except Exception as exc:
            # An error that the tool raises while its time limit cancels it does not change the reason of its end.
            if scope.cancelled_caught:
                raise _too_slow(tool, context.deadline - now) from exc
            raise
        raise _too_slow(tool, context.deadline - now)

    async def _approved(self, approve: Approve, job: Job, tool: Tool) -> None:
        if tool.metadata.mode == "read_only":
            return
        deadline = min(trio.current_time() + self.policy.approval, self.context.deadline)
        request = ApprovalRequest(tool=tool, arguments=job.arguments, context=self._context_of(job, deadline))
        decision: bool | str = "no decision in time"
        with trio.CancelScope(deadline=deadline):
            try:
                decision = await approve(request)
            except Exception as exc:
                # Only the class: the text of the error may hold secrets. The whole error is the cause.
                problem = f"the approval failed with {type(exc).__name__}"
                raise PermissionDenied(f"This call was not approved: {problem}.") from exc
        if decision is True and trio.current_time() > deadline:
            # A function that shields its question from the deadline: the person may have answered another situation.
            decision = "the decision came too late"
        if decision is not True:
            raise PermissionDenied("This call was not approved" + (f": {decision}" if decision else "."))

    async def _wait(self, request: LockRequest, job: Job, until: float) -> None:
        began = trio.current_time()
        with trio.CancelScope(deadline=min(until, self.context.deadline)):
            await request.wait_granted()
        waited = trio.current_time() - began
        if waited or not request.granted:
            self._report_wait(job, waited)
        if not request.granted:
            raise ToolTimeout(f"other calls held what it needs for {waited:g} s; it has not started")

    async def _record(self, journal: ToolJournal, answer: ToolResult) -> None:
        with cleanup_scope(_JOURNAL_GRACE):
            try:
                await journal.ended(answer)
            except Exception:
                # The call has run, and its result is used; after a crash its outcome is unknown.
                self.context.log.exception("the answer of tool %s was not recorded", answer.name)

    def _context_of(self, job: Job, deadline: float) -> ToolContext:
        return self.context.of_call(job.call.id, job.call.name, deadline=deadline, threads=self.threads)

    async def _text_of(self, job: Job, returned: object) -> str:
        """Keep the data and media that a tool returned; return the text for the model."""
        shown = returned
        job.value = returned
        if isinstance(returned, ToolResult):
            shown, job.value = [Text(returned.text), *returned.parts], returned.data
        limits = self.policy
        split = partial(split_result, shown, limit=limits.longest_answer, media_limit=limits.largest_media)
        if is_large(shown):
            text, job.media = await trio.to_thread.run_sync(split, abandon_on_cancel=True)
        else:
            text, job.media = split()
        return text

    def _contain(self, job: Job, exc: BaseException) -> Exception:
        try:
            error = contained(exc, tool=job.call.name)
        except BaseException:
            # A group held cancellation or control flow of the caller, which is raised without the other errors.
            self._report_end(job, "cancelled", trio.current_time())
            raise
        if error.__cause__ is exc:
            shown = cut_redacted(" ".join(str(error).split()), _LONGEST_LOGGED)
            self.context.log.warning("tool %s failed: %s", job.call.name, shown)
            if self.context.log.isEnabledFor(logging.DEBUG):
                lines = cut_redacted("".join(traceback.format_exception(exc)), _LONGEST_TRACEBACK)
                self.context.log.debug("traceback of tool %s:\n%s", job.call.name, lines)
        return error

    def _close(self, job: Job, text: str, error: Exception | None) -> ToolResult:
        now = trio.current_time()
        outcome = "ok" if error is None else outcome_of(error)
        self._report_end(job, outcome, now, error)
        started = now if job.started is None else job.started
        return ToolResult(
            job.call.id,
            name=job.call.name,
            text=text,
            outcome=outcome,
            duration=now - started,
            waited=started - job.began,
            error=error,
            data=job.value if error is None else None,
            parts=job.media if error is None else (),
        )

    def _report_start(self, job: Job, now: float) -> None:
        if self.context.observer is unobserved:
            return
        self.context.observer(
            ToolStarted(
                at=now,
                tool=job.call.name,
                tool_call_id=job.call.id,
                turn_id=self.context.turn_id,
                waited=now - job.began,
            )
        )

    def _report_wait(self, job: Job, waited: float) -> None:
        paths = tuple("/".join(key) for key, _ in job.wants)
        self.context.observer(
            LockWaited(tool_call_id=job.call.id, turn_id=self.context.turn_id, paths=paths, waited=waited)
        )

    def _report_end(self, job: Job, outcome: ToolOutcome, now: float, error: Exception | None = None) -> None:
        if self.context.observer is unobserved:
            return
        self.context.observer(
            ToolEnded(
                at=now,
                tool=job.call.name,
                tool_call_id=job.call.id,
                turn_id=self.context.turn_id,
                outcome=outcome,
                duration=0.0 if job.started is None else now - job.started,
                error=error,
            )
        )


def _too_slow(tool: Tool, limit: float) -> ToolTimeout:
    return ToolTimeout(f"not finished after {limit:g} s", tool=tool.name)


def _paths(job: Job, workspace: Path | None) -> list[tuple[str | Path, Path | None, LockMode]]:
    if job.tool is None or job.refusal is not None or job.alone:
        return []
    known = job.tool.metadata
    root = workspace if known.root is None else known.root
    named: tuple[tuple[tuple[str, ...], LockMode], ...] = ((known.reads, "read"), (known.writes, "write"))
    return [(path, root, mode) for names, mode in named for name in names for path in _each(job.arguments.get(name))]


def _each(value: object) -> Iterator[str | Path]:
    if isinstance(value, str | Path):
        yield value
    elif isinstance(value, list | tuple | set | frozenset):
        for one in value:
            yield from _each(one)


def _want_paths(named: Sequence[tuple[Job, list[tuple[str | Path, Path | None, LockMode]]]]) -> None:
    """Set the paths that each job locks. Blocks."""
    for job, paths in named:
        try:
            keys = [(path_keys([path], root)[0], mode) for path, root, mode in paths]
        except (ValueError, OSError) as exc:
            job.refusal = InvalidArguments([Problem("$", f"no usable path: {exc}")])
        else:
            job.wants = tuple(keys)
