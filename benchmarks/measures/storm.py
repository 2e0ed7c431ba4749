"""How many requests a crowd of callers sends to a provider that is down, three retries allowed to each."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias, cast

import httpx

from benchmarks.bench import Bench, Case, Figure, Goal, Open, Round, Setting, Stopwatch
from benchmarks.clients import KEY, MESSAGES, MODEL, UNARY, litellm_targets
from benchmarks.measures.outage import requests_of
from benchmarks.side_by_side import SideBySide, on_asyncio, on_trio
from clawft_trio.chat import Provider
from clawft_trio.llm import OpenAICompatible
from clawft_trio.llm.stream import complete
from clawft_trio.resilience import CircuitBreaker, Resilient, Retry, RetryBudget, compose

CALLERS = 150
RETRIES = 3
FIRST_WAIT = 0.05

Ask: TypeAlias = Callable[[], Awaitable[object]]
OpenAsk: TypeAlias = Callable[[str], AbstractAsyncContextManager[Ask]]

SENT = Figure("sent", "requests per caller", 2)
TOOK = Figure("seconds", "until all have failed, s")


def storming(open_ask: OpenAsk, side_by_side: SideBySide = on_trio) -> Open:
    """Rounds of one call by each caller, all at once, each round with a client of its own."""

    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        callers = setting.sized(CALLERS, 10)
        mode = f"down~{setting.folder.parent.name}{setting.folder.name}"

        async def one_round(watch: Stopwatch) -> None:
            sent, began = requests_of(setting.server, mode), time.perf_counter()
            async with open_ask(setting.url_of(mode)) as ask:

                async def caller() -> None:
                    try:
                        await ask()
                    except Exception:
                        return
                    raise AssertionError("it answered")

                await side_by_side(caller, callers)
            watch.note(TOOK.key, time.perf_counter() - began)
            watch.note(SENT.key, (requests_of(setting.server, mode) - sent) / callers)

        yield one_round

    return opened


def ours(make: Callable[[Provider], Provider]) -> OpenAsk:
    @asynccontextmanager
    async def opened(url: str) -> AsyncGenerator[Ask, None]:
        async with OpenAICompatible("a", base_url=url) as provider:
            target = make(provider)
            yield lambda: complete(target, UNARY)

    return opened


def _retry(**more: Any) -> Retry:
    return Retry(max_retries=RETRIES, first_wait=FIRST_WAIT, **more)


def _posting(url: str, client: httpx.AsyncClient) -> Callable[[], Awaitable[object]]:
    async def post() -> object:
        response = await client.post(f"{url}/chat/completions", json={"model": MODEL, "messages": MESSAGES})
        return response.raise_for_status().json()

    return post


def around_httpx(wrap: Callable[[Ask], Ask]) -> OpenAsk:
    @asynccontextmanager
    async def opened(url: str) -> AsyncGenerator[Ask, None]:
        # No waiting for a connection, which the others would not have either.
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:
            yield wrap(_posting(url, client))

    return opened


def by_stamina(ask: Ask) -> Ask:
    import stamina

    retry = stamina.retry(on=httpx.HTTPError, attempts=RETRIES + 1, wait_initial=FIRST_WAIT, wait_jitter=FIRST_WAIT)
    return cast(Ask, retry(ask))


def by_tenacity(ask: Ask) -> Ask:
    import tenacity

    wait = tenacity.wait_random_exponential(multiplier=FIRST_WAIT, max=10)
    retry = tenacity.retry(stop=tenacity.stop_after_attempt(RETRIES + 1), wait=wait, reraise=True)
    return cast(Ask, retry(ask))


@asynccontextmanager
async def openai_sdk(url: str) -> AsyncGenerator[Ask, None]:
    import openai

    async with openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=RETRIES) as client:
        made: Any = client.chat.completions
        yield lambda: made.create(model=MODEL, messages=MESSAGES)


@asynccontextmanager
async def litellm(url: str) -> AsyncGenerator[Ask, None]:
    router = litellm_targets(url, num_retries=RETRIES)
    yield lambda: router.acompletion(model="m0", messages=MESSAGES)


ONCE = "httpx, no retry"
BUDGET = "Retry with a RetryBudget"

BENCH = Bench(
    title=f"{CALLERS} callers, and the provider is down",
    item="caller",
    limit="One request each, for somebody has to ask.",
    against=ONCE,
    figures=(SENT, TOOK),
    rounds=2,
    warm_up=False,
    cases=(
        Case(ONCE, storming(around_httpx(lambda ask: ask)), role="limit"),
        Case(BUDGET, storming(ours(lambda target: Resilient(target, _retry(budget=RetryBudget()))))),
        Case(
            "Retry with a RetryBudget around a CircuitBreaker",
            storming(ours(lambda target: Resilient(target, compose(_retry(budget=RetryBudget()), CircuitBreaker())))),
        ),
        Case("Retry without a budget", storming(ours(lambda target: Resilient(target, _retry())))),
        Case("stamina", storming(around_httpx(by_stamina)), role="peer", needs="stamina"),
        Case("tenacity", storming(around_httpx(by_tenacity)), role="peer", needs="tenacity"),
        Case(
            "openai", storming(openai_sdk), role="peer", needs="openai", covers="its waits cannot be set: 0.5 s and up"
        ),
        Case("litellm Router", storming(litellm, on_asyncio), role="peer", loop="asyncio", needs="litellm"),
    ),
    goals=(
        Goal(
            says=f"requests per caller in a total outage, {CALLERS} callers (1 + 100 tokens, 20 % and 10 a second)",
            of=BUDGET,
            figure=SENT.key,
            at_most=1 + 100 / CALLERS + 0.2 + 0.05,
            unit="requests",
        ),
    ),
)
