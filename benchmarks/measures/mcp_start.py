"""What it takes to start an MCP client with its server, and to close both."""

from __future__ import annotations

import subprocess
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager

from benchmarks.bench import CPU, Bench, Case, Figure, Open, PlainRound, Round, Setting, Stopwatch
from benchmarks.mcp_clients import COMMAND, OpenMcp, fastmcp, official, ours

WHOLE = Figure("whole_ms", "start to end, ms")
START = Figure("start_ms", "until its tools are listed, ms")
CLOSE = Figure("close_ms", "closing, ms")


def starting(open_client: OpenMcp) -> Open:
    """Rounds of starting a server, shaking hands, listing its tools and closing it."""

    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        async def one_round(watch: Stopwatch) -> None:
            with watch.timing(1):
                began = time.perf_counter()
                async with open_client():
                    watch.note(START.key, (time.perf_counter() - began) * 1e3)
                    began = time.perf_counter()
                watch.note(CLOSE.key, (time.perf_counter() - began) * 1e3)
            watch.note(WHOLE.key, watch.wall * 1e3)

        yield one_round

    return opened


@contextmanager
def starting_alone(setting: Setting) -> Iterator[PlainRound]:
    """The server's own start and end."""

    def one_round(watch: Stopwatch) -> None:
        with watch.timing(1):
            subprocess.run(COMMAND, input=b"", check=True)
        watch.note(WHOLE.key, watch.wall * 1e3)

    yield one_round


LIMIT = "the server alone"

BENCH = Bench(
    title="an MCP client opened and closed",
    item="client",
    limit="The server's own start and end: an interpreter and its imports.",
    against=LIMIT,
    figures=(WHOLE, START, CLOSE, CPU),
    rounds=9,
    cases=(
        Case(LIMIT, starting_alone, role="limit", loop="none"),
        Case("clawft_trio", starting(ours)),
        Case("mcp on trio", starting(official), role="peer", needs="mcp"),
        Case("fastmcp", starting(fastmcp), role="peer", loop="asyncio", needs="fastmcp-slim"),
    ),
)
