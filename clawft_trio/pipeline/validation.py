"""Checks of a routing configuration as a whole, which report all unknown names at once.

Each policy checks its own values. The checks here concern several policies.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from clawft_trio.errors import InvalidData, Problem
from clawft_trio.pipeline.permissions import LADDER, PermissionOverrides, PermissionsPolicy
from clawft_trio.pipeline.routing_policy import RoutingPolicy
from clawft_trio.target import Target


def routing_problems(
    policy: RoutingPolicy, permissions: PermissionsPolicy | None = None, *, providers: Collection[str]
) -> list[Problem]:
    """Return all problems of *policy* and *permissions* together.

    Args:
      policy: its places are reported as `$.tiers[0].models[1]`.
      permissions: its places are reported as `$.permissions.users['telegram:ana'].max_tier`.
      providers: names of the providers that are configured.
    """
    found = [*_tier_problems(policy)]
    for place, model in _models(policy):
        found += _model_problems(place, model, providers)
    if policy.mode == "tiered" and permissions is not None:
        found += _max_tier_problems(policy, permissions)
    return found


def _tier_problems(policy: RoutingPolicy) -> Iterator[Problem]:
    if policy.mode == "tiered" and not policy.tiers:
        yield Problem("$.tiers", "tiered routing needs at least one tier")
    seen: set[str] = set()
    for number, tier in enumerate(policy.tiers):
        if tier.name in seen:
            yield Problem(f"$.tiers[{number}].name", f"there is a tier {tier.name!r} already")
        seen.add(tier.name)
        if not tier.models:
            yield Problem(f"$.tiers[{number}].models", f"tier {tier.name!r} has no models")


def _models(policy: RoutingPolicy) -> Iterator[tuple[str, str]]:
    """Yield every configured model with its place."""
    for number, tier in enumerate(policy.tiers):
        for place, model in enumerate(tier.models):
            yield f"$.tiers[{number}].models[{place}]", model
    for place, model in enumerate(policy.failover):
        yield f"$.failover[{place}]", model
    if policy.fallback_model is not None:
        yield "$.fallback_model", policy.fallback_model


def _model_problems(place: str, model: str, providers: Collection[str]) -> Iterator[Problem]:
    try:
        target = Target.parse(model)
    except InvalidData as exc:
        yield Problem(place, exc.problems[0].message)
        return
    if target.provider not in providers:
        known = ", ".join(sorted(providers)) or "none"
        yield Problem(place, f"no provider {target.provider!r} is configured (there are: {known})")


def _max_tier_problems(policy: RoutingPolicy, permissions: PermissionsPolicy) -> Iterator[Problem]:
    names = [tier.name for tier in policy.tiers]
    for place, layer in _layers(permissions):
        # The names of `LADDER` are valid even if not all of these tiers are configured.
        if layer.max_tier is not None and layer.max_tier not in {*names, *LADDER}:
            yield Problem(f"{place}.max_tier", f"no tier {layer.max_tier!r} (there are: {', '.join(names) or 'none'})")


def _layers(permissions: PermissionsPolicy) -> Iterator[tuple[str, PermissionOverrides]]:
    """Yield every layer of permissions with its place."""
    for level in ("zero_trust", "user", "admin"):
        yield f"$.permissions.{level}", getattr(permissions, level)
    for kind in ("users", "channels"):
        for name, layer in getattr(permissions, kind).items():
            yield f"$.permissions.{kind}[{name!r}]", layer
