"""Big replies of an MCP server, a flood of notifications, and what it takes to start a client and to close it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from benchmarks.bench import CPU, WALL, Bench, Case, Figure, Goal, Open, PlainRound, Round, Setting, Stopwatch
from benchmarks.child import peak_mib
from benchmarks.mcp_clients import COMMAND, OpenMcp, fastmcp, official, ours
from clawft_trio.mcp import Host, McpOptions, open_mcp

MIB = 2**20
RATE = Figure("mib_s", "MiB/s")
START, CLOSE = Figure("start_ms", "start, ms"), Figure("close_ms", "close, ms")
GROWN = Figure("grown_mib", "memory grown, MiB")
NOTIFICATIONS = 50_000


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


@asynccontextmanager
async def flooded(setting: Setting) -> AsyncGenerator[Round, None]:
    """Notifications to a listener that sleeps, and a call behind them; an item is a notification."""
    count = setting.sized(NOTIFICATIONS, 500)

    async def sleep(*_: object) -> None:
        await trio.sleep_forever()

    async with open_mcp(COMMAND, options=McpOptions(host=Host(hear=sleep))) as client:
        await client.list_tools()

        async def one_round(watch: Stopwatch) -> None:
            before = peak_mib()
            with watch.timing(count):
                await client.call_tool("flood", {"count": count})
            watch.note(GROWN.key, peak_mib() - before)

        yield one_round


def starting(open_client: OpenMcp) -> Open:
    """Rounds of starting a server, shaking hands, listing its tools and closing it; an item is one server."""

    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        async def one_round(watch: Stopwatch) -> None:
            with watch.timing(1):
                began = time.perf_counter()
                async with open_client():
                    watch.note(START.key, (time.perf_counter() - began) * 1e3)
                    began = time.perf_counter()
                watch.note(CLOSE.key, (time.perf_counter() - began) * 1e3)

        yield one_round

    return opened


@contextmanager
def starting_alone(setting: Setting) -> Iterator[PlainRound]:
    """The server's own start and end."""

    def one_round(watch: Stopwatch) -> None:
        with watch.timing(1):
            subprocess.run(COMMAND, input=b"", check=True)

    yield one_round


LIMIT = "json.loads of 32 MiB"
LARGE, SMALL = "clawft_trio, a reply of 32 MiB", "clawft_trio, a reply of 1 MiB"
FLOOD = "clawft_trio, 50 000 notifications to a sleeping listener"

BENCH = Bench(
    title="MCP: big replies, floods, starting and closing",
    item="MiB, notification or server",
    limit="`json.loads` of the line; for a start, the server's own.",
    against=LIMIT,
    figures=(WALL, CPU, RATE, GROWN, START, CLOSE),
    rounds=3,
    cases=(
        Case(LIMIT, loading(32), role="limit", loop="none"),
        Case(SMALL, reply_of(ours, 1)),
        Case(LARGE, reply_of(ours, 32)),
        Case("mcp on trio, a reply of 1 MiB", reply_of(official, 1), role="peer", needs="mcp"),
        Case("mcp on trio, a reply of 32 MiB", reply_of(official, 32), role="peer", needs="mcp"),
        Case(FLOOD, flooded),
        Case("the server alone, started and ended", starting_alone, role="limit", loop="none"),
        Case("clawft_trio, opened and closed", starting(ours)),
        Case("mcp on trio, opened and closed", starting(official), role="peer", needs="mcp"),
        Case("fastmcp, opened and closed", starting(fastmcp), role="peer", loop="asyncio", needs="fastmcp-slim"),
    ),
    goals=(
        Goal(
            issue=4,
            says="a MiB of a 32 MiB reply, of one of a 1 MiB reply (linear)",
            of=LARGE,
            to=SMALL,
            figure="wall",
            at_most=1.5,
        ),
        Goal(
            issue=4,
            says="memory grown by 50 000 notifications to a sleeping listener",
            of=FLOOD,
            figure=GROWN.key,
            at_most=1,
            unit="MiB",
        ),
    ),
)
