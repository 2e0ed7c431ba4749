"""What a strategy costs a call that succeeds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.bench import Bench, Case, Goal, Open, Round, Setting, Stopwatch
from clawft_trio.resilience import CircuitBreaker, Retry, Timeout, compose

Way = Callable[[int], Awaitable[int]]


async def fetch(number: int) -> int:
    return number


def calling(wrap: Callable[[Way], Any]) -> Open:
    """Rounds of calls to the function that *wrap* makes of `fetch`."""

    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        way, calls = wrap(fetch), setting.sized(20_000, 50)

        async def one_round(watch: Stopwatch) -> None:
            with watch.timing(calls):
                for number in range(calls):
                    await way(number)

        yield one_round

    return opened


def by_stamina(function: Way) -> Any:
    import stamina

    return stamina.retry(on=OSError)(function)


def by_tenacity(function: Way) -> Any:
    import tenacity

    return tenacity.retry(reraise=True)(function)


BARE = "the function alone"
TOGETHER = "Timeout, Retry, CircuitBreaker"

BENCH = Bench(
    title="what strategies cost a call that succeeds",
    item="call",
    limit="A call of an async function that returns at once: an await, and nothing to wait for.",
    against=BARE,
    cases=(
        Case(BARE, calling(lambda function: function), role="limit"),
        Case("Retry", calling(Retry())),
        Case("CircuitBreaker", calling(CircuitBreaker())),
        Case("Timeout", calling(Timeout(total=60))),
        Case(TOGETHER, calling(compose(Timeout(total=60), Retry(), CircuitBreaker()))),
        Case("stamina", calling(by_stamina), role="peer", needs="stamina"),
        Case("tenacity", calling(by_tenacity), role="peer", needs="tenacity"),
    ),
    goals=(
        Goal(says="a call through `Retry` alone, of one through stamina", of="Retry", to="stamina", at_most=0.25),
        Goal(
            says="through `Timeout`, `Retry` and `CircuitBreaker`, of stamina",
            of=TOGETHER,
            to="stamina",
            at_most=1,
        ),
    ),
)
