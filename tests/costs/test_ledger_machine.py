"""Two processes on one ledger against a model in plain arithmetic.

They reserve, settle and refund; the store fails and comes back; what could not be written is owed and written later; a
process crashes and another one starts in its place or takes over its turns; leases end. Whatever comes in whichever
order, ledger and model agree, and the limits hold.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import attrs
import trio
from costs.ledgers import Clock, claim
from hypothesis import settings, strategies as st
from hypothesis.stateful import Bundle, initialize, invariant, multiple, precondition, rule

from clawft_trio.attempts import Usage
from clawft_trio.costs import MIGRATIONS, Bill, Calendar, Ledger, Limits, Reservation
from clawft_trio.costs.records import Closing
from clawft_trio.costs.settling import Settling
from clawft_trio.errors import BudgetExceeded, StoreBusy
from clawft_trio.store import Store, open_store
from clawft_trio.testing.machine import TrioMachine

SENDERS = ("a:1", "b:2")
OWN = Limits(daily="1.00", monthly="1.70", daily_tokens=600)
EVERYBODY = Limits(daily="1.50", monthly="2.60")
LEASE = 3600.0
CENTS = st.integers(0, 60).map(lambda cents: Decimal(cents) / 100)
WHICH = st.integers(0, 1)


class Failing:
    """A store that may be away."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.away = False

    async def transact(self, function, **options):
        await trio.lowlevel.checkpoint()
        if self.away:
            raise StoreBusy("away")
        return await self.store.transact(function, **options)

    async def read(self, function):
        return await self.store.read(function)


class File:
    """The file of what is owed, which outlives a process."""

    def __init__(self) -> None:
        self.closings: list[Closing] = []

    async def append(self, closings) -> None:
        await trio.lowlevel.checkpoint()
        self.closings.extend(closings)

    async def take(self):
        await trio.lowlevel.checkpoint()
        return tuple(self.closings), (self if self.closings else None)

    async def remove(self, _: object) -> None:
        await trio.lowlevel.checkpoint()
        self.closings.clear()


@attrs.define
class Held:
    """What the model knows of one reservation."""

    sender: str
    turn: str
    process: int
    amount: Decimal
    if_lost: Decimal
    tokens: int
    expires: float
    #: the periods that it was charged to when it was lost
    lost_in: tuple[str, str] | None = None
    closed: bool = False
    #: what it will be settled with
    owed: Decimal | None = None
    #: the process that reserved it has crashed
    orphan: bool = False


class LedgerMachine(TrioMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.held: dict[int, Held] = {}
        self.spent: dict[tuple[str, str], Decimal] = {}
        #: by how much settled attempts cost more than was reserved: all by which a limit may be exceeded
        self.over = Decimal(0)
        self.stores: list[Failing] = []
        self.processes = 0

    reservations: Bundle[Reservation] = Bundle("reservations")

    @initialize(reset_hour=st.integers(0, 23))
    def open(self, reset_hour: int) -> None:
        self.calendar = Calendar(reset_hour)
        self.nursery.start_soon(self.keep_open)
        self.settle()
        self.file = File()
        self.ledgers: list[Ledger] = [self.new_ledger() for _ in range(2)]
        self.settlings = [Settling(ledger, self.file) for ledger in self.ledgers]

    def new_ledger(self) -> Ledger:
        self.processes += 1
        owner = f"process {self.processes}"
        return Ledger(self.stores[0], calendar=self.calendar, lease=LEASE, now=self.clock, owner=owner)

    async def keep_open(self) -> None:
        async with open_store(None, migrations=MIGRATIONS) as store:
            self.stores.append(Failing(store))
            await trio.sleep_forever()

    @property
    def away(self) -> bool:
        return self.stores[0].away

    @property
    def now(self) -> float:
        return self.clock.at.timestamp()

    @property
    def periods(self) -> tuple[str, str]:
        return self.calendar.day(self.clock.at).key, self.calendar.month(self.clock.at).key

    def open_ones(self, sender: str | None = None) -> list[Held]:
        return [
            held
            for held in self.held.values()
            if not held.closed and held.lost_in is None and sender in (None, held.sender)
        ]

    def charge(self, sender: str, periods: tuple[str, str], amount: Decimal) -> None:
        for period in periods:
            for owner in (sender, "everybody"):
                self.spent[owner, period] = self.spent.get((owner, period), Decimal(0)) + amount

    def reserved(self, sender: str | None) -> Decimal:
        kept = [held.amount if held.expires > self.now else held.if_lost for held in self.open_ones(sender)]
        return sum(kept, Decimal(0))

    def left(self, sender: str) -> Decimal:
        day, month = self.periods
        own, all_ = self.reserved(sender), self.reserved(None)
        return min(
            OWN.daily - self.spent.get((sender, day), 0) - own,
            OWN.monthly - self.spent.get((sender, month), 0) - own,
            EVERYBODY.daily - self.spent.get(("everybody", day), 0) - all_,
            EVERYBODY.monthly - self.spent.get(("everybody", month), 0) - all_,
        )

    def tokens_left(self, sender: str) -> int:
        return OWN.daily_tokens - sum(held.tokens for held in self.open_ones(sender) if held.expires > self.now)

    def lose(self, held: Held) -> None:
        held.lost_in = self.periods
        self.charge(held.sender, self.periods, held.if_lost)

    def collect_lost(self) -> None:
        for held in self.open_ones():
            if held.expires <= self.now:
                self.lose(held)

    def close(self, held: Held, cost: Decimal) -> None:
        held.owed = None
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

    def write_owed(self, *, process: int | None = None) -> None:
        """Close what *process* owes, or everything: after a crash the file alone has what the process owed."""
        for held in self.held.values():
            if held.owed is not None and (process is None or (process == held.process and not held.orphan)):
                self.close(held, held.owed)

    @rule(target=reservations, which=WHICH, sender=st.sampled_from(SENDERS), amount=CENTS, lost=CENTS,
          tokens=st.integers(0, 200), turn=st.sampled_from(["t", "u"]))  # fmt: skip
    def reserve(self, which: int, sender: str, amount: Decimal, lost: Decimal, tokens: int, turn: str):
        lost = min(lost, amount)
        fits = amount <= self.left(sender) and tokens <= self.tokens_left(sender)

        async def ask() -> Reservation:
            return await self.ledgers[which].reserve(
                claim(sender, turn_id=turn),
                amount,
                own=OWN,
                everybody=EVERYBODY,
                tokens=tokens,
                if_lost=Bill(cost=lost),
            )

        try:
            made = self.run(ask)
        except StoreBusy:
            assert self.away
            return multiple()
        except BudgetExceeded as exc:
            assert not fits
            assert exc.retry_after is None or exc.retry_after <= 31 * 24 * 3600
            return multiple()
        assert fits
        self.collect_lost()
        self.held[made.id] = Held(sender, turn, which, amount, lost, tokens, self.now + LEASE)
        assert self.left(sender) >= 0
        return made

    @rule(which=WHICH, sender=st.sampled_from(SENDERS), amount=CENTS)
    def reserve_and_be_cancelled(self, which: int, sender: str, amount: Decimal) -> None:
        async def ask() -> None:
            with trio.CancelScope() as scope:
                scope.cancel(reason="machine")
                await self.ledgers[which].reserve(claim(sender), amount, own=OWN, everybody=EVERYBODY)
                raise AssertionError("reserved")

        self.run(ask)

    @rule(made=reservations, cost=st.integers(0, 80).map(lambda cents: Decimal(cents) / 100), refund=st.booleans())
    def settle_it(self, made: Reservation, cost: Decimal, refund: bool) -> None:
        held = self.held[made.id]
        if held.orphan or held.owed is not None:
            return
        cost = Decimal(0) if refund else cost
        closing = Closing(
            id=made.id,
            state="refunded" if refund else "settled",
            bill=Bill(cost=cost, usage=Usage()),
            owner=self.ledgers[held.process].owner,
        )
        try:
            self.run(self.settlings[held.process].close, closing)
        except StoreBusy:
            assert self.away
            held.owed = cost
        else:
            assert not self.away
            self.close(held, cost)

    @rule(away=st.booleans())
    def store_fails_or_returns(self, away: bool) -> None:
        self.stores[0].away = away

    @rule(which=WHICH)
    def write_what_is_owed(self, which: int) -> None:
        try:
            self.run(self.settlings[which].write_owed)
        except StoreBusy:
            assert self.away
        else:
            assert not self.away or not len(self.settlings[which])
            self.write_owed(process=which)
            if not self.file.closings:
                # Who has written everything reads the file, too.
                self.write_owed()

    @rule(which=WHICH)
    def crash(self, which: int) -> None:
        """A process ends without another step, and a new one starts in its place."""
        self.ledgers[which] = self.new_ledger()
        self.settlings[which] = Settling(self.ledgers[which], self.file)
        for held in self.held.values():
            if held.process == which:
                held.orphan = True
        try:
            self.run(self.settlings[which].read_file)
        except StoreBusy:
            assert self.away
        else:
            self.write_owed()

    @rule(which=WHICH, turn=st.sampled_from(["t", "u"]))
    def take_over(self, which: int, turn: str) -> None:
        try:
            self.run(self.ledgers[which].release, [turn])
        except StoreBusy:
            assert self.away
            return
        for held in self.open_ones():
            if held.turn == turn and (held.orphan or held.process != which):
                self.lose(held)

    @rule(minutes=st.sampled_from([1, 30, 61, 12 * 60, 24 * 60, 31 * 24 * 60]))
    def time_passes(self, minutes: int) -> None:
        self.clock.pass_(minutes=minutes)

    @precondition(lambda self: self.stores and not self.away)
    @rule(which=WHICH)
    def lease_ends(self, which: int) -> None:
        """The leases end, and some reservation finds out."""
        self.clock.pass_(seconds=LEASE)
        self.run(self.ledgers[which].reserve, claim("c:3"), Decimal(0))
        self.collect_lost()
        self.held[-len(self.held) - 1] = Held("c:3", "", which, Decimal(0), Decimal(0), 0, self.now + LEASE)

    @precondition(lambda self: self.stores and not self.away)
    @rule()
    def forget_what_is_old(self) -> None:
        before = self.clock.at - timedelta(days=40)
        self.run(self.ledgers[0].forget, before)
        for held in self.held.values():
            # A lost one that is forgotten cannot be put right any more.
            forgotten = held.expires - LEASE < before.timestamp()
            held.closed = held.closed or (held.lost_in is not None and forgotten)

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
                if budget.unit == "tokens":
                    assert budget.left == self.tokens_left(sender)
                    continue
                assert budget.spent == self.spent.get((owner, period), 0)
                assert budget.reserved == self.reserved(None if owner == "everybody" else sender)
                assert budget.spent + budget.reserved <= budget.limit + self.over


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
