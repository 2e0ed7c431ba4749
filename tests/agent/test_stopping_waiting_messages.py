"""A message that is stopped while its session is claimed has one reply, and shows nothing after it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from clawft_trio.agent import AgentLoop, LoopPolicy, TurnContext, serve_sessions
from clawft_trio.agent.journal import Journal
from clawft_trio.agent.open_agent import MIGRATIONS
from clawft_trio.bus import MessageBus, StoredUndelivered
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.store import Store, open_store
from clawft_trio.store.ownership import Ownership


def asks(number: int) -> InboundMessage:
    return InboundMessage(channel="ch", sender_id="u", chat_id="1", id=f"m{number}", content=f"{number}")


async def shows_and_answers(message: InboundMessage, context: TurnContext) -> OutboundMessage:
    await context.show("partial", message.content)
    await trio.sleep(0)
    await context.show("partial", message.content)
    return OutboundMessage(channel="ch", chat_id=message.chat_id, content=f"re: {message.content}")


async def stopped_after(store: Store, steps: int, stop: Callable[[AgentLoop], object]) -> list[OutboundMessage]:
    """What the channel is given of three messages of a session that is stopped *steps* checkpoints after the second."""
    ownership = Ownership(store)
    bus = MessageBus(undelivered=StoredUndelivered(store))
    shown: list[OutboundMessage] = []

    async def collect() -> None:
        shown.extend([message async for message in bus.outbound("ch")])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect)
        async with trio.open_nursery() as serving:
            journal, policy = Journal(store, ownership=ownership), LoopPolicy(grace=60.0)
            loop = await serving.start(
                lambda **kw: serve_sessions(bus, shows_and_answers, policy=policy, journal=journal, **kw)
            )
            async with trio.open_nursery() as publishing:
                for number in range(2):
                    await bus.publish_inbound(asks(number))
                publishing.start_soon(bus.publish_inbound, asks(2))
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                stop(loop)
            await bus.publish_inbound(asks(3))
            await loop.shutdown()
        bus.close()
    assert ownership.held == 0
    return shown


@pytest.mark.parametrize(
    "stop", [lambda loop: loop.cancel_session("ch:1"), lambda loop: loop.cancel_all()], ids=["session", "everything"]
)
async def test_nothing_is_shown_after_the_reply_that_a_message_was_stopped(
    stop: Callable[[AgentLoop], object], tmp_path: Path
) -> None:
    # Transactions run in threads: a step is not the same moment in each run, and the steps pass all moments.
    for steps in range(0, 120, 6):
        async with open_store(tmp_path / f"{steps}.db", migrations=MIGRATIONS) as store:
            shown = await stopped_after(store, steps, stop)
            assert await store.read(
                lambda c: c.execute("SELECT count(*) FROM turns WHERE message IS NOT NULL").fetchone()
            ) == (0,)
        finals = [message.reply_to for message in shown if message.kind == "final"]
        assert sorted(finals) == ["m0", "m1", "m2", "m3"], (steps, finals)
        for id_ in finals:
            of_message = [message.kind for message in shown if message.reply_to == id_]
            assert of_message[-1] == "final", (steps, id_, of_message)
