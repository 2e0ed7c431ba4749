"""A small world around a whole agent: people who write, models, tools and a server that fail in every way they can.

Everything in it is drawn from one `random.Random`, and everything that it saw is in its books, for `check` to balance.
The same world goes around an agent in memory and mock time (`test_simulation`) and around one with real sockets, real
processes and a real clock (`test_soak`).
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypedDict

import attrs
import trio

from clawft_trio import Agent, Event, InboundMessage, Message, OutboundMessage, RoundStarted, ToolsAnswered
from clawft_trio.bus import Publish
from clawft_trio.errors import (
    AuthFailed,
    BusClosed,
    BusFull,
    ClawftError,
    RateLimited,
    ServerError,
    TransportFailed,
)
from clawft_trio.observe import (
    AttemptEnded,
    AttemptStarted,
    MessageDropped,
    ToolEnded,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)
from clawft_trio.testing import (
    CallTool,
    CloseConnection,
    EndBody,
    ErrorEvent,
    Fail,
    Finish,
    Hang,
    ResetConnection,
    Say,
    Screen,
    Status,
    Think,
    Wait,
)
from clawft_trio.tools import Tool, tool

_NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)

_MOST_TOOLS = 4
"""Tool answers after which a model of this world comes to an end."""


class Verdict(TypedDict):
    """What is asked for as a typed answer."""

    ok: bool


@attrs.define
class World:
    """Chance, and the books of what happened by it: as large at the end as at the beginning.

    Args:
      seed: decides everything.
      unit: seconds of one ordinary pause; everything else takes a multiple of it.
      chats: conversations at the same time.
      messages: that each of them has.
      deaths: share of the tool-calling answers that kill the server.
      outages: share of the deliveries that fail.
      log: keep every event, too.
    """

    seed: int
    unit: float = 1.0
    chats: int = 6
    messages: int = 5
    deaths: float = 0.1
    outages: float = 0.1
    log: bool = True
    chance: random.Random = attrs.field(init=False)
    events: list[Event] = attrs.field(factory=list)
    #: by message: `accepted`, `dropped`, `answered`, each as often as it happened
    fate: dict[str, Counter[str]] = attrs.field(init=False)
    #: what began and has not ended
    begun: Counter[tuple[str, ...]] = attrs.field(factory=Counter)
    #: how often what happened
    told: Counter[str] = attrs.field(factory=Counter)
    #: how often a local question ended in which way
    asked: Counter[str] = attrs.field(factory=Counter)
    #: nothing fails on purpose any more
    calm: bool = False
    #: everybody has written everything
    quiet: trio.Event = attrs.field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.fate = {f"{chat}.{n}": Counter() for chat in range(self.chats) for n in range(self.messages)}

    def maybe(self, share: float) -> bool:
        """Whether something happens that happens in this share of cases."""
        return not self.calm and self.chance.random() < share

    async def pause(self, times: float = 1.0) -> None:
        """Take a while."""
        await trio.sleep(self.chance.expovariate(1 / (times * self.unit)))

    # --- people ----------------------------------------------------------------------------------------------

    async def talk(self, publish: Publish, channel: str, chat: int) -> None:
        """Write *messages* messages, some of them twice, some of them hardly."""
        for number in range(self.messages):
            await self.pause(8)
            message = InboundMessage(
                channel=channel,
                sender_id="ana",
                chat_id=str(chat),
                id=f"{chat}.{number}",
                content=f"question {number}",
                timestamp=_NOON,
            )
            for _ in range(2 if self.maybe(0.1) else 1):
                with trio.move_on_after(self.unit / 8 if self.maybe(0.1) else 1e9):
                    try:
                        if await publish(message):
                            self.fate[message.id]["accepted"] += 1
                    except BusFull:
                        await self.pause()
                    except BusClosed:
                        return

    async def ask(self, agent: Agent, number: int) -> None:
        """Ask as the local process, for text or for a value, and perhaps lose patience."""
        await self.pause(8)
        patience = self.chance.choice([self.unit, 5 * self.unit, 1e9])
        kind = "impatient"
        with trio.move_on_after(patience):
            try:
                if self.maybe(0.3):
                    verdict = await agent.ask("is it so?", answer=Verdict, sender_id=f"local{number}")
                    assert isinstance(verdict["ok"], bool)
                    kind = "typed"
                else:
                    await self._watch(agent, f"local{number}")
                    kind = "streamed"
            except ClawftError as exc:
                kind = type(exc).__name__
        self.asked[kind] += 1

    async def _watch(self, agent: Agent, sender: str) -> None:
        """See a turn round by round: what stands there at the end of the last one is the reply."""
        screen = Screen()
        async with agent.stream("what?", sender_id=sender) as asked:
            async for event in asked:
                if isinstance(event, RoundStarted):
                    screen = Screen()
                elif not isinstance(event, ToolsAnswered):
                    screen(event)
        assert screen.text == asked.reply.text, (screen.text, asked.reply.text)

    async def disturb(self, agent: Agent, *, every: float = 10) -> None:
        """Stop turns and conversations, now and then: *every* so many units."""
        loop = agent.parts.loop
        while True:
            await self.pause(every)
            running = sorted(loop._running)
            if running and self.maybe(0.6):
                loop.cancel_turn(self.chance.choice(running))
            elif self.maybe(0.2):
                loop.cancel_session(f"sim:{self.chance.randrange(self.chats)}")

    # --- models ----------------------------------------------------------------------------------------------

    def script(self, roles: Sequence[str], *, typed: bool, wire: bool = False) -> list[Any]:
        """What a model does with a conversation of these *roles*: answers, asks for tools, or breaks."""
        if self.maybe(0.25):
            broken = self._break(wire=wire)
            # A status comes before any words.
            return broken if broken and isinstance(broken[0], Status) else [*self._words(), *broken]
        last = max((number for number, role in enumerate(roles) if role == "user"), default=0)
        used = roles[last:].count("tool")
        if used < _MOST_TOOLS and self.maybe(0.4):
            return [*self._words(), *self._calls(), Finish()]
        if typed and not self.maybe(0.3):
            return [Say('{"ok": true}'), Finish()]
        return [*self._words(), Say("done."), Finish()]

    def _words(self) -> Iterator[Any]:
        for _ in range(self.chance.randrange(4)):
            yield Wait(self.chance.choice([0.0, 0.2, 1.0, 3.0]) * self.unit)
            yield self.chance.choice([Say("so "), Say("and "), Think("hm ")])

    def _break(self, *, wire: bool) -> list[Any]:
        ends: list[list[Any]] = [[Hang()], [CallTool("look", '{"pla')]]
        if wire:
            ends += [
                [ResetConnection()],
                [CloseConnection()],
                [EndBody()],
                [ErrorEvent("overloaded_error", status=529)],
            ]
            ends += [[Status(500)], [Status(429, retry_after=self.unit)], [Status(503)]]
        else:
            errors = [
                ServerError("down"),
                RateLimited("slow down", retry_after=2.0),
                TransportFailed("reset"),
                AuthFailed("no"),
            ]
            ends += [[], *([Fail(error)] for error in errors)]
        return self.chance.choice(ends)

    def _calls(self) -> Iterator[CallTool]:
        kinds: list[tuple[str, Any]] = [
            ("look", {"place": "Oslo"}), ("look", {}), ("note", {"path": "a", "text": "x"}),
            ("fails", {}), ("slow", {}), ("reckon", {"n": 3}), ("no_such_tool", {}), ("far__echo", {"text": "hi"}),
            ("far__sleep", {"seconds": self.chance.choice([0.0, 1.0, 30.0]) * self.unit}), ("far__nonsense", {}),
            ("write_file", {"path": "notes/a.txt", "content": "x"}),
            ("read_file", {"path": "notes/a.txt"}),
        ]  # fmt: skip
        if self.maybe(self.deaths):
            kinds = [("far__die", {"code": 3})]
        chosen = self.chance.choices(kinds, k=self.chance.randrange(1, 4))
        for number, (name, arguments) in enumerate(chosen + chosen[: self.maybe(0.3)]):
            yield CallTool(name, arguments, id=f"c{number}")

    # --- tools -----------------------------------------------------------------------------------------------

    def tools(self) -> list[Tool]:
        """Tools that look, write, fail and take too long."""

        @tool(mode="read_only")
        async def look(place: str) -> str:
            """Look."""
            await self.pause()
            return f"{place}: fine"

        @tool(writes="path", total=10 * self.unit)
        async def note(path: str, text: str) -> str:
            """Write it down, one at a time for each path."""
            await self.pause()
            return text

        @tool
        async def fails() -> str:
            """Fails."""
            await self.pause()
            raise ValueError("no")

        @tool(total=2 * self.unit)
        async def slow() -> str:
            """Takes longer than it may."""
            await trio.sleep_forever()
            return "never"

        @tool(mode="read_only")
        def reckon(n: int) -> int:
            """Reckons, in a thread."""
            return n * n

        return [look, note, fails, slow, reckon]

    # --- the balance -----------------------------------------------------------------------------------------

    def observe(self, event: Event) -> None:
        """Write down what is told."""
        if self.log:
            self.events.append(event)
        self.told[type(event).__name__] += 1
        match event:
            case TurnStarted():
                self.begun["turn", event.turn_id] += 1
            case TurnEnded():
                self._end("turn", event.turn_id)
                self.told[f"turn {event.outcome}"] += 1
            case AttemptStarted():
                self.begun["attempt", event.call_id, event.target] += 1
            case AttemptEnded():
                self._end("attempt", event.call_id, event.record.target)
                self.told[f"attempt {event.record.outcome}"] += 1
            case ToolStarted():
                self.begun["tool", event.turn_id, event.tool_call_id] += 1
            case ToolEnded():
                # What is refused or unknown ends without having begun.
                if ("tool", event.turn_id, event.tool_call_id) in self.begun:
                    self._end("tool", event.turn_id, event.tool_call_id)
                self.told[f"tool {event.outcome}"] += 1
            case MessageDropped(message=InboundMessage(id=id_)) if event.policy != "duplicate":
                self.fate[id_]["dropped"] += 1

    def _end(self, *what: str) -> None:
        self.begun[what] -= 1
        if not self.begun[what]:
            del self.begun[what]

    def check(self) -> None:
        """Every message that got in has one final reply, and everything that began has ended."""
        for id_, fate in self.fate.items():
            assert fate["answered"] == (1 if fate["accepted"] and not fate["dropped"] else 0), (id_, fate)
        assert not self.begun, self.begun
        assert self.told["turn ok"] > 0


@attrs.define
class Messenger:
    """A channel whose connection is slow and breaks, until the world is calm."""

    world: World
    name: str = "sim"
    shows_partials: bool = True
    shown: dict[str, list[OutboundMessage]] = attrs.field(factory=lambda: defaultdict(list))

    async def receive(self, publish: Publish) -> None:
        async with trio.open_nursery() as nursery:
            for chat in range(self.world.chats):
                nursery.start_soon(self.world.talk, publish, self.name, chat)
        self.world.quiet.set()
        await trio.sleep_forever()

    async def send(self, message: OutboundMessage) -> None:
        if not self.world.calm:
            await self.world.pause(0.3)
        if self.world.maybe(self.world.outages):
            raise OSError("the messenger is away")
        self.shown[message.chat_id].append(message)
        if message.kind == "final":
            assert message.reply_to is not None
            self.world.fate[message.reply_to]["answered"] += 1


def check_history(messages: tuple[Message, ...]) -> None:
    """Every tool call in a conversation is answered once, right after it, in call order."""
    waiting: list[str] = []
    for message in messages:
        if message.role == "tool":
            assert waiting.pop(0) == message.tool_call_id
            continue
        assert not waiting, waiting
        waiting = [call.id for call in message.tool_calls]
    assert not waiting, waiting
