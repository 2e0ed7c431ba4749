"""The journal of calls that start early: results are kept until the answer with the calls is used."""

from __future__ import annotations

import trio

from clawft_trio.chat import ToolCall
from clawft_trio.tools import Tool, ToolResult, tool
from clawft_trio.tools.early import HeldJournal

CALL = ToolCall(id="a", name="look")
RESULT = ToolResult("a", name="look", text="rain")


@tool
async def look() -> str:
    """Look."""
    return ""


class Records:
    """A journal in memory."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []

    async def started(self, call: ToolCall, tool: Tool) -> None:
        await trio.lowlevel.checkpoint()
        self.lines.append(("started", call.id, tool.name))

    async def ended(self, answer: ToolResult) -> None:
        await trio.lowlevel.checkpoint()
        self.lines.append(("ended", answer.call_id, answer.outcome))


async def test_an_intent_is_recorded_at_once_and_a_result_when_it_is_adopted() -> None:
    records = Records()
    journal = HeldJournal(records)
    await journal.started(CALL, look)
    await journal.ended(RESULT)
    assert records.lines == [("started", "a", "look")]
    await journal.adopt("a")
    assert records.lines[1:] == [("ended", "a", "ok")]
    await journal.adopt("a")
    assert len(records.lines) == 2


async def test_a_call_that_is_adopted_while_it_runs_is_recorded_when_it_ends() -> None:
    records = Records()
    journal = HeldJournal(records)
    await journal.adopt("a")
    assert records.lines == []
    await journal.ended(RESULT)
    assert records.lines == [("ended", "a", "ok")]


async def test_a_discarded_call_is_recorded_as_such_and_its_result_is_forgotten() -> None:
    records = Records()
    journal = HeldJournal(records)
    await journal.ended(RESULT)
    await journal.discard(CALL)
    await journal.adopt("a")
    assert records.lines == [("ended", "a", "discarded")]
