"""Questions with a turn id: asked again after a crash, in any process, they return or resume the same turn."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import trio

from clawft_trio.agent.journal import Journal
from clawft_trio.agent.journal_sql import notify_store
from clawft_trio.agent.serialization import reply_from_json, reply_to_json
from clawft_trio.agent.turn_types import Reply, TurnRequest
from clawft_trio.errors import StoreError
from clawft_trio.store import Connection, Migration, Work
from clawft_trio.store.leases import Lease, expire_ended
from clawft_trio.store.ownership import RELEASED, Ownership, session_name

ASK_MIGRATIONS = (
    Migration(
        "asks",
        1,
        """
        CREATE TABLE asks (
            turn TEXT PRIMARY KEY,
            session TEXT NOT NULL,
            reply BLOB NOT NULL
        ) STRICT, WITHOUT ROWID;
        """,
    ),
)
"""What `DurableAsks` needs in its store, beside the journal's."""

_GRACE = 5.0
"""Seconds that giving the session back may take."""

_LOOK = 0.5
"""Seconds between looks for a session that another process owns, where no notification comes."""


class DurableAsks:
    """The turns of `Agent.ask(..., turn_id=...)`.

    Args:
      journal: where their steps are.
      ownership: the leases of this process.
    """

    def __init__(self, journal: Journal, ownership: Ownership) -> None:
        self.journal = journal
        self._ownership = ownership

    async def ask(self, question: TurnRequest, answer: Callable[[TurnRequest], Awaitable[Reply]]) -> Reply:
        """The stored reply to *question*, or that of *answer*, which is stored.

        A turn that another process has begun is resumed here once its lease is free; while that process works on it,
        this waits for its reply.

        Raises:
          LeaseLost: another process has taken the session over; ask again for its reply.
          Exception: what *answer* raises. The turn's steps stay, and asking again resumes it.

        Cancellation: what *answer* leaves; asked again, the turn is resumed.
        """
        async with self._owned(question) as stored:
            if stored is not None:
                return stored
            reply = await answer(question)
            await self._ownership.write(question.turn_id, _ending(question, reply), ends=True)
            return reply

    @asynccontextmanager
    async def _owned(self, question: TurnRequest) -> AsyncGenerator[Reply | None, None]:
        """Own the session of *question* for the block; or the stored reply, and nothing is owned."""
        ownership, name = self._ownership, session_name(question.session)
        changed = trio.Event()

        def notified(topic: str, _: str) -> None:
            if topic in {RELEASED, ""}:
                changed.set()

        with ownership.store.listening(notified):
            while True:
                changed = trio.Event()
                found = await self._take(question, name)
                if found is not None:
                    break
                with trio.move_on_after(_LOOK):
                    await changed.wait()
        if isinstance(found, Reply):
            yield found
            return
        ownership.note(found)
        ownership.guard(question.turn_id, found)
        try:
            yield None
        finally:
            ownership.unguard(question.turn_id)
            with trio.move_on_after(_GRACE, shield=True), suppress(StoreError):
                await ownership.release(name)

    async def _take(self, question: TurnRequest, name: str) -> Reply | Lease | None:
        """The stored reply, or else the lease of the session, if no other turn has it."""

        def look(connection: Connection) -> bytes | Lease | None:
            found = connection.execute("SELECT reply FROM asks WHERE turn = ?", (question.turn_id,)).fetchone()
            if found is not None:
                data: bytes = found[0]
                return data
            lease = self._ownership.acquire_in(connection, name)
            if lease is None and expire_ended(connection):
                lease = self._ownership.acquire_in(connection, name)
            return lease

        store = self._ownership.store
        # Run again after its own commit, it finds its own lease taken; a renewal gives that back.
        found = await store.transact(look, concurrent=True, durability="process", repeatable=True)
        return reply_from_json(found) if isinstance(found, bytes) else found


# Run again after its own commit, it keeps the same reply.
_KEEP_REPLY = "INSERT INTO asks (turn, session, reply) VALUES (?, ?, ?) ON CONFLICT (turn) DO NOTHING"


def _ending(question: TurnRequest, reply: Reply) -> Work[None]:
    row = (question.turn_id, question.session, reply_to_json(reply))

    def end(connection: Connection) -> None:
        connection.execute(_KEEP_REPLY, row)
        connection.execute("DELETE FROM answers WHERE turn = ?", (question.turn_id,))
        connection.execute("DELETE FROM tool_calls WHERE turn = ?", (question.turn_id,))
        notify_store(connection, RELEASED, "")

    return end
