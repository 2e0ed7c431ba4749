"""What a sender reads when a budget does not cover a question, and what is tried before that."""

from __future__ import annotations

from decimal import Decimal

import pytest
from judged import ScriptedProvider

from clawft_trio import Usage, open_agent, parse_config, provider_named
from clawft_trio.agent.error_replies import failure_reply
from clawft_trio.errors import BudgetExceeded
from clawft_trio.messages import InboundMessage
from clawft_trio.pipeline import Target
from clawft_trio.testing import Finish, Say

MESSAGE = InboundMessage(channel="test", sender_id="ana", chat_id="1", content="?")


def refused(**figures: object) -> BudgetExceeded:
    return BudgetExceeded("for the operator", **{name: Decimal(str(value)) for name, value in figures.items()})


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            refused(limit="0.1", spent=0, reserved=0, estimate="0.2045"),
            (
                "What is left of the budget for your questions does not cover this one. "
                "Limit $0.10, spent $0.00, reserved $0.00; this needs up to $0.204."
            ),
        ),
        (
            refused(limit=1, spent="1.0000014", reserved=0, estimate="0.0000021"),
            (
                "The budget for your questions is spent. "
                "Limit $1.00, spent $1.0000, reserved $0.00; this needs up to $0.0000021."
            ),
        ),
        (
            refused(limit=1, spent="0.5", reserved="0.5"),
            (
                "What is left of the budget for your questions does not cover this one. "
                "Limit $1.00, spent $0.50, reserved $0.50; what this costs is not known."
            ),
        ),
    ],
)
def test_a_budget_reply_states_its_figures(error: BudgetExceeded, text: str) -> None:
    assert failure_reply(MESSAGE, error).content == text


def test_a_budget_reply_has_the_singular_for_one() -> None:
    error = refused(limit=1, spent=1, reserved=0, estimate=1)
    error.unit = "turns"
    content = failure_reply(MESSAGE, error).content
    assert "Limit 1 turn, spent 1 turn, reserved 0 turns; this needs up to 1 turn." in content


def test_a_budget_reply_names_its_unit_and_has_the_figures_as_data() -> None:
    error = refused(limit=1000, spent=800, reserved=100, estimate=150)
    error.unit = "tokens"
    reply = failure_reply(MESSAGE, error)
    assert "Limit 1000 tokens, spent 800 tokens, reserved 100 tokens; this needs up to 150 tokens." in reply.content
    assert reply.metadata["budget"] == {
        "unit": "tokens",
        "limit": "1000",
        "spent": "800",
        "reserved": "100",
        "estimate": "150",
    }


CONFIG = parse_config(
    """{"prices": {"dear/m": {"input": 100, "output": 100}, "cheap/m": {"input": 0.01, "output": 0.01}},
        "routing": {"costBudgets": {"globalDailyLimitUsd": 0.01}},
        "agents": {"defaults": {"maxTokens": 1000}}}"""
)


async def test_a_cheaper_target_is_tried_before_a_question_is_refused() -> None:
    providers = {
        name: ScriptedProvider([Say(name), Finish(usage=Usage(input_tokens=9))], name=name)
        for name in ("dear", "cheap")
    }
    async with open_agent(["dear/m", "cheap/m"], providers=providers, config=CONFIG) as agent:
        assert (await agent.ask("q")).text == "cheap"
    async with open_agent(["dear/m"], providers=providers, config=CONFIG) as agent:
        with pytest.raises(BudgetExceeded) as caught:
            await agent.ask("q")
    error = caught.value
    assert (error.limit, error.spent, error.reserved) == (Decimal("0.01"), 0, 0)
    assert error.estimate > Decimal("0.1")
    assert error.retry_after is None  # it never fits
    assert providers["dear"].calls == 0


PRICED = parse_config(
    """{"prices": {"openai/gpt-5": {"input": 1, "output": 10, "serviceTiers": {"flex": {"input": 0.5, "output": 5}},
                   "longContext": {"above": 200000, "input": 2, "output": 20}}},
        "priceAliases": {"azure/prod": "openai/gpt-5"}}"""
)


async def test_a_configuration_prices_tiers_long_inputs_and_aliases() -> None:
    provider = ScriptedProvider.saying("x", name="azure")
    async with open_agent(["azure/prod"], providers={"azure": provider}, config=PRICED) as agent:
        costs = agent.parts.costs
        target = Target("azure", "prod")
        assert costs.cost(target, Usage(input_tokens=1_000_000, service_tier="flex")) == Decimal("0.5")
        assert costs.cost(target, Usage(input_tokens=1_000_000)) == 2
        assert costs.cost(target, Usage(input_tokens=100_000)) == Decimal("0.1")
        assert "service tier 'priority'" in costs.price(target, Usage(input_tokens=1, service_tier="priority")).why


@pytest.mark.parametrize("name", ["openai", "work"])
async def test_a_providers_own_address_decides_whether_the_list_holds_for_it(name: str) -> None:
    for base_url, priced in ((None, True), ("https://gateway.example.org/v1", False)):
        provider = provider_named("openai", api_key="k", base_url=base_url)
        async with open_agent([f"{name}/gpt-5-mini"], providers={name: provider}) as agent:
            charge = agent.parts.costs.price(Target(name, "gpt-5-mini"), Usage(input_tokens=1_000_000))
            assert (charge.cost is not None) is priced
            assert bool(charge.why) is not priced
