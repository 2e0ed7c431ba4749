"""Calls through one MCP client over stdio: one at a time, and 10, 100 and 1 000 in flight.

A server in Python answers 32 bytes. Deadlines and validation are on, as they are by default.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager

from benchmarks.bench import CPU, WALL, Bench, Case, Figure, Goal, Open, PlainRound, Round, Setting, Stopwatch
from benchmarks.mcp_clients import NPM, TEXT, OpenMcp, fastmcp, official, ours, pipe, request, typescript
from benchmarks.side_by_side import SideBySide, on_asyncio, on_trio

FLIGHTS = (1, 10, 100, 1000)
RATE = Figure("rate", "calls/s")


def _calls(setting: Setting, flight: int) -> int:
    """Calls of a round: enough for a tenth of a second of the fastest."""
    return setting.sized(1000 if flight == 1 else 2000, 20) // flight * flight or flight


def calling(open_client: OpenMcp, flight: int, side_by_side: SideBySide = on_trio) -> Open:
    """Rounds of calls by *flight* tasks that share one client."""

    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        calls = _calls(setting, flight)
        async with open_client() as call:

            async def worker() -> None:
                for _ in range(calls // flight):
                    await call("echo", TEXT)

            async def one_round(watch: Stopwatch) -> None:
                with watch.timing(calls):
                    await side_by_side(worker, flight)
                watch.note(RATE.key, calls / watch.wall)

            yield one_round

    return opened


def bare_pipe(flight: int) -> Open:
    """Requests written and lines read, *flight* at a time; nothing decoded."""

    @contextmanager
    def opened(setting: Setting) -> Iterator[PlainRound]:
        calls = _calls(setting, flight)
        batch = b"".join(map(request, range(flight)))
        with pipe() as (stdin, stdout):

            def one_round(watch: Stopwatch) -> None:
                with watch.timing(calls):
                    for _ in range(calls // flight):
                        stdin.write(batch)
                        stdin.flush()
                        for _ in range(flight):
                            stdout.readline()
                watch.note(RATE.key, calls / watch.wall)

            yield one_round

    return opened


def by_typescript(flight: int) -> Open:
    @contextmanager
    def opened(setting: Setting) -> Iterator[PlainRound]:
        calls = _calls(setting, flight)
        with typescript(setting.folder) as run:

            def one_round(watch: Stopwatch) -> None:
                wall, cpu = run(calls, flight)
                watch.add(calls, wall=wall, cpu=cpu)
                watch.note(RATE.key, calls / wall)

            yield one_round

    return opened


def named(what: str, flight: int) -> str:
    return f"{what}, {flight} in flight"


def cases(flight: int) -> tuple[Case, ...]:
    return (
        Case(named("pipe", flight), bare_pipe(flight), role="limit", loop="none"),
        Case(named("clawft_trio", flight), calling(ours, flight)),
        Case(named("mcp on trio", flight), calling(official, flight), role="peer", needs="mcp"),
        Case(
            named("fastmcp", flight),
            calling(fastmcp, flight, on_asyncio),
            role="peer",
            loop="asyncio",
            needs="fastmcp-slim",
        ),
        Case(
            named("TypeScript", flight),
            by_typescript(flight),
            role="peer",
            loop="none",
            absent=""
            if NPM
            else "BENCHMARKS_NPM names no folder with @modelcontextprotocol/sdk 1.32.2 in node_modules",
        ),
    )


def rate_goal(flight: int, to: str, at_least: float) -> Goal:
    return Goal(
        says=f"MCP calls per second, {flight} in flight, of {to}",
        of=named("clawft_trio", flight),
        to=named(to, flight),
        figure=RATE.key,
        at_least=at_least,
    )


BENCH = Bench(
    title="MCP calls over stdio",
    item="call",
    limit="The same requests and lines through the same pipe, blocking, nothing decoded.",
    against=named("pipe", 1),
    figures=(CPU, WALL, RATE),
    rounds=4,
    cases=tuple(case for flight in FLIGHTS for case in cases(flight)),
    goals=(
        rate_goal(1, "mcp on trio", 2),
        rate_goal(100, "mcp on trio", 10),
        rate_goal(1000, "mcp on trio", 10),
        rate_goal(100, "TypeScript", 1),
        rate_goal(1000, "TypeScript", 1),
        Goal(
            says="CPU per MCP call, 100 in flight, of mcp on trio",
            of=named("clawft_trio", 100),
            to=named("mcp on trio", 100),
            at_most=0.1,
        ),
    ),
)
