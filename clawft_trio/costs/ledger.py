"""Who spent what: one row per attempt, and never more reserved and spent together than the limits allow.

| before                | then                     | after      | counts as                                      |
|-----------------------|--------------------------|------------|------------------------------------------------|
|                       | `reserve`                | `open`     | reserved, in whichever period it is            |
| `open`                | `settle`                 | `settled`  | spent, in the period in which it is settled    |
| `open`                | `refund`                 | `refunded` | nothing                                        |
| `open`                | its lease ends           | `lost`     | spent: what its request alone costs            |
| `lost`                | `settle`, after all      | `settled`  | spent, in the period in which it was lost      |
| `lost`                | `refund`, after all      | `refunded` | nothing                                        |
| `settled`, `refunded` | anything                 | as before  | as before                                      |

A new day or month begins with nothing spent; what is reserved stays reserved. Everything happens in transactions of
the store, so it holds for several processes at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import attrs

from clawft_trio.attempts import Usage
from clawft_trio.costs.money import from_pico, to_pico
from clawft_trio.costs.periods import Calendar, Period
from clawft_trio.costs.records import (
    UNLIMITED,
    Bill,
    Budget,
    BudgetOwner,
    ChargeState,
    Claim,
    GroupBy,
    LedgerEntry,
    Limits,
    Reservation,
    Spending,
)
from clawft_trio.costs.spending import GROUPS, TOKENS, Filter, as_text, entries_of, spending_of
from clawft_trio.errors import BudgetExceeded
from clawft_trio.store import Connection, Migration, Store

MIGRATIONS = (
    Migration(
        "costs",
        1,
        """
        CREATE TABLE cost_charges (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            state TEXT NOT NULL,
            at TEXT NOT NULL,
            day TEXT NOT NULL,
            month TEXT NOT NULL,
            sender TEXT NOT NULL,
            agent TEXT NOT NULL,
            turn TEXT NOT NULL,
            parent_turn TEXT NOT NULL,
            call TEXT NOT NULL,
            target TEXT NOT NULL,
            outcome TEXT NOT NULL DEFAULT '',
            input_tokens INTEGER NOT NULL DEFAULT 0,
            output_tokens INTEGER NOT NULL DEFAULT 0,
            cached_tokens INTEGER NOT NULL DEFAULT 0,
            cache_write_tokens INTEGER NOT NULL DEFAULT 0,
            reasoning_tokens INTEGER NOT NULL DEFAULT 0,
            reserved INTEGER,  -- picodollars; NULL: no price
            if_lost INTEGER,  -- picodollars that it costs when nobody comes back for it
            cost INTEGER,  -- picodollars; NULL: no price, or still open
            certainty TEXT,
            expires REAL NOT NULL  -- seconds since 1970
        ) STRICT;
        CREATE INDEX cost_charges_open ON cost_charges (sender) WHERE state = 'open';
        CREATE INDEX cost_charges_at ON cost_charges (at);
        CREATE INDEX cost_charges_turn ON cost_charges (turn);
        CREATE TABLE cost_totals (
            whose TEXT NOT NULL,
            period TEXT NOT NULL,
            spent INTEGER NOT NULL,  -- picodollars
            PRIMARY KEY (whose, period)
        ) STRICT, WITHOUT ROWID;
        """,
    ),
)
"""What `Ledger` needs in its store."""

_FROM_MIDNIGHT = Calendar()
_EVERYBODY = "*"


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Ledger:
    """The ledger in the store, which needs `MIGRATIONS`. Any number of processes may share it.

    Args:
      store: where it is.
      calendar: when days begin.
      lease: seconds after which a reservation that nobody settled counts as lost.
      now: calendar time, with a zone.
    """

    def __init__(
        self,
        store: Store,
        *,
        calendar: Calendar = _FROM_MIDNIGHT,
        lease: float = 900.0,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._store = store
        self._calendar = calendar
        self._lease = lease
        self.now = now

    # --- money -------------------------------------------------------------------------------------------

    async def reserve(
        self,
        claim: Claim,
        amount: Decimal | None,
        *,
        own: Limits = UNLIMITED,
        everybody: Limits = UNLIMITED,
        if_lost: Bill | None = None,
    ) -> Reservation:
        """Set *amount* aside, if that fits into every limit together with what is spent and reserved.

        Args:
          claim: who spends, and on what.
          amount: US dollars, an upper estimate; None when the target has no price: then no limit may be used up.
          own: the limits of who pays.
          everybody: the limits of all together.
          if_lost: what it counts as when nobody settles it: no more than *amount*.

        Raises:
          BudgetExceeded: it does not fit. `retry_after` is the time until the last of the limits that are in the way
            begins anew; None when it is more than the whole of one.
          StoreError: the ledger cannot be written. Nothing is reserved.

        Cancellation: nothing is reserved.
        """
        moment = self._moment()
        row = {
            "sender": claim.sender_id,
            "agent": claim.agent,
            "turn": claim.turn_id,
            "parent_turn": claim.parent_turn_id,
            "call": claim.call_id,
            "target": claim.target,
            "reserved": None if amount is None else to_pico(amount),
            "if_lost": None if if_lost is None or if_lost.cost is None else to_pico(if_lost.cost),
            "input_tokens": 0 if if_lost is None else if_lost.usage.input_tokens,
            "expires": moment.now.timestamp() + self._lease,
        }
        id_ = await self._store.transact(partial(_reserve, moment, row, amount, own, everybody))
        return Reservation(id=id_, claim=claim, amount=amount)

    async def settle(self, reservation: Reservation, bill: Bill) -> bool:
        """Replace *reservation* by what it came to; False when that had been done before, and counts.

        Raises:
          StoreError: the ledger cannot be written. The reservation is open until its lease ends.

        Cancellation: it is settled, or still open.
        """
        return await self._store.transact(partial(_close, self._moment(), reservation.id, "settled", bill))

    async def refund(self, reservation: Reservation, *, outcome: str = "failed") -> bool:
        """Give *reservation* back whole; False when it had been settled before.

        Raises:
          StoreError: as for `settle`.

        Cancellation: it is given back, or still open.
        """
        bill = Bill(cost=Decimal(0), outcome=outcome)
        return await self._store.transact(partial(_close, self._moment(), reservation.id, "refunded", bill))

    async def budgets(
        self, sender_id: str, *, own: Limits = UNLIMITED, everybody: Limits = UNLIMITED
    ) -> tuple[Budget, ...]:
        """Every limit that there is for *sender_id*, and how much of it is used.

        Raises:
          StoreError: the ledger cannot be read.

        Cancellation: nothing is changed.
        """
        return await self._store.read(partial(_budgets, self._moment(), sender_id, own, everybody))

    # --- questions ---------------------------------------------------------------------------------------

    async def entries(
        self,
        *,
        sender: str | None = None,
        turn: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 1000,
    ) -> tuple[LedgerEntry, ...]:
        """Attempts, latest first.

        Args:
          sender: only this one's.
          turn: only of this turn and of those that it started.
          since: aware; not before.
          until: aware; before.
          limit: at most so many.

        Raises:
          StoreError: the ledger cannot be read.

        Cancellation: nothing is changed.
        """
        which = Filter(sender=sender, turn=turn, since=since, until=until)
        return await self._store.read(partial(entries_of, which, limit))

    async def spending(
        self,
        *by: GroupBy,
        sender: str | None = None,
        turn: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> tuple[Spending, ...]:
        """What was spent, in groups by *by* (all in one without), dearest first. What is open is left out.

        Args:
          by: what the attempts of a group have in common.
          sender: only this one's.
          turn: only of this turn and of those that it started.
          since: aware; not before.
          until: aware; before.

        Raises:
          ValueError: there is no such column.
          StoreError: the ledger cannot be read.

        Cancellation: nothing is changed.
        """
        if not GROUPS.issuperset(by):
            raise ValueError(f"expected some of {', '.join(sorted(GROUPS))}, got {', '.join(by)}")
        which = Filter(sender=sender, turn=turn, since=since, until=until)
        return await self._store.read(partial(spending_of, which, by))

    async def forget(self, before: datetime) -> int:
        """Delete the closed rows from before *before*, and return how many. Budgets stay as they are.

        Raises:
          StoreError: the ledger cannot be written.

        Cancellation: all are deleted, or none.
        """
        sql = "DELETE FROM cost_charges WHERE state != 'open' AND at < ?"
        return await self._store.transact(lambda c: c.execute(sql, (as_text(before),)).rowcount)

    def _moment(self) -> _Moment:
        now = self.now()
        return _Moment(now, self._calendar.day(now), self._calendar.month(now))


@attrs.frozen
class _Moment:
    """Now, and the periods that it is in."""

    now: datetime
    day: Period
    month: Period


# --- transactions ----------------------------------------------------------------------------------------


def _reserve(
    moment: _Moment,
    row: dict[str, Any],
    amount: Decimal | None,
    own: Limits,
    everybody: Limits,
    connection: Connection,
) -> int:
    _collect_lost(moment, connection)
    budgets = _budgets(moment, row["sender"], own, everybody, connection)
    in_the_way = [budget for budget in budgets if budget.refuses(amount)]
    if in_the_way:
        raise _refusal(in_the_way, amount, moment.now)
    full = {"state": "open", "at": as_text(moment.now), "day": moment.day.key, "month": moment.month.key, **row}
    cursor = connection.execute(
        f"INSERT INTO cost_charges ({', '.join(full)}) VALUES ({', '.join('?' * len(full))}) RETURNING id",  # noqa: S608 - names of ours
        tuple(full.values()),
    )
    id_: int = cursor.fetchone()[0]
    return id_


def _collect_lost(moment: _Moment, connection: Connection) -> None:
    expired = connection.execute(
        "SELECT id, if_lost, input_tokens FROM cost_charges WHERE state = 'open' AND expires <= ?",
        (moment.now.timestamp(),),
    ).fetchall()
    for id_, cost, tokens in expired:
        bill = Bill(
            usage=Usage(input_tokens=tokens),
            cost=None if cost is None else from_pico(cost),
            certainty="estimated",
            outcome="lost",
        )
        _close(moment, id_, "lost", bill, connection)


def _close(moment: _Moment, id_: int, state: ChargeState, bill: Bill, connection: Connection) -> bool:
    found = connection.execute(
        "SELECT state, sender, day, month, cost FROM cost_charges WHERE id = ?", (id_,)
    ).fetchone()
    if found is None or found[0] in {"settled", "refunded"}:
        return False
    before, sender, day, month, charged = found
    if before == "open":
        day, month, charged = moment.day.key, moment.month.key, 0
    cost = None if bill.cost is None else to_pico(bill.cost)
    connection.execute(
        "UPDATE cost_charges SET state = ?, day = ?, month = ?, outcome = ?, cost = ?, certainty = ?, "
        "input_tokens = ?, output_tokens = ?, cached_tokens = ?, cache_write_tokens = ?, reasoning_tokens = ? "
        "WHERE id = ?",
        (state, day, month, bill.outcome, cost, bill.certainty, *(getattr(bill.usage, n) for n in TOKENS), id_),
    )
    _charge(sender, (day, month), (cost or 0) - (charged or 0), connection)
    return True


def _charge(sender: str, periods: Sequence[str], picodollars: int, connection: Connection) -> None:
    if picodollars:
        connection.executemany(
            "INSERT INTO cost_totals (whose, period, spent) VALUES (?, ?, ?)"
            " ON CONFLICT (whose, period) DO UPDATE SET spent = cost_totals.spent + excluded.spent",
            [(owner, period, picodollars) for owner in (_EVERYBODY, _key(sender)) for period in periods],
        )


def _key(sender: str) -> str:
    # Whatever a sender is called, it is not everybody.
    return f"sender:{sender}"


def _budgets(
    moment: _Moment, sender: str, own: Limits, everybody: Limits, connection: Connection
) -> tuple[Budget, ...]:
    asked: list[tuple[BudgetOwner, str, Limits]] = [("sender", _key(sender), own), ("everybody", _EVERYBODY, everybody)]
    found: list[Budget] = []
    for owner, key, limits in asked:
        if limits == UNLIMITED:
            continue
        reserved = _reserved(moment.now, sender if owner == "sender" else None, connection)
        for period, most in ((moment.day, limits.daily), (moment.month, limits.monthly)):
            if most is not None:
                spent = _spent(key, period.key, connection)
                found.append(
                    Budget(
                        owner=owner, period=period.name, limit=most, spent=spent, reserved=reserved, ends=period.ends
                    )
                )
    return tuple(found)


def _spent(owner: str, period: str, connection: Connection) -> Decimal:
    found = connection.execute(
        "SELECT spent FROM cost_totals WHERE whose = ? AND period = ?", (owner, period)
    ).fetchone()
    return from_pico(found[0]) if found else Decimal(0)


def _reserved(now: datetime, sender: str | None, connection: Connection) -> Decimal:
    # Who only asks collects nothing: what has expired counts as what it is going to be charged.
    owner, values = ("", ()) if sender is None else ("AND sender = ?", (sender,))
    (total,) = connection.execute(
        "SELECT coalesce(sum(CASE WHEN expires > ? THEN reserved ELSE if_lost END), 0) FROM cost_charges "  # noqa: S608 - text of ours
        f"WHERE state = 'open' {owner}",
        (now.timestamp(), *values),
    ).fetchone()
    return from_pico(total)


def _refusal(in_the_way: Sequence[Budget], amount: Decimal | None, now: datetime) -> BudgetExceeded:
    last = max(in_the_way, key=lambda budget: budget.ends)
    for_ever = [budget for budget in in_the_way if amount is not None and amount > budget.limit]
    budget = for_ever[0] if for_ever else last
    who = "this sender's" if budget.owner == "sender" else "everybody's"
    asked = "a call without a known price" if amount is None else f"a call that may cost {amount:f}"
    refusal = BudgetExceeded(
        f"{who} {budget.period} budget of {budget.limit:f} US dollars has {max(budget.left, Decimal(0)):f} left "
        f"({budget.spent:f} spent, {budget.reserved:f} reserved), too little for {asked}",
        spent=budget.spent,
        limit=budget.limit,
        retry_after=None if for_ever else max(0.0, (budget.ends - now).total_seconds()),
    )
    # A cheaper target may fit into what is left.
    refusal.curable_elsewhere = amount is not None and all(budget.left > 0 for budget in in_the_way)
    return refusal
