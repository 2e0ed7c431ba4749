"""The registry of tools: holds them by name, checks permissions, runs calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager

import attrs
import trio

from clawft_trio.auth import UserPermissions, matches_any
from clawft_trio.chat import ToolCall, ToolSpec
from clawft_trio.errors import ToolDenied, UnknownTool
from clawft_trio.observe.events import Noted
from clawft_trio.similar import closest
from clawft_trio.tools.call_ids import repair_ids
from clawft_trio.tools.early import EarlyCalls, HeldJournal, MayStart, open_early_calls
from clawft_trio.tools.fan_out import Approve, FanOut, FanOutPolicy, ToolJournal
from clawft_trio.tools.path_locks import LockStatistics, PathLocks
from clawft_trio.tools.result import ToolResult
from clawft_trio.tools.thread_pool import ThreadPool, ThreadStatistics
from clawft_trio.tools.tool import Tool, ToolContext, named


@attrs.frozen(kw_only=True)
class ToolStatistics:
    """The state of a registry."""

    tools: int
    locks: LockStatistics
    threads: ThreadStatistics


_MOST_KNOWN = 256
"""Number of permissions with a cached list of allowed tools."""


class ToolRegistry:
    """Tools by name, with the locks and the threads that their calls share.

    Args:
      tools: the first tools.
      policy: the limits of calls.
      approve: called before every call that may change something; None: no approval.
      threads: number of synchronous tools that run at once, in all turns together; half of them for one sender, a
        quarter for one turn.
    """

    def __init__(
        self,
        tools: Iterable[Tool] = (),
        *,
        policy: FanOutPolicy | None = None,
        approve: Approve | None = None,
        threads: int = 32,
    ) -> None:
        self.policy: FanOutPolicy = FanOutPolicy() if policy is None else policy
        self.approve: Approve | None = approve
        #: for code that must not use the tools' paths at the same time
        self.locks: PathLocks = PathLocks()
        self._threads = ThreadPool(threads)
        self._tools: dict[str, Tool] = {}
        self._watchers: list[Callable[[], None]] = []
        #: by `id` of the permissions, which are stored, too, so that the `id` is not reused
        self._allowed: dict[int, tuple[UserPermissions, tuple[Tool, ...]]] = {}
        for tool in tools:
            self.add(tool)

    def __repr__(self) -> str:
        return f"<ToolRegistry: {', '.join(sorted(self._tools)) or 'empty'}>"

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def __iter__(self) -> Iterator[Tool]:
        return iter([self._tools[name] for name in sorted(self._tools)])

    def __len__(self) -> int:
        return len(self._tools)

    def add(self, tool: Tool, *, replace: bool = False) -> None:
        """Add *tool*; running calls continue with the tool that they started with.

        Raises:
          ValueError: a tool of that name exists, and *replace* is not set.
          TypeError: *tool* is no `Tool`; `@tool` makes one from a function.
        """
        given: object = tool
        if not isinstance(given, Tool):
            name = getattr(given, "__qualname__", repr(given))
            raise TypeError(f"{name} is no tool: write @tool above the function, or pass tool({name})")
        if tool.name in self._tools and not replace:
            raise ValueError(f"there is a tool named {tool.name!r} already")
        self._tools[tool.name] = tool
        self._report_change()

    def remove(self, name: str) -> Tool:
        """Remove a tool and return it.

        Raises:
          UnknownTool: there is no tool of that name.
        """
        try:
            removed = self._tools.pop(name)
        except KeyError:
            raise UnknownTool(f"There is no tool named {name!r}.", tool=name) from None
        self._report_change()
        return removed

    @contextmanager
    def watching(self, watcher: Callable[[], None]) -> Iterator[None]:
        """Call *watcher* each time a tool is added, replaced or removed inside the block; it must be sync and fast."""
        self._watchers.append(watcher)
        try:
            yield
        finally:
            self._watchers.remove(watcher)

    def _report_change(self) -> None:
        self._allowed.clear()
        for watcher in list(self._watchers):
            watcher()

    def get(self, name: str) -> Tool | None:
        """Return the tool called *name*, regardless of permissions; None when there is none."""
        return self._tools.get(name)

    def narrowed(self, tools: Iterable[Tool], patterns: Iterable[str] = ()) -> ToolRegistry:
        """Make a registry of *tools* and of the tools here with a name that matches one of *patterns*.

        It shares the locks, the threads, the policy and the approval of this one.
        """
        wanted = tuple(patterns)
        own = list(tools)
        names = {tool.name for tool in own}
        shared = [tool for tool in self if tool.name not in names and matches_any(tool.name, wanted)]
        narrow = ToolRegistry([*own, *shared], policy=self.policy, approve=self.approve)
        narrow.locks, narrow._threads = self.locks, self._threads
        return narrow

    def specs(self, permissions: UserPermissions) -> tuple[ToolSpec, ...]:
        """Return the tools that *permissions* allow, sorted by name, as sent to a model."""
        return tuple(tool.spec for tool in self.allowed(permissions))

    def allowed(self, permissions: UserPermissions) -> tuple[Tool, ...]:
        """Return the tools that *permissions* allow, sorted by name."""
        # Cached, because each round of a turn calls this several times, and matching patterns of many tools takes long.
        known = self._allowed.get(id(permissions))
        if known is None:
            if len(self._allowed) >= _MOST_KNOWN:
                self._allowed.clear()
            known = permissions, tuple(tool for tool in self if tool.allowed(permissions))
            self._allowed[id(permissions)] = known
        return known[1]

    def find(self, name: str, permissions: UserPermissions) -> Tool:
        """Return the tool called *name*, if *permissions* allow it.

        Missing and forbidden tools give the same message, so that it does not reveal which tools exist.

        Raises:
          UnknownTool: there is no such tool, and *permissions* would allow one of that name.
          ToolDenied: *permissions* do not allow a tool of that name, whether or not it exists.
        """
        tool = self._tools.get(name)
        if tool is not None and tool.allowed(permissions):
            return tool
        usable = [one.name for one in self if one.allowed(permissions)]
        near = closest(name, usable)
        hint = f" Did you mean {near[0]!r}?" if near else f" You may use: {', '.join(usable[:20]) or 'none'}."
        message = f"There is no tool named {name[:64]!r} that you may use.{hint}"
        if tool is not None or not named((name,), permissions):
            raise ToolDenied(message)
        raise UnknownTool(message, tool=name)

    async def execute_all(
        self,
        calls: Sequence[ToolCall],
        context: ToolContext,
        *,
        approve: Approve | None = None,
        journal: ToolJournal | None = None,
    ) -> tuple[ToolResult, ...]:
        """Run *calls* concurrently, and return their results in call order.

        Nothing in a call raises here: an error, a timeout or a refusal becomes its result. At `context.deadline`,
        unfinished calls get a timeout as result.

        Args:
          calls: the calls as the model wrote them. Missing and repeated ids are repaired as `repair_ids` does, which an
            event reports.
          context: the sender, session and turn; each call gets a copy with its own ids and deadline.
          approve: replaces the registry's own.
          journal: records the intent before, and the result after each call.

        Cancellation: all calls are cancelled and awaited, and all locks released.
        """
        repaired = repair_ids(calls)
        self._report_repairs(calls, repaired, context)
        return await self._fan_out(repaired, context, approve=approve, journal=journal).execute()

    def open_early_calls(
        self, context: ToolContext, *, journal: ToolJournal, may_start: MayStart
    ) -> AbstractAsyncContextManager[EarlyCalls]:
        """Open the early calls of one answer, which start while it is streamed; `results` is like `execute_all`.

        Args:
          context: as for `execute_all`.
          journal: receives intents at once, and results when the answer is used.
          may_start: returns whether a tool's calls may start early.
        """
        slots = trio.Semaphore(self.policy.concurrency)
        held = HeldJournal(journal)

        async def execute(calls: Sequence[ToolCall], slots: trio.Semaphore) -> tuple[ToolResult, ...]:
            return await self._fan_out(calls, context, journal=journal, slots=slots).execute()

        fan_out = self._fan_out((), context, journal=held, slots=slots)
        return open_early_calls(fan_out, held, may_start, execute)

    def _fan_out(
        self,
        calls: Sequence[ToolCall],
        context: ToolContext,
        *,
        approve: Approve | None = None,
        journal: ToolJournal | None = None,
        slots: trio.Semaphore | None = None,
    ) -> FanOut:
        return FanOut(
            calls=calls,
            context=context,
            find=lambda name: self.find(name, context.auth.permissions),
            policy=self.policy,
            locks=self.locks,
            threads=self._threads,
            approve=self.approve if approve is None else approve,
            journal=journal,
            slots=slots,
        )

    def statistics(self) -> ToolStatistics:
        """Return the current state."""
        return ToolStatistics(tools=len(self._tools), locks=self.locks.statistics(), threads=self._threads.statistics())

    def _report_repairs(self, calls: Sequence[ToolCall], repaired: Sequence[ToolCall], context: ToolContext) -> None:
        changed = {fresh.id: call.id for call, fresh in zip(calls, repaired, strict=True) if fresh.id != call.id}
        if changed:
            context.observer(
                Noted(component="tools", what="call ids repaired", turn_id=context.turn_id, details={"was": changed})
            )
