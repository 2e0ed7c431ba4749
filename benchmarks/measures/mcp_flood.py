"""A flood of notifications of an MCP server, its listener asleep, and a call behind them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from benchmarks.bench import CPU, WALL, Bench, Case, Figure, Goal, PlainRound, Round, Setting, Stopwatch
from benchmarks.child import peak_mib
from benchmarks.mcp_clients import COMMAND
from benchmarks.mcp_echo import NOTE
from clawft_trio.mcp import Host, McpOptions, open_mcp

GROWN = Figure("grown_mib", "memory grown, MiB")
NOTIFICATIONS = 50_000


@asynccontextmanager
async def flooded(setting: Setting) -> AsyncGenerator[Round, None]:
    """Notifications to a listener that sleeps, and a call behind them; an item is a notification."""
    count = setting.sized(NOTIFICATIONS, 500)

    async def sleep(*_: object) -> None:
        await trio.sleep_forever()

    async with open_mcp(COMMAND, options=McpOptions(host=Host(on_notification=sleep))) as client:
        await client.list_tools()

        async def one_round(watch: Stopwatch) -> None:
            before = peak_mib()
            with watch.timing(count):
                await client.call_tool("flood", {"count": count})
            watch.note(GROWN.key, peak_mib() - before)

        yield one_round


@contextmanager
def loading(setting: Setting) -> Iterator[PlainRound]:
    """`json.loads` of as many lines, out of memory."""
    count = setting.sized(NOTIFICATIONS, 500)

    def one_round(watch: Stopwatch) -> None:
        with watch.timing(count):
            for _ in range(count):
                json.loads(NOTE)

    yield one_round


LIMIT, OURS = "json.loads of each", "clawft_trio, a call behind 50 000 to a sleeping listener"

BENCH = Bench(
    title="a flood of MCP notifications",
    item="notification",
    limit="`json.loads` of each line, out of memory.",
    against=LIMIT,
    figures=(WALL, CPU, GROWN),
    rounds=5,
    cases=(Case(LIMIT, loading, role="limit", loop="none"), Case(OURS, flooded)),
    goals=(
        Goal(
            says="memory grown by 50 000 notifications to a sleeping listener",
            of=OURS,
            figure=GROWN.key,
            at_most=1,
            unit="MiB",
        ),
    ),
)
