"""Routing and paying together: a real ledger, tiers, retry and failover, and who is charged for what."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal

import attrs
import pytest

from clawft_trio.attempts import Usage
from clawft_trio.auth import USER, AuthContext
from clawft_trio.chat import Call, ChatRequest, Message
from clawft_trio.costs import MIGRATIONS, CostTracker, Ledger, Metered
from clawft_trio.errors import BudgetExceeded, ServerError
from clawft_trio.pipeline import (
    ModelTier,
    Pipeline,
    RoutingPolicy,
    Selection,
    TieredRouter,
    TurnAdmission,
    open_targets,
)
from clawft_trio.pipeline.tokens import request_tokens
from clawft_trio.resilience import Resilient, Retry
from clawft_trio.store import open_store
from clawft_trio.testing import Fail, Finish, Say, Script, ScriptedProvider

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
TIERS = (
    ModelTier("free", models=["local/llama"], complexity_range=(0.0, 1.0), cost_per_1k_tokens=0),
    ModelTier("standard", models=["one/mini", "two/mini"], complexity_range=(0.0, 1.0), cost_per_1k_tokens=0.5),
)
DOWN = [Fail(ServerError("down"))]
USAGE = Usage(input_tokens=300, output_tokens=700)
ANSWER = [Say("A coat."), Finish(usage=USAGE)]


def ask(sender: str = "ana", daily: float = 5.0) -> ChatRequest:
    permissions = attrs.evolve(USER, cost_budget_daily_usd=daily)
    auth = AuthContext(channel="telegram", sender_id=sender, permissions=permissions)
    return ChatRequest([Message.user("What do I wear?")], auth=auth, max_tokens=1000)


@asynccontextmanager
async def open_house(
    scripts: dict[str, list[Script]], **rules: str
) -> AsyncGenerator[tuple[Pipeline, CostTracker], None]:
    """A pipeline whose targets play *scripts* by provider, each under a retry and a meter."""
    async with open_store(None, migrations=MIGRATIONS) as store:
        tracker = CostTracker(Ledger(store, now=lambda: NOON))

        def around(provider, target):
            return Resilient(
                Metered(provider, tracker, target, tokens=request_tokens), Retry(max_retries=1, first_wait=0)
            )

        def factory(target):
            return ScriptedProvider(*scripts[target.provider], name=target.provider, model=target.model)

        async with open_targets(factory, wrap=around) as targets:
            router = TieredRouter(
                RoutingPolicy(mode="tiered", tiers=TIERS, **rules), selection=Selection(estimate=tracker.estimate)
            )
            yield Pipeline(router=router, transport=targets, admission=TurnAdmission(budget=tracker)), tracker


async def test_the_answer_of_a_failover_is_charged_to_its_sender_at_its_models_price() -> None:
    async with open_house({"one": [DOWN], "two": [ANSWER]}) as (pipeline, tracker):
        call = Call(id="c", turn_id="t")
        decision = await pipeline.route(ask(), call)
        response = await pipeline.complete(ask(), call, decision)
        assert [record.target for record in response.attempts] == ["one/mini", "one/mini", "two/mini"]
        assert response.cost == Decimal("0.5")
        entries = [entry for entry in await tracker.ledger.entries() if entry.target == "two/mini"]
        assert [(e.sender, e.turn, e.cost, e.certainty, e.input_tokens, e.output_tokens) for e in entries] == [
            ("telegram:ana", "t", Decimal("0.5"), "exact", 300, 700)
        ]
        allowance = await tracker.allowance("telegram:bob", USER)
        assert allowance.spent == 0


async def test_who_has_too_little_left_gets_what_costs_nothing() -> None:
    async with open_house({"one": [ANSWER], "local": [ANSWER]}) as (pipeline, _):
        request = ask(daily=0.6)
        tiers = []
        for _ in range(2):
            decision = await pipeline.route(request)
            tiers.append((decision.tier, decision.budget_constrained))
            await pipeline.complete(request, Call(), decision)
        assert tiers == [("standard", False), ("free", True)]


async def test_or_is_refused_until_the_day_ends_where_nothing_else_will_do() -> None:
    async with open_house({"one": [ANSWER]}, budget_downgrade="never") as (pipeline, _):
        request = ask(daily=0.6)
        await pipeline.complete(request, Call(), await pipeline.route(request))
        with pytest.raises(BudgetExceeded) as caught:
            await pipeline.route(request)
        assert caught.value.retry_after == 12 * 3600


async def test_somebody_of_the_same_number_elsewhere_has_a_budget_of_his_own() -> None:
    async with open_house({"one": [ANSWER]}) as (pipeline, tracker):
        request = ask(daily=0.6)
        await pipeline.complete(request, Call(), await pipeline.route(request))
        spent = [(await tracker.allowance(f"{channel}:ana", USER)).spent for channel in ("telegram", "discord")]
        assert spent == [Decimal("0.5"), 0]
