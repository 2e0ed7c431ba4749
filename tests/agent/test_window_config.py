"""What a configuration says of windows, compaction and prompt caches."""

from __future__ import annotations

import json

import pytest

from clawft_trio import ConfigError
from clawft_trio.agent.compaction import SummaryCompactor
from clawft_trio.agent.from_config import turn_policy, window_of
from clawft_trio.config import Config, load_config
from clawft_trio.costs import Prices
from clawft_trio.pipeline import MODEL_WINDOWS, Target, by_pattern


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


async def test_the_price_lists_windows_come_before_the_table(tmp_path) -> None:
    class List:
        def __call__(self, *_: object, **__: object) -> None:
            return None

        def context_window(self, provider: str, model: str, /) -> int | None:
            return {("openai", "gpt-5"): 400_000, ("openai", "gpt-4o"): 64_000}.get((provider, model))

    config = await loaded(tmp_path, context_windows={"openai/gpt-4o": 50_000})
    prices = Prices(listed=List(), unlisted={"mine"}, vendors={"own": "openai"}, aliases={"azure/*": "openai/*"})
    look_up = window_of(config, ["own", "mine"], prices)
    assert look_up(Target("openai", "gpt-4o")) == 50_000
    assert look_up(Target("own", "gpt-4o")) == 64_000
    assert look_up(Target("azure", "gpt-4o")) == 64_000
    assert look_up(Target("mine", "gpt-4o")) is None
    assert look_up(Target("openai", "o3")) == 200_000


async def test_a_part_of_a_large_window_is_kept_for_output() -> None:
    look_up = window_of(Config(), [])
    assert look_up(Target("openai", "gpt-5-mini")) == 272_000
    assert look_up(Target("openai", "gpt-4.1")) == 1_000_000


def test_the_table_states_no_larger_window_than_the_price_list() -> None:
    listed = pytest.importorskip("genai_prices.data").providers
    ours = {"anthropic": "anthropic", "openai": "openai", "google": "gemini", "x-ai": "xai", "moonshotai": "moonshot"}
    look_up = by_pattern(MODEL_WINDOWS)
    stated = {
        f"{ours[vendor.id]}/{model.id}": (window, model.context_window)
        for vendor in listed
        if vendor.id in ours
        for model in vendor.models
        if model.context_window and "emb" not in model.id and "live" not in model.id and "1.0" not in model.id
        if (window := look_up(Target(ours[vendor.id], model.id)))
    }
    assert len(stated) > 50
    assert {name: sizes for name, sizes in stated.items() if sizes[0] > sizes[1]} == {
        "gemini/gemini-pro": (10**6, 32768)
    }
