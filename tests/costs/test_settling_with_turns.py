"""Attempts of turns with fenced writes are settled together with those writes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import pytest
from costs.ledgers import claim, usd

from clawft_trio.attempts import Usage
from clawft_trio.costs import MIGRATIONS, Bill, CostTracker, Ledger, Limits
from clawft_trio.errors import BudgetExceeded, LeaseLost
from clawft_trio.store import Store, open_store
from clawft_trio.store.leases import LEASE_MIGRATIONS
from clawft_trio.store.ownership import Ownership

BILL = Bill(cost=usd("0.25"))
TURN = attrs.evolve(claim(), turn_id="t")


@asynccontextmanager
async def guarded(place) -> AsyncGenerator[tuple[Store, Ownership, CostTracker], None]:
    """A store with one turn, `t`, whose writes are fenced."""
    async with open_store(place, migrations=(*MIGRATIONS, *LEASE_MIGRATIONS)) as store:
        ownership, tracker = Ownership(store), CostTracker(Ledger(store))
        tracker.join_turns(ownership)
        assert await ownership.acquire("session:s")
        lease = ownership.lease_of("session:s")
        assert lease is not None
        ownership.guard("t", lease)
        yield store, ownership, tracker


async def states(tracker: CostTracker) -> list[str]:
    return sorted(entry.state for entry in await tracker.ledger.entries())


async def test_a_settlement_is_written_with_the_next_write_of_its_turn(place) -> None:
    async with guarded(place) as (store, ownership, tracker):
        made = await tracker.ledger.reserve(TURN, usd("1"))
        before = store.statistics().written
        await tracker.update(made, BILL)
        assert store.statistics().written == before
        await ownership.write("t", lambda _: None, ends=True)
        assert store.statistics().written == before + 1
        [entry] = await tracker.ledger.entries()
        assert (entry.state, entry.cost) == ("settled", usd("0.25"))
        [total] = await tracker.ledger.spending()
        assert total.cost == usd("0.25")


async def test_a_refund_is_written_with_the_next_write_of_its_turn(place) -> None:
    async with guarded(place) as (_, ownership, tracker):
        await tracker.refund(await tracker.ledger.reserve(TURN, usd("1")))
        await ownership.write("t", lambda _: None)
        assert await states(tracker) == ["refunded"]


async def test_the_next_reservation_of_the_turn_settles_first_and_the_write_does_not_count_twice(place) -> None:
    async with guarded(place) as (_, ownership, tracker):
        own = Limits(daily=usd("1"))
        made = await tracker.ledger.reserve(TURN, usd("1"), own=own)
        await tracker.update(made, BILL)
        with pytest.raises(BudgetExceeded):
            await tracker.ledger.reserve(TURN, usd("0.75"), own=own)
        write = tracker._settling.write_of("t")
        with pytest.raises(BudgetExceeded):
            await tracker.ledger.reserve(TURN, usd("0.76"), own=own, write=write)
        assert await states(tracker) == ["open"]
        await tracker.ledger.reserve(TURN, usd("0.75"), own=own, write=write)
        await ownership.write("t", lambda _: None)
        assert await states(tracker) == ["open", "settled"]
        [total] = await tracker.ledger.spending()
        assert total.cost == usd("0.25")


async def test_a_settlement_of_a_turn_that_ends_without_a_write_is_owed(place) -> None:
    async with guarded(place) as (_, ownership, tracker):
        await tracker.update(await tracker.ledger.reserve(TURN, usd("1")), BILL)
        ownership.unguard("t")
        assert await states(tracker) == ["open"]
        await tracker.settle_owed()
        assert await states(tracker) == ["settled"]


async def test_a_settlement_of_a_turn_that_another_process_has_taken_is_owed(place) -> None:
    async with guarded(place) as (store, ownership, tracker):
        await tracker.update(await tracker.ledger.reserve(TURN, usd("1")), BILL)
        await store.transact(lambda connection: connection.execute("UPDATE leases SET token = token + 1").rowcount)
        with pytest.raises(LeaseLost):
            await ownership.write("t", lambda _: None, ends=True)
        ownership.unguard("t")
        await tracker.settle_owed()
        assert await states(tracker) == ["settled"]


@pytest.mark.parametrize("text", ["flex\0", "fl\ud800ex", "flex\U0001f600"])
async def test_a_service_tier_that_no_engine_can_store_does_not_keep_the_turn_from_ending(place, text: str) -> None:
    async with guarded(place) as (_, ownership, tracker):
        made = await tracker.ledger.reserve(TURN, usd("1"))
        await tracker.update(made, Bill(cost=usd("0.25"), usage=Usage(input_tokens=1, service_tier=text), note=text))
        await ownership.write("t", lambda _: None, ends=True)
        assert await states(tracker) == ["settled"]
