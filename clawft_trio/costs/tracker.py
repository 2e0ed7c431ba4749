"""Cost tracking: reserve the estimated cost of an attempt, charge its actual cost, report what is left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from decimal import Decimal
from math import ceil

import attrs
import trio

from clawft_trio.attempts import Usage
from clawft_trio.auth import ZERO_TRUST, AuthContext, UserPermissions
from clawft_trio.costs.ledger import Ledger, refunded
from clawft_trio.costs.money import as_kept
from clawft_trio.costs.owed import OwedFile
from clawft_trio.costs.prices import Priced, Prices
from clawft_trio.costs.records import (
    UNLIMITED,
    Bill,
    ChargeState,
    Claim,
    Closing,
    Limits,
    Reservation,
    TurnBudget,
    tightest,
)
from clawft_trio.costs.settling import Settling
from clawft_trio.store.ownership import Ownership

_UNPRICED = Prices()


@attrs.frozen(kw_only=True)
class Allowance:
    """The US dollars that a sender may still spend."""

    #: US dollars; None is unlimited
    left: Decimal | None = None
    spent: Decimal | None = None
    #: reserved for running attempts
    reserved: Decimal | None = None
    limit: Decimal | None = None
    #: seconds until the period of the tightest budget ends
    retry_after: float | None = None
    #: seconds after which every current reservation is settled or lost
    lease: float | None = None

    def covers(self, estimate: Decimal | None) -> bool:
        """Whether *estimate* fits. A call without a price needs a budget with something left."""
        if self.left is None:
            return True
        return self.left > 0 if estimate is None else estimate <= self.left

    def wait_for(self, estimate: Decimal | None) -> float | None:
        """Return the seconds until *estimate* fits, as far as they are known; None when it never does."""
        if self.limit is None or self.spent is None or self.retry_after is None:
            return self.retry_after
        if estimate is not None and estimate > self.limit:
            return None
        free = self.limit - self.spent
        only_reserved = free > 0 if estimate is None else estimate <= free
        return min(self.retry_after, self.lease) if only_reserved and self.lease is not None else self.retry_after


@attrs.frozen(kw_only=True)
class Charge:
    """The cost of an answer."""

    #: US dollars; None when it is unknown
    cost: Decimal | None = None
    #: the reason why it is unknown
    why: str = ""


@attrs.frozen(kw_only=True)
class Expected:
    """The estimated size of one attempt."""

    input_tokens: int
    #: the largest possible number
    output_tokens: int


@attrs.frozen(kw_only=True)
class Payer:
    """The sender that a turn is charged to, and the agent that runs it."""

    auth: AuthContext | None
    agent: str = ""
    parent_turn_id: str = ""
    #: all turns above this one, the nearest first
    ancestors: tuple[str, ...] = ()
    #: the budgets of this turn and of the turns above it
    budgets: tuple[TurnBudget, ...] = ()
    #: the tracker whose ledger and limits apply, if it is another one
    account: CostTracker | None = attrs.field(default=None, repr=False, eq=False)

    @property
    def sender_id(self) -> str:
        """Identity of the sender, namespaced by channel; empty outside an agent."""
        return "" if self.auth is None else self.auth.identity


class CostTracker:
    """Reserves the cost of an attempt before it and settles it after it; reports how much is left.

    Args:
      ledger: the ledger of the charges.
      prices: the prices of tokens.
      everybody: the limits of all senders together.
      anonymous: the permissions of requests without a sender.
      margin: factor by which the true input tokens may exceed their estimate: it assumes four characters per token,
        and code and JSON have about three.
      owed: keeps settlements that cannot be written after this process ends; None keeps them in memory.
    """

    def __init__(
        self,
        ledger: Ledger,
        prices: Prices = _UNPRICED,
        *,
        everybody: Limits = UNLIMITED,
        anonymous: UserPermissions = ZERO_TRUST,
        margin: float = 1.4,
        owed: OwedFile | None = None,
    ) -> None:
        self.ledger = ledger
        self.prices = prices
        self._everybody = everybody
        self._anonymous = anonymous
        self._margin = margin
        self._started: dict[str, Payer] = {}
        self._settling = Settling(ledger, owed)

    def __repr__(self) -> str:
        return (
            f"<CostTracker: {len(self._started)} turns on behalf of others, {len(self._settling)} charges not written>"
        )

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write pending settlements until cancelled: `nursery.start_soon(tracker.serve)`.

        Those of an earlier process come first. Without this task, pending settlements are written before the next
        reservation and the next allowance.

        Cancellation: pending settlements are written within a bounded time, or stay in their file.
        """
        task_status.started()
        await self._settling.serve()

    async def settle_owed(self) -> None:
        """Try once to write every pending settlement.

        Raises:
          StoreError: the ledger cannot be written now; the rest is still pending.

        Cancellation: each is written or still pending.
        """
        await self._settling.write_owed()

    def join_turns(self, ownership: Ownership) -> None:
        """From now on, settle the attempts of turns with fenced writes together with the next such write.

        *ownership* is ignored if it belongs to another store than the ledger's.
        """
        if ownership.store is self.ledger.store:
            self._settling.ownership = ownership

    async def take_over(self, turn_id: str) -> None:
        """Release the unsettled reservations of an earlier process for *turn_id* and the turns below it.

        Raises:
          StoreError: the ledger cannot be written.

        Cancellation: all are released or none.
        """
        await self.ledger.release([turn_id])

    def estimate(self, target: Priced, input_tokens: int, output_tokens: int, /) -> Decimal | None:
        """Return the highest cost of an answer in US dollars; None when *target* has no known price.

        Args:
          target: the target that would answer.
          input_tokens: estimated; the margin is added here.
          output_tokens: the largest possible number.
        """
        price = self.prices.of(target, input_tokens, self.ledger.now())
        return None if price is None else price.at_most(ceil(input_tokens * self._margin), output_tokens)

    async def allowance(self, sender_id: str, permissions: UserPermissions) -> Allowance:
        """Return what *sender_id* may still spend, after reservations: the tightest of its own and the global limits.

        Raises:
          StoreError: the ledger cannot be read.

        Cancellation: nothing is kept.
        """
        if self._settling:
            await self._settling.write_owed()
        budgets = await self.ledger.budgets(sender_id, own=limits_of(permissions), everybody=self._everybody)
        least = tightest(budget for budget in budgets if budget.unit == "usd")
        if least is None:
            return Allowance()
        assert least.ends is not None, "days and months end"
        wait = max(0.0, (least.ends - self.ledger.now().astimezone(UTC)).total_seconds())
        return Allowance(
            left=max(least.left, Decimal(0)),
            spent=least.spent,
            reserved=least.reserved,
            limit=least.limit,
            retry_after=wait,
            lease=self.ledger.lease,
        )

    async def reserve(
        self, payer: Payer, target: Priced, expected: Expected, *, turn_id: str = "", call_id: str = ""
    ) -> Reservation:
        """Reserve the highest cost of an attempt. Pending settlements are written first, where possible.

        Raises:
          BudgetExceeded: the cost does not fit into the limits of *payer* or of all senders.
          StoreError: the ledger cannot be written.

        Cancellation: nothing is reserved.
        """
        claim = Claim(
            sender_id=payer.sender_id,
            target=target.name,
            agent=payer.agent,
            turn_id=turn_id,
            parent_turn_id=payer.parent_turn_id,
            call_id=call_id,
            ancestors=payer.ancestors,
            budgets=payer.budgets,
        )
        sent = Usage(input_tokens=expected.input_tokens)
        account = payer.account or self
        settling = account._settling
        if settling:
            await settling.write_owed()
        return await account.ledger.reserve(
            claim,
            self.estimate(target, expected.input_tokens, expected.output_tokens),
            own=limits_of(self._anonymous if payer.auth is None else payer.auth.permissions),
            everybody=account._everybody,
            tokens=ceil(expected.input_tokens * self._margin) + expected.output_tokens,
            if_lost=Bill(usage=sent, cost=self.cost(target, sent)),
            write=settling.write_of(turn_id),
        )

    def cost(self, target: Priced, usage: Usage) -> Decimal | None:
        """Return the current cost of *usage* at *target* in US dollars; None when it is unknown."""
        return self.price(target, usage).cost

    def price(self, target: Priced, usage: Usage) -> Charge:
        """Return the current cost of *usage* at *target*, or the reason why it is unknown.

        A charge that the answer itself states overrides every price.
        """
        if usage.cost is not None:
            return Charge(cost=as_kept(usage.cost))
        found = self.prices.find(target, usage.input_tokens, self.ledger.now(), service_tier=usage.service_tier)
        if found.price is None:
            return Charge(why=found.why)
        missing = found.price.unknown(usage)
        if missing:
            return Charge(why=f"{target.name} has no price for {' and '.join(missing)}")
        cost = found.price.cost(usage)
        return Charge(cost=None if cost is None else as_kept(cost))

    async def update(self, reservation: Reservation, bill: Bill) -> None:
        """Charge the sender of *reservation* with *bill* instead of the estimate.

        Raises:
          StoreError: the ledger cannot be written now. The settlement is kept and written as soon as that is possible.

        Cancellation: it is settled or pending.
        """
        await self._settling.close(self._closing(reservation, "settled", bill), reservation.claim.turn_id)

    async def refund(self, reservation: Reservation, *, outcome: str = "failed") -> None:
        """Release the whole *reservation*: nothing can have been billed.

        Raises:
          StoreError: as for `update`.

        Cancellation: as for `update`.
        """
        await self._settling.close(self._closing(reservation, "refunded", refunded(outcome)), reservation.claim.turn_id)

    def _closing(self, reservation: Reservation, state: ChargeState, bill: Bill) -> Closing:
        return Closing(id=reservation.id, state=state, bill=bill, owner=self.ledger.owner)

    @contextmanager
    def on_behalf(
        self,
        turn_id: str,
        auth: AuthContext | None,
        *,
        agent: str,
        parent_turn_id: str,
        budget: TurnBudget | None = None,
        account: CostTracker | None = None,
    ) -> Iterator[Payer]:
        """Charge the turn *turn_id* of a sub-agent to the sender of the turn that started it, during the block.

        The permissions of the sub-agent do not matter: the limits are those of the sender, and the budgets of all
        turns above apply to it, too.

        Args:
          turn_id: the sub-agent's turn.
          auth: the sender of the parent's turn.
          agent: the name of the sub-agent.
          parent_turn_id: the turn that starts it. If that turn is charged to another sender, that sender pays.
          budget: limit for *turn_id* and all turns below it.
          account: the tracker of the parent, whose ledger and limits apply; None is this one.
        """
        account = account or self
        above = account._started.get(parent_turn_id)
        payer = Payer(
            auth=above.auth if above else auth,
            agent=agent,
            parent_turn_id=parent_turn_id,
            ancestors=(parent_turn_id, *(above.ancestors if above else ())),
            budgets=(*(above.budgets if above else ()), *(() if budget is None else (budget,))),
            account=above.account if above and above.account else account if account is not self else None,
        )
        with self._paying(turn_id, payer):
            yield payer

    @contextmanager
    def limiting(self, budget: TurnBudget, auth: AuthContext | None) -> Iterator[None]:
        """Apply *budget* to its turn, which a sender started itself, and to all turns below it, during the block."""
        with self._paying(budget.turn_id, Payer(auth=auth, budgets=(budget,))):
            yield

    @contextmanager
    def _paying(self, turn_id: str, payer: Payer) -> Iterator[None]:
        self._started[turn_id] = payer
        try:
            yield
        finally:
            self._started.pop(turn_id, None)

    def payer(self, turn_id: str, auth: AuthContext | None) -> Payer:
        """Return the payer of *turn_id*; without a sub-agent or a budget, the sender of *auth*."""
        return self._started.get(turn_id) or Payer(auth=auth)


def limits_of(permissions: UserPermissions) -> Limits:
    """Return the limits that *permissions* set."""
    return Limits(
        daily=permissions.cost_budget_daily_usd,
        monthly=permissions.cost_budget_monthly_usd,
        daily_tokens=permissions.token_budget_daily,
        monthly_tokens=permissions.token_budget_monthly,
        daily_turns=permissions.turn_budget_daily,
        monthly_turns=permissions.turn_budget_monthly,
    )
