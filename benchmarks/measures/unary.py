"""A call whose answer comes whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from benchmarks.bench import CPU, WALL, Bench, Case, Open, Round, Setting, Stopwatch
from benchmarks.clients import BARE, CONTENDERS, OpenClient

WORDS = 50


def asking(open_client: OpenClient) -> Open:
    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        calls = setting.sized(100, 3)
        async with open_client(setting.url_of(f"burst-{WORDS}")) as client:
            ask = client.ask
            assert ask is not None

            async def one_round(watch: Stopwatch) -> None:
                with watch.timing(calls):
                    for _ in range(calls):
                        assert len(await ask()) == len(" word" * WORDS)

            yield one_round

    return opened


BENCH = Bench(
    title="a call whose answer comes whole",
    item="call",
    limit="A POST through httpx and a `json.loads` of its body.",
    against=BARE,
    figures=(WALL, CPU),
    cases=tuple(
        Case(each.name, asking(each.open), role=each.role, loop=each.loop, needs=each.needs)
        for each in CONTENDERS
        if each.name not in {"httpx, bytes alone", "full stack, async for"}
    ),
)
