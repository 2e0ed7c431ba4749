"""Reasoning effort, thinking budget and extra reach the wire: from the policy, the question, and config.json per target."""

import json

import pytest
from judged import open_fault_server

from clawft_trio import TurnPolicy, open_agent, parse_config, provider_named
from clawft_trio.agent.from_config import provider_maker
from clawft_trio.chat import Call, ChatRequest, Message
from clawft_trio.errors import ConfigError, ProviderTimeout
from clawft_trio.llm.model_options import ModelOptions
from clawft_trio.testing import Finish, Say, Wait

SECTION = {
    "models": {
        "openai/gpt-5-mini": {"reasoningEffort": "low", "extra": {"service_tier": "flex"}, "clocks": {"gapMs": 7000}},
        "openai/own": {"rules": {"refuses": ["temperature"]}, "quirks": {"maxTokensField": "max_tokens"}},
    },
    "agents": {"defaults": {"reasoningEffort": "high", "maxTokens": 50, "temperature": 0.2}},
}


def test_what_is_more_special_goes_first():
    general = ModelOptions(reasoning_effort="high", seed=1, extra={"a": 1})
    special = ModelOptions(reasoning_effort="low", extra={"b": 2})
    assert special.over(general) == ModelOptions(reasoning_effort="low", seed=1, extra={"a": 1, "b": 2})


async def asked(model, **options):
    """The body of the request for one question to *model* of the agent that SECTION configures."""
    async with (
        open_fault_server([Say("hi"), Finish()]) as server,
        open_agent(
            [model],
            config=parse_config(
                json.dumps({**SECTION, "providers": {"openai": {"apiKey": "k", "apiBase": server.url}}})
            ),
        ) as agent,
    ):
        await agent.ask("q", **options)
        return server.requests[0].body


async def test_the_options_of_a_target_override_the_general_ones():
    body = await asked("openai/gpt-5-mini")
    assert (body["reasoning_effort"], body["service_tier"], body["max_completion_tokens"]) == ("low", "flex", 50)
    assert (await asked("openai/gpt-5"))["reasoning_effort"] == "high"


async def test_the_options_of_a_question_override_those_of_the_target():
    body = await asked("openai/gpt-5-mini", reasoning_effort="medium", extra={"service_tier": "priority"})
    assert (body["reasoning_effort"], body["service_tier"]) == ("medium", "priority")


async def test_rules_and_quirks_of_config_change_what_is_sent():
    body = await asked("openai/own")
    assert "temperature" not in body
    assert body["max_tokens"] == 50


def test_clocks_of_a_target_replace_the_general_ones():
    config = parse_config(json.dumps(SECTION))
    assert "gap=7.0" in repr(config.policy_of("openai", model="gpt-5-mini"))
    assert "gap=7.0" not in repr(config.policy_of("openai", model="gpt-5"))


def clocks_of(timeouts, model_clocks):
    """The clocks of one model: of its transport, and those of its strategies."""
    sections = {
        "timeouts": {"first_byte_ms": 20_000},
        "providers": {"openai": {"timeouts": timeouts}},
        "models": {"openai/own": {"clocks": model_clocks}},
    }
    config = parse_config(json.dumps(sections))
    return config.timeouts_of("openai", model="own"), config


def test_every_clock_can_be_set_for_one_model():
    own = {
        "connectMs": 1000,
        "firstByteMs": 90_000,
        "unstreamedMs": 1_200_000,
        "thinkingMs": 300_000,
        "lingerMs": 500,
        "firstContentMs": 120_000,
        "gapMs": 50_000,
        "toolGapMs": None,
        "hedgeAfterMs": None,
    }
    timeouts, config = clocks_of({"connect_ms": 2000, "gap_ms": 9000}, own)
    clocks = timeouts.clocks
    assert (clocks.connect, clocks.first_byte, clocks.unstreamed) == (1.0, 90.0, 1200.0)
    assert (clocks.thinking, clocks.linger) == (300.0, 0.5)
    assert (timeouts.attempt.first_content, timeouts.attempt.gap, timeouts.attempt.tool_gap) == (120.0, 50.0, None)
    assert config.hedge_after_of("openai/own") is None
    assert config.hedge_after_of("openai/other") is not None
    assert config.timeouts_of("openai", model="other").clocks.connect == 2.0


def test_settings_that_a_model_leaves_out_are_those_of_its_provider():
    timeouts, _ = clocks_of({"connect_ms": 2000}, {"gap_ms": 1000})
    assert (timeouts.clocks.connect, timeouts.clocks.first_byte, timeouts.gap_ms) == (2.0, 20.0, 1000)


@pytest.mark.parametrize("bad", [{"connect_ms": -5}, {"linger_ms": -2}, {"gap_ms": "1s"}, {"total_ms": 5}])
def test_a_clock_that_is_none_is_an_error_with_its_place(bad):
    with pytest.raises(ConfigError, match=r"models\['openai/own'\]"):
        clocks_of({}, bad)


@pytest.mark.parametrize("own", [{"first_byte_ms": 100}, {"unstreamed_ms": 100}])
async def test_the_first_byte_of_a_model_has_its_own_clock(own):
    stream = "first_byte_ms" in own
    section = {"providers": {"openai": {"api_key": "k"}}, "models": {"openai/own": {"clocks": own}}}
    async with open_fault_server([Wait(1.0), Say("hi"), Finish()]) as server:
        section["providers"]["openai"]["api_base"] = server.url
        async with provider_maker(parse_config(json.dumps(section)))("openai") as provider:
            other = await provider.complete(ChatRequest([Message.user("q")], model="other", stream=stream), Call())
            with pytest.raises(ProviderTimeout):
                await provider.complete(ChatRequest([Message.user("q")], model="own", stream=stream), Call())
    assert other.text == "hi"


async def test_a_rule_that_there_is_not_is_an_error_with_its_place():
    config = parse_config(json.dumps({"models": {"openai/x": {"rules": {"refusess": []}}}}))
    with pytest.raises(ConfigError, match=r"models\['openai/x'\]\.rules\.refusess"):
        async with open_agent(["openai/x"], config=config, make_provider=None):
            pass


async def test_a_policy_carries_options():
    async with (
        open_fault_server([Say("hi"), Finish()]) as server,
        provider_named("anthropic", base_url=server.url, api_key="k") as provider,
        open_agent(
            ["anthropic/claude-sonnet-4-5"],
            providers={"anthropic": provider},
            turn=TurnPolicy(thinking_budget=2000, max_tokens=4000),
        ) as agent,
    ):
        await agent.ask("q")
        assert server.requests[0].body["thinking"] == {"type": "enabled", "budget_tokens": 2000}
