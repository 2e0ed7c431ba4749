"""From a message on the bus to the money in the ledger, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path

import trio
from judged import open_fault_server

from clawft_trio.agent.bus_turn import BusTurn
from clawft_trio.agent.loop import AgentLoop
from clawft_trio.agent.sessions import MIGRATIONS as SESSION_MIGRATIONS, Sessions
from clawft_trio.agent.turn import Turns
from clawft_trio.attempts import Usage
from clawft_trio.bus import MessageBus, open_bus
from clawft_trio.chat import Provider
from clawft_trio.costs import MIGRATIONS, CostTracker, Ledger, Limits, Metered, ModelPrice, Prices, tier_prices
from clawft_trio.llm import OpenAICompatible
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.pipeline import (
    ModelTier,
    PermissionResolver,
    PermissionsPolicy,
    Pipeline,
    RoutingPolicy,
    Selection,
    SenderOverrides,
    Target,
    TieredRouter,
    TurnAdmission,
    open_targets,
)
from clawft_trio.pipeline.tokens import request_tokens
from clawft_trio.resilience import Failover, Resilient, Retry
from clawft_trio.store import open_store
from clawft_trio.testing import Finish, Report, ResetConnection, Say, Status
from clawft_trio.tools import ToolRegistry

TIERS = (
    ModelTier("free", models=["cheap/small"], cost_per_1k_tokens="0.001", complexity_range=(0, 1)),
    ModelTier("standard", models=["good/large"], complexity_range=(0, 1)),
)
NO_LIMIT = Limits()
PRICES = {"good/large": ModelPrice(input="2", output="8", cached="0.5", reasoning="10")}
USAGE = Usage(input_tokens=1200, cached_tokens=1000, output_tokens=300, reasoning_tokens=100)
#: 200 at 2, 1000 at 0.5, 200 at 8 and 100 at 10 dollars for a million
LARGE = Decimal("0.0035")


@asynccontextmanager
async def serving(
    url: str, store_path: Path | None, *, everybody: Limits = NO_LIMIT
) -> AsyncGenerator[tuple[MessageBus, CostTracker], None]:
    """An agent put together by hand: bus, loop, tiered router, retry and failover, all metered."""
    policy = RoutingPolicy(mode="tiered", tiers=TIERS, failover=["cheap/small"])
    people = PermissionsPolicy(users={"telegram:ana": SenderOverrides(level=1)})
    names = tuple(tier.name for tier in TIERS)
    providers = {name: OpenAICompatible(name, base_url=url) for name in ("good", "cheap")}
    async with open_store(store_path, migrations=[*SESSION_MIGRATIONS, *MIGRATIONS]) as store:
        prices = Prices(explicit={**tier_prices(t for tier in TIERS for t in tier.targets()), **PRICES})
        tracker = CostTracker(Ledger(store), prices, everybody=everybody)

        def around(provider: Provider, target: Target) -> Provider:
            metered = Metered(provider, tracker, target, tokens=request_tokens)
            return Resilient(metered, Retry(max_retries=1, first_wait=0.001))

        async with (
            open_targets(lambda target: providers[target.provider], wrap=around) as targets,
            open_bus() as bus,
        ):
            pipeline = Pipeline(
                router=TieredRouter(policy, selection=Selection(estimate=tracker.estimate)),
                transport=targets,
                chain=partial(Failover, hedge_after=None),
                admission=TurnAdmission(budget=tracker),
            )
            turns = Turns(models=pipeline, tools=ToolRegistry([]), history=Sessions(store))
            loop = AgentLoop(bus, BusTurn(turns=turns, permissions=PermissionResolver(people, tiers=names)))
            async with trio.open_nursery() as nursery:
                await nursery.start(loop.serve)
                yield bus, tracker
                nursery.cancel_scope.cancel(reason="test over")
        for provider in providers.values():
            await provider.aclose()


async def reply_to(bus: MessageBus, content: str, *, sender: str = "ana") -> OutboundMessage:
    await bus.publish_inbound(InboundMessage(channel="telegram", sender_id=sender, chat_id=sender, content=content))
    with trio.fail_after(20):
        async for message in bus.outbound("telegram"):
            if message.kind == "final":
                return message
    raise AssertionError("no reply")


async def test_the_ledger_has_sender_agent_target_and_cost(tmp_path: Path) -> None:
    answers: Mapping[str, list] = {
        "large": [[Status(429)], [Say("Half an ans"), ResetConnection()]],
        "small": [[Say("A coat."), Finish(usage=Usage(input_tokens=1000, output_tokens=500))]],
    }
    async with open_fault_server(models=answers) as server:
        async with serving(server.url, tmp_path / "agent.db") as (bus, tracker):
            reply = await reply_to(bus, "What do I wear in Oslo today?")
            assert reply.content == "A coat."
            refused, broken, answered = reversed(await tracker.ledger.entries())
    assert {entry.sender for entry in (refused, broken, answered)} == {"telegram:ana"}
    assert len({(entry.turn, entry.call) for entry in (refused, broken, answered)}) == 1
    assert answered.turn
    assert (refused.target, refused.state, refused.cost) == ("good/large", "refunded", 0)
    assert (broken.target, broken.state, broken.certainty) == ("good/large", "settled", "at_least")
    assert broken.cost == PRICES["good/large"].cost(
        Usage(input_tokens=broken.input_tokens, output_tokens=broken.output_tokens)
    )
    assert broken.output_tokens > 0
    assert (answered.target, answered.certainty, answered.outcome) == ("cheap/small", "exact", "ok")
    assert (answered.input_tokens, answered.output_tokens) == (1000, 500)
    # 1 500 tokens at a tenth of a cent for a thousand.
    assert answered.cost == Decimal("0.0015")
    assert reply.metadata["cost_usd"] == "0.0015"


async def test_every_kind_of_token_is_in_the_ledger_and_senders_are_apart() -> None:
    answers = {
        "large": [[Say("Hello."), Report(USAGE), Finish(usage=USAGE)]],
        "small": [[Say("Hello."), Finish(usage=Usage(input_tokens=10, output_tokens=10))]],
    }
    async with open_fault_server(models=answers) as server:
        async with serving(server.url, None) as (bus, tracker):
            await reply_to(bus, "hello")
            await reply_to(bus, "hello", sender="stranger")
            ana, stranger = await tracker.ledger.spending("sender", "target")
    assert ana.group == {"sender": "telegram:ana", "target": "good/large"}
    assert (ana.input_tokens, ana.cached_tokens, ana.output_tokens, ana.reasoning_tokens) == (1200, 1000, 300, 100)
    assert (ana.cost, ana.certainty) == (LARGE, "exact")
    assert stranger.group == {"sender": "telegram:stranger", "target": "cheap/small"}
    assert stranger.cost == Decimal("0.00002")


async def test_money_that_is_spent_is_not_spent_again() -> None:
    usage = Usage(input_tokens=4000, output_tokens=4000)
    async with open_fault_server(
        models={"large": [[Say("Hi."), Finish(usage=usage)]], "small": [[Status(500)]]}
    ) as server:
        async with serving(server.url, None, everybody=Limits(daily="0.043")) as (bus, tracker):
            first = await reply_to(bus, "hello")
            second = await reply_to(bus, "hello again")
            (spent,) = await tracker.ledger.spending()
    assert first.content == "Hi."
    assert second.metadata["error"] == "BudgetExceeded"
    assert spent.cost == Decimal("0.04")
    assert len(server.requests) == 1
