"""A routing configuration as a whole: every name that leads nowhere, with its place, all at once."""

from __future__ import annotations

import pytest

from clawft_trio.errors import InvalidData
from clawft_trio.pipeline import (
    ModelTier,
    PermissionOverrides,
    PermissionsPolicy,
    RoutingPolicy,
    SenderOverrides,
    TieredRouter,
    routing_problems,
)

FREE = ModelTier("free", models=["local/llama"])
GOOD = RoutingPolicy(mode="tiered", tiers=(FREE,), fallback_model="openai/mini", failover=["local/llama"])
PROVIDERS = {"local", "openai"}


def places(policy: RoutingPolicy, permissions: PermissionsPolicy | None = None) -> list[str]:
    return [problem.path for problem in routing_problems(policy, permissions, providers=PROVIDERS)]


def test_a_good_configuration_has_no_problems() -> None:
    permissions = PermissionsPolicy(user=PermissionOverrides(max_tier="premium"))
    assert places(GOOD, permissions) == []
    assert places(RoutingPolicy(failover=["openai/mini"])) == []


@pytest.mark.parametrize(
    ("policy", "place"),
    [
        ({"mode": "tiered"}, "$.tiers"),
        ({"tiers": (FREE, FREE)}, "$.tiers[1].name"),
        ({"tiers": (ModelTier("empty"),)}, "$.tiers[0].models"),
        ({"tiers": (FREE, ModelTier("x", models=["local/a", "gpt-4o"]))}, "$.tiers[1].models[1]"),
        ({"tiers": (FREE, ModelTier("x", models=["moonshot/kimi"]))}, "$.tiers[1].models[0]"),
        ({"fallback_model": "moonshot/kimi"}, "$.fallback_model"),
        ({"fallback_model": "kimi"}, "$.fallback_model"),
        ({"failover": ["local/a", "moonshot/kimi"]}, "$.failover[1]"),
    ],
)
def test_each_problem_has_its_place(policy, place) -> None:
    assert places(RoutingPolicy(**policy)) == [place]


@pytest.mark.parametrize(
    ("permissions", "place"),
    [
        ({"zero_trust": PermissionOverrides(max_tier="fre")}, "$.permissions.zero_trust.max_tier"),
        ({"admin": PermissionOverrides(max_tier="best")}, "$.permissions.admin.max_tier"),
        ({"channels": {"telegram": PermissionOverrides(max_tier="x")}}, "$.permissions.channels['telegram'].max_tier"),
        ({"users": {"telegram:ana": SenderOverrides(max_tier="x")}}, "$.permissions.users['telegram:ana'].max_tier"),
    ],
)
def test_a_tier_that_does_not_exist_is_found_wherever_it_is_named(permissions, place) -> None:
    assert places(GOOD, PermissionsPolicy(**permissions)) == [place]


def test_all_problems_are_told_at_once() -> None:
    policy = RoutingPolicy(
        mode="tiered",
        tiers=(FREE, FREE, ModelTier("x", models=["a", "b/c"])),
        fallback_model="d",
        failover=["e/f"],
    )
    assert places(policy, PermissionsPolicy(user=PermissionOverrides(max_tier="y"))) == [
        "$.tiers[1].name",
        "$.tiers[2].models[0]",
        "$.tiers[2].models[1]",
        "$.failover[0]",
        "$.fallback_model",
        "$.permissions.user.max_tier",
    ]


def test_what_has_no_problems_can_be_routed_by() -> None:
    TieredRouter(GOOD, providers=PROVIDERS)
    with pytest.raises(InvalidData):
        TieredRouter(RoutingPolicy(mode="tiered"), providers=PROVIDERS)
