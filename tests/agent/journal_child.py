"""A process that answers messages with a journal, and dies where it is told to. Run by test_journal.

    python journal_child.py FOLDER STEP

It counts the boundaries of the journal: before and after each of its transactions. At boundary number STEP it kills
itself with SIGKILL; with 0 it lives. What it does to the world it writes to files outside the store, and each write
is on disk before it goes on.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from clawft_trio.agent import journal as journal_room, sessions as sessions_room
from clawft_trio.agent.journal import Journal
from clawft_trio.agent.loop import AgentLoop
from clawft_trio.agent.sessions import Sessions
from clawft_trio.agent.turn_context import LoopPolicy, TurnContext
from clawft_trio.bus import StoredUndelivered, deliver, open_bus
from clawft_trio.bus.channel import Redelivery
from clawft_trio.chat import ChatResponse, Message, ToolCall
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.store import Store, open_store
from clawft_trio.tools import ToolResult, tool

FOLDER, STEP = Path(sys.argv[1]), int(sys.argv[2])
QUESTIONS = [InboundMessage(channel="test", sender_id="ana", chat_id="1", content=f"q{n}", id=f"m{n}") for n in (1, 2)]


def happen(what: str, file: str = "effects") -> None:
    """Something that cannot be taken back."""
    with (FOLDER / file).open("a") as effects:
        effects.write(what + "\n")
        effects.flush()
        os.fsync(effects.fileno())


class Deadly(Store):
    """A store that dies at a boundary of a transaction."""

    boundaries = 0

    def __init__(self, store: Store) -> None:
        self._store = store

    def boundary(self) -> None:
        Deadly.boundaries += 1
        if STEP == Deadly.boundaries:
            os.kill(os.getpid(), signal.SIGKILL)

    async def transact(self, function: Callable[[sqlite3.Connection], Any], **options: Any) -> Any:
        self.boundary()
        result = await self._store.transact(function, **options)
        self.boundary()
        return result

    async def read(self, function: Callable[[sqlite3.Connection], Any]) -> Any:
        return await self._store.read(function)


@tool
async def pay(amount: int) -> str:
    """Not idempotent."""
    await trio.lowlevel.checkpoint()
    happen(f"paid {amount}")
    return "paid"


@tool(idempotent=True)
async def switch_on(lamp: int) -> str:
    """Idempotent."""
    await trio.lowlevel.checkpoint()
    happen(f"switched on {lamp}")
    return "on"


class FakeTurn:
    """Two rounds: a model that asks for two tools, then a model that answers. Journalled as a real turn is."""

    def __init__(self, journal: Journal, sessions: Sessions) -> None:
        self.journal, self.sessions = journal, sessions

    async def __call__(self, message: InboundMessage, context: TurnContext) -> OutboundMessage:
        turn = context.turn_id
        first = await self.ask(turn, 1, message)
        results = await self.call_tools(turn, first)
        second = await self.ask(turn, 2, message)
        said = [Message.user(message.content), first.message, *(result.message for result in results), second.message]
        await self.sessions.append(message.session_key, said, turn_id=turn)
        return OutboundMessage(channel="", chat_id="", content="; ".join(result.text for result in results))

    async def ask(self, turn: str, number: int, message: InboundMessage) -> ChatResponse:
        bought = await self.journal.answers(turn)
        if number <= len(bought):
            return bought[number - 1]
        happen(f"bought {message.content} round {number}")
        calls = (ToolCall(id="p", name="pay"), ToolCall(id="s", name="switch_on")) if number == 1 else ()
        response = ChatResponse(content=f"round {number}", tool_calls=calls)
        await self.journal.answered(turn, number, response)
        return response

    async def call_tools(self, turn: str, response: ChatResponse) -> list[ToolResult]:
        known = await self.journal.tool_answers(turn, 1, response.tool_calls)
        results = []
        for call in response.tool_calls:
            if call.id not in known:
                offered = pay if call.name == "pay" else switch_on
                round_journal = self.journal.tools(turn, 1)
                await round_journal.started(call, offered)
                text = await offered.wrapped(int(turn[-1]))
                known[call.id] = ToolResult(call.id, name=call.name, text=text)
                await round_journal.ended(known[call.id])
            results.append(known[call.id])
        return results


async def send(message: OutboundMessage) -> None:
    await trio.lowlevel.checkpoint()
    happen(f"{message.reply_to} {message.content}", "replies")


async def main() -> None:
    migrations = (*journal_room.MIGRATIONS, *sessions_room.MIGRATIONS)
    async with open_store(FOLDER / "store.db", migrations=migrations, durability="process") as real:
        store = Deadly(real)
        journal = Journal(store)
        async with open_bus(undelivered=StoredUndelivered(store)) as bus, trio.open_nursery() as nursery:
            nursery.start_soon(deliver, bus.outbound("test"), send, Redelivery())
            turn = FakeTurn(journal, Sessions(store))
            loop = AgentLoop(bus, turn, journal=journal, policy=LoopPolicy(max_resumes=10))
            # A channel sends again what it has no receipt for, and nothing else.
            receipts = FOLDER / "receipts"
            sent = receipts.read_text().split() if receipts.exists() else []
            for question in QUESTIONS:
                if question.id not in sent:
                    await bus.publish_inbound(question)
                    happen(question.id, "receipts")
            bus.close_inbound()
            await loop.serve()
            bus.close()
    print(Deadly.boundaries)


trio.run(main)
