"""The same again, later."""

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
from clawft_trio.resilience.retry_budget import RetryBudget, may_try_again, note_call
from clawft_trio.resilience.strategy import Attempt, Policy
from clawft_trio.resilience.visibility import Shown

T = TypeVar("T")

Uniform: TypeAlias = Callable[[float, float], float]
"""A source of chance: a number between two others. `random.uniform`, or a seeded one."""


@attrs.frozen(kw_only=True)
class Retry(Policy):
    """Try the same target again when the error says that this may help.

    The wait before retry n (from 1) is drawn evenly from 0 to `min(longest_wait, first_wait * multiplier**(n-1))`: full
    jitter, so that callers which failed together do not come back together. Where the error carries a
    `retry_after`, that is the wait, to the second, because the server knows better; up to `longest_retry_after`,
    beyond which the error is raised at once with the time in it. While another target stands by
    (`Call.elsewhere`) the cap is `longest_retry_after_elsewhere`, and a target that fell silent is not asked again.
    """

    max_retries: int = attrs.field(default=3, validator=ge(0))
    #: seconds; the cap of the first wait
    first_wait: float = attrs.field(default=0.5, validator=ge(0))
    #: by which the cap grows with each further wait
    multiplier: float = attrs.field(default=2.0, validator=[ge(1), attrs.validators.le(100)])
    #: seconds; no drawn wait is longer
    longest_wait: float = attrs.field(default=30.0, validator=ge(0))
    #: the share of a wait that is left to chance: 1 is full jitter, 0 none
    jitter: float = attrs.field(default=1.0, validator=[ge(0), attrs.validators.le(1)])
    #: seconds from the first attempt's start after which no retry may start
    total: float | None = attrs.field(default=None, validator=optional(gt(0)))
    #: seconds; a server that asks for more is not waited for
    longest_retry_after: float = attrs.field(default=60.0, validator=ge(0))
    longest_retry_after_elsewhere: float = attrs.field(default=5.0, validator=ge(0))
    #: which exceptions may be retried: types, or a function; by default it is the error's own word
    on: type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool] | None = None
    budget: RetryBudget | None = None
    uniform: Uniform = attrs.field(default=random.uniform, repr=False)

    async def run(self, attempt: Attempt[T], call: Call) -> T:
        """Run *attempt* until it succeeds, its error is final, or enough was tried.

        Raises:
          Exception: the last attempt's.

        Cancellation: ends the running attempt, or the wait; a wait holds nothing.
        """
        note_call(self.budget, call)
        started = trio.current_time() if self.total is not None else 0.0
        retry = 0
        while True:
            # Nobody watches a plain call, so there is nothing to retract.
            shown = Shown(call.emit) if call.emit is not ignore else None
            try:
                return await attempt(call if shown is None else call.showing(shown))
            except Exception as exc:
                retry += 1
                wait = self._wait_after(exc, retry, call, started)
                if wait is None:
                    raise
                await self._prepare(exc, retry, wait, call, shown)
            await trio.sleep(wait)
            call = attrs.evolve(call, extra=True) if not call.extra else call

    def wait_before(self, retry: int) -> float:
        """Seconds to wait before retry number *retry* (1 is the first), when no server says otherwise."""
        cap = backoff(retry, first=self.first_wait, longest=self.longest_wait, multiplier=self.multiplier)
        return cap if self.jitter == 0 else self.uniform(cap * (1 - self.jitter), cap)

    def _wait_after(self, exc: Exception, retry: int, call: Call, started: float) -> float | None:
        if retry > self._limit(exc) or not self._may_retry(exc, call):
            return None
        wait = self._asked_wait(exc, call)
        if wait is None:
            wait = self.wait_before(retry)
        elif wait < 0:
            return None
        if self.total is not None and trio.current_time() + wait > started + self.total:
            return None
        return wait if may_try_again(self.budget) else None

    def _limit(self, exc: Exception) -> int:
        """Retries after *exc*: the policy's, or fewer where the error says that more are of no use."""
        limits = [leaf.max_retries for leaf in leaves(exc) if isinstance(leaf, ClawftError)]
        return min((limit for limit in (*limits, self.max_retries) if limit is not None), default=0)

    def _may_retry(self, exc: Exception, call: Call) -> bool:
        return all(self._is_retryable(leaf, call) for leaf in leaves(exc))

    def _is_retryable(self, exc: BaseException, call: Call) -> bool:
        if not isinstance(exc, Exception) or (call.elsewhere and getattr(exc, "silent", False)):
            return False
        if self.on is None:
            return isinstance(exc, ClawftError) and exc.retryable
        if isinstance(self.on, type | tuple):
            return isinstance(exc, self.on)
        return self.on(exc)

    def _asked_wait(self, exc: Exception, call: Call) -> float | None:
        """What the server asked for; None when it did not, negative when it asks for too much."""
        asked = [leaf.retry_after for leaf in leaves(exc) if isinstance(leaf, ClawftError)]
        longest = max((seconds for seconds in asked if seconds is not None), default=None)
        if longest is None:
            return None
        cap = self.longest_retry_after_elsewhere if call.elsewhere else self.longest_retry_after
        return max(longest, 0.0) if longest <= cap else -1.0

    async def _prepare(self, exc: Exception, retry: int, wait: float, call: Call, shown: Shown | None) -> None:
        call.observer(RetryScheduled(retry=retry, wait=wait, error=exc, call_id=call.id, turn_id=call.turn_id))
        if shown is not None:
            await shown.retract(exc, call)
