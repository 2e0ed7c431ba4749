"""The people of a world: those who write over a messenger, those who ask here, and one who stops them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypedDict

import attrs
import trio
from integration.conversations import LOST, tag_in
from integration.world import World

from clawft_trio import Agent, InboundMessage, OutboundMessage
from clawft_trio.agent import RoundStarted, ToolsAnswered
from clawft_trio.bus import Publish
from clawft_trio.errors import BusClosed, BusFull, ClawftError
from clawft_trio.testing import Screen

_NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Verdict(TypedDict):
    """What is asked for as a typed answer."""

    ok: bool


async def talk(world: World, publish: Publish, channel: str, chat: int) -> None:
    """Write all messages of a chat, some of them twice, some of them hardly."""
    for number in range(world.messages):
        await world.pause(8)
        message = InboundMessage(
            channel=channel,
            sender_id="ana",
            chat_id=str(chat),
            id=f"{chat}.{number}",
            content=f"[{chat}.{number}] a question",
            timestamp=_NOON,
        )
        for _ in range(2 if world.maybe(0.1) else 1):
            with trio.move_on_after(world.unit / 8 if world.maybe(0.1) else 1e9):
                try:
                    if await publish(message):
                        world.accounting.fate[message.id]["accepted"] += 1
                except BusFull:
                    await world.pause()
                except BusClosed:
                    return


async def ask(world: World, agent: Agent, number: int) -> None:
    """Ask as the local process, for text or for a value, and perhaps lose patience."""
    await world.pause(8)
    sender = f"local{number}"
    tag = f"[{sender}.{world.new_number()}]"
    patience = world.chance.choice([world.unit, 5 * world.unit, 1e9, 1e9])
    kind = "impatient"
    with trio.move_on_after(patience):
        try:
            if world.maybe(0.2):
                verdict = await agent.ask(f"{tag} is it so?", answer=Verdict, sender_id=sender)
                assert isinstance(verdict["ok"], bool)
                kind = "typed"
            else:
                kind = await _watch(world, agent, tag, sender)
        except ClawftError as exc:
            kind = type(exc).__name__
    world.accounting.asked[kind] += 1


async def _watch(world: World, agent: Agent, tag: str, sender: str) -> str:
    """See a turn round by round: what stands there at the end of the last one is the reply."""
    screen, used_tools = Screen(), True
    typed = Verdict if world.maybe(0.6) else None
    async with agent.stream(f"{tag} what?", answer=typed, sender_id=sender) as asked:
        async for event in asked:
            if isinstance(event, RoundStarted):
                # A round that is followed by another called tools, or it was no answer and was taken back.
                assert used_tools or screen.empty, screen
                screen, used_tools = Screen(), False
            elif isinstance(event, ToolsAnswered):
                used_tools = True
            else:
                screen(event)
    assert not screen.faults, screen.faults
    assert screen.text == asked.reply.text, (screen.text, asked.reply.text)
    assert LOST not in screen.text, screen
    if typed is None:
        assert tag in asked.reply.text, asked.reply
        return "streamed"
    assert asked.reply.answer == {"ok": True}
    return "streamed and typed"


async def disturb(world: World, agent: Agent, *, every: float = 10) -> None:
    """Stop turns and conversations, now and then: *every* so many units."""
    loop = agent.parts.loop
    while True:
        await world.pause(every)
        running = sorted(loop._running)
        if running and world.maybe(0.6):
            loop.cancel_turn(world.chance.choice(running))
        elif world.maybe(0.2):
            loop.cancel_session(f"sim:{world.chance.randrange(world.chats)}")


@attrs.define
class Messenger:
    """A channel whose connection is slow and breaks, until the world is calm."""

    world: World
    name: str = "sim"
    shows_partials: bool = True
    #: what stands on the screen for a message that has no reply yet
    _screens: dict[str, str] = attrs.field(factory=dict)
    #: the number of the last message of a chat with an answer
    _answered: dict[str, int] = attrs.field(factory=dict)

    async def receive(self, publish: Publish) -> None:
        async with trio.open_nursery() as nursery:
            for chat in range(self.world.chats):
                nursery.start_soon(talk, self.world, publish, self.name, chat)
        self.world.quiet.set()
        await trio.sleep_forever()

    async def send(self, message: OutboundMessage) -> None:
        if not self.world.calm:
            await self.world.pause(0.3)
        if self.world.maybe(self.world.outages):
            raise OSError("the messenger is away")
        id_, accounting = message.reply_to, self.world.accounting
        assert id_ is not None
        accounting.expect(not accounting.fate[id_]["answered"], "after the reply:", message)
        accounting.expect(_tag(message) in {"", id_}, "another's answer:", message)
        match message.kind:
            case "partial":
                self._screens[id_] = self._screens.get(id_, "") + message.content
            case "reset":
                self._screens[id_] = ""
            case "final":
                self._reply(id_, message, self._screens.pop(id_, ""))

    def _reply(self, id_: str, message: OutboundMessage, screen: str) -> None:
        accounting = self.world.accounting
        accounting.fate[id_]["answered"] += 1
        turn = f"{self.name}:{message.chat_id}:{id_}"
        ok = accounting.ended.get(turn) == "ok"
        accounting.expect(("error" not in message.metadata) == ok, "the turn was", accounting.ended.get(turn), message)
        accounting.expect(bool(message.content), "nothing in it:", message)
        if ok:
            chat, _, number = id_.partition(".")
            accounting.expect(chat == message.chat_id and _tag(message) == id_, "no answer to", id_, message)
            accounting.expect(LOST not in message.content, "broken:", message)
            # Pieces get lost on the way, and so does a retraction while the messenger is away.
            accounting.expect(LOST not in screen or id_ in accounting.unretracted, "not taken back:", screen, message)
            accounting.expect(self._answered.get(chat, -1) < int(number), "answered out of order:", message)
            self._answered[chat] = int(number)


def _tag(message: OutboundMessage) -> str:
    tag = tag_in(message.content)
    return "" if tag is None else "{}.{}".format(*tag)
