"""Settlements that cannot be written at once: owed, retried, written by the next process, and never in each other's way."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from costs.ledgers import claim, usd

from clawft_trio.attempts import Usage
from clawft_trio.auth import USER, AuthContext
from clawft_trio.chat import Call, ChatRequest, Message
from clawft_trio.costs import MIGRATIONS, Bill, Closing, CostTracker, Ledger, Metered, ModelPrice, OwedFile, Prices
from clawft_trio.errors import StoreBusy
from clawft_trio.pipeline import Target
from clawft_trio.store import open_store
from clawft_trio.testing import Finish, Say, ScriptedProvider, cancel_everywhere

PRICES = Prices(explicit={"p/m": ModelPrice(input=1, output=10)})
USAGE = Usage(input_tokens=1000, output_tokens=200)
COST = usd("0.003")


class Unreliable:
    """A store that other processes lock whenever the test wants."""

    def __init__(self, store) -> None:
        self._store = store
        self.locked = False
        self.refused = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def transact(self, function, **options):
        await trio.lowlevel.checkpoint()
        if self.locked:
            self.refused += 1
            raise StoreBusy("locked")
        return await self._store.transact(function, **options)

    @contextmanager
    def away(self) -> Iterator[None]:
        self.locked = True
        try:
            yield
        finally:
            self.locked = False


@asynccontextmanager
async def open_unreliable(path: Path | None = None) -> AsyncGenerator[Unreliable, None]:
    async with open_store(path, migrations=MIGRATIONS) as store:
        yield Unreliable(store)


async def reserved(tracker: CostTracker, number: int = 1) -> list:
    return [await tracker.ledger.reserve(claim(), usd("1")) for _ in range(number)]


async def states(store) -> list[str]:
    return [entry.state for entry in reversed(await Ledger(store).entries(limit=100_000))]


async def owe(tracker: CostTracker, reservations) -> None:
    for made in reservations:
        with pytest.raises(StoreBusy):
            await tracker.update(made, Bill(usage=USAGE, cost=COST))


async def test_what_is_owed_is_retried_with_growing_waits(autojump_clock) -> None:
    async with open_unreliable() as store, trio.open_nursery() as nursery:
        tracker = CostTracker(Ledger(store))
        await nursery.start(tracker.serve)
        made = await reserved(tracker, 3)
        with store.away():
            await owe(tracker, made)
            before, started = store.refused, trio.current_time()
            await trio.sleep(120)
            assert 6 <= store.refused - before <= 14  # 0.1, 0.2, ... 12.8, then every half minute at most
        await trio.sleep(31)
        assert trio.current_time() - started < 152
        assert await states(store) == ["settled"] * 3
        assert repr(tracker) == "<CostTracker: 0 turns on behalf of others, 0 charges not written>"
        nursery.cancel_scope.cancel()


async def test_what_is_owed_is_written_on_close(autojump_clock) -> None:
    async with open_unreliable() as store:
        tracker = CostTracker(Ledger(store))
        store.locked = True
        async with trio.open_nursery() as nursery:
            await nursery.start(tracker.serve)
            store.locked = False
            made = await reserved(tracker, 2)
            store.locked = True
            await owe(tracker, made)

            async def unlock() -> None:
                with trio.CancelScope(shield=True):
                    await trio.sleep(20)
                    store.locked = False

            nursery.start_soon(unlock)
            await trio.sleep(3)
            nursery.cancel_scope.cancel()
        assert await states(store) == ["settled"] * 2


async def test_closing_waits_for_a_bounded_time(autojump_clock) -> None:
    async with open_unreliable() as store:
        tracker = CostTracker(Ledger(store))
        async with trio.open_nursery() as nursery:
            await nursery.start(tracker.serve)
            made = await reserved(tracker)
            store.locked = True
            await owe(tracker, made)
            nursery.cancel_scope.cancel()
            started = trio.current_time()
        assert trio.current_time() - started == 30
        store.locked = False
        assert await states(store) == ["open"]


async def test_what_is_owed_is_written_before_a_balance_is_shown() -> None:
    async with open_unreliable() as store:
        tracker = CostTracker(Ledger(store))
        made = await reserved(tracker)
        with store.away():
            await owe(tracker, made)
            with pytest.raises(StoreBusy):
                await tracker.allowance("telegram:ana", USER)
        allowance = await tracker.allowance("telegram:ana", USER)
        assert (allowance.spent, allowance.reserved) == (COST, 0)


async def test_the_next_process_settles_what_this_one_owes(tmp_path: Path) -> None:
    owed = OwedFile(tmp_path / "store.db.owed")
    async with open_unreliable(tmp_path / "store.db") as store:
        tracker = CostTracker(Ledger(store), owed=owed)
        made = await reserved(tracker, 3)
        with store.away():
            await owe(tracker, made[:2])
        assert owed.path.stat().st_mode & 0o777 == 0o600
        # It ends here, without another chance.
        with owed.path.open("ab") as file:
            file.write(b'{"id": 3, "state": "settled"}\nnot json\n{"id": 3, "own')
        async with trio.open_nursery() as nursery:
            await nursery.start(CostTracker(Ledger(store), owed=owed).serve)
            with trio.fail_after(5):
                while await states(store) != ["settled", "settled", "open"] or list(tmp_path.glob("*.owed*")):
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        first = (await tracker.ledger.entries())[-1]
        assert (first.cost, first.input_tokens, first.output_tokens, first.certainty) == (COST, 1000, 200, "exact")


async def test_a_file_of_another_store_settles_nothing(tmp_path: Path) -> None:
    owed = OwedFile(tmp_path / "store.db.owed")
    async with open_unreliable() as store:
        tracker = CostTracker(Ledger(store, owner="old"), owed=owed)
        made = await reserved(tracker)
        with store.away():
            await owe(tracker, made)
    async with open_unreliable() as store:
        tracker = CostTracker(Ledger(store, owner="new"), owed=owed)
        await reserved(tracker)  # has the same id
        async with trio.open_nursery() as nursery:
            await nursery.start(tracker.serve)
            with trio.fail_after(5):
                while list(tmp_path.glob("*.owed*")):
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        assert await states(store) == ["open"]


async def test_what_is_settled_within_the_process_leaves_no_file(tmp_path: Path) -> None:
    owed = OwedFile(tmp_path / "owed")
    async with open_unreliable() as store:
        tracker = CostTracker(Ledger(store), owed=owed)
        made = await reserved(tracker)
        with store.away():
            await owe(tracker, made)
        assert owed.path.exists()
        await tracker.settle_owed()
        assert list(tmp_path.iterdir()) == []
        assert await states(store) == ["settled"]


async def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    async with open_unreliable() as store:
        tracker = CostTracker(Ledger(store), owed=OwedFile(tmp_path / "missing" / "owed"))
        made = await reserved(tracker)
        with store.away():
            await owe(tracker, made)
        await tracker.settle_owed()
        assert await states(store) == ["settled"]


class Picky(Ledger):
    """A ledger whose engine cannot keep one of the values."""

    async def close_all(self, closings) -> bool:
        if any(closing.bill.outcome == "bad" for closing in closings):
            await trio.lowlevel.checkpoint()
            raise OverflowError("does not fit")
        return await super().close_all(closings)


@pytest.mark.parametrize("owed", [3, 5])
async def test_one_settlement_that_cannot_be_kept_does_not_stop_the_others(owed: int) -> None:
    async with open_unreliable() as store:
        tracker = CostTracker(Picky(store))
        made = await reserved(tracker, owed)
        with store.away():
            for number, one in enumerate(made):
                with pytest.raises((StoreBusy, OverflowError)):
                    await tracker.update(one, Bill(cost=COST, outcome="bad" if number == 1 else "ok"))
        await tracker.settle_owed()
        assert await states(store) == ["settled", "open", *["settled"] * (owed - 2)]
        assert "0 charges not written" in repr(tracker)


async def test_wherever_settling_is_cancelled_it_is_written_or_owed() -> None:
    async with open_unreliable() as store:
        tracker = CostTracker(Ledger(store))

        async def settle() -> None:
            (made,) = await reserved(tracker)
            try:
                await tracker.update(made, Bill(cost=COST))
            finally:
                with trio.CancelScope(shield=True):
                    await tracker.settle_owed()

        async def all_is_settled() -> None:
            # The reservation itself may have been cancelled before anybody could settle it: then there is none.
            assert set(await states(store)) <= {"settled"}

        assert await cancel_everywhere(settle, all_is_settled) >= 3


@pytest.mark.parametrize("asks", [500, pytest.param(14_000, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
async def test_thousands_of_asks_at_once_leave_no_row_open(asks: int, place) -> None:
    async with open_store(place, migrations=MIGRATIONS) as store, trio.open_nursery() as nursery:
        tracker = CostTracker(Ledger(store), PRICES)
        await nursery.start(tracker.serve)
        provider = ScriptedProvider([Say("Hi."), Finish(usage=USAGE)], name="p")
        model = Metered(provider, tracker, Target.parse("p/m"), tokens=lambda _: 10)
        request = ChatRequest([Message.user("q")], max_tokens=10, auth=AuthContext.local())
        async with trio.open_nursery() as callers:
            for number in range(asks):
                callers.start_soon(partial(model.complete, request, Call(turn_id=f"t{number}")))
        # What was owed for a while may be on its way.
        while tracker._settling:
            await tracker.settle_owed()
            await trio.sleep(0.01)
        (total,) = await tracker.ledger.spending()
        assert (total.attempts, total.cost) == (asks, asks * COST)
        assert set(await states(store)) == {"settled"}
        nursery.cancel_scope.cancel()


async def test_a_line_of_the_file_keeps_everything_of_a_bill(tmp_path: Path) -> None:
    usage = Usage(input_tokens=10, cache_write_tokens=5, cache_write_1h_tokens=2, service_tier="flex", web_searches=1)
    closing = Closing(
        id=7, state="settled", owner="me", bill=Bill(usage=usage, certainty="at_least", outcome="cancelled", note="why")
    )
    owed = OwedFile(tmp_path / "owed")
    await owed.append([closing, closing])
    found, taken = await owed.take()
    assert found == (closing, closing)
    again, same = await owed.take()  # it was not deleted yet
    assert (again, same) == (found, taken)
    assert taken is not None
    await owed.remove(taken)
    assert await owed.take() == ((), None)
