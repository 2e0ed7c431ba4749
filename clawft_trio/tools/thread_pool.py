"""Threads for tools that block: limited in total, per sender and per turn; abandoned threads are counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import attrs
import trio


@attrs.frozen(kw_only=True)
class ThreadStatistics:
    """The state of a pool."""

    limit: int
    #: running threads, abandoned ones included
    running: int
    #: calls that wait for a thread
    waiting: int
    #: running threads of cancelled callers; each keeps its slot until it ends
    abandoned: int


@attrs.define(eq=False)
class _Place:
    """One call's slot in the limiters: the part of a limiter that `to_thread.run_sync` uses, and its state."""

    #: the limiters to acquire, in this order: those of turn and sender before the pool's own
    limiters: tuple[trio.CapacityLimiter, ...]
    on_release: Callable[[], None]
    taken: bool = False
    waits: bool = False

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        held: list[trio.CapacityLimiter] = []
        self.waits = True
        try:
            for limiter in self.limiters:
                await limiter.acquire_on_behalf_of(borrower)
                held.append(limiter)
        except BaseException:
            for limiter in held:
                limiter.release_on_behalf_of(borrower)
            raise
        finally:
            self.waits = False
        self.taken = True

    def release_on_behalf_of(self, borrower: object) -> None:
        self.taken = False
        for limiter in self.limiters:
            limiter.release_on_behalf_of(borrower)
        self.on_release()


class ThreadPool:
    """A limited number of threads; further calls wait.

    Args:
      limit: number of threads of all turns together.
      per_sender: number of threads of one sender's turns; half of *limit* by default, and at least 4.
      per_turn: number of threads of one turn; a quarter of *limit* by default, and at least 4. So the slow tools of one
        turn leave threads for the sender's other turns, and those of one sender leave threads for other senders.
    """

    def __init__(self, limit: int = 32, *, per_sender: int | None = None, per_turn: int | None = None) -> None:
        self._limiter = trio.CapacityLimiter(limit)
        # A small pool has too few threads to divide.
        self._per_sender = max(min(limit, 4), limit // 2) if per_sender is None else per_sender
        self._per_turn = max(min(limit, 4), limit // 4) if per_turn is None else per_turn
        self._shares: dict[tuple[str, str], trio.CapacityLimiter] = {}
        self._left_behind: list[_Place] = []
        self._called: set[_Place] = set()

    async def run(
        self,
        function: Callable[..., Any],
        arguments: Mapping[str, Any],
        *,
        abandon: bool = False,
        sender: str = "",
        turn: str = "",
    ) -> Any:
        """Call *function* with keyword *arguments* in a thread.

        Args:
          abandon: do not wait for the thread on cancellation.
          sender: the sender that the thread counts for; empty for none.
          turn: the turn that the thread counts for; empty for none.

        Cancellation: waits until the function returns, unless it may be abandoned. A long-running function can call
        `trio.from_thread.check_cancelled()`.
        """
        shares = [*self._share("turn", turn, self._per_turn), *self._share("sender", sender, self._per_sender)]
        place = _Place((*shares, self._limiter), self._forget_idle)
        self._called.add(place)

        def call() -> Any:
            return function(**arguments)

        try:
            return await trio.to_thread.run_sync(
                call, abandon_on_cancel=abandon, limiter=cast("trio.CapacityLimiter", place)
            )
        finally:
            self._called.discard(place)
            # trio releases the slot before it returns; while it is taken, the thread still runs.
            if place.taken:
                self._left_behind = [one for one in self._left_behind if one.taken] + [place]
            self._forget_idle()

    def statistics(self) -> ThreadStatistics:
        """Return the current state."""
        tokens = self._limiter.statistics()
        return ThreadStatistics(
            limit=int(tokens.total_tokens),
            running=tokens.borrowed_tokens,
            waiting=sum(one.waits for one in self._called),
            abandoned=sum(one.taken for one in self._left_behind),
        )

    def _share(self, kind: str, name: str, limit: int) -> list[trio.CapacityLimiter]:
        if not name:
            return []
        if (kind, name) not in self._shares:
            self._shares[kind, name] = trio.CapacityLimiter(limit)
        return [self._shares[kind, name]]

    def _forget_idle(self) -> None:
        """Remove the limiters that no call uses or waits for, so that a former sender costs nothing."""
        for key, limiter in list(self._shares.items()):
            found = limiter.statistics()
            if not found.borrowed_tokens and not found.tasks_waiting:
                del self._shares[key]
