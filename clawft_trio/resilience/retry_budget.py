"""A bound on extra requests for the whole process: retries must not become the outage."""

from __future__ import annotations

from typing import Any

import attrs
import trio


@attrs.frozen(kw_only=True)
class RetryBudgetStatistics:
    """What a `RetryBudget` has seen."""

    #: extra attempts that could start right now
    balance: float
    calls: int
    spent: int
    refused: int


class RetryBudget:
    """A token bucket shared by all retries, hedges and failovers of a process.

    Every logical call brings `ratio` tokens, every second brings `per_second`; an extra attempt takes one; the
    bucket starts full and never holds more than `capacity`. So over any stretch of time

        extra attempts <= capacity + ratio * calls + per_second * seconds

    whatever fails. The shape and its defaults, 20 % and 10 a second, are Finagle's `RetryBudget`; the full start
    lets a process that has just begun survive a bad minute.

    One object per process, handed to every policy that starts extra attempts.
    """

    def __init__(self, *, capacity: float = 100.0, ratio: float = 0.2, per_second: float = 10.0) -> None:
        if min(capacity, ratio, per_second) < 0:
            raise ValueError("capacity, ratio and per_second must not be negative")
        self.capacity = capacity
        self.ratio = ratio
        self.per_second = per_second
        self._balance = capacity
        self._as_of: float | None = None
        self._calls = 0
        self._spent = 0
        self._refused = 0

    def __repr__(self) -> str:
        return f"<RetryBudget {self._balance:.1f} of {self.capacity:g}, {self._spent} spent, {self._refused} refused>"

    def deposit(self) -> None:
        """Note a logical call."""
        self._calls += 1
        self._refill(self.ratio)

    def withdraw(self) -> bool:
        """Take a token for one extra attempt; False when there is none, and then it must not start."""
        self._refill(0.0)
        if self._balance < 1.0:
            self._refused += 1
            return False
        self._balance -= 1.0
        self._spent += 1
        return True

    def statistics(self) -> RetryBudgetStatistics:
        """The bucket now."""
        self._refill(0.0)
        return RetryBudgetStatistics(balance=self._balance, calls=self._calls, spent=self._spent, refused=self._refused)

    def _refill(self, tokens: float) -> None:
        now = trio.current_time()
        elapsed = 0.0 if self._as_of is None else now - self._as_of
        self._as_of = now
        self._balance = min(self.capacity, self._balance + tokens + elapsed * self.per_second)


def may_try_again(budget: RetryBudget | None) -> bool:
    """Whether one more attempt is allowed, and paid for, by *budget*."""
    return budget is None or budget.withdraw()


def note_call(budget: RetryBudget | None, call: Any) -> None:
    """Let *budget* know of a logical call; of attempts that are extra themselves it has heard already."""
    if budget is not None and not call.extra:
        budget.deposit()
