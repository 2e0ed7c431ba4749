"""Failover: try targets in order until one answers; start the next one concurrently if one is slow."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar, cast

import attrs
import trio

from clawft_trio.asked_targets import AskedTargets
from clawft_trio.chat import Call, ChatRequest, ChatResponse, Provider, with_attempts
from clawft_trio.errors import AllProvidersExhausted, ClawftError, ContextLengthExceeded
from clawft_trio.nursery import leaves
from clawft_trio.observe.events import FailedOver, HedgeStarted
from clawft_trio.observe.recorded import recorded
from clawft_trio.observe.redaction import cut_redacted
from clawft_trio.resilience.hedge import Race
from clawft_trio.resilience.retry_budget import RetryBudget
from clawft_trio.resilience.statistics import ProviderStatistics, statistics_of
from clawft_trio.resilience.strategy import NO_CALL, Attempt, asked_of
from clawft_trio.resilience.verdict import is_curable_elsewhere, is_retryable, is_untried, retry_after
from clawft_trio.resilience.visibility import shown_of
from clawft_trio.tracebacks import shorten_traceback

T = TypeVar("T")

HedgeAfter: TypeAlias = float | Mapping[str, float | None] | Callable[[str], float | None] | None
"""Seconds of silence before a hedge: for all targets, by target name, or returned by a function of the name.

None, or a missing entry: never.
"""


class Failover:
    """Several targets in order of preference, as one: the result is that of the first one that succeeds.

    Content of a failed target is retracted before the next one may send any. The error states whether another target
    may help (`curable_elsewhere`); if not, it is raised at once. A target with an open circuit is skipped without a
    request. A target that the call has not asked yet is always asked; the budget limits all other requests. If the
    others have failed and a circuit is open, the call waits for its probe, if the caller's deadline and `longest_wait`
    allow it.

    The targets are providers, or plain async functions of the same arguments: `await Failover(primary, backup)(url)`.

    Args:
      providers: in order of preference; all providers, or all functions.
      hedge_after: seconds without content or sign of activity after which the next target is started concurrently; the
        first content decides. None: only a failure starts the next. A mapping, or a function of the name, sets it for
        each target. Answers that arrive as a whole (`ChatRequest.stream` false) are not hedged.
      budget: limits repeated requests to each target; shared with the other policies of the process.
      windows: context window in tokens by provider name, where it is known: after a refusal of length, a request is
        not sent to targets with a known window that is no larger.
      longest_wait: longest wait for probes in seconds.
    """

    keeps_records = True

    def __init__(
        self,
        *providers: Provider | Callable[..., Awaitable[Any]],
        hedge_after: HedgeAfter = None,
        budget: RetryBudget | None = None,
        windows: dict[str, int] | None = None,
        longest_wait: float = 60.0,
        name: str = "failover",
    ) -> None:
        if not providers:
            raise ValueError("Failover needs at least one provider")
        functions = [one for one in providers if not hasattr(one, "complete")]
        if functions and (len(functions) < len(providers) or not all(map(callable, functions))):
            raise TypeError("Failover takes providers, or async functions, and not both")
        self.functions: tuple[Callable[..., Awaitable[Any]], ...] = tuple(cast("Any", functions))
        self.providers: tuple[Provider, ...] = (
            () if functions else tuple(recorded(one, refuse_empty=True) for one in cast("Any", providers))
        )
        self.hedge_after = hedge_after
        self.budget = budget
        self.windows: dict[str, int] = dict(windows or {})
        self.longest_wait = longest_wait
        self._name = name

    def __repr__(self) -> str:
        names = [provider.name for provider in self.providers] or [_name_of(function) for function in self.functions]
        return f"<Failover {' -> '.join(names)}>"

    @property
    def name(self) -> str:
        """Name of the chain."""
        return self._name

    def statistics(self) -> ProviderStatistics:
        """Return the state of the chain: its budget, and each target's breaker, bulkhead and limit."""
        budget = self.budget
        targets = map(statistics_of, self.providers)
        if budget is None:
            return ProviderStatistics(name=self.name, targets=tuple(targets))
        return ProviderStatistics(
            name=self.name,
            budget=budget.statistics(),
            targets=tuple(attrs.evolve(target, budget=budget.statistics(target.name)) for target in targets),
        )

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Answer *request* with the first provider that can.

        Raises:
          AllProvidersExhausted: none could; raised from a group of all errors. With a single provider, its own error is
            raised instead.
          ClawftError: an error that no other target can cure.

        Cancellation: running attempts are cancelled and awaited.
        """
        targets = [_Target(one.name, id(one), partial(one.complete, request)) for one in self.providers]
        if not request.stream:
            call = call.replaced(unary=True)
        try:
            response = await _Walk(self, targets, call).run()
        except Exception as exc:
            if isinstance(exc, ClawftError):
                exc.attempts = call.log.records
            shorten_traceback(exc)
            raise
        return with_attempts(response, call.log.records)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the functions in order with these arguments, until one returns.

        Raises:
          AllProvidersExhausted: all functions raised errors that another target may cure; raised from a group of them.
          Exception: an error of a function that no other target can cure.
          TypeError: the targets are providers.

        Cancellation: running attempts are cancelled and awaited.
        """
        if not self.functions:
            raise TypeError("this Failover has providers: ask it with `complete`")
        targets = [_Target(_name_of(one), id(one), _attempt_of(one, args, kwargs)) for one in self.functions]
        try:
            return await _Walk(self, targets, NO_CALL).run()
        except Exception as exc:
            shorten_traceback(exc)
            raise

    def hedge_after_of(self, target: str) -> float | None:
        """Return the seconds of silence of *target* before the next one is started concurrently."""
        after = self.hedge_after
        if isinstance(after, Mapping):
            return after.get(target)
        return after(target) if callable(after) else after


def _name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", type(function).__qualname__)


def _attempt_of(function: Callable[..., Awaitable[T]], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Attempt[T]:
    return lambda _: function(*args, **kwargs)


@attrs.frozen(eq=False)
class _Target(Generic[T]):
    name: str
    #: distinguishes targets of the same name
    part: int
    attempt: Attempt[T]


class _Walk(Generic[T]):
    """One call, and the targets that it has tried and may still try."""

    def __init__(self, chain: Failover, targets: Sequence[_Target[T]], call: Call) -> None:
        self._chain = chain
        self._targets = targets
        self._asked = call.asked or AskedTargets()
        self._call = call.replaced(asked=self._asked)
        self._shown = shown_of(call)
        self._waiting = deque(targets)
        # The last error of each target; an error is removed when its target is tried again.
        self._errors: dict[_Target[T], Exception] = {}
        self._give_up_at = trio.current_time() + chain.longest_wait

    async def run(self) -> T:
        while True:
            while self._waiting:
                # A walk that has lost a race must not use up what was paid for its targets.
                await trio.lowlevel.checkpoint_if_cancelled()
                target = self._waiting.popleft()
                if not self._may_ask(target):
                    continue
                try:
                    return await self._ask(target)
                except Exception as exc:
                    if not is_curable_elsewhere(exc):
                        raise
                    await self._shown.retract(exc, self._call)
                self._notify_failover(target)
            wait = self._time_to_next_chance()
            if wait is None:
                raise self._exhausted()
            await trio.sleep(wait)
            self._waiting.extend(t for t in self._targets if t in self._errors and _may_be_well(self._errors[t]))

    def _may_ask(self, target: _Target[T]) -> bool:
        """Whether *target* may be asked: the call's first request always may, further ones take a token."""
        budget = self._chain.budget
        if budget is None or (self._call.budgeted == target.name and target not in self._errors):
            return True
        if not self._asked.may_ask(budget, target.name, target.part):
            return False
        self._asked.expect(budget, target.name)
        return True

    async def _ask(self, target: _Target[T]) -> T:
        call = self._call.showing(self._shown)
        after = self._chain.hedge_after_of(target.name)
        if after is None or call.unary or not self._waiting:
            try:
                return await self._attempt(target, call)
            except Exception as exc:
                self._note(target, exc)
                raise
        racers = [target]
        race: Race[T] = Race(
            partial(self._attempt, target),
            partial(self._next_racer, racers),
            call,
            self._shown,
            delay=after,
            is_final=lambda exc: not is_curable_elsewhere(exc),
        )
        try:
            return await race.run()
        except Exception:
            # A target that was cancelled for a winner that failed later has not failed: it is asked again, after the
            # others.
            self._waiting.extend(racer for number, racer in enumerate(racers) if number not in race.errors)
            raise
        finally:
            for number, error in race.errors.items():
                self._note(racers[number], error)

    def _next_racer(self, racers: list[_Target[T]], replaces: bool) -> Attempt[T] | None:
        """Return an attempt at the next target, because the last one is slow, or failed as a hedge (*replaces*)."""
        slow, budget = racers[-1], self._chain.budget
        if not self._waiting:
            return None
        # Charged to the slow target, which may have to be asked again if the hedge wins and then fails.
        if not (replaces or budget is None or self._asked.prepay(budget, slow.name)):
            return None
        target = self._waiting.popleft()
        if not self._may_ask(target):
            return None
        racers.append(target)
        self._call.observer(
            HedgeStarted(slow=slow.name, target=target.name, call_id=self._call.id, turn_id=self._call.turn_id)
        )
        return partial(self._attempt, target)

    async def _attempt(self, target: _Target[T], call: Call) -> T:
        budget = self._chain.budget
        elsewhere = call.elsewhere or bool(self._waiting)
        after = self._chain.hedge_after_of(target.name) if self._waiting else call.elsewhere_after
        call = call.replaced(elsewhere=elsewhere, elsewhere_after=after)
        if budget is None:
            return await target.attempt(call)
        with asked_of(call).asking(budget, target.name):
            self._asked.started(budget, target.name)
            return await target.attempt(call.replaced(budgeted=target.name))

    def _note(self, target: _Target[T], exc: Exception) -> None:
        self._errors.pop(target, None)
        self._errors[target] = exc
        if is_untried(exc) and self._chain.budget is not None:
            self._asked.unsent(self._chain.budget, target.name, target.part)
        if any(isinstance(leaf, ContextLengthExceeded) for leaf in leaves(exc)):
            self._skip_smaller_windows(target)

    def _skip_smaller_windows(self, target: _Target[T]) -> None:
        windows = self._chain.windows
        window = windows.get(target.name)
        if window is not None:
            larger = [one for one in self._waiting if windows.get(one.name, window + 1) > window]
            self._waiting.clear()
            self._waiting.extend(larger)

    def _notify_failover(self, failed: _Target[T]) -> None:
        if self._waiting and failed in self._errors:
            self._call.observer(
                FailedOver(
                    failed=failed.name,
                    target=self._waiting[0].name,
                    error=self._errors[failed],
                    call_id=self._call.id,
                    turn_id=self._call.turn_id,
                )
            )

    def _time_to_next_chance(self) -> float | None:
        """Return the seconds until the first probe of an open circuit; None without one in time."""
        waits = [retry_after(exc) for exc in self._errors.values() if is_untried(exc)]
        wait = min((seconds for seconds in waits if seconds is not None), default=None)
        if wait is None:
            return None
        due = trio.current_time() + wait
        return wait if due < min(self._give_up_at, trio.current_effective_deadline()) else None

    def _exhausted(self) -> Exception:
        errors = list(self._errors.values())
        if len(self._targets) == 1 and errors:
            return errors[-1]
        waits = [seconds for exc in errors if (seconds := retry_after(exc)) is not None]
        failure = AllProvidersExhausted(
            "; ".join(_line(target.name, exc) for target, exc in self._errors.items()) or "the retry budget is used up",
            retryable=any(is_retryable(leaf) for exc in errors for leaf in leaves(exc)),
            curable_elsewhere=True,
            retry_after=min(waits, default=None),
        )
        if errors:
            failure.__cause__ = ExceptionGroup("the error of each target", errors)
        return failure


def _may_be_well(exc: Exception) -> bool:
    return is_untried(exc) or is_retryable(exc)


_LONGEST_LINE = 300
"""Characters that are shown of the error of one target."""


def _line(name: str, exc: Exception) -> str:
    """Return the line of one target in the message of `AllProvidersExhausted`."""
    text = str(exc) or type(exc).__name__
    return cut_redacted(text if text.startswith(name) else f"{name}: {text}", _LONGEST_LINE)
