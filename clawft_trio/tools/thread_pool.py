"""Threads for tools that block: bounded, and counted when they are left behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import attrs
import trio


@attrs.frozen(kw_only=True)
class ThreadStatistics:
    """What a pool is doing."""

    limit: int
    #: threads at work, those left behind included
    running: int
    #: calls that wait for a thread
    waiting: int
    #: threads whose caller was cancelled and did not wait; each keeps its place until it ends
    abandoned: int


@attrs.define(eq=False)
class _Place:
    """One call's place among the threads: what `to_thread.run_sync` needs of a limiter, and remembers."""

    limiter: trio.CapacityLimiter
    taken: bool = False

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        await self.limiter.acquire_on_behalf_of(borrower)
        self.taken = True

    def release_on_behalf_of(self, borrower: object) -> None:
        self.taken = False
        self.limiter.release_on_behalf_of(borrower)


class ThreadPool:
    """At most *limit* threads at once; further calls wait."""

    def __init__(self, limit: int = 16) -> None:
        self._limiter = trio.CapacityLimiter(limit)
        self._left_behind: list[_Place] = []

    async def run(self, function: Callable[..., Any], arguments: Mapping[str, Any], *, abandon: bool = False) -> Any:
        """Call *function* with keyword *arguments* in a thread.

        Cancellation: waits until the function returns, unless it may be abandoned. A function that takes long
        may look with `trio.from_thread.check_cancelled()`.
        """
        place = _Place(self._limiter)
        try:
            return await trio.to_thread.run_sync(
                partial(function, **arguments), abandon_on_cancel=abandon, limiter=cast("trio.CapacityLimiter", place)
            )
        finally:
            # trio gives the place back before it returns; still taken, the thread is on its own.
            if place.taken:
                self._left_behind = [one for one in self._left_behind if one.taken] + [place]

    def statistics(self) -> ThreadStatistics:
        """What is going on now."""
        tokens = self._limiter.statistics()
        return ThreadStatistics(
            limit=int(tokens.total_tokens),
            running=tokens.borrowed_tokens,
            waiting=tokens.tasks_waiting,
            abandoned=sum(one.taken for one in self._left_behind),
        )
