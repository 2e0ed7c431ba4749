"""Retry a failed attempt at the same target, with exponential backoff."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeAlias, TypeVar

import attrs
import trio
from attrs.validators import ge, gt, optional

from clawft_trio.backoff import backoff
from clawft_trio.chat import Call, ignore
from clawft_trio.errors import ClawftError
from clawft_trio.nursery import leaves
from clawft_trio.observe.events import RetryScheduled
from clawft_trio.resilience.retry_budget import RetryBudget
from clawft_trio.resilience.strategy import Attempt, Policy, Strategy, entered, target_of
from clawft_trio.resilience.verdict import is_retryable, is_untried, retry_after
from clawft_trio.resilience.visibility import Shown, shown_of

T = TypeVar("T")

Uniform: TypeAlias = Callable[[float, float], float]
"""A source of chance: a number between two others. `random.uniform`, or a seeded one."""


@attrs.frozen(kw_only=True)
class Retry(Policy):
    """Try again after a failure that a repetition may cure.

    Whether it may is stated by the error (`retryable`), or decided by `on`.

    The wait before retry n (from 1) is drawn evenly from `(1 - jitter) * cap` to `cap`, where `cap` is
    `min(longest_wait, first_wait * multiplier**(n-1))`. Chance keeps callers that failed together from coming back
    together; the floor keeps a retry from reaching an overloaded server at once. With the defaults a wait is 0.35
    to 0.5 s, then 0.7 to 1 s, then 1.4 to 2 s: each is longer than the one before.

    Where the error carries a `retry_after`, the wait is exactly that, up to `longest_retry_after`; beyond it the error
    is raised at once. While another target stands by (`Call.elsewhere`) the cap is `longest_retry_after_elsewhere`, and
    a target that fell silent is not asked again.

    Around a plain function the transport errors of httpx, httpx2, `OSError` and trio are retried, and
    `httpx.HTTPStatusError` by its status, `Retry-After` included; `on` overrules that.

    A target that an earlier `Retry-After` keeps closed (`CircuitOpen` with `retryable`) is waited for, within the same
    caps, and such a wait counts neither as a retry nor against the budget: nothing was sent.

    Nothing is shared between calls but `budget`.
    """

    #: retries after the first attempt; 0 never retries
    max_retries: int = attrs.field(default=3, validator=ge(0))
    #: seconds; the cap of the first wait
    first_wait: float = attrs.field(default=0.5, validator=ge(0))
    #: by which the cap grows with each further wait
    multiplier: float = attrs.field(default=2.0, validator=[ge(1), attrs.validators.le(100)])
    #: seconds; no drawn wait is longer
    longest_wait: float = attrs.field(default=30.0, validator=ge(0))
    #: the share of a wait that is left to chance: 1 is full jitter (a wait may be 0), 0.5 equal jitter, 0 none
    jitter: float = attrs.field(default=0.3, validator=[ge(0), attrs.validators.le(1)])
    #: seconds from the first attempt's start after which no retry may start
    total: float | None = attrs.field(default=None, validator=optional(gt(0)))
    #: seconds; a server that asks for more is not waited for
    longest_retry_after: float = attrs.field(default=60.0, validator=ge(0))
    #: seconds; the same limit where another target can be asked instead
    longest_retry_after_elsewhere: float = attrs.field(default=5.0, validator=ge(0))
    #: which exceptions may be retried: types, or a function; by default the error's own statement
    on: type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool] | None = None
    #: shared between strategies; None: a budget of its own for each target
    budget: RetryBudget | None = None
    #: the source of randomness
    uniform: Uniform = attrs.field(default=random.uniform, repr=False)

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt* until it succeeds, its error is final, or enough was tried.

        Raises:
          Exception: the last attempt's.

        Cancellation: ends the running attempt, or the wait; a wait holds nothing.
        """
        return await _Series(self, target_of(call)).run(attempt, call)

    def bind(self, target: str) -> Strategy:
        """This policy, with its retries entered in the budget of *target*."""
        return _BoundRetry(self, target)

    def wait_before(self, retry: int) -> float:
        """Seconds to wait before retry number *retry* (1 is the first), when no server states otherwise."""
        cap = backoff(retry, first=self.first_wait, longest=self.longest_wait, multiplier=self.multiplier)
        return cap if self.jitter == 0 else self.uniform(cap * (1 - self.jitter), cap)

    def may_retry(self, exc: Exception, call: Call) -> bool:
        """Whether *exc* may be retried at all, in every leaf."""
        return all(self._may_retry(leaf, call) for leaf in leaves(exc))

    def _may_retry(self, exc: BaseException, call: Call) -> bool:
        if not isinstance(exc, Exception) or (call.elsewhere and getattr(exc, "silent", False)):
            return False
        if self.on is None:
            return is_retryable(exc)
        if isinstance(self.on, type | tuple):
            return isinstance(exc, self.on)
        return self.on(exc)


@attrs.frozen
class _BoundRetry:
    """A `Retry` for one target."""

    policy: Retry
    target: str

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        return await _Series(self.policy, self.target).run(attempt, call)


class _Series:
    """The attempts of one call under a `Retry`."""

    __slots__ = ("_policy", "_retries", "_started", "_target", "_waited")

    def __init__(self, policy: Retry, target: str) -> None:
        self._policy = policy
        self._target = target
        self._retries = 0
        # Seconds spent waiting for a target that a Retry-After keeps closed.
        self._waited = 0.0
        self._started = trio.current_time() if policy.total is not None else 0.0

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        call = entered(self._policy.budget, self._target, call)
        while True:
            # Without a consumer there is nothing to retract.
            shown = shown_of(call) if call.emit is not ignore else None
            try:
                return await attempt(call if shown is None else call.showing(shown))
            except Exception as exc:
                wait = self._wait_after(exc, call)
                if wait is None:
                    raise
                await self._prepare(exc, wait, call, shown)
            await trio.sleep(wait)

    def _wait_after(self, exc: Exception, call: Call) -> float | None:
        """Seconds until the next attempt; None when *exc* is final."""
        policy = self._policy
        asked = retry_after(exc)
        # Without a time in it a refusal counts as an attempt, or a wait of nothing could repeat for ever.
        untried = is_untried(exc) and asked is not None
        self._retries += not untried
        if self._retries > _limit(policy, exc) or policy.max_retries == 0 or not policy.may_retry(exc, call):
            return None
        cap = policy.longest_retry_after_elsewhere if call.elsewhere else policy.longest_retry_after
        if asked is not None and asked + (self._waited if untried else 0.0) > cap:
            return None
        wait = policy.wait_before(self._retries or 1) if asked is None else max(asked, 0.0)
        if policy.total is not None and trio.current_time() + wait > self._started + policy.total:
            return None
        if untried:
            self._waited += wait
            return wait
        return wait if policy.budget is None or policy.budget.withdraw(self._target) else None

    async def _prepare(self, exc: Exception, wait: float, call: Call, shown: Shown | None) -> None:
        call.observer(RetryScheduled(retry=self._retries, wait=wait, error=exc, call_id=call.id, turn_id=call.turn_id))
        if shown is not None:
            await shown.retract(exc, call)


def _limit(policy: Retry, exc: Exception) -> int:
    """Retries after *exc*: the policy's, or fewer where the error states that more are of no use."""
    limits = [leaf.max_retries for leaf in leaves(exc) if isinstance(leaf, ClawftError)]
    return min((limit for limit in (*limits, policy.max_retries) if limit is not None), default=0)
