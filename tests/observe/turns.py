"""A turn in which nearly everything happens, in mock time, and its events."""

from __future__ import annotations

import trio
from judged import ScriptedProvider

from clawft_trio.agent import open_agent
from clawft_trio.attempts import Usage
from clawft_trio.config import parse_config
from clawft_trio.errors import ServerError, TransportFailed
from clawft_trio.observe import Observer, Recorder
from clawft_trio.resilience import Retry
from clawft_trio.testing import CallTool, Fail, Finish, Hang, Say, Wait
from clawft_trio.tools import tool

USAGE = Usage(input_tokens=100, output_tokens=20)


@tool(mode="read_only")
async def weather(city: str) -> str:
    """The weather in a city."""
    await trio.sleep(2)
    return f"{city}: rain"


@tool(mode="read_only")
async def broken() -> str:
    """Fails."""
    await trio.sleep(1)
    raise RuntimeError("out of order")


@tool(mode="exclusive")
async def alone() -> str:
    """Runs when nothing else does."""
    await trio.sleep(0.5)
    return "done"


def troubled() -> dict[str, ScriptedProvider]:
    """Providers for one turn: a retry, a failover and three tools; then a hedge."""
    a = ScriptedProvider(
        [Wait(1), Say("I will "), Fail(lambda: TransportFailed("reset", provider="a", model="one"))],
        [Wait(1), Fail(lambda: ServerError("down", provider="a", model="one", status=500))],
        [Hang()],
        name="a",
    )
    tools = [CallTool("weather", {"city": "Oslo"}, id="w"), CallTool("broken", id="b"), CallTool("alone", id="x")]
    b = ScriptedProvider(
        [Wait(1), Say("Let me look."), Wait(1), *tools, Finish(usage=USAGE)],
        [Wait(2), Say("Rain."), Finish(usage=USAGE)],
        name="b",
    )
    return {"a": a, "b": b}


async def play(*observers: Observer) -> Recorder:
    """Run that turn; the events."""
    seen = Recorder()
    config = parse_config('{"timeouts": {"hedgeAfterMs": 5000}}')
    async with open_agent(
        ["a/one", "b/two"],
        providers=troubled(),
        tools=[weather, broken, alone],
        policy=Retry(max_retries=1, first_wait=1.0, jitter=0.0),
        config=config,
        observers=[*observers, seen],
    ) as agent:
        await agent.ask("What do I wear?", sender_id="ana", session="local:ana")
    return seen
