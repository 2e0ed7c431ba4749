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
"""A source of randomness: returns a number between two others. `random.uniform`, or a seeded one."""


@attrs.frozen(kw_only=True)
class Retry(Policy):
    """Retry an attempt after an error that a retry may cure.

    The error states whether that is so (`retryable`), or `on` decides.

    The wait before retry n (from 1) is drawn evenly from `(1 - jitter) * cap` to `cap`, where `cap` is
    `min(longest_wait, first_wait * multiplier**(n-1))`. Randomness keeps callers that failed together from retrying
    together; the lower bound keeps a retry from reaching an overloaded server at once. With the defaults a wait is 0.35
    to 0.5 s, then 0.7 to 1 s, then 1.4 to 2 s: each is longer than the previous one.

    If the error has a `retry_after`, the wait is exactly that, up to `longest_retry_after`; if it is longer, the error
    is raised at once. While another target is available (`Call.elsewhere`) the limit is
    `longest_retry_after_elsewhere`, and a target that fell silent is not retried.

    Around a plain function the transport errors of httpx, httpx2, `OSError` and trio are retried, and
    `httpx.HTTPStatusError` by its status, `Retry-After` included; `on` overrides that.

    For a target that an earlier `Retry-After` keeps closed (`CircuitOpen` with `retryable`), the policy waits within
    the same limits. Such a wait counts neither as a retry nor against the budget, because nothing was sent.

    Nothing is shared between calls but `budget`.
    """

    #: retries after the first attempt; 0 never retries
    max_retries: int = attrs.field(default=3, validator=ge(0))
    #: cap of the first wait in seconds
    first_wait: float = attrs.field(default=0.5, validator=ge(0))
    #: factor by which the cap grows with each further wait
    multiplier: float = attrs.field(default=2.0, validator=[ge(1), attrs.validators.le(100)])
    #: largest cap in seconds
    longest_wait: float = attrs.field(default=30.0, validator=ge(0))
    #: random share of a wait: 1 is full jitter (a wait may be 0), 0.5 equal jitter, 0 none
    jitter: float = attrs.field(default=0.3, validator=[ge(0), attrs.validators.le(1)])
    #: seconds from the first attempt's start after which no retry may start
    total: float | None = attrs.field(default=None, validator=optional(gt(0)))
    #: longest Retry-After in seconds to wait for
    longest_retry_after: float = attrs.field(default=60.0, validator=ge(0))
    #: the same limit while another target is available
    longest_retry_after_elsewhere: float = attrs.field(default=5.0, validator=ge(0))
    #: exceptions that may be retried: types, or a function; by default the error's `retryable`
    on: type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool] | None = None
    #: shared between strategies; None: no limit but `max_retries`
    budget: RetryBudget | None = None
    #: the source of randomness
    uniform: Uniform = attrs.field(default=random.uniform, repr=False)

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt* until it succeeds, its error is final, or a limit is reached.

        Raises:
          Exception: the error of the last attempt.

        Cancellation: the running attempt or the wait is cancelled; a wait holds nothing.
        """
        return await _Series(self, target_of(call)).run(attempt, call)

    def bind(self, target: str) -> Strategy:
        """Return this policy, with its retries counted in the budget of *target*."""
        return _BoundRetry(self, target)

    def wait_before(self, retry: int) -> float:
        """Return the seconds to wait before retry number *retry* (1 is the first), without a `retry_after`."""
        cap = backoff(retry, first=self.first_wait, longest=self.longest_wait, multiplier=self.multiplier)
        return cap if self.jitter == 0 else self.uniform(cap * (1 - self.jitter), cap)

    def may_retry(self, exc: Exception, call: Call) -> bool:
        """Whether every leaf of *exc* may be retried."""
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
        # Total seconds of waits for a target that a Retry-After keeps closed.
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
        """Return the seconds until the next attempt; None when *exc* is final."""
        policy = self._policy
        asked = retry_after(exc)
        # A refusal without a time counts as an attempt, because waits of 0 seconds could repeat endlessly.
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
    """Return the largest number of retries after *exc*: the policy's, or fewer if the error states a limit."""
    limits = [leaf.max_retries for leaf in leaves(exc) if isinstance(leaf, ClawftError)]
    return min((limit for limit in (*limits, policy.max_retries) if limit is not None), default=0)
