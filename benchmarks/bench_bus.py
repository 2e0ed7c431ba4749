"""Messages per second through the bus, against what one would take instead.

    python benchmarks/bench_bus.py

One producer publishes, one consumer iterates; best of several interleaved rounds, all in one process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import trio

from clawft_trio.bus import BusConfig, MessageBus
from clawft_trio.messages import InboundMessage

MESSAGE = InboundMessage(
    channel="bench", sender_id="ana", chat_id="1", content="hello", id="1", timestamp=datetime.now(UTC)
)
CAPACITY = 1024


def through_the_bus(count: int) -> float:
    """`publish_inbound` and `async for m in bus.inbound`."""

    async def publish(bus: MessageBus) -> None:
        for _ in range(count):
            await bus.publish_inbound(MESSAGE)
        bus.close()

    async def main() -> float:
        bus = MessageBus(BusConfig(inbound_buffer_size=CAPACITY))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish, bus)
            started, received = time.perf_counter(), 0
            async for _ in bus.inbound:
                received += 1
        assert received == count
        return count / (time.perf_counter() - started)

    return trio.run(main)


def through_a_careful_channel(count: int) -> float:
    """A trio channel as facts/trio.md 4e advises: `send_nowait`, else `send`; block once, then drain."""

    async def publish(send: trio.MemorySendChannel[InboundMessage]) -> None:
        with send:
            for _ in range(count):
                try:
                    send.send_nowait(MESSAGE)
                except trio.WouldBlock:
                    await send.send(MESSAGE)

    async def main() -> float:
        send, receive = trio.open_memory_channel[InboundMessage](CAPACITY)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish, send)
            started, received = time.perf_counter(), 0
            async for _ in receive:
                received += 1
                try:
                    while True:
                        receive.receive_nowait()
                        received += 1
                except (trio.WouldBlock, trio.EndOfChannel):
                    pass
        assert received == count
        return count / (time.perf_counter() - started)

    return trio.run(main)


def through_a_plain_channel(count: int) -> float:
    """`await send.send()` and `async for`: the trio channel as everybody writes it."""

    async def publish(send: trio.MemorySendChannel[InboundMessage]) -> None:
        async with send:
            for _ in range(count):
                await send.send(MESSAGE)

    async def main() -> float:
        send, receive = trio.open_memory_channel[InboundMessage](CAPACITY)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish, send)
            started, received = time.perf_counter(), 0
            async for _ in receive:
                received += 1
        assert received == count
        return count / (time.perf_counter() - started)

    return trio.run(main)


def through_asyncio_queue(count: int) -> float:
    """`asyncio.Queue`, put and get."""

    async def main() -> float:
        queue: asyncio.Queue[InboundMessage] = asyncio.Queue(CAPACITY)

        async def publish() -> None:
            for _ in range(count):
                await queue.put(MESSAGE)

        async with asyncio.TaskGroup() as group:
            group.create_task(publish())
            started = time.perf_counter()
            for _ in range(count):
                await queue.get()
        return count / (time.perf_counter() - started)

    return asyncio.run(main())


CAREFUL = "trio channel, send_nowait else send, then drain"

CONTENDERS: dict[str, Callable[[int], float]] = {
    "bus": through_the_bus,
    CAREFUL: through_a_careful_channel,
    "trio channel, send and async for": through_a_plain_channel,
    "asyncio.Queue": through_asyncio_queue,
}


def measure(*, count: int = 100_000, rounds: int = 10, contenders: Iterable[str] = CONTENDERS) -> dict[str, float]:
    """Messages per second of each contender, best of *rounds*, taken in turns."""
    best = dict.fromkeys(contenders, 0.0)
    for _ in range(rounds):
        for name in best:
            best[name] = max(best[name], CONTENDERS[name](count))
    return best


def main() -> None:
    rates = measure()
    for name, rate in rates.items():
        print(f"{name:50} {rate / 1e6:6.2f} M messages/s   bus is {rates['bus'] / rate:5.2f} times that")


if __name__ == "__main__":
    main()
