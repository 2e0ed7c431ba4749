"""What the loop remembers of messages on their way into the queue, it forgets when they leave it, in every way."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import trio

from clawft_trio.agent import LoopPolicy, TurnContext, serve_sessions
from clawft_trio.agent.journal import Journal
from clawft_trio.agent.open_agent import MIGRATIONS
from clawft_trio.bus import BusConfig, LeasedUndelivered, MessageBus, StoredUndelivered
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.observe import MessageDropped, Recorder
from clawft_trio.store import open_store
from clawft_trio.store.ownership import Ownership

ROUNDS = 4


def asks(id_: str, chat: str) -> InboundMessage:
    return InboundMessage(channel="ch", sender_id="u", chat_id=chat, id=id_, content="?")


async def turn(message: InboundMessage, _: TurnContext) -> OutboundMessage:
    await (trio.sleep_forever() if message.chat_id == "hangs" else trio.lowlevel.checkpoint())
    return OutboundMessage(channel="ch", chat_id=message.chat_id, content="fine")


@pytest.mark.parametrize("shared", [False, True], ids=["alone", "shared"])
async def test_nothing_is_remembered_of_messages_that_were_answered_stopped_dropped_or_came_twice(
    shared: bool, tmp_path: Path
) -> None:
    dropped, finals = Recorder(), Counter[str]()
    asked: list[InboundMessage] = []
    async with open_store(tmp_path / "s.db", migrations=MIGRATIONS) as store, trio.open_nursery() as nursery:
        ownership = Ownership(store) if shared else None
        bus = MessageBus(
            BusConfig(inbound_buffer_size=3, inbound_overflow_policy="drop_oldest"),
            undelivered=StoredUndelivered(store) if ownership is None else LeasedUndelivered(ownership),
            observer=dropped,
        )

        async def collect() -> None:
            async for reply in bus.outbound("ch"):
                finals[reply.reply_to or ""] += 1

        async def publish(id_: str, chat: str) -> None:
            asked.append(asks(id_, chat))
            await bus.publish_inbound(asked[-1])

        async def until_running(count: int) -> None:
            while loop.statistics().running != count or loop.statistics().waiting > 3:
                await trio.sleep(0.005)

        nursery.start_soon(collect)
        journal, policy = Journal(store, ownership=ownership), LoopPolicy(poll=0.02, grace=60.0)
        loop = await nursery.start(lambda **kw: serve_sessions(bus, turn, journal=journal, policy=policy, **kw))
        with trio.fail_after(60):
            for number in range(ROUNDS):
                await publish(f"runs{number}", "hangs")
                await until_running(1)
                for place in range(5):  # more than the queue holds
                    await publish(f"waits{number}.{place}", "hangs")
                loop.cancel_session("ch:hangs")
                await until_running(0)
                for place in range(3):  # the later ones are begun when the one before ends
                    await publish(f"fine{number}.{place}", "a")
                await publish(f"fine{number}.0", "a")
            await loop.shutdown()
        bus.close()
    lost = {event.message.id for event in dropped.of(MessageDropped)}
    assert len(lost) == 2 * ROUNDS
    assert loop.statistics().duplicates == ROUNDS
    assert set(finals) == {message.id for message in asked} - lost
    assert [message.id for message in asked if loop._intake.is_waiting(message)] == []
