"""Hedging: start a second attempt if the first one is silent; the first one with content wins."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

import attrs
import trio
from attrs.validators import ge

from clawft_trio.asked_targets import AskedTargets, TargetBudget
from clawft_trio.chat import Call, LifeSign, Reset, StreamEvent, is_content
from clawft_trio.nursery import raise_one
from clawft_trio.observe.events import HedgeStarted
from clawft_trio.resilience.retry_budget import RetryBudget
from clawft_trio.resilience.strategy import Attempt, Policy, Strategy, asked_of, entered, target_of
from clawft_trio.resilience.visibility import Shown, shown_of

T = TypeVar("T")


def _never(_: Exception) -> bool:
    return False


@attrs.frozen(kw_only=True)
class Hedge(Policy):
    """Start the same attempt again, concurrently, if one has had no content for `after` seconds.

    The first content decides: the other attempts are cancelled, and their events are discarded. All have a record, the
    losers as cancelled, because their tokens may be billed. After a failure the others continue. If the winner fails
    after its first content, that is retracted, and a loser is repeated. The tokens for this are taken when the loser is
    cancelled, for every target that it was asking, and returned when the winner succeeds; a loser for which the budget
    has no tokens is not cancelled: it waits, and competes again if the winner fails. Signs of activity (`Call.pulse`)
    restart the `after` seconds. Use it only for operations that may run twice.

    Nothing is shared between calls but `budget`.
    """

    #: seconds without content or sign of activity
    after: float = attrs.field(validator=ge(0))
    #: number of attempts in addition to the first
    extra: int = attrs.field(default=1, validator=ge(1))
    #: shared between strategies; None: no limit but `extra`
    budget: RetryBudget | None = None

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt*, and start it again concurrently if it is slow.

        Raises:
          Exception: the error of the winner or, if all failed before any content, of the last attempt.

        Cancellation: all attempts are cancelled and awaited.
        """
        return await self._run(attempt, call, target_of(call))

    def bind(self, target: str) -> Strategy:
        """Return this policy, with its extra attempts counted in the budget of *target*."""
        return _BoundHedge(self, target)

    async def _run(self, attempt: Attempt[T], call: Call, target: str) -> T:
        budget = self.budget
        shown = shown_of(call)
        call = entered(budget, target, call).showing(shown)
        asked = asked_of(call)
        if budget is not None:
            attempt = partial(_asking, budget, target, asked, attempt)
        left = self.extra

        def next_attempt(replaces: bool) -> Attempt[T] | None:  # noqa: ARG001 - each extra attempt takes a token
            nonlocal left
            if not left or not (budget is None or budget.withdraw(target)):
                return None
            left -= 1
            if budget is not None:
                asked.expect(budget, target)
            call.observer(HedgeStarted(slow=target, target=target, call_id=call.id, turn_id=call.turn_id))
            return attempt

        race = Race(attempt, next_attempt, call, shown, delay=self.after)
        try:
            return await race.run()
        except Exception as exc:
            if not race.dropped or not (budget is None or asked.may_repeat(budget, target)):
                raise
            if budget is not None:
                asked.expect(budget, target)
            await shown.retract(exc, call)
        return await attempt(call)


async def _asking(budget: RetryBudget, target: str, expected: AskedTargets, attempt: Attempt[T], call: Call) -> T:
    with asked_of(call).asking(budget, target):
        expected.started(budget, target)
        return await attempt(call)


@attrs.frozen
class _BoundHedge:
    """A `Hedge` for one target."""

    policy: Hedge
    target: str

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        return await self.policy._run(attempt, call, self.target)


class _Arm(Generic[T]):
    """One attempt of a race: its `emit` passes on events only if the attempt wins."""

    __slots__ = ("_early", "_race", "asked", "number", "scope")

    def __init__(self, race: Race[T], number: int) -> None:
        self.scope: trio.CancelScope = trio.CancelScope()
        self.number: int = number
        #: the targets that this attempt asks
        self.asked: AskedTargets = asked_of(race.call).branch()
        self._race = race
        self._early: StreamEvent | None = None

    async def emit(self, event: StreamEvent) -> None:
        race = self._race
        if race.winner is not self:
            if not self.scope.cancel_called:
                await race.wait_open()
                await self._compete(event)
            return
        await race.call.emit(event)
        if type(event) is Reset and race.rivals():
            race.reopen()

    async def _compete(self, event: StreamEvent) -> None:
        if not is_content(event):
            # A sign of activity does not decide: the last one (a usage report) is passed on if this arm wins.
            self._early = event
            self.pulse("alive", 0.0)
            return
        self._race.win(self)
        if self._early is not None:
            early, self._early = self._early, None
            await self._race.call.emit(early)
        await self._race.call.emit(event)

    def pulse(self, sign: LifeSign, quiet_for: float) -> None:
        race = self._race
        if race.winner is None:
            race.note(sign, quiet_for)
        # An arm that waits does not stop the clocks of a race in which another arm is running.
        if race.winner is self or (race.winner is None and (sign != "waiting" or race.running == 1)):
            race.call.pulse(sign, quiet_for)

    async def run(self, attempt: Attempt[T]) -> None:
        race = self._race
        try:
            with self.scope:
                result = await attempt(race.call.replaced(emit=self.emit, pulse=self.pulse, asked=self.asked))
                # An arm with content has already won; an answer without content wins when it is complete.
                if race.winner is not self:
                    await trio.lowlevel.checkpoint_if_cancelled()
                    await race.wait_open()
                    race.winner = self
                    if self._early is not None:
                        await race.call.emit(self._early)
                race.succeed(result)
        except Exception as exc:  # noqa: BLE001  # raised by Race.run, bare
            race.errors[self.number] = exc
            if race.winner is self and race.rivals():
                await race.replace_winner(exc)
        finally:
            self.asked.close()
            race.running -= 1
            race.settled.set()


class Race(Generic[T]):
    """Attempts started one after another until one shows content.

    A further attempt starts after `delay` seconds without content or sign of activity, and at once when the attempt
    started last has failed while an earlier one still runs. A failure does not decide while another attempt runs: the
    race fails only when none is left.

    A loser is cancelled if its targets' budgets could be charged for asking them again. Else it is paused, and competes
    again if the winner's content is retracted.

    Args:
      first: starts at once.
      next_attempt: returns the next attempt, or None if there is none or it may not start. Its argument is whether it
        replaces a failed hedge.
      delay: seconds.
      is_final: returns whether no other attempt can cure an error: such an error stops further starts, and is raised
        if all attempts fail.
    """

    def __init__(
        self,
        first: Attempt[T],
        next_attempt: Callable[[bool], Attempt[T] | None],
        call: Call,
        shown: Shown,
        *,
        delay: float,
        is_final: Callable[[Exception], bool] = _never,
    ) -> None:
        self.call = call
        #: errors by the number of the attempt, in the order of the failures
        self.errors: dict[int, Exception] = {}
        self.results: list[T] = []
        self.winner: _Arm[T] | None = None
        self.running: int = 0
        self.settled: trio.Event = trio.Event()
        self._reopened = trio.Event()
        self._cancelled: set[int] = set()
        self._prepaid: list[tuple[TargetBudget, str]] = []
        self._shown = shown
        self._first = first
        self._next_attempt = next_attempt
        self._delay = delay
        self._is_final = is_final
        self._arms: list[_Arm[T]] = []
        # Time at which the next attempt is due, by the last start or sign of activity.
        self._due = 0.0

    @property
    def dropped(self) -> bool:
        """Whether an attempt was cancelled for another one without a failure of its own."""
        return not self._cancelled <= self.errors.keys()

    def win(self, arm: _Arm[T]) -> None:
        """Make *arm* the winner, because it has its first content."""
        self.winner = arm
        for other in self.rivals():
            taken = other.asked.prepay_running()
            if taken is not None:
                self._prepaid += taken
                self._cancel(other)
        self.settled.set()

    def succeed(self, result: T) -> None:
        """Make the winner's result the result of the race."""
        self.results.append(result)
        for other in self.rivals():
            self._cancel(other)
        asked_of(self.call).give_back(self._prepaid)

    def rivals(self) -> list[_Arm[T]]:
        """Return the other attempts than the winner that run and are not cancelled: beside a winner they are paused."""
        over = self.errors.keys() | self._cancelled
        return [arm for arm in self._arms if arm is not self.winner and arm.number not in over]

    def _cancel(self, arm: _Arm[T]) -> None:
        self._cancelled.add(arm.number)
        arm.scope.cancel(reason="hedge lost")

    async def wait_open(self) -> None:
        """Wait until no attempt is the winner, so that the events of a loser are delayed and not lost.

        Cancellation: the race does not change.
        """
        while self.winner is not None:
            await self._reopened.wait()

    def reopen(self) -> None:
        """Let the paused attempts compete again: the winner's content was retracted."""
        self.winner = None
        self._reopened.set()
        self._reopened = trio.Event()

    async def replace_winner(self, exc: Exception) -> None:
        """Retract the winner's content after *exc*, and continue with the paused attempts unless *exc* is final.

        Cancellation: the `Reset` may have been sent; the paused attempts still wait.
        """
        if not self._is_final(exc):
            await self._shown.retract(exc, self.call)
            self.reopen()
            return
        for other in self.rivals():
            self._cancel(other)

    def note(self, sign: LifeSign, quiet_for: float) -> None:
        """Delay the next attempt after a sign of activity, but not while an attempt waits in this process."""
        if sign == "alive":
            # The target works, perhaps slowly: it gets the same time again.
            self._due = max(self._due, trio.current_time() + self._delay)
        elif sign != "waiting" and quiet_for > 0:
            self._due = max(self._due, trio.current_time() + max(quiet_for, self._delay))

    async def run(self) -> T:
        """Run the race and return the winner's result.

        Raises:
          Exception: the winner's error; without a winner the first that is final, else the last. All errors are in
            `errors`.

        Cancellation: all attempts are cancelled and awaited.
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
        errors = list(self.errors.values())
        raise next(filter(self._is_final, errors), errors[-1])

    async def _start_others(self, nursery: trio.Nursery) -> None:
        """Start an attempt whenever one is due; stop when the race is decided, or no further one may start."""
        while self._is_open() and self.running:
            self.settled = trio.Event()
            replaces = self._last_failed()
            if not replaces:
                with trio.move_on_at(self._due) as scope:
                    await self.settled.wait()
                if not (self._is_open() and scope.cancelled_caught and trio.current_time() >= self._due):
                    continue
            if not self._start_next(nursery, replaces):
                return

    def _is_open(self) -> bool:
        return self.winner is None

    def _last_failed(self) -> bool:
        return len(self._arms) > 1 and self._arms[-1].number in self.errors

    def _start_next(self, nursery: trio.Nursery, replaces: bool) -> bool:
        if any(map(self._is_final, self.errors.values())):
            return False
        attempt = self._next_attempt(replaces)
        if attempt is None:
            return False
        self._start(nursery, attempt)
        return True

    def _start(self, nursery: trio.Nursery, attempt: Attempt[T]) -> None:
        arm = _Arm(self, len(self._arms))
        self._arms.append(arm)
        self.running += 1
        self._due = trio.current_time() + self._delay
        nursery.start_soon(arm.run, attempt)
