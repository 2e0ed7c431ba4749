"""Clocks that really cancel: first content, the gap between content, and the whole.

The clocks below the first event (connect, first byte) belong to the transport.
"""

from __future__ import annotations

from math import inf
from typing import TypeVar

import attrs
import trio
from attrs.validators import gt, optional

from clawft_trio.chat import CONTENT, Call, Emit, Reset, StreamEvent, ToolCallDelta
from clawft_trio.errors import ConsumerLeft, ProviderTimeout
from clawft_trio.nursery import raise_one
from clawft_trio.resilience.strategy import Attempt, Policy

T = TypeVar("T")

_limit = attrs.field(default=None, validator=optional(gt(0)))


@attrs.frozen(kw_only=True)
class Timeout(Policy):
    """Give up on an attempt that takes too long, each clock in seconds, None for no limit.

    `first_content` runs until the first text, reasoning or tool call; an attempt that shows nothing until its
    end has to end within it. `gap` runs from content to content; pings, comments and usage do not reset it.
    Time that the consumer takes counts for neither. `total` bounds everything, the consumer's time included.
    """

    first_content: float | None = _limit
    gap: float | None = _limit
    #: the gap after a fragment of a tool call, where some providers buffer the arguments and are silent for
    #: minutes; None: the same as `gap`
    tool_gap: float | None = _limit
    total: float | None = _limit

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt* within the clocks.

        Raises:
          ProviderTimeout: a clock of this policy ran out; `clock` says which. A deadline of somebody else's is
            theirs and passes as cancellation.

        Cancellation: the attempt is cancelled and waited for.
        """
        if self.total is None:
            return await self._watch(attempt, call)
        with trio.move_on_after(self.total) as scope:
            return await self._watch(attempt, call)
        assert scope.cancelled_caught
        raise ProviderTimeout(clock="total", limit=self.total)

    async def _watch(self, attempt: Attempt[T], call: Call) -> T:
        if self.first_content is None and self.gap is None and self.tool_gap is None:
            return await attempt(call)
        watch = _Watch(call.emit, self)
        results: list[T] = []
        failures: list[BaseException] = []
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch.bark)
                try:
                    with watch.scope:
                        results.append(await attempt(call.showing(watch)))
                except (Exception, ConsumerLeft) as exc:  # noqa: BLE001  # re-raised below, outside the nursery
                    failures.append(exc)
                nursery.cancel_scope.cancel(reason="attempt ended")
        except BaseExceptionGroup as group:
            raise_one(group)
        if failures:
            raise failures[0]
        if results:
            return results[0]
        clock, limit = watch.expired
        raise ProviderTimeout(clock=clock, limit=limit)


class _Watch:
    """An `emit` that notes when content passes, and the one task that looks at the note.

    Moving a deadline costs 1.8 microseconds; a note costs a tenth of it, and is all that happens per event.
    """

    __slots__ = ("_emit", "_first", "_gap", "_kind", "_last", "_passing", "_tool_gap", "expired", "scope")

    def __init__(self, emit: Emit, limits: Timeout) -> None:
        self.scope = trio.CancelScope()
        #: the clock that ran out and its limit
        self.expired = ("first_content", 0.0)
        self._emit = emit
        self._first = inf if limits.first_content is None else limits.first_content
        self._gap = inf if limits.gap is None else limits.gap
        self._tool_gap = self._gap if limits.tool_gap is None else limits.tool_gap
        # The class of the last content; None before the first.
        self._kind: type[StreamEvent] | None = None
        self._passing = False
        self._last = trio.current_time()

    async def __call__(self, event: StreamEvent) -> None:
        if not isinstance(event, CONTENT):
            await self._pass_by(event)
            return
        # While the consumer has it, no clock runs.
        self._passing = True
        self._kind = type(event)
        try:
            await self._emit(event)
        finally:
            # Also when it was cancelled there: a retry below may go on, and has to be watched again.
            self._last = trio.current_time()
            self._passing = False

    async def _pass_by(self, event: StreamEvent) -> None:
        """Show what is no content: it starts no clock anew, and the consumer's time counts for none."""
        began = trio.current_time()
        self._passing = True
        try:
            await self._emit(event)
        finally:
            self._last += trio.current_time() - began
            self._passing = False
        if isinstance(event, Reset):
            # Another attempt begins below: its first content has a clock of its own.
            self._kind, self._last = None, trio.current_time()

    async def bark(self) -> None:
        """Cancel the scope at the very moment at which a clock runs out."""
        while True:
            limit = self._limit()
            now = trio.current_time()
            due = (now if self._passing else self._last) + limit
            if due <= now:
                self.expired = ("first_content" if self._kind is None else "gap", limit)
                self.scope.cancel(reason=f"no {self.expired[0]} within {limit:g} s")
                return
            # Content only moves `due` further, except that it may start a shorter clock.
            await trio.sleep_until(min(due, now + self._first, now + self._gap, now + self._tool_gap))

    def _limit(self) -> float:
        if self._kind is None:
            return self._first
        return self._tool_gap if self._kind is ToolCallDelta else self._gap
