"""Several processes spend one budget: at no commit is more spent and reserved than it allows."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

import trio

from clawft_trio.costs import MIGRATIONS, Ledger, Limits
from clawft_trio.store import open_store

LIMIT = Decimal("0.10")

SPEND = """
import random, sys, trio
from decimal import Decimal
from clawft_trio.costs import MIGRATIONS, Bill, Claim, Ledger, Limits
from clawft_trio.errors import BudgetExceeded
from clawft_trio.store import open_store

async def spend(ledger, number, chance):
    for _ in range(15):
        try:
            claim = Claim(sender_id="all", target="p/m")
            held = await ledger.reserve(claim, Decimal("0.01"), own=Limits(daily=Decimal("0.10")))
        except BudgetExceeded:
            continue
        await trio.sleep(chance.random() * 0.01)
        if chance.random() < 0.5:
            await ledger.refund(held)
        else:
            await ledger.settle(held, Bill(cost=Decimal("0.004"), outcome="ok"))

async def main(place, seed):
    chance = random.Random(seed)
    async with open_store(place, migrations=MIGRATIONS, busy=30) as store:
        ledger = Ledger(store)
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(spend, ledger, number, chance)

trio.run(main, sys.argv[1], int(sys.argv[2]))
"""


async def test_processes_never_spend_and_reserve_more_than_the_budget(shared_place) -> None:
    seen: set[Decimal] = set()
    done = trio.Event()
    async with open_store(shared_place, migrations=MIGRATIONS, busy=30) as store:
        ledger = Ledger(store)

        async def watch() -> None:
            while not done.is_set():
                [budget] = await ledger.budgets("all", own=Limits(daily=LIMIT))
                assert budget.spent + budget.reserved <= LIMIT
                seen.add(budget.spent + budget.reserved)
                await trio.sleep(0.002)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            async with trio.open_nursery() as children:
                for seed in range(3):
                    command = [sys.executable, "-c", SPEND, str(shared_place), str(seed)]
                    children.start_soon(lambda command=command: trio.run_process(command, stderr=subprocess.STDOUT))
            done.set()
        [budget] = await ledger.budgets("all", own=Limits(daily=LIMIT))
        rows = await store.read(
            lambda c: c.execute(
                "SELECT count(*), coalesce(sum(cost), 0) FROM cost_charges WHERE state = 'settled'"
            ).fetchone()
        )
    assert budget.reserved == 0
    assert budget.spent == Decimal("0.004") * rows[0]
    assert Decimal(0) < budget.spent <= LIMIT
    assert len(seen) > 1
