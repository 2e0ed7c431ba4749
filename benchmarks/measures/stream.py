"""CPU per streamed chunk and time to the first token, the whole answer at once."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from benchmarks.bench import CPU, WALL, Bench, Case, Figure, Goal, Open, Round, Setting, Stopwatch
from benchmarks.clients import BARE, CALLBACK, CONTENDERS, ITERATED, OPENAI, OpenClient

FIRST = Figure("first_ms", "to the first text, ms")


def streaming(open_client: OpenClient, words: int, *, gap_ms: int | None = None, answers: int = 1) -> Open:
    """Rounds of *answers* answers of *words* each, at once or one word every *gap_ms* milliseconds."""

    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        count = setting.sized(words, min(words, 10))
        mode = f"burst-{count}" if gap_ms is None else f"paced-{count}-{gap_ms}"
        async with open_client(setting.url_of(mode)) as client:

            async def one_round(watch: Stopwatch) -> None:
                seen: list[float] = []

                def on_text() -> None:
                    if not seen:
                        seen.append(time.perf_counter())

                firsts = 0.0
                with watch.timing(count * answers):
                    for _ in range(answers):
                        seen.clear()
                        began = time.perf_counter()
                        got = await client.stream(on_text)
                        assert got == count, f"{got} words of {count}"
                        firsts += seen[0] - began
                watch.note(FIRST.key, firsts / answers * 1e3)

            yield one_round

    return opened


def contenders(words: int, *, gap_ms: int | None = None) -> tuple[Case, ...]:
    """A case for each client."""
    return tuple(
        Case(
            each.name,
            streaming(each.open, words, gap_ms=gap_ms),
            role=each.role,
            loop=each.loop,
            needs=each.needs,
            covers=each.covers,
        )
        for each in CONTENDERS
    )


BENCH = Bench(
    title="a streamed answer, all at once",
    item="chunk",
    limit="Bytes off a socket through httpx; to learn anything from them, a `split` and a `json.loads` per chunk.",
    against=BARE,
    figures=(CPU, WALL, FIRST),
    rounds=5,
    cases=contenders(5000),
    goals=(
        Goal(says="CPU per chunk, full stack with a callback, of a bare loop", of=CALLBACK, to=BARE, at_most=1.2),
        Goal(says="the same with `async for`", of=ITERATED, to=BARE, at_most=2),
        Goal(says="full stack with a callback, of the openai SDK", of=CALLBACK, to=OPENAI, at_most=1 / 12),
    ),
)
