"""A retry budget: a limit on repeated requests to each target, so that retries do not overload it."""

from __future__ import annotations

from collections import OrderedDict

import attrs
import trio

MAX_TARGETS = 1000
"""Number of targets with a bucket; beyond it the bucket of the target used longest ago is removed."""


@attrs.frozen(kw_only=True)
class RetryBudgetStatistics:
    """Counters of a `RetryBudget`, for one target or for all of them."""

    #: number of extra requests that could start now; of several targets, the smallest
    balance: float
    #: number of calls that asked the target; of several targets, the sum
    calls: int
    spent: int
    refused: int


class RetryBudget:
    """One token bucket per target, for all requests to it except the first one of each call.

    A call's first request to a target is always free and adds `ratio` tokens to that target's bucket; so a failover to
    a target that the call has not asked yet is always allowed. A token is taken by: a retry, another request to the
    same target in a second round or by a `Hedge`, and a hedge between targets, which is charged to the slow one because
    that may have to be asked again. "First" counts all requests of the call, whatever strategies are around the chain.
    The loser of a race is cancelled only if tokens are left to ask its targets again, in case the winner fails; else it
    waits for the end of the winner, with its request open. Each bucket starts full at `capacity`, gains `per_second`
    tokens per second and never holds more than `capacity`. So for every target, over any period and whatever fails,

        requests <= calls * (1 + ratio) + floor        with floor = capacity + per_second * seconds

    where `calls` counts the calls that asked this target; and no call fails for lack of a token while a target of its
    chain works. The design and the defaults, 20 % and 10 per second, are those of Finagle's `RetryBudget`; because
    buckets start full, a process that has just started survives a minute of failures.

    Share one object among all policies of a process.
    """

    def __init__(self, *, capacity: float = 100.0, ratio: float = 0.2, per_second: float = 10.0) -> None:
        if not min(capacity, ratio, per_second) >= 0:
            raise ValueError("capacity, ratio and per_second must not be negative")
        self.capacity = capacity
        self.ratio = ratio
        self.per_second = per_second
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __repr__(self) -> str:
        buckets = ", ".join(f"{name or '(unnamed)'} {bucket.balance:.1f}" for name, bucket in self._buckets.items())
        return f"<RetryBudget of {self.capacity:g}: {buckets or 'unused'}>"

    def deposit(self, target: str = "") -> None:
        """Count a call's first request to *target*."""
        bucket = self._bucket(target)
        bucket.calls += 1
        bucket.balance = min(self.capacity, bucket.balance + self.ratio)

    def take_back(self, target: str = "") -> None:
        """Undo a `deposit`, because the call did not ask *target*."""
        bucket = self._bucket(target)
        bucket.calls = max(0, bucket.calls - 1)
        bucket.balance -= self.ratio

    def withdraw(self, target: str = "") -> bool:
        """Take a token for one extra request to *target*; return False if there is none: then do not send it."""
        bucket = self._bucket(target)
        if bucket.balance < 1.0:
            bucket.refused += 1
            return False
        bucket.balance -= 1.0
        bucket.spent += 1
        return True

    def give_back(self, target: str = "") -> None:
        """Return a token that `withdraw` took for a request that was not sent."""
        bucket = self._bucket(target)
        bucket.balance = min(self.capacity, bucket.balance + 1.0)
        bucket.spent = max(0, bucket.spent - 1)

    def statistics(self, target: str | None = None) -> RetryBudgetStatistics:
        """Return the counters of *target*, or of all targets together."""
        names = [*self._buckets] if target is None else [target]
        buckets = [self._bucket(name) for name in names]
        return RetryBudgetStatistics(
            balance=min((bucket.balance for bucket in buckets), default=self.capacity),
            calls=sum(bucket.calls for bucket in buckets),
            spent=sum(bucket.spent for bucket in buckets),
            refused=sum(bucket.refused for bucket in buckets),
        )

    def _bucket(self, target: str) -> _Bucket:
        now = trio.current_time()
        bucket = self._buckets.get(target)
        if bucket is None:
            bucket = self._buckets[target] = _Bucket(balance=self.capacity, as_of=now)
            if len(self._buckets) > MAX_TARGETS:
                self._buckets.popitem(last=False)
        bucket.balance = min(self.capacity, bucket.balance + (now - bucket.as_of) * self.per_second)
        bucket.as_of = now
        self._buckets.move_to_end(target)
        return bucket


@attrs.define
class _Bucket:
    balance: float
    as_of: float
    calls: int = 0
    spent: int = 0
    refused: int = 0
