"""What a turn costs the agent loop beside its model: with 100 sessions at once, and with 10 000.

    python benchmarks/bench_loop.py

Every turn streams: it shows 20 pieces, one every 20 to 60 ms as models do, and its final reply. All sessions of a round
are in the middle of their turn at the same time. Time is trio's mock clock, so that 10 000 sessions do not ask for more
pieces a second than one process can carry; what is measured is the processor time of this process.
"""

from __future__ import annotations

import gc
import random
import time
import tracemalloc

import attrs
import trio
import trio.testing

from clawft_trio.agent.loop import (AgentLoop)
from clawft_trio.agent.turn_context import (LoopPolicy, TurnContext)
from clawft_trio.bus import BusConfig, MessageBus
from clawft_trio.messages import InboundMessage, OutboundMessage

PIECES = 20


@attrs.define
class Crowd:
    """A turn that waits in its middle until everybody is there."""

    size: int
    there: int = 0
    chance: random.Random = attrs.field(factory=lambda: random.Random(0))
    everybody: trio.Event = attrs.field(factory=trio.Event)
    go_on: trio.Event = attrs.field(factory=trio.Event)

    async def __call__(self, message: InboundMessage, context: TurnContext) -> OutboundMessage:
        for number in range(PIECES):
            if number == PIECES // 2:
                await self.meet()
            await trio.sleep(self.chance.uniform(0.02, 0.06))
            await context.show("partial", "and so on ")
        return OutboundMessage(channel="", chat_id="", content="and so on " * PIECES)

    async def meet(self) -> None:
        self.there += 1
        if self.there == self.size:
            self.everybody.set()
        await self.go_on.wait()


async def _rounds(sessions: int, rounds: int, *, weigh: bool) -> tuple[float, float]:
    """Seconds per turn, and bytes per session in mid-turn (0 when not weighed)."""
    config = BusConfig(inbound_buffer_size=sessions, outbound_buffer_size=1024)
    policy = LoopPolicy(max_concurrent_turns=sessions, remembered_ids=sessions)
    bus, crowd, size = MessageBus(config), Crowd(sessions), 0.0

    async def turn(message: InboundMessage, context: TurnContext) -> OutboundMessage:
        return await crowd(message, context)

    async def listen() -> None:
        async for _ in bus.outbound("bench"):
            pass

    async def ask() -> None:
        for chat in range(sessions):
            message = InboundMessage(channel="bench", sender_id="ana", chat_id=str(chat), content="hello")
            await bus.publish_inbound(message)

    spent = 0.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        loop: AgentLoop = AgentLoop(bus, turn, policy=policy)
        await nursery.start(lambda *, task_status: loop.serve(task_status=task_status))
        for _ in range(rounds):
            crowd = Crowd(sessions)
            gc.collect()
            before = tracemalloc.get_traced_memory()[0] if weigh else 0
            started = time.process_time()
            await ask()
            await crowd.everybody.wait()
            if weigh:
                size = (tracemalloc.get_traced_memory()[0] - before) / sessions
            crowd.go_on.set()
            while loop.statistics().running:
                await trio.sleep(0.1)
            spent += time.process_time() - started
        assert loop.statistics().answered == sessions * rounds
        await loop.shutdown()
        bus.close()
    return spent / (sessions * rounds), size


def cost_per_turn(sessions: int, *, turns: int = 10_000) -> float:
    """Seconds of one turn, with *sessions* of them at the same time."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(lambda: _rounds(sessions, turns // sessions, weigh=False), clock=clock)[0]


def memory_per_session(sessions: int) -> float:
    """Bytes that one session in the middle of its turn holds, task and messages included."""
    tracemalloc.start()
    try:
        clock = trio.testing.MockClock(autojump_threshold=0)
        return trio.run(lambda: _rounds(sessions, 1, weigh=True), clock=clock)[1]
    finally:
        tracemalloc.stop()


def measure(*, few: int = 100, many: int = 10_000, rounds: int = 1) -> dict[str, float]:
    """Cost per turn with few and many sessions, best of *rounds* taken in turns, and memory per session."""
    costs = [(cost_per_turn(few, turns=10 * few), cost_per_turn(many, turns=many)) for _ in range(rounds)]
    return {
        "few": min(cost for cost, _ in costs),
        "many": min(cost for _, cost in costs),
        "ratio": min(cost for _, cost in costs) / min(cost for cost, _ in costs),
        "bytes": memory_per_session(many // 10),
    }


def main() -> None:
    found = measure()
    print(f"a streaming turn with    100 sessions at once {found['few'] * 1e6:8.1f} µs")
    print(
        f"a streaming turn with 10 000 sessions at once {found['many'] * 1e6:8.1f} µs   {found['ratio']:.2f} times that"
    )
    print(f"memory of a session in the middle of its turn {found['bytes'] / 1024:8.1f} KiB")


if __name__ == "__main__":
    main()
