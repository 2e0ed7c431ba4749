"""Timeouts that cancel: clocks for the first content, for the gap between content, and for the whole operation.

The clocks before the first event (connect, first byte) belong to the transport.
"""

from __future__ import annotations

from math import inf
from typing import TypeVar

import attrs
import trio
from attrs.validators import gt, optional

from clawft_trio.chat import (
    Call,
    LifeSign,
    Reset,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallSealed,
    is_content,
)
from clawft_trio.errors import ConsumerLeft, ProviderTimeout
from clawft_trio.nursery import raise_one
from clawft_trio.resilience.strategy import Attempt, Policy
from clawft_trio.resilience.visibility import Shown, partial_response, shown_of

T = TypeVar("T")

_limit = attrs.field(default=None, validator=optional(gt(0)))


@attrs.frozen(kw_only=True)
class Timeout(Policy):
    """Cancel an attempt that takes too long, by several clocks in seconds; None is no limit.

    `first_content` runs until the first text, reasoning or tool call, `gap` from content to content. Signs of activity
    restart both: usage, an empty delta, the start of a block; during long work of the target (it thinks, a local server
    loads its model) the clock is at least as long as the provider states with `Call.pulse`. Pings and comments are no
    signs. The consumer's time, and the attempt's waits in this process for a slot or a connection, do not count. An
    answer that arrives as a whole (`Call.unary`) has neither clock before its first content. `total` limits the whole
    operation.

    Nothing is shared between calls.
    """

    #: seconds until the first content of an answer; None: no limit
    first_content: float | None = _limit
    #: seconds between two pieces of content; pings do not count; None: no limit
    gap: float | None = _limit
    #: the gap after a fragment of a tool call, where some providers buffer the arguments and are silent for
    #: minutes; None: the same as `gap`
    tool_gap: float | None = _limit
    #: seconds for the whole operation; None: no limit
    total: float | None = _limit

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt* within the clocks.

        Raises:
          ProviderTimeout: a clock of this policy expired; `clock` names it, `partial` holds the content so far. A
            deadline of the caller passes through as cancellation.

        Cancellation: the attempt is cancelled and awaited.
        """
        if self.total is None:
            return await self._watch(attempt, call)
        shown = shown_of(call)
        with trio.move_on_after(self.total) as scope:
            return await self._watch(attempt, call.showing(shown))
        assert scope.cancelled_caught
        raise _expired("total", self.total, shown)

    async def _watch(self, attempt: Attempt[T], call: Call) -> T:
        if self.first_content is None and self.gap is None and self.tool_gap is None:
            return await attempt(call)
        watch = _Watch(shown_of(call), call, self)
        results: list[T] = []
        failures: list[BaseException] = []
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch.wait_for_expiry, nursery.cancel_scope)
                try:
                    results.append(await attempt(call.replaced(emit=watch.emit, pulse=watch.pulse)))
                except (Exception, ConsumerLeft) as exc:  # noqa: BLE001  # re-raised below, outside the nursery
                    failures.append(exc)
                nursery.cancel_scope.cancel(reason="attempt ended")
        except BaseExceptionGroup as group:
            raise_one(group)
        if failures:
            raise failures[0]
        if results:
            return results[0]
        raise _expired(*watch.expired, watch.shown)


def _expired(clock: str, limit: float, shown: Shown) -> ProviderTimeout:
    error = ProviderTimeout(clock=clock, limit=limit)
    error.partial = partial_response(shown.so_far())
    return error


class _Watch:
    """An `emit` and a `pulse` that record the times of events and signs, and a task that checks these times.

    To move a deadline costs 1.8 microseconds; a record costs a tenth of that, and is all that happens per event.
    """

    def __init__(self, shown: Shown, call: Call, limits: Timeout) -> None:
        #: the clock that expired and its limit
        self.expired = ("first_content", 0.0)
        self.shown = shown
        self._pulse = call.pulse
        self._first = inf if limits.first_content is None else limits.first_content
        self._gap = inf if limits.gap is None else limits.gap
        self._tool_gap = self._gap if limits.tool_gap is None else limits.tool_gap
        # The class of the last content; None before the first.
        self._kind: type[StreamEvent] | None = None
        # The consumer handles an event, or the attempt waits in this process: no clock runs.
        self._passing = False
        self._waiting = False
        # Seconds for which the target may be silent, by the last sign.
        self._quiet_for = inf if call.unary else 0.0
        self._last = trio.current_time()

    async def emit(self, event: StreamEvent) -> None:
        if not (event.text if type(event) is TextDelta else is_content(event)):
            await self._pass_by(event)
            return
        # No clock runs while the consumer handles the event.
        self._passing = True
        self._kind = type(event)
        self._quiet_for = 0.0
        try:
            await self.shown(event)
        finally:
            # Also after a cancellation there: a retry below may continue, and its clocks have to run.
            self._last = trio.current_time()
            self._passing = False

    async def _pass_by(self, event: StreamEvent) -> None:
        """Pass on an event without content: usage and empty deltas are signs, a `Reset` begins another attempt."""
        self._passing = True
        try:
            await self.shown(event)
        finally:
            self._last = trio.current_time()
            self._passing = False
        if isinstance(event, Reset):
            # The clock for the first content starts again for the next attempt.
            self._kind, self._quiet_for = None, 0.0

    def pulse(self, sign: LifeSign, quiet_for: float) -> None:
        self._pulse(sign, quiet_for)
        self._waiting = sign == "waiting"
        if sign == "alive" and self._kind is not None:
            # After content, the gap clock applies.
            return
        if sign in {"alive", "thinking"} or quiet_for > self._quiet_for:
            self._quiet_for = quiet_for
        self._last = trio.current_time()

    async def wait_for_expiry(self, scope: trio.CancelScope) -> None:
        """Cancel *scope* exactly when a clock expires."""
        while True:
            limit = self._limit()
            now = trio.current_time()
            due = (now if self._passing or self._waiting else self._last) + limit
            if due <= now:
                self.expired = ("first_content" if self._kind is None else "gap", limit)
                scope.cancel(reason=f"no {self.expired[0]} within {limit:g} s")
                return
            # Signs only move `due` later, except that they may start a shorter clock.
            await trio.sleep_until(min(due, now + self._first, now + self._gap, now + self._tool_gap))

    def _limit(self) -> float:
        gap = self._tool_gap if self._kind in {ToolCallDelta, ToolCallSealed} else self._gap
        return max(self._first if self._kind is None else gap, self._quiet_for)
