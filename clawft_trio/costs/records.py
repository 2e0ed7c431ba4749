"""Records that are written to the ledger and read from it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

import attrs

from clawft_trio.attempts import Certainty, Usage
from clawft_trio.costs.money import dollars, limit

ChargeState = Literal["open", "settled", "refunded", "lost"]
"""`lost`: its process did not settle it within the lease, or was replaced by another process."""

BudgetOwner = Literal["sender", "everybody", "turn"]
Unit = Literal["usd", "tokens", "turns"]
Span = Literal["daily", "monthly", "turn"]


def _count(amount: int | None) -> int | None:
    """Convert a limit on a count: 0 and None are unlimited."""
    if amount is not None and amount < 0:
        raise ValueError(f"expected a limit of 0 or more, got {amount}")
    return amount or None


@attrs.frozen(kw_only=True)
class TurnBudget:
    """Limit on the spending of one turn together with all turns that it starts; 0 and None are unlimited."""

    turn_id: str
    usd: Decimal | None = attrs.field(default=None, converter=limit)
    tokens: int | None = attrs.field(default=None, converter=_count)


@attrs.frozen(kw_only=True)
class Claim:
    """The sender, target and turn of a charge."""

    #: the sender that pays, namespaced by channel; empty outside an agent
    sender_id: str
    #: `provider/model`
    target: str
    #: the sub-agent that makes the call; empty for the agent itself
    agent: str = ""
    turn_id: str = ""
    #: the turn that started this one, for a turn of a sub-agent
    parent_turn_id: str = ""
    call_id: str = ""
    #: all turns above this one, the nearest first
    ancestors: tuple[str, ...] = ()
    #: the budgets of this turn and of turns above it
    budgets: tuple[TurnBudget, ...] = ()

    @property
    def above(self) -> tuple[str, ...]:
        """All known turns above: `ancestors`, or the parent alone."""
        return self.ancestors or ((self.parent_turn_id,) if self.parent_turn_id else ())


@attrs.frozen(kw_only=True)
class Limits:
    """Limits on spending per day and per month; 0 and None are unlimited."""

    #: US dollars per day
    daily: Decimal | None = attrs.field(default=None, converter=limit)
    #: US dollars per month
    monthly: Decimal | None = attrs.field(default=None, converter=limit)
    #: input and output tokens together, per day
    daily_tokens: int | None = attrs.field(default=None, converter=_count)
    #: input and output tokens together, per month
    monthly_tokens: int | None = attrs.field(default=None, converter=_count)
    #: turns per day that a sender starts; turns of sub-agents do not count
    daily_turns: int | None = attrs.field(default=None, converter=_count)
    #: turns per month that a sender starts
    monthly_turns: int | None = attrs.field(default=None, converter=_count)


UNLIMITED = Limits()


@attrs.frozen(kw_only=True)
class Reservation:
    """The amount reserved for one attempt, until it is settled or its lease ends."""

    id: int
    claim: Claim
    #: US dollars; None when the target has no price
    amount: Decimal | None


def _is_possible(_: object, __: object, usage: Usage) -> None:
    if problem := usage.problem():
        raise ValueError(f"impossible usage: {problem}")


@attrs.frozen(kw_only=True)
class Bill:
    """Usage, cost and outcome of an attempt."""

    usage: Usage = attrs.field(default=Usage(), validator=_is_possible)
    #: US dollars; None when the usage has no price
    cost: Decimal | None = attrs.field(default=None, converter=attrs.converters.optional(dollars))
    certainty: Certainty = "exact"
    #: outcome of the attempt: `ok`, `failed`, `cancelled`, `aborted`
    outcome: str = "ok"
    #: the reason why there is no price, or why it is not exact; may be empty
    note: str = ""


@attrs.frozen(kw_only=True)
class Closing:
    """The new state and the bill of a reservation."""

    id: int
    state: ChargeState
    bill: Bill
    #: the process that made the reservation; a charge of another process is not changed. Empty: any process
    owner: str = ""


@attrs.frozen(kw_only=True)
class Budget:
    """One limit in its current period, and how much of it is used."""

    owner: BudgetOwner
    period: Span
    unit: Unit = "usd"
    #: US dollars, tokens or turns; see `unit`
    limit: Decimal
    spent: Decimal
    #: reserved for running attempts, in whatever period they began
    reserved: Decimal
    #: end of the period; None: it has no end
    ends: datetime | None

    @property
    def left(self) -> Decimal:
        """The amount that may still be reserved; negative when an attempt cost more than its estimate."""
        return self.limit - self.spent - self.reserved

    def refuses(self, amount: Decimal | None) -> bool:
        """Whether *amount* exceeds what is left; None, an amount without a price, is refused once nothing is left."""
        return self.left <= 0 if amount is None else amount > self.left


_NEVER = datetime.max.replace(tzinfo=UTC)


def tightest(budgets: Iterable[Budget]) -> Budget | None:
    """Return the budget with the least left; of equals, the one that ends last. All have the same unit."""
    return min(budgets, key=lambda budget: (budget.left, -(budget.ends or _NEVER).timestamp()), default=None)


@attrs.frozen(kw_only=True)
class LedgerEntry:
    """One attempt in the ledger."""

    #: the number of the row
    id: int
    #: `open`, `settled`, `refunded`, or `lost`
    state: ChargeState
    #: time of the reservation, in UTC
    at: datetime
    #: the budget day and month that it is charged to
    day: str
    #: the budget month
    month: str
    #: the sender that pays, `channel:sender`
    sender: str
    #: the sub-agent that made the call; empty for the agent itself
    agent: str
    #: the id of the turn
    turn: str
    #: the turn that started this one, for a turn of a sub-agent
    parent_turn: str
    #: the id of the call
    call: str
    #: `provider/model`
    target: str
    #: `ok`, `failed`, `cancelled`, `aborted`
    outcome: str
    #: cached tokens and tokens written to the cache included
    input_tokens: int
    #: reasoning included
    output_tokens: int
    #: the part of `input_tokens` read from the cache
    cached_tokens: int
    #: the part of `input_tokens` written to the cache
    cache_write_tokens: int
    #: the part of `output_tokens` spent on reasoning
    reasoning_tokens: int
    #: US dollars that were reserved; None when the target had no price
    reserved: Decimal | None
    #: US dollars; None when there is no price, and while the state is `open`
    cost: Decimal | None
    #: how exact the cost is; None while the state is `open`
    certainty: Certainty | None
    #: the part of `cache_write_tokens` that is kept for an hour
    cache_write_1h_tokens: int = 0
    #: searches that the provider ran itself
    web_searches: int = 0
    #: the service tier; empty for the ordinary one
    service_tier: str = ""
    #: the reason why there is no price, or why it is not exact
    note: str = ""
    #: the process that made the reservation
    owner: str = ""


GroupBy = Literal["sender", "agent", "target", "day", "month", "turn", "parent_turn"]


@attrs.frozen(kw_only=True)
class Spending:
    """Cost and tokens of a group of attempts."""

    #: the values that the attempts share, by the name of the column
    group: dict[str, str]
    #: number of attempts in the group
    attempts: int
    #: cached tokens and tokens written to the cache included
    input_tokens: int
    #: reasoning included
    output_tokens: int
    #: the part of `input_tokens` read from the cache
    cached_tokens: int
    #: the part of `input_tokens` written to the cache
    cache_write_tokens: int
    #: the part of `output_tokens` spent on reasoning
    reasoning_tokens: int
    #: the part of `cache_write_tokens` kept for an hour
    cache_write_1h_tokens: int = 0
    #: US dollars, of all attempts that have a price
    cost: Decimal
    #: number of attempts whose cost was estimated here
    estimated: int
    #: number of attempts that may have cost more
    at_least: int
    #: number of attempts that have no price and are not in `cost`
    unpriced: int

    @property
    def plain_tokens(self) -> int:
        """The part of `input_tokens` that was neither read from a prompt cache nor written to one."""
        return max(0, self.input_tokens - self.cached_tokens - self.cache_write_tokens)

    @property
    def certainty(self) -> Certainty:
        """How exact `cost` is: as its least exact part."""
        if self.at_least or self.unpriced:
            return "at_least"
        return "estimated" if self.estimated else "exact"
