"""The order of what waits: publishers behind a cancelled one, and replies behind stored ones."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio

from clawft_trio.agent.open_agent import MIGRATIONS
from clawft_trio.bus import BoundedQueue, BusConfig, LeasedUndelivered, MemoryUndelivered, MessageBus, SessionReader
from clawft_trio.bus.undelivered import key_of
from clawft_trio.errors import StoreBusy
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.observe import MessageDropped, Recorder
from clawft_trio.store import open_store
from clawft_trio.store.ownership import Ownership


@attrs.frozen
class Item:
    number: int
    weight: int


def reply(number: int) -> OutboundMessage:
    return OutboundMessage(channel="test", chat_id="1", content=f"{number}", reply_to=f"m{number}")


async def test_a_cancelled_publisher_lets_in_the_next_one_that_fits(autojump_clock) -> None:
    queue: BoundedQueue[Item] = BoundedQueue("q", capacity=10, max_bytes=10, weigh=lambda item: item.weight)
    await queue.put(Item(1, 6))
    got_in: list[int] = []

    async def publish(item: Item) -> None:
        await queue.put(item)
        got_in.append(item.number)

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as large:
            nursery.start_soon(publish_in, large, publish, Item(2, 8))
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(publish, Item(3, 3))
            await trio.testing.wait_all_tasks_blocked()
            assert got_in == []
            assert queue.statistics().waiting == 2
        large.cancel()
        with trio.fail_after(1):
            while got_in != [3]:
                await trio.sleep(0.01)
    assert [queue.get_nowait().number for _ in range(2)] == [1, 3]


async def test_the_oldest_that_may_go_is_dropped_of_a_full_session_or_else_of_all() -> None:
    dropped = Recorder()
    queue: BoundedQueue[str] = BoundedQueue(
        "q",
        capacity=4,
        overflow="drop_oldest",
        precious=str.isupper,
        session_of=lambda item: item[0].lower(),
        observer=dropped,
    )
    SessionReader(queue, 3)
    for item in ("A1", "a2", "a3", "a4", "b1", "b2", "B3", "B4"):
        await queue.put(item)
    assert [event.message for event in dropped.of(MessageDropped)] == ["a2", "a3", "a4", "b1"]
    assert queue.clear(None) == ("A1", "b2", "B3", "B4")


async def publish_in(scope: trio.CancelScope, publish, item: Item) -> None:
    # The scope that the test cancels is entered here, so that it cancels this task alone.
    with trio.CancelScope() as own:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_with, scope, own)
            await publish(item)
            nursery.cancel_scope.cancel()


async def cancel_with(scope: trio.CancelScope, own: trio.CancelScope) -> None:
    while not scope.cancel_called:
        await trio.sleep(0.01)
    own.cancel()


async def test_a_waiting_consumer_gets_the_replies_that_are_recalled(autojump_clock) -> None:
    undelivered = MemoryUndelivered()
    bus = MessageBus(undelivered=undelivered)
    seen: list[str] = []

    async def consume() -> None:
        seen.append((await anext(bus.outbound("test"))).content)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(consume)
        await trio.testing.wait_all_tasks_blocked()
        await undelivered.keep(key_of(reply(1)), reply(1))
        await bus.load_undelivered()
        with trio.fail_after(1):
            while not seen:
                await trio.sleep(0.01)
    assert seen == ["1"]


async def test_a_reply_stands_behind_those_that_were_stored_before_it() -> None:
    bus = MessageBus(BusConfig(outbound_buffer_size=1))
    outbox = bus.outbound("test")
    await outbox.put_or_store(reply(1))
    await outbox.put_or_store(reply(2))  # no room: stored
    assert (await anext(outbox)).content == "1"
    await outbox.put_or_store(reply(3))  # there is room again, and an older one is stored
    assert [(await anext(outbox)).content for _ in range(2)] == ["2", "3"]


@pytest.mark.parametrize("fails", [False, True])
async def test_a_consumer_waits_for_a_reply_that_is_being_stored(fails: bool, autojump_clock) -> None:
    class Slow(MemoryUndelivered):
        async def keep(self, key: str, message: OutboundMessage) -> None:
            await trio.sleep(1)
            if fails:
                raise StoreBusy("locked")
            await super().keep(key, message)

    outbox = MessageBus(BusConfig(outbound_buffer_size=1), undelivered=Slow()).outbound("test")
    errors: list[StoreBusy] = []

    async def store(message: OutboundMessage) -> None:
        try:
            await outbox.put_or_store(message)
        except StoreBusy as exc:
            errors.append(exc)

    await outbox.put_or_store(reply(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store, reply(2))
        await trio.sleep(0.5)
        assert (await anext(outbox)).content == "1"
        with trio.move_on_after(1):
            assert (await anext(outbox)).content == "2"
    assert trio.current_time() == (1.5 if fails else 1)
    assert (len(errors), outbox.undelivered) == (fails, 0)


async def test_a_look_for_replies_of_other_processes_that_fails_is_made_again(tmp_path: Path) -> None:
    class FailingOnce(LeasedUndelivered):
        failures = 1

        async def keys(self, channel: str, limit: int) -> tuple[str, ...]:
            self.failures -= 1
            if self.failures == 0:
                raise StoreBusy("locked")
            return await super().keys(channel, limit)

    async with open_store(tmp_path / "s.db", migrations=MIGRATIONS) as store:
        await LeasedUndelivered(Ownership(store)).keep(key_of(reply(1)), reply(1))
        undelivered = FailingOnce(Ownership(store))
        outbox = MessageBus(undelivered=undelivered).outbound("test")
        with pytest.raises(StoreBusy):
            await outbox.take()
        assert outbox._shared.arrived  # the next look is now, and not when the channel has been idle for a while
        assert (await outbox.take()).message == reply(1)


async def test_replies_that_another_process_delivered_meanwhile_are_not_delivered_again(shared_place) -> None:
    """A process that was stopped for longer than its lease goes on with what is still stored."""
    async with open_store(shared_place, migrations=MIGRATIONS) as store:
        one, other = Ownership(store, length=0.2), Ownership(store)
        stored = LeasedUndelivered(one)
        stopped = MessageBus(undelivered=stored).outbound("test")
        for number in (1, 2, 3):
            await stored.keep(key_of(reply(number)), reply(number))
        assert (await stopped.take()).message == reply(1)  # from the store, with the two that wait now
        await stopped.put(reply(4))
        await stored.keep(key_of(reply(5)), reply(5))
        await stopped.put(reply(5), kept=True)
        while stored.serves("test"):
            await trio.sleep(0.05)
        await store.transact(lambda connection: connection.execute("UPDATE leases SET expires = 0").rowcount)
        takes_over = MessageBus(undelivered=LeasedUndelivered(other)).outbound("test")
        assert [(await anext(takes_over)).content for _ in range(2)] == ["1", "2"]
        with trio.move_on_after(0.2):
            raise AssertionError(f"{await stopped.take()} was taken while another process serves the channel")
        assert [(await anext(takes_over)).content for _ in range(2)] == ["3", "5"]
        await other.release_all()
        # Only the reply that is not stored is left; the first one was being sent when the process was stopped.
        assert (await stopped.take()).message == reply(4)
        with trio.move_on_after(0.2):
            raise AssertionError(f"{await stopped.take()} was delivered twice")


async def test_a_publisher_whose_session_has_filled_meanwhile_delays_no_other() -> None:
    queue: BoundedQueue[str] = BoundedQueue("q", capacity=2, session_of=lambda item: item[0])
    reader = SessionReader(queue, 1)
    accepted = {}

    async def put(item: str) -> None:
        accepted[item] = await queue.put(item)

    async with trio.open_nursery() as nursery:
        for item in ("x1", "y1", "z1", "z2", "w1"):
            nursery.start_soon(put, item)
            await trio.testing.wait_all_tasks_blocked()
        taken = []
        for waiting in (2, 1, 0, 0, 0):
            taken.append(queue.get_nowait())
            await trio.testing.wait_all_tasks_blocked()
            assert queue.statistics().waiting == waiting
    assert taken == ["x1", "y1", "z1", "w1", "z2"]
    assert accepted == dict.fromkeys(taken, True)
    assert not reader.is_ready()
    await queue.put("a1")
    assert (reader.is_ready(), reader.ready_sessions(), reader.take_all()) == (True, 1, ("a1",))


@pytest.mark.parametrize(("shows", "queued", "dropped"), [(True, ["1"], ["2"]), (False, [], [])])
async def test_a_piece_of_another_process_is_queued_where_pieces_are_shown_and_fit(shows, queued, dropped) -> None:
    recorder = Recorder()
    bus = MessageBus(BusConfig(outbound_buffer_size=1), observer=recorder)
    outbox = bus.outbound("test")
    outbox.shows_partials = shows
    for number in (1, 2):
        outbox.piece_arrived(attrs.evolve(reply(number), kind="partial"))
    assert [event.message.content for event in recorder.of(MessageDropped)] == dropped
    bus.close()
    assert [message.content async for message in outbox] == queued


class Receipts:
    """A journal in memory; a message that it has already is a duplicate."""

    def __init__(self) -> None:
        self.stored: list[str] = []
        self.removed: list[str] = []

    async def received(self, message: InboundMessage) -> bool:
        await trio.lowlevel.checkpoint()
        self.stored.append(message.content)
        return self.stored.count(message.content) == 1

    async def withdrawn(self, message: InboundMessage) -> None:
        await trio.lowlevel.checkpoint()
        self.removed.append(message.content)


@pytest.mark.parametrize(
    ("policy", "accepted", "removed", "left"),
    [
        ("drop_newest", [True, True, False], ["c"], ["a"]),
        ("drop_oldest", [True, True, True], ["a"], ["c"]),
    ],
)
async def test_a_journal_loses_what_the_policy_drops_and_a_duplicate_is_accepted_without_being_published(
    policy, accepted, removed, left
) -> None:
    bus, receipts = MessageBus(BusConfig(inbound_buffer_size=1, overflow_policy=policy)), Receipts()
    bus.set_inbound_journal(receipts)
    reader, publisher = bus.sessions(8), bus.clone()
    messages = [InboundMessage(channel="ch", sender_id="u", chat_id="1", content=text) for text in ("a", "a", "c")]
    assert [await publisher.publish(message) for message in messages] == accepted
    assert receipts.removed == removed
    assert [message.content for message in reader.take_all()] == left
