"""The writes of durable turns: when a step of a turn is stored, and how many jobs the store runs for a turn."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import trio

from clawft_trio import open_agent, parse_config, tool
from clawft_trio.agent import LoopPolicy
from clawft_trio.messages import InboundMessage
from clawft_trio.store.sqlite_lanes import Writer
from clawft_trio.testing import CallTool, Finish, Say, ScriptedProvider

CONFIG = parse_config(
    '{"routing": {"permissions": {"channels": {"ch": {"level": 1, "toolAccess": ["*"], "rateLimit": 0}}}}}'
)


@tool(mode="mutating")
async def pay(n: str) -> str:
    """Not idempotent."""
    await trio.lowlevel.checkpoint()
    return f"paid {n}"


async def answer(place: Path, count: int, before_second_request: Callable[[], None] = lambda: None) -> None:
    """Run *count* turns at once, each in its own session, with one call of `pay`."""

    def choose(request):
        if request.messages[-1].role != "tool":
            return [CallTool("pay", {"n": "1"}), Finish()]
        before_second_request()
        return [Say("done"), Finish()]

    async with open_agent(
        ["p/m"],
        providers={"p": ScriptedProvider(choose=choose, name="p")},
        tools=[pay],
        config=CONFIG,
        store=place,
        loop=LoopPolicy(max_concurrent_turns=4 * count),
    ) as agent:
        replies = agent.bus.outbound("ch")
        for n in range(count):
            message = InboundMessage(channel="ch", sender_id="u", chat_id=str(n), id=f"m{n}", content="pay")
            await agent.bus.publish_inbound(message)
        finals = 0
        while finals < count:
            reply = await anext(replies)
            finals += reply.kind == "final"
            assert reply.kind != "final" or reply.content == "done"


async def test_the_result_of_a_tool_is_stored_before_the_next_request_is_sent(tmp_path: Path) -> None:
    found: list[tuple[str, bool]] = []

    def look() -> None:
        connection = sqlite3.connect(tmp_path / "store.db")
        found.extend(connection.execute("SELECT tool, answer IS NOT NULL FROM tool_calls").fetchall())
        connection.close()

    await answer(tmp_path / "store.db", 1, look)
    assert found == [("pay", 1)]


async def test_a_process_does_not_search_the_store_for_messages_in_its_own_queue(tmp_path: Path, monkeypatch) -> None:
    run, jobs = Writer.run, 0

    async def counted(self, function, **options):
        nonlocal jobs
        jobs += "claim" in getattr(function, "__qualname__", "")
        return await run(self, function, **options)

    monkeypatch.setattr(Writer, "run", counted)
    await answer(tmp_path / "store.db", 20)
    # Every session is claimed by the transaction that stores its message; a late renewal may cause a search.
    assert jobs < 10
