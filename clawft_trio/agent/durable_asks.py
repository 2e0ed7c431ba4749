"""Questions with a turn id: asking again after a crash, in any process, resumes the turn or returns its reply."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import trio

from clawft_trio.agent.journal import Journal
from clawft_trio.agent.journal_sql import notify_store
from clawft_trio.agent.serialization import reply_from_json, reply_to_json
from clawft_trio.agent.turn_types import Reply, TurnRequest
from clawft_trio.costs import CostTracker
from clawft_trio.errors import Refused, StoreError
from clawft_trio.store import Connection, Migration, Work
from clawft_trio.store.leases import Lease
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
    Migration(
        "asks",
        2,
        """
        ALTER TABLE asks ADD COLUMN at REAL NOT NULL DEFAULT 0;  -- begun or replied, by the database's clock
        UPDATE asks SET at = now_seconds();
        CREATE INDEX asks_by_time ON asks (at);
        """,
    ),
)
"""The tables that `DurableAsks` needs in its store, in addition to the journal's. A row is stored when its turn begins,
so that the id of a turn belongs to one session."""

_KEPT = 30 * 86400.0
"""Seconds that a reply is stored, and the steps of a turn that nothing resumes: longer than callers ask again."""

_AT_ONCE = 100
"""Largest number of old rows that one question deletes."""

_GRACE = 5.0
"""Seconds that releasing the session may take."""

_LOOK = 0.5
"""Seconds between checks of a session that another process owns, without a notification."""


class DurableAsks:
    """Runs the turns of `Agent.ask(..., turn_id=...)`.

    Args:
      journal: the journal of their steps.
      ownership: the leases of this process.
      costs: tracker in which a resumed turn releases the reservations of its earlier process.
    """

    def __init__(self, journal: Journal, ownership: Ownership, costs: CostTracker | None = None) -> None:
        self.journal = journal
        self._ownership = ownership
        self._costs = costs

    async def ask(self, question: TurnRequest, answer: Callable[[TurnRequest], Awaitable[Reply]]) -> Reply:
        """Return the stored reply to *question*; without one, call *answer* and store its reply.

        If another process has begun the turn, this waits for its reply while it works on the turn, and resumes the turn
        here once its lease has expired.

        Raises:
          LeaseLost: another process has taken over the session; ask again for its reply.
          Refused: the turn id belongs to a turn of another session.
          Exception: as *answer* raises it. The turn's steps stay, and asking again resumes it.

        Cancellation: as for *answer*; asking again resumes the turn.
        """
        async with self._owned(question) as stored:
            if stored is not None:
                return stored
            if self._costs is not None and not self._ownership.is_fresh(question.turn_id):
                # If the ledger cannot be written, the reservations stay until their leases end.
                with suppress(StoreError):
                    await self._costs.take_over(question.turn_id)
            reply = await answer(question)
            await self._ownership.write(question.turn_id, _ending(question, reply), ends=True)
            return reply

    @asynccontextmanager
    async def _owned(self, question: TurnRequest) -> AsyncGenerator[Reply | None, None]:
        """Own the session of *question* during the block; the value is its stored reply, and then nothing is owned."""
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
        lease, fresh = found
        ownership.note(lease)
        ownership.guard(question.turn_id, lease, fresh=fresh)
        try:
            yield None
        finally:
            ownership.unguard(question.turn_id)
            with trio.move_on_after(_GRACE, shield=True), suppress(StoreError):
                await ownership.release(name)

    async def _take(self, question: TurnRequest, name: str) -> Reply | tuple[Lease, bool] | None:
        """Return the stored reply, or else the lease of the session and whether this is the turn's first run; None when
        another owner has the lease.

        Raises:
          Refused: the turn id belongs to a turn of another session.
        """

        def look(connection: Connection) -> Reply | tuple[Lease, bool] | None:
            begun = connection.execute(_BEGIN, (question.turn_id, question.session, _OPEN))
            found = connection.execute(_LOOK_UP, (_KEPT, question.turn_id)).fetchone()
            if found is None:
                # Another process has just deleted it, because it is old: the next look begins the turn.
                return None
            session, data, old = found
            if session != question.session:
                raise Refused("turn_id names a turn of another sender or session")
            if data != _OPEN:
                # Here, in the store's thread, because a large reply would block the event loop too long.
                return reply_from_json(data)
            if old:
                _forget_old(connection)
            lease = self._ownership.acquire_in(connection, name)
            if lease is None and self._ownership.expire_ended_in(connection):
                lease = self._ownership.acquire_in(connection, name)
            return None if lease is None else (lease, begun.rowcount == 1)

        store = self._ownership.store
        # If it runs again after its own commit, it finds the lease taken; the next renewal releases it as not held.
        return await store.transact(look, concurrent=True, durability="process", repeatable=True)


_BEGIN = """
    INSERT INTO asks (turn, session, reply, at) VALUES (?, ?, ?, now_seconds()) ON CONFLICT (turn) DO NOTHING
"""

_LOOK_UP = """
    SELECT session, reply, EXISTS (SELECT 1 FROM asks WHERE at < now_seconds() - ?) FROM asks WHERE turn = ?
"""

_END = """
    INSERT INTO asks (turn, session, reply, at) VALUES (?, ?, ?, now_seconds())
    ON CONFLICT (turn) DO UPDATE SET reply = excluded.reply, at = excluded.at
"""

_OPEN = b""
"""The reply of a turn that has not ended."""

_OLD = """
    SELECT turn FROM asks WHERE at < now_seconds() - ? AND (reply != ? OR NOT EXISTS (
        SELECT 1 FROM leases WHERE leases.name = 'session:' || asks.session AND leases.expires >= now_seconds()
    )) LIMIT ? /* skip locked */
"""


def _forget_old(connection: Connection) -> None:
    """Delete old replies, and old turns that no process works on, with their steps."""
    old = connection.execute(_OLD, (_KEPT, _OPEN, _AT_ONCE)).fetchall()
    connection.executemany("DELETE FROM asks WHERE turn = ?", old)
    connection.executemany("DELETE FROM answers WHERE turn = ?", old)
    connection.executemany("DELETE FROM tool_calls WHERE turn = ?", old)


def _ending(question: TurnRequest, reply: Reply) -> Work[None]:
    def end(connection: Connection) -> None:
        connection.execute(_END, (question.turn_id, question.session, reply_to_json(reply)))
        connection.execute("DELETE FROM answers WHERE turn = ?", (question.turn_id,))
        connection.execute("DELETE FROM tool_calls WHERE turn = ?", (question.turn_id,))
        notify_store(connection, RELEASED, "")

    return end
