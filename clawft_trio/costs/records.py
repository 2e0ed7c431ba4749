"""The records that go into the ledger and come out of it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

import attrs

from clawft_trio.attempts import Certainty, Usage
from clawft_trio.costs.money import dollars, limit

ChargeState = Literal["open", "settled", "refunded", "lost"]
"""`lost`: its process has not settled it within the lease, or was replaced by another one."""

BudgetOwner = Literal["sender", "everybody", "turn"]
Unit = Literal["usd", "tokens", "turns"]
Span = Literal["daily", "monthly", "turn"]


def _count(amount: int | None) -> int | None:
    """A limit of whole things: 0 is unlimited, and so is None."""
    if amount is not None and amount < 0:
        raise ValueError(f"expected a limit of 0 or more, got {amount}")
    return amount or None


@attrs.frozen(kw_only=True)
class TurnBudget:
    """How much one turn may spend together with all turns that it starts; 0 and None are unlimited."""

    turn_id: str
    usd: Decimal | None = attrs.field(default=None, converter=limit)
    tokens: int | None = attrs.field(default=None, converter=_count)


@attrs.frozen(kw_only=True)
class Claim:
    """The sender that spends, on what, and for which turn."""

    #: who pays, namespaced by channel; empty outside an agent
    sender_id: str
    #: `provider/model`
    target: str
    #: the agent that asks; empty for the one that the sender talks to
    agent: str = ""
    turn_id: str = ""
    #: the turn that started this one, when it is a sub-agent's
    parent_turn_id: str = ""
    call_id: str = ""
    #: all turns above this one, the nearest first
    ancestors: tuple[str, ...] = ()
    #: the budgets of this turn and of turns above it
    budgets: tuple[TurnBudget, ...] = ()

    @property
    def above(self) -> tuple[str, ...]:
        """All turns above, from what is known: `ancestors`, or the parent alone."""
        return self.ancestors or ((self.parent_turn_id,) if self.parent_turn_id else ())


@attrs.frozen(kw_only=True)
class Limits:
    """How much may be spent in a day or a month; 0 and None are unlimited."""

    #: US dollars
    daily: Decimal | None = attrs.field(default=None, converter=limit)
    #: US dollars
    monthly: Decimal | None = attrs.field(default=None, converter=limit)
    #: input and output together
    daily_tokens: int | None = attrs.field(default=None, converter=_count)
    #: input and output together
    monthly_tokens: int | None = attrs.field(default=None, converter=_count)
    #: turns that a sender starts; turns of sub-agents do not count
    daily_turns: int | None = attrs.field(default=None, converter=_count)
    #: turns that a sender starts
    monthly_turns: int | None = attrs.field(default=None, converter=_count)


UNLIMITED = Limits()


@attrs.frozen(kw_only=True)
class Reservation:
    """What is set aside for one attempt, until it is settled or its lease ends."""

    id: int
    claim: Claim
    #: US dollars; None when the target has no price
    amount: Decimal | None


def _is_possible(_: object, __: object, usage: Usage) -> None:
    if problem := usage.problem():
        raise ValueError(f"impossible usage: {problem}")


@attrs.frozen(kw_only=True)
class Bill:
    """What became of an attempt."""

    usage: Usage = attrs.field(default=Usage(), validator=_is_possible)
    #: US dollars; None when it has no price
    cost: Decimal | None = attrs.field(default=None, converter=attrs.converters.optional(dollars))
    certainty: Certainty = "exact"
    #: as of the attempt: `ok`, `failed`, `cancelled`, `aborted`
    outcome: str = "ok"
    #: why it has no price, or why it is not exact; empty when there is nothing to explain
    note: str = ""


@attrs.frozen(kw_only=True)
class Closing:
    """What a reservation becomes."""

    id: int
    state: ChargeState
    bill: Bill
    #: the process that reserved it: a charge of another one is left alone; empty: whichever it was
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
    #: for attempts under way, whenever they began
    reserved: Decimal
    #: None: it never begins anew
    ends: datetime | None

    @property
    def left(self) -> Decimal:
        """What may still be reserved; negative when an attempt cost more than its estimate."""
        return self.limit - self.spent - self.reserved

    def refuses(self, amount: Decimal | None) -> bool:
        """Whether *amount* is too much; of what has no price, anything is too much once nothing is left."""
        return self.left <= 0 if amount is None else amount > self.left


_NEVER = datetime.max.replace(tzinfo=UTC)


def tightest(budgets: Iterable[Budget]) -> Budget | None:
    """The one with the least left; of equals, the one that ends last. They have the same unit."""
    return min(budgets, key=lambda budget: (budget.left, -(budget.ends or _NEVER).timestamp()), default=None)


@attrs.frozen(kw_only=True)
class LedgerEntry:
    """One attempt in the ledger."""

    #: the number of the row
    id: int
    #: `open`, `settled`, `refunded`, or `lost`
    state: ChargeState
    #: when it was reserved, in UTC
    at: datetime
    #: the budget day and month that it is charged to
    day: str
    #: the budget month
    month: str
    #: who pays, `channel:sender`
    sender: str
    #: the sub-agent that asked; empty for the agent itself
    agent: str
    #: the id of the turn
    turn: str
    #: the turn that started it, when it is a sub-agent's
    parent_turn: str
    #: the id of the call
    call: str
    #: `provider/model`
    target: str
    #: `ok`, `failed`, `cancelled`, `aborted`
    outcome: str
    #: cached and written ones included
    input_tokens: int
    #: reasoning included
    output_tokens: int
    #: of the input, read from the cache
    cached_tokens: int
    #: of the input, written to the cache
    cache_write_tokens: int
    #: of the output
    reasoning_tokens: int
    #: US dollars that were set aside; None when the target had no price
    reserved: Decimal | None
    #: US dollars; None when it has no price, and while it is open
    cost: Decimal | None
    #: how exact the cost is; None while it is open
    certainty: Certainty | None
    #: the part of `cache_write_tokens` that is kept for an hour
    cache_write_1h_tokens: int = 0
    #: searches that the provider ran itself
    web_searches: int = 0
    #: empty for the ordinary one
    service_tier: str = ""
    #: why it has no price, or why it is not exact
    note: str = ""
    #: the process that reserved it
    owner: str = ""


GroupBy = Literal["sender", "agent", "target", "day", "month", "turn", "parent_turn"]


@attrs.frozen(kw_only=True)
class Spending:
    """What a group of attempts cost together."""

    #: the values that they have in common, by what they were grouped by
    group: dict[str, str]
    #: how many attempts the group has
    attempts: int
    #: cached and written ones included
    input_tokens: int
    #: reasoning included
    output_tokens: int
    #: of the input, read from the cache
    cached_tokens: int
    #: of the input, written to the cache
    cache_write_tokens: int
    #: of the output
    reasoning_tokens: int
    #: of those written, kept for an hour
    cache_write_1h_tokens: int = 0
    #: US dollars, of all that have a price
    cost: Decimal
    #: how many of them are known only as far as here
    estimated: int
    #: how many may have cost more
    at_least: int
    #: how many have no price and are not in `cost`
    unpriced: int

    @property
    def plain_tokens(self) -> int:
        """The part of `input_tokens` that was neither read from a prompt cache nor written to one."""
        return max(0, self.input_tokens - self.cached_tokens - self.cache_write_tokens)

    @property
    def certainty(self) -> Certainty:
        """How far `cost` can be trusted: as far as its weakest part."""
        if self.at_least or self.unpriced:
            return "at_least"
        return "estimated" if self.estimated else "exact"
