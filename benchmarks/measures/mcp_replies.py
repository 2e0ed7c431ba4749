"""Big replies of an MCP server."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager

from benchmarks.bench import CPU, WALL, Bench, Case, Figure, Goal, Open, PlainRound, Round, Setting, Stopwatch
from benchmarks.mcp_clients import OpenMcp, official, ours

MIB = 2**20
RATE = Figure("mib_s", "MiB/s")


def reply_of(open_client: OpenMcp, mib: int) -> Open:
    """Rounds of one reply of so many MiB; an item is a MiB."""

    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        size = setting.sized(mib, 1)
        async with open_client() as call:

            async def one_round(watch: Stopwatch) -> None:
                with watch.timing(size):
                    result = await call("echo", {"size": size * MIB})
                assert len(result.content[0].text) == size * MIB
                watch.note(RATE.key, size / watch.wall)

            yield one_round

    return opened


def loading(mib: int) -> Open:
    """`json.loads` of the same line, out of memory."""

    @contextmanager
    def opened(setting: Setting) -> Iterator[PlainRound]:
        size = setting.sized(mib, 1)
        result = {"content": [{"type": "text", "text": "x" * size * MIB}]}
        line = json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()

        def one_round(watch: Stopwatch) -> None:
            with watch.timing(size):
                json.loads(line)
            watch.note(RATE.key, size / watch.wall)

        yield one_round

    return opened


LIMIT = "json.loads of 32 MiB"
LARGE, SMALL = "clawft_trio, 32 MiB", "clawft_trio, 1 MiB"

BENCH = Bench(
    title="one big reply of an MCP server",
    item="MiB",
    limit="`json.loads` of the line, out of memory.",
    against=LIMIT,
    figures=(WALL, CPU, RATE),
    rounds=3,
    cases=(
        Case(LIMIT, loading(32), role="limit", loop="none"),
        Case(SMALL, reply_of(ours, 1)),
        Case(LARGE, reply_of(ours, 32)),
        Case("mcp on trio, 1 MiB", reply_of(official, 1), role="peer", needs="mcp"),
        Case("mcp on trio, 32 MiB", reply_of(official, 32), role="peer", needs="mcp"),
    ),
    goals=(
        Goal(
            says="a MiB of a 32 MiB reply, of one of a 1 MiB reply (linear)",
            of=LARGE,
            to=SMALL,
            figure="wall",
            at_most=1.5,
        ),
    ),
)
