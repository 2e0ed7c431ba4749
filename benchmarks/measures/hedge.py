"""Tail latency where five of a hundred requests take 200 ms instead of 5, and what it costs in requests."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

from benchmarks.bench import Bench, Case, Figure, Open, Round, Setting, Stopwatch
from benchmarks.clients import UNARY, bare_httpx, openai_sdk
from benchmarks.measures.outage import requests_of
from benchmarks.side_by_side import on_trio
from clawft_trio.llm import OpenAICompatible
from clawft_trio.llm.stream import complete
from clawft_trio.resilience import Hedge, Resilient, RetryBudget

PERCENT, BASE_MS, SLOW_MS = 5, 5, 200
AT_ONCE = 4

Ask: TypeAlias = Callable[[], Awaitable[object]]
OpenAsk: TypeAlias = Callable[[str], AbstractAsyncContextManager[Ask]]

P99 = Figure("p99_ms", "p99, ms")
P50 = Figure("p50_ms", "median, ms")
EXTRA = Figure("requests", "requests per call", 3)


def with_a_slow_share(open_ask: OpenAsk) -> Open:
    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        calls = setting.sized(100, 3)
        mode = f"slow-{PERCENT}-{BASE_MS}-{SLOW_MS}~{setting.folder.parent.name}{setting.folder.name}"
        async with open_ask(setting.url_of(mode)) as ask:

            async def one_round(watch: Stopwatch) -> None:
                taken: list[float] = []
                sent = requests_of(setting.server, mode)

                async def caller() -> None:
                    for _ in range(calls):
                        began = time.perf_counter()
                        await ask()
                        taken.append((time.perf_counter() - began) * 1e3)

                await on_trio(caller, AT_ONCE)
                taken.sort()
                watch.note(P50.key, taken[len(taken) // 2])
                watch.note(P99.key, taken[len(taken) * 99 // 100])
                watch.note(EXTRA.key, (requests_of(setting.server, mode) - sent) / len(taken))

            yield one_round

    return opened


def ours(*, delay_ms: float | None) -> OpenAsk:
    @asynccontextmanager
    async def opened(url: str) -> AsyncGenerator[Ask, None]:
        async with OpenAICompatible("a", base_url=url) as provider:
            hedge = None if delay_ms is None else Hedge(after=delay_ms / 1e3, budget=RetryBudget())
            target = provider if hedge is None else Resilient(provider, hedge)
            yield lambda: complete(target, UNARY)

    return opened


@asynccontextmanager
async def by_httpx(url: str) -> AsyncGenerator[Ask, None]:
    async with bare_httpx(url) as client:
        assert client.ask is not None
        yield client.ask


@asynccontextmanager
async def by_openai(url: str) -> AsyncGenerator[Ask, None]:
    async with openai_sdk(url) as client:
        assert client.ask is not None
        yield client.ask


BARE = "httpx"

BENCH = Bench(
    title="tail latency, five requests of a hundred take 200 ms",
    item="call",
    limit="Nobody is faster than the fast answers: 5 ms and a call's own cost. Of the peers none can hedge.",
    against=BARE,
    figures=(P99, P50, EXTRA),
    rounds=5,
    cases=(
        Case(BARE, with_a_slow_share(by_httpx), role="limit"),
        Case("provider alone", with_a_slow_share(ours(delay_ms=None))),
        Case("Hedge after 20 ms", with_a_slow_share(ours(delay_ms=20))),
        Case("Hedge after 50 ms", with_a_slow_share(ours(delay_ms=50))),
        Case("openai", with_a_slow_share(by_openai), role="peer", needs="openai"),
    ),
)
