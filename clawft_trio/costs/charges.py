"""Write transactions of the ledger: reserve, close and release charges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
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
from clawft_trio.keys import storable_text
from clawft_trio.store import Connection

_MOST_TOKENS = 10**12
"""Limit on the stored tokens of one charge, so that sums of many charges fit into 64 bits."""


@attrs.frozen(kw_only=True)
class Wanted:
    """A requested reservation."""

    claim: Claim
    #: US dollars; None when the target has no price
    usd: Decimal | None
    tokens: int
    own: Limits
    everybody: Limits
    if_lost: Bill
    owner: str
    lease: float


def reserve(moment: Moment, wanted: Wanted, connection: Connection) -> int:
    """Insert an open charge if it fits into every limit, and return its id."""
    claim = wanted.claim
    expired, begun = connection.execute(_LOOK, (moment.now.timestamp(), claim.turn_id)).fetchone()
    if expired:
        collect_lost(moment, connection)
    # The first charge of a turn that a sender started itself; a charge without a turn counts as a turn.
    begins = not claim.above and not (begun and claim.turn_id)
    asked = Asked(usd=wanted.usd, tokens=wanted.tokens, turns=int(begins))
    budgets = budgets_of(moment, claim.sender_id, wanted.own, wanted.everybody, connection)
    budgets += turn_budgets(moment.now, claim.budgets, connection)
    blocking = [budget for budget in budgets if asked.refused_by(budget)]
    if blocking:
        raise refusal(blocking, asked, moment, claim.sender_id, connection)
    id_ = _insert(moment, wanted, connection)
    _charge(claim.sender_id, (moment.day.key, moment.month.key), 0, 0, asked.turns, connection)
    return id_


def find(moment: Moment, wanted: Wanted, connection: Connection) -> int | None:
    """Return the id of the open charge that `reserve` has inserted with the same arguments, or None."""
    query = """
        SELECT id FROM cost_charges
        WHERE state = 'open' AND sender = ? AND at = ? AND owner = ? AND turn = ? AND call = ? AND target = ?
    """
    claim = wanted.claim
    values = (claim.sender_id, as_text(moment.now), wanted.owner, claim.turn_id, claim.call_id, claim.target)
    found = connection.execute(query, values).fetchone()
    return None if found is None else int(found[0])


_LOOK = """
    SELECT EXISTS (SELECT 1 FROM cost_charges WHERE state = 'open' AND expires <= ?),
        EXISTS (SELECT 1 FROM cost_charges WHERE turn = ?)
"""
"""Query whether leases have ended, and whether a turn has charges."""

_NEW = (
    "state", "at", "day", "month", "sender", "agent", "turn", "parent_turn", "call", "target", "reserved",
    "reserved_tokens", "if_lost", "input_tokens", "owner", "expires",
)  # fmt: skip
_INSERT = f"INSERT INTO cost_charges ({', '.join(_NEW)}) VALUES ({', '.join('?' * len(_NEW))}) RETURNING id"


def _insert(moment: Moment, wanted: Wanted, connection: Connection) -> int:
    claim, lost = wanted.claim, wanted.if_lost
    row = (
        "open",
        as_text(moment.now),
        moment.day.key,
        moment.month.key,
        claim.sender_id,
        claim.agent,
        claim.turn_id,
        claim.parent_turn_id,
        claim.call_id,
        claim.target,
        as_pico(wanted.usd),
        min(wanted.tokens, _MOST_TOKENS),
        as_pico(lost.cost),
        min(lost.usage.input_tokens, _MOST_TOKENS),
        wanted.owner,
        moment.now.timestamp() + wanted.lease,
    )
    id_: int = connection.execute(_INSERT, row).fetchone()[0]
    if claim.above:
        connection.executemany(
            "INSERT INTO cost_turns (turn, charge) VALUES (?, ?)", [(turn, id_) for turn in dict.fromkeys(claim.above)]
        )
    return id_


def close_all(moment: Moment, closings: Sequence[Closing], connection: Connection) -> bool:
    """Close several charges; return False if none of them was open or lost."""
    done = [close(moment, closing, connection) for closing in closings]
    return any(done)


_CLOSED = (
    "state", "day", "month", "outcome", "cost", "certainty", "web_searches", "service_tier", "note", *TOKENS,
)  # fmt: skip
_CLOSE = f"UPDATE cost_charges SET {', '.join(f'{name} = ?' for name in _CLOSED)} WHERE id = ?"
_CLOSE_OPEN = f"{_CLOSE} AND state = 'open' AND (owner = ? OR ? = '') RETURNING sender"


def close(moment: Moment, closing: Closing, connection: Connection) -> bool:
    """Replace a reservation by its bill; return False, and change nothing, if it was settled or refunded before."""
    periods = (moment.day.key, moment.month.key)
    row = _closed(closing, periods)
    key = (closing.id, closing.owner, closing.owner)
    found = connection.execute(_CLOSE_OPEN, (*row, *key)).fetchone()
    if found is None:
        return _close_lost(closing, connection)
    usage = closing.bill.usage
    _charge(found[0], periods, as_pico(closing.bill.cost) or 0, _tokens(usage), 0, connection)
    return True


def _close_lost(closing: Closing, connection: Connection) -> bool:
    """Replace the charge of a lost reservation, in its own periods; return False if it was not lost."""
    found = connection.execute(
        "SELECT sender, day, month, cost, input_tokens + output_tokens FROM cost_charges "
        "WHERE id = ? AND state = 'lost' AND (owner = ? OR ? = '')",
        (closing.id, closing.owner, closing.owner),
    ).fetchone()
    if found is None:
        return False
    sender, day, month, charged, counted = found
    connection.execute(_CLOSE, (*_closed(closing, (day, month)), closing.id))
    more = (as_pico(closing.bill.cost) or 0) - (charged or 0)
    _charge(sender, (day, month), more, _tokens(closing.bill.usage) - counted, 0, connection)
    return True


def _closed(closing: Closing, periods: tuple[str, str]) -> tuple[Any, ...]:
    """Return the values of the columns `_CLOSED`."""
    bill = closing.bill
    return (
        closing.state,
        *periods,
        bill.outcome,
        as_pico(bill.cost),
        bill.certainty,
        min(bill.usage.web_searches, _MOST_TOKENS),
        storable_text(bill.usage.service_tier),
        storable_text(bill.note),
        *[min(getattr(bill.usage, name), _MOST_TOKENS) for name in TOKENS],
    )


def _tokens(usage: Usage) -> int:
    return min(usage.input_tokens, _MOST_TOKENS) + min(usage.output_tokens, _MOST_TOKENS)


def collect_lost(moment: Moment, connection: Connection) -> None:
    """Charge the reservations that no process has settled within their lease."""
    expired = connection.execute(
        "SELECT id, if_lost, input_tokens FROM cost_charges WHERE state = 'open' AND expires <= ?",
        (moment.now.timestamp(),),
    ).fetchall()
    _lose(moment, expired, "its lease has ended", connection)


# Reserved later than now: the clock was set back, and a process that has ended would block budgets for as long.
_OUTLASTING = "state = 'open' AND at > ? AND expires > ?"


def outlasts(moment: Moment, lease: float, connection: Connection) -> bool:
    """Whether `shorten` would shorten the lease of a reservation."""
    values = (as_text(moment.now), moment.now.timestamp() + lease)
    return connection.execute(f"SELECT 1 FROM cost_charges WHERE {_OUTLASTING} LIMIT 1", values).fetchone() is not None


def shorten(moment: Moment, lease: float, connection: Connection) -> None:
    """Let reservations from before the clock was set back end within *lease* seconds from now."""
    expires = moment.now.timestamp() + lease
    values = (expires, as_text(moment.now), expires)
    connection.execute(f"UPDATE cost_charges SET expires = ? WHERE {_OUTLASTING}", values)


def release(moment: Moment, turns: Iterable[str], owner: str, connection: Connection) -> int:
    """Charge the reservations of other processes than *owner* for *turns* and for turns below them; return how many."""
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


# For all senders and for one, a day and a month: one statement.
_CHARGE = f"""
    INSERT INTO cost_totals (whose, period, spent, tokens, turns) VALUES {", ".join(["(?, ?, ?, ?, ?)"] * 4)}
    ON CONFLICT (whose, period) DO UPDATE SET
        spent = CASE WHEN excluded.spent > {SATURATED} - cost_totals.spent THEN {SATURATED}
            ELSE cost_totals.spent + excluded.spent END,
        tokens = CASE WHEN excluded.tokens > {SATURATED} - cost_totals.tokens THEN {SATURATED}
            ELSE cost_totals.tokens + excluded.tokens END,
        turns = cost_totals.turns + excluded.turns
"""


def _charge(
    sender: str, periods: tuple[str, str], picodollars: int, tokens: int, turns: int, connection: Connection
) -> None:
    if not (picodollars or tokens or turns):
        return
    amounts = (picodollars, tokens, turns)
    day, month = periods
    key = key_of(sender)
    connection.execute(
        _CHARGE, (EVERYBODY, day, *amounts, EVERYBODY, month, *amounts, key, day, *amounts, key, month, *amounts)
    )


def forget(before: str, connection: Connection) -> int:
    """Delete the closed charges that were reserved before *before*; return how many."""
    old = "state != 'open' AND at < ?"
    connection.execute(
        f"DELETE FROM cost_turns WHERE charge IN (SELECT id FROM cost_charges WHERE {old})",
        (before,),
    )
    return connection.execute(f"DELETE FROM cost_charges WHERE {old}", (before,)).rowcount
