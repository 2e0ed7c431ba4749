"""What a configuration says of windows, compaction and prompt caches."""

from __future__ import annotations

import json

import pytest

from clawft_trio import ConfigError
from clawft_trio.agent.compaction import SummaryCompactor
from clawft_trio.agent.from_config import turn_policy, window_of
from clawft_trio.config import Config, load_config
from clawft_trio.pipeline import Target


async def loaded(tmp_path, **config: object) -> Config:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    return await load_config(path)


async def test_windows_are_the_configurations_then_the_tables(tmp_path) -> None:
    config = await loaded(
        tmp_path,
        context_windows={"vllm/*": 32_768, "anthropic/claude-opus-*": 100_000},
        providers={"openai": {"api_base": "http://localhost:4000/v1"}},
    )
    look_up = window_of(config, ["gemini"])
    assert look_up(Target("vllm", "qwen")) == 32_768
    assert look_up(Target("anthropic", "claude-opus-4-5")) == 100_000
    assert look_up(Target("anthropic", "claude-haiku-4-5")) == 200_000
    # Behind an address or an object of the user's own there may be any model.
    assert look_up(Target("openai", "gpt-5")) is None
    assert look_up(Target("gemini", "gemini-2.5-pro")) is None


@pytest.mark.parametrize("windows", [{"p/*": 0}, {"p/*": "many"}, {"p/*": 1.5}])
async def test_a_window_is_a_number_of_tokens(tmp_path, windows: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="context_windows"):
        await loaded(tmp_path, context_windows=windows)


async def test_compaction_and_caches_are_configured(tmp_path) -> None:
    defaults = {"compaction_model": "openai/gpt-5-nano", "prompt_cache": "1h"}
    policy = turn_policy(await loaded(tmp_path, agents={"defaults": defaults}))
    assert policy.compaction.compactor == SummaryCompactor(model="openai/gpt-5-nano")
    assert policy.prompt_cache == "1h"
    off = turn_policy(await loaded(tmp_path, agents={"defaults": {"compaction": False}}))
    assert off.compaction.compactor is None
    assert turn_policy(Config()).compaction.compactor == SummaryCompactor()
