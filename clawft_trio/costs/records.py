"""What the ledger is asked and what it answers: plain records."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Literal

import attrs

from clawft_trio.attempts import Certainty, Usage
from clawft_trio.costs.money import limit
from clawft_trio.costs.periods import PeriodName

ChargeState = Literal["open", "settled", "refunded", "lost"]
"""`lost`: its process has not come back within the lease."""

BudgetOwner = Literal["sender", "everybody"]


@attrs.frozen(kw_only=True)
class Claim:
    """Who spends, on what, and on whose behalf."""

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


@attrs.frozen(kw_only=True)
class Limits:
    """How much may be spent, in US dollars; 0 and None are unlimited."""

    daily: Decimal | None = attrs.field(default=None, converter=limit)
    monthly: Decimal | None = attrs.field(default=None, converter=limit)


UNLIMITED = Limits()


@attrs.frozen(kw_only=True)
class Reservation:
    """Money that is set aside for one attempt, until it is settled or its lease ends."""

    id: int
    claim: Claim
    #: US dollars; None when the target has no price
    amount: Decimal | None


@attrs.frozen(kw_only=True)
class Bill:
    """What became of an attempt."""

    usage: Usage = Usage()
    #: US dollars; None when it has no price
    cost: Decimal | None = None
    certainty: Certainty = "exact"
    #: as of the attempt: `ok`, `failed`, `cancelled`, `aborted`
    outcome: str = "ok"


@attrs.frozen(kw_only=True)
class Budget:
    """One limit in its current period, and how much of it is used."""

    owner: BudgetOwner
    period: PeriodName
    limit: Decimal
    spent: Decimal
    #: for attempts under way, whenever they began
    reserved: Decimal
    ends: datetime

    @property
    def left(self) -> Decimal:
        """What may still be reserved; negative when an attempt cost more than its estimate."""
        return self.limit - self.spent - self.reserved

    def refuses(self, amount: Decimal | None) -> bool:
        """Whether *amount* is too much; of what has no price, anything is too much once nothing is left."""
        return self.left <= 0 if amount is None else amount > self.left


def tightest(budgets: Iterable[Budget]) -> Budget | None:
    """The one with the least left; of equals, the one that ends last."""
    return min(budgets, key=lambda budget: (budget.left, -budget.ends.timestamp()), default=None)


@attrs.frozen(kw_only=True)
class LedgerEntry:
    """One attempt in the ledger."""

    id: int
    state: ChargeState
    #: when it was reserved, in UTC
    at: datetime
    #: the budget day and month that it is charged to
    day: str
    month: str
    sender: str
    agent: str
    turn: str
    parent_turn: str
    call: str
    target: str
    outcome: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    #: US dollars that were set aside; None when the target had no price
    reserved: Decimal | None
    #: US dollars; None when it has no price, and while it is open
    cost: Decimal | None
    certainty: Certainty | None


GroupBy = Literal["sender", "agent", "target", "day", "month", "turn", "parent_turn"]


@attrs.frozen(kw_only=True)
class Spending:
    """What a group of attempts cost together."""

    #: the values that they have in common, by what they were grouped by
    group: dict[str, str]
    attempts: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    #: US dollars, of all that have a price
    cost: Decimal
    #: how many of them are known only as far as here
    estimated: int
    at_least: int
    #: how many have no price and are not in `cost`
    unpriced: int

    @property
    def certainty(self) -> Certainty:
        """How far `cost` can be trusted: as far as its weakest part."""
        if self.at_least or self.unpriced:
            return "at_least"
        return "estimated" if self.estimated else "exact"
