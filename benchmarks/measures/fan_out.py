"""Tools side by side: checked arguments, a deadline and locks, against a bare nursery and against peers.

Everybody runs the calls of one async tool `(number: int, text: str = "") -> str` of one scripted answer, by its own
machinery, arguments validated. Making the answer, the model and its next request are not in the figure.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial

import trio

from benchmarks.bench import Bench, Case, Goal, Open, Round, Setting, Stopwatch
from clawft_trio.auth import AuthContext
from clawft_trio.chat import ToolCall
from clawft_trio.tools import ToolContext, ToolRegistry, tool

CALLS = 1000


def _sized(setting: Setting, calls: int) -> int:
    return setting.sized(calls, min(calls, 20))


class Counted:
    """The tool's own side: how often it ran."""

    def __init__(self) -> None:
        self.calls = 0

    def note(self) -> str:
        self.calls += 1
        return "done"

    def timed(self, watch: Stopwatch, calls: int) -> AbstractContextManager[None]:
        self.calls = 0
        return watch.timing(calls)


@tool(mode="read_only", total=30)
async def nothing(number: int, text: str = "") -> str:
    """Do nothing."""
    return "done"


@tool(total=30, writes="path")
async def nothing_to(path: str) -> str:
    """Do nothing to a path."""
    return "done"


def fan_out(name: str, argument: Callable[[int], object], calls: int = CALLS) -> Open:
    """Rounds of `execute_all`."""

    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        count, registry = _sized(setting, calls), ToolRegistry([nothing, nothing_to])
        context = ToolContext(auth=AuthContext.local())
        key = "number" if name == "nothing" else "path"
        asked = [ToolCall(id=str(n), name=name, arguments=json.dumps({key: argument(n)})) for n in range(count)]

        async def one_round(watch: Stopwatch) -> None:
            with watch.timing(count):
                answers = await registry.execute_all(asked, context)
            assert [answer.outcome for answer in answers] == ["ok"] * count

        yield one_round

    return opened


def bare_nursery(calls: int = CALLS) -> Open:
    async def nothing_at_all() -> None:
        pass

    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        count = _sized(setting, calls)

        async def one_round(watch: Stopwatch) -> None:
            with watch.timing(count):
                async with trio.open_nursery() as nursery:
                    for _ in range(count):
                        nursery.start_soon(nothing_at_all)

        yield one_round

    return opened


@asynccontextmanager
async def pydantic_ai(setting: Setting) -> AsyncGenerator[Round, None]:
    from pydantic_ai import Agent, CallToolsNode
    from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
    from pydantic_ai.models.function import AgentInfo, FunctionModel
    from pydantic_graph import End

    counted, calls = Counted(), _sized(setting, CALLS)

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if len(messages) > 1:
            return ModelResponse(parts=[TextPart("done")])
        asked = [ToolCallPart("nothing", json.dumps({"number": n}), tool_call_id=str(n)) for n in range(calls)]
        return ModelResponse(parts=asked)

    agent = Agent(FunctionModel(answer))

    @agent.tool_plain
    async def nothing(number: int, text: str = "") -> str:
        """Do nothing."""
        return counted.note()

    async def one_round(watch: Stopwatch) -> None:
        async with agent.iter("go") as run:
            node = run.next_node
            while not isinstance(node, End):
                if isinstance(node, CallToolsNode) and not watch.items:
                    with counted.timed(watch, calls):
                        node = await run.next(node)
                else:
                    node = await run.next(node)
        assert counted.calls == calls

    yield one_round


@asynccontextmanager
async def langgraph(setting: Setting) -> AsyncGenerator[Round, None]:
    from langchain_core.messages import AIMessage
    from langchain_core.tools import tool as langchain_tool
    from langgraph.prebuilt import ToolNode
    from langgraph.runtime import Runtime

    counted, calls = Counted(), _sized(setting, CALLS)

    @langchain_tool
    async def nothing(number: int, text: str = "") -> str:
        """Do nothing."""
        return counted.note()

    node = ToolNode([nothing])
    asked = [{"name": "nothing", "args": {"number": n}, "id": str(n)} for n in range(calls)]
    # What a graph hands to its nodes; without it, a node cannot run alone.
    config = {"configurable": {"__pregel_runtime": Runtime()}}

    async def one_round(watch: Stopwatch) -> None:
        with counted.timed(watch, calls):
            said = await node.ainvoke({"messages": [AIMessage("", tool_calls=asked)]}, config=config)
        assert counted.calls == calls
        assert all(message.status == "success" for message in said["messages"])

    yield one_round


@asynccontextmanager
async def openai_agents(setting: Setting) -> AsyncGenerator[Round, None]:
    from agents import Agent, RunConfig, RunContextWrapper, RunHooks, function_tool, trace
    from agents.run_internal.agent_bindings import bind_public_agent
    from agents.run_internal.run_steps import ToolRunFunction
    from agents.run_internal.tool_execution import execute_function_tool_calls
    from openai.types.responses import ResponseFunctionToolCall

    counted, calls = Counted(), _sized(setting, CALLS)

    @function_tool
    async def nothing(number: int, text: str = "") -> str:
        """Do nothing."""
        return counted.note()

    bindings = bind_public_agent(Agent(name="bench", tools=[nothing]))
    called = partial(ResponseFunctionToolCall, name="nothing", type="function_call")
    asked = [called(arguments=json.dumps({"number": n}), call_id=str(n)) for n in range(calls)]

    async def one_round(watch: Stopwatch) -> None:
        runs = [ToolRunFunction(call, nothing) for call in asked]
        with trace("bench", disabled=True), counted.timed(watch, calls):
            results, *_ = await execute_function_tool_calls(
                bindings=bindings,
                tool_runs=runs,
                hooks=RunHooks(),
                context_wrapper=RunContextWrapper(None),
                config=RunConfig(tracing_disabled=True),
            )
        assert all(result.output == "done" for result in results)

    yield one_round


BARE = "nursery.start_soon of a bare function"
OURS = "execute_all"

_PEERS = (
    Case(
        "pydantic-ai",
        pydantic_ai,
        role="peer",
        loop="asyncio",
        needs="pydantic-ai-slim",
        covers="its CallToolsNode, run to its end; arguments as JSON",
    ),
    Case(
        "langgraph ToolNode",
        langgraph,
        role="peer",
        loop="asyncio",
        needs="langgraph",
        covers="`ainvoke` outside a graph; arguments come parsed",
    ),
    Case(
        "openai-agents",
        openai_agents,
        role="peer",
        loop="asyncio",
        needs="openai-agents",
        covers="`execute_function_tool_calls` alone, tracing off; arguments as JSON",
    ),
)

BENCH = Bench(
    title="a thousand tool calls side by side",
    item="call",
    limit="A trio task per call that does nothing: no arguments, no deadline, no locks, no answer.",
    against=BARE,
    cases=(
        Case(BARE, bare_nursery(), role="limit"),
        Case(OURS, fan_out("nothing", lambda number: number), covers="a deadline each; arguments as JSON, validated"),
        Case(
            "execute_all, a path locked by each",
            fan_out("nothing_to", lambda number: f"d{number % 9}/{number}"),
            covers="the thread that resolves the paths is counted",
        ),
        *_PEERS,
    ),
    goals=(
        Goal(says="a tool call in a fan-out of 1 000, of a bare nursery's task", of=OURS, to=BARE, at_most=4),
        *(Goal(says=f"the same, of {peer.name}", of=OURS, to=peer.name, at_most=1) for peer in _PEERS),
    ),
)
