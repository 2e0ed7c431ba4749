"""Writing the ledger: the transactions that reserve, close and release charges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from clawft_trio.attempts import Usage
from clawft_trio.costs.budgets import (
    EVERYBODY,
    OF_TURN,
    Asked,
    Moment,
    as_pico,
    budgets_of,
    key_of,
    refusal,
    turn_budgets,
)
from clawft_trio.costs.money import SATURATED, from_pico
from clawft_trio.costs.records import Bill, Claim, Closing, Limits
from clawft_trio.costs.spending import TOKENS, as_text
from clawft_trio.store import Connection

_MOST_TOKENS = 10**12
"""Tokens of one charge as they are kept, so that sums of many stay within 64 bits."""


@attrs.frozen(kw_only=True)
class Wanted:
    """A reservation that is asked for."""

    claim: Claim
    asked: Asked
    own: Limits
    everybody: Limits
    if_lost: Bill
    owner: str
    lease: float


def reserve(moment: Moment, wanted: Wanted, connection: Connection) -> int:
    """Insert an open charge if it fits into every limit, and return its id."""
    collect_lost(moment, connection)
    claim = wanted.claim
    asked = attrs.evolve(wanted.asked, turns=int(_begins_a_turn(claim, connection)))
    budgets = budgets_of(moment, claim.sender_id, wanted.own, wanted.everybody, connection)
    budgets += turn_budgets(moment.now, claim.budgets, connection)
    blocking = [budget for budget in budgets if asked.refused_by(budget)]
    if blocking:
        raise refusal(blocking, asked, moment, claim.sender_id, connection)
    id_ = _insert(moment, wanted, connection)
    _charge(claim.sender_id, (moment.day.key, moment.month.key), 0, 0, asked.turns, connection)
    return id_


def _begins_a_turn(claim: Claim, connection: Connection) -> bool:
    """Whether this is the first charge of a turn that a sender started itself."""
    if claim.above:
        return False
    query = "SELECT 1 FROM cost_charges WHERE turn = ? LIMIT 1"
    return not claim.turn_id or connection.execute(query, (claim.turn_id,)).fetchone() is None


def _insert(moment: Moment, wanted: Wanted, connection: Connection) -> int:
    claim, lost = wanted.claim, wanted.if_lost
    row: dict[str, Any] = {
        "state": "open",
        "at": as_text(moment.now),
        "day": moment.day.key,
        "month": moment.month.key,
        "sender": claim.sender_id,
        "agent": claim.agent,
        "turn": claim.turn_id,
        "parent_turn": claim.parent_turn_id,
        "call": claim.call_id,
        "target": claim.target,
        "reserved": as_pico(wanted.asked.usd),
        "reserved_tokens": min(wanted.asked.tokens, _MOST_TOKENS),
        "if_lost": as_pico(lost.cost),
        "input_tokens": min(lost.usage.input_tokens, _MOST_TOKENS),
        "owner": wanted.owner,
        "expires": moment.now.timestamp() + wanted.lease,
    }
    id_: int = connection.execute(
        f"INSERT INTO cost_charges ({', '.join(row)}) VALUES ({', '.join('?' * len(row))}) RETURNING id",
        tuple(row.values()),
    ).fetchone()[0]
    if claim.above:
        connection.executemany(
            "INSERT INTO cost_turns (turn, charge) VALUES (?, ?)", [(turn, id_) for turn in dict.fromkeys(claim.above)]
        )
    return id_


def close_all(moment: Moment, closings: Sequence[Closing], connection: Connection) -> bool:
    """Close several charges; False when none of them was open or lost."""
    done = [close(moment, closing, connection) for closing in closings]
    return any(done)


def close(moment: Moment, closing: Closing, connection: Connection) -> bool:
    """Replace a reservation by its bill; False when it was settled or refunded before, which stands."""
    found = connection.execute(
        "SELECT state, sender, day, month, cost, input_tokens + output_tokens FROM cost_charges "
        "WHERE id = ? AND (owner = ? OR ? = '')",
        (closing.id, closing.owner, closing.owner),
    ).fetchone()
    if found is None or found[0] in {"settled", "refunded"}:
        return False
    bill = closing.bill
    before, sender, day, month, charged, counted = found
    if before == "open":
        day, month, charged, counted = moment.day.key, moment.month.key, 0, 0
    usage, cost = bill.usage, as_pico(bill.cost)
    row: dict[str, Any] = {
        "state": closing.state,
        "day": day,
        "month": month,
        "outcome": bill.outcome,
        "cost": cost,
        "certainty": bill.certainty,
        "web_searches": min(usage.web_searches, _MOST_TOKENS),
        "service_tier": usage.service_tier,
        "note": bill.note,
    } | {name: min(getattr(usage, name), _MOST_TOKENS) for name in TOKENS}
    connection.execute(
        f"UPDATE cost_charges SET {', '.join(f'{name} = ?' for name in row)} WHERE id = ?",
        (*row.values(), closing.id),
    )
    tokens = row["input_tokens"] + row["output_tokens"] - counted
    _charge(sender, (day, month), (cost or 0) - (charged or 0), tokens, 0, connection)
    return True


def collect_lost(moment: Moment, connection: Connection) -> None:
    """Charge what no process has settled within its lease."""
    expired = connection.execute(
        "SELECT id, if_lost, input_tokens FROM cost_charges WHERE state = 'open' AND expires <= ?",
        (moment.now.timestamp(),),
    ).fetchall()
    _lose(moment, expired, "its lease has ended", connection)


def release(moment: Moment, turns: Iterable[str], owner: str, connection: Connection) -> int:
    """Charge what other processes than *owner* have reserved for *turns* and for turns below them."""
    count = 0
    for turn in turns:
        left = connection.execute(
            f"SELECT id, if_lost, input_tokens FROM cost_charges WHERE state = 'open' AND owner != ? AND ({OF_TURN})",
            (owner, turn, turn),
        ).fetchall()
        _lose(moment, left, "its process was replaced by another one", connection)
        count += len(left)
    return count


def _lose(moment: Moment, rows: Iterable[Sequence[Any]], why: str, connection: Connection) -> None:
    for id_, cost, tokens in rows:
        bill = Bill(
            usage=Usage(input_tokens=tokens),
            cost=None if cost is None else from_pico(cost),
            certainty="estimated",
            outcome="lost",
            note=why,
        )
        close(moment, Closing(id=id_, state="lost", bill=bill), connection)


def _charge(
    sender: str, periods: Sequence[str], picodollars: int, tokens: int, turns: int, connection: Connection
) -> None:
    if not (picodollars or tokens or turns):
        return
    rows = [(owner, period, picodollars, tokens, turns) for owner in (EVERYBODY, key_of(sender)) for period in periods]
    connection.executemany(
        "INSERT INTO cost_totals (whose, period, spent, tokens, turns) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (whose, period) DO UPDATE SET "
        f"spent = CASE WHEN excluded.spent > {SATURATED} - cost_totals.spent THEN {SATURATED} "
        "ELSE cost_totals.spent + excluded.spent END, "
        f"tokens = CASE WHEN excluded.tokens > {SATURATED} - cost_totals.tokens THEN {SATURATED} "
        "ELSE cost_totals.tokens + excluded.tokens END, "
        "turns = cost_totals.turns + excluded.turns",
        rows,
    )


def forget(before: str, connection: Connection) -> int:
    """Delete the closed charges from before *before*."""
    old = "state != 'open' AND at < ?"
    connection.execute(
        f"DELETE FROM cost_turns WHERE charge IN (SELECT id FROM cost_charges WHERE {old})",
        (before,),
    )
    return connection.execute(f"DELETE FROM cost_charges WHERE {old}", (before,)).rowcount
