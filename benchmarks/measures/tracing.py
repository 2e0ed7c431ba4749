"""What it costs a turn to be watched, and what it costs when nobody watches.

A turn with three tools over a model in memory. Its events are made whether or not somebody is told; the case "its
events, made and told to nobody" makes the same ones again, alone, so that what tracing costs when it is off is seen.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from typing import TypeAlias

import attrs

from benchmarks.bench import CPU, WALL, Bench, Case, Goal, Open, Round, Setting, Stopwatch
from clawft_trio import open_agent, tool
from clawft_trio.agent import Agent
from clawft_trio.observe import Event, LogObserver, Observer, Recorder, fan_out, open_recording
from clawft_trio.testing import CallTool, ScriptedProvider

TURNS = 50
OpenObserver: TypeAlias = Callable[[Setting], AbstractAsyncContextManager[Iterable[Observer]]]


@tool(mode="read_only")
async def weather(city: str) -> str:
    """The weather in a city, now."""
    return f"{city}: rain"


@asynccontextmanager
async def open_bench_agent(observers: Iterable[Observer]) -> AsyncGenerator[Agent, None]:
    calls = [CallTool("weather", {"city": city}) for city in ("Oslo", "Bergen", "Tromsø")]
    model = ScriptedProvider.using_tools(*calls, then="Take an umbrella.")
    async with open_agent(
        ["scripted/model"], providers={"scripted": model}, tools=[weather], observers=observers
    ) as agent:
        yield agent


def watched_by(open_observers: OpenObserver) -> Open:
    """Rounds of turns, each in a session of its own."""

    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        turns, sessions = setting.sized(TURNS, 2), count()
        async with open_observers(setting) as observers, open_bench_agent(observers) as agent:

            async def one_round(watch: Stopwatch) -> None:
                with watch.timing(turns):
                    for _ in range(turns):
                        reply = await agent.ask("What do I take along?", session=f"bench:{next(sessions)}")
                        assert reply.text == "Take an umbrella."

            yield one_round

    return opened


@asynccontextmanager
async def its_events(setting: Setting) -> AsyncGenerator[Round, None]:
    """The events of a turn, made again and told to nobody; an item is a turn's worth of them."""
    turns, seen, tell = setting.sized(TURNS, 2) * 20, Recorder(), fan_out(())
    async with open_bench_agent([seen]) as agent:
        await agent.ask("What do I take along?")
    made: list[tuple[Callable[..., Event], dict[str, object]]] = [
        (type(event), _fields(event)) for event in seen.events
    ]

    async def one_round(watch: Stopwatch) -> None:
        with watch.timing(turns):
            for _ in range(turns):
                for kind, fields in made:
                    tell(kind(**fields))

    yield one_round


def _fields(event: Event) -> dict[str, object]:
    return {each.alias: getattr(event, each.name) for each in attrs.fields(type(event)) if each.init}


@asynccontextmanager
async def nobody(setting: Setting) -> AsyncGenerator[Iterable[Observer], None]:
    yield ()


@asynccontextmanager
async def recorder(setting: Setting) -> AsyncGenerator[Iterable[Observer], None]:
    yield [Recorder()]


@asynccontextmanager
async def logs(setting: Setting) -> AsyncGenerator[Iterable[Observer], None]:
    logger = logging.getLogger("benchmarks")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    handler = logging.FileHandler(setting.folder / "events.log")
    logger.addHandler(handler)
    try:
        yield [LogObserver(logger)]
    finally:
        handler.close()


@asynccontextmanager
async def recording(setting: Setting) -> AsyncGenerator[Iterable[Observer], None]:
    async with open_recording(setting.folder / "turns.jsonl") as observer:
        yield [observer]


@asynccontextmanager
async def otel(setting: Setting) -> AsyncGenerator[Iterable[Observer], None]:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

    from clawft_trio.observe.otel import OtelObserver

    yield [OtelObserver(tracer_provider=TracerProvider(), meter_provider=MeterProvider())]


OFF = "nobody watches"
EVENTS = "its events, made and told to nobody"

BENCH = Bench(
    title="a turn with three tools, watched",
    item="turn",
    limit="The same turn with no observer.",
    against=OFF,
    figures=(CPU, WALL),
    rounds=9,
    cases=(
        Case(OFF, watched_by(nobody)),
        Case(
            "nobody watches, once more", watched_by(nobody), covers="as far as two equal cases differ, nothing is shown"
        ),
        Case(EVENTS, its_events, covers="what tracing costs a turn when it is off"),
        Case("a Recorder", watched_by(recorder)),
        Case("logs to a file", watched_by(logs)),
        Case("a recording, JSON lines", watched_by(recording)),
        Case(
            "OpenTelemetry, spans and metrics",
            watched_by(otel),
            needs="opentelemetry-sdk",
            covers="without an exporter",
        ),
    ),
    goals=(Goal(says="what tracing costs a turn when it is off, of the turn", of=EVENTS, to=OFF, at_most=0.02),),
)
