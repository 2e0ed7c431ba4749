"""A whole turn of an agent: two requests to a model, and one tool in between."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from typing import Any, TypeAlias

import httpx
import trio

from benchmarks.bench import CPU, WALL, Bench, Case, Goal, Open, Round, Setting, Stopwatch
from benchmarks.clients import KEY, MODEL
from clawft_trio import open_agent, tool
from clawft_trio.llm import OpenAICompatible

WORDS = 20
TURNS = 100
PARAMETERS = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
FUNCTION = {"name": "look", "description": "Look at a place.", "parameters": PARAMETERS}

Ask: TypeAlias = Callable[[], Awaitable[str]]


@tool
async def look(place: str) -> str:
    """Look at a place."""
    return f"rain in {place}"


def asking(open_agents: Callable[[str], Any]) -> Open:
    """Rounds of turns, one after another, each a conversation of its own."""

    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        turns = setting.sized(TURNS, 3)
        async with open_agents(setting.url_of(f"turn-{WORDS}")) as ask:

            async def one_round(watch: Stopwatch) -> None:
                with watch.timing(turns):
                    for _ in range(turns):
                        assert len((await ask()).split()) == WORDS

            yield one_round

    return opened


Messages: TypeAlias = list[dict[str, Any]]
Answer: TypeAlias = tuple[str, list[dict[str, Any]]]


async def request(client: httpx.AsyncClient, url: str, messages: Messages) -> Answer:
    """Make one streamed request by hand, and return its text and its tool calls."""
    text, calls, rest = "", [], b""
    tools = [{"type": "function", "function": FUNCTION}]
    body = {"model": MODEL, "stream": True, "messages": messages, "tools": tools}
    async with client.stream("POST", f"{url}/chat/completions", json=body) as response:
        async for data in response.aiter_bytes():
            *events, rest = (rest + data).split(b"\n\n")
            for event in events:
                if event == b"data: [DONE]":
                    continue
                for choice in json.loads(event[6:])["choices"]:
                    text += choice["delta"].get("content") or ""
                    calls += choice["delta"].get("tool_calls") or []
    return text, calls


async def turn(ask_model: Callable[[Messages], Awaitable[Answer]], use: Callable[..., Awaitable[str]]) -> str:
    messages: Messages = [{"role": "user", "content": "go"}]
    _, [call] = await ask_model(messages)
    result = await use(**json.loads(call["function"]["arguments"]))
    messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
    messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
    return (await ask_model(messages))[0]


@asynccontextmanager
async def bare_httpx(url: str) -> AsyncGenerator[Ask, None]:
    """Two streamed requests by hand, with the tool called in between, and nothing else."""
    async with httpx.AsyncClient() as client:
        yield lambda: turn(partial(request, client, url), look.wrapped)


@asynccontextmanager
async def with_clocks_and_rows(url: str) -> AsyncGenerator[Ask, None]:
    """The same by hand, with the least that an agent's promises take.

    Each request has a clock for the whole and a task that watches its silence, the tool has a task and a deadline, and
    the question, the reservations, their settlements and the answer are eight transactions in memory.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as rows:
        rows.execute("CREATE TABLE notes (place INTEGER PRIMARY KEY, turn INTEGER, note TEXT)")
        note = "x" * 200
        number = 0

        def write() -> None:
            rows.execute("BEGIN IMMEDIATE")
            rows.execute("INSERT INTO notes (turn, note) VALUES (?, ?)", (number, note))
            rows.execute("SELECT note FROM notes WHERE place = last_insert_rowid()").fetchone()
            rows.execute("COMMIT")

        async def watched(messages: Messages) -> Answer:
            write()
            with trio.fail_after(120):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.sleep, 60)
                    answer = await request(client, url, messages)
                    nursery.cancel_scope.cancel()
            write()
            return answer

        async def use(place: str) -> str:
            results: list[str] = []

            async def run() -> None:
                with trio.fail_after(60):
                    results.append(await look.wrapped(place))

            write()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run)
            write()
            return results[0]

        async def ask() -> str:
            nonlocal number
            number += 1
            write()
            text = await turn(watched, use)
            write()
            return text

        async with httpx.AsyncClient() as client:
            yield ask


@asynccontextmanager
async def ours(url: str) -> AsyncGenerator[Ask, None]:
    """`Agent.ask`, streaming, with everything that is on by default."""
    provider = OpenAICompatible("bench", base_url=url, api_key=KEY)
    async with provider, open_agent([f"bench/{MODEL}"], providers={"bench": provider}, tools=[look]) as agent:
        number = 0

        async def ask() -> str:
            nonlocal number
            number += 1
            return (await agent.ask("go", session=f"s{number}")).text

        yield ask


@asynccontextmanager
async def pydantic_ai(url: str) -> AsyncGenerator[Ask, None]:
    """`Agent.run` of pydantic-ai."""
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    async with httpx.AsyncClient() as client:
        provider = OpenAIProvider(base_url=url, api_key=KEY, http_client=client)
        agent = Agent(OpenAIChatModel(MODEL, provider=provider), tools=[look.wrapped])

        async def ask() -> str:
            return (await agent.run("go")).output

        yield ask


@asynccontextmanager
async def openai_agents(url: str) -> AsyncGenerator[Ask, None]:
    """`Runner.run` of openai-agents."""
    from agents import Agent, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled
    from openai import AsyncOpenAI

    set_tracing_disabled(True)
    async with AsyncOpenAI(base_url=url, api_key=KEY) as client:
        model = OpenAIChatCompletionsModel(model=MODEL, openai_client=client)
        agent = Agent(name="bench", model=model, tools=[function_tool(look.wrapped, name_override="look")])

        async def ask() -> str:
            return (await Runner.run(agent, "go")).final_output

        yield ask


BARE = "bare httpx"
BY_HAND = "by hand, with clocks and rows"

BENCH = Bench(
    title="a turn of an agent: two requests and one tool",
    item="turn",
    limit="The same two requests through httpx, `json.loads` of every event, and the tool called.",
    against=BARE,
    figures=(CPU, WALL),
    cases=(
        Case(BARE, asking(bare_httpx), role="limit"),
        Case(BY_HAND, asking(with_clocks_and_rows), role="limit"),
        Case("Agent.ask", asking(ours)),
        Case("pydantic-ai", asking(pydantic_ai), role="peer", loop="asyncio", needs="pydantic-ai-slim"),
        Case("openai-agents", asking(openai_agents), role="peer", loop="asyncio", needs="openai-agents"),
    ),
    goals=(
        Goal(says="CPU of a turn with two requests and a tool, of bare httpx", of="Agent.ask", to=BARE, at_most=1.5),
        Goal(says="the same, of openai-agents", of="Agent.ask", to="openai-agents", at_most=1),
        Goal(says="the same, of pydantic-ai", of="Agent.ask", to="pydantic-ai", at_most=1),
    ),
)
