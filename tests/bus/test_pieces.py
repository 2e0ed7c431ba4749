"""Pieces of answers reach the process that serves their channel, in batches, and are dropped rather than queued."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import given, strategies as st

from clawft_trio import open_agent, parse_config
from clawft_trio.agent import LoopPolicy
from clawft_trio.agent.journal import Journal
from clawft_trio.agent.open_agent import MIGRATIONS
from clawft_trio.bus import LeasedUndelivered, MessageBus, Publish, open_bus
from clawft_trio.bus.pieces import PieceRelay, decode_pieces
from clawft_trio.errors import StoreBusy
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.store import Store, open_store
from clawft_trio.store.ownership import Ownership
from clawft_trio.testing import Finish, Say, ScriptedProvider, Wait
from clawft_trio.testing.sweep import cancel_everywhere


def piece(content: str, *, reply_to: str = "m1", kind: str = "partial") -> OutboundMessage:
    return OutboundMessage(channel="ch", chat_id="1", content=content, reply_to=reply_to, kind=kind)


class Notified:
    """A store that keeps what would be sent."""

    engine = "postgresql"

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.away = False

    async def transact(self, function, **_: object) -> None:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise StoreBusy("away", path="x")
        function(self)

    def execute(self, _: str, values: tuple[str]) -> Notified:
        self.texts.extend(values)
        return self

    def fetchone(self) -> None:
        return None

    def shown(self) -> list[OutboundMessage]:
        payloads = [text.partition("\n")[2] for text in self.texts]
        return [message for payload in payloads for message in decode_pieces(payload)[1]]


async def sent(relay: PieceRelay) -> None:
    """Serve *relay* until nothing waits."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(relay.serve)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


@given(st.lists(st.text(max_size=6000), max_size=6))
def test_the_texts_arrive_whole_and_in_order_in_small_notifications(texts: list[str]) -> None:
    store = Notified()
    relay = PieceRelay(store, "me")
    taken = [text for text in texts if relay.offer(piece(text))]
    trio.run(sent, relay)
    assert all(len(text.encode()) <= 7900 for text in store.texts)
    assert "".join(message.content for message in store.shown()) == "".join(taken)
    assert relay.statistics().waiting == 0


async def test_pieces_that_wait_share_a_notification() -> None:
    store = Notified()
    relay = PieceRelay(store, "me")
    for number in range(20):
        assert relay.offer(piece(f"{number}"))
    await sent(relay)
    assert len(store.texts) == 1
    assert [message.content for message in store.shown()] == [str(number) for number in range(20)]


async def test_beyond_the_buffer_pieces_are_dropped() -> None:
    store = Notified()
    relay = PieceRelay(store, "me")
    offered = [relay.offer(piece("x" * 1000)) for _ in range(200)]
    assert not all(offered)
    found = relay.statistics()
    assert found.waiting <= 64 * 1024
    assert found.dropped == offered.count(False)
    await sent(relay)
    assert relay.statistics().sent == offered.count(True)


async def test_a_server_that_is_away_loses_the_batch_and_nothing_more() -> None:
    store = Notified()
    relay = PieceRelay(store, "me")
    store.away = True
    relay.offer(piece("lost"))
    await sent(relay)
    store.away = False
    relay.offer(piece("shown"))
    await sent(relay)
    assert [message.content for message in store.shown()] == ["shown"]
    assert (relay.statistics().sent, relay.statistics().dropped) == (1, 1)


async def test_a_final_reply_drops_the_pieces_that_wait_for_its_message() -> None:
    store = Notified()
    relay = PieceRelay(store, "me")
    relay.offer(piece("old"))
    relay.offer(piece("of another", reply_to="m2"))
    relay.forget(piece("done", kind="final"))
    await sent(relay)
    assert [message.content for message in store.shown()] == ["of another"]


# A notification has at most 8 000 bytes.
DEEP = 'me\n[{"x": ' + "[" * 3900


@pytest.mark.parametrize("payload", ["", "me", "me\n", "me\n{}", 'me\n[{"channel": 1}]', "me\n[", "me\n[null]", DEEP])
def test_what_cannot_be_read_is_no_piece(payload: str) -> None:
    assert decode_pieces(payload)[1] == ()


async def test_serving_can_be_cancelled_anywhere() -> None:
    store = Notified()
    relay = PieceRelay(store, "me")

    async def operation() -> None:
        relay.offer(piece("x"))
        with trio.move_on_after(0.01):
            await relay.serve()

    async def nothing_waits_twice() -> None:
        relay.forget(piece("", kind="final"))
        assert relay.statistics().waiting == 0

    assert await cancel_everywhere(operation, nothing_waits_twice) >= 2


@asynccontextmanager
async def process(address: str) -> AsyncGenerator[tuple[MessageBus, Journal, Store], None]:
    """The bus, the journal and the store of one process."""
    async with open_store(address, migrations=MIGRATIONS) as store:
        ownership = Ownership(store)
        async with open_bus(undelivered=LeasedUndelivered(ownership)) as bus, trio.open_nursery() as nursery:
            nursery.start_soon(bus.relay_pieces)
            yield bus, Journal(store, ownership=ownership), store
            nursery.cancel_scope.cancel()


async def until_listening(receiver: Store, sender: Store) -> None:
    """Wait until notifications of *sender* reach *receiver*: what is sent before is lost."""
    heard = trio.Event()
    with receiver.listening(lambda *_: heard.set()):
        while not heard.is_set():
            await sender.transact(lambda c: c.execute("SELECT notify_listeners(?)", ("test\n",)).fetchone())
            with trio.move_on_after(0.1):
                await heard.wait()


async def test_a_piece_that_comes_after_its_final_reply_is_not_shown(postgres) -> None:
    address = postgres.schema()
    async with process(address) as (worker_bus, worker, sender), process(address) as (channel_bus, _, receiver):
        await until_listening(receiver, sender)
        outbox = channel_bus.outbound("ch")
        asked = InboundMessage(channel="ch", sender_id="u", chat_id="1", id="m1", content="?")
        shown: list[str] = []

        async def collect() -> None:
            shown.extend([message.content async for message in outbox])

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(collect)
                while not outbox._shared.served_here:
                    await trio.sleep(0.01)
                await worker.accept(asked, claim=False)
                assert await worker_bus.dispatch_outbound(piece("Hel"))
                while channel_bus.statistics().outbound["ch"].delivered < 1:
                    await trio.sleep(0.01)
                final = piece("Hello.", kind="final")
                await worker.replied(asked, final)
                await worker_bus.dispatch_outbound(final, kept=True)
                while channel_bus.statistics().undelivered or not outbox._shared.is_late(piece("lo.")):
                    await trio.sleep(0.01)
                outbox.piece_arrived(piece("lo."))
                channel_bus.close()
    assert shown == ["Hel", "Hello."]


class Chat:
    """A channel that shows pieces."""

    name = "ch"
    shows_partials = True

    def __init__(self) -> None:
        self.shown: list[tuple[str, str]] = []
        self.done = trio.Event()

    async def receive(self, publish: Publish) -> None:
        await trio.sleep_forever()

    async def send(self, message: OutboundMessage) -> None:
        await trio.lowlevel.checkpoint()
        self.shown.append((message.kind, message.content))
        if message.kind == "final":
            self.done.set()


CONFIG = parse_config('{"routing": {"permissions": {"channels": {"ch": {"level": 1, "rateLimit": 0}}}}}')


async def test_an_answer_of_a_worker_is_shown_as_it_comes_where_its_channel_is(postgres) -> None:
    address, chat = postgres.schema(), Chat()
    slow = ScriptedProvider([Say("It "), Wait(0.5), Say("is "), Wait(0.5), Say("fine."), Finish()], name="p")
    here, there = LoopPolicy(resume=False), LoopPolicy(hand_over=True)
    async with (
        open_agent(["p/m"], providers={"p": slow}, config=CONFIG, store=address, loop=here, channels=[chat]) as agent,
        open_agent(["p/m"], providers={"p": slow}, config=CONFIG, store=address, loop=there),
        open_store(address, migrations=MIGRATIONS) as store,
    ):
        await until_listening(agent.parts.store, store)
        outbox = agent.bus.outbound("ch")
        while not outbox._shared.served_here:
            await trio.sleep(0.01)
        asked = InboundMessage(channel="ch", sender_id="u", chat_id="1", id="m1", content="How is it?")
        await Journal(store, ownership=Ownership(store)).accept(asked, claim=False)
        with trio.fail_after(60):
            await chat.done.wait()
    *pieces, final = chat.shown
    assert final == ("final", "It is fine.")
    assert pieces
    assert "It is fine.".startswith("".join(text for _, text in pieces))
