"""Queries of the ledger: entries, and the cost of groups of entries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, get_args

import attrs

from clawft_trio.costs.budgets import OF_TURN, summed, whole
from clawft_trio.costs.money import from_pico
from clawft_trio.costs.records import GroupBy, LedgerEntry, Spending
from clawft_trio.store import Connection

GROUPS = frozenset(get_args(GroupBy))
TOKENS = (
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "cache_write_1h_tokens",
)

_COLUMNS = tuple(field.name for field in attrs.fields(LedgerEntry))


def as_text(moment: datetime) -> str:
    """Return *moment* as the ledger stores it: text in UTC whose alphabetical order is the order of time."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


@attrs.frozen(kw_only=True)
class Filter:
    """A selection of entries; None selects any."""

    sender: str | None = None
    #: this turn and all turns below it
    turn: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def where(self, *more: str) -> tuple[str, tuple[str, ...]]:
        """Return the SQL condition and its values; *more* are conditions without values."""
        conditions: list[tuple[str, tuple[str, ...]]] = [(condition, ()) for condition in more]
        if self.sender is not None:
            conditions.append(("sender = ?", (self.sender,)))
        if self.turn is not None:
            conditions.append((f"({OF_TURN})", (self.turn, self.turn)))
        if self.since is not None:
            conditions.append(("at >= ?", (as_text(self.since),)))
        if self.until is not None:
            conditions.append(("at < ?", (as_text(self.until),)))
        text = " AND ".join(condition for condition, _ in conditions)
        return (f"WHERE {text}" if text else ""), tuple(value for _, values in conditions for value in values)


def entries_of(which: Filter, limit: int, connection: Connection) -> tuple[LedgerEntry, ...]:
    """Return at most *limit* entries, latest first."""
    where, values = which.where()
    query = f"SELECT {', '.join(_COLUMNS)} FROM cost_charges {where} ORDER BY id DESC LIMIT ?"
    return tuple(_entry(row) for row in connection.execute(query, (*values, limit)))


def _entry(row: Sequence[Any]) -> LedgerEntry:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["at"] = datetime.fromisoformat(values["at"])
    for money in ("reserved", "cost"):
        values[money] = None if values[money] is None else from_pico(values[money])
    return LedgerEntry(**values)


def spending_of(which: Filter, by: Sequence[GroupBy], connection: Connection) -> tuple[Spending, ...]:
    """Return the cost of groups of entries, most expensive first."""
    where, values = which.where("state != 'open'")
    found = [_spending(by, row) for row in connection.execute(_query(by, where), values)]
    return tuple(sorted(found, key=lambda spent: spent.cost, reverse=True))


def _query(by: Sequence[str], where: str) -> str:
    sums = ", ".join(f"coalesce(sum({column}), 0)" for column in TOKENS)
    groups = "".join(f"{column}, " for column in by)
    order = f"GROUP BY {', '.join(by)} ORDER BY {', '.join(by)}" if by else ""
    return (
        f"SELECT {groups}count(*), {sums}, {summed('cost')}, "
        "count(CASE WHEN certainty = 'estimated' THEN 1 END), count(CASE WHEN certainty = 'at_least' THEN 1 END), "
        f"count(CASE WHEN cost IS NULL THEN 1 END) FROM cost_charges {where} {order}"
    )


def _spending(by: Sequence[str], row: Sequence[Any]) -> Spending:
    group, (attempts, *rest) = row[: len(by)], row[len(by) :]
    tokens, (more, less, estimated, at_least, unpriced) = rest[: len(TOKENS)], rest[len(TOKENS) :]
    return Spending(
        group=dict(zip(by, group, strict=True)),
        attempts=attempts,
        **dict(zip(TOKENS, map(int, tokens), strict=True)),
        cost=from_pico(whole((more, less))),
        estimated=estimated,
        at_least=at_least,
        unpriced=unpriced,
    )
