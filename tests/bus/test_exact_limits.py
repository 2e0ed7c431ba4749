"""Queues, outboxes and pieces exactly at their limits."""

from __future__ import annotations

import pytest
import trio

from clawft_trio.bus import BusConfig, MemoryUndelivered, MessageBus, Redelivery
from clawft_trio.bus.bounded_queue import BoundedQueue
from clawft_trio.bus.bus import size_of
from clawft_trio.bus.pieces import PieceRelay, decode_pieces
from clawft_trio.bus.undelivered import key_of
from clawft_trio.codec import encode_json
from clawft_trio.errors import BusClosed, BusFull
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.observe import BusPressure, MessageDropped, Recorder


def inbound(content: str = "hello", **more: object) -> InboundMessage:
    return InboundMessage(channel="test", sender_id="ana", chat_id="1", content=content, **more)  # type: ignore[arg-type]


def outbound(content: str, *, kind: str = "partial", reply_to: str | None = "m1") -> OutboundMessage:
    return OutboundMessage(channel="ch", chat_id="1", content=content, reply_to=reply_to, kind=kind)  # type: ignore[arg-type]


def test_the_defaults_are_those_of_the_guide() -> None:
    config = BusConfig()
    assert (config.delivery_wait, config.warn_at) == (30.0, 0.8)
    assert (config.inbound_max_bytes, config.outbound_max_bytes) == (None, None)
    least = BusConfig(inbound_buffer_size=1, outbound_buffer_size=1, inbound_max_bytes=1, outbound_max_bytes=1,
                      delivery_wait=0, warn_at=1)  # fmt: skip
    assert (least.inbound_max_bytes, least.delivery_wait, least.warn_at) == (1, 0, 1)
    redelivery = Redelivery()
    assert (redelivery.send, redelivery.first_wait, redelivery.longest_wait) == (30.0, 1.0, 60.0)


@pytest.mark.parametrize(
    ("message", "size"),
    [
        (inbound(""), 0),
        (inbound("ä"), 2),
        (inbound("a\udcff"), 4),
        (inbound("a", media=("bc", "d")), 4),
        (inbound("a", metadata={"b": 1}), 1 + len('{"b":1}')),
    ],
)
def test_the_size_of_a_message_is_that_of_its_text_addresses_and_metadata(message: InboundMessage, size: int) -> None:
    assert size_of(message) == size


async def test_messages_fit_until_exactly_the_limit_in_bytes() -> None:
    bus = MessageBus(BusConfig(inbound_max_bytes=10, overflow_policy="reject"))
    bus.publish_inbound_nowait(inbound("a" * 4))
    bus.publish_inbound_nowait(inbound("b" * 6))
    assert bus.statistics().inbound.bytes == 10
    with pytest.raises(BusFull):
        bus.publish_inbound_nowait(inbound("c"))
    with pytest.raises(BusFull, match="11 bytes"):
        bus.publish_inbound_nowait(inbound("d" * 11))
    assert bus.inbound.receive_nowait().content == "aaaa"
    bus.publish_inbound_nowait(inbound("e" * 4))
    found = bus.statistics().inbound
    assert (found.bytes, found.depth, found.rejected, found.published, found.delivered) == (10, 2, 2, 3, 1)


async def test_the_oldest_are_dropped_until_the_bytes_of_the_new_message_fit() -> None:
    recorder = Recorder()
    bus = MessageBus(BusConfig(inbound_max_bytes=10, overflow_policy="drop_oldest"), observer=recorder)
    for text in ("aaa", "bbb", "ccc", "ddddd"):
        assert bus.publish_inbound_nowait(inbound(text))
    assert [event.message.content for event in recorder.of(MessageDropped)] == ["aaa", "bbb"]  # type: ignore[union-attr]
    found = bus.statistics().inbound
    assert (found.bytes, found.depth, found.dropped, found.high_water, found.published) == (8, 2, 2, 3, 4)
    bus.close()
    assert [message.content async for message in bus.inbound] == ["ccc", "ddddd"]


@pytest.mark.parametrize(
    ("capacity", "share", "depths"), [(10, 0.8, [8]), (10, 0.01, [1]), (1, 1.0, [1]), (5, 0.5, [2])]
)
async def test_pressure_is_reported_at_its_share_of_the_capacity(
    capacity: int, share: float, depths: list[int]
) -> None:
    recorder = Recorder()
    bus = MessageBus(BusConfig(inbound_buffer_size=capacity, warn_at=share), observer=recorder)
    for _ in range(capacity):
        bus.publish_inbound_nowait(inbound())
    assert [(event.queue, event.depth, event.capacity) for event in recorder.of(BusPressure)] == [
        ("inbound", depth, capacity) for depth in depths
    ]


async def test_a_closed_queue_gives_what_it_has_and_reports_the_rest_when_it_is_cleared() -> None:
    recorder = Recorder()
    queue: BoundedQueue[str] = BoundedQueue("q", capacity=3, observer=recorder)
    for text in "abc":
        assert queue.put_nowait(text)
    queue.close()
    queue.close()
    with pytest.raises(BusClosed):
        queue.put_nowait("d")
    assert queue.get_nowait() == "a"
    assert queue.clear("closed") == ("b", "c")
    assert [event.policy for event in recorder.of(MessageDropped)] == ["closed", "closed"]
    with pytest.raises(BusClosed):
        queue.get_nowait()
    await queue.wait_drained()
    found = queue.statistics()
    assert (found.published, found.delivered, found.dropped, found.depth) == (3, 1, 2, 0)


async def test_a_publisher_counts_what_it_published_and_refuses_after_its_close() -> None:
    bus = MessageBus()
    publisher = bus.clone()
    assert await publisher.publish(inbound())
    assert publisher.publish_nowait(inbound())
    assert publisher.published == 2
    other = publisher.clone()
    publisher.close()
    with pytest.raises(BusClosed):
        publisher.publish_nowait(inbound())
    with pytest.raises(BusClosed):
        await publisher.publish(inbound())
    assert await other.publish(inbound())
    assert (publisher.published, other.published) == (2, 1)


async def test_replies_that_are_stored_stay_in_order_and_are_counted_by_channel(autojump_clock) -> None:
    store = MemoryUndelivered()
    bus = MessageBus(BusConfig(outbound_buffer_size=1, delivery_wait=0), undelivered=store)
    for number in range(3):
        assert await bus.dispatch_outbound(outbound(f"{number}", kind="final", reply_to=f"m{number}"))
    assert bus.statistics().undelivered == {"ch": 2}
    assert await store.waiting() == {"ch": tuple(key_of(outbound("", reply_to=f"m{n}")) for n in (1, 2))}
    box = bus.outbound("ch")
    assert [(await anext(box)).content for _ in range(3)] == ["0", "1", "2"]
    assert bus.statistics().undelivered == {}
    assert await store.waiting() == {}


def test_only_a_message_that_answers_another_has_a_key() -> None:
    assert key_of(outbound("x", reply_to=None)) is None
    assert key_of(outbound("x", reply_to="a")) == key_of(outbound("y", reply_to="a")) != key_of(outbound("x"))


class NoStore:
    """A store that is never asked."""


def waiting(relay: PieceRelay) -> tuple[int, int]:
    found = relay.statistics()
    return found.waiting, found.dropped


def test_pieces_wait_up_to_64_kib_and_a_final_reply_drops_those_of_its_message() -> None:
    relay = PieceRelay(NoStore(), "me")  # type: ignore[arg-type]
    one = len(encode_json(outbound("a" * 1000)))
    fitting = 64 * 1024 // one
    for _ in range(fitting):
        assert relay.offer(outbound("a" * 1000))
    assert waiting(relay) == (fitting * one, 0)
    assert not relay.offer(outbound("a" * 1000))
    rest = 64 * 1024 - fitting * one
    assert not relay.offer(outbound("a" * (rest - len(encode_json(outbound(""))) + 1)))
    assert relay.offer(outbound("a" * (rest - len(encode_json(outbound("")))), reply_to="m2"))
    assert waiting(relay) == (64 * 1024, 2)
    relay.forget(outbound("done", kind="final"))
    assert waiting(relay) == (rest, 2 + fitting)


def test_a_long_piece_is_halved_until_it_fits_and_what_cannot_be_halved_is_dropped() -> None:
    relay = PieceRelay(NoStore(), "me")  # type: ignore[arg-type]
    room = 7900 - len("pieces\nme\n") - len("[]")
    whole = room - len(",") - len(encode_json(outbound("")))
    assert relay.offer(outbound("a" * whole))
    assert len(relay._waiting) == 1
    assert relay.offer(outbound("a" * (whole + 1)))
    assert len(relay._waiting) == 3
    assert not relay.offer(outbound("a" * (whole + 9), kind="reset"))
    assert not relay.offer(outbound("a", reply_to="m" * 8000))


def test_a_payload_has_its_process_and_pieces_but_no_final_reply() -> None:
    messages = [outbound("a"), outbound("b", kind="final"), outbound("c", kind="reset")]
    assert decode_pieces("me\n" + encode_json(messages).decode()) == ("me", (messages[0], messages[2]))
    assert decode_pieces("me\nnot json") == ("me", ())
    assert decode_pieces("me") == ("me", ())


async def test_the_relay_of_a_store_without_notifications_returns_at_once() -> None:
    with trio.fail_after(5):
        await MessageBus().relay_pieces()
