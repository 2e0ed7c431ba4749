"""Who may answer, rule by rule: tiers, escalation, budgets, strategies, overrides; and nothing by accident."""

from __future__ import annotations

from decimal import Decimal

import attrs
import pytest
import trio
from hypothesis import given, settings, strategies as st

from clawft_trio.attempts import AttemptRecord, Latency
from clawft_trio.auth import ADMIN, USER, ZERO_TRUST, AuthContext, UserPermissions
from clawft_trio.chat import ChatRequest, Message
from clawft_trio.errors import BudgetExceeded, InvalidData, NotConfigured, PermissionDenied, Refused
from clawft_trio.pipeline import (
    Allowance,
    EscalationPolicy,
    LatencyBoard,
    ModelTier,
    ResponseOutcome,
    RoutingPolicy,
    Selection,
    StaticRouter,
    Target,
    TaskProfile,
    TieredRouter,
)
from clawft_trio.testing import cancel_everywhere
from clawft_trio.testing.machine import in_mock_time

FREE = ModelTier("free", models=["local/llama"], complexity_range=[0.0, 0.3], cost_per_1k_tokens=0)
STANDARD = ModelTier(
    "standard", models=["openai/mini", "anthropic/haiku"], complexity_range=[0.0, 0.7], cost_per_1k_tokens=0.001
)
PREMIUM = ModelTier("premium", models=["anthropic/opus"], complexity_range=[0.6, 1.0], cost_per_1k_tokens=0.02)
TIERS = (FREE, STANDARD, PREMIUM)
ALL = ["local/llama", "openai/mini", "anthropic/haiku", "anthropic/opus"]
PROVIDERS = ("local", "openai", "anthropic")

UNLIMITED = Allowance()


def tiered(*, selection: Selection | None = None, tiers=TIERS, **rules) -> TieredRouter:
    policy = RoutingPolicy(mode="tiered", tiers=tiers, **rules)
    return TieredRouter(policy, providers=PROVIDERS, selection=selection)


def ask(permissions: UserPermissions = USER, **kwargs) -> ChatRequest:
    auth = AuthContext(channel="telegram", sender_id="ana", permissions=permissions)
    return ChatRequest([Message.user("hi")], auth=auth, **kwargs)


def left(dollars: str, **kwargs) -> Allowance:
    return Allowance(left=Decimal(dollars), spent=Decimal(5), limit=Decimal(5), retry_after=3600.0, **kwargs)


async def route(router, permissions=USER, complexity=0.5, allowance=UNLIMITED, **kwargs):
    return await router.route(ask(permissions, **kwargs), TaskProfile("chat", complexity), allowance)


async def names(router, permissions=USER, complexity=0.5, allowance=UNLIMITED, **kwargs) -> list[str]:
    return [target.name for target in (await route(router, permissions, complexity, allowance, **kwargs)).targets]


def may(permissions: UserPermissions = USER, **kwargs) -> UserPermissions:
    return attrs.evolve(permissions, **kwargs)


@pytest.mark.parametrize(
    ("max_tier", "complexity", "expected"),
    [
        # the highest permitted tier that is meant for the complexity, then down, then up
        ("free", 0.1, ["local/llama"]),
        ("standard", 0.1, ["openai/mini", "anthropic/haiku", "local/llama"]),
        ("premium", 0.1, ["openai/mini", "anthropic/haiku", "local/llama", "anthropic/opus"]),
        ("premium", 0.65, ["anthropic/opus", "openai/mini", "anthropic/haiku", "local/llama"]),
        ("premium", 1.0, ["anthropic/opus", "openai/mini", "anthropic/haiku", "local/llama"]),
        # both ends of a range belong to it
        ("standard", 0.7, ["openai/mini", "anthropic/haiku", "local/llama"]),
        ("premium", 0.6, ["anthropic/opus", "openai/mini", "anthropic/haiku", "local/llama"]),
        # none of the permitted ones is meant for it: the highest of them
        ("standard", 0.9, ["openai/mini", "anthropic/haiku", "local/llama"]),
        ("free", 0.9, ["local/llama"]),
        # a rung of the usual ladder that is not configured grants what is below it
        ("elite", 0.1, ["openai/mini", "anthropic/haiku", "local/llama", "anthropic/opus"]),
    ],
)
async def test_targets_by_tier_and_complexity(max_tier, complexity, expected) -> None:
    assert await names(tiered(), may(max_tier=max_tier), complexity) == expected


@pytest.mark.parametrize("max_tier", ["premuim", "", "Premium", "FREE", "*", "standard "])
@pytest.mark.parametrize("permissions", [ZERO_TRUST, USER, ADMIN])
async def test_a_misspelt_tier_grants_nothing(max_tier, permissions) -> None:
    with pytest.raises(PermissionDenied):
        await route(tiered(), may(permissions, max_tier=max_tier))


async def test_a_level_that_names_no_tier_there_is_may_use_the_cheapest_one() -> None:
    small, large = attrs.evolve(FREE, name="small"), attrs.evolve(PREMIUM, name="large")
    for permissions in (ZERO_TRUST, USER, ADMIN):
        decision = await route(tiered(tiers=(small, large)), permissions, 0.9)
        assert decision.tier == "small"
    cheap = attrs.evolve(large, cost_per_1k_tokens="0.0001")
    dear = attrs.evolve(small, cost_per_1k_tokens="0.1")
    assert (await route(tiered(tiers=(dear, cheap)), ZERO_TRUST, 0.9)).tier == "large"
    assert (await route(tiered(tiers=(small, large)), may(ADMIN, max_tier="large"), 0.9)).tier == "large"


async def test_a_request_on_nobodys_behalf_has_next_to_no_rights() -> None:
    decision = await tiered().route(ChatRequest([Message.user("hi")]), TaskProfile("chat", 0.9), UNLIMITED)
    assert [target.name for target in decision.targets] == ["local/llama"]
    assert (decision.sender_id, decision.permissions) == (None, ZERO_TRUST)


async def test_a_decision_says_whom_it_is_for_and_why() -> None:
    decision = await route(tiered(), complexity=0.25)
    assert decision.sender_id == "telegram:ana"
    assert (decision.tier, decision.provider, decision.model) == ("standard", "openai", "mini")
    assert decision.reason == "complexity 0.25, tier standard, level 1"
    assert decision.permissions == USER
    assert decision.targets[0].cost_per_1k_tokens == Decimal("0.001")
    # 2 dozen tokens at most for "hi", and the whole answer
    assert Decimal("0.004") < decision.cost_estimate < Decimal("0.0042")


@given(
    st.sampled_from(["free", "standard", "premium", "elite", "typo"]),
    st.floats(0, 1),
    st.none() | st.lists(st.sampled_from([*ALL, "openai/*", "*", "nobody/*"]), max_size=3),
    st.lists(st.sampled_from([*ALL, "anthropic/*"]), max_size=2),
    st.sampled_from(["preference_order", "round_robin", "lowest_cost", "random", "least_latency"]),
    st.booleans(),
)
@settings(deadline=None, max_examples=200)
@in_mock_time
async def test_every_target_is_permitted_whatever_the_rules(max_tier, complexity, access, denied, strategy, up) -> None:
    permissions = may(max_tier=max_tier, model_access=access, model_denylist=denied, escalation_allowed=up)
    router = tiered(
        selection_strategy=strategy,
        fallback_model="openai/last",
        failover=ALL,
        escalation=EscalationPolicy(enabled=True),
    )
    try:
        decision = await route(router, permissions, complexity)
    except PermissionDenied:
        return
    assert len({target.name for target in decision.targets}) == len(decision.targets) > 0
    rank = {"free": 0, "standard": 1, "premium": 2, "elite": 2}[max_tier] + decision.escalated
    for target in decision.targets:
        assert permissions.may_use_model(target.name)
        if target.tier:
            assert ["free", "standard", "premium"].index(target.tier) <= rank
        else:
            assert rank - decision.escalated == 2 or (access is not None)


@pytest.mark.parametrize(
    ("access", "denied", "expected"),
    [
        (None, (), ["openai/mini", "anthropic/haiku", "local/llama"]),
        (None, ("openai/*",), ["anthropic/haiku", "local/llama"]),
        (("openai/*",), (), ["openai/mini"]),
        (("*",), ("openai/mini",), ["anthropic/haiku", "local/llama"]),
        # the first choice has nothing for this sender: the next tier
        (("local/*",), (), ["local/llama"]),
        # the deny list wins
        (("openai/mini", "local/*"), ("openai/mini",), ["local/llama"]),
    ],
)
async def test_access_and_deny_lists(access, denied, expected) -> None:
    assert await names(tiered(), may(model_access=access, model_denylist=denied)) == expected


@pytest.mark.parametrize(
    ("access", "denied"), [((), ()), (("openai/min",), ()), (None, ("*",)), (("anthropic/opus",), ())]
)
async def test_nothing_permitted_is_a_refusal_and_not_somebody_else(access, denied) -> None:
    router = tiered(fallback_model="openai/mini", failover=["local/llama"])
    with pytest.raises(PermissionDenied):
        await route(router, may(model_access=access, model_denylist=denied))


@pytest.mark.parametrize(
    ("permissions", "expected"),
    [
        # a model in no tier is not for everybody
        (may(max_tier="standard"), False),
        (may(max_tier="premium"), True),
        (may(max_tier="standard", model_access=("openai/*",)), True),
        # and the lists hold for it as for any other
        (may(max_tier="premium", model_denylist=("openai/last",)), False),
        (may(max_tier="premium", model_access=("anthropic/*",)), False),
    ],
)
@pytest.mark.parametrize("rules", [{"fallback_model": "openai/last"}, {"failover": ["openai/last"]}])
async def test_who_gets_the_last_resort(permissions, expected, rules) -> None:
    got = await names(tiered(**rules), permissions)
    assert ("openai/last" in got) is expected
    if expected:
        assert got[-1] == "openai/last"


async def test_what_is_in_a_tier_is_not_a_last_resort() -> None:
    assert await names(tiered(fallback_model="anthropic/opus", failover=["anthropic/opus"])) == [
        "openai/mini",
        "anthropic/haiku",
        "local/llama",
    ]


@pytest.mark.parametrize("model", ["moonshot/kimi-k2", "Openai/mini", "open/ai"])
def test_an_unknown_provider_is_an_error_and_not_openai(model) -> None:
    for make in (
        lambda: tiered(tiers=(ModelTier("free", models=[model]),)),
        lambda: tiered(fallback_model=model),
        lambda: tiered(failover=[model]),
        lambda: StaticRouter([model], providers=PROVIDERS),
    ):
        with pytest.raises(NotConfigured) as caught:
            make()
        assert caught.value.target == model


@pytest.mark.parametrize("model", ["gpt-4o", "", "/gpt-4o", "openai/"])
def test_a_model_without_its_provider_is_an_error(model) -> None:
    with pytest.raises(InvalidData):
        StaticRouter([model])
    with pytest.raises(InvalidData):
        tiered(tiers=(ModelTier("free", models=[model]),))


def test_only_the_first_slash_divides() -> None:
    target = Target.parse("openrouter/anthropic/claude-3")
    assert (target.provider, target.model, target.name) == (
        "openrouter",
        "anthropic/claude-3",
        "openrouter/anthropic/claude-3",
    )


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: tiered(tiers=()),
        lambda: tiered(tiers=(FREE, FREE)),
        lambda: ModelTier("x", complexity_range=[0.5, 0.4]),
        lambda: ModelTier("x", complexity_range=[-0.1, 0.4]),
        lambda: ModelTier("x", complexity_range=[0.1, 1.4]),
        lambda: ModelTier("x", cost_per_1k_tokens=-1),
        lambda: ModelTier("x", max_context_tokens=0),
        lambda: ModelTier("", models=["a/b"]),
        lambda: ModelTier("x", models="a/b"),
        lambda: RoutingPolicy(mode="dynamic"),
        lambda: RoutingPolicy(selection_strategy="best"),
        lambda: RoutingPolicy(budget_downgrade="always"),
        lambda: EscalationPolicy(threshold=1.1),
        lambda: EscalationPolicy(max_escalation_tiers=0),
    ],
    ids=map(str, range(14)),
)
def test_rules_that_cannot_be_meant_are_refused(wrong) -> None:
    with pytest.raises((InvalidData, ValueError, TypeError)):
        wrong()


UP = EscalationPolicy(enabled=True)


@pytest.mark.parametrize(
    ("permissions", "policy", "complexity", "tier", "escalated"),
    [
        (may(), UP, 0.9, "premium", True),
        # off by default, and each side may forbid it
        (may(), EscalationPolicy(), 0.9, "standard", False),
        (may(escalation_allowed=False), UP, 0.9, "standard", False),
        # not while a permitted tier is meant for it
        (may(), UP, 0.65, "standard", False),
        # both thresholds count, and either may be the higher
        (may(escalation_threshold=0.95), UP, 0.9, "standard", False),
        (may(), EscalationPolicy(enabled=True, threshold=0.95), 0.9, "standard", False),
        (may(escalation_threshold=0.0), EscalationPolicy(enabled=True, threshold=0.9), 0.9, "premium", True),
        # only as far as the policy goes, and only to a tier that is meant for it
        (may(max_tier="free"), UP, 0.9, "free", False),
        (may(max_tier="free"), UP, 0.65, "standard", True),
        (may(max_tier="free"), EscalationPolicy(enabled=True, max_escalation_tiers=2), 0.9, "premium", True),
        # nowhere to go
        (may(max_tier="premium"), UP, 0.9, "premium", False),
    ],
)
async def test_escalation(permissions, policy, complexity, tier, escalated) -> None:
    decision = await route(tiered(escalation=policy), permissions, complexity)
    assert (decision.tier, decision.escalated) == (tier, escalated)


async def test_an_escalated_turn_falls_back_to_the_senders_own_tiers() -> None:
    assert await names(tiered(escalation=UP), may(), 0.9) == [
        "anthropic/opus",
        "openai/mini",
        "anthropic/haiku",
        "local/llama",
    ]


PREMIUM_USER = may(max_tier="premium", max_output_tokens=1000)
OVERLAPPING = (FREE, attrs.evolve(STANDARD, complexity_range=(0.0, 1.0)), PREMIUM)


@pytest.mark.parametrize(
    ("tiers", "rule", "dollars", "complexity", "expected"),
    [
        # enough for premium (a little over 0.02), then not
        (TIERS, "matching", "0.03", 0.65, ["anthropic/opus", "openai/mini", "anthropic/haiku", "local/llama"]),
        # cheaper, and meant for the task
        (TIERS, "matching", "0.01", 0.65, ["openai/mini", "anthropic/haiku"]),
        (OVERLAPPING, "matching", "0.01", 0.9, ["openai/mini", "anthropic/haiku"]),
        # cheaper, but not meant for the task: refused, unless the policy says any
        (TIERS, "matching", "0.01", 0.9, None),
        (TIERS, "any", "0.01", 0.9, ["openai/mini", "anthropic/haiku", "local/llama"]),
        (TIERS, "any", "0.01", 0.65, ["openai/mini", "anthropic/haiku", "local/llama"]),
        (TIERS, "never", "0.01", 0.65, None),
        # what costs nothing can be paid with nothing
        (TIERS, "matching", "0", 0.2, ["local/llama"]),
        (TIERS, "any", "0", 0.9, ["local/llama"]),
        (TIERS, "matching", "-1", 0.2, None),
        (TIERS, "never", "0", 0.2, None),
    ],
)
async def test_what_a_small_budget_leads_to(tiers, rule, dollars, complexity, expected) -> None:
    router = tiered(tiers=tiers, budget_downgrade=rule)
    if expected is None:
        with pytest.raises(BudgetExceeded) as caught:
            await route(router, PREMIUM_USER, complexity, left(dollars))
        assert (caught.value.retry_after, caught.value.spent, caught.value.limit) == (3600.0, 5, 5)
        return
    decision = await route(router, PREMIUM_USER, complexity, left(dollars))
    assert [target.name for target in decision.targets] == expected
    assert decision.budget_constrained is (dollars != "0.03")


async def test_what_cannot_be_paid_is_no_fallback_either() -> None:
    got = await names(tiered(), PREMIUM_USER, 0.1, left("0.01"))
    assert got == ["openai/mini", "anthropic/haiku", "local/llama"]


async def test_the_estimate_grows_with_the_request_and_what_is_asked_for() -> None:
    short = await route(tiered(), complexity=0.5, max_tokens=100)
    long = await route(tiered(), complexity=0.5, max_tokens=1000)
    permitted = await route(tiered(), complexity=0.5, max_tokens=1_000_000)
    assert short.cost_estimate < long.cost_estimate < permitted.cost_estimate
    assert permitted.cost_estimate == (await route(tiered(), complexity=0.5)).cost_estimate


@pytest.mark.parametrize(("dollars", "allowed"), [(None, True), ("0.01", True), ("0", False), ("-1", False)])
async def test_what_has_no_price_needs_a_budget_that_is_not_used_up(dollars, allowed) -> None:
    router = StaticRouter(["openai/mini"])
    allowance = UNLIMITED if dollars is None else left(dollars)
    if allowed:
        assert (await route(router, allowance=allowance)).cost_estimate is None
    else:
        with pytest.raises(BudgetExceeded):
            await route(router, allowance=allowance)


async def test_prices_may_come_from_a_table_of_models() -> None:
    per_token = {"openai/mini": Decimal("0.00001"), "anthropic/haiku": Decimal("0.000001")}

    def estimate(target: Target, input_tokens: int, output_tokens: int) -> Decimal | None:
        price = per_token.get(target.name)
        return None if price is None else price * (input_tokens + output_tokens)

    router = tiered(selection=Selection(estimate=estimate))
    constrained = await route(router, complexity=0.5, allowance=left("0.01"))
    assert [target.name for target in constrained.targets] == ["anthropic/haiku", "local/llama"]


THREE = ("p/a", "p/b", "p/c")


def static(strategy: str, selection: Selection | None = None, models=THREE) -> StaticRouter:
    return StaticRouter(models, strategy=strategy, selection=selection)


async def test_preference_order_is_the_order() -> None:
    assert [await names(static("preference_order")) for _ in range(2)] == [list(THREE)] * 2


async def test_round_robin_starts_each_turn_one_further() -> None:
    router = static("round_robin")
    assert [(await names(router))[0] for _ in range(7)] == ["p/a", "p/b", "p/c", "p/a", "p/b", "p/c", "p/a"]
    assert sorted(await names(router)) == sorted(THREE)


async def test_round_robin_counts_each_tiers_own_turns() -> None:
    router = tiered(selection_strategy="round_robin")
    firsts = [(await names(router, may(max_tier="premium"), complexity))[0] for complexity in (0.5, 0.9, 0.5, 0.9, 0.5)]
    assert firsts == ["openai/mini", "anthropic/opus", "anthropic/haiku", "anthropic/opus", "openai/mini"]


async def test_lowest_cost_goes_by_the_models_price_and_the_unpriced_last() -> None:
    prices = {"p/a": Decimal(3), "p/c": Decimal(1)}
    selection = Selection(estimate=lambda target, i, o: prices.get(target.name))
    assert await names(static("lowest_cost", selection)) == ["p/c", "p/a", "p/b"]


async def test_chance_is_handed_in() -> None:
    router = static("random", Selection(shuffle=lambda targets: targets.reverse()))
    assert await names(router) == ["p/c", "p/b", "p/a"]


def attempt(target: str, seconds: float, outcome: str = "ok", *, first_content: float | None = None) -> AttemptRecord:
    latency = Latency(total=seconds, first_content=first_content)
    return AttemptRecord(target=target, outcome=outcome, started=0.0, latency=latency)


def learn(router: StaticRouter | TieredRouter, decision, *attempts: AttemptRecord) -> None:
    router.update(decision, ResponseOutcome(ending="ok", latency=Latency(), attempts=attempts))


async def test_least_latency_goes_by_what_was_measured(autojump_clock) -> None:
    router = static("least_latency")
    decision = await route(router)
    learn(router, decision, attempt("p/a", 9.0, first_content=3.0), attempt("p/b", 2.0), attempt("p/c", 4.0))
    assert await names(router) == ["p/b", "p/a", "p/c"]


async def test_a_target_that_nobody_has_tried_is_tried(autojump_clock) -> None:
    router = static("least_latency")
    learn(router, await route(router), attempt("p/a", 1.0))
    assert (await names(router))[-1] == "p/a"


async def test_who_fails_at_once_is_not_fast_and_gets_another_chance_later(autojump_clock) -> None:
    router = static("least_latency")
    learn(router, await route(router), attempt("p/a", 0.01, "failed"), attempt("p/b", 2.0), attempt("p/c", 3.0))
    assert await names(router) == ["p/b", "p/c", "p/a"]
    await trio.sleep(299)
    learn(router, await route(router), attempt("p/b", 2.0), attempt("p/c", 3.0))
    await trio.sleep(2)
    assert (await names(router))[0] == "p/a"


async def test_a_cancelled_attempt_says_only_that_it_took_at_least_so_long(autojump_clock) -> None:
    board = LatencyBoard()

    def note(*attempts: AttemptRecord) -> float:
        board.note(ResponseOutcome(ending="ok", latency=Latency(), attempts=attempts))
        return board.expected("p/a")

    assert note(attempt("p/a", 4.0)) == 4.0
    assert note(attempt("p/a", 1.0, "cancelled")) == 4.0
    assert note(attempt("p/a", 14.0, "cancelled")) == pytest.approx(7.0)


async def test_the_board_forgets_what_was_used_longest_ago(autojump_clock) -> None:
    board = LatencyBoard()
    for n in range(1500):
        board.note(ResponseOutcome(ending="ok", latency=Latency(), attempts=(attempt(f"p/{n}", 1.0),)))
    assert board.expected("p/0") == 0.0
    assert board.expected("p/1499") == 1.0
    assert len(board._targets) == 1000


CHOOSER = may(model_override=True, max_tier="standard")


@pytest.mark.parametrize(
    ("model", "permissions", "expected"),
    [
        ("anthropic/haiku", CHOOSER, "anthropic/haiku"),
        # a model that only one provider has may go without it
        ("haiku", CHOOSER, "anthropic/haiku"),
        # one that is in no tier
        ("openai/new", may(ADMIN), "openai/new"),
        ("openai/new", may(CHOOSER, model_access=("openai/*",)), "openai/new"),
        ("openai/new", CHOOSER, PermissionDenied),
        # above one's tiers, denied, or not one's to choose
        ("anthropic/opus", CHOOSER, PermissionDenied),
        ("anthropic/haiku", may(CHOOSER, model_denylist=("anthropic/*",)), PermissionDenied),
        ("anthropic/haiku", may(CHOOSER, model_access=("openai/*",)), PermissionDenied),
        ("anthropic/haiku", USER, PermissionDenied),
        ("anthropic/haiku", ZERO_TRUST, PermissionDenied),
        # not there
        ("moonshot/kimi-k2", may(ADMIN), NotConfigured),
        ("gpt-9", may(ADMIN), NotConfigured),
    ],
)
async def test_a_request_may_choose_its_model(model, permissions, expected) -> None:
    if isinstance(expected, str):
        decision = await route(tiered(), permissions, model=model)
        assert [target.name for target in decision.targets] == [expected]
        assert decision.reason == "chosen by the request"
    else:
        with pytest.raises(expected):
            await route(tiered(), permissions, model=model)


async def test_a_chosen_model_keeps_its_tiers_price_and_window() -> None:
    decision = await route(tiered(), CHOOSER, model="anthropic/haiku")
    assert decision.targets[0].cost_per_1k_tokens == Decimal("0.001")
    with pytest.raises(BudgetExceeded):
        await route(tiered(), CHOOSER, model="anthropic/haiku", allowance=left("0.0001"))


@pytest.mark.parametrize(
    ("model", "permissions", "expected"),
    [
        ("p/b", may(ADMIN), ["p/b"]),
        ("b", may(ADMIN), ["p/b"]),
        ("p/unheard-of", may(ADMIN), ["p/unheard-of"]),
        ("q/b", may(ADMIN), NotConfigured),
        ("p/b", USER, PermissionDenied),
        ("", USER, list(THREE)),
        ("", may(model_denylist=("p/a",)), ["p/b", "p/c"]),
        ("", may(model_access=()), PermissionDenied),
    ],
)
async def test_static_routing(model, permissions, expected) -> None:
    if isinstance(expected, list):
        assert await names(static("preference_order"), permissions, model=model) == expected
    else:
        with pytest.raises(expected):
            await route(static("preference_order"), permissions, model=model)


@pytest.mark.parametrize(
    ("models", "asked", "expected"),
    [
        # what a gateway calls its model
        (["openrouter/anthropic/claude-3"], "anthropic/claude-3", "openrouter/anthropic/claude-3"),
        # is not meant where there is a provider of that name
        (["openrouter/anthropic/claude-3", "anthropic/haiku"], "anthropic/claude-3", "anthropic/claude-3"),
    ],
)
async def test_a_providers_own_name_comes_before_a_gateways(models, asked, expected) -> None:
    assert await names(StaticRouter(models), ADMIN, model=asked) == [expected]


async def test_a_model_that_two_providers_have_needs_its_provider() -> None:
    router = StaticRouter(["p/same", "q/same"])
    with pytest.raises(NotConfigured, match="which provider"):
        await route(router, ADMIN, model="same")


async def test_a_refusal_is_typed_and_an_empty_target_is_impossible() -> None:
    with pytest.raises(ValueError):
        Target("", "x")
    with pytest.raises(ValueError):
        Target("x", "")
    assert issubclass(PermissionDenied, Refused) and issubclass(BudgetExceeded, Refused)


async def test_routing_can_be_cancelled_anywhere() -> None:
    router = tiered(selection_strategy="round_robin")

    async def once() -> None:
        await route(router)

    assert await cancel_everywhere(once, trio.lowlevel.checkpoint) >= 1
