"""The tiered router: chooses by permissions, complexity and budget."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import attrs
import trio

from clawft_trio.auth import UserPermissions, matches_any
from clawft_trio.chat import ChatRequest
from clawft_trio.costs import Allowance
from clawft_trio.errors import InvalidData, PermissionDenied, Problem
from clawft_trio.pipeline.permissions import LADDER
from clawft_trio.pipeline.routing_policy import ModelTier, RoutingPolicy
from clawft_trio.pipeline.selection import Costs, Known, Ordering, Selection, decide, overriding, permissions_of, unique
from clawft_trio.pipeline.stages import ResponseOutcome, RoutingDecision, TaskProfile
from clawft_trio.target import Target


class TieredRouter:
    """Chooses by the sender's permissions, the task's complexity and the remaining budget.

    The first choice is the highest tier that the sender may use and that is meant for the complexity. If there is
    none: a higher tier by escalation, else the highest that the sender may use. The next targets are the sender's other
    tiers, first those below from high to low, then those above, then `failover` and `fallback_model`. A model in no
    tier is only for senders that may use the highest tier, or have it in `model_access`. If the request names a model
    and the sender may choose, only that model is tried.

    Args:
      policy: tiers and rules.
      providers: names of the providers that are configured; by default those of the models named.
      selection: cost estimates, shuffling and latencies.

    Raises:
      NotConfigured: a model's provider is not configured.
      InvalidData: there is no tier, two tiers have one name, or a model's name is not `provider/model`.
    """

    def __init__(
        self,
        policy: RoutingPolicy,
        *,
        providers: Collection[str] | None = None,
        selection: Selection | None = None,
    ) -> None:
        names = [tier.name for tier in policy.tiers]
        if not names or len(set(names)) < len(names):
            raise InvalidData([Problem("$.tiers", f"expected at least one tier, each name once, got {names}")])
        self._policy = policy
        self._names = names
        self._models = {tier.name: tier.targets() for tier in policy.tiers}
        tiered = [target for targets in self._models.values() for target in targets]
        last = [*policy.failover, *([policy.fallback_model] if policy.fallback_model else [])]
        in_tiers = {target.name for target in tiered}
        self._last = [target for target in unique(map(Target.parse, last)) if target.name not in in_tiers]
        self._known = Known([*tiered, *self._last], providers)
        self._selection = selection or Selection()
        self._ordering = Ordering(policy.selection_strategy, self._selection)

    async def route(self, request: ChatRequest, profile: TaskProfile, allowance: Allowance) -> RoutingDecision:
        """Choose the targets for a turn.

        Raises:
          PermissionDenied: the sender's `max_tier` is unknown, or no model of its tiers is permitted.
          BudgetExceeded: the budget covers no permitted target.
          NotConfigured: the request names an unknown provider.

        Cancellation: nothing is kept.
        """
        await trio.lowlevel.checkpoint()
        costs = Costs(request, allowance, self._selection.estimate)
        permissions = permissions_of(request)
        allowed = self._allowed(permissions)
        chosen = overriding(request, self._known, permissions)
        if chosen is not None:
            return self._overridden(request, profile, chosen, allowed, costs)
        first, escalated = self._choose(allowed, profile.complexity, permissions)
        groups = self._permitted([first, *self._others(first, allowed)], allowed, permissions)
        if not groups:
            raise PermissionDenied(f"this sender may use no model of its tiers ({_names(allowed)})")
        payable, constrained = self._payable(groups, costs, profile.complexity)
        decision = decide(request, profile, self._in_order(payable, costs), costs, "")
        return attrs.evolve(
            decision,
            reason=_reason(profile, decision.tier, permissions, wanted=first, constrained=constrained),
            escalated=escalated and decision.tier == first.name,
            budget_constrained=constrained,
        )

    def update(self, decision: RoutingDecision, outcome: ResponseOutcome) -> None:
        """Record the latencies of the targets."""
        self._selection.latencies.note(outcome)

    def _rank(self, tier: ModelTier) -> int:
        return self._names.index(tier.name)

    def _allowed(self, permissions: UserPermissions) -> list[ModelTier]:
        """Return the tiers up to the sender's highest, lowest first."""
        highest = permissions.max_tier
        if highest in self._names:
            return list(self._policy.tiers[: self._names.index(highest) + 1])
        # The built-in levels use the names of `LADDER`, even if not all of these tiers are configured.
        rungs = LADDER[: LADDER.index(highest) + 1] if highest in LADDER else ()
        allowed = [tier for tier in self._policy.tiers if tier.name in rungs]
        if not allowed and rungs:
            # None of the configured tiers has a name of `LADDER`: every sender may use the cheapest tier.
            return [self._cheapest()]
        if not allowed:
            raise PermissionDenied(f"max_tier {highest!r} grants no tier; there are {_names(self._policy.tiers)}")
        return allowed

    def _cheapest(self) -> ModelTier:
        """Return the tier with the lowest price; the lowest tier if a price is not known."""
        prices = [tier.cost_per_1k_tokens for tier in self._policy.tiers]
        known = [price for price in prices if price is not None]
        return self._policy.tiers[prices.index(min(known)) if len(known) == len(prices) else 0]

    def _choose(
        self, allowed: list[ModelTier], complexity: float, permissions: UserPermissions
    ) -> tuple[ModelTier, bool]:
        """Return the tier to use, and whether it is above the sender's own."""
        suiting = [tier for tier in allowed if tier.suits(complexity)]
        if suiting:
            return suiting[-1], False
        higher = self._escalation(allowed[-1], complexity, permissions)
        return (higher, True) if higher else (allowed[-1], False)

    def _escalation(self, highest: ModelTier, complexity: float, permissions: UserPermissions) -> ModelTier | None:
        rules = self._policy.escalation
        threshold = max(rules.threshold, permissions.escalation_threshold)
        if not (rules.enabled and permissions.escalation_allowed and complexity >= threshold):
            return None
        start = self._rank(highest) + 1
        within = self._policy.tiers[start : start + rules.max_escalation_tiers]
        return next((tier for tier in reversed(within) if tier.suits(complexity)), None)

    def _others(self, first: ModelTier, allowed: list[ModelTier]) -> list[ModelTier]:
        """Return the other allowed tiers: those below *first* from high to low, then those above it."""
        below = [tier for tier in reversed(allowed) if self._rank(tier) < self._rank(first)]
        return [*below, *(tier for tier in allowed if self._rank(tier) > self._rank(first))]

    def _permitted(
        self, tiers: list[ModelTier], allowed: list[ModelTier], permissions: UserPermissions
    ) -> list[_Group]:
        """Return the permitted targets of *tiers*, and of those in no tier, without empty groups."""
        groups = [_Group(tier, self._models[tier.name]) for tier in tiers]
        if groups and self._last:
            groups.append(_Group(None, tuple(t for t in self._last if self._beyond_tiers(t, allowed, permissions))))
        kept = [
            _Group(group.tier, tuple(t for t in group.targets if permissions.may_use_model(t.name))) for group in groups
        ]
        return [group for group in kept if group.targets]

    def _beyond_tiers(self, target: Target, allowed: list[ModelTier], permissions: UserPermissions) -> bool:
        """Whether the sender may use *target*, a model in no tier."""
        named = permissions.model_access is not None and matches_any(target.name, permissions.model_access)
        return named or self._policy.tiers[-1] in allowed

    def _payable(self, groups: list[_Group], costs: Costs, complexity: float) -> tuple[list[_Group], bool]:
        """Return the groups that the budget covers, and whether the first of *groups* is not among them.

        Raises:
          BudgetExceeded: the budget covers no permitted replacement either.
        """
        wanted = groups[0]
        payable = [paid for group in groups if (paid := group.payable(costs)).targets]
        if payable and payable[0].tier is wanted.tier:
            return payable, False
        cheaper = self._downgraded(wanted, payable, complexity)
        if not cheaper:
            dear = [target for group in groups for target in group.targets if not costs.affords(target)]
            raise costs.refusal(dear)
        return cheaper, True

    def _downgraded(self, wanted: _Group, payable: list[_Group], complexity: float) -> list[_Group]:
        """Return the groups that replace *wanted*, which is over budget: cheaper ones, by `budget_downgrade`."""
        rule = self._policy.budget_downgrade
        if wanted.tier is None or rule == "never":
            return []
        cheaper = [group for group in payable if group.tier and self._rank(group.tier) < self._rank(wanted.tier)]
        suiting = [group for group in cheaper if group.tier and group.tier.suits(complexity)]
        # Models in no tier, failover and fallback, come last.
        last = [group for group in payable if group.tier is None]
        if rule == "matching":
            return [*suiting, *last]
        return [*suiting, *(group for group in cheaper if group not in suiting), *last]

    def _in_order(self, groups: list[_Group], costs: Costs) -> list[Target]:
        first, *others = groups
        ordered = self._ordering.ordered(first.targets, costs, rank=first.name, advance=True)
        for group in others:
            ordered += self._ordering.ordered(group.targets, costs, rank=group.name)
        return unique(ordered)

    def _overridden(
        self, request: ChatRequest, profile: TaskProfile, chosen: Target, allowed: list[ModelTier], costs: Costs
    ) -> RoutingDecision:
        names = [tier.name for tier in allowed]
        permitted = (
            chosen.tier in names if chosen.tier else self._beyond_tiers(chosen, allowed, permissions_of(request))
        )
        if not permitted:
            raise PermissionDenied(f"{chosen.name} is above this sender's tiers ({_names(allowed)})")
        if not costs.affords(chosen):
            raise costs.refusal([chosen])
        return decide(request, profile, [chosen], costs, "chosen by the request")


@attrs.frozen
class _Group:
    """Targets of equal rank: the models of a tier or, with tier None, the models in no tier."""

    tier: ModelTier | None
    targets: tuple[Target, ...]

    @property
    def name(self) -> str:
        return "" if self.tier is None else self.tier.name

    def payable(self, costs: Costs) -> _Group:
        return attrs.evolve(self, targets=tuple(target for target in self.targets if costs.affords(target)))


def _names(tiers: Iterable[ModelTier]) -> str:
    return ", ".join(tier.name for tier in tiers)


def _reason(
    profile: TaskProfile, tier: str, permissions: UserPermissions, *, wanted: ModelTier, constrained: bool
) -> str:
    reasons = [f"complexity {profile.complexity:.2f}, tier {tier or 'none'}, level {permissions.level}"]
    if tier != wanted.name:
        reasons.append(f"{wanted.name} {'cannot be paid' if constrained else 'has nothing for this sender'}")
    return "; ".join(reasons)
