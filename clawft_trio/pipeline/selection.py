"""Parts of both routers: known targets, their cost for a sender, and the order within a tier."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Sequence
from decimal import Decimal
from typing import TypeAlias

import attrs

from clawft_trio.auth import ZERO_TRUST, UserPermissions
from clawft_trio.chat import ChatRequest
from clawft_trio.costs import Allowance
from clawft_trio.errors import BudgetExceeded, NotConfigured, PermissionDenied
from clawft_trio.pipeline.latency import LatencyBoard
from clawft_trio.pipeline.routing_policy import SelectionStrategy
from clawft_trio.pipeline.stages import (
    EstimateCost,
    RoutingDecision,
    TaskProfile,
    estimate_by_tier,
)
from clawft_trio.pipeline.tokens import request_tokens
from clawft_trio.target import Target, split_name

Shuffle: TypeAlias = Callable[[list[Target]], None]
"""Shuffles a list in place."""


@attrs.frozen(kw_only=True)
class Selection:
    """The objects that a router uses beside its policy; each has a default.

    Args:
      estimate: returns an upper estimate of a call's cost.
      shuffle: shuffles targets, for the strategy `random`.
      latencies: the recent latencies of targets.
    """

    estimate: EstimateCost = estimate_by_tier
    shuffle: Shuffle = random.shuffle
    latencies: LatencyBoard = attrs.field(factory=LatencyBoard)


class Known:
    """The targets and providers that the configuration knows."""

    def __init__(self, targets: Iterable[Target], providers: Collection[str] | None) -> None:
        self.targets: dict[str, Target] = {}
        for target in targets:
            # A target in several tiers belongs to the lowest, because the permission for that tier suffices.
            self.targets.setdefault(target.name, target)
        self.providers: frozenset[str] = frozenset(
            providers if providers is not None else (t.provider for t in self.targets.values())
        )
        for target in self.targets.values():
            self._check(target)

    def _check(self, target: Target) -> Target:
        if target.provider not in self.providers:
            known = ", ".join(sorted(self.providers)) or "none"
            raise NotConfigured(
                f"no provider of this name is configured (there are: {known})",
                provider=target.provider,
                model=target.model,
            )
        return target

    def named(self, model: str) -> Target:
        """Return the target for *model*: `provider/model`, or a model that only one provider has.

        Raises:
          NotConfigured: the provider is unknown or ambiguous.
        """
        if model in self.targets:
            return self.targets[model]
        provider, rest = split_name(model)
        if rest and provider in self.providers:
            return Target(provider, rest)
        # `anthropic/claude-3` may be a gateway's name for its model, so this comes after the providers' own names.
        same = [target for target in self.targets.values() if target.model == model]
        if len(same) == 1:
            return same[0]
        if not provider or not rest:
            raise NotConfigured(f'which provider? write it as "provider/{model}"', model=model)
        return self._check(Target(provider, rest))


def permissions_of(request: ChatRequest) -> UserPermissions:
    return ZERO_TRUST if request.auth is None else request.auth.permissions


def unique(targets: Iterable[Target]) -> list[Target]:
    return list({target.name: target for target in reversed(list(targets))}.values())[::-1]


class Costs:
    """Estimated cost of one round of *request* at each target, and whether the sender's budget covers it."""

    def __init__(self, request: ChatRequest, allowance: Allowance, estimate: EstimateCost) -> None:
        permissions = permissions_of(request)
        self._input = min(request_tokens(request), permissions.max_context_tokens)
        self._output = permissions.output_limit(request.max_tokens)
        self._estimate = estimate
        self._allowance = allowance
        self._estimated: dict[str, Decimal | None] = {}

    def of(self, target: Target) -> Decimal | None:
        """Return an upper estimate for one round at *target*, computed once."""
        if target.name not in self._estimated:
            self._estimated[target.name] = self._estimate(target, self._input, self._output)
        return self._estimated[target.name]

    def affords(self, target: Target) -> bool:
        """Whether the budget covers one round at *target*."""
        return self._allowance.covers(self.of(target))

    def refusal(self, targets: Sequence[Target]) -> BudgetExceeded:
        """Make the error for a budget that covers none of *targets*."""
        least = min((cost for t in targets if (cost := self.of(t)) is not None), default=None)
        allowance = self._allowance
        asked = "" if least is None else f" and the cheapest answer may cost {least:.6f}"
        return BudgetExceeded(
            f"{allowance.left} of {allowance.limit} US dollars are left ({allowance.spent} spent, "
            f"{allowance.reserved} reserved){asked}",
            spent=allowance.spent,
            limit=allowance.limit,
            reserved=allowance.reserved,
            estimate=least,
            retry_after=allowance.wait_for(least),
        )


class Ordering:
    """Orders the targets of one tier by the selection strategy."""

    def __init__(self, strategy: SelectionStrategy, selection: Selection) -> None:
        self._strategy = strategy
        self._selection = selection
        self._turns: dict[str, int] = {}

    def ordered(
        self, targets: Sequence[Target], costs: Costs, *, rank: str = "", advance: bool = False
    ) -> list[Target]:
        """Order *targets* by the strategy. Sorting is stable: equal targets stay in order of preference.

        Args:
          rank: the key of the counter of a round robin.
          advance: this is the first choice of a turn, so the next turn starts with the next target.
        """
        listed = list(targets)
        if self._strategy == "round_robin":
            return self._rotated(listed, rank, advance=advance)
        if self._strategy == "random":
            self._selection.shuffle(listed)
        if self._strategy == "lowest_cost":
            # A target without a price may cost anything, so it comes last.
            listed.sort(key=lambda target: (costs.of(target) is None, costs.of(target) or 0))
        if self._strategy == "least_latency":
            listed.sort(key=lambda target: self._selection.latencies.expected(target.name))
        return listed

    def _rotated(self, targets: list[Target], rank: str, *, advance: bool) -> list[Target]:
        first = self._turns.get(rank, 0) % len(targets)
        if advance:
            self._turns[rank] = first + 1
        return targets[first:] + targets[:first]


def overriding(request: ChatRequest, known: Known, permissions: UserPermissions) -> Target | None:
    """Return the model that the request names, or None.

    Raises:
      PermissionDenied: the sender may not choose a model, or not this one.
      NotConfigured: the provider is unknown.
    """
    if not request.model:
        return None
    if not permissions.model_override:
        raise PermissionDenied(f"this sender may not choose the model ({request.model})")
    target = known.named(request.model)
    if not permissions.may_use_model(target.name):
        raise PermissionDenied(f"this sender may not use {target.name}")
    return target


def decide(
    request: ChatRequest, profile: TaskProfile, targets: Sequence[Target], costs: Costs, reason: str
) -> RoutingDecision:
    first = targets[0]
    return RoutingDecision(
        targets=tuple(targets),
        sender_id=request.sender_id,
        permissions=permissions_of(request),
        profile=profile,
        reason=reason,
        tier=first.tier,
        cost_estimate=costs.of(first),
    )
