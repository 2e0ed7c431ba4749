"""The targets that one logical call has asked and is asking, for retry budgets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeAlias


class TargetBudget(Protocol):
    """Limits the requests to each target: `resilience.RetryBudget`."""

    def deposit(self, target: str = "") -> None:
        """Count a call's first request to *target*."""
        ...

    def take_back(self, target: str = "") -> None:
        """Undo a `deposit`, because the call's first request was not sent."""
        ...

    def withdraw(self, target: str = "") -> bool:
        """Take a token for one extra request to *target*; return False if there is none."""
        ...

    def give_back(self, target: str = "") -> None:
        """Return the token of a request that was not sent."""
        ...


_Bucket: TypeAlias = tuple[TargetBudget, str]


class AskedTargets:
    """The targets that one logical call has asked and is asking, as its retry budgets count them.

    All attempts of the call share one object, so that only one request to a target counts as the first. Concurrent
    attempts get a `branch()` each, which records the targets that it is asking.
    """

    __slots__ = ("_branches", "_expected", "_known", "_parent", "_prepaid", "_running")

    def __init__(self, parent: AskedTargets | None = None) -> None:
        self._parent = parent
        # Number of requests by target; the last part of a key distinguishes targets of the same name.
        self._known: dict[tuple[TargetBudget, str, int], int] = {} if parent is None else parent._known
        # Buckets from which the token of one further request was already taken.
        self._prepaid: set[_Bucket] = set() if parent is None else parent._prepaid
        self._running: list[_Bucket] = []
        self._expected: list[_Bucket] = []
        self._branches: list[AskedTargets] = []

    def branch(self) -> AskedTargets:
        """Make a branch of this record, for one of several concurrent attempts; `close` it at the attempt's end."""
        branch = AskedTargets(self)
        self._branches.append(branch)
        return branch

    def close(self) -> None:
        """Remove this branch: its attempt has ended."""
        if self._parent is not None:
            self._parent._branches.remove(self)

    def is_first(self, budget: TargetBudget, target: str, part: int = 0) -> bool:
        """Count a request to *target*; return True for the call's first one, which is always allowed.

        Args:
          part: distinguishes targets of the same name.
        """
        key = (budget, target, part)
        if key in self._known:
            return False
        self._known[key] = 1
        budget.deposit(target)
        return True

    def may_ask(self, budget: TargetBudget, target: str, part: int = 0) -> bool:
        """Count a request to *target*; return False if it needs a token and there is none: then do not send it."""
        if self.is_first(budget, target, part):
            return True
        if not self.may_repeat(budget, target):
            return False
        self._known[budget, target, part] += 1
        return True

    def may_repeat(self, budget: TargetBudget, target: str) -> bool:
        """Count a further request to *target*, with a token that was taken in advance or now; False without one."""
        if (budget, target) in self._prepaid:
            self._prepaid.discard((budget, target))
            return True
        return budget.withdraw(target)

    def prepay(self, budget: TargetBudget, target: str) -> bool:
        """Take the token of a further request to *target* in advance, once; return False if there is none."""
        if (budget, target) not in self._prepaid:
            if not budget.withdraw(target):
                return False
            self._prepaid.add((budget, target))
        return True

    def unsent(self, budget: TargetBudget, target: str, part: int = 0) -> None:
        """Record that a counted request was not sent: the next one needs no token."""
        left = self._known.pop((budget, target, part), 2) - 1
        if left:
            self._known[budget, target, part] = left
            self._prepaid.add((budget, target))
        else:
            budget.take_back(target)

    def expect(self, budget: TargetBudget, target: str) -> None:
        """Record that *target* is about to be asked, until `asking` says so or this branch is closed."""
        self._expected.append((budget, target))

    def started(self, budget: TargetBudget, target: str) -> None:
        """Record that the attempt that `expect` announced has started."""
        if (budget, target) in self._expected:
            self._expected.remove((budget, target))

    @contextmanager
    def asking(self, budget: TargetBudget, target: str) -> Iterator[None]:
        """Record *target*, during the block, as one that this branch is asking."""
        self._running.append((budget, target))
        try:
            yield
        finally:
            self._running.remove((budget, target))

    def _asked_now(self) -> Iterator[_Bucket]:
        yield from self._running
        yield from self._expected
        for branch in self._branches:
            yield from branch._asked_now()

    def prepay_running(self) -> list[_Bucket] | None:
        """Prepay every target that this branch is asking, so that the branch can be cancelled and repeated.

        Returns the buckets of the tokens taken now, for `give_back`; None, and takes nothing, if a bucket is empty.
        """
        taken: list[_Bucket] = []
        for bucket in dict.fromkeys(self._asked_now()):
            if bucket in self._prepaid:
                continue
            if not self.prepay(*bucket):
                self.give_back(taken)
                return None
            taken.append(bucket)
        return taken

    def give_back(self, taken: Iterable[_Bucket]) -> None:
        """Return the tokens of `prepay_running` that were not used."""
        for bucket in taken:
            if bucket in self._prepaid:
                self._prepaid.discard(bucket)
                bucket[0].give_back(bucket[1])
