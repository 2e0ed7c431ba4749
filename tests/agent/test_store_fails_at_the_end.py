"""A message whose turn could not be ended in the store has one reply, and its turn is ended when the store is back."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import trio

from clawft_trio.agent import LoopPolicy, TurnContext, serve_sessions
from clawft_trio.agent.journal import Journal
from clawft_trio.agent.open_agent import MIGRATIONS
from clawft_trio.bus import LeasedUndelivered, MessageBus
from clawft_trio.errors import StoreBusy, StoreCorrupt, StoreError, StoreReadOnly
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.store import Store, open_store
from clawft_trio.store.ownership import Ownership

POLICY = LoopPolicy(poll=0.02, grace=60.0)


def asks(number: int) -> InboundMessage:
    return InboundMessage(channel="ch", sender_id="u", chat_id="1", id=f"m{number}", content=f"{number}")


class FailingJournal(Journal):
    """A journal that cannot end turns for a while."""

    failures: int = 0
    error: type[StoreError] = StoreError

    async def end(self, message, reply, **options):
        await trio.lowlevel.checkpoint()
        if self.failures:
            self.failures -= 1
            raise self.error("the disk is full")
        return await super().end(message, reply, **options)


async def open_turns(store: Store) -> int:
    query = "SELECT count(*) FROM turns WHERE message IS NOT NULL"
    (count,) = await store.read(lambda connection: connection.execute(query).fetchone())
    return count


async def answered(place: Path | str, *, failures: int, error: type[StoreError]) -> tuple[list[str], list[str]]:
    """The turns that ran and the replies that came for two messages of a session, once every turn has ended."""
    ran: list[str] = []
    replies: list[str] = []

    async def turn(message: InboundMessage, _: TurnContext) -> OutboundMessage:
        await trio.lowlevel.checkpoint()
        ran.append(message.id)
        return OutboundMessage(channel="ch", chat_id="1", content=message.content)

    async with open_store(place, migrations=MIGRATIONS) as store, trio.open_nursery() as nursery:
        ownership = Ownership(store, length=1.0)
        journal = FailingJournal(store, ownership=ownership)
        bus = MessageBus(undelivered=LeasedUndelivered(ownership))

        async def collect() -> None:
            replies.extend([message.reply_to or "" async for message in bus.outbound("ch") if message.kind == "final"])

        nursery.start_soon(collect)
        loop = await nursery.start(lambda **kw: serve_sessions(bus, turn, policy=POLICY, journal=journal, **kw))
        journal.failures, journal.error = failures, error
        await bus.publish_inbound(asks(0))
        await bus.publish_inbound(asks(1))
        with trio.fail_after(60):
            while await open_turns(store):
                await trio.sleep(0.02)
        # What had its reply is not answered again.
        await trio.sleep(0.2)
        await loop.shutdown()
        bus.close()
    return ran, replies


@pytest.mark.parametrize("failures", [1, 2, 4])
async def test_on_a_file_the_reply_is_sent_at_once_and_once(tmp_path: Path, failures: int) -> None:
    ran, replies = await answered(tmp_path / "a.db", failures=failures, error=StoreError)
    assert sorted(ran) == sorted(replies) == ["m0", "m1"]


async def test_no_other_process_answers_a_message_whose_reply_could_not_be_stored(tmp_path: Path) -> None:
    """The process that has sent the reply keeps the session until it has ended the turn."""
    replies: Counter[str] = Counter()

    async def turn(message: InboundMessage, _: TurnContext) -> OutboundMessage:
        await trio.lowlevel.checkpoint()
        return OutboundMessage(channel="ch", chat_id="1", content=message.content)

    async with open_store(tmp_path / "a.db", migrations=MIGRATIONS) as store, trio.open_nursery() as nursery:

        async def start(failures: int) -> tuple[MessageBus, FailingJournal]:
            ownership = Ownership(store)
            journal = FailingJournal(store, ownership=ownership)
            journal.failures = failures
            bus = MessageBus(undelivered=LeasedUndelivered(ownership))
            await nursery.start(lambda **kw: serve_sessions(bus, turn, policy=POLICY, journal=journal, **kw))
            return bus, journal

        bus, journal = await start(50)
        await start(0)

        async def collect() -> None:
            async for message in bus.outbound("ch"):
                replies[message.reply_to or ""] += 1

        nursery.start_soon(collect)
        await bus.publish_inbound(asks(0))
        with trio.fail_after(60):
            while await open_turns(store):
                await trio.sleep(0.02)
        await bus.publish_inbound(asks(1))
        with trio.fail_after(60):
            while len(replies) < 2 or await open_turns(store):
                await trio.sleep(0.02)
        assert journal.failures == 0
        nursery.cancel_scope.cancel()
    assert replies == {"m0": 1, "m1": 1}


@pytest.mark.parametrize("error", [StoreError, StoreBusy, StoreReadOnly, StoreCorrupt])
async def test_on_a_server_the_turn_is_ended_when_it_is_back(postgres, error: type[StoreError]) -> None:
    ran, replies = await answered(postgres.schema(), failures=2, error=error)
    assert ran == replies == ["m0", "m1"]
