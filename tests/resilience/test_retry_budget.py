from __future__ import annotations

from hypothesis import settings, strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from clawft_trio.resilience import RetryBudget
from clawft_trio.testing.machine import TrioMachine


class BudgetMachine(TrioMachine):
    """Calls, extra attempts and time in any order, against exact arithmetic and against the formula."""

    @initialize(
        capacity=st.sampled_from([0.0, 1.0, 3.0, 10.0]),
        ratio=st.sampled_from([0.0, 0.25, 1.0]),
        per_second=st.sampled_from([0.0, 0.5, 2.0]),
    )
    def begin(self, capacity: float, ratio: float, per_second: float) -> None:
        self.budget = RetryBudget(capacity=capacity, ratio=ratio, per_second=per_second)
        self.balance = capacity
        self.now = 0.0
        self.calls = self.spent = self.refused = 0
        # The clock of the bucket starts with its first use.
        self.used = False

    def _use(self) -> None:
        self.used = True

    @rule()
    def call(self) -> None:
        async def step() -> None:
            self.budget.deposit()

        self.run(step)
        self._use()
        self.calls += 1
        self.balance = min(self.budget.capacity, self.balance + self.budget.ratio)

    @rule()
    def try_again(self) -> None:
        async def step() -> bool:
            return self.budget.withdraw()

        allowed = self.run(step)
        self._use()
        assert allowed == (self.balance >= 1.0)
        if allowed:
            self.balance -= 1.0
            self.spent += 1
        else:
            self.refused += 1

    @precondition(lambda self: self.used)
    @rule(seconds=st.sampled_from([0.25, 1.0, 8.0]))
    def pass_time(self, seconds: float) -> None:
        self.advance(seconds)
        self.now += seconds
        self.balance = min(self.budget.capacity, self.balance + seconds * self.budget.per_second)

    @invariant()
    def the_books_agree(self) -> None:
        if not hasattr(self, "budget"):
            return
        budget = self.budget

        async def look() -> object:
            return budget.statistics()

        books = self.run(look)
        self._use()
        assert (books.calls, books.spent, books.refused) == (self.calls, self.spent, self.refused)
        assert abs(books.balance - self.balance) < 1e-9
        assert self.spent <= budget.capacity + budget.ratio * self.calls + budget.per_second * self.now + 1e-9


TestBudgetMachine = BudgetMachine.TestCase
TestBudgetMachine.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
