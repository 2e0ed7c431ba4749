"""Conforming a history of 50 messages to its target, against the whole turn that it is a step of.

A history of the target's own is only looked through; one of another vendor is rewritten: ids, reasoning, order.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from benchmarks.bench import CPU, WALL, Bench, Case, Goal, Open, Round, Setting, Stopwatch
from clawft_trio import TurnPolicy, open_agent
from clawft_trio.chat import ChatRequest, Message, Opaque, ToolCall, ToolSpec
from clawft_trio.llm import VENDORS, OpenAICompatible
from clawft_trio.llm.conform import Conformer

CALLS = 200
TURNS = 40
MESSAGES = 50
TOOLS = tuple(
    ToolSpec(
        name=f"tool_{number}",
        description="does something useful " * 4,
        parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    )
    for number in range(10)
)


def history(origin: str) -> list[Message]:
    """Turns of four messages: a question, a call, its result, an answer."""
    messages: list[Message] = []
    for number in range(MESSAGES // 4):
        call = ToolCall(id=f"call_{number:024d}", name="tool_1", arguments='{"city": "Oslo"}')
        reasoning = Opaque("openai:reasoning_content", {"reasoning_content": "Let me look at the weather first."})
        messages += [
            Message.user("And in Bergen? " * 5),
            Message(
                "assistant", (reasoning,) if origin.startswith("moonshot") else (), tool_calls=(call,), origin=origin
            ),
            Message.tool("rain, 7 degrees " * 20, tool_call_id=call.id),
            Message("assistant", "A coat. " * 30, origin=origin),
        ]
    return [*messages, Message.user("What do I wear?")]


def conforming(vendor: str, model: str, origin: str) -> Open:
    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        conformer = Conformer(VENDORS[vendor])
        request = ChatRequest(history(origin), tools=TOOLS)
        calls = setting.sized(CALLS, 5)

        async def one_round(watch: Stopwatch) -> None:
            with watch.timing(calls):
                for _ in range(calls):
                    conformer.conform(request, conformer.rules(model), origin=f"{vendor}/{model}")
            await trio.lowlevel.checkpoint()

        yield one_round

    return opened


@asynccontextmanager
async def turning(setting: Setting) -> AsyncGenerator[Round, None]:
    calls = setting.sized(TURNS, 2)
    async with (
        OpenAICompatible("openai", base_url=setting.url_of("burst-50")) as provider,
        open_agent(["openai/bench"], providers={"openai": provider}, turn=TurnPolicy(memory_window=MESSAGES)) as agent,
    ):
        await agent.parts.turns.history.append("s", history("openai/bench"))

        async def one_round(watch: Stopwatch) -> None:
            with watch.timing(calls):
                for _ in range(calls):
                    await agent.ask("go", session="s")

        yield one_round


TURN = "a turn with 50 messages of history and one request"
OWN = "conforming 50 messages of the target's own"

BENCH = Bench(
    title="conforming a request",
    item="request",
    limit="There is none but looking at every message; for scale, the turn that it is a step of.",
    against=TURN,
    figures=(CPU, WALL),
    cases=(
        Case(TURN, turning, role="limit"),
        Case(OWN, conforming("openai", "gpt-5-mini", "openai/gpt-5-mini")),
        Case(
            "conforming 50 messages of Kimi's to Mistral", conforming("mistral", "mistral-large", "moonshot/kimi-k2.6")
        ),
        Case("conforming 50 messages of OpenAI's to Gemini", conforming("gemini", "gemini-3-pro", "openai/gpt-5-mini")),
    ),
    goals=(Goal(says="conforming 50 messages, of a turn's CPU", of=OWN, to=TURN, at_most=0.05),),
)
