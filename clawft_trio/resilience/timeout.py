"""Clocks that really cancel: first content, the gap between content, and the whole.

The clocks below the first event (connect, first byte) belong to the transport.
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
    """Give up on an attempt that takes too long, each clock in seconds, None for no limit.

    `first_content` runs until the first text, reasoning or tool call, `gap` from content to content. Signs of life
    start both anew: usage, an empty delta, the start of a block; while the target works on what takes long (it thinks,
    a local server loads its model) the clock is at least as long as the provider states with `Call.pulse`. Pings and
    comments are no signs. Time that the consumer takes, and time that an attempt waits on this side for a slot or a
    connection, counts for neither. An answer that comes whole (`Call.unary`) has neither clock until
    something of it was shown. `total` bounds
    everything.

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
          ProviderTimeout: a clock of this policy ran out; `clock` names it, `partial` holds what was shown. A
            deadline of a caller's passes as cancellation.

        Cancellation: the attempt is cancelled and waited for.
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
                nursery.start_soon(watch.wait_for_expiry)
                try:
                    with watch.scope:
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
    """An `emit` and a `pulse` that note signs of life, and the one task that looks at the notes.

    Moving a deadline costs 1.8 microseconds; a note costs a tenth of it, and is all that happens per event.
    """

    def __init__(self, shown: Shown, call: Call, limits: Timeout) -> None:
        self.scope = trio.CancelScope()
        #: the clock that ran out and its limit
        self.expired = ("first_content", 0.0)
        self.shown = shown
        self._pulse = call.pulse
        self._first = inf if limits.first_content is None else limits.first_content
        self._gap = inf if limits.gap is None else limits.gap
        self._tool_gap = self._gap if limits.tool_gap is None else limits.tool_gap
        # The class of the last content; None before the first.
        self._kind: type[StreamEvent] | None = None
        # The consumer has an event, or the attempt waits on this side: no clock runs.
        self._passing = False
        self._waiting = False
        # Seconds for which the target may be quiet by the last sign.
        self._quiet_for = inf if call.unary else 0.0
        self._last = trio.current_time()

    async def emit(self, event: StreamEvent) -> None:
        if not (event.text if type(event) is TextDelta else is_content(event)):
            await self._pass_by(event)
            return
        # While the consumer has it, no clock runs.
        self._passing = True
        self._kind = type(event)
        self._quiet_for = 0.0
        try:
            await self.shown(event)
        finally:
            # Also when it was cancelled there: a retry below may go on, and has to be watched again.
            self._last = trio.current_time()
            self._passing = False

    async def _pass_by(self, event: StreamEvent) -> None:
        """Pass on what is no content: usage and empty deltas are signs of life, a `Reset` begins another attempt."""
        self._passing = True
        try:
            await self.shown(event)
        finally:
            self._last = trio.current_time()
            self._passing = False
        if isinstance(event, Reset):
            # The first content of the attempt that begins below has a clock of its own.
            self._kind, self._quiet_for = None, 0.0

    def pulse(self, sign: LifeSign, quiet_for: float) -> None:
        self._pulse(sign, quiet_for)
        self._waiting = sign == "waiting"
        if sign == "alive" and self._kind is not None:
            # It has shown content before: the gap clock applies.
            return
        if sign in {"alive", "thinking"} or quiet_for > self._quiet_for:
            self._quiet_for = quiet_for
        self._last = trio.current_time()

    async def wait_for_expiry(self) -> None:
        """Cancel the scope at the very moment at which a clock runs out."""
        while True:
            limit = self._limit()
            now = trio.current_time()
            due = (now if self._passing or self._waiting else self._last) + limit
            if due <= now:
                self.expired = ("first_content" if self._kind is None else "gap", limit)
                self.scope.cancel(reason=f"no {self.expired[0]} within {limit:g} s")
                return
            # Signs of life only move `due` further, except that they may start a shorter clock.
            await trio.sleep_until(min(due, now + self._first, now + self._gap, now + self._tool_gap))

    def _limit(self) -> float:
        gap = self._tool_gap if self._kind in {ToolCallDelta, ToolCallSealed} else self._gap
        return max(self._first if self._kind is None else gap, self._quiet_for)
