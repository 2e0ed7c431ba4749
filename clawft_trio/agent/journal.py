"""What a turn has done so far, written down before and after each step, so that it outlives the process.

| step             | written before it   | written after it | after a crash in between                         |
|------------------|---------------------|------------------|--------------------------------------------------|
| a message comes  |                     | `accepted`       | its publisher has not returned: it comes again   |
| a model answers  |                     | `answered`       | the round is asked again                         |
| a tool is called | `started`           | `ended`          | idempotent: called again; else `OutcomeUnknown`  |
| the reply is out | `replied`           | shelf: delivered | the reply is sent again, with the same `reply_to`|

`replied` ends the turn and keeps the reply in one transaction: there is a reply if and only if the turn is over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol

import attrs

from clawft_trio.agent.serialization import (
    inbound_from_json,
    inbound_to_json,
    response_from_json,
    response_to_json,
    tool_result_from_json,
    tool_result_to_json,
)
from clawft_trio.bus.undelivered import MIGRATIONS as SHELF_MIGRATIONS, insert_undelivered, key_of
from clawft_trio.chat import ChatResponse, ToolCall
from clawft_trio.errors import OutcomeUnknown
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.store import Connection, Migration, Store
from clawft_trio.tools import Tool, ToolResult
from clawft_trio.tools.result import error_text

MIGRATIONS = (
    *SHELF_MIGRATIONS,
    Migration(
        "journal",
        1,
        """
        CREATE TABLE turns (
            place INTEGER PRIMARY KEY AUTOINCREMENT,
            turn TEXT NOT NULL UNIQUE,
            accepted_at TEXT NOT NULL,
            resumes INTEGER NOT NULL DEFAULT 0,
            message BLOB  -- NULL: it has its reply
        ) STRICT;
        CREATE INDEX turns_open ON turns (place) WHERE message IS NOT NULL;
        CREATE TABLE answers (
            turn TEXT NOT NULL,
            round INTEGER NOT NULL,
            response BLOB NOT NULL,
            PRIMARY KEY (turn, round)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE tool_calls (
            turn TEXT NOT NULL,
            round INTEGER NOT NULL,
            call TEXT NOT NULL,
            tool TEXT NOT NULL,
            idempotent INTEGER NOT NULL,
            answer BLOB,  -- NULL: started, and nobody knows more
            PRIMARY KEY (turn, round, call)
        ) STRICT, WITHOUT ROWID;
        """,
    ),
)
"""What `Journal` needs in its store, the shelf of the bus included."""

_REMEMBERED = 100_000
"""Ids of answered messages that are kept, to know a duplicate by: about 10 MB on disk."""


@attrs.frozen
class Unfinished:
    """A message that was accepted and has no reply."""

    message: InboundMessage
    #: how often its turn was resumed before
    resumes: int


class LoopJournal(Protocol):
    """What the agent loop needs of a journal."""

    async def accepted(self, message: InboundMessage) -> bool:
        """Write *message* down; False when it was accepted before.

        Cancellation: `Cancelled` means that it was not written.
        """
        ...

    async def withdrawn(self, message: InboundMessage) -> None:
        """Cross *message* out: it did not get in after all.

        Cancellation: `Cancelled` means that it was not written.
        """
        ...

    async def replied(self, message: InboundMessage, reply: OutboundMessage) -> None:
        """The turn is over: forget its steps, and keep its reply for delivery, in one step.

        Cancellation: `Cancelled` means that nothing was written.
        """
        ...

    async def unfinished(self) -> tuple[Unfinished, ...]:
        """What an earlier process has accepted and not answered, in order; each counts as resumed from now on.

        Cancellation: safe.
        """
        ...


def turn_id_of(message: InboundMessage) -> str:
    """The id of the turn that answers *message*: the same in every process."""
    return f"{message.channel}:{message.chat_id}:{message.id}"


class Journal:
    """The journal in the store, which needs `MIGRATIONS`. One process at a time serves a journal.

    Args:
      store: where it is.
      now: the time that goes beside each accepted message.
    """

    def __init__(self, store: Store, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._store = store
        self._now = now

    # --- messages ----------------------------------------------------------------------------------------

    async def accepted(self, message: InboundMessage) -> bool:
        """Write *message* down.

        Returns:
          Whether it is new; False for a duplicate, which is not to be answered again.

        Raises:
          StoreError: it could not be written; it is not accepted.

        Cancellation: `Cancelled` means that it is not accepted.
        """
        row = (turn_id_of(message), self._now().isoformat(), inbound_to_json(message))

        def add(connection: Connection) -> bool:
            query = "INSERT INTO turns (turn, accepted_at, message) VALUES (?, ?, ?) ON CONFLICT (turn) DO NOTHING"
            return connection.execute(query, row).rowcount == 1

        return await self._store.transact(add)

    async def withdrawn(self, message: InboundMessage) -> None:
        """Cross *message* out: it did not get into the bus after all, and may come again.

        Raises:
          StoreError: it could not be crossed out; it will be resumed by the next process.

        Cancellation: `Cancelled` means that it is not crossed out.
        """
        query = "DELETE FROM turns WHERE turn = ? AND message IS NOT NULL"
        turn = turn_id_of(message)
        await self._store.transact(lambda connection: connection.execute(query, (turn,)).rowcount)

    async def replied(self, message: InboundMessage, reply: OutboundMessage) -> None:
        """End the turn of *message* and keep *reply* on the shelf of the bus, in one transaction.

        Raises:
          StoreError: it could not be written; the turn will be resumed by the next process.

        Cancellation: `Cancelled` means that the turn has not ended.
        """
        turn = turn_id_of(message)
        key = key_of(attrs.evolve(reply, reply_to=message.id))
        accepted_at = self._now().isoformat()

        def end(connection: Connection) -> None:
            known = connection.execute("UPDATE turns SET message = NULL WHERE turn = ?", (turn,)).rowcount
            if not known:
                connection.execute("INSERT INTO turns (turn, accepted_at) VALUES (?, ?)", (turn, accepted_at))
            connection.execute("DELETE FROM answers WHERE turn = ?", (turn,))
            connection.execute("DELETE FROM tool_calls WHERE turn = ?", (turn,))
            if key is not None:
                insert_undelivered(connection, key, reply)

        await self._store.transact(end)

    async def unfinished(self) -> tuple[Unfinished, ...]:
        """What an earlier process has accepted and not answered, oldest first.

        Each counts as resumed from now on. Old answered ids are forgotten.

        Raises:
          StoreError: the store cannot be used.

        Cancellation: `Cancelled` means that nothing counts as resumed.
        """

        def take(connection: Connection) -> list[tuple[bytes, int]]:
            connection.execute(
                "DELETE FROM turns WHERE message IS NULL AND place <= (SELECT max(place) FROM turns) - ?",
                (_REMEMBERED,),
            )
            query = "SELECT message, resumes FROM turns WHERE message IS NOT NULL ORDER BY place"
            rows = connection.execute(query).fetchall()
            connection.execute("UPDATE turns SET resumes = resumes + 1 WHERE message IS NOT NULL")
            return rows

        return tuple(Unfinished(inbound_from_json(data), resumes) for data, resumes in await self._store.transact(take))

    # --- the steps of a turn -----------------------------------------------------------------------------

    async def answers(self, turn_id: str) -> Sequence[ChatResponse]:
        """The models' answers that were bought before, by round.

        Raises:
          StoreError: the store cannot be used.

        Cancellation: safe.
        """
        query = "SELECT response FROM answers WHERE turn = ? ORDER BY round"
        rows = await self._store.read(lambda connection: connection.execute(query, (turn_id,)).fetchall())
        return tuple(response_from_json(data) for (data,) in rows)

    async def answered(self, turn_id: str, number: int, response: ChatResponse) -> None:
        """Round *number* (1 is the first) has its answer.

        Raises:
          StoreError: it could not be written.

        Cancellation: `Cancelled` means that it is not kept.
        """
        row = (turn_id, number, response_to_json(response))
        query = (
            "INSERT INTO answers (turn, round, response) VALUES (?, ?, ?)"
            " ON CONFLICT (turn, round) DO UPDATE SET response = excluded.response"
        )
        await self._store.transact(lambda connection: connection.execute(query, row).rowcount)

    def tools(self, turn_id: str, number: int) -> RoundJournal:
        """Where the tool calls of round *number* are written down."""
        return RoundJournal(self._store, turn_id, number)

    async def tool_answers(self, turn_id: str, number: int, calls: Sequence[ToolCall]) -> dict[str, ToolResult]:
        """What is known of *calls* from before a crash, by call id: these are not to be executed again.

        A call that was started and has no answer is answered `OutcomeUnknown`, unless its tool is idempotent; then,
        as one that was never started, it is not in the result.

        Raises:
          StoreError: the store cannot be used.

        Cancellation: safe.
        """
        query = "SELECT call, tool, idempotent, answer FROM tool_calls WHERE turn = ? AND round = ?"
        rows = await self._store.read(lambda connection: connection.execute(query, (turn_id, number)).fetchall())
        known = {call: _known(call, tool, idempotent, data) for call, tool, idempotent, data in rows}
        wanted = {call.id for call in calls}
        return {call: answer for call, answer in known.items() if answer is not None and call in wanted}


class RoundJournal:
    """The tool calls of one round. Made by `Journal.tools`; it is a `tools.ToolJournal`."""

    def __init__(self, store: Store, turn_id: str, number: int) -> None:
        self._store = store
        self._turn_id = turn_id
        self._number = number

    async def started(self, call: ToolCall, tool: Tool) -> None:
        """The call is about to run, and does not before this returns.

        Raises:
          StoreError: it could not be written; the call must not run.

        Cancellation: `Cancelled` means that it is not written; the call must not run.
        """
        row = (self._turn_id, self._number, call.id, tool.name, int(tool.metadata.idempotent))
        query = (
            "INSERT INTO tool_calls (turn, round, call, tool, idempotent) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (turn, round, call)"
            " DO UPDATE SET tool = excluded.tool, idempotent = excluded.idempotent, answer = NULL"
        )
        await self._store.transact(lambda connection: connection.execute(query, row).rowcount)

    async def ended(self, answer: ToolResult) -> None:
        """A started call has its answer.

        Raises:
          StoreError: it could not be written; after a crash the outcome will be unknown.

        Cancellation: `Cancelled` means that it is not written.
        """
        row = (tool_result_to_json(answer), self._turn_id, self._number, answer.call_id)
        query = "UPDATE tool_calls SET answer = ? WHERE turn = ? AND round = ? AND call = ?"
        await self._store.transact(lambda connection: connection.execute(query, row).rowcount)


def _known(call: str, tool: str, idempotent: int, data: bytes | None) -> ToolResult | None:
    if data is not None:
        return tool_result_from_json(data)
    if idempotent:
        return None
    error = OutcomeUnknown(
        f"{tool} was started, and then the program ended. Whether it acted is not known. Check before you repeat it.",
        tool=tool,
    )
    return ToolResult(call, name=tool, text=error_text(error), outcome="error", error=error)
