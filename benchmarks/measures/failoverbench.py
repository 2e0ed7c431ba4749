"""failoverbench's sixteen scenarios in real time, by the defaults of `resilient_chain`.

The scenarios are those of `tests/llm/test_failoverbench.py`. They run side by side, each with servers of its own; their
times are added up, as they would come one after another. The published scores are those of its scorecard of 2026-09-12
(methodology v0.1); the systems in it are not run here.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import trio

from benchmarks.bench import Bench, Case, Figure, Goal, Round, Setting, Stopwatch

# All times of a quick run are scaled down together.
QUICK = 0.04

PASSED = Figure("passed", "passed, of 16", higher_is_better=True)
SECONDS = Figure("seconds", "all scenarios, s")

Scenario: TypeAlias = Callable[[], Awaitable[None]]


def scenarios(scale: float) -> dict[str, Scenario]:
    """All sixteen, by their numbers."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "llm"))
    tests: Any = import_module("test_failoverbench")
    found: dict[str, Scenario] = {
        number: lambda scenario=scenario: tests.run_scenario(scenario, scale)  # type: ignore[misc]
        for number, scenario in tests.SCENARIOS.items()
    }
    return {**found, "S14": lambda: tests.run_s14(scale), "S15": lambda: tests.run_s15(scale)}


@asynccontextmanager
async def resilient_chain(setting: Setting) -> AsyncGenerator[Round, None]:
    scale = QUICK if setting.quick else 1.0

    async def one_round(watch: Stopwatch) -> None:
        passed, seconds = 0, 0.0

        # Where times are so short, sixteen at once are in each other's way.
        turns = trio.CapacityLimiter(1 if setting.quick else 16)

        async def run(number: str, scenario: Scenario) -> None:
            nonlocal passed, seconds
            async with turns:
                began = trio.current_time()
                try:
                    await scenario()
                except Exception:
                    print(f"{number} did not pass:", file=sys.stderr)
                    traceback.print_exc()
                else:
                    passed += 1
                seconds += (trio.current_time() - began) / scale

        async with trio.open_nursery() as nursery:
            for number, scenario in scenarios(scale).items():
                nursery.start_soon(run, number, scenario)
        watch.note(PASSED.key, passed)
        watch.note(SECONDS.key, seconds)

    yield one_round


def published(name: str, score: str, seconds: str = "") -> Case:
    """A row of the scorecard: pass/partial/safe/fail."""
    passed = float(score.partition("/")[0])
    absent = f"published {score}{seconds}; not run here"
    return Case(name, resilient_chain, role="peer", absent=absent, published={PASSED.key: passed})


OURS = "resilient_chain"

BENCH = Bench(
    title="failoverbench: sixteen ways in which a provider breaks",
    item="run",
    limit="The silences that the scenarios script; the reference client of failoverbench takes 136 s for all.",
    against=OURS,
    figures=(PASSED, SECONDS),
    rounds=1,
    warm_up=False,
    cases=(
        Case(OURS, resilient_chain, needs="pytest", covers="with its defaults, advisory checks included"),
        published("failoverbench's reference client", "16/0/0/0", ", 136 s"),
        published("DeepSeek Harness", "12/3/1/0"),
        published("Portkey", "11/2/0/3"),
        published("Bifrost", "9/3/3/1"),
        published("LiteLLM proxy and Router", "9/3/4/0"),
        published("LangChain with_fallbacks", "9/3/4/0"),
        published("openai", "6/0/10/0"),
        published("no gateway", "4/0/12/0"),
    ),
    goals=(
        Goal(says="failoverbench's scenarios passed", of=OURS, figure=PASSED.key, at_least=16, unit="of 16"),
        Goal(
            says="their time in all, against the reference client's",
            of=OURS,
            figure=SECONDS.key,
            at_most=136,
            unit="s",
        ),
    ),
)
