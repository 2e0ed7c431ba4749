"""Messages through the bus, against what one would take instead: one producer publishes, one consumer iterates."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import trio

from benchmarks.bench import CPU, WALL, Bench, Case, Figure, Goal, Open, PlainRound, Setting, Stopwatch
from clawft_trio.bus import BusConfig, MessageBus
from clawft_trio.messages import InboundMessage

MESSAGE = InboundMessage(
    channel="bench", sender_id="ana", chat_id="1", content="hello", id="1", timestamp=datetime.now(UTC)
)
CAPACITY = 1024
ONE_BY_ONE = 1000

Carry = Callable[[int, Stopwatch], None]
"""Carries so many messages from one task to another, and has the stopwatch run meanwhile."""


def through_the_bus(count: int, watch: Stopwatch, *, capacity: int = CAPACITY) -> None:
    """`publish_inbound` and `async for m in bus.inbound`."""

    async def publish(bus: MessageBus) -> None:
        for _ in range(count):
            await bus.publish_inbound(MESSAGE)
        bus.close()

    async def main() -> None:
        bus, received = MessageBus(BusConfig(inbound_buffer_size=capacity)), 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish, bus)
            with watch.timing(count):
                async for _ in bus.inbound:
                    received += 1
        assert received == count

    trio.run(main)


def through_a_careful_channel(count: int, watch: Stopwatch, *, capacity: int = CAPACITY) -> None:
    """A trio channel used with care: `send_nowait`, else `send`; block once, then drain."""

    async def publish(send: trio.MemorySendChannel[InboundMessage]) -> None:
        with send:
            for _ in range(count):
                try:
                    send.send_nowait(MESSAGE)
                except trio.WouldBlock:
                    await send.send(MESSAGE)

    async def main() -> None:
        send, receive = trio.open_memory_channel[InboundMessage](capacity)
        received = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish, send)
            with watch.timing(count):
                async for _ in receive:
                    received += 1
                    try:
                        while True:
                            receive.receive_nowait()
                            received += 1
                    except (trio.WouldBlock, trio.EndOfChannel):
                        pass
        assert received == count

    trio.run(main)


def through_a_plain_channel(count: int, watch: Stopwatch, *, capacity: int = CAPACITY) -> None:
    """`await send.send()` and `async for`: the trio channel as everybody writes it."""

    async def publish(send: trio.MemorySendChannel[InboundMessage]) -> None:
        async with send:
            for _ in range(count):
                await send.send(MESSAGE)

    async def main() -> None:
        send, receive = trio.open_memory_channel[InboundMessage](capacity)
        received = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish, send)
            with watch.timing(count):
                async for _ in receive:
                    received += 1
        assert received == count

    trio.run(main)


def through_asyncio_queue(count: int, watch: Stopwatch, *, capacity: int = CAPACITY) -> None:
    """`asyncio.Queue`, put and get."""

    async def main() -> None:
        queue: asyncio.Queue[InboundMessage] = asyncio.Queue(capacity)

        async def publish() -> None:
            for _ in range(count):
                await queue.put(MESSAGE)

        async with asyncio.TaskGroup() as group:
            group.create_task(publish())
            with watch.timing(count):
                for _ in range(count):
                    await queue.get()

    asyncio.run(main())


def carrying(carry: Callable[..., None], full: int = 100_000) -> Open:
    """Rounds of many messages at once; then of one message at a time, which shows how long one takes."""

    @contextmanager
    def opened(setting: Setting) -> Iterator[PlainRound]:
        count = setting.sized(full, min(full, 200))

        def one_round(watch: Stopwatch) -> None:
            carry(count, watch)
            alone = Stopwatch()
            carry(min(count, ONE_BY_ONE), alone, capacity=1)
            watch.note("hop_us", alone.figures()["wall"])

        yield one_round

    return opened


BUS = "bus"
CAREFUL = "trio channel, send_nowait else send, then drain"

BENCH = Bench(
    title="messages through the bus",
    item="message",
    limit="A bare trio channel used with care: no policy, no counters, no weight, no fairness among sessions.",
    against=CAREFUL,
    figures=(WALL, CPU, Figure("hop_us", "one at a time, µs")),
    rounds=11,
    cases=(
        Case(CAREFUL, carrying(through_a_careful_channel), role="limit", loop="none"),
        Case(BUS, carrying(through_the_bus), loop="none"),
        Case("trio channel, send and async for", carrying(through_a_plain_channel), role="peer", loop="none"),
        Case("asyncio.Queue", carrying(through_asyncio_queue), role="peer", loop="none"),
    ),
    goals=(
        # The rate of the bus, of the channel's: the channel's time, of the bus's.
        Goal(
            says="messages per second through the bus, of a bare channel used with care",
            of=CAREFUL,
            to=BUS,
            figure="wall",
            at_least=0.8,
        ),
    ),
)


def rate(carry: Carry, count: int) -> float:
    """Messages per second, once."""
    watch = Stopwatch()
    carry(count, watch)
    return count / watch.wall
