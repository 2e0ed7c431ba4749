"""Reading budgets out of the ledger: what is spent and reserved, and whether an attempt fits."""

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
"""The charges of a turn and of all turns below it."""

_PARTS = 1_000_000
"""Sums of picodollars are added up in two parts, because the sum of a few large ones does not fit into 64 bits."""


def summed(expression: str) -> str:
    """Two columns from which `whole` makes the sum of *expression*."""
    return f"coalesce(sum(({expression}) / {_PARTS}), 0), coalesce(sum(({expression}) % {_PARTS}), 0)"


def whole(parts: Sequence[int]) -> int:
    """The sum that the two columns of `summed` have."""
    return int(parts[0]) * _PARTS + int(parts[1])


@attrs.frozen
class Moment:
    """Now, and the periods that it is in."""

    now: datetime
    day: Period
    month: Period


@attrs.frozen(kw_only=True)
class Asked:
    """What an attempt would use up of each unit."""

    #: US dollars; None when the target has no price
    usd: Decimal | None
    tokens: int = 0
    #: 1 for the first attempt of a turn
    turns: int = 0

    def of(self, unit: Unit) -> Decimal | None:
        """The amount in *unit*."""
        return self.usd if unit == "usd" else Decimal(self.tokens if unit == "tokens" else self.turns)

    def refused_by(self, budget: Budget) -> bool:
        """Whether *budget* does not have as much left."""
        amount = self.of(budget.unit)
        # A turn that is under way needs no further turn.
        return not (budget.unit == "turns" and not amount) and budget.refuses(amount)


def key_of(sender: str) -> str:
    """The name of *sender* in the totals: no sender's name equals the key of all senders."""
    return f"sender:{sender}"


# --- what there is ---------------------------------------------------------------------------------------


def budgets_of(
    moment: Moment, sender: str, own: Limits, everybody: Limits, connection: Connection
) -> tuple[Budget, ...]:
    """Every daily and monthly limit that *sender* has."""
    found: list[Budget] = []
    asked: tuple[tuple[BudgetOwner, str, Limits], ...] = (
        ("sender", key_of(sender), own),
        ("everybody", EVERYBODY, everybody),
    )
    for owner, key, limits in asked:
        if limits == UNLIMITED:
            continue
        usd, tokens = (
            _reserved(moment.now, "sender = ?", connection, sender)
            if owner == "sender"
            else _reserved(moment.now, "1 = 1", connection)
        )
        held: dict[Unit, Decimal] = {"usd": usd, "tokens": Decimal(tokens), "turns": Decimal(0)}
        for period in (moment.day, moment.month):
            spent = _spent(key, period.key, connection)
            make = partial(Budget, owner=owner, period=period.name, ends=period.ends)
            for unit, most in _limits_in(limits, period):
                found.append(make(unit=unit, limit=most, spent=spent[unit], reserved=held[unit]))
    return tuple(found)


def _limits_in(limits: Limits, period: Period) -> list[tuple[Unit, Decimal]]:
    daily = period.name == "daily"
    given: tuple[tuple[Unit, Decimal | int | None], ...] = (
        ("usd", limits.daily if daily else limits.monthly),
        ("tokens", limits.daily_tokens if daily else limits.monthly_tokens),
        ("turns", limits.daily_turns if daily else limits.monthly_turns),
    )
    return [(unit, Decimal(most)) for unit, most in given if most is not None]


def turn_budgets(now: datetime, budgets: Iterable[TurnBudget], connection: Connection) -> tuple[Budget, ...]:
    """The limits of turns, with what they and all turns below them have spent and reserved."""
    found: list[Budget] = []
    for budget in budgets:
        values = (budget.turn_id, budget.turn_id)
        row = connection.execute(
            f"SELECT {summed('cost')}, coalesce(sum(input_tokens + output_tokens), 0) "
            f"FROM cost_charges WHERE state != 'open' AND ({OF_TURN})",
            values,
        ).fetchone()
        usd, tokens = _reserved(now, OF_TURN, connection, *values)
        make = partial(Budget, owner="turn", period="turn", ends=None)
        if budget.usd is not None:
            found.append(make(unit="usd", limit=budget.usd, spent=from_pico(whole(row[:2])), reserved=usd))
        if budget.tokens is not None:
            limit, spent = Decimal(budget.tokens), Decimal(int(row[2]))
            found.append(make(unit="tokens", limit=limit, spent=spent, reserved=Decimal(tokens)))
    return tuple(found)


def _spent(owner: str, period: str, connection: Connection) -> dict[Unit, Decimal]:
    found = connection.execute(
        "SELECT spent, tokens, turns FROM cost_totals WHERE whose = ? AND period = ?", (owner, period)
    ).fetchone()
    usd, tokens, turns = found or (0, 0, 0)
    return {"usd": from_pico(usd), "tokens": Decimal(tokens), "turns": Decimal(turns)}


def _reserved(now: datetime, where: str, connection: Connection, *values: str) -> tuple[Decimal, int]:
    # Reading changes nothing: what has expired counts as what it is going to be charged.
    row = connection.execute(
        f"SELECT {summed('amount')}, coalesce(sum(tokens), 0) FROM ("
        "SELECT CASE WHEN expires > ? THEN reserved ELSE if_lost END AS amount, "
        "CASE WHEN expires > ? THEN reserved_tokens ELSE input_tokens END AS tokens "
        f"FROM cost_charges WHERE state = 'open' AND ({where})) AS held",
        (now.timestamp(), now.timestamp(), *values),
    ).fetchone()
    return from_pico(whole(row[:2])), int(row[2])


# --- what does not fit -----------------------------------------------------------------------------------


def refusal(
    blocking: Sequence[Budget], asked: Asked, moment: Moment, sender: str, connection: Connection
) -> BudgetExceeded:
    """The error for an attempt that does not fit into any of *blocking*."""
    waits = [(_wait(budget, asked, moment, sender, connection), budget) for budget in blocking]
    never = [budget for wait, budget in waits if wait is None]
    # Of those that never have room, the smallest one explains most.
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
    # A cheaper target may fit into what is left.
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
    """Seconds until *budget* has room, as far as that is known; None: never."""
    amount = asked.of(budget.unit)
    if amount is not None and amount > budget.limit:
        return None
    waits = []
    if budget.ends is not None:
        waits.append((budget.ends - moment.now).total_seconds())
    free = budget.limit - budget.spent
    if budget.owner != "turn" and (free > 0 if amount is None else amount <= free):
        # Only reservations are in the way: they are settled before their leases end.
        waits.append(_until_expired(budget, amount, moment, sender, connection))
    return max(0.0, min(waits)) if waits else None


def _until_expired(
    budget: Budget, amount: Decimal | None, moment: Moment, sender: str, connection: Connection
) -> float:
    """Seconds until so many leases have ended that the rest fits."""
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
    """*amount* as the ledger keeps it."""
    return None if amount is None else to_pico(amount)
