"""An adapter that breaks the rules of a channel is caught, and one that keeps them is not."""

from __future__ import annotations

import os

import pytest
import trio

from clawft_trio.bus import MessageBus
from clawft_trio.messages import InboundMessage
from clawft_trio.testing import check_channel


class Messenger:
    """A messenger in memory: what is written is handed over, never buffered."""

    def __init__(self):
        self.write, self.read = trio.open_memory_channel(0)
        self.texts = []

    async def show(self, text):
        await trio.lowlevel.checkpoint()
        self.texts.append(text)


class Good:
    """Reads one message, publishes it, and reads the next."""

    name = "test"
    shows_partials = True

    def __init__(self):
        self.messenger = Messenger()

    def inbound(self, text):
        return InboundMessage(channel=self.name, sender_id="ana", chat_id="1", content=text)

    async def receive(self, publish):
        async for text in self.messenger.read:
            await publish(self.inbound(text))

    async def send(self, message):
        if message.kind == "final":
            await self.messenger.show(message.content)
        else:
            await trio.lowlevel.checkpoint()


async def say(channel, text):
    await channel.messenger.write.send(text)


def shown(channel):
    return channel.messenger.texts


async def check(kind, **more):
    await check_channel(kind, say, shown=shown, full=1.0, **more)


async def test_an_adapter_that_keeps_to_the_interface_passes(autojump_clock):
    await check(Good)


@pytest.mark.parametrize("seed", range(3))
async def test_it_passes_in_any_order_of_tasks(autojump_clock, seed):
    await check(Good, seed=seed)


async def test_an_adapter_that_shows_only_final_replies_passes(autojump_clock):
    class Final(Good):
        shows_partials = False

        async def send(self, message):
            assert message.kind == "final"
            await super().send(message)

    await check(Final)


async def test_an_adapter_with_tasks_deadlines_and_a_bounded_buffer_of_its_own_passes(autojump_clock):
    class Busy(Good):
        async def receive(self, publish):
            write, read = trio.open_memory_channel(4)
            async with trio.open_nursery() as nursery, write, read:
                nursery.start_soon(self.read_ahead, write)
                async for text in read:
                    with trio.move_on_after(0):
                        await trio.sleep(1)
                    await publish(self.inbound(text))

        async def read_ahead(self, write):
            async for text in self.messenger.read:
                await write.send(text)

        async def send(self, message):
            with trio.move_on_after(0.1):
                await trio.sleep_forever()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(super().send, message)

    await check(Busy)


async def test_several_calls_may_wait_where_that_is_allowed(autojump_clock):
    class Wide(Good):
        async def receive(self, publish):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(super().receive, publish)

    await check(Wide, in_flight=3)
    with pytest.raises(AssertionError, match="3 calls of publish waited at once"):
        await check(Wide)


async def test_an_adapter_over_real_sockets_passes():
    """A line each way; the listener is the messenger."""

    class Sockets:
        name = "sockets"
        shows_partials = False

        def __init__(self):
            self.near, self.far = trio.socket.socketpair()
            self.texts = []

        async def receive(self, publish):
            with self.near, self.far:
                while data := await self.near.recv(100):
                    await publish(InboundMessage(channel="sockets", sender_id="a", chat_id="1", content=data.decode()))
                    await self.near.send(b"ok")

        async def send(self, message):
            await trio.lowlevel.checkpoint()
            self.texts.append(message.content)

    async def speak(channel, text):
        await channel.far.send(text.encode())
        assert await channel.far.recv(2) == b"ok"

    await check_channel(Sockets, speak, shown=lambda channel: channel.texts, full=0.1)


class TaskPerMessage(Good):
    async def receive(self, publish):
        async with trio.open_nursery() as nursery:
            async for text in self.messenger.read:
                nursery.start_soon(publish, self.inbound(text))


class Hoarder(Good):
    async def receive(self, publish):
        write, read = trio.open_memory_channel(float("inf"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.publish_all, publish, read)
            async for text in self.messenger.read:
                write.send_nowait(text)

    async def publish_all(self, publish, read):
        async for text in read:
            await publish(self.inbound(text))


class Impatient(Good):
    async def receive(self, publish):
        async for text in self.messenger.read:
            with trio.move_on_after(0.1):
                await publish(self.inbound(text))


class BehindTheBus(Good):
    async def receive(self, publish):
        async for text in self.messenger.read:
            publish.__self__.publish_inbound_nowait(self.inbound(text))


class BehindTheBusInSilence(Good):
    async def receive(self, publish):
        async for text in self.messenger.read:
            try:
                publish.__self__.publish_inbound_nowait(self.inbound(text))
            except AttributeError:
                await publish(self.inbound(text))


class ItsOwnBus(Good):
    def __init__(self):
        super().__init__()
        self.bus = MessageBus()

    async def receive(self, publish):
        async for text in self.messenger.read:
            self.bus.publish_inbound_nowait(self.inbound(text))


class Repeater(Good):
    async def receive(self, publish):
        async for text in self.messenger.read:
            while not await publish(self.inbound(text)):
                pass


class StopsAtADuplicate(Good):
    async def receive(self, publish):
        async for text in self.messenger.read:
            if not await publish(self.inbound(text)):
                return


class Backwards(Good):
    async def receive(self, publish):
        held = []
        async for text in self.messenger.read:
            held.append(text)
            if len(held) == 2:
                await publish(self.inbound(held.pop()))
                await publish(self.inbound(held.pop()))


class SomebodyElse(Good):
    def inbound(self, text):
        return InboundMessage(channel="other", sender_id="ana", chat_id="1", content=text)


class Deaf(Good):
    async def receive(self, publish):
        await trio.sleep_forever()


class SendsLater(Good):
    def __init__(self):
        super().__init__()
        self.later = []

    async def receive(self, publish):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.show_all)
            await super().receive(publish)

    async def show_all(self):
        while True:
            await trio.sleep(1)
            self.messenger.texts += self.later
            self.later.clear()

    async def send(self, message):
        await trio.lowlevel.checkpoint()
        if message.kind == "final":
            self.later.append(message.content)


class NewestFirst(Good):
    async def send(self, message):
        await trio.lowlevel.checkpoint()
        if message.kind == "final":
            self.messenger.texts.insert(0, message.content)


class HangsInSend(Good):
    async def send(self, message):
        await trio.sleep_forever()


class LosesAfterAPiece(Good):
    async def send(self, message):
        await trio.lowlevel.checkpoint()
        if message.kind == "final" and not self.messenger.texts:
            await super().send(message)


class SwallowsInReceive(Good):
    async def receive(self, publish):
        try:
            await super().receive(publish)
        except BaseException:
            pass


class GoesOnInReceive(Good):
    async def receive(self, publish):
        while True:
            try:
                await super().receive(publish)
            except trio.Cancelled:
                pass


class SwallowsInSend(Good):
    async def send(self, message):
        try:
            await super().send(message)
        except BaseException:
            pass


class SwallowsWhilePublishing(Good):
    async def receive(self, publish):
        async for text in self.messenger.read:
            try:
                await publish(self.inbound(text))
            except BaseException:
                return


class TurnsItIntoAnError(Good):
    async def receive(self, publish):
        try:
            await super().receive(publish)
        except trio.Cancelled:
            raise OSError("connection lost") from None


class SlowToEnd(Good):
    async def receive(self, publish):
        try:
            await super().receive(publish)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(60)


class LeavesADescriptor(Good):
    def __init__(self):
        super().__init__()
        OPEN.append(os.open(os.devnull, os.O_RDONLY))


class LeavesATask(Good):
    async def receive(self, publish):
        trio.lowlevel.spawn_system_task(trio.sleep_forever)
        await super().receive(publish)


OPEN = []


@pytest.fixture
def closes_what_was_left():
    yield
    while OPEN:
        os.close(OPEN.pop())


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (TaskPerMessage, "20 calls of publish waited at once while the bus was full"),
        (Hoarder, "20 messages were taken from the messenger while the bus was full"),
        (Impatient, "receive gave up publishing 'message 0' while the bus was full"),
        (BehindTheBusInSilence, "receive reached for 'publish_inbound_nowait' of the bus behind publish"),
        (ItsOwnBus, "nothing was published"),
        (Deaf, "nothing was published"),
        (Repeater, "published .*'message 1', 'message 1'"),
        (StopsAtADuplicate, "receive ended before it was cancelled"),
        (Backwards, "published .*'message 1', 'message 0'"),
        (SomebodyElse, "messages of 'test' say that they are from .'other'"),
        (SendsLater, r"sent \['reply 0'\], and when send returned, \[\] was shown"),
        (NewestFirst, r"and when send returned, \['reply 1', 'reply 0'\] was shown"),
        (HangsInSend, r"send took more than 5\.0 s"),
        (LosesAfterAPiece, r"sent \['reply 0', 'reply 1'\]"),
        (SwallowsInReceive, "receive swallowed its cancellation"),
        (GoesOnInReceive, "receive goes on after its cancellation"),
        (SwallowsInSend, "send swallowed its cancellation"),
        (SwallowsWhilePublishing, "receive swallowed its cancellation"),
        (TurnsItIntoAnError, r"receive made its cancellation into OSError\('connection lost'\)"),
        (SlowToEnd, "receive took 60 s to end after its cancellation"),
        (LeavesADescriptor, "left behind: .*null"),
        (LeavesATask, "left behind: 1 tasks"),
    ],
)
async def test_an_adapter_that_breaks_a_rule_is_caught(kind, fault, autojump_clock, closes_what_was_left):
    with pytest.raises(AssertionError, match=fault):
        await check(kind)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_an_adapter_that_nothing_ends_is_caught_and_left_behind(autojump_clock):
    class Stubborn(Good):
        async def receive(self, publish):
            while True:
                try:
                    await super().receive(publish)
                except BaseException:
                    pass

    with pytest.raises(AssertionError, match="receive goes on after its cancellation"):
        await check(Stubborn)


async def test_what_the_adapter_raises_comes_out(autojump_clock):
    with pytest.raises(AttributeError):
        await check(BehindTheBus)
