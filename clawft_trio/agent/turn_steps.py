"""The steps of a turn in the store: the models' answers, and the tool calls that started and ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import trio

from clawft_trio.agent.serialization import (
    response_from_json,
    response_to_json,
    tool_result_from_json,
    tool_result_to_json,
)
from clawft_trio.chat import ChatResponse, ToolCall
from clawft_trio.errors import OutcomeUnknown
from clawft_trio.keys import storable_key
from clawft_trio.store import Connection, Store, Work
from clawft_trio.store.ownership import Ownership
from clawft_trio.tools import Tool, ToolResult
from clawft_trio.tools.result import error_text

T = TypeVar("T")


class TurnSteps:
    """Stores the steps of turns, so that another process can resume them; see `Journal`.

    A step is written with the lease of its turn checked, and most steps together with a later one.
    """

    def __init__(self, store: Store, ownership: Ownership | None) -> None:
        self._store = store
        self.ownership: Ownership | None = ownership

    async def _write(self, turn_id: str, work: Work[T], *, ends: bool = False) -> T:
        """Run *work*; if the turn is guarded, fenced and together with its pending steps."""
        if self.ownership is not None and self.ownership.guards(turn_id):
            return await self.ownership.write(turn_id, work, ends=ends)
        return await self._store.transact(work, concurrent=True, repeatable=True)

    def _has_no_steps(self, turn_id: str) -> bool:
        return self.ownership is not None and self.ownership.is_fresh(turn_id)

    async def _write_later(self, turn_id: str, work: Work[object]) -> None:
        """Run *work* with the turn's next write if the turn is guarded, else now."""
        if self.ownership is not None and self.ownership.guards(turn_id):
            await trio.lowlevel.checkpoint()
            self.ownership.postpone(turn_id, work, outlives_turn=False)
        else:
            await self._store.transact(work, concurrent=True, repeatable=True)

    async def answers(self, turn_id: str) -> Sequence[ChatResponse]:
        """Return the models' answers of an earlier run, by round.

        Raises:
          StoreError: the store cannot be used.

        Cancellation: safe.
        """
        if self._has_no_steps(turn_id):
            await trio.lowlevel.checkpoint()
            return ()
        query = "SELECT response FROM answers WHERE turn = ? ORDER BY round"
        rows = await self._store.read(lambda connection: connection.execute(query, (turn_id,)).fetchall())
        return tuple(response_from_json(data) for (data,) in rows)

    async def answered(self, turn_id: str, number: int, response: ChatResponse) -> None:
        """Record the answer of round *number* (1 is the first).

        Raises:
          StoreError: the store cannot be written.

        Cancellation: `Cancelled` means that it is not recorded.
        """
        query = (
            "INSERT INTO answers (turn, round, response) VALUES (?, ?, ?)"
            " ON CONFLICT (turn, round) DO UPDATE SET response = excluded.response"
        )

        def add(connection: Connection) -> None:
            # Encoded here, because the last answer of a turn is never written.
            connection.execute(query, (turn_id, number, response_to_json(response)))

        await self._write_later(turn_id, add)

    def tools(self, turn_id: str, number: int) -> RoundJournal:
        """Return the journal for the tool calls of round *number*."""
        return RoundJournal(self, turn_id, number)

    async def tool_answers(self, turn_id: str, number: int, calls: Sequence[ToolCall]) -> dict[str, ToolResult]:
        """Return the results of *calls* from before a crash, by call id: these calls must not run again.

        A started call without a result gets the result `OutcomeUnknown`, unless its tool is idempotent; then it is not
        returned, like a call that was never started.

        Raises:
          StoreError: the store cannot be used.

        Cancellation: safe.
        """
        if self._has_no_steps(turn_id):
            await trio.lowlevel.checkpoint()
            return {}
        query = "SELECT call, tool, idempotent, answer FROM tool_calls WHERE turn = ? AND round = ?"
        rows = await self._store.read(lambda connection: connection.execute(query, (turn_id, number)).fetchall())
        ids = {storable_key(call.id): call.id for call in calls}
        known = {
            ids[key]: _known(ids[key], tool, idempotent, data) for key, tool, idempotent, data in rows if key in ids
        }
        return {call: answer for call, answer in known.items() if answer is not None}


class RoundJournal:
    """The tool calls of one round. Made by `Journal.tools`; it is a `tools.ToolJournal`."""

    def __init__(self, journal: TurnSteps, turn_id: str, number: int) -> None:
        self._journal = journal
        self._turn_id = turn_id
        self._number = number

    async def started(self, call: ToolCall, tool: Tool) -> None:
        """Record that the call is about to run; it runs after this returned.

        Raises:
          StoreError: the store cannot be written; the call must not run.

        Cancellation: `Cancelled` means that it is not recorded; the call must not run.
        """
        row = (self._turn_id, self._number, storable_key(call.id), tool.name, int(tool.metadata.idempotent))
        query = (
            "INSERT INTO tool_calls (turn, round, call, tool, idempotent) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (turn, round, call)"
            " DO UPDATE SET tool = excluded.tool, idempotent = excluded.idempotent, answer = NULL"
        )
        await self._journal._write(self._turn_id, lambda connection: connection.execute(query, row).rowcount)

    async def ended(self, answer: ToolResult) -> None:
        """Record the result of a started call.

        Raises:
          StoreError: the store cannot be written; after a crash the outcome will be unknown.

        Cancellation: `Cancelled` means that it is not recorded.
        """
        query = "UPDATE tool_calls SET answer = ? WHERE turn = ? AND round = ? AND call = ?"

        def note(connection: Connection) -> None:
            values = (tool_result_to_json(answer), self._turn_id, self._number, storable_key(answer.call_id))
            connection.execute(query, values)

        await self._journal._write_later(self._turn_id, note)


def _known(call: str, tool: str, idempotent: int, data: bytes | None) -> ToolResult | None:
    answer = None if data is None else tool_result_from_json(data)
    if answer is not None and answer.outcome != "discarded":
        return answer
    # Only calls that may be repeated start before their answer is complete: a discarded call may run again.
    if idempotent or answer is not None:
        return None
    error = OutcomeUnknown(
        f"{tool} was started, and then the program ended. Whether it acted is not known. Check before you repeat it.",
        tool=tool,
    )
    return ToolResult(call, name=tool, text=error_text(error), outcome="error", error=error)
