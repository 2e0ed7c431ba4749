"""The whole package in mock time and memory, from one seed: the same seed, the same events, at the same times."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from integration.accounting import PRICES
from integration.closing import check_closing
from integration.conversations import Line
from integration.models import script
from integration.users import Messenger, ask, disturb
from integration.world import World
from llm.histories import Target

from clawft_trio import Config, open_agent, parse_config
from clawft_trio.agent import LoopPolicy
from clawft_trio.chat import ChatRequest
from clawft_trio.mcp import McpOptions, StreamServer, Supervision, ToolServer
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.testing import ScriptedProvider, no_stall, seeded_scheduler, threadless
from clawft_trio.testing.mcp_server import ScriptedMcpServer
from clawft_trio.testing.vendor_rules import refusal

_OVERFLOWS = ["block", "reject", "drop_newest", "drop_oldest"]


def simulate(seed: int, folder: Path) -> list[str]:
    """Live through everything that *seed* holds, and return what was told, one line per event."""
    return told(simulated(seed, folder), folder)


def simulated(seed: int, folder: Path) -> World:
    """The world of *seed*, after its end."""
    world = World(seed)
    before = random.getstate()
    random.seed(seed)  # what nobody was given a source of chance for: the jitter of retries and restarts
    try:
        with seeded_scheduler(seed), threadless():
            trio.run(live, world, folder, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        random.setstate(before)
    world.accounting.check()
    return world


async def live(world: World, folder: Path) -> None:
    idle = trio.lowlevel.current_statistics().tasks_living
    models = {name: model(world, name) for name in ("one", "two")}
    messenger = Messenger(world)
    async with (
        # Threads run on the loop here (`threadless`), the store's transactions too: their time counts.
        no_stall(5.0),  # the database works on the loop here, and a shared disk may take its time
        far_server(world) as far,
        open_agent(
            ["one/a", "two/b"],
            providers=models,
            tools=world.tools(),
            mcp={"far": ToolServer(far, total=8.0)},
            mcp_options=McpOptions(supervision=Supervision(first_wait=0.5, probe_after=5.0)),
            workspace=folder,
            store=folder / "agent.db",
            config=config(world),
            loop=LoopPolicy(max_concurrent_turns=3, session_buffer_size=2, turn=60.0, grace=1e6, final_reply_grace=1e6),
            channels=[messenger],
            observers=[world.accounting.observe],
        ) as agent,
    ):
        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as asking:
                nursery.start_soon(disturb, world, agent)
                for number in range(4):
                    asking.start_soon(ask, world, agent, number)
                await world.quiet.wait()
            world.calm = True
            nursery.cancel_scope.cancel(reason="everybody has written everything")
        await agent.parts.loop.shutdown()
        while any(agent.bus.statistics().undelivered.values()) or agent.bus.statistics().outbound["sim"].depth:
            await trio.sleep(1)  # the channel is back, and gets what it missed
        await check_closing(world, agent)
    assert [one.running for one in models.values()] == [0, 0]
    assert trio.lowlevel.current_statistics().tasks_living == idle


def config(world: World) -> Config:
    return parse_config(
        json.dumps(
            {
                "bus": {
                    "inbound_buffer_size": 4,
                    "outbound_buffer_size": 2,
                    "delivery_wait": 0.5,
                    "inbound_overflow_policy": world.chance.choice(_OVERFLOWS),
                    "outbound_overflow_policy": world.chance.choice(_OVERFLOWS),
                },
                "routing": {"permissions": {"channels": {"sim": {"level": 2}}}},
                "tools": {"unapproved": True, "concurrency": 2},
                "timeouts": {"first_content_ms": 6000, "gap_ms": 5000, "hedge_after_ms": 2000, "total_ms": 60000},
                "retry": {"max_retries": 1, "base_delay_ms": 500},
                "prices": PRICES,
                "skills": {"user": None},
            }
        )
    )


# Each model's requests are judged as a vendor would judge them.
_TARGETS = {"one": ("anthropic", "claude-sonnet-4-5", "anthropic"), "two": ("mistral", "mistral-large", "mistral")}


def model(world: World, name: str) -> ScriptedProvider:
    target = Target(*_TARGETS[name])

    def choose(request: ChatRequest) -> list:
        complaint = refusal(target.vendor, target.written(target.conform(request)))
        world.accounting.expect(complaint is None, f"{target.vendor} refuses a request:", complaint)
        return script(world, [*map(Line.of, request.messages)], typed=request.response_schema is not None)

    return ScriptedProvider(name=name, choose=choose)


@asynccontextmanager
async def far_server(world: World) -> AsyncGenerator[StreamServer, None]:
    """An MCP server in memory that dies when it is told to, and is there again when it is asked for."""
    async with open_hidden_nursery() as nursery:

        async def connect():
            await trio.lowlevel.checkpoint()
            if world.maybe(0.1):
                raise ConnectionRefusedError("not yet")
            near, far = trio.testing.memory_stream_pair()
            nursery.start_soon(Mortal(world, far).run, far, far)
            return near, near

        yield StreamServer(connect)
        nursery.cancel_scope.cancel(reason="the simulation is over")


class Mortal(ScriptedMcpServer):
    """A server in memory: dying is closing its streams."""

    def __init__(self, world: World, stream: trio.StapledStream) -> None:
        super().__init__()
        self._world = world
        self._stream = stream

    async def _call_tool(self, params: dict) -> dict | None:
        if params["name"] == "die":
            await self._stream.aclose()
            return None
        if params["name"] == "echo":
            self._world.accounting.note_run(params["arguments"]["text"])
        return await super()._call_tool(params)


_ID = re.compile(r"\b[0-9a-f]{32}\b")


def told(world: World, folder: Path) -> list[str]:
    """The events, with ids by the order in which they first appear: they alone are not from the seed."""
    ids: dict[str, str] = {}

    def named(found: re.Match[str]) -> str:
        return ids.setdefault(found[0], f"id{len(ids)}")

    return [_ID.sub(named, repr(event).replace(str(folder), "~")) for event in world.accounting.events]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Tools fail on purpose here, and each would leave its traceback in the log."""
    caplog.set_level(logging.CRITICAL, logger="clawft_trio")


@pytest.mark.parametrize("seed", range(100))
def test_every_message_gets_one_reply_whatever_happens(seed: int, tmp_path: Path) -> None:
    simulate(seed, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 1100))
def test_every_message_gets_one_reply_whatever_happens_at_length(seed: int, tmp_path: Path) -> None:
    simulate(seed, tmp_path)


@pytest.mark.parametrize("seed", range(5))
def test_the_same_seed_gives_the_same_events_in_every_process(seed: int, tmp_path: Path) -> None:
    # The prompt names the workspace, and its tokens are paid for: the same path, then, for all of them.
    folder = tmp_path / "house"
    here = []
    for _ in range(2):
        folder.mkdir()
        here.append(simulate(seed, folder))
        shutil.rmtree(folder)
    assert here[0] == here[1]
    folder.mkdir()
    program = "import sys; from pathlib import Path; from integration.test_simulation import simulate; "
    program += "print(*simulate(int(sys.argv[1]), Path(sys.argv[2])), sep='\\n')"
    there = subprocess.run(
        [sys.executable, "-c", program, str(seed), str(folder)],
        env={**os.environ, "PYTHONHASHSEED": str(seed + 1), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.splitlines() == "\n".join(here[0]).splitlines()


def test_the_simulation_comes_through_every_kind_of_trouble(tmp_path: Path) -> None:
    """A simulation in which nothing goes wrong would show nothing."""
    told: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for seed in range(12):
        folder = tmp_path / str(seed)
        folder.mkdir()
        accounting = simulated(seed, folder).accounting
        told += accounting.told
        asked += accounting.asked
    assert {"streamed", "streamed and typed", "typed", "impatient"} <= set(asked)
    assert {
        "turn ok", "turn error", "turn cancelled", "attempt ok", "attempt failed", "attempt cancelled",
        "tool ok", "tool error", "tool timeout", "tool unknown", "tool invalid", "tool cancelled",
        "RetryScheduled", "FailedOver", "HedgeStarted", "Retracted", "BreakerChanged", "LockWaited", "Charged",
        "MessageDropped", "Undeliverable", "BusPressure", "ServerStarted", "ServerGone", "ServerCalled",
    } <= set(told)  # fmt: skip
