"""Slowness is hedged: a second attempt beside the first, and whoever shows content first goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sized
from typing import Generic, TypeVar

import attrs
import trio
from attrs.validators import ge

from clawft_trio.chat import CONTENT, Call, StreamEvent
from clawft_trio.nursery import raise_one
from clawft_trio.observe.events import HedgeStarted
from clawft_trio.resilience.retry_budget import RetryBudget, may_try_again, note_call
from clawft_trio.resilience.strategy import Attempt, Policy

T = TypeVar("T")


def _never(_: Exception) -> bool:
    return False


@attrs.frozen(kw_only=True)
class Hedge(Policy):
    """Start the same attempt again beside one that has shown nothing after `delay` seconds.

    The first content decides: the other is cancelled, and nothing of it is shown. Both are on record, the loser
    as cancelled, for its tokens may be billed. A failure of one leaves the other to go on; a failure of the
    winner after its content is the hedge's. Only for what may safely run twice.
    """

    #: seconds
    delay: float = attrs.field(validator=ge(0))
    #: attempts beside the first
    extra: int = attrs.field(default=1, validator=ge(1))
    budget: RetryBudget | None = None

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt*, and again beside itself where it is slow.

        Raises:
          Exception: the winner's, or, when all failed before any content, the last one's.

        Cancellation: all are cancelled and waited for.
        """
        note_call(self.budget, call)
        others = deque([attempt] * self.extra)
        race = Race(attempt, others, others.popleft, call, delay=self.delay, budget=self.budget)
        return await race.run()


class _Arm(Generic[T]):
    """One contestant: an `emit` that lets pass only what the winner says."""

    __slots__ = ("_early", "_race", "number", "scope")

    def __init__(self, race: Race[T], number: int) -> None:
        self.scope: trio.CancelScope = trio.CancelScope()
        self.number: int = number
        self._race = race
        self._early: StreamEvent | None = None

    async def __call__(self, event: StreamEvent) -> None:
        race = self._race
        if race.winner is self:
            await race.call.emit(event)
        elif race.winner is None:
            await self._compete(event)
        # A loser is cancelled at its next checkpoint; what it still says is nobody's.

    async def _compete(self, event: StreamEvent) -> None:
        if not isinstance(event, CONTENT):
            # Not content, so it decides nothing: the last one (a usage report) is told if this arm wins.
            self._early = event
            return
        self._race.win(self)
        if self._early is not None:
            early, self._early = self._early, None
            await self._race.call.emit(early)
        await self._race.call.emit(event)

    def _call(self) -> Call:
        call = self._race.call.showing(self)
        return attrs.evolve(call, extra=True) if self.number else call

    async def run(self, attempt: Attempt[T]) -> None:
        race = self._race
        try:
            with self.scope:
                result = await attempt(self._call())
                # Whoever has shown content has already won; an answer without any wins by arriving.
                if race.winner is None:
                    race.win(self)
                    if self._early is not None:
                        await race.call.emit(self._early)
                if race.winner is self:
                    race.results.append(result)
        except Exception as exc:  # noqa: BLE001  # raised by Race.run, bare
            race.errors[self.number] = exc
            if race.winner is None and race.is_final(exc):
                race.win(self)
        finally:
            race.running -= 1
            race.settled.set()


class Race(Generic[T]):
    """Attempts started one after another, `delay` seconds apart, until one shows content.

    Args:
      first: starts at once.
      waiting: what could still be started; empty when there is nothing.
      take_next: takes the next attempt out of *waiting*; called only when it is due and paid for.
      is_final: whether a failure decides the race, because nobody else may answer after it.
    """

    def __init__(
        self,
        first: Attempt[T],
        waiting: Sized,
        take_next: Callable[[], Attempt[T]],
        call: Call,
        *,
        delay: float,
        budget: RetryBudget | None = None,
        on_hedge: Callable[[], None] | None = None,
        is_final: Callable[[Exception], bool] = _never,
    ) -> None:
        self.call = call
        self.is_final = is_final
        #: by the number of the attempt, in the order in which they failed
        self.errors: dict[int, Exception] = {}
        self.results: list[T] = []
        self.winner: _Arm[T] | None = None
        self.running: int = 0
        self.settled: trio.Event = trio.Event()
        self._first = first
        self._waiting = waiting
        self._take_next = take_next
        self._delay = delay
        self._budget = budget
        self._on_hedge = on_hedge
        self._arms: list[_Arm[T]] = []

    def win(self, arm: _Arm[T]) -> None:
        """Decide for *arm*."""
        self.winner = arm
        for other in self._arms:
            if other is not arm:
                other.scope.cancel(reason="hedge lost")
        self.settled.set()

    async def run(self) -> T:
        """The winner's result.

        Raises:
          Exception: the winner's; without a winner the last error, with all of them in `errors`.

        Cancellation: all attempts are cancelled and waited for.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._start(nursery, self._first)
                await self._start_others(nursery)
        except BaseExceptionGroup as group:
            raise_one(group)
        if self.results:
            return self.results[0]
        if self.winner is not None:
            raise self.errors[self.winner.number]
        raise self.errors[list(self.errors)[-1]]

    async def _start_others(self, nursery: trio.Nursery) -> None:
        """Add an attempt whenever `delay` passes with nothing shown; stop when all have failed."""
        while self.winner is None and self.running:
            self.settled = trio.Event()
            with trio.move_on_after(self._delay) as scope:
                await self.settled.wait()
            if not scope.cancelled_caught:
                continue
            if not self._start_next(nursery):
                return

    def _start_next(self, nursery: trio.Nursery) -> bool:
        # Paid for before it is taken: what is taken and not started would be lost to whoever comes after the race.
        if not self._waiting or not may_try_again(self._budget):
            return False
        attempt = self._take_next()
        if self._on_hedge is not None:
            self._on_hedge()
        else:
            self.call.observer(HedgeStarted(slow="", target="", call_id=self.call.id, turn_id=self.call.turn_id))
        self._start(nursery, attempt)
        return True

    def _start(self, nursery: trio.Nursery, attempt: Attempt[T]) -> None:
        arm = _Arm(self, len(self._arms))
        self._arms.append(arm)
        self.running += 1
        nursery.start_soon(arm.run, attempt)
