"""What strategies cost a call that succeeds, beside stamina and tenacity, and what an outage adds to a call.

`python -m benchmarks.bench_strategies`
"""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from clawft_trio.chat import Call, ChatRequest, Message
from clawft_trio.errors import ServerError
from clawft_trio.resilience import CircuitBreaker, Failover, Resilient, Retry, Timeout, compose
from clawft_trio.testing.script import Fail
from clawft_trio.testing.scripted import ScriptedProvider

CALLS = 5000
REQUEST = ChatRequest([Message.user("go")])
Way = Callable[[int], Awaitable[int]]


async def fetch(number: int) -> int:
    return number


def peers() -> dict[str, Way]:
    found: dict[str, Way] = {}
    for name in ("stamina", "tenacity"):
        try:
            module: Any = importlib.import_module(name)
        except ImportError:
            continue
        found[name] = module.retry(on=OSError)(fetch) if name == "stamina" else module.retry(reraise=True)(fetch)
    return found


async def overhead(rounds: int = 9) -> dict[str, float]:
    """CPU microseconds per successful call, beyond the bare function; median over interleaved rounds."""
    ways: dict[str, Way] = {
        "bare": fetch,
        "Retry": Retry()(fetch),
        "CircuitBreaker": CircuitBreaker()(fetch),
        "Timeout, Retry, CircuitBreaker": compose(Timeout(total=60), Retry(), CircuitBreaker())(fetch),
        **peers(),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            start = time.process_time()
            for argument in range(CALLS):
                await way(argument)
            if number:
                taken[name].append((time.process_time() - start) / CALLS * 1e6)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    return {name: micros - medians["bare"] for name, micros in medians.items() if name != "bare"}


async def outage(calls: int = 300) -> float:
    """Median milliseconds that a dead primary with an open breaker adds to a call."""
    down = ScriptedProvider([Fail(lambda: ServerError("down"))], name="down")
    well = ScriptedProvider.saying("hello", name="well")
    policy = compose(Retry(max_retries=0), CircuitBreaker(minimum_calls=1, open_for=1000, longest_open=1000))
    chain = Failover(Resilient(down, policy), Resilient(well, policy))
    alone = Resilient(well, policy)
    times: dict[str, list[float]] = {"chain": [], "alone": []}
    for _ in range(calls):
        for name, provider in (("chain", chain), ("alone", alone)):
            start = trio.current_time()
            await provider.complete(REQUEST, Call())
            times[name].append(trio.current_time() - start)
    assert down.calls == 1
    return (statistics.median(times["chain"]) - statistics.median(times["alone"])) * 1000


async def main() -> None:
    for name, micros in (await overhead()).items():
        print(f"{name:32} {micros:7.2f} us a call")
    print(f"{'primary down, breaker open':32} {await outage():7.3f} ms added to a call")


if __name__ == "__main__":
    trio.run(main)
