from __future__ import annotations

from typing import Any

import pytest
import trio
from hypothesis import example, given, settings, strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from clawft_trio.chat import Call, ChatRequest, ChatResponse, Message, Provider, TextDelta
from clawft_trio.errors import ClawftError, ServerError
from clawft_trio.llm.stream import complete
from clawft_trio.resilience import (
    Bulkhead,
    CircuitBreaker,
    Failover,
    Hedge,
    Hold,
    Policy,
    Resilient,
    Retry,
    RetryBudget,
    Timeout,
    compose,
)
from clawft_trio.testing import Screen
from clawft_trio.testing.machine import TrioMachine, in_mock_time

REQUEST = ChatRequest([Message.user("hello")])


class BucketMachine(TrioMachine):
    """First requests, extra requests and time in any order and for two targets, against exact arithmetic."""

    @initialize(
        capacity=st.sampled_from([0.0, 1.0, 3.0, 10.0]),
        ratio=st.sampled_from([0.0, 0.25, 1.0]),
        per_second=st.sampled_from([0.0, 0.5, 2.0]),
    )
    def begin(self, capacity: float, ratio: float, per_second: float) -> None:
        self.budget = RetryBudget(capacity=capacity, ratio=ratio, per_second=per_second)
        self.balance = {"a": capacity, "b": capacity}
        self.counts = {name: [0, 0, 0] for name in "ab"}
        self.seconds = 0.0

    @rule(name=st.sampled_from("ab"))
    def call(self, name: str) -> None:
        async def step() -> None:
            self.budget.deposit(name)

        self.run(step)
        self.counts[name][0] += 1
        self.balance[name] = min(self.budget.capacity, self.balance[name] + self.budget.ratio)

    @rule(name=st.sampled_from("ab"))
    def try_again(self, name: str) -> None:
        async def step() -> bool:
            return self.budget.withdraw(name)

        allowed = self.run(step)
        assert allowed == (self.balance[name] >= 1.0)
        self.balance[name] -= allowed
        self.counts[name][1 if allowed else 2] += 1

    @precondition(lambda self: hasattr(self, "budget"))
    @rule(seconds=st.sampled_from([0.25, 1.0, 8.0]))
    def pass_time(self, seconds: float) -> None:
        self.advance(seconds)
        self.seconds += seconds
        for name, balance in self.balance.items():
            self.balance[name] = min(self.budget.capacity, balance + seconds * self.budget.per_second)

    @invariant()
    def the_buckets_agree(self) -> None:
        if not hasattr(self, "budget"):
            return
        budget = self.budget

        async def look() -> list[object]:
            return [budget.statistics(name) for name in "ab"]

        for name, seen in zip("ab", self.run(look), strict=True):
            assert [seen.calls, seen.spent, seen.refused] == self.counts[name]
            assert abs(seen.balance - self.balance[name]) < 1e-9
            # The formula of the docstring: every call's first request, and the extra ones that were allowed.
            assert seen.calls + seen.spent <= bound_of(budget, seen.calls, self.seconds) + 1e-9


TestBucketMachine = BucketMachine.TestCase
TestBucketMachine.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)


class Target:
    """A target that is well or broken in one of several ways, and counts its requests."""

    keeps_records = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = "well"
        self.requests = 0
        #: the ids of the calls that asked it
        self.asked_by: set[str] = set()

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        self.requests += 1
        self.asked_by.add(call.id)
        if self.state == "down":
            await trio.sleep(0.5)
            raise ServerError("down", provider=self.name)
        if self.state == "silent":
            await trio.sleep_forever()
        if "slow" in self.state:
            await trio.sleep(3.0)
        await call.emit(TextDelta(self.name))
        if "late" in self.state:
            await trio.sleep(2.25)
        if "breaks" in self.state:
            raise ServerError("broke", provider=self.name)
        await trio.sleep(0.5)
        return ChatResponse(content=self.name, provider=self.name)


WELL = ["well", "slow"]
STATES = [*WELL, "down", "silent", "breaks", "slow breaks", "breaks late", "slow breaks late"]
changes = st.tuples(st.integers(0, 2), st.sampled_from(STATES))
bursts = st.integers(1, 12)
# Calls that an open circuit kept from a target bring it no tokens.
BREAKERS: dict[str, Any] = {
    "begin": ("breaks late", "down", "breaks late"), "steps": [4, (2, "down"), 11, 5, 9], "capacity": 5.0, "ratio": 1.0,
    "per_second": 0.0, "hedge_after": 1.0, "leaf": "breaker retry", "nested": True, "outer": "hedge hedge",
}  # fmt: skip


def bound_of(budget: RetryBudget, calls: int, seconds: float) -> float:
    return calls * (1 + budget.ratio) + budget.capacity + budget.per_second * seconds


# A target is allowed and its attempt cancelled, by the winner of an outer race, before it has begun.
CANCELLED_AS_IT_BEGINS: dict[str, Any] = {
    "begin": ("slow breaks", "slow", "slow breaks"), "steps": [4, 6, 7, 3, 5, 3], "capacity": 5.0, "ratio": 0.25,
    "per_second": 0.0, "hedge_after": 1.0, "leaf": "retry hedge", "nested": False, "outer": "hedge",
}  # fmt: skip


@settings(deadline=None, max_examples=60)
@example(**BREAKERS)
@example(**CANCELLED_AS_IT_BEGINS)
@given(
    begin=st.tuples(*[st.sampled_from(["down", *STATES])] * 3),
    steps=st.lists(changes | bursts, min_size=1, max_size=12),
    capacity=st.sampled_from([0.0, 1.0, 5.0]),
    ratio=st.sampled_from([0.0, 0.25, 1.0]),
    per_second=st.sampled_from([0.0, 0.5]),
    hedge_after=st.sampled_from([None, 1.0]),
    leaf=st.sampled_from(
        ["retry", "hedge", "retry hedge", "hedge retry", "bulkhead retry", "retry breaker", "breaker retry"]
    ),
    nested=st.booleans(),
    outer=st.sampled_from(
        ["", "retry", "hedge", "hedge hedge", "retry hedge", "hedge retry", "free hedge", "hold hedge"]
    ),
)
@in_mock_time
async def test_no_call_is_lost_while_a_target_is_well_and_no_target_gets_more_than_its_bound(
    begin: tuple[str, ...],
    steps: list[tuple[int, str] | int],
    capacity: float,
    ratio: float,
    per_second: float,
    hedge_after: float | None,
    leaf: str,
    nested: bool,
    outer: str,
) -> None:
    """Bursts of calls along a chain whose targets change, with every strategy that sends extra requests."""
    budget = RetryBudget(capacity=capacity, ratio=ratio, per_second=per_second)
    targets = [Target(name) for name in "abc"]
    layers: dict[str, Policy] = {
        "retry": Retry(max_retries=2, first_wait=0.25, budget=budget),
        "hedge": Hedge(after=2.0, extra=2, budget=budget),
        "free": Hedge(after=1.5),
        "breaker": CircuitBreaker(minimum_calls=3, open_for=5.0, longest_open=20.0),
        "bulkhead": Bulkhead(max_concurrent=3),
        "hold": Hold(),
    }

    def under(names: str) -> Policy:
        return compose(*[layers[name] for name in names.split()])

    links: list[Provider] = [Resilient(one, compose(under(leaf), Timeout(first_content=5.0))) for one in targets]
    if nested:
        links[:2] = [Failover(*links[:2], hedge_after=hedge_after, budget=budget, name="inner")]
    chain = Resilient(Failover(*links, hedge_after=hedge_after, budget=budget), under(outer))
    for target, state in zip(targets, begin, strict=True):
        target.state = state

    async def one() -> None:
        screen = Screen()
        try:
            with trio.fail_after(1_000.0):
                response = await complete(chain, REQUEST, screen)
        except ClawftError:
            assert not any(target.state in WELL for target in targets)
        else:
            screen.check(response)
            assert response.text == response.provider

    for step in steps:
        if isinstance(step, tuple):
            targets[step[0]].state = step[1]
            continue
        async with trio.open_nursery() as nursery:
            for _ in range(step):
                nursery.start_soon(one)
        for target in targets:
            bound = bound_of(budget, len(target.asked_by), trio.current_time())
            assert target.requests <= bound + 1e-9, target.name


async def test_retries_deposit_once_also_where_policies_with_one_budget_are_nested(autojump_clock) -> None:
    budget = RetryBudget(capacity=10.0, ratio=1.0, per_second=0.0)
    outer = Retry(max_retries=2, budget=budget, first_wait=0.0).bind("t")
    inner = Retry(max_retries=1, budget=budget, first_wait=0.0).bind("t")
    asked = 0

    async def fails(_: Call) -> str:
        nonlocal asked
        asked += 1
        await trio.lowlevel.checkpoint()
        raise ServerError("down")

    for calls in (1, 2):
        asked = 0
        with pytest.raises(ServerError):
            await outer.run(lambda call: inner.run(fails, call), Call())
        seen = budget.statistics("t")
        assert asked > 3
        assert seen.calls == calls
        assert seen.spent == calls * (asked - 1)
