"""Budgets by tokens, by turns and of nested turns, and what happens to reservations of another process."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest
import trio
from costs.ledgers import Clock, claim, usd

from clawft_trio.attempts import Usage
from clawft_trio.costs import MIGRATIONS, Bill, Ledger, Limits, TurnBudget
from clawft_trio.errors import BudgetExceeded
from clawft_trio.store import open_store


@asynccontextmanager
async def open_two(place, clock: Clock | None = None) -> AsyncGenerator[tuple[Ledger, Ledger], None]:
    """Two ledgers on one store, as two processes have."""
    now = clock or Clock()
    async with open_store(place, migrations=MIGRATIONS) as store:
        yield Ledger(store, now=now), Ledger(store, now=now)


def bill(cost: str, tokens: int = 0) -> Bill:
    return Bill(cost=usd(cost), usage=Usage(input_tokens=tokens))


async def test_tokens_have_budgets_of_their_own(place) -> None:
    own, everybody = Limits(daily_tokens=1000), Limits(monthly_tokens=1500)
    async with open_two(place) as (ledger, _):
        first = await ledger.reserve(claim(), usd("5"), own=own, everybody=everybody, tokens=800)
        with pytest.raises(BudgetExceeded) as caught:
            await ledger.reserve(claim(), usd("5"), own=own, everybody=everybody, tokens=201)
        error = caught.value
        assert (error.unit, error.limit, error.spent, error.reserved, error.estimate) == ("tokens", 1000, 0, 800, 201)
        assert not error.curable_elsewhere  # a cheaper target takes as many tokens
        await ledger.settle(first, bill("0", 300))
        await ledger.reserve(claim(), None, own=own, everybody=everybody, tokens=700)
        with pytest.raises(BudgetExceeded) as caught:
            await ledger.reserve(claim("b:2"), None, own=own, everybody=everybody, tokens=501)
        assert (caught.value.limit, caught.value.spent, caught.value.reserved) == (1500, 300, 700)


async def test_turns_have_budgets_and_attempts_of_one_turn_count_once(place) -> None:
    own, clock = Limits(daily_turns=2), Clock()
    async with open_two(place, clock) as (ledger, other):
        for which in (ledger, other):
            await which.reserve(claim(turn_id="t1"), usd("1"), own=own)
        nested = claim(turn_id="t1.1", parent_turn_id="t1", ancestors=("t1",))
        await ledger.reserve(nested, usd("1"), own=own)  # the sender has not started it
        await ledger.reserve(claim(turn_id="t2"), usd("1"), own=own)
        with pytest.raises(BudgetExceeded) as caught:
            await other.reserve(claim(turn_id="t3"), usd("1"), own=own)
        error = caught.value
        assert (error.unit, error.spent, error.limit, error.estimate) == ("turns", 2, 2, 1)
        assert (error.curable_elsewhere, error.retry_after) == (False, 12 * 3600)
        await ledger.reserve(claim(turn_id="t2"), usd("1"), own=own)  # its turn is under way
        await ledger.reserve(claim("b:2", turn_id="t4"), usd("1"), own=own)
        clock.pass_(hours=12)
        await ledger.reserve(claim(turn_id="t3"), usd("1"), own=own)


async def test_a_nested_budget_holds_for_all_turns_below(place) -> None:
    budget = TurnBudget(turn_id="top", usd="1.00", tokens=1000)
    top = claim(turn_id="top", budgets=(budget,))
    child = claim(turn_id="child", parent_turn_id="top", ancestors=("top",), budgets=(budget,))
    inner = TurnBudget(turn_id="grandchild", usd="0.30")
    grandchild = claim(
        turn_id="grandchild", parent_turn_id="child", ancestors=("child", "top"), budgets=(budget, inner)
    )
    async with open_two(place) as (ledger, other):
        spent = await ledger.reserve(top, usd("0.4"), tokens=100)
        await ledger.settle(spent, bill("0.35", 90))
        held = await other.reserve(child, usd("0.4"), tokens=100)
        with pytest.raises(BudgetExceeded) as caught:
            await ledger.reserve(grandchild, usd("0.31"))
        assert (caught.value.limit, caught.value.retry_after) == (usd("0.3"), None)
        with pytest.raises(BudgetExceeded) as caught:
            await ledger.reserve(grandchild, usd("0.26"))
        error = caught.value
        assert (error.limit, error.spent, error.reserved, error.estimate) == (1, usd("0.35"), usd("0.4"), usd("0.26"))
        assert "this turn's budget" in str(error)
        await ledger.reserve(grandchild, usd("0.25"))
        await other.settle(held, bill("0.1", 810))
        with pytest.raises(BudgetExceeded) as caught:
            await other.reserve(child, usd("0"), tokens=101)
        assert (caught.value.unit, caught.value.spent) == ("tokens", 900)
        assert {entry.turn for entry in await ledger.entries(turn="top")} == {"top", "child", "grandchild"}
        (total,) = await ledger.spending(turn="top")
        assert total.cost == usd("0.45")


async def test_a_turn_that_is_taken_over_releases_what_its_process_reserved(place) -> None:
    own = Limits(daily=1)
    async with open_two(place) as (dead, alive):
        lost = await dead.reserve(claim(turn_id="t"), usd("0.6"), own=own, if_lost=bill("0.1", 10))
        below = claim(turn_id="t.1", parent_turn_id="t", ancestors=("t",))
        await dead.reserve(below, usd("0.3"), own=own)
        other = await dead.reserve(claim(turn_id="u"), usd("0.05"), own=own)
        assert await alive.release(["t"]) == 2
        (budget,) = await alive.budgets("telegram:ana", own=own)
        assert (budget.spent, budget.reserved) == (usd("0.1"), usd("0.05"))
        assert await alive.release(["t"]) == 0
        kept = await alive.reserve(claim(turn_id="t"), usd("0.5"), own=own)
        assert await alive.release(["t"]) == 0  # what this process holds is its own
        # The process was not dead after all: what it knows replaces what was assumed.
        assert await dead.settle(lost, bill("0.2", 20))
        assert await dead.refund(other)
        await alive.settle(kept, bill("0.4"))
        (budget,) = await alive.budgets("telegram:ana", own=own)
        assert (budget.spent, budget.reserved) == (usd("0.6"), 0)
        states = {entry.id: (entry.state, entry.note) for entry in await alive.entries()}
        assert states[lost.id] == ("settled", "")
        assert sorted(note for state, note in states.values() if state == "lost") == [
            "its process was replaced by another one"
        ]


@pytest.mark.parametrize("amount", ["-0.01", "NaN", "sNaN", "Infinity", "-Infinity"])
async def test_amounts_that_are_none_are_refused(amount: str) -> None:
    async with open_two(None) as (ledger, _):
        with pytest.raises(ValueError, match="US dollars"):
            await ledger.reserve(claim(), Decimal(amount))
        made = await ledger.reserve(claim(), usd("1"))
        with pytest.raises(ValueError, match="US dollars"):
            await ledger.settle(made, Bill(cost=Decimal(amount)))
        with pytest.raises(ValueError, match="tokens"):
            await ledger.reserve(claim(), usd("1"), tokens=-1)
        with pytest.raises(ValueError, match="0 or more"):
            Limits(daily_tokens=-1)
        with pytest.raises(ValueError, match="impossible usage"):
            Bill(usage=Usage(input_tokens=2**63))
        assert [entry.state for entry in await ledger.entries()] == ["open"]


async def test_sums_of_the_largest_amounts_neither_overflow_nor_stop_others(place) -> None:
    large = Bill(cost=Decimal(10) ** 30, usage=Usage(input_tokens=2**53, output_tokens=2**53))
    async with open_two(place) as (ledger, _):
        for _ in range(12):
            made = await ledger.reserve(claim("eve"), Decimal(10) ** 400, tokens=2**53, if_lost=large)
            await ledger.settle(made, large)
        for _ in range(12):
            await ledger.reserve(claim("eve"), Decimal(10) ** 30)
        (total,) = await ledger.spending()
        assert total.cost == 12_000_000
        (own,) = await ledger.budgets("eve", own=Limits(daily=1))
        assert own.spent == 9_000_000  # as much as the total can hold
        assert own.reserved == 12_000_000
        await ledger.reserve(claim("ana"), usd("0.1"), own=Limits(daily=1))


async def test_five_hundred_callers_on_one_cent_stay_under_it(place) -> None:
    cent = Limits(daily="0.01")
    done: list[bool] = []

    async with open_two(place) as ledgers:

        async def call(number: int) -> None:
            ledger = ledgers[number % 2]
            try:
                made = await ledger.reserve(claim(turn_id=f"t{number}"), usd("0.0003"), own=cent)
            except BudgetExceeded:
                done.append(False)
                return
            await trio.lowlevel.checkpoint()
            await ledger.settle(made, bill("0.0003"))
            done.append(True)

        async with trio.open_nursery() as nursery:
            for number in range(500):
                nursery.start_soon(call, number)
        (budget,) = await ledgers[0].budgets("telegram:ana", own=cent)
    assert len(done) == 500
    assert budget.reserved == 0
    assert budget.spent == sum(done) * usd("0.0003") <= usd("0.01")
    assert sum(done) == 33


@pytest.mark.parametrize("days", [-40, -1, 1, 40, 365])
async def test_a_clock_that_jumps_and_returns_neither_loses_nor_frees_what_was_spent(place, days: int) -> None:
    clock, own = Clock(), Limits(daily=usd("1"))

    async def spend(ledger: Ledger) -> None:
        await ledger.settle(await ledger.reserve(claim(), usd("0.9"), own=own), bill("0.9"))

    async with open_two(place, clock) as (ledger, other):
        await spend(ledger)
        held = await ledger.reserve(claim("b:2"), usd("0.9"), own=own)
        clock.pass_(days=days)
        await ledger.settle(held, bill("0.5"))
        await spend(ledger)
        for again in (ledger, other):
            with pytest.raises(BudgetExceeded):
                await spend(again)
        clock.pass_(days=-days)
        for again in (ledger, other):
            with pytest.raises(BudgetExceeded):
                await spend(again)
        assert sum(one.cost for one in await ledger.spending()) == usd("2.3")
