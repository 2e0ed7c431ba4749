"""The whole package with real sockets, a real child process, a real file and a real clock, for thousands of turns."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
from integration.accounting import PRICES
from integration.closing import check_closing
from integration.conversations import Line
from integration.models import script
from integration.users import Messenger, ask, disturb
from integration.world import World

from clawft_trio import (
    CircuitBreaker,
    Config,
    OpenAICompatible,
    Retry,
    StdioServer,
    Timeout,
    compose,
    open_agent,
    parse_config,
)
from clawft_trio.agent import Agent, LoopPolicy
from clawft_trio.codec import encode_json
from clawft_trio.llm import VENDORS
from clawft_trio.mcp import McpOptions, Supervision, ToolServer
from clawft_trio.testing import nothing_left, open_fault_server
from clawft_trio.testing.mcp_server import scripted_server
from clawft_trio.testing.script_player import SeenRequest

_UNIT = 0.004
"""Seconds of one ordinary pause: as short as may be, for the turns' work is what takes the time."""


@attrs.define
class Memory:
    """How much the process holds, looked at again and again."""

    samples: list[tuple[int, int]] = attrs.field(factory=list)

    def look(self) -> None:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.samples.append((pages * os.sysconf("SC_PAGE_SIZE"), len(gc.get_objects())))

    def check(self) -> None:
        """What is held at the quietest moment of the last third is what was held at that of the second."""
        third = len(self.samples) // 3
        assert third >= 3, self.samples
        middle, last = self.samples[third : 2 * third], self.samples[2 * third :]
        for name, unit, number in (("bytes", 2**21, 0), ("objects", 2000, 1)):
            before, after = min(one[number] for one in middle), min(one[number] for one in last)
            assert after - before <= 0.02 * before + unit, (name, before, after, self.samples)


_POLICY = compose(
    Retry(max_retries=1, first_wait=0.005),
    CircuitBreaker(window=1.0, minimum_calls=10, open_for=0.05, longest_open=0.2),
    Timeout(first_content=0.25, gap=0.25),
)


async def soak(world: World, folder: Path) -> Memory:
    """Live through *world* over sockets and pipes."""
    memory = Memory()
    async with (
        open_fault_server(choose=partial(chosen, world), accepts="openai") as server,
        OpenAICompatible("one", base_url=server.url, accepts=VENDORS["openai"]) as one,
        OpenAICompatible("two", base_url=server.url, accepts=VENDORS["openai"]) as two,
        open_agent(
            ["one/a", "two/b"],
            providers={"one": one, "two": two},
            tools=world.tools(),
            mcp={"far": ToolServer(StdioServer(scripted_server()), total=20 * _UNIT)},
            mcp_options=McpOptions(supervision=Supervision(first_wait=0.05, longest_wait=0.2, max_restarts=1_000_000)),
            policy=_POLICY,
            workspace=folder,
            store=folder / "agent.db",
            config=config(),
            loop=LoopPolicy(max_concurrent_turns=16, session_buffer_size=2, turn=10.0, grace=120.0, remembered_ids=100),
            channels=[Messenger(world)],
            observers=[world.accounting.observe],
        ) as agent,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(disturb, world, agent, every=100))
            nursery.start_soon(keep_asking, world, agent)
            nursery.start_soon(keep_looking, memory, agent, server.exchanges)
            await world.quiet.wait()
            nursery.cancel_scope.cancel(reason="everybody has written everything")
        world.calm = True
        await agent.parts.loop.shutdown()
        while any(agent.bus.statistics().undelivered.values()) or agent.bus.statistics().outbound["sim"].depth:
            await trio.sleep(_UNIT)
        await check_closing(world, agent)
    assert server.refusals == []
    return memory


async def keep_asking(world: World, agent: Agent) -> None:
    """Local questions beside the messages of the bus, over and over."""
    number = 0
    while True:
        number += 1
        await ask(world, agent, number % 5)


async def keep_looking(memory: Memory, agent: Agent, kept: list[object]) -> None:
    """Look at the memory after every so many turns; the fault server's own books are none of the agent's."""
    seen = 0
    while True:
        await trio.sleep(0.05)
        done = agent.parts.loop.statistics()
        if done.answered + done.failed + done.cancelled >= seen + 25:
            seen = done.answered + done.failed + done.cancelled
            kept[:-50] = []
            memory.look()


def chosen(world: World, request: SeenRequest) -> list:
    lines = [Line.of_wire(message) for message in request.body["messages"]]
    return script(world, lines, typed="response_format" in request.body, wire=True)


def config() -> Config:
    settings = {
        "bus": {"inbound_buffer_size": 64, "outbound_buffer_size": 2, "delivery_wait": 0.05},
        "routing": {"permissions": {"channels": {"sim": {"level": 2}}}},
        "tools": {"unapproved": True},
        "timeouts": {"hedge_after_ms": 100, "total_ms": 10000},
        "prices": PRICES,
        "skills": {"user": None},
    }
    return parse_config(encode_json(settings))


@asynccontextmanager
async def no_process_left() -> AsyncGenerator[None, None]:
    yield
    with pytest.raises(ChildProcessError):  # there is nobody to wait for
        os.waitpid(-1, os.WNOHANG)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Tools fail on purpose here, and each would leave its traceback in the log."""
    caplog.set_level(logging.CRITICAL, logger="clawft_trio")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("chats", "messages"),
    [
        pytest.param(10, 10, id="100 turns"),
        pytest.param(50, 200, id="10 000 turns", marks=[pytest.mark.long, pytest.mark.timeout(2400)]),
    ],
)
async def test_a_soak_leaves_nobody_without_a_reply_and_nothing_behind(
    chats: int, messages: int, tmp_path: Path
) -> None:
    world = World(
        seed := int.from_bytes(os.urandom(4)),
        unit=_UNIT,
        chats=chats,
        messages=messages,
        deaths=0.02,
        late=2.0,
        log=False,
    )
    print("seed", seed)
    check_nothing_left = nothing_left()
    async with no_process_left():
        memory = await soak(world, tmp_path)
        await check_nothing_left()
    world.accounting.check()
    if messages >= 100:
        memory.check()
    print(world.accounting.told, world.accounting.asked, sep="\n")
