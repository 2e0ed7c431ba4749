"""A routing decision, against streaming fifty words.

A decision is made once per turn: admission (rate limit, allowance), classification, tiers, prices.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from benchmarks.bench import CPU, WALL, Bench, Case, Goal, Open, Round, Setting, Stopwatch
from clawft_trio.auth import ADMIN, USER, AuthContext, UserPermissions
from clawft_trio.chat import Call, ChatRequest, Message, ToolSpec
from clawft_trio.llm import OpenAICompatible
from clawft_trio.pipeline import (
    Allowance,
    ModelTier,
    OneProvider,
    Pipeline,
    RateLimiter,
    RoutingPolicy,
    TieredRouter,
    TokenBudgetAssembler,
    TurnAdmission,
)
from clawft_trio.testing import ScriptedProvider

CALLS = 200

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

Way = Callable[[], Awaitable[object]]


class Purse:
    """A budget that answers at once, so that what is measured is routing and not a database."""

    async def allowance(self, sender_id: str, permissions: UserPermissions) -> Allowance:
        return Allowance()


def repeated(way: Way, setting: Setting) -> Round:
    calls = setting.sized(CALLS, 5)

    async def one_round(watch: Stopwatch) -> None:
        with watch.timing(calls):
            for _ in range(calls):
                await way()

    return one_round


@asynccontextmanager
async def fifty_words(setting: Setting) -> AsyncGenerator[Round, None]:
    request = ChatRequest([Message.user("go")], model="bench")
    async with OpenAICompatible("openai", base_url=setting.url_of("burst-50")) as provider:
        yield repeated(lambda: provider.complete(request, Call()), setting)


def _pipeline() -> Pipeline:
    return Pipeline(
        router=TieredRouter(RoutingPolicy(mode="tiered", tiers=TIERS, selection_strategy="lowest_cost")),
        transport=OneProvider(ScriptedProvider.saying("hello")),
        admission=TurnAdmission(limiter=RateLimiter(), budget=Purse()),
    )


def routing(request: ChatRequest) -> Open:
    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        yield repeated(partial(_pipeline().route, request), setting)

    return opened


@asynccontextmanager
async def assembling(setting: Setting) -> AsyncGenerator[Round, None]:
    target = (await _pipeline().route(LONG)).targets[0]
    yield repeated(partial(TokenBudgetAssembler().assemble, LONG, target, USER), setting)


STREAM = "fifty words streamed, provider alone"
ROUTE = "routing, 42 messages and 10 tools"

BENCH = Bench(
    title="a routing decision",
    item="decision",
    limit="There is none but reading the request; for scale, an answer of fifty words off a local socket.",
    against=STREAM,
    figures=(CPU, WALL),
    cases=(
        Case(STREAM, fifty_words, role="limit"),
        Case("routing, one message", routing(SHORT)),
        Case(ROUTE, routing(LONG)),
        Case("assembling 42 messages and 10 tools", assembling),
    ),
    goals=(Goal(says="a routing decision, of streaming 50 tokens", of=ROUTE, to=STREAM, at_most=1),),
)
