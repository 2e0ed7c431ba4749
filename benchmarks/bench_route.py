"""What a routing decision costs, against streaming an answer of 50 tokens, in one run.

`python -m benchmarks.bench_route [rounds]`

A decision is made once per turn: admission (rate limit, allowance), classification, tiers, prices. The answer is 50
deltas from another process through the provider alone. CPU time of this process, median over interleaved rounds.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from clawft_trio.auth import ADMIN, USER, AuthContext, UserPermissions
from clawft_trio.chat import Call, ChatRequest, Message, ToolSpec
from clawft_trio.llm import OpenAICompatible
from clawft_trio.pipeline import (
    Admission,
    Allowance,
    ModelTier,
    OneProvider,
    Pipeline,
    RateLimiter,
    RoutingPolicy,
    TieredRouter,
    TokenBudgetAssembler,
)

DELTAS = 50
CALLS = 50

TIERS = (
    ModelTier("free", models=["local/llama"], complexity_range=(0.0, 0.3), cost_per_1k_tokens=0),
    ModelTier("standard", models=["openai/mini", "anthropic/haiku"], complexity_range=(0.0, 0.7), cost_per_1k_tokens=1),
    ModelTier("premium", models=["anthropic/opus"], complexity_range=(0.6, 1.0), cost_per_1k_tokens=20),
)
AUTH = AuthContext(channel="bench", sender_id="ana", permissions=ADMIN)
SHORT = ChatRequest([Message.user("What do I wear in Oslo today?")], auth=AUTH)
LONG = ChatRequest(
    [
        Message.system("You are kind. " * 50),
        *[Message.user("And in Bergen? " * 5), Message.assistant("A coat. " * 30)] * 20,
        Message.user("Implement a function that parses dates, and explain how it works."),
    ],
    auth=AUTH,
    tools=[ToolSpec(name=f"tool_{n}", description="does something useful " * 4) for n in range(10)],
)


class Purse:
    """A budget that answers at once, so that what is measured is routing and not a database."""

    async def allowance(self, sender_id: str, permissions: UserPermissions) -> Allowance:
        return Allowance()


@asynccontextmanager
async def model_server() -> AsyncGenerator[str, None]:
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder) / "port"
        process = subprocess.Popen([sys.executable, "-m", "benchmarks.model_server", str(port_file), str(DELTAS)])
        try:
            while not (port_file.exists() and port_file.read_text()):
                await trio.sleep(0.02)
            yield f"http://127.0.0.1:{port_file.read_text()}/v1"
        finally:
            process.kill()
            process.wait()


async def measure(rounds: int = 7) -> dict[str, float]:
    """CPU microseconds per call, median over interleaved rounds."""
    async with model_server() as url, OpenAICompatible("openai", base_url=url) as provider:
        pipeline = Pipeline(
            router=TieredRouter(RoutingPolicy(mode="tiered", tiers=TIERS, selection_strategy="lowest_cost")),
            transport=OneProvider(provider),
            admission=Admission(limiter=RateLimiter(), budget=Purse()),
        )
        decision = await pipeline.route(LONG)
        assembler = TokenBudgetAssembler()
        plain = ChatRequest([Message.user("go")], model="bench")

        ways: dict[str, Callable[[], Awaitable[object]]] = {
            "50 streamed tokens, provider alone": lambda: provider.complete(plain, Call()),
            "routing, one message": lambda: pipeline.route(SHORT),
            "routing, 42 messages and 10 tools": lambda: pipeline.route(LONG),
            "assembling 42 messages and 10 tools": lambda: assembler.assemble(LONG, decision.targets[0], USER),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 1):
            for name, way in ways.items():
                start = time.process_time()
                for _ in range(CALLS):
                    await way()
                if number:
                    taken[name].append((time.process_time() - start) / CALLS * 1e6)
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> None:
    figures = trio.run(measure, int(sys.argv[1]) if len(sys.argv) > 1 else 7)
    base = figures["50 streamed tokens, provider alone"]
    for name, micros in figures.items():
        print(f"{name:38} {micros:8.1f} us  {micros / base:5.2f} x")


if __name__ == "__main__":
    main()
