"""What must be true of an agent that has answered everything and is still open."""

from __future__ import annotations

import sqlite3

import trio
from integration.conversations import Line, faults
from integration.world import World

from clawft_trio import Agent
from clawft_trio.agent.serialization import message_from_json
from clawft_trio.tools import LockStatistics

_CALLS_END = 60.0
"""Units within which an MCP client's own requests (pings, lists of tools) have their answers."""


async def check_closing(world: World, agent: Agent) -> None:
    """Every conversation is whole, every cent is settled, and nobody waits for anything."""
    await _check_conversations(world, agent)
    world.accounting.money.check(await agent.parts.costs.ledger.entries(limit=1_000_000))
    loop = agent.parts.loop.statistics()
    assert (loop.running, loop.waiting) == (0, 0), loop
    locks = agent.parts.tools.locks.statistics()
    assert locks == LockStatistics(holders=0, waiters=0, paths=0), locks
    with trio.fail_after(_CALLS_END * world.unit + world.late):
        while any(_pending(agent)):
            await trio.sleep(world.unit)


def _pending(agent: Agent) -> list[int]:
    found = [client.statistics() for client in agent.parts.toolset.clients.values()]
    return [one.in_flight + one.waiting for one in found]


async def _check_conversations(world: World, agent: Agent) -> None:
    """Look at what is written, and not at what a model would be shown of it, which is mended on the way."""
    for (session, turn), lines in (await agent.parts.store.read(_turns)).items():
        ok = world.accounting.ended[turn] == "ok"
        for fault in faults(lines, dangling=not ok):
            world.accounting.expect(False, session, turn, fault)
        whole = lines[-1].role == "assistant" and not lines[-1].calls
        world.accounting.expect(whole or not ok, session, turn, "was answered, and ends with", lines[-1])


def _turns(connection: sqlite3.Connection) -> dict[tuple[str, str], list[Line]]:
    turns: dict[tuple[str, str], list[Line]] = {}
    for session, turn, data in connection.execute("SELECT session, turn, message FROM messages ORDER BY place"):
        turns.setdefault((session, turn), []).append(Line.of(message_from_json(data)))
    return turns
