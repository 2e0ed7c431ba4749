"""What a fan-out costs per call: checked arguments, a deadline and locks, against a bare nursery and against peers.

    python -m benchmarks.bench_fan_out

1 000 tools that do nothing, in one run with 1 000 `nursery.start_soon` of a function that does nothing; the rounds
take turns, and of each side the best counts.

Then the same batch, by whichever of these is installed, rounds interleaved, medians of CPU time:

    pip install pydantic-ai-slim langgraph langchain-core openai-agents

Each runs 1 000 calls of one async tool `(number: int, text: str = "") -> str` from one scripted model answer, by its
own machinery, arguments validated. Making the answer, the model and its next request are not in the number.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from importlib.metadata import version
from typing import Any, TypeAlias

import attrs
import trio

from clawft_trio.auth import AuthContext
from clawft_trio.chat import ToolCall
from clawft_trio.tools import ToolContext, ToolRegistry, tool

CALLS = 1000
CONTEXT = ToolContext(auth=AuthContext.local())


@attrs.frozen(kw_only=True)
class FanOutCost:
    """Microseconds of CPU per call."""

    #: `execute_all`, a tool without paths
    fan_out: float
    #: `execute_all`, each call with a path of its own to lock
    with_paths: float
    #: `nursery.start_soon` of a function that returns at once
    bare: float

    @property
    def ratio(self) -> float:
        """How much more a call costs than a bare task."""
        return self.fan_out / self.bare


@tool(mode="read_only", total=30)
async def nothing(number: int, text: str = "") -> str:
    """Do nothing."""
    return "done"


@tool(total=30, writes="path")
async def nothing_to(path: str) -> str:
    """Do nothing to a path."""
    return "done"


async def bare_nursery() -> None:
    async def nothing_at_all() -> None:
        pass

    async with trio.open_nursery() as nursery:
        for _ in range(CALLS):
            nursery.start_soon(nothing_at_all)


def fan_out_of(name: str, argument: str) -> Callable[[], Awaitable[object]]:
    registry = ToolRegistry([nothing, nothing_to])
    calls = [
        ToolCall(id=str(n), name=name, arguments=json.dumps({argument: n if argument == "number" else f"d{n % 9}/{n}"}))
        for n in range(CALLS)
    ]
    return lambda: registry.execute_all(calls, CONTEXT)


async def cost_of(operation: Callable[[], Awaitable[object]]) -> float:
    # CPU of this thread: what other programs do on the machine is not counted.
    began = time.thread_time()
    await operation()
    return (time.thread_time() - began) / CALLS * 1e6


async def measure(rounds: int = 15) -> FanOutCost:
    """Measure in one run; a second or two."""
    sides = (fan_out_of("nothing", "number"), fan_out_of("nothing_to", "path"), bare_nursery)
    seen = [[await cost_of(side) for side in sides] for _ in range(rounds)]
    fan_out, with_paths, bare = (min(column) for column in zip(*seen, strict=True))
    return FanOutCost(fan_out=fan_out, with_paths=with_paths, bare=bare)


# --- peers -----------------------------------------------------------------------------------------------------

Batch: TypeAlias = Callable[[], Coroutine[Any, Any, float]]
"""Runs one batch on asyncio; the CPU seconds that it took."""

ARGUMENTS = [{"number": n} for n in range(CALLS)]


@attrs.frozen
class Side:
    """A system, and what its batch cost."""

    name: str
    #: what the number covers, or why there is none
    covers: str
    #: CPU microseconds per call, the median of all rounds
    per_call: float | None = None


class Meter:
    """Counts the calls of a tool, and the CPU time of this process around them."""

    def __init__(self) -> None:
        self._calls = 0
        self._began = 0.0

    def begin(self) -> None:
        # The garbage of the side before is not this one's.
        gc.collect()
        self._calls = 0
        self._began = time.process_time()

    def note(self) -> str:
        self._calls += 1
        return "done"

    def end(self) -> float:
        took = time.process_time() - self._began
        assert self._calls == CALLS, f"{self._calls} calls ran"
        return took


def pydantic_ai_batch() -> Batch:
    from pydantic_ai import Agent, CallToolsNode
    from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
    from pydantic_ai.models.function import AgentInfo, FunctionModel
    from pydantic_graph import End

    meter = Meter()

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if len(messages) > 1:
            return ModelResponse(parts=[TextPart("done")])
        return ModelResponse(
            parts=[ToolCallPart("nothing", json.dumps(a), tool_call_id=str(n)) for n, a in enumerate(ARGUMENTS)]
        )

    agent = Agent(FunctionModel(answer))

    @agent.tool_plain
    async def nothing(number: int, text: str = "") -> str:
        """Do nothing."""
        return meter.note()

    async def batch() -> float:
        took = 0.0
        async with agent.iter("go") as run:
            node = run.next_node
            while not isinstance(node, End):
                first_tools = isinstance(node, CallToolsNode) and not took
                meter.begin() if first_tools else None
                node = await run.next(node)
                took = meter.end() if first_tools else took
        return took

    return batch


def langgraph_batch() -> Batch:
    from langchain_core.messages import AIMessage
    from langchain_core.tools import tool as langchain_tool
    from langgraph.prebuilt import ToolNode
    from langgraph.runtime import Runtime

    meter = Meter()

    @langchain_tool
    async def nothing(number: int, text: str = "") -> str:
        """Do nothing."""
        return meter.note()

    node = ToolNode([nothing])
    answer = AIMessage("", tool_calls=[{"name": "nothing", "args": a, "id": str(n)} for n, a in enumerate(ARGUMENTS)])
    # What a graph hands to its nodes; without it, a node cannot run alone.
    config = {"configurable": {"__pregel_runtime": Runtime()}}

    async def batch() -> float:
        meter.begin()
        said = await node.ainvoke({"messages": [answer]}, config=config)
        took = meter.end()
        assert all(message.status == "success" for message in said["messages"])
        return took

    return batch


def openai_agents_batch() -> Batch:
    from agents import Agent, RunConfig, RunContextWrapper, RunHooks, function_tool, trace
    from agents.run_internal.agent_bindings import bind_public_agent
    from agents.run_internal.run_steps import ToolRunFunction
    from agents.run_internal.tool_execution import execute_function_tool_calls
    from openai.types.responses import ResponseFunctionToolCall

    meter = Meter()

    @function_tool
    async def nothing(number: int, text: str = "") -> str:
        """Do nothing."""
        return meter.note()

    bindings = bind_public_agent(Agent(name="bench", tools=[nothing]))
    called = partial(ResponseFunctionToolCall, name="nothing", type="function_call")
    calls = [called(arguments=json.dumps(a), call_id=str(n)) for n, a in enumerate(ARGUMENTS)]

    async def batch() -> float:
        runs = [ToolRunFunction(call, nothing) for call in calls]
        with trace("bench", disabled=True):
            meter.begin()
            results, *_ = await execute_function_tool_calls(
                bindings=bindings,
                tool_runs=runs,
                hooks=RunHooks(),
                context_wrapper=RunContextWrapper(None),
                config=RunConfig(tracing_disabled=True),
            )
            took = meter.end()
        assert all(result.output == "done" for result in results)
        return took

    return batch


PEERS: dict[str, tuple[Callable[[], Batch], str]] = {
    "pydantic-ai-slim": (pydantic_ai_batch, "its CallToolsNode, run to its end; arguments as JSON"),
    "langgraph": (langgraph_batch, "ToolNode.ainvoke outside a graph; arguments come parsed"),
    "openai-agents": (openai_agents_batch, "execute_function_tool_calls alone, tracing off; arguments as JSON"),
}


def our_batch(operation: Callable[[], Awaitable[Any]]) -> float:
    async def batch() -> float:
        gc.collect()
        began = time.process_time()
        answers = await operation()
        took = time.process_time() - began
        assert answers is None or [answer.outcome for answer in answers] == ["ok"] * CALLS
        return took

    return trio.run(batch)


def measure_peers(rounds: int = 7) -> list[Side]:
    """Measure ourselves and every peer that is installed, in turns; about three seconds a round."""
    sides = [
        Side("clawft_trio", "ToolRegistry.execute_all, deadlines on; arguments as JSON"),
        Side("clawft_trio, with paths", "the same, each call with a path to lock; its thread is counted"),
        Side("trio", "nursery.start_soon of a bare function"),
    ]
    batches: list[Callable[[], float]] = [
        partial(our_batch, fan_out_of("nothing", "number")),
        partial(our_batch, fan_out_of("nothing_to", "path")),
        partial(our_batch, bare_nursery),
    ]
    missing: list[Side] = []
    for name, (prepare, covers) in PEERS.items():
        try:
            batch = prepare()
        except ImportError as exc:
            missing.append(Side(name, f"not here: {exc}"))
            continue
        sides.append(Side(f"{name} {version(name)}", covers))
        batches.append(lambda batch=batch: asyncio.run(batch()))
    # The first round warms up: caches of validators, imports on first use.
    seen = [[batch() / CALLS * 1e6 for batch in batches] for _ in range(rounds + 1)][1:]
    medians = map(statistics.median, zip(*seen, strict=True))
    return [attrs.evolve(side, per_call=cost) for side, cost in zip(sides, medians, strict=True)] + missing


def main() -> None:
    cost = trio.run(measure)
    print(f"bare start_soon     {cost.bare:6.1f} us")
    print(f"fan-out             {cost.fan_out:6.1f} us, {cost.ratio:.1f} times")
    print(f"fan-out with paths  {cost.with_paths:6.1f} us on the loop, and the paths in a thread")
    print()
    for side in measure_peers():
        figure = "     -" if side.per_call is None else f"{side.per_call:6.1f}"
        print(f"{side.name:26}{figure} us  {side.covers}")


if __name__ == "__main__":
    main()
