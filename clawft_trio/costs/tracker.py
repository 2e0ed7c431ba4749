"""Budgets and prices together: what a sender may spend, what an attempt may cost, and what it did cost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC
from decimal import Decimal
from functools import partial
from math import ceil

import attrs

from clawft_trio.attempts import Usage
from clawft_trio.auth import ZERO_TRUST, AuthContext, UserPermissions
from clawft_trio.costs.ledger import Ledger
from clawft_trio.costs.money import as_kept
from clawft_trio.costs.prices import Priced, Prices
from clawft_trio.costs.records import UNLIMITED, Bill, Claim, Limits, Reservation, tightest

_UNPRICED = Prices()


@attrs.frozen(kw_only=True)
class Allowance:
    """What a sender may still spend."""

    #: US dollars; None is unlimited
    left: Decimal | None = None
    spent: Decimal | None = None
    limit: Decimal | None = None
    #: seconds until the period that is used up ends
    retry_after: float | None = None

    def covers(self, estimate: Decimal | None) -> bool:
        """Whether *estimate* can be paid. What has no price needs a budget that is not used up."""
        if self.left is None:
            return True
        return self.left > 0 if estimate is None else estimate <= self.left


@attrs.frozen(kw_only=True)
class Expected:
    """The size of one attempt before it is made."""

    input_tokens: int
    #: at most
    output_tokens: int


@attrs.frozen(kw_only=True)
class Payer:
    """Whom a turn is charged to, and which agent spends the money."""

    auth: AuthContext | None
    agent: str = ""
    parent_turn_id: str = ""

    @property
    def sender_id(self) -> str:
        """Namespaced by channel; empty outside an agent."""
        return "" if self.auth is None else self.auth.identity


class CostTracker:
    """Reserves before an attempt, settles after it, and knows what is left.

    Args:
      ledger: where it is written.
      prices: what tokens cost.
      everybody: the limits of all senders together.
      anonymous: the rights of whoever asks without saying for whom.
      margin: by how much an estimate of input tokens may be too low: it reckons with four characters a token, and
        code and JSON have about three.
    """

    def __init__(
        self,
        ledger: Ledger,
        prices: Prices = _UNPRICED,
        *,
        everybody: Limits = UNLIMITED,
        anonymous: UserPermissions = ZERO_TRUST,
        margin: float = 1.4,
    ) -> None:
        self.ledger = ledger
        self._prices = prices
        self._everybody = everybody
        self._anonymous = anonymous
        self._margin = margin
        self._started: dict[str, Payer] = {}
        #: what is known and not yet written, by reservation; empty but while the ledger cannot be written
        self._owed: dict[int, Callable[[], Awaitable[bool]]] = {}

    def __repr__(self) -> str:
        return f"<CostTracker: {len(self._started)} turns on behalf of others, {len(self._owed)} charges not written>"

    # --- before ------------------------------------------------------------------------------------------

    def estimate(self, target: Priced, input_tokens: int, output_tokens: int, /) -> Decimal | None:
        """The most that an answer may cost, US dollars; None when *target* has no known price.

        Args:
          target: who would answer.
          input_tokens: estimated; the margin is added here.
          output_tokens: at most.
        """
        price = self._prices.of(target, input_tokens, self.ledger.now())
        return None if price is None else price.at_most(ceil(input_tokens * self._margin), output_tokens)

    async def allowance(self, sender_id: str, permissions: UserPermissions) -> Allowance:
        """What *sender_id* may still spend, after reservations: the tightest of its own and the global limits.

        Raises:
          StoreError: the ledger cannot be read.

        Cancellation: nothing is kept.
        """
        budgets = await self.ledger.budgets(sender_id, own=limits_of(permissions), everybody=self._everybody)
        least = tightest(budgets)
        if least is None:
            return Allowance()
        wait = max(0.0, (least.ends - self.ledger.now().astimezone(UTC)).total_seconds())
        return Allowance(left=max(least.left, Decimal(0)), spent=least.spent, limit=least.limit, retry_after=wait)

    async def reserve(
        self, payer: Payer, target: Priced, expected: Expected, *, turn_id: str = "", call_id: str = ""
    ) -> Reservation:
        """Set aside what an attempt may cost. What could not be written before is written first.

        Raises:
          BudgetExceeded: it does not fit into the limits of *payer* or of everybody.
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
        )
        sent = Usage(input_tokens=expected.input_tokens)
        await self._catch_up()
        return await self.ledger.reserve(
            claim,
            self.estimate(target, expected.input_tokens, expected.output_tokens),
            own=limits_of(self._anonymous if payer.auth is None else payer.auth.permissions),
            everybody=self._everybody,
            if_lost=Bill(usage=sent, cost=self.cost(target, sent)),
        )

    # --- after -------------------------------------------------------------------------------------------

    def cost(self, target: Priced, usage: Usage) -> Decimal | None:
        """What *usage* costs at *target* now, US dollars; None when it has no known price."""
        price = self._prices.of(target, usage.input_tokens, self.ledger.now())
        cost = None if price is None else price.cost(usage)
        return None if cost is None else as_kept(cost)

    async def update(self, reservation: Reservation, bill: Bill) -> None:
        """Charge the sender of *reservation* with *bill*, in place of the estimate.

        Raises:
          StoreError: the ledger cannot be written now. It is tried again before the next reservation.

        Cancellation: it is settled, or it is tried again before the next reservation.
        """
        await self._write(reservation, partial(self.ledger.settle, reservation, bill))

    async def refund(self, reservation: Reservation, *, outcome: str = "failed") -> None:
        """Give back all of *reservation*: nothing can have been billed.

        Raises:
          StoreError: as for `update`.

        Cancellation: as for `update`.
        """
        await self._write(reservation, partial(self.ledger.refund, reservation, outcome=outcome))

    async def _write(self, reservation: Reservation, write: Callable[[], Awaitable[bool]]) -> None:
        try:
            await write()
        except BaseException:
            self._owed[reservation.id] = write
            raise

    async def _catch_up(self) -> None:  # noqa: ASYNC910 - the reservation that follows checkpoints
        for id_, write in list(self._owed.items()):
            # Written twice, when two tasks catch up at once, it counts once.
            await write()
            self._owed.pop(id_, None)

    # --- on behalf of others -----------------------------------------------------------------------------

    @contextmanager
    def on_behalf(self, turn_id: str, auth: AuthContext | None, *, agent: str, parent_turn_id: str) -> Iterator[Payer]:
        """Charge the turn *turn_id* of a sub-agent to whoever pays for the turn that started it.

        Whatever rights the sub-agent itself has: the limits are those of who pays.

        Args:
          turn_id: of the sub-agent's turn, until the block ends.
          auth: on whose behalf the parent works.
          agent: the name of the sub-agent.
          parent_turn_id: of the turn that starts it. When that one is on behalf of somebody, too, they pay.
        """
        above = self._started.get(parent_turn_id)
        payer = Payer(auth=above.auth if above else auth, agent=agent, parent_turn_id=parent_turn_id)
        self._started[turn_id] = payer
        try:
            yield payer
        finally:
            self._started.pop(turn_id, None)

    def payer(self, turn_id: str, auth: AuthContext | None) -> Payer:
        """Who pays for *turn_id*, asked with *auth*."""
        return self._started.get(turn_id) or Payer(auth=auth)


def limits_of(permissions: UserPermissions) -> Limits:
    """The limits that a sender has by its permissions."""
    return Limits(daily=permissions.cost_budget_daily_usd, monthly=permissions.cost_budget_monthly_usd)
