"""What a turn costs the agent loop beside its model: with 100 sessions at once, 1 000 and 10 000.

Every turn streams: it shows 10 pieces and its final reply. All sessions of a round are in the middle of their turn at
the same time. Pieces come every 20 to 60 ms, as models send them, on trio's mock clock, so that 10 000 sessions do not
ask for more pieces a second than one process can carry; every 0.5 to 1.5 s on the real clock; and, to see what overload
does, as fast as the loop can take them: then 10 000 sessions wait for each other's room in the outbound queue.
"""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import trio
import trio.testing

from benchmarks.bench import CPU, WALL, Bench, Case, Figure, Goal, Open, PlainRound, Setting, Stopwatch
from clawft_trio.agent import AgentLoop, LoopPolicy, TurnContext
from clawft_trio.bus import BusConfig, MessageBus
from clawft_trio.messages import InboundMessage, OutboundMessage

PIECES = 10
TEXT = "and so on "

AS_MODELS_DO = (0.02, 0.06)
SLOWLY = (0.5, 1.5)
AT_ONCE = (0.0, 0.0)
KIB = Figure("kib", "memory of a session in its turn, KiB")


@attrs.define
class Crowd:
    """A turn that waits in its middle until everybody is there."""

    size: int
    #: seconds between two pieces, from and to
    pace: tuple[float, float]
    there: int = 0
    chance: random.Random = attrs.field(factory=lambda: random.Random(0))
    everybody: trio.Event = attrs.field(factory=trio.Event)
    go_on: trio.Event = attrs.field(factory=trio.Event)

    async def __call__(self, message: InboundMessage, context: TurnContext) -> OutboundMessage:
        for number in range(PIECES):
            if number == PIECES // 2:
                await self.meet()
            await trio.sleep(self.chance.uniform(*self.pace))
            await context.show("partial", TEXT)
        return OutboundMessage(channel="", chat_id="", content=TEXT * PIECES)

    async def meet(self) -> None:
        self.there += 1
        if self.there == self.size:
            self.everybody.set()
        await self.go_on.wait()


async def one_crowd(sessions: int, turns: int, watch: Stopwatch, *, pace: tuple[float, float], weigh: bool) -> None:
    """So many *turns*, *sessions* of them at the same time."""
    config = BusConfig(inbound_buffer_size=sessions, outbound_buffer_size=1024)
    policy = LoopPolicy(max_concurrent_turns=sessions, remembered_ids=sessions)
    bus, crowd = MessageBus(config), Crowd(sessions, pace)

    async def turn(message: InboundMessage, context: TurnContext) -> OutboundMessage:
        return await crowd(message, context)

    async def listen() -> None:
        async for _ in bus.outbound("bench"):
            pass

    async def ask() -> None:
        for chat in range(sessions):
            message = InboundMessage(channel="bench", sender_id="ana", chat_id=str(chat), content="hello")
            await bus.publish_inbound(message)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        loop: AgentLoop = AgentLoop(bus, turn, policy=policy)
        await nursery.start(lambda *, task_status: loop.serve(task_status=task_status))
        for _ in range(turns // sessions):
            crowd = Crowd(sessions, pace)
            before = tracemalloc.get_traced_memory()[0] if weigh else 0
            with watch.timing(sessions):
                await ask()
                await crowd.everybody.wait()
                if weigh:
                    watch.note(KIB.key, (tracemalloc.get_traced_memory()[0] - before) / sessions / 1024)
                crowd.go_on.set()
                while loop.statistics().running:
                    await trio.sleep(pace[1])
        assert loop.statistics().answered == turns
        await loop.shutdown()
        bus.close()


def crowding(
    sessions: int,
    *,
    turns: int = 1000,
    pace: tuple[float, float] = AS_MODELS_DO,
    real: bool = False,
    weigh: bool = False,
) -> Open:
    @contextmanager
    def opened(setting: Setting) -> Iterator[PlainRound]:
        size = setting.sized(sessions, min(sessions, 20))
        count = max(size, turns // size * size) if not setting.quick else size

        wait = (0.0, 0.01) if setting.quick else pace

        def one_round(watch: Stopwatch) -> None:
            clock = None if real else trio.testing.MockClock(autojump_threshold=0)
            trio.run(lambda: one_crowd(size, count, watch, pace=wait, weigh=weigh), clock=clock)

        def weighed(watch: Stopwatch) -> None:
            # tracemalloc slows everything, so that only the weight is kept.
            slowed = Stopwatch()
            tracemalloc.start()
            try:
                one_round(slowed)
            finally:
                tracemalloc.stop()
            watch.note(KIB.key, slowed.notes[KIB.key])

        yield weighed if weigh else one_round

    return opened


def bare_tasks(sessions: int, *, turns: int = 1000) -> Open:
    """As many trio tasks that sleep as often, and nothing else."""

    @contextmanager
    def opened(setting: Setting) -> Iterator[PlainRound]:
        size = setting.sized(sessions, min(sessions, 20))
        count = max(size, turns // size * size) if not setting.quick else size

        async def session(chance: random.Random) -> None:
            for _ in range(PIECES):
                await trio.sleep(chance.uniform(*AS_MODELS_DO))

        async def crowd(watch: Stopwatch) -> None:
            chance = random.Random(0)
            for _ in range(count // size):
                with watch.timing(size):
                    async with trio.open_nursery() as nursery:
                        for _ in range(size):
                            nursery.start_soon(session, chance)

        def one_round(watch: Stopwatch) -> None:
            trio.run(crowd, watch, clock=trio.testing.MockClock(autojump_threshold=0))

        yield one_round

    return opened


FEW, MANY = "100 sessions", "10 000 sessions"
FEW_REAL, MANY_REAL = "100 sessions, real clock", "10 000 sessions, real clock"
BARE = "10 000 bare tasks that sleep as often"

BENCH = Bench(
    title="a streaming turn among many",
    item="turn",
    limit="trio tasks that sleep as often as models speak, and say nothing.",
    against=BARE,
    figures=(CPU, WALL, KIB),
    rounds=2,
    warm_up=False,
    cases=(
        Case("100 bare tasks that sleep as often", bare_tasks(100), role="limit", loop="none"),
        Case(BARE, bare_tasks(10_000), role="limit", loop="none"),
        Case(FEW, crowding(100), loop="none"),
        Case("1 000 sessions", crowding(1000), loop="none"),
        Case(MANY, crowding(10_000), loop="none"),
        Case(FEW_REAL, crowding(100, turns=100, pace=SLOWLY, real=True), loop="none"),
        Case(MANY_REAL, crowding(10_000, pace=SLOWLY, real=True), loop="none"),
        Case("100 sessions, as fast as they go", crowding(100, pace=AT_ONCE, real=True), loop="none"),
        Case("10 000 sessions, as fast as they go", crowding(10_000, pace=AT_ONCE, real=True), loop="none"),
        Case("1 000 sessions, weighed", crowding(1000, weigh=True), loop="none", covers="by tracemalloc"),
    ),
    goals=(
        Goal(says="a turn among 10 000 sessions, of one among 100, paced", of=MANY, to=FEW, at_most=1.3),
        Goal(says="the same on the real clock", of=MANY_REAL, to=FEW_REAL, at_most=1.3),
    ),
)
