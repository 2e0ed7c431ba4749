from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio
from hypothesis import given, settings, strategies as st
from steps import calls

from benchmarks.measures import bus as through
from benchmarks.measures.bus import Carry
from clawft_trio.bus import BusConfig, MemoryUndelivered, MessageBus, StoredUndelivered, bus as bus_module, open_bus
from clawft_trio.bus.undelivered import MIGRATIONS, key_of
from clawft_trio.errors import BusClosed, BusFull, SelfDeadlock, StoreCorrupt
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.observe import MessageDropped, Recorder, Undeliverable
from clawft_trio.store import open_store
from clawft_trio.testing.sweep import cancel_everywhere


def inbound(content: str = "hello", *, chat: str = "1") -> InboundMessage:
    return InboundMessage(channel="test", sender_id="ana", chat_id=chat, content=content)


def reply(number: int, *, kind: str = "final", channel: str = "test", **fields: object) -> OutboundMessage:
    return OutboundMessage(
        channel=channel, chat_id="1", content=str(number), reply_to=f"m{number}", kind=kind, **fields
    )


def test_the_default_is_1024_messages_each_way_and_backpressure() -> None:
    config = BusConfig()
    assert (config.inbound_buffer_size, config.outbound_buffer_size, config.overflow_policy) == (1024, 1024, "block")


@pytest.mark.parametrize(
    "wrong",
    [
        {"overflow_policy": "drop_everything"},
        {"inbound_overflow_policy": "Block"},
        {"outbound_overflow_policy": ""},
        {"inbound_buffer_size": 0},
        {"outbound_buffer_size": -1},
        {"inbound_max_bytes": 0},
        {"delivery_wait": -1.0},
        {"warn_at": 0.0},
        {"warn_at": 1.5},
    ],
)
def test_a_config_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BusConfig(**wrong)


async def test_each_direction_has_its_own_policy() -> None:
    bus = MessageBus(BusConfig(inbound_buffer_size=1, outbound_buffer_size=1, overflow_policy="reject",
                               outbound_overflow_policy="drop_newest"))  # fmt: skip
    await bus.publish_inbound(inbound())
    with pytest.raises(BusFull):
        await bus.publish_inbound(inbound())
    assert await bus.dispatch_outbound(reply(1, kind="partial"))
    assert not await bus.dispatch_outbound(reply(2, kind="partial"))


async def test_with_capacity_two_the_third_publisher_waits_until_one_is_taken(autojump_clock: object) -> None:
    bus = MessageBus(BusConfig(inbound_buffer_size=2))
    gone_on: list[str] = []

    async def publish(word: str) -> None:
        await bus.publish_inbound(inbound(word))
        gone_on.append(word)

    await publish("one")
    await publish("two")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish, "three")
        await trio.sleep(50)
        assert gone_on == ["one", "two"]
        assert bus.statistics().inbound.waiting == 1
        with pytest.raises(trio.WouldBlock):
            bus.publish_inbound_nowait(inbound())
        assert (await bus.inbound.receive()).content == "one"
        await trio.testing.wait_all_tasks_blocked()
        assert gone_on == ["one", "two", "three"]
    assert bus.inbound.receive_nowait().content == "two"
    assert bus.inbound.receive_nowait().content == "three"
    books = bus.statistics().inbound
    assert (books.published, books.delivered, books.high_water, books.waiting) == (3, 3, 2, 0)


async def test_iteration_ends_after_close_when_everything_was_taken() -> None:
    bus = MessageBus()
    for word in "abc":
        await bus.publish_inbound(inbound(word))
    bus.close()
    assert [message.content async for message in bus.inbound] == ["a", "b", "c"]
    with pytest.raises(BusClosed):
        await bus.publish_inbound(inbound())
    with pytest.raises(BusClosed):
        bus.publish_inbound_nowait(inbound())


async def test_closing_ends_waiting_consumers_and_publishers() -> None:
    bus = MessageBus(BusConfig(inbound_buffer_size=1))
    empty = MessageBus()
    await bus.publish_inbound(inbound("kept"))
    ended: list[str] = []

    async def publish() -> None:
        with pytest.raises(BusClosed):
            await bus.publish_inbound(inbound("late"))
        ended.append("publisher")

    async def consume() -> None:
        async for _ in empty.inbound:
            raise AssertionError("nothing was published")
        ended.append("consumer")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        nursery.start_soon(consume)
        nursery.start_soon(consume)
        await trio.testing.wait_all_tasks_blocked()
        bus.close()
        empty.close()
    assert sorted(ended) == ["consumer", "consumer", "publisher"]
    assert [message.content async for message in bus.inbound] == ["kept"]


@settings(deadline=None, max_examples=30)
@given(producers=st.integers(1, 5), consumers=st.integers(1, 5), each=st.integers(0, 40), capacity=st.integers(1, 8))
def test_every_message_reaches_exactly_one_of_several_consumers(
    producers: int, consumers: int, each: int, capacity: int
) -> None:
    taken: list[str] = []

    async def main() -> None:
        bus = MessageBus(BusConfig(inbound_buffer_size=capacity))

        async def produce(name: int) -> None:
            sender = bus.clone()
            for number in range(each):
                await sender.publish(inbound(f"{name}-{number}"))
            sender.close()
            assert sender.published == each

        async def consume() -> None:
            async for message in bus.inbound:
                taken.append(message.content)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for _ in range(consumers):
                nursery.start_soon(consume)
            async with trio.open_nursery() as producing:
                for name in range(producers):
                    producing.start_soon(produce, name)
            bus.close()
        assert bus.statistics().inbound.delivered == producers * each

    trio.run(main)
    assert sorted(taken) == sorted(f"{name}-{number}" for name in range(producers) for number in range(each))
    if consumers == 1:
        for name in range(producers):
            own = [word for word in taken if word.startswith(f"{name}-")]
            assert own == [f"{name}-{number}" for number in range(each)]


async def test_closing_a_clone_closes_nothing_else() -> None:
    bus = MessageBus()
    one = bus.clone()
    other = one.clone()
    one.close()
    with pytest.raises(BusClosed):
        await one.publish(inbound())
    with pytest.raises(BusClosed):
        one.publish_nowait(inbound())
    assert await other.publish(inbound())
    assert other.publish_nowait(inbound())
    assert bus.statistics().inbound.depth == 2


async def test_a_consumer_that_publishes_to_its_own_full_bus_gets_an_error() -> None:
    bus = MessageBus(BusConfig(inbound_buffer_size=1))
    await bus.publish_inbound(inbound())
    async for message in bus.inbound:
        await bus.publish_inbound(message)
        with pytest.raises(SelfDeadlock):
            await bus.publish_inbound(message)
        break
    assert bus.statistics().inbound.waiting == 0


async def test_a_consumer_may_wait_while_another_one_can_make_room() -> None:
    bus = MessageBus(BusConfig(inbound_buffer_size=1))
    caught: list[str] = []

    async def republish(name: str, start: trio.Event) -> None:
        async for message in bus.inbound:
            await start.wait()
            try:
                await bus.publish_inbound(message)
                await bus.publish_inbound(message)
            except SelfDeadlock:
                caught.append(name)
            return

    starts = {"one": trio.Event(), "two": trio.Event()}
    async with trio.open_nursery() as nursery:
        for name, start in starts.items():
            nursery.start_soon(republish, name, start)
            await trio.testing.wait_all_tasks_blocked()
            await bus.publish_inbound(inbound(name))
            await trio.testing.wait_all_tasks_blocked()
        starts["one"].set()
        await trio.testing.wait_all_tasks_blocked()
        assert caught == []
        assert bus.statistics().inbound.waiting == 1
        starts["two"].set()
        await trio.testing.wait_all_tasks_blocked()
        assert caught == ["two"]
        bus.inbound.receive_nowait()


async def test_a_task_that_has_stopped_consuming_does_not_count_as_consumer() -> None:
    bus = MessageBus(BusConfig(inbound_buffer_size=1))
    await bus.publish_inbound(inbound())
    async for _ in bus.inbound:
        break
    await bus.publish_inbound(inbound("first"))
    async with trio.open_nursery() as nursery:

        async def consume() -> None:
            await trio.testing.wait_all_tasks_blocked()
            assert (await bus.inbound.receive()).content == "first"

        nursery.start_soon(consume)
        await bus.publish_inbound(inbound("second"))


async def test_a_message_larger_than_the_bus_is_refused_and_the_others_fit_by_their_bytes() -> None:
    bus = MessageBus(BusConfig(inbound_max_bytes=10))
    with pytest.raises(BusFull, match="11 bytes"):
        await bus.publish_inbound(inbound("x" * 11))
    await bus.publish_inbound(inbound("ø" * 4))
    with pytest.raises(trio.WouldBlock):
        bus.publish_inbound_nowait(attrs.evolve(inbound("x"), media=("ab",)))
    with pytest.raises(trio.WouldBlock):
        bus.publish_inbound_nowait(attrs.evolve(inbound(""), metadata={"a": 1}))
    bus.publish_inbound_nowait(attrs.evolve(inbound("x"), media=("a",)))
    assert bus.statistics().inbound.bytes == 10
    bus.inbound.receive_nowait()
    assert bus.statistics().inbound.bytes == 2


async def test_an_observer_that_raises_affects_no_other_part(caplog: pytest.LogCaptureFixture) -> None:
    def fail(event: object) -> None:
        raise RuntimeError("observer")

    bus = MessageBus(BusConfig(inbound_buffer_size=1, overflow_policy="drop_newest"), observer=fail)
    await bus.publish_inbound(inbound())
    assert not await bus.publish_inbound(inbound())
    assert bus.statistics().inbound.dropped == 1
    assert "observer" in caplog.text


async def test_a_channel_that_hangs_delays_no_other(autojump_clock: object) -> None:
    bus = MessageBus(BusConfig(outbound_buffer_size=1, delivery_wait=1000.0))
    await bus.dispatch_outbound(reply(1, channel="hangs"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bus.dispatch_outbound, reply(2, channel="hangs"))
        await trio.testing.wait_all_tasks_blocked()
        await bus.dispatch_outbound(reply(3, channel="works"))
        assert (await bus.outbound("works").__anext__()).content == "3"
        assert trio.current_time() == 0.0
        nursery.cancel_scope.cancel(reason="seen enough")


@pytest.mark.parametrize("policy", ["block", "drop_oldest", "drop_newest", "reject"])
async def test_a_final_reply_is_never_dropped_by_policy(policy: str, autojump_clock: object) -> None:
    recorder = Recorder()
    config = BusConfig(outbound_buffer_size=3, overflow_policy=policy, delivery_wait=5.0)
    bus = MessageBus(config, observer=recorder)
    for number in range(7):
        assert await bus.dispatch_outbound(reply(number))
    assert trio.current_time() == 5.0  # one waits; those behind it go to the shelf at once, to keep the order
    assert bus.statistics().undelivered == {"test": 4}
    assert [event.message.content for event in recorder.of(Undeliverable)] == ["3", "4", "5", "6"]
    assert recorder.of(MessageDropped) == []
    bus.close()
    assert [message.content async for message in bus.outbound("test")] == list("0123456")
    assert bus.statistics().undelivered == {}


async def test_pieces_make_way_for_a_final_reply(autojump_clock: object) -> None:
    bus = MessageBus(BusConfig(outbound_buffer_size=2, overflow_policy="drop_newest"))
    await bus.dispatch_outbound(reply(1, kind="partial"))
    await bus.dispatch_outbound(reply(2, kind="reset"))
    assert not await bus.dispatch_outbound(reply(3, kind="partial"))
    assert await bus.dispatch_outbound(reply(4))
    bus.close()
    assert [message.kind async for message in bus.outbound("test")] == ["reset", "final"]
    assert trio.current_time() == 0.0


async def test_a_channel_that_cannot_retract_is_given_only_the_final_reply() -> None:
    bus = MessageBus()
    bus.outbound("test").shows_partials = False
    assert not await bus.dispatch_outbound(reply(1, kind="partial"))
    assert not await bus.dispatch_outbound(reply(1, kind="reset"))
    assert await bus.dispatch_outbound(reply(1))
    bus.close()
    assert [message.kind async for message in bus.outbound("test")] == ["final"]


async def test_a_final_reply_larger_than_the_limit_goes_alone() -> None:
    bus = MessageBus(BusConfig(outbound_max_bytes=4))
    await bus.dispatch_outbound(attrs.evolve(reply(1), content="x" * 100))
    assert bus.statistics().outbound["test"].bytes == 4
    assert len((await bus.outbound("test").__anext__()).content) == 100


async def test_what_was_not_delivered_is_delivered_first_by_the_next_process(tmp_path: Path) -> None:
    recorder = Recorder()
    async with open_store(tmp_path / "store.db", migrations=MIGRATIONS) as store:
        async with open_bus(undelivered=StoredUndelivered(store), observer=recorder) as bus:
            await bus.publish_inbound(inbound("left over"))
            await bus.dispatch_outbound(attrs.evolve(reply(1), metadata={"error": "ServerError", "cost": "0.1"}))
            await bus.dispatch_outbound(reply(2, kind="partial"))
            await bus.dispatch_outbound(attrs.evolve(reply(3), reply_to=None))
            await bus.dispatch_outbound(attrs.evolve(reply(3), reply_to=None))
    assert [event.message.content for event in recorder.of(Undeliverable)] == ["1", "3", "3"]
    assert [event.message.content for event in recorder.of(MessageDropped)] == ["left over", "2"]
    async with open_store(tmp_path / "store.db", migrations=MIGRATIONS) as store:
        async with open_bus(undelivered=StoredUndelivered(store)) as bus:
            await bus.dispatch_outbound(reply(4))
            outbox = bus.outbound("test")
            found = [await outbox.__anext__() for _ in range(4)]
            assert [message.content for message in found] == ["1", "3", "3", "4"]
            assert found[0] == attrs.evolve(reply(1), metadata={"error": "ServerError", "cost": "0.1"})
        async with open_bus(undelivered=StoredUndelivered(store)) as bus:
            assert bus.statistics().undelivered == {}


async def test_a_reply_that_is_kept_already_is_delivered_once(tmp_path: Path) -> None:
    async with open_store(None, migrations=MIGRATIONS) as store:
        undelivered = StoredUndelivered(store)
        async with open_bus(undelivered=undelivered) as bus:
            await undelivered.keep(key_of(reply(1)), reply(1))
            await bus.dispatch_outbound(reply(1), kept=True)
            assert await undelivered.waiting() == {"test": (key_of(reply(1)),)}
            assert (await bus.outbound("test").__anext__()).content == "1"
            assert await undelivered.waiting() == {}


async def test_an_unreadable_kept_reply_is_a_typed_error() -> None:
    async with open_store(None, migrations=MIGRATIONS) as store:
        await StoredUndelivered(store).keep("key", reply(1))
        await store.transact(lambda connection: connection.execute("UPDATE undelivered SET message = x'7b'"))
        with pytest.raises(StoreCorrupt):
            await StoredUndelivered(store).fetch(["key"])


async def test_drain_waits_until_everything_was_taken(autojump_clock: object) -> None:
    bus = MessageBus()
    await bus.publish_inbound(inbound())
    await bus.dispatch_outbound(reply(1))
    async with trio.open_nursery() as nursery:

        async def consume() -> None:
            async for _ in bus.inbound:
                await trio.sleep(1)
            async for _ in bus.outbound("test"):
                await trio.sleep(1)

        nursery.start_soon(consume)
        await bus.drain()
        assert trio.current_time() == 1.0
    with trio.move_on_after(1) as scope:
        stuck = MessageBus()
        await stuck.publish_inbound(inbound())
        await stuck.drain()
    assert scope.cancelled_caught


async def test_cancelled_dispatch_sends_no_reply_twice_and_loses_none(autojump_clock: object) -> None:
    given_out: list[str] = []
    returned: list[str] = []
    count = 0
    undelivered = MemoryUndelivered()
    bus = MessageBus(BusConfig(outbound_buffer_size=1, delivery_wait=1.0), undelivered=undelivered)

    async def dispatch_three() -> None:
        nonlocal count
        for _ in range(3):
            count += 1
            await bus.dispatch_outbound(reply(count))
            returned.append(str(count))

    async def each_came_once() -> None:
        outbox = bus.outbound("test")
        while bus.statistics().undelivered or bus.statistics().outbound["test"].depth:
            given_out.append((await outbox.__anext__()).content)
        assert given_out == returned
        assert await undelivered.waiting() == {}

    assert await cancel_everywhere(dispatch_three, each_came_once) >= 4


async def test_cancelled_consumer_loses_no_reply() -> None:
    undelivered = MemoryUndelivered()
    bus = MessageBus(BusConfig(outbound_buffer_size=2, delivery_wait=0.0), undelivered=undelivered)
    shown: list[str] = []
    sent: list[str] = []
    count = 0

    async def consume() -> None:
        nonlocal count
        for _ in range(4):
            count += 1
            sent.append(str(count))
            with trio.CancelScope(shield=True):
                await bus.dispatch_outbound(reply(count))
        outbox = bus.outbound("test")
        while len(shown) < len(sent):
            delivery = await outbox.take()
            try:
                await outbox.settle(delivery)
            except BaseException:
                outbox.give_back(delivery)
                raise
            shown.append(delivery.message.content)

    async def finish() -> None:
        while len(shown) < len(sent):
            shown.append((await bus.outbound("test").__anext__()).content)
        assert shown == sent
        assert await undelivered.waiting() == {}

    assert await cancel_everywhere(consume, finish) >= 6


def test_a_message_takes_about_as_many_calls_as_through_a_bare_channel_used_with_care() -> None:
    """Calls are counted, for they are the same on every machine; `benchmarks/measures/bus.py` measures the time."""

    def per_message(carry: Carry) -> float:
        through.rate(carry, 100)  # whatever happens once
        return (calls(lambda: through.rate(carry, 3_000)) - calls(lambda: through.rate(carry, 1_000))) / 2_000

    # Which task trio runs first is chance, and decides whether the consumer finds batches: the best of some rounds.
    limit = 0.9 * per_message(through.through_a_careful_channel)
    assert any(per_message(through.through_the_bus) <= limit for _ in range(20))


def test_the_table_of_policies_names_every_policy() -> None:
    text = Path(bus_module.__file__).with_name("bounded_queue.py").read_text()
    assert all(f"| `{policy}`" in text for policy in ("block", "drop_oldest", "drop_newest", "reject"))
