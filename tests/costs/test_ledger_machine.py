"""The ledger against a model: whatever comes in whichever order, both agree, and the limits hold."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import attrs
import trio
from costs.ledgers import Clock, claim
from hypothesis import settings, strategies as st
from hypothesis.stateful import Bundle, consumes, initialize, invariant, multiple, rule

from clawft_trio.costs import MIGRATIONS, Bill, Calendar, Ledger, Limits, Reservation
from clawft_trio.errors import BudgetExceeded
from clawft_trio.store import Store, open_store
from clawft_trio.testing.machine import TrioMachine

SENDERS = ("a:1", "b:2")
OWN = Limits(daily="1.00", monthly="1.70")
EVERYBODY = Limits(daily="1.50", monthly="2.60")
LEASE = 3600.0
CENTS = st.integers(0, 60).map(lambda cents: Decimal(cents) / 100)


@attrs.define
class Held:
    """What the model knows of one reservation."""

    sender: str
    amount: Decimal
    if_lost: Decimal
    expires: float
    #: the periods that it was charged to when it was lost
    lost_in: tuple[str, str] | None = None
    closed: bool = False


class LedgerMachine(TrioMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.held: dict[int, Held] = {}
        self.spent: dict[tuple[str, str], Decimal] = {}
        #: by how much settled attempts cost more than was reserved: all by which a limit may be exceeded
        self.over = Decimal(0)
        self.opened: trio.Event = trio.Event()
        self.stores: list[Store] = []

    reservations: Bundle[Reservation] = Bundle("reservations")

    @initialize(reset_hour=st.integers(0, 23))
    def open(self, reset_hour: int) -> None:
        self.calendar = Calendar(reset_hour)
        self.nursery.start_soon(self.keep_open)
        self.settle()
        (store,) = self.stores
        # Two of them on one store, as two processes have: neither keeps anything that the other would need.
        self.ledgers = [Ledger(store, calendar=self.calendar, lease=LEASE, now=self.clock) for _ in range(2)]

    async def keep_open(self) -> None:
        async with open_store(None, migrations=MIGRATIONS) as store:
            self.stores.append(store)
            await trio.sleep_forever()

    # --- the model ---------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self.clock.at.timestamp()

    @property
    def periods(self) -> tuple[str, str]:
        return self.calendar.day(self.clock.at).key, self.calendar.month(self.clock.at).key

    def charge(self, sender: str, periods: tuple[str, str], amount: Decimal) -> None:
        for period in periods:
            for owner in (sender, "everybody"):
                self.spent[owner, period] = self.spent.get((owner, period), Decimal(0)) + amount

    def reserved(self, sender: str | None) -> Decimal:
        return sum(
            (
                held.amount if held.expires > self.now else held.if_lost
                for held in self.held.values()
                if not held.closed and held.lost_in is None and sender in (None, held.sender)
            ),
            Decimal(0),
        )

    def left(self, sender: str) -> Decimal:
        day, month = self.periods
        own, all_ = self.reserved(sender), self.reserved(None)
        return min(
            OWN.daily - self.spent.get((sender, day), 0) - own,
            OWN.monthly - self.spent.get((sender, month), 0) - own,
            EVERYBODY.daily - self.spent.get(("everybody", day), 0) - all_,
            EVERYBODY.monthly - self.spent.get(("everybody", month), 0) - all_,
        )

    def collect_lost(self) -> None:
        for held in self.held.values():
            if not held.closed and held.lost_in is None and held.expires <= self.now:
                held.lost_in = self.periods
                self.charge(held.sender, self.periods, held.if_lost)

    # --- what may happen ---------------------------------------------------------------------------------

    @rule(target=reservations, which=st.integers(0, 1), sender=st.sampled_from(SENDERS), amount=CENTS, lost=CENTS)
    def reserve(self, which: int, sender: str, amount: Decimal, lost: Decimal):
        lost = min(lost, amount)
        fits = amount <= self.left(sender)

        async def ask() -> Reservation:
            return await self.ledgers[which].reserve(
                claim(sender), amount, own=OWN, everybody=EVERYBODY, if_lost=Bill(cost=lost)
            )

        try:
            made = self.run(ask)
        except BudgetExceeded as exc:
            assert not fits
            assert exc.limit in {OWN.daily, OWN.monthly, EVERYBODY.daily, EVERYBODY.monthly}
            return multiple()
        assert fits
        self.collect_lost()
        self.held[made.id] = Held(sender, amount, lost, self.now + LEASE)
        assert self.left(sender) >= 0
        return made

    @rule(which=st.integers(0, 1), sender=st.sampled_from(SENDERS), amount=CENTS)
    def reserve_and_be_cancelled(self, which: int, sender: str, amount: Decimal) -> None:
        async def ask() -> None:
            with trio.CancelScope() as scope:
                scope.cancel(reason="machine")
                await self.ledgers[which].reserve(claim(sender), amount, own=OWN, everybody=EVERYBODY)
                raise AssertionError("reserved")

        self.run(ask)

    def close(self, made: Reservation, cost: Decimal, *, done: bool) -> None:
        held = self.held[made.id]
        assert done is not held.closed
        if held.closed:
            return
        held.closed = True
        if held.lost_in is not None:
            self.charge(held.sender, held.lost_in, cost - held.if_lost)
            self.over += max(Decimal(0), cost - held.if_lost)
        else:
            self.charge(held.sender, self.periods, cost)
            # What had expired was not reserved any more but for its floor.
            kept = held.amount if held.expires > self.now else held.if_lost
            self.over += max(Decimal(0), cost - kept)

    @rule(which=st.integers(0, 1), made=reservations, cost=st.integers(0, 80).map(lambda cents: Decimal(cents) / 100))
    def settle_it(self, which: int, made: Reservation, cost: Decimal) -> None:
        self.close(made, cost, done=self.run(self.ledgers[which].settle, made, Bill(cost=cost)))

    @rule(which=st.integers(0, 1), made=reservations)
    def refund_it(self, which: int, made: Reservation) -> None:
        self.close(made, Decimal(0), done=self.run(self.ledgers[which].refund, made))

    @rule(made=consumes(reservations))
    def crash(self, made: Reservation) -> None:
        """Whoever would have settled it is gone."""

    @rule(minutes=st.sampled_from([1, 30, 61, 12 * 60, 24 * 60, 31 * 24 * 60]))
    def time_passes(self, minutes: int) -> None:
        self.clock.pass_(minutes=minutes)

    @rule(made=reservations, which=st.integers(0, 1))
    def lose(self, made: Reservation, which: int) -> None:
        """Its lease ends, and somebody else finds out."""
        self.clock.pass_(seconds=LEASE)
        self.run(self.ledgers[which].reserve, claim("c:3"), Decimal(0))
        self.collect_lost()
        self.held[-len(self.held) - 1] = Held("c:3", Decimal(0), Decimal(0), self.now + LEASE)

    @rule()
    def forget_what_is_old(self) -> None:
        self.run(self.ledgers[0].forget, self.clock.at - timedelta(days=40))
        for held in self.held.values():
            # A lost one that is forgotten cannot be put right any more.
            held.closed = held.closed or (held.lost_in is not None and self.forgotten(held))

    def forgotten(self, held: Held) -> bool:
        return held.expires - LEASE < (self.clock.at - timedelta(days=40)).timestamp()

    # --- what must hold ----------------------------------------------------------------------------------

    @invariant()
    def both_agree(self) -> None:
        if not self.stores:
            return
        for sender in SENDERS:

            async def ask(sender: str = sender):
                return await self.ledgers[0].budgets(sender, own=OWN, everybody=EVERYBODY)

            for budget in self.run(ask):
                period = self.periods[0 if budget.period == "daily" else 1]
                owner = sender if budget.owner == "sender" else "everybody"
                assert budget.spent == self.spent.get((owner, period), 0)
                assert budget.reserved == self.reserved(None if owner == "everybody" else sender)
                assert budget.spent + budget.reserved <= budget.limit + self.over


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
