"""Tools that start while the model still streams: an answer of 400 ms that calls three tools of 200 ms on its way."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Literal

import trio

from benchmarks.bench import Bench, Case, Figure, Goal, Open, Round, Setting, Stopwatch
from clawft_trio import TurnPolicy, open_agent, tool
from clawft_trio.testing import CallTool, Finish, Say, ScriptedProvider, Wait

STREAM, TOOL = 0.4, 0.2
"""Seconds that the first answer is streamed, and that each tool takes. The calls are complete at 0.1, 0.2 and 0.3."""

TURN = Figure("turn_ms", "turn, ms")


@tool(mode="read_only")
async def look(place: str) -> str:
    """Look at a place."""
    await trio.sleep(TOOL)
    return f"rain in {place}"


def asking(eager: Literal["off", "read_only"]) -> Open:
    """Turns of an agent in memory, one after another."""

    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        calls = [step for place in "abc" for step in (Wait(STREAM / 4), CallTool("look", {"place": place}))]
        script = [*calls, Wait(STREAM / 4), Finish()]
        model = ScriptedProvider(
            choose=lambda request: [Say("A coat."), Finish()] if request.messages[-1].role == "tool" else script
        )
        policy = TurnPolicy(eager=eager)
        async with open_agent(["p/m"], providers={"p": model}, tools=[look], turn=policy) as agent:

            async def one_round(watch: Stopwatch) -> None:
                turns, began = setting.sized(5, 1), time.perf_counter()
                for _ in range(turns):
                    await agent.ask("go")
                watch.note(TURN.key, (time.perf_counter() - began) * 1e3 / turns)

            yield one_round

    return opened


ORDERED = "after the answer"

BENCH = Bench(
    title="three tools of 200 ms, called at 100, 200 and 300 ms of an answer of 400 ms",
    item="turn",
    limit="The last tool starts at 300 ms and takes 200: 500 ms. After the answer, it is 600.",
    against=ORDERED,
    figures=(TURN,),
    rounds=5,
    cases=(
        Case(ORDERED, asking("off")),
        Case("while it streams", asking("read_only")),
    ),
    goals=(
        Goal(
            says="a turn whose tools start while the model streams, of one that waits",
            of="while it streams",
            to=ORDERED,
            figure="turn_ms",
            at_most=0.9,
        ),
    ),
)
