"""Sessions: the stored messages of conversations, with tool calls and results, and their compactions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import attrs
import trio

from clawft_trio.agent.serialization import message_from_json, message_to_json
from clawft_trio.agent.session_view import Compaction, SessionTail, StoredMessage, place_of, presentable
from clawft_trio.chat import Message, Opaque, Text
from clawft_trio.keys import storable_key, storable_text
from clawft_trio.store import Connection, Migration, Store
from clawft_trio.store.ownership import Ownership
from clawft_trio.tools.truncate import is_large

MIGRATIONS = (
    Migration(
        "sessions",
        1,
        """
        CREATE TABLE messages (
            place INTEGER PRIMARY KEY AUTOINCREMENT,
            session TEXT NOT NULL,
            turn TEXT NOT NULL,
            said_at TEXT NOT NULL,
            message BLOB NOT NULL
        ) STRICT;
        CREATE INDEX messages_by_session ON messages (session, place);
        CREATE INDEX messages_by_turn ON messages (turn) WHERE turn != '';
        """,
    ),
    Migration(
        "sessions",
        2,
        """
        CREATE TABLE compactions (
            place INTEGER PRIMARY KEY AUTOINCREMENT,
            session TEXT NOT NULL,
            made_at TEXT NOT NULL,
            cut INTEGER NOT NULL,  -- messages up to this place are not shown
            cleared INTEGER NOT NULL,  -- tool results up to this place are shown as one line each
            summary TEXT NOT NULL
        ) STRICT;
        CREATE INDEX compactions_by_session ON compactions (session, place);
        CREATE TABLE results (
            session TEXT NOT NULL,
            call TEXT NOT NULL,
            text TEXT NOT NULL,  -- the whole of a tool result that is in messages in part
            PRIMARY KEY (session, call)
        ) STRICT, WITHOUT ROWID;
        """,
    ),
)
"""The tables that `Sessions` needs in its store."""

LARGE = 2 * 1024 * 1024
"""Bytes of messages, or characters of a result, that are encoded and stored in a thread: the loop would take 15 ms."""

_TAIL = """
    WITH newest AS (
        SELECT place, summary, cut, cleared FROM compactions WHERE session = ? ORDER BY place DESC LIMIT 1
    )
    SELECT place, summary, NULL, cut, cleared FROM newest
    UNION ALL
    SELECT * FROM (
        SELECT place, said_at, message, 0, 0 FROM messages
        WHERE session = ? AND place > coalesce((SELECT cut FROM newest), 0) ORDER BY place DESC LIMIT ?
    ) AS messages
"""
"""The newest compaction of a session, without a message, and the last messages since its cut."""

_ALL = 2**62
"""A limit that no session reaches, because the two databases have different syntax for "no limit"."""


@attrs.frozen(kw_only=True)
class SessionSummary:
    """Summary of one session."""

    #: `channel:chat_id`
    session: str
    messages: int
    #: ISO 8601, UTC
    first: str
    last: str


_ROWS = 32
"""Number of messages inserted by one statement: few different statements stay prepared."""


class Sessions:
    """Conversations in the store, which needs `MIGRATIONS`. A session's name is any text.

    Args:
      store: the store with the tables.
      now: returns the time to store with each message.
      ownership: fences the writes of journalled turns, which are then written together with their replies.
    """

    def __init__(
        self,
        store: Store,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        ownership: Ownership | None = None,
    ) -> None:
        self._store = store
        self._now = now
        self._ownership = ownership

    async def history(self, session: str, limit: int | None = None) -> tuple[Message, ...]:
        """Return the last messages of *session*, at most *limit*, oldest first, as a model may receive them.

        There is no tool result without its call: if the limit cuts between them, the results are left out, too. There
        is no call without its result: a call that was given up gets a result that reports this.

        Raises:
          StoreCorrupt: a message cannot be read.
          StoreError: the store cannot be used.

        Cancellation: safe.
        """
        session = storable_key(session)

        def look(connection: Connection) -> list[Message]:
            query = "SELECT message FROM messages WHERE session = ? ORDER BY place DESC LIMIT ?"
            rows = connection.execute(query, (session, _ALL if limit is None else limit))
            return [message_from_json(data) for (data,) in rows]

        found = await self._store.read(look)
        return presentable(reversed(found))

    async def append(self, session: str, messages: Sequence[Message], *, turn_id: str = "") -> None:
        """Add *messages* to *session*, all or none of them.

        Args:
          turn_id: the messages of an earlier run of this turn are replaced, so that a resumed turn is stored once.

        Raises:
          StoreError: the store cannot be used.

        Cancellation: `Cancelled` means that none was added.
        """
        session = storable_key(session)
        said_at = self._now().isoformat()
        large = is_large([_contents(message) for message in messages], LARGE)

        def encode() -> list[tuple[str, str, str, bytes]]:
            return [(session, turn_id, said_at, message_to_json(message)) for message in messages]

        rows = await trio.to_thread.run_sync(encode) if large else encode()

        def add(connection: Connection) -> None:
            if turn_id:
                connection.execute("DELETE FROM messages WHERE turn = ? AND session = ?", (turn_id, session))
            for start in range(0, len(rows), _ROWS):
                some = rows[start : start + _ROWS]
                values = ", ".join(["(?, ?, ?, ?)"] * len(some))
                connection.execute(
                    f"INSERT INTO messages (session, turn, said_at, message) VALUES {values}",
                    [value for row in some for value in row],
                )

        if self._ownership is not None and self._ownership.guards(turn_id):
            await trio.lowlevel.checkpoint()
            self._ownership.postpone(turn_id, add, outlives_turn=True, large=large)
        else:
            # Without a turn id, a second run would add the messages twice.
            await self._store.transact(add, concurrent=True, repeatable=bool(turn_id), large=large)

    async def tail(self, session: str, limit: int) -> SessionTail:
        """Return the last messages of *session* since its cut, at most *limit*.

        Raises:
          StoreCorrupt: a message cannot be read.
          StoreError: the store cannot be used.

        Cancellation: safe.
        """
        session = storable_key(session)

        def look(connection: Connection) -> SessionTail:
            rows = connection.execute(_TAIL, (session, session, limit)).fetchall()
            newest = next((row for row in rows if row[2] is None), None)
            version, cut, cleared, summary = (0, 0, 0, "") if newest is None else (newest[0], *newest[3:], newest[1])
            # Decoded here, in the store's thread, because thousands of messages would block the event loop too long.
            return SessionTail(
                compaction=Compaction(cut=cut, cleared=cleared, summary=summary),
                version=version,
                rows=tuple(
                    StoredMessage(place=place, at=at, message=message_from_json(data))
                    for place, at, data, *_ in sorted(row for row in rows if row[2] is not None)
                ),
            )

        return await self._store.read(look)

    async def compact(self, session: str, compaction: Compaction, *, version: int) -> bool:
        """Store a new compaction: models receive less of *session* from now on. Nothing is deleted from `history`.

        Args:
          session: the session.
          compaction: replaces the newest one.
          version: version of the compaction that it was made from (`SessionTail.version`).

        Returns:
          Whether it was stored; False when another was stored meanwhile.

        Raises:
          StoreError: the store cannot be used.

        Cancellation: `Cancelled` means that nothing was stored.
        """
        session = storable_key(session)
        row = (session, self._now().isoformat(), compaction.cut, compaction.cleared, storable_text(compaction.summary))

        def add(connection: Connection) -> bool:
            newest = """
                SELECT place, session, made_at, cut, cleared, summary FROM compactions
                WHERE session = ? ORDER BY place DESC LIMIT 1
            """
            found = connection.execute(newest, (session,)).fetchone() or (0,)
            if found[0] != version:
                # If it runs again after its own commit, it finds its own row.
                return tuple(found[1:]) == row
            query = "INSERT INTO compactions (session, made_at, cut, cleared, summary) VALUES (?, ?, ?, ?, ?)"
            connection.execute(query, row)
            return True

        return await self._store.transact(add, repeatable=True)

    async def keep_result(self, session: str, reference: str, text: str) -> None:
        """Store the complete *text* of a tool result of which `append` gets a part. A later text with the same
        reference replaces it.

        Raises:
          StoreError: the store cannot be used.

        Cancellation: `Cancelled` means that it was not stored.
        """
        session = storable_key(session)
        row = (session, storable_key(reference), storable_text(text))
        query = """
            INSERT INTO results (session, call, text) VALUES (?, ?, ?)
            ON CONFLICT (session, call) DO UPDATE SET text = excluded.text
        """
        await self._store.transact(
            lambda connection: connection.execute(query, row).rowcount, repeatable=True, large=len(text) > LARGE
        )

    async def result(self, session: str, reference: str) -> str | None:
        """Return the complete text of a tool result of *session*; None when there is none.

        Args:
          session: the session.
          reference: the reference given to `keep_result`, or `session_view.reference` of its place.

        Raises:
          StoreCorrupt: the message cannot be read.
          StoreError: the store cannot be used.

        Cancellation: safe.
        """
        session = storable_key(session)
        place = place_of(reference)

        def look(connection: Connection) -> str | None:
            if place is None:
                query = "SELECT text FROM results WHERE session = ? AND call = ?"
                found = connection.execute(query, (session, storable_key(reference))).fetchone()
                return None if found is None else str(found[0])
            query = "SELECT message FROM messages WHERE session = ? AND place = ?"
            found = connection.execute(query, (session, place)).fetchone()
            message = None if found is None else message_from_json(found[0])
            return message.text if message is not None and message.role == "tool" else None

        return await self._store.read(look)

    async def clear(self, session: str) -> int:
        """Delete everything of *session*; return the number of its messages.

        Raises:
          StoreError: the store cannot be used.

        Cancellation: `Cancelled` means that nothing was deleted.
        """
        session = storable_key(session)

        def delete(connection: Connection) -> int:
            connection.execute("DELETE FROM compactions WHERE session = ?", (session,))
            connection.execute("DELETE FROM results WHERE session = ?", (session,))
            return connection.execute("DELETE FROM messages WHERE session = ?", (session,)).rowcount

        return await self._store.transact(delete, repeatable=True)

    async def summaries(self) -> tuple[SessionSummary, ...]:
        """Return all sessions, the latest first.

        Raises:
          StoreError: the store cannot be used.

        Cancellation: safe.
        """
        query = """
            SELECT session, count(*), min(said_at), max(said_at) FROM messages GROUP BY session ORDER BY max(place) DESC
        """
        rows = await self._store.read(lambda connection: connection.execute(query).fetchall())
        return tuple(
            SessionSummary(session=session, messages=count, first=first, last=last)
            for session, count, first, last in rows
        )


def _contents(message: Message) -> list[object]:
    """Return what takes time to encode of *message*."""
    parts = [
        part.text if isinstance(part, Text) else part.block if isinstance(part, Opaque) else part.data
        for part in message.content
    ]
    return [*parts, *(call.arguments for call in message.tool_calls)]


class MemorySessions:
    """Sessions in memory, with the methods of `Sessions`.

    Args:
      now: returns the time to store with each message.
    """

    def __init__(self, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._places = 0
        self._rows: dict[str, list[tuple[str, StoredMessage]]] = {}
        self._compactions: dict[str, tuple[int, Compaction]] = {}
        self._results: dict[tuple[str, str], str] = {}

    async def history(self, session: str, limit: int | None = None) -> tuple[Message, ...]:
        """Return the last messages of *session*; see `Sessions.history`.

        Cancellation: safe.
        """
        await trio.lowlevel.checkpoint()
        stored = [row.message for _, row in self._rows.get(session, ())]
        return presentable(stored if limit is None else stored[max(0, len(stored) - limit) :])

    async def append(self, session: str, messages: Sequence[Message], *, turn_id: str = "") -> None:
        """Add *messages* to *session*; see `Sessions.append`.

        Cancellation: `Cancelled` means that none was added.
        """
        await trio.lowlevel.checkpoint()
        at = self._now().isoformat()
        kept = [(turn, row) for turn, row in self._rows.get(session, ()) if not turn_id or turn != turn_id]
        for message in messages:
            self._places += 1
            kept.append((turn_id, StoredMessage(place=self._places, at=at, message=message)))
        self._rows[session] = kept

    async def tail(self, session: str, limit: int) -> SessionTail:
        """Return the messages of *session* since its cut; see `Sessions.tail`.

        Cancellation: safe.
        """
        await trio.lowlevel.checkpoint()
        version, compaction = self._compactions.get(session, (0, Compaction()))
        rows = [row for _, row in self._rows.get(session, ()) if row.place > compaction.cut]
        return SessionTail(compaction=compaction, version=version, rows=tuple(rows[max(0, len(rows) - limit) :]))

    async def compact(self, session: str, compaction: Compaction, *, version: int) -> bool:
        """Store a new compaction; see `Sessions.compact`.

        Cancellation: `Cancelled` means that nothing was stored.
        """
        await trio.lowlevel.checkpoint()
        newest, _ = self._compactions.get(session, (0, None))
        if newest != version:
            return False
        self._compactions[session] = (version + 1, compaction)
        return True

    async def keep_result(self, session: str, reference: str, text: str) -> None:
        """Store the complete *text* of a tool result; see `Sessions.keep_result`.

        Cancellation: `Cancelled` means that it was not stored.
        """
        await trio.lowlevel.checkpoint()
        self._results[session, reference] = text

    async def result(self, session: str, reference: str) -> str | None:
        """Return the complete text of a tool result; see `Sessions.result`.

        Cancellation: safe.
        """
        await trio.lowlevel.checkpoint()
        if (session, reference) in self._results:
            return self._results[session, reference]
        place = place_of(reference)
        found = (row.message for _, row in self._rows.get(session, ()) if row.place == place)
        return next((message.text for message in found if message.role == "tool"), None)

    async def clear(self, session: str) -> int:
        """Delete everything of *session*; return the number of its messages.

        Cancellation: `Cancelled` means that nothing was deleted.
        """
        await trio.lowlevel.checkpoint()
        self._compactions.pop(session, None)
        for key in [key for key in self._results if key[0] == session]:
            del self._results[key]
        return len(self._rows.pop(session, ()))
