"""What a call costs while its first target is down, beside the same client's call to a target that is well.

The first target answers 503 at once, the second is well. Calls take turns with calls of the same client to the second
alone, so `added` is what the outage adds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import httpx

from benchmarks.bench import Bench, Case, Figure, Goal, Open, Round, Setting, Stopwatch
from benchmarks.clients import MESSAGES, MODEL, UNARY, litellm_targets, pydantic_ai_model
from clawft_trio.llm import OpenAICompatible
from clawft_trio.llm.stream import complete
from clawft_trio.resilience import CircuitBreaker, Failover, Resilient, Retry, compose

Ask: TypeAlias = Callable[[], Awaitable[object]]
Pair: TypeAlias = Callable[[str, str], AbstractAsyncContextManager[tuple[Ask, Ask]]]
"""Given the URLs of the target that is down and of the one that is well: a call over both, and one of the second."""

ADDED = Figure("added_ms", "added to a call, ms")
SENT = Figure("sent", "requests to the dead target, per call")
WELL = Figure("well_ms", "a call without the outage, ms")


def requests_of(server: str, mode: str) -> int:
    """How many requests that mode of the model server has had."""
    return int(httpx.get(f"{server}/count/{mode}").text)


def in_an_outage(pair: Pair) -> Open:
    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        calls, mode = setting.sized(40, 3), f"down~{setting.folder.parent.name}{setting.folder.name}"
        async with pair(setting.url_of(mode), setting.url_of("burst-1")) as (chain, alone):

            async def one_round(watch: Stopwatch) -> None:
                taken: dict[Ask, list[float]] = {chain: [], alone: []}
                sent = requests_of(setting.server, mode)
                for _ in range(calls):
                    for ask, times in taken.items():
                        began = time.perf_counter()
                        await ask()
                        times.append(time.perf_counter() - began)
                with_it, without = (statistics.median(times) * 1e3 for times in taken.values())
                watch.note(ADDED.key, with_it - without)
                watch.note(WELL.key, without)
                watch.note(SENT.key, (requests_of(setting.server, mode) - sent) / calls)

            yield one_round

    return opened


def ours(*, breaker: bool) -> Pair:
    @asynccontextmanager
    async def pair(down: str, well: str) -> AsyncGenerator[tuple[Ask, Ask], None]:
        # Open from the second call on, for longer than the benchmark takes.
        guard = (CircuitBreaker(minimum_calls=1, open_for=1000, longest_open=1000),) if breaker else ()
        policy = compose(Retry(max_retries=0), *guard)
        async with OpenAICompatible("a", base_url=down) as first, OpenAICompatible("b", base_url=well) as second:
            chain = Failover(Resilient(first, policy), Resilient(second, policy))
            alone = Resilient(second, policy)
            yield lambda: complete(chain, UNARY), lambda: complete(alone, UNARY)

    return pair


@asynccontextmanager
async def by_hand(down: str, well: str) -> AsyncGenerator[tuple[Ask, Ask], None]:
    body = {"model": MODEL, "messages": MESSAGES}
    async with httpx.AsyncClient() as client:

        async def alone() -> object:
            return (await client.post(f"{well}/chat/completions", json=body)).raise_for_status().json()

        async def chain() -> object:
            response = await client.post(f"{down}/chat/completions", json=body)
            return response.json() if response.is_success else await alone()

        yield chain, alone


@asynccontextmanager
async def pydantic_ai(down: str, well: str) -> AsyncGenerator[tuple[Ask, Ask], None]:
    from pydantic_ai.direct import model_request
    from pydantic_ai.messages import ModelRequest
    from pydantic_ai.models.fallback import FallbackModel

    request, second = [ModelRequest.user_text_prompt("go")], pydantic_ai_model(well)
    chain = FallbackModel(pydantic_ai_model(down), second)
    yield lambda: model_request(chain, request), lambda: model_request(second, request)


@asynccontextmanager
async def litellm(down: str, well: str) -> AsyncGenerator[tuple[Ask, Ask], None]:
    router = litellm_targets(down, well)

    def ask(model: str) -> Any:
        return router.acompletion(model=model, messages=MESSAGES)

    yield lambda: ask("m0"), lambda: ask("m1")


OPEN = "Failover, breaker open"
BY_HAND = "httpx, by hand"

BENCH = Bench(
    title="the first target is down",
    item="call",
    limit="Knowing that it is down costs nothing; asking it costs a round trip of its own.",
    against=BY_HAND,
    figures=(ADDED, WELL, SENT),
    rounds=5,
    cases=(
        Case(BY_HAND, in_an_outage(by_hand), role="limit"),
        Case(OPEN, in_an_outage(ours(breaker=True))),
        Case("Failover, no breaker", in_an_outage(ours(breaker=False))),
        Case(
            "pydantic-ai FallbackModel",
            in_an_outage(pydantic_ai),
            role="peer",
            loop="asyncio",
            needs="pydantic-ai-slim",
        ),
        Case("litellm Router", in_an_outage(litellm), role="peer", loop="asyncio", needs="litellm"),
    ),
    goals=(
        Goal(
            says="added to a call by a dead primary, its breaker open",
            of=OPEN,
            figure=ADDED.key,
            at_most=2,
            unit="ms",
        ),
    ),
)
