"""Budgets from the ledger: the amounts spent and reserved, and whether an attempt fits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial

import attrs

from clawft_trio.costs.money import from_pico, to_pico
from clawft_trio.costs.periods import Period
from clawft_trio.costs.records import UNLIMITED, Budget, BudgetOwner, Limits, TurnBudget, Unit
from clawft_trio.errors import BudgetExceeded
from clawft_trio.store import Connection

EVERYBODY = "*"

OF_TURN = "turn = ? OR id IN (SELECT charge FROM cost_turns WHERE turn = ?)"
"""Condition for the charges of a turn and of all turns below it."""

_PARTS = 1_000_000
"""Picodollars are summed in two parts, because the sum of a few large amounts does not fit into 64 bits."""


def summed(expression: str) -> str:
    """Return SQL for the sum of *expression* in two columns, which `whole` joins."""
    return f"coalesce(sum(({expression}) / {_PARTS}), 0), coalesce(sum(({expression}) % {_PARTS}), 0)"


def whole(parts: Sequence[int]) -> int:
    """Return the sum that is in the two columns of `summed`."""
    return int(parts[0]) * _PARTS + int(parts[1])


@attrs.frozen
class Moment:
    """The current time, with its day and month."""

    now: datetime
    day: Period
    month: Period


@attrs.frozen(kw_only=True)
class Asked:
    """The amounts that an attempt needs, one for each unit."""

    #: US dollars; None when the target has no price
    usd: Decimal | None
    tokens: int = 0
    #: 1 for the first attempt of a turn
    turns: int = 0

    def of(self, unit: Unit) -> Decimal | None:
        """Return the amount in *unit*."""
        return self.usd if unit == "usd" else Decimal(self.tokens if unit == "tokens" else self.turns)

    def refused_by(self, budget: Budget) -> bool:
        """Whether *budget* has less left than the attempt needs."""
        amount = self.of(budget.unit)
        # A turn that has already begun needs no further turn.
        return not (budget.unit == "turns" and not amount) and budget.refuses(amount)


def key_of(sender: str) -> str:
    """Return the key of *sender* in the totals; no sender can have the key of all senders."""
    return f"sender:{sender}"


def budgets_of(
    moment: Moment, sender: str, own: Limits, everybody: Limits, connection: Connection
) -> tuple[Budget, ...]:
    """Return all daily and monthly limits of *sender*."""
    asked: list[tuple[BudgetOwner, str, Limits]] = []
    if own != UNLIMITED:
        asked.append(("sender", key_of(sender), own))
    if everybody != UNLIMITED:
        asked.append(("everybody", EVERYBODY, everybody))
    if not asked:
        return ()
    spent = _spent(key_of(sender), moment, connection)
    found: list[Budget] = []
    for owner, key, limits in asked:
        held = _reserved(owner, moment.now, sender, connection)
        for period in (moment.day, moment.month):
            used = spent.get((key, period.key), _NOTHING)
            make = partial(Budget, owner=owner, period=period.name, ends=period.ends)
            for unit, most in _limits_in(limits, period):
                found.append(make(unit=unit, limit=most, spent=used.of(unit), reserved=held.of(unit)))
    return tuple(found)


@attrs.frozen
class _Used:
    """Used amounts, one for each unit."""

    usd: int = 0  # picodollars
    tokens: int = 0
    turns: int = 0

    def of(self, unit: Unit) -> Decimal:
        if unit == "usd":
            return from_pico(self.usd)
        return Decimal(self.tokens if unit == "tokens" else self.turns)


_NOTHING = _Used()


def _limits_in(limits: Limits, period: Period) -> list[tuple[Unit, Decimal]]:
    daily = period.name == "daily"
    given: tuple[tuple[Unit, Decimal | int | None], ...] = (
        ("usd", limits.daily if daily else limits.monthly),
        ("tokens", limits.daily_tokens if daily else limits.monthly_tokens),
        ("turns", limits.daily_turns if daily else limits.monthly_turns),
    )
    return [(unit, Decimal(most)) for unit, most in given if most is not None]


def turn_budgets(now: datetime, budgets: Iterable[TurnBudget], connection: Connection) -> tuple[Budget, ...]:
    """Return the limits of turns, with the amounts that they and all turns below them have spent and reserved."""
    found: list[Budget] = []
    for budget in budgets:
        values = (now.timestamp(), now.timestamp(), budget.turn_id, budget.turn_id)
        row = connection.execute(_OF_TURN, values).fetchone()
        make = partial(Budget, owner="turn", period="turn", ends=None)
        if budget.usd is not None:
            spent, reserved = from_pico(whole(row[:2])), from_pico(whole(row[3:5]))
            found.append(make(unit="usd", limit=budget.usd, spent=spent, reserved=reserved))
        if budget.tokens is not None:
            limit, spent, reserved = Decimal(budget.tokens), Decimal(int(row[2])), Decimal(int(row[5]))
            found.append(make(unit="tokens", limit=limit, spent=spent, reserved=reserved))
    return tuple(found)


# Reading changes nothing: an expired reservation counts with the amount that it will be charged.
_HELD_USD = "CASE WHEN expires > ? THEN reserved ELSE if_lost END"
_HELD_TOKENS = "CASE WHEN expires > ? THEN reserved_tokens ELSE input_tokens END"

_OF_TURN = f"""
    SELECT {summed("spent")}, coalesce(sum(spent_tokens), 0), {summed("held")}, coalesce(sum(held_tokens), 0) FROM (
        SELECT CASE WHEN state != 'open' THEN cost END AS spent,
        CASE WHEN state != 'open' THEN input_tokens + output_tokens END AS spent_tokens,
        CASE WHEN state = 'open' THEN {_HELD_USD} END AS held,
        CASE WHEN state = 'open' THEN {_HELD_TOKENS} END AS held_tokens
        FROM cost_charges WHERE {OF_TURN}
    ) AS charges
"""

_HELD = f"SELECT {_HELD_USD} AS amount, {_HELD_TOKENS} AS tokens FROM cost_charges WHERE state = 'open'"
_RESERVED = f"SELECT {summed('amount')}, coalesce(sum(tokens), 0) FROM ({{}}) AS held"
_RESERVED_BY_ALL = _RESERVED.format(_HELD)
_RESERVED_BY_SENDER = _RESERVED.format(f"{_HELD} AND sender = ?")


def _reserved(owner: BudgetOwner, now: datetime, sender: str, connection: Connection) -> _Used:
    """Return the amounts reserved by *sender*, or by all senders together."""
    at = now.timestamp()
    query, values = (_RESERVED_BY_ALL, (at, at)) if owner == "everybody" else (_RESERVED_BY_SENDER, (at, at, sender))
    *parts, tokens = connection.execute(query, values).fetchone()
    return _Used(whole(parts), int(tokens))


def _spent(key: str, moment: Moment, connection: Connection) -> dict[tuple[str, str], _Used]:
    """Return the amounts that the sender of *key* and all senders have spent in the periods of *moment*."""
    query = """
        SELECT whose, period, spent, tokens, turns FROM cost_totals WHERE whose IN (?, ?) AND period IN (?, ?)
    """
    rows = connection.execute(query, (key, EVERYBODY, moment.day.key, moment.month.key)).fetchall()
    return {(whose, period): _Used(*amounts) for whose, period, *amounts in rows}


def refusal(
    blocking: Sequence[Budget], asked: Asked, moment: Moment, sender: str, connection: Connection
) -> BudgetExceeded:
    """Make the error for an attempt that does not fit into any of *blocking*."""
    waits = [(_wait(budget, asked, moment, sender, connection), budget) for budget in blocking]
    never = [budget for wait, budget in waits if wait is None]
    # Of the budgets that never have room, the smallest one explains most.
    wait, budget = (
        (None, min(never, key=lambda b: (b.limit, b.unit))) if never else max(waits, key=lambda pair: pair[0] or 0.0)
    )
    estimate = asked.of(budget.unit)
    error = BudgetExceeded(
        _text(budget, estimate),
        spent=budget.spent,
        limit=budget.limit,
        reserved=budget.reserved,
        estimate=estimate,
        unit=budget.unit,
        retry_after=wait,
    )
    # A cheaper target may fit into the rest.
    error.curable_elsewhere = asked.usd is not None and all(b.unit == "usd" and b.left > 0 for b in blocking)
    return error


def _text(budget: Budget, estimate: Decimal | None) -> str:
    owner = {"sender": "this sender's", "everybody": "the shared", "turn": "this turn's"}[budget.owner]
    span = "" if budget.period == "turn" else f"{budget.period} "
    unit = {"usd": "US dollars", "tokens": "tokens", "turns": "turns"}[budget.unit]
    asked = "a call without a known price" if estimate is None else f"a call that may take {estimate:f}"
    return (
        f"{owner} {span}budget of {budget.limit:f} {unit} has {max(budget.left, Decimal(0)):f} left "
        f"({budget.spent:f} spent, {budget.reserved:f} reserved), too little for {asked}"
    )


def _wait(budget: Budget, asked: Asked, moment: Moment, sender: str, connection: Connection) -> float | None:
    """Return the seconds until *budget* has room, as far as they are known; None: never."""
    amount = asked.of(budget.unit)
    if amount is not None and amount > budget.limit:
        return None
    waits = []
    if budget.ends is not None:
        waits.append((budget.ends - moment.now).total_seconds())
    free = budget.limit - budget.spent
    if budget.owner != "turn" and (free > 0 if amount is None else amount <= free):
        # Only reservations block it: they are settled before their leases end.
        waits.append(_until_expired(budget, amount, moment, sender, connection))
    return max(0.0, min(waits)) if waits else None


def _until_expired(
    budget: Budget, amount: Decimal | None, moment: Moment, sender: str, connection: Connection
) -> float:
    """Return the seconds until enough leases have ended that *amount* fits."""
    where, values = ("AND sender = ?", (sender,)) if budget.owner == "sender" else ("", ())
    rows = connection.execute(
        "SELECT expires, reserved, if_lost, reserved_tokens, input_tokens FROM cost_charges "
        f"WHERE state = 'open' AND expires > ? {where} ORDER BY expires",
        (moment.now.timestamp(), *values),
    )
    left = budget.left
    for expires, reserved, if_lost, tokens, kept in rows:
        left += from_pico((reserved or 0) - (if_lost or 0)) if budget.unit == "usd" else tokens - kept
        if (left > 0) if amount is None else (amount <= left):
            return float(expires) - moment.now.timestamp()
    return float("inf")


def as_pico(amount: Decimal | None) -> int | None:
    """Convert *amount* to the ledger's unit."""
    return None if amount is None else to_pico(amount)
