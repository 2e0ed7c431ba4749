"""One after another until somebody answers, and beside one another where somebody is slow."""

from __future__ import annotations

from collections import deque
from functools import partial

import attrs
import trio

from clawft_trio.chat import Call, ChatRequest, ChatResponse, Provider
from clawft_trio.errors import (
    AllProvidersExhausted,
    CircuitOpen,
    ClawftError,
    ContextLengthExceeded,
)
from clawft_trio.nursery import leaves
from clawft_trio.observe.events import FailedOver, HedgeStarted
from clawft_trio.observe.recorded import recorded
from clawft_trio.resilience.hedge import Race
from clawft_trio.resilience.retry_budget import RetryBudget, may_try_again, note_call
from clawft_trio.resilience.strategy import Attempt
from clawft_trio.resilience.visibility import Shown


class Failover:
    """Ordered providers as one: the first that answers, answers.

    What one had shown before it failed is retracted before the next may speak. Whether another may help is the
    error's own word (`curable_elsewhere`); an error that says no is raised at once. A target whose circuit is open
    costs nothing. When all circuits are open, the one that is probed first is waited for, if the caller's deadline
    and `longest_wait` leave the time.

    Args:
      providers: in order of preference.
      hedge_after: seconds of silence after which the next one is started beside; the first content decides.
        None: only a failure moves on.
      budget: shared with the other policies of the process; every target beyond the first takes from it.
      windows: context window in tokens by provider name, where it is known: a request that was too long for one is
        not sent to another that is known to take no more.
      longest_wait: seconds; how long an all-open chain waits for a probe.
    """

    keeps_records = True

    def __init__(
        self,
        *providers: Provider,
        hedge_after: float | None = None,
        budget: RetryBudget | None = None,
        windows: dict[str, int] | None = None,
        longest_wait: float = 60.0,
        name: str = "failover",
    ) -> None:
        if not providers:
            raise ValueError("Failover needs at least one provider")
        self.providers = tuple(recorded(provider, refuse_empty=True) for provider in providers)
        self.hedge_after = hedge_after
        self.budget = budget
        self.windows: dict[str, int] = dict(windows or {})
        self.longest_wait = longest_wait
        self._name = name

    def __repr__(self) -> str:
        return f"<Failover {' -> '.join(provider.name for provider in self.providers)}>"

    @property
    def name(self) -> str:
        """What the chain is called."""
        return self._name

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Answer *request* by the first provider that can.

        Raises:
          AllProvidersExhausted: none could; raised from a group of what each said. With a single provider its own
            error comes out instead.
          ClawftError: one said that nobody else can help either.

        Cancellation: whatever is running is cancelled and waited for.
        """
        note_call(self.budget, call)
        try:
            response = await _Walk(self, request, call).run()
        except ClawftError as exc:
            exc.attempts = call.log.records
            raise
        return attrs.evolve(response, attempts=call.log.records)


class _Walk:
    """One call's way along the chain."""

    def __init__(self, chain: Failover, request: ChatRequest, call: Call) -> None:
        self._chain = chain
        self._request = request
        self._call = call
        self._shown = Shown(call.emit)
        self._waiting = deque(chain.providers)
        self._errors: list[tuple[Provider, Exception]] = []
        # Whether an attempt has been made: what comes after it is extra and has to be paid for.
        self._tried = False
        self._give_up_at = trio.current_time() + chain.longest_wait

    async def run(self) -> ChatResponse:
        while True:
            response = await self._once_along()
            if response is not None:
                return response
            wait = self._time_to_first_probe()
            if wait is None:
                raise self._exhausted()
            await trio.sleep(wait)
            self._errors.clear()
            self._waiting.extend(self._chain.providers)

    async def _once_along(self) -> ChatResponse | None:
        """Ask each in turn; None when nobody could."""
        while self._waiting:
            if self._tried and not may_try_again(self._chain.budget):
                return None
            asked = len(self._errors)
            try:
                return await self._ask_next()
            except Exception as exc:  # noqa: BLE001  # judged in _judge, which raises what is final
                self._judge(exc)
                await self._shown.retract(exc, self._call)
            self._tell_failover(asked)
        return None

    async def _ask_next(self) -> ChatResponse:
        provider = self._waiting.popleft()
        attempt = self._attempt(provider)
        call = self._call.showing(self._shown)
        if self._chain.hedge_after is None or not self._waiting:
            try:
                return await attempt(call)
            except Exception as exc:
                self._note(provider, exc)
                raise
        racers = [provider]
        race: Race[ChatResponse] = Race(
            attempt,
            self._waiting,
            lambda: self._take_next(racers),
            call,
            delay=self._chain.hedge_after,
            budget=self._chain.budget,
            on_hedge=lambda: self._tell_hedge(racers),
            is_final=_is_final,
        )
        try:
            return await race.run()
        except Exception:
            # Who was given up for a winner that then failed has not failed itself: asked again, after the others.
            self._waiting.extend(racer for number, racer in enumerate(racers) if number not in race.errors)
            raise
        finally:
            for number, error in race.errors.items():
                self._note(racers[number], error)

    def _take_next(self, racers: list[Provider]) -> Attempt[ChatResponse]:
        """The next in the chain, because somebody in the race is slow."""
        racers.append(self._waiting.popleft())
        return self._attempt(racers[-1])

    def _attempt(self, provider: Provider) -> Attempt[ChatResponse]:
        return partial(self._run_attempt, provider)

    async def _run_attempt(self, provider: Provider, call: Call) -> ChatResponse:
        extra = call.extra or self._tried
        elsewhere = call.elsewhere or bool(self._waiting)
        return await provider.complete(self._request, attrs.evolve(call, extra=extra, elsewhere=elsewhere))

    def _note(self, provider: Provider, exc: Exception) -> None:
        self._errors.append((provider, exc))
        if not isinstance(exc, CircuitOpen):
            self._tried = True
        if any(isinstance(leaf, ContextLengthExceeded) for leaf in leaves(exc)):
            self._skip_smaller_windows(provider)

    def _skip_smaller_windows(self, provider: Provider) -> None:
        window = self._chain.windows.get(provider.name)
        if window is not None:
            larger = [p for p in self._waiting if self._chain.windows.get(p.name, window + 1) > window]
            self._waiting.clear()
            self._waiting.extend(larger)

    def _judge(self, exc: Exception) -> None:
        """Raise what nobody else can cure."""
        if _is_final(exc):
            raise exc

    def _tell_failover(self, asked: int) -> None:
        if self._waiting:
            failed, error = self._errors[asked]
            self._call.observer(
                FailedOver(
                    failed=failed.name,
                    target=self._waiting[0].name,
                    error=error,
                    call_id=self._call.id,
                    turn_id=self._call.turn_id,
                )
            )

    def _tell_hedge(self, racers: list[Provider]) -> None:
        slow, target = racers[-2], racers[-1]
        self._call.observer(
            HedgeStarted(slow=slow.name, target=target.name, call_id=self._call.id, turn_id=self._call.turn_id)
        )

    def _time_to_first_probe(self) -> float | None:
        """Seconds to wait when all circuits are open; None when that is not so, or too long."""
        if not all(isinstance(exc, CircuitOpen) for _, exc in self._errors):
            return None
        wait = self._retry_after()
        if wait is None:
            return None
        due = trio.current_time() + wait
        return wait if due < min(self._give_up_at, trio.current_effective_deadline()) else None

    def _retry_after(self) -> float | None:
        said = [leaf.retry_after for _, exc in self._errors for leaf in leaves(exc) if isinstance(leaf, ClawftError)]
        return min((seconds for seconds in said if seconds is not None), default=None)

    def _exhausted(self) -> Exception:
        errors = [exc for _, exc in self._errors]
        if len(self._chain.providers) == 1:
            return errors[-1]
        who = ", ".join(f"{provider.name}: {type(exc).__name__}" for provider, exc in self._errors)
        failure = AllProvidersExhausted(f"nobody could answer ({who})", retry_after=self._retry_after())
        failure.__cause__ = ExceptionGroup("what each provider said", errors)
        return failure


def _is_final(exc: Exception) -> bool:
    return not all(getattr(leaf, "curable_elsewhere", False) for leaf in leaves(exc))
