from __future__ import annotations

import trio

from clawft_trio.bus import BusConfig, MemoryUndelivered, MessageBus, Publish, Redelivery, serve_channel
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.observe import MessageDropped, Recorder, Undeliverable
from clawft_trio.testing.sweep import cancel_everywhere


class Fake:
    """A channel whose sends fail, hang or work, by a script of one letter each (`x`, `h`, `.`); then they work."""

    name = "test"

    def __init__(self, script: str = "", *, shows_partials: bool = True, says: tuple[str, ...] = ()) -> None:
        self.shows_partials = shows_partials
        self.shown: list[str] = []
        self._script = list(script)
        self._says = says

    async def receive(self, publish: Publish) -> None:
        for word in self._says:
            await publish(InboundMessage(channel="test", sender_id="ana", chat_id="1", content=word))
        await trio.sleep_forever()

    async def send(self, message: OutboundMessage) -> None:
        await trio.lowlevel.checkpoint()
        fate = self._script.pop(0) if self._script else "."
        if fate == "x":
            raise OSError("connection lost")
        if fate == "h":
            await trio.sleep_forever()
        self.shown.append(f"{message.kind} {message.content}")


def out(number: int, kind: str = "final") -> OutboundMessage:
    return OutboundMessage(channel="test", chat_id="1", content=str(number), reply_to=f"m{number}", kind=kind)


async def test_messages_go_both_ways_and_it_ends_with_the_bus() -> None:
    bus = MessageBus()
    channel = Fake(says=("hello", "again"))
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_channel, bus, channel)
        assert (await bus.inbound.receive()).content == "hello"
        assert (await bus.inbound.receive()).content == "again"
        await bus.dispatch_outbound(out(1))
        bus.close()
    assert channel.shown == ["final 1"]


async def test_an_adapter_waits_when_the_bus_is_full() -> None:
    bus = MessageBus(BusConfig(inbound_buffer_size=2))
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_channel, bus, Fake(says=("a", "b", "c", "d")))
        await trio.testing.wait_all_tasks_blocked()
        assert bus.statistics().inbound.depth == 2
        assert bus.statistics().inbound.waiting == 1
        assert [(await bus.inbound.receive()).content for _ in range(4)] == ["a", "b", "c", "d"]
        bus.close()


async def test_a_final_reply_is_tried_until_it_is_shown_and_pieces_meanwhile_are_dropped(
    autojump_clock: object,
) -> None:
    recorder = Recorder()
    bus = MessageBus(observer=recorder)
    channel = Fake("x.xh.")
    await bus.dispatch_outbound(out(1, "partial"))
    await bus.dispatch_outbound(out(2, "partial"))
    await bus.dispatch_outbound(out(3))
    await bus.dispatch_outbound(out(4, "partial"))
    await bus.dispatch_outbound(out(5))
    bus.close()
    await serve_channel(bus, channel, redelivery=Redelivery(send=10.0, first_wait=1.0))
    # 1 failed; 2 was not tried; 3 was shown at once; 4 failed; 5 hung for 10 s, waited 2 s, and was shown.
    assert channel.shown == ["final 3", "final 5"]
    assert [event.message.content for event in recorder.of(MessageDropped)] == ["1", "2", "4"]
    [event] = recorder.of(Undeliverable)
    assert event.message.content == "5"
    assert isinstance(event.error, trio.TooSlowError)
    assert trio.current_time() == 12.0


async def test_what_a_failing_channel_could_not_show_is_on_the_shelf(autojump_clock: object) -> None:
    undelivered = MemoryUndelivered()
    bus = MessageBus(undelivered=undelivered)
    await bus.dispatch_outbound(out(1))
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_channel, bus, Fake("x" * 9))
        await trio.sleep(3)
        [key] = (await undelivered.waiting())["test"]
        assert "m1" in key
        nursery.cancel_scope.cancel(reason="seen enough")
    channel = Fake()
    bus.close()
    await serve_channel(bus, channel)
    assert channel.shown == ["final 1"]
    assert await undelivered.waiting() == {}


async def test_an_adapter_that_cannot_retract_is_shown_only_final_replies() -> None:
    bus = MessageBus()
    channel = Fake(shows_partials=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_channel, bus, channel)
        await bus.dispatch_outbound(out(1, "partial"))
        await bus.dispatch_outbound(out(1, "reset"))
        await bus.dispatch_outbound(out(1))
        bus.close()
    assert channel.shown == ["final 1"]


def test_the_wait_after_failures_doubles_up_to_its_limit() -> None:
    waits = [Redelivery(first_wait=1.0, longest_wait=5.0).wait_after(failures) for failures in (1, 2, 3, 4, 5000)]
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0]


async def test_a_cancelled_adapter_loses_no_reply(autojump_clock: object) -> None:
    dispatched = 0
    shown: set[str] = set()

    async def operation() -> None:
        nonlocal dispatched, bus, undelivered
        undelivered = MemoryUndelivered()
        bus = MessageBus(undelivered=undelivered)
        shown.clear()
        with trio.CancelScope(shield=True):
            for number in range(3):
                await bus.dispatch_outbound(out(number))
        bus.close()
        channel = Fake(".x")
        try:
            await serve_channel(bus, channel)
        finally:
            shown.update(channel.shown)

    async def everything_is_shown_in_the_end() -> None:
        channel = Fake()
        await serve_channel(bus, channel)
        assert shown | set(channel.shown) == {"final 0", "final 1", "final 2"}
        assert await undelivered.waiting() == {}

    bus, undelivered = MessageBus(), MemoryUndelivered()
    assert await cancel_everywhere(operation, everything_is_shown_in_the_end) >= 10
