"""The ledger: one row per attempt; reserved and spent amounts together never exceed the limits.

| before                | then                     | after      | counts as                                      |
|-----------------------|--------------------------|------------|------------------------------------------------|
|                       | `reserve`                | `open`     | reserved, in every period                      |
| `open`                | `settle`                 | `settled`  | spent, in the period in which it is settled    |
| `open`                | `refund`                 | `refunded` | nothing                                        |
| `open`                | its lease ends           | `lost`     | spent: the cost of the request alone           |
| `open`                | `release`: its process   | `lost`     | spent: the cost of the request alone           |
|                       | was replaced             |            |                                                |
| `lost`                | `settle`, late           | `settled`  | spent, in the period in which it was lost      |
| `lost`                | `refund`, late           | `refunded` | nothing                                        |
| `settled`, `refunded` | anything                 | as before  | as before                                      |

A new day or month begins with nothing spent; reservations stay reserved. Every change is a transaction of the store, so
several processes can share one ledger.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import TypeAlias

import trio

from clawft_trio.chat import new_id
from clawft_trio.costs import charges
from clawft_trio.costs.budgets import Moment, budgets_of
from clawft_trio.costs.money import dollars
from clawft_trio.costs.periods import Calendar
from clawft_trio.costs.records import (
    UNLIMITED,
    Bill,
    Budget,
    Claim,
    Closing,
    GroupBy,
    LedgerEntry,
    Limits,
    Reservation,
    Spending,
)
from clawft_trio.costs.spending import GROUPS, Filter, as_text, entries_of, spending_of
from clawft_trio.errors import BudgetExceeded
from clawft_trio.store import Connection, Durability, Store, Work

_FROM_MIDNIGHT = Calendar()
_NO_BILL = Bill()


def _utc_now() -> datetime:
    return datetime.now(UTC)


def refunded(outcome: str) -> Bill:
    """Make the bill of an attempt for which nothing was charged."""
    return Bill(cost=Decimal(0), outcome=outcome)


DURABILITY: Durability = "process"
"""The durability of a charge when its write returns: it survives the end of this process, including a kill. On SQLite
it reaches the disk with the next commit that a turn waits for, at the latest with its reply."""


Write: TypeAlias = Callable[[Work[int]], Awaitable[int]]
"""Runs a transaction and returns its result."""


class Ledger:
    """The ledger in the store, which needs `MIGRATIONS`. Several processes may share it.

    Args:
      store: the store with its tables.
      calendar: when days begin.
      lease: seconds after which a reservation that was not settled counts as lost; when the clock is set back, seconds
        after the first attempt that does not fit.
      now: returns the calendar time, with a zone.
      owner: the name of this process: `release` does not change its own reservations.
    """

    def __init__(
        self,
        store: Store,
        *,
        calendar: Calendar = _FROM_MIDNIGHT,
        lease: float = 900.0,
        now: Callable[[], datetime] = _utc_now,
        owner: str = "",
    ) -> None:
        self.store = store
        self._calendar = calendar
        self.lease: float = lease
        self.now = now
        self.owner: str = owner or new_id()
        self._last: Moment | None = None

    async def reserve(
        self,
        claim: Claim,
        amount: Decimal | None,
        *,
        own: Limits = UNLIMITED,
        everybody: Limits = UNLIMITED,
        tokens: int = 0,
        if_lost: Bill = _NO_BILL,
        write: Write | None = None,
    ) -> Reservation:
        """Reserve *amount* if it fits into every limit together with the spent and reserved amounts.

        Args:
          claim: the sender and the target; with the budgets of its turn and of the turns above.
          amount: US dollars, an upper estimate; None (no price) fits if every limit has something left.
          own: the limits of the sender.
          everybody: the limits of all senders together.
          tokens: input and output, an upper estimate.
          if_lost: the charge when it is never settled: no more than *amount*.
          write: runs the transaction, with others in front that are not written if *amount* does not fit; None:
            `Store.transact` runs it.

        Raises:
          BudgetExceeded: it does not fit. `retry_after` is the time until the blocking limits have room, as far as that
            is known: until a period or the leases of reservations end; None when *amount* is more than a limit.
          StoreError: the ledger cannot be written. Nothing is reserved.
          ValueError: *amount* or *tokens* is negative, or no number.

        Cancellation: nothing is reserved.
        """
        if tokens < 0:
            raise ValueError(f"expected 0 tokens or more, got {tokens}")
        wanted = charges.Wanted(
            claim=claim,
            usd=None if amount is None else dollars(amount),
            tokens=tokens,
            own=own,
            everybody=everybody,
            if_lost=if_lost,
            owner=self.owner,
            lease=self.lease,
        )
        moment, ran, outlasted = self.moment(), False, False

        def reserve(connection: Connection) -> int:
            nonlocal ran, outlasted
            before, ran = ran, True
            # On a second run the first one may have been committed.
            found = charges.find(moment, wanted, connection) if before else None
            try:
                return charges.reserve(moment, wanted, connection) if found is None else found
            except BudgetExceeded:
                outlasted = charges.outlasts(moment, self.lease, connection)
                raise

        if write is None:
            write = partial(self.store.transact, durability=DURABILITY, repeatable=True)
        try:
            id_ = await write(reserve)
        except BudgetExceeded:
            if not outlasted:
                raise
            # In a separate transaction, because a refusal rolls its own back.
            await self.store.transact(partial(charges.shorten, moment, self.lease), repeatable=True)
            id_ = await write(reserve)
        return Reservation(id=id_, claim=claim, amount=amount)

    async def settle(self, reservation: Reservation, bill: Bill) -> bool:
        """Replace *reservation* by its bill; return False, and change nothing, if it was closed before.

        Raises:
          StoreError: the ledger cannot be written. The reservation is open until its lease ends.

        Cancellation: it is settled or still open.
        """
        return await self.close_all([Closing(id=reservation.id, state="settled", bill=bill)])

    async def refund(self, reservation: Reservation, *, outcome: str = "failed") -> bool:
        """Release the whole *reservation*; return False if it was closed before.

        Raises:
          StoreError: as for `settle`.

        Cancellation: it is refunded or still open.
        """
        return await self.close_all([Closing(id=reservation.id, state="refunded", bill=refunded(outcome))])

    async def close_all(self, closings: Sequence[Closing]) -> bool:
        """Settle or refund several reservations in one transaction; return False if all were closed before.

        Raises:
          StoreError: as for `settle`. All of them are still open.

        Cancellation: all are closed or none.
        """
        closing = partial(charges.close_all, self.moment(), closings)
        # When it runs again after its own commit, it finds every reservation closed.
        return await self.store.transact(closing, durability=DURABILITY, repeatable=True)

    async def release(self, turn_ids: Iterable[str]) -> int:
        """Charge the reservations of earlier processes for *turn_ids* and the turns below, as lost; return how many.

        For turns that this process takes over: the earlier process will not settle its reservations any more. If it
        does settle one later, its bill replaces the charge.

        Raises:
          StoreError: the ledger cannot be written. The reservations stay open until their leases end.

        Cancellation: all are released or none.
        """
        releasing = partial(charges.release, self.moment(), tuple(turn_ids), self.owner)
        return await self.store.transact(releasing, repeatable=True)

    async def budgets(
        self, sender_id: str, *, own: Limits = UNLIMITED, everybody: Limits = UNLIMITED
    ) -> tuple[Budget, ...]:
        """Return all limits of *sender_id*, and how much of each is used.

        Raises:
          StoreError: the ledger cannot be read.

        Cancellation: nothing is changed.
        """
        if own == everybody == UNLIMITED:
            await trio.lowlevel.checkpoint()
            return ()
        return await self.store.read(partial(budgets_of, self.moment(), sender_id, own, everybody))

    async def entries(
        self,
        *,
        sender: str | None = None,
        turn: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 1000,
    ) -> tuple[LedgerEntry, ...]:
        """Return attempts, latest first.

        Args:
          sender: only attempts of this sender.
          turn: only attempts of this turn and of all turns below it.
          since: with a time zone; only attempts reserved at this time or later.
          until: with a time zone; only attempts reserved before this time.
          limit: the largest number of attempts.

        Raises:
          StoreError: the ledger cannot be read.

        Cancellation: nothing is changed.
        """
        which = Filter(sender=sender, turn=turn, since=since, until=until)
        return await self.store.read(partial(entries_of, which, limit))

    async def spending(
        self,
        *by: GroupBy,
        sender: str | None = None,
        turn: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> tuple[Spending, ...]:
        """Return the amounts spent, in groups by *by* (one group without), most expensive first, without open charges.

        Args:
          by: the columns whose values the attempts of a group share.
          sender: only attempts of this sender.
          turn: only attempts of this turn and of all turns below it.
          since: with a time zone; only attempts reserved at this time or later.
          until: with a time zone; only attempts reserved before this time.

        Raises:
          ValueError: *by* has an unknown column.
          StoreError: the ledger cannot be read.

        Cancellation: nothing is changed.
        """
        if not GROUPS.issuperset(by):
            raise ValueError(f"expected some of {', '.join(sorted(GROUPS))}, got {', '.join(by)}")
        which = Filter(sender=sender, turn=turn, since=since, until=until)
        return await self.store.read(partial(spending_of, which, by))

    async def forget(self, before: datetime) -> int:
        """Delete the closed rows that were reserved before *before*; return how many. Budgets do not change.

        Raises:
          StoreError: the ledger cannot be written.

        Cancellation: all are deleted or none.
        """
        return await self.store.transact(partial(charges.forget, as_text(before)), repeatable=True)

    def moment(self) -> Moment:
        """Return the current time, with its day and month."""
        now, last = self.now(), self._last
        # Within a day both periods stay the same; computing them takes longer than a statement.
        same = last is not None and now.tzinfo is not None and last.now <= now < last.day.ends
        if last is not None and same:
            return Moment(now, last.day, last.month)
        self._last = Moment(now, self._calendar.day(now), self._calendar.month(now))
        return self._last
