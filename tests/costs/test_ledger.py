"""The ledger: never more than the limits, whatever happens in between."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import attrs
import pytest
import trio
from costs.ledgers import NOON, Clock, claim, open_ledger, usd

from clawft_trio.attempts import Usage
from clawft_trio.codec import decode_json, encode_json
from clawft_trio.costs import Bill, Calendar, Claim, Ledger, Limits, TurnBudget
from clawft_trio.errors import BudgetExceeded, StoreBusy
from clawft_trio.store import Store
from clawft_trio.testing.sweep import cancel_everywhere

DOLLAR = Limits(daily=Decimal(1))


async def test_spent_and_reserved_together_stay_within_the_limit() -> None:
    async with open_ledger() as ledger:
        first = await ledger.reserve(claim(), usd("0.6"), own=DOLLAR)
        with pytest.raises(BudgetExceeded) as caught:
            await ledger.reserve(claim(), usd("0.41"), own=DOLLAR)
        assert (caught.value.spent, caught.value.limit) == (0, 1)
        assert caught.value.retry_after == 900  # the reservation alone is in the way, and its lease ends
        assert (caught.value.reserved, caught.value.estimate) == (usd("0.6"), usd("0.41"))
        assert caught.value.curable_elsewhere  # something cheaper would fit
        await ledger.settle(first, Bill(cost=usd("0.25")))
        second = await ledger.reserve(claim(), usd("0.75"), own=DOLLAR)
        await ledger.refund(second)
        (budget,) = await ledger.budgets("telegram:ana", own=DOLLAR)
        assert (budget.spent, budget.reserved, budget.left) == (usd("0.25"), 0, usd("0.75"))


async def test_what_could_never_fit_has_no_time_to_come_back() -> None:
    async with open_ledger() as ledger:
        with pytest.raises(BudgetExceeded) as caught:
            await ledger.reserve(claim(), usd("1.01"), own=DOLLAR)
        assert caught.value.retry_after is None


async def test_the_limit_that_ends_last_says_when_to_come_back() -> None:
    async with open_ledger() as ledger:
        spent = await ledger.reserve(claim(), usd("0.9"), own=Limits(daily=1, monthly=1))
        await ledger.settle(spent, Bill(cost=usd("0.9")))
        with pytest.raises(BudgetExceeded) as caught:
            await ledger.reserve(claim(), usd("0.5"), own=Limits(daily=1, monthly=1))
        assert caught.value.retry_after == (datetime(2026, 12, 1, tzinfo=UTC) - NOON).total_seconds()
        with pytest.raises(BudgetExceeded) as caught:
            await ledger.reserve(claim(), usd("0.5"), own=Limits(daily=1, monthly=2))
        assert caught.value.retry_after == 12 * 3600


async def test_the_time_to_come_back_is_when_enough_leases_have_ended() -> None:
    clock = Clock()
    async with open_ledger(clock, lease=600.0) as ledger:
        for cents in ("0.3", "0.3", "0.3"):
            await ledger.reserve(claim(), usd(cents), own=DOLLAR, if_lost=Bill(cost=usd("0.1")))
            clock.pass_(seconds=100)
        for amount, wait in (("0.25", 300), ("0.45", 400), ("0.65", 500), ("0.8", 12 * 3600 - 300)):
            with pytest.raises(BudgetExceeded) as caught:
                await ledger.reserve(claim(), usd(amount), own=DOLLAR)
            assert caught.value.retry_after == wait
        clock.pass_(seconds=400)
        await ledger.reserve(claim(), usd("0.45"), own=DOLLAR)


async def test_everybody_together_has_a_limit_and_senders_do_not_share_theirs() -> None:
    async with open_ledger() as ledger:
        for sender in ("telegram:1", "discord:1"):
            await ledger.reserve(claim(sender), usd("0.8"), own=DOLLAR, everybody=Limits(daily=2))
        with pytest.raises(BudgetExceeded) as caught:
            await ledger.reserve(claim("slack:1"), usd("0.8"), own=DOLLAR, everybody=Limits(daily=2))
        assert caught.value.limit == 2
        assert "the shared" in str(caught.value)


async def test_a_sender_cannot_be_called_everybody() -> None:
    async with open_ledger() as ledger:
        made = await ledger.reserve(claim("*"), usd("0.5"))
        await ledger.settle(made, Bill(cost=usd("0.5")))
        other = await ledger.reserve(claim("x"), usd("0.5"))
        await ledger.settle(other, Bill(cost=usd("0.5")))
        own, everybody = await ledger.budgets("*", own=DOLLAR, everybody=DOLLAR)
        assert (own.spent, everybody.spent) == (usd("0.5"), 1)


async def test_what_has_no_price_is_refused_once_nothing_is_left() -> None:
    async with open_ledger() as ledger:
        free = await ledger.reserve(claim(), None, own=DOLLAR)
        await ledger.settle(free, Bill(usage=Usage(input_tokens=5), cost=None))
        await ledger.reserve(claim(), usd("1"), own=DOLLAR)
        with pytest.raises(BudgetExceeded) as caught:
            await ledger.reserve(claim(), None, own=DOLLAR)
        assert not caught.value.curable_elsewhere
        await ledger.reserve(claim(), usd("0"), own=DOLLAR)  # what is known to be free is free
        (_, _, entry) = await ledger.entries()
        assert (entry.cost, entry.reserved, entry.input_tokens) == (None, None, 5)


async def test_a_new_day_begins_with_nothing_spent_and_everything_reserved() -> None:
    clock = Clock()
    async with open_ledger(clock, lease=1e9) as ledger:
        limits = Limits(daily=1, monthly=2)
        spent = await ledger.reserve(claim(), usd("0.4"), own=limits)
        await ledger.settle(spent, Bill(cost=usd("0.4")))
        over_night = await ledger.reserve(claim(), usd("0.5"), own=limits)
        clock.pass_(hours=12)
        day, month = await ledger.budgets("telegram:ana", own=limits)
        assert (day.spent, day.reserved) == (0, usd("0.5"))
        assert (month.spent, month.reserved) == (usd("0.4"), usd("0.5"))
        await ledger.settle(over_night, Bill(cost=usd("0.3")))
        day, month = await ledger.budgets("telegram:ana", own=limits)
        assert (day.spent, day.reserved) == (usd("0.3"), 0)
        assert (month.spent, month.reserved) == (usd("0.7"), 0)


@pytest.mark.parametrize(
    ("at", "reset", "day", "ends", "month", "month_ends"),
    [
        ("2026-11-21T12:00", 0, "2026-11-21", "2026-11-22T00:00", "2026-11", "2026-12-01T00:00"),
        ("2026-11-21T03:59", 4, "2026-11-20", "2026-11-21T04:00", "2026-11", "2026-12-01T04:00"),
        ("2026-12-01T03:59", 4, "2026-11-30", "2026-12-01T04:00", "2026-11", "2026-12-01T04:00"),
        ("2026-12-31T23:59", 0, "2026-12-31", "2027-01-01T00:00", "2026-12", "2027-01-01T00:00"),
        ("2028-02-29T05:00", 5, "2028-02-29", "2028-03-01T05:00", "2028-02", "2028-03-01T05:00"),
    ],
)
def test_days_begin_at_the_reset_hour_and_months_with_their_first_day(
    at: str, reset: int, day: str, ends: str, month: str, month_ends: str
) -> None:
    calendar, now = Calendar(reset), datetime.fromisoformat(at).replace(tzinfo=UTC)
    assert (calendar.day(now).key, calendar.month(now).key) == (day, month)
    assert calendar.day(now).ends == datetime.fromisoformat(ends).replace(tzinfo=UTC)
    assert calendar.month(now).ends == datetime.fromisoformat(month_ends).replace(tzinfo=UTC)


async def test_a_lease_that_ends_is_charged_with_its_request_and_no_more() -> None:
    clock = Clock()
    async with open_ledger(clock, lease=60.0) as ledger:
        sent = Bill(usage=Usage(input_tokens=100), cost=usd("0.1"))
        await ledger.reserve(claim(), usd("0.9"), own=DOLLAR, if_lost=sent)
        clock.pass_(seconds=60)
        (before,) = await ledger.budgets("telegram:ana", own=DOLLAR)
        await ledger.reserve(claim(), usd("0.9"), own=DOLLAR)
        (after,) = await ledger.budgets("telegram:ana", own=DOLLAR)
        assert (before.left, after.left, after.spent) == (usd("0.9"), 0, usd("0.1"))
        (lost,) = [entry for entry in await ledger.entries() if entry.state == "lost"]
        assert (lost.cost, lost.certainty, lost.input_tokens, lost.outcome) == (usd("0.1"), "estimated", 100, "lost")


async def test_a_reservation_from_before_the_clock_was_set_back_blocks_for_one_more_lease_at_most() -> None:
    clock, limits = Clock(), Limits(daily=usd("1"))
    async with open_ledger(clock, lease=60.0) as ledger:
        await ledger.reserve(claim(), usd("1"), own=limits)
        clock.pass_(hours=-1)
        for left in (60, 40, 20):
            with pytest.raises(BudgetExceeded) as caught:
                await ledger.reserve(claim(), usd("1"), own=limits)
            assert caught.value.retry_after == left
            clock.pass_(seconds=20)
        await ledger.reserve(claim(), usd("1"), own=limits)
        assert [entry.state for entry in await ledger.entries()] == ["open", "lost"]


async def test_input_and_output_count_as_spent_tokens() -> None:
    limits = Limits(daily_tokens=100)
    async with open_ledger() as ledger:
        reservation = await ledger.reserve(claim(), None, own=limits, tokens=100)
        await ledger.settle(reservation, Bill(usage=Usage(input_tokens=60, output_tokens=30)))
        [budget] = await ledger.budgets(claim().sender_id, own=limits)
        assert (budget.spent, budget.reserved, budget.left) == (90, 0, 10)


async def test_the_tokens_of_a_late_bill_replace_those_of_the_lost_charge() -> None:
    clock, limits = Clock(), Limits(daily_tokens=1000)
    lost = Bill(usage=Usage(input_tokens=50))
    async with open_ledger(clock, lease=60.0) as ledger:
        late = await ledger.reserve(claim(), None, own=limits, tokens=100, if_lost=lost)
        clock.pass_(seconds=61)
        await ledger.refund(await ledger.reserve(claim(), None, own=limits))
        for settled in (50, 90):
            [budget] = await ledger.budgets(claim().sender_id, own=limits)
            assert budget.spent == settled
            await ledger.settle(late, Bill(usage=Usage(input_tokens=60, output_tokens=30)))


async def test_a_longer_lease_of_another_process_is_not_shortened() -> None:
    clock, limits = Clock(), Limits(daily=usd("1"))
    async with open_ledger(clock, lease=60.0) as ledger:
        await Ledger(ledger.store, lease=600.0, now=clock).reserve(claim(), usd("1"), own=limits)
        with pytest.raises(BudgetExceeded) as caught:
            await ledger.reserve(claim(), usd("1"), own=limits)
        assert caught.value.retry_after == 600


@pytest.mark.parametrize("settled", [True, False])
async def test_who_comes_back_after_the_lease_puts_the_charge_right(settled: bool) -> None:
    clock = Clock()
    async with open_ledger(clock, lease=60.0) as ledger:
        late = await ledger.reserve(claim(), usd("0.9"), if_lost=Bill(cost=usd("0.1")))
        clock.pass_(seconds=61)
        await ledger.reserve(claim("other"), usd("0"))
        clock.pass_(days=1)
        assert await (ledger.settle(late, Bill(cost=usd("0.5"))) if settled else ledger.refund(late))
        (today,) = await ledger.budgets("telegram:ana", own=DOLLAR)
        clock.pass_(days=-1)
        (yesterday,) = await ledger.budgets("telegram:ana", own=DOLLAR)
        assert (today.spent, yesterday.spent) == (0, usd("0.5") if settled else 0)


async def test_a_reservation_is_settled_once() -> None:
    async with open_ledger() as ledger:
        made = await ledger.reserve(claim(), usd("0.5"))
        assert await ledger.settle(made, Bill(cost=usd("0.2")))
        assert not await ledger.settle(made, Bill(cost=usd("0.3")))
        assert not await ledger.refund(made)
        (budget,) = await ledger.budgets("telegram:ana", own=DOLLAR)
        assert budget.spent == usd("0.2")


async def test_a_cancelled_reservation_is_none() -> None:
    async with open_ledger() as ledger:
        made = 0

        async def reserve() -> None:
            nonlocal made
            await ledger.reserve(claim(), usd("0.01"))
            made += 1

        async def as_many_as_were_returned() -> None:
            assert len(await ledger.entries()) == made

        assert await cancel_everywhere(reserve, as_many_as_were_returned) >= 3


async def test_wherever_it_is_cancelled_the_ledger_adds_up(tmp_path: Path) -> None:
    clock = Clock()
    async with open_ledger(clock, path=tmp_path / "store.db") as ledger:

        async def everything() -> None:
            made = await ledger.reserve(claim(), usd("0.02"))
            other = await ledger.reserve(claim(), usd("0.02"))
            await ledger.settle(made, Bill(cost=usd("0.01")))
            await ledger.refund(other)
            await ledger.budgets("telegram:ana", own=DOLLAR)
            await ledger.entries(limit=1)
            await ledger.spending("sender")
            await ledger.forget(NOON - timedelta(days=1))

        async def totals_are_the_sum_of_the_rows() -> None:
            entries = await ledger.entries(limit=10_000)
            (budget,) = await ledger.budgets("telegram:ana", own=DOLLAR)
            assert budget.spent == sum(entry.cost or 0 for entry in entries)
            assert budget.reserved == sum(entry.reserved or 0 for entry in entries if entry.state == "open")

        assert await cancel_everywhere(everything, totals_are_the_sum_of_the_rows) >= 16


async def test_the_event_loop_goes_on_while_another_process_has_the_ledger(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_ledger(path=path) as ledger:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ledger.reserve, claim(), usd("0.1"))
                for _ in range(100):
                    await trio.sleep(0)
                assert await ledger.entries() == ()
                other.execute("COMMIT")
        assert len(await ledger.entries()) == 1


async def test_who_spent_what() -> None:
    clock = Clock()
    async with open_ledger(clock) as ledger:
        for sender, target, cost, certainty in [
            ("a:1", "p/m", "0.2", "exact"),
            ("a:1", "p/n", "0.3", "at_least"),
            ("b:2", "p/m", "0.1", "estimated"),
            ("b:2", "q/x", None, "exact"),
        ]:
            made = await ledger.reserve(claim(sender, target, turn_id=f"t-{sender}"), usd("1"))
            price = None if cost is None else usd(cost)
            usage = Usage(input_tokens=10, output_tokens=2, cached_tokens=3)
            await ledger.settle(made, Bill(usage=usage, cost=price, certainty=certainty))  # type: ignore[arg-type]
            clock.pass_(hours=1)
        await ledger.reserve(claim("a:1", turn_id="open"), usd("1"))

        by_sender = await ledger.spending("sender")
        assert [(s.group, s.cost, s.attempts, s.certainty) for s in by_sender] == [
            ({"sender": "a:1"}, usd("0.5"), 2, "at_least"),
            ({"sender": "b:2"}, usd("0.1"), 2, "at_least"),
        ]
        assert (by_sender[0].input_tokens, by_sender[0].cached_tokens) == (20, 6)
        (total,) = await ledger.spending()
        assert (total.cost, total.unpriced, total.estimated, total.at_least) == (usd("0.6"), 1, 1, 1)
        by_both = await ledger.spending("sender", "target", sender="a:1")
        assert [s.group["target"] for s in by_both] == ["p/n", "p/m"]
        (late,) = await ledger.spending("sender", since=NOON + timedelta(hours=3), until=NOON + timedelta(hours=4))
        assert (late.group, late.unpriced) == ({"sender": "b:2"}, 1)
        assert [entry.turn for entry in await ledger.entries(sender="a:1", limit=2)] == ["open", "t-a:1"]
        plain = decode_json(encode_json([attrs.asdict(record) for record in (total, *await ledger.entries())]))
        assert (plain[0]["cost"], plain[-1]["cost"], plain[-1]["at"]) == ("0.6", "0.2", "2026-11-21T12:00:00Z")
        with pytest.raises(ValueError, match="expected some of"):
            await ledger.spending("1; DROP TABLE cost_charges")  # type: ignore[arg-type]


async def test_what_is_forgotten_stays_spent() -> None:
    clock = Clock()
    async with open_ledger(clock, lease=1e9) as ledger:
        made = await ledger.reserve(claim(), usd("0.5"))
        await ledger.settle(made, Bill(cost=usd("0.5")))
        await ledger.reserve(claim(), usd("0.1"))
        assert await ledger.forget(clock.at + timedelta(hours=1)) == 1
        (budget,) = await ledger.budgets("telegram:ana", own=DOLLAR)
        assert (budget.spent, budget.reserved) == (usd("0.5"), usd("0.1"))


async def test_a_time_without_a_zone_is_refused() -> None:
    async with open_ledger(Clock(datetime(2026, 11, 21))) as ledger:
        with pytest.raises(ValueError, match="zone"):
            await ledger.reserve(claim(), usd("1"))


SPEND = """
import sys, trio
from decimal import Decimal
from pathlib import Path
from clawft_trio.costs import MIGRATIONS, Bill, Claim, Ledger, Limits
from clawft_trio.errors import BudgetExceeded, StoreBusy
from clawft_trio.store import Store
from clawft_trio.store import open_store

async def main(path, name, tries, limit):
    granted = refused = 0
    async with open_store(Path(path), migrations=MIGRATIONS, busy=60.0, durability="process") as store:
        ledger = Ledger(store)
        for n in range(int(tries)):
            try:
                made = await ledger.reserve(
                    Claim(sender_id=name, target="p/m"), Decimal("0.03"),
                    own=Limits(monthly=Decimal(limit) * Decimal("0.6")), everybody=Limits(monthly=limit),
                )
            except BudgetExceeded:
                refused += 1
                continue
            if n % 3 == 0:
                await ledger.refund(made)
            else:
                granted += 1
                await ledger.settle(made, Bill(cost=Decimal("0.01") if n % 3 == 1 else Decimal("0.03")))
            everybody = (await ledger.budgets(name, everybody=Limits(monthly=limit)))[0]
            assert everybody.left >= 0, everybody
    print(granted, refused)

trio.run(main, *sys.argv[1:])
"""


async def spend_in_processes(path: Path, processes: int, tries: int, limit: int) -> None:
    outputs: list[bytes] = []

    async def child(n: int) -> None:
        command = [sys.executable, "-c", SPEND, str(path), f"p:{n}", str(tries), str(limit)]
        done = await trio.run_process(command, capture_stdout=True)
        outputs.append(done.stdout)

    async with open_ledger(path=path):
        pass
    async with trio.open_nursery() as nursery:
        for n in range(processes):
            nursery.start_soon(child, n)
    granted, refused = (sum(int(out.split()[i]) for out in outputs) for i in (0, 1))
    async with open_ledger(Clock(datetime.now(UTC)), path=path) as ledger:
        everybody = Limits(monthly=limit)
        (budget,) = await ledger.budgets("", everybody=everybody)
        (total,) = await ledger.spending()
        assert budget.reserved == 0
        assert budget.spent == total.cost <= limit
        # Refused only where it was due: less is left than an attempt asks for.
        assert refused == 0 or budget.left < usd("0.03") * processes
        assert sum(entry.state == "settled" for entry in await ledger.entries(limit=100_000)) == granted


async def test_eight_processes_never_overdraw(tmp_path: Path) -> None:
    await spend_in_processes(tmp_path / "store.db", 8, 7, 1)


@pytest.mark.long
async def test_eight_processes_never_overdraw_for_long(tmp_path: Path) -> None:
    await spend_in_processes(tmp_path / "store.db", 8, 300, 15)


async def test_a_killed_process_keeps_nothing_longer_than_its_lease(tmp_path: Path) -> None:
    path, clock = tmp_path / "store.db", Clock()
    script = (
        "import os, signal, sys, trio\n"
        "from datetime import datetime\nfrom decimal import Decimal\nfrom pathlib import Path\n"
        "from clawft_trio.costs import MIGRATIONS, Claim, Ledger\nfrom clawft_trio.store import open_store\n"
        "async def main(path, now):\n"
        "    async with open_store(Path(path), migrations=MIGRATIONS) as store:\n"
        "        ledger = Ledger(store, lease=60.0, now=lambda: datetime.fromisoformat(now))\n"
        "        await ledger.reserve(Claim(sender_id='telegram:ana', target='p/m'), Decimal('0.9'))\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "trio.run(main, *sys.argv[1:])\n"
    )
    done = await trio.run_process([sys.executable, "-c", script, str(path), clock.at.isoformat()], check=False)
    assert done.returncode == -9
    async with open_ledger(clock, path=path) as ledger:
        with pytest.raises(BudgetExceeded):
            await ledger.reserve(claim(), usd("0.9"), own=DOLLAR)
        clock.pass_(seconds=60)
        await ledger.reserve(claim(), usd("0.9"), own=DOLLAR)


def test_the_ledger_alone_imports_no_http() -> None:
    code = "import sys, clawft_trio.costs; print('httpx' in sys.modules, 'genai_prices' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


async def retry_after(ledger, amount: str | None, sender: str, **more) -> float | None:
    """The time that the refusal of a reservation gives."""
    with pytest.raises(BudgetExceeded) as caught:
        await ledger.reserve(claim(sender), None if amount is None else usd(amount), **more)
    return caught.value.retry_after


async def test_leases_of_others_make_room_in_the_shared_limit_only() -> None:
    clock = Clock()
    async with open_ledger(clock, lease=600.0) as ledger:
        await ledger.reserve(claim("other"), usd("0.9"))
        clock.pass_(seconds=100)
        await ledger.reserve(claim("ana"), usd("0.9"))
        assert await retry_after(ledger, "0.5", "ana", own=DOLLAR) == 600
        assert await retry_after(ledger, "0.5", "ana", everybody=Limits(daily=2)) == 500


async def test_a_call_without_a_price_may_come_back_when_the_first_lease_has_ended() -> None:
    clock = Clock()
    async with open_ledger(clock, lease=600.0) as ledger:
        await ledger.reserve(claim("ana"), usd("0.5"), if_lost=Bill(cost=usd("0.5")))
        clock.pass_(seconds=100)
        await ledger.reserve(claim("ana"), usd("0.5"), if_lost=Bill(cost=usd("0.4")))
        # The first lease leaves nothing, because all of it is charged; the second one leaves ten cents.
        assert await retry_after(ledger, None, "ana", own=DOLLAR) == 600


async def test_tokens_of_a_lost_request_stay_used_when_its_lease_has_ended() -> None:
    async with open_ledger(lease=600.0) as ledger:
        lost = Bill(usage=Usage(input_tokens=40))
        limits = Limits(daily_tokens=100)
        await ledger.reserve(claim("ana"), usd("0"), own=limits, tokens=100, if_lost=lost)
        assert await retry_after(ledger, "0", "ana", own=limits, tokens=60) == 600
        assert await retry_after(ledger, "0", "ana", own=limits, tokens=61) == 12 * 3600


async def test_exactly_the_rest_of_a_limit_fits_once_the_lease_of_another_has_ended() -> None:
    async with open_ledger(lease=600.0) as ledger:
        spent = await ledger.reserve(claim("ana"), usd("0.4"))
        await ledger.settle(spent, Bill(cost=usd("0.4")))
        await ledger.reserve(claim("ana"), usd("0.6"), own=DOLLAR)
        assert await retry_after(ledger, "0.6", "ana", own=DOLLAR) == 600
        assert await retry_after(ledger, "0.61", "ana", own=DOLLAR) == 12 * 3600
        # What is as large as the whole limit fits on another day.
        assert await retry_after(ledger, "1", "ana", own=DOLLAR) == 12 * 3600


async def test_input_outside_of_the_cache_is_what_neither_came_from_it_nor_went_into_it() -> None:
    async with open_ledger() as ledger:
        made = await ledger.reserve(claim(), usd("1"))
        await ledger.settle(
            made, Bill(usage=Usage(input_tokens=10, cached_tokens=4, cache_write_tokens=6), cost=usd("1"))
        )
        (total,) = await ledger.spending()
        assert total.plain_tokens == 0
        made = await ledger.reserve(claim(), usd("1"))
        await ledger.settle(made, Bill(usage=Usage(input_tokens=7, cached_tokens=2), cost=usd("1")))
        (total,) = await ledger.spending()
        assert total.plain_tokens == 5


async def test_sums_are_exact_to_the_picodollar() -> None:
    tiny = usd("0.000000000001")
    of_turn = TurnBudget(turn_id="t", usd=usd("1"))
    asked = Claim(sender_id="telegram:ana", target="p/m", turn_id="t", budgets=(of_turn,))
    async with open_ledger() as ledger:
        for cost in (tiny, usd("0.25") + tiny, usd("0.25") + tiny):
            made = await ledger.reserve(asked, cost, own=DOLLAR)
            await ledger.settle(made, Bill(cost=cost))
        for _ in range(2):
            await ledger.reserve(asked, usd("0.1") + tiny, own=DOLLAR)
        (budget,) = await ledger.budgets("telegram:ana", own=DOLLAR)
        assert (budget.spent, budget.reserved) == (usd("0.5") + 3 * tiny, usd("0.2") + 2 * tiny)
        (total,) = await ledger.spending()
        assert total.cost == usd("0.5") + 3 * tiny
        rest = usd("0.3") - 5 * tiny
        with pytest.raises(BudgetExceeded) as caught:
            await ledger.reserve(asked, rest + tiny)
        assert (caught.value.spent, caught.value.reserved) == (budget.spent, budget.reserved)
        await ledger.reserve(asked, rest, own=DOLLAR)


class LostAnswers:
    """A store whose first commit is made and not confirmed, as when a connection breaks: it runs again if it may."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.lost = False

    async def transact(self, function, *, repeatable: bool = False, **options):
        if self.lost:
            self.lost = False
            await self.store.transact(function, **options)
            if not repeatable:
                raise StoreBusy("the answer is lost")
        return await self.store.transact(function, **options)

    async def read(self, function):
        return await self.store.read(function)


async def test_a_commit_whose_answer_is_lost_counts_once() -> None:
    clock = Clock()
    async with open_ledger(clock) as own:
        store = LostAnswers(own.store)
        ledger = Ledger(store, now=clock, owner="me")

        async def left() -> tuple[Decimal, Decimal]:
            (budget,) = await ledger.budgets("telegram:ana", own=DOLLAR)
            return budget.spent, budget.reserved

        store.lost = True
        made = await ledger.reserve(claim(turn_id="t", call_id="c"), usd("0.5"), own=DOLLAR)
        assert await left() == (0, usd("0.5"))
        store.lost = True
        await ledger.settle(made, Bill(cost=usd("0.2")))
        assert await left() == (usd("0.2"), 0)
        await Ledger(own.store, now=clock, owner="other").reserve(
            claim(turn_id="t"), usd("0.3"), if_lost=Bill(cost=usd("0.1"))
        )
        store.lost = True
        await ledger.release(["t"])
        assert await left() == (usd("0.3"), 0)
        store.lost = True
        await ledger.forget(clock.at + timedelta(hours=1))
        assert await ledger.entries() == ()
        assert await left() == (usd("0.3"), 0)
