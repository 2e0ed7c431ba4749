"""What one logical call has asked and asks, target by target, as retry budgets count it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeAlias


class TargetBudget(Protocol):
    """What bounds the requests to each target: `resilience.RetryBudget`."""

    def deposit(self, target: str = "") -> None:
        """Note a call's first request to *target*."""
        ...

    def withdraw(self, target: str = "") -> bool:
        """Take a token for one extra request to *target*, if there is one."""
        ...

    def give_back(self, target: str = "") -> None:
        """Return a token whose request was not sent."""
        ...


_Bucket: TypeAlias = tuple[TargetBudget, str]


class AskedTargets:
    """The targets that one logical call has asked and asks, as its retry budgets count them.

    One object serves everything that runs for the call, so that a target's first request is known as the first
    wherever it comes from. Attempts that run side by side get a `branch()` each, which knows what it is asking.
    """

    __slots__ = ("_known", "_parent", "_prepaid", "_running")

    def __init__(self, parent: AskedTargets | None = None) -> None:
        self._parent = parent
        self._known: set[tuple[TargetBudget, str, int]] = set() if parent is None else parent._known
        # Buckets with the token of one further request taken already.
        self._prepaid: set[_Bucket] = set() if parent is None else parent._prepaid
        self._running: list[_Bucket] = []

    def branch(self) -> AskedTargets:
        """The same record, for one of several attempts that run side by side."""
        return AskedTargets(self)

    def is_first(self, budget: TargetBudget, target: str, part: int = 0) -> bool:
        """Enter a request to *target*: True for the call's first, which is always allowed.

        Args:
          part: tells targets of the same name apart.
        """
        key = (budget, target, part)
        if key in self._known:
            return False
        self._known.add(key)
        budget.deposit(target)
        return True

    def may_ask(self, budget: TargetBudget, target: str, part: int = 0) -> bool:
        """Enter a request to *target*; False when it needs a token and there is none, and then it must not be sent."""
        if (budget, target) not in self._prepaid and self.is_first(budget, target, part):
            return True
        return self.may_repeat(budget, target)

    def may_repeat(self, budget: TargetBudget, target: str) -> bool:
        """Enter a further request to *target*, by a token that was taken in advance or now."""
        if (budget, target) in self._prepaid:
            self._prepaid.discard((budget, target))
            return True
        return budget.withdraw(target)

    def prepay(self, budget: TargetBudget, target: str) -> bool:
        """Take the token of a further request to *target* now, unless that was done; False when there is none."""
        if (budget, target) not in self._prepaid:
            if not budget.withdraw(target):
                return False
            self._prepaid.add((budget, target))
        return True

    def unsent(self, budget: TargetBudget, target: str) -> None:
        """Note that a request which had been entered was not sent: the next one is paid for."""
        self._prepaid.add((budget, target))

    @contextmanager
    def asking(self, budget: TargetBudget, target: str) -> Iterator[None]:
        """Have *target* among those which this branch, and all above it, are asking."""
        bucket = (budget, target)
        branch: AskedTargets | None = self
        while branch is not None:
            branch._running.append(bucket)
            branch = branch._parent
        try:
            yield
        finally:
            branch = self
            while branch is not None:
                branch._running.remove(bucket)
                branch = branch._parent

    def prepay_running(self) -> list[_Bucket] | None:
        """Prepay every target that this branch is asking, so that the branch can be cancelled and made again.

        Returns what was taken now, for `give_back`; None, and nothing taken, when a bucket is empty.
        """
        taken: list[_Bucket] = []
        for bucket in dict.fromkeys(self._running):
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
