"""A bound on extra requests, per target: retries must not become the outage."""

from __future__ import annotations

from collections import OrderedDict

import attrs
import trio

MAX_TARGETS = 1000
"""Targets that are remembered; beyond it the one that was used longest ago is forgotten, its bucket full again."""


@attrs.frozen(kw_only=True)
class RetryBudgetStatistics:
    """What a `RetryBudget` has counted, for one target or for all of them."""

    #: extra requests that could start right now; over several targets, the least of them
    balance: float
    #: calls that asked the target; over several targets, their sum
    calls: int
    spent: int
    refused: int


class RetryBudget:
    """One token bucket per target, for every request to it that is not a call's first.

    A call's first request to a target is always free and brings `ratio` tokens to that target's bucket; so a failover
    to a target that the call has not asked yet always goes. What takes a token: a retry, a request to the same target
    in a second round or beside itself (`Hedge`), and a hedge between targets, which is charged to the one that is slow
    because that one may have to be asked again. First is counted over all that runs for the call, whatever strategies
    are around the chain. The loser of a race is cancelled only if tokens are left to ask its targets again, should the
    winner break; else it waits for the winner's end, with its request open. Each bucket starts full at `capacity`,
    gains `per_second` tokens a second and never holds more than `capacity`. So for every target, over any stretch of
    time and whatever fails,

        requests <= calls * (1 + ratio) + floor        with floor = capacity + per_second * seconds

    where `calls` counts the calls that asked this target; and no call is lost for want of a token while a target of its
    chain is well. The shape and the defaults, 20 % and 10 a second, are those of Finagle's `RetryBudget`; the full
    start lets a process that has just begun survive a bad minute.

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
        """Note a call's first request to *target*."""
        bucket = self._bucket(target)
        bucket.calls += 1
        bucket.balance = min(self.capacity, bucket.balance + self.ratio)

    def withdraw(self, target: str = "") -> bool:
        """Take a token for one extra request to *target*; False when there is none, and then it must not be sent."""
        bucket = self._bucket(target)
        if bucket.balance < 1.0:
            bucket.refused += 1
            return False
        bucket.balance -= 1.0
        bucket.spent += 1
        return True

    def give_back(self, target: str = "") -> None:
        """Return a token that `withdraw` took for a request which was not sent after all."""
        bucket = self._bucket(target)
        bucket.balance = min(self.capacity, bucket.balance + 1.0)
        bucket.spent = max(0, bucket.spent - 1)

    def statistics(self, target: str | None = None) -> RetryBudgetStatistics:
        """The bucket of *target* now, or all buckets together."""
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
