"""The `adaptive_limit` section of a configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from clawft_trio import ConfigError, open_agent
from clawft_trio.agent.from_config import turn_policy
from clawft_trio.chat import Call, ChatRequest, ChatResponse
from clawft_trio.config import Config, load_config


async def loaded(folder: Path, **sections: object) -> Config:
    path = folder / "config.json"
    path.write_text(json.dumps(sections))
    return await load_config(path)


@pytest.mark.parametrize(("enabled", "most"), [(False, 6), (True, 2)])
async def test_a_limit_is_kept_where_it_is_enabled(tmp_path: Path, enabled: bool, most: int) -> None:  # noqa: FBT001 - parametrized
    class Counting:
        name = "p"
        running = peak = 0
        enough = trio.Event()

        async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
            self.running += 1
            self.peak = max(self.peak, self.running)
            if self.running >= most:
                self.enough.set()
            await self.enough.wait()
            await trio.lowlevel.checkpoint()
            self.running -= 1
            return ChatResponse(content="ok", provider="p")

    model = Counting()
    limit = {"enabled": enabled, "initial": 2, "maxConcurrent": 2, "queueForMs": None}
    config = await loaded(tmp_path, adaptiveLimit=limit)
    async with open_agent(["p/m"], providers={"p": model}, config=config) as agent, trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(agent.ask, "hi")
    assert model.peak == most


@pytest.mark.parametrize("wrong", [{"initial": 0}, {"queueForMs": "soon"}, {"maxConcurrent": 1.5}])
async def test_what_does_not_fit_is_named(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"adaptive"):
        await loaded(tmp_path, adaptiveLimit=wrong)


async def test_early_calls_are_configured(tmp_path: Path) -> None:
    config = await loaded(tmp_path, agents={"defaults": {"eager": "off"}})
    assert turn_policy(config).eager == "off"
    assert turn_policy(Config()).eager == "read_only"
