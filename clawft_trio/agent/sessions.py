"""Conversations: everything that was said and done in them, tool calls and results included."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby

import attrs
import trio

from clawft_trio.agent.records import message_from_json, message_to_json
from clawft_trio.chat import Message, ToolCall
from clawft_trio.codec import encode_json
from clawft_trio.store import Connection, Migration, Store

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
)
"""What `Sessions` needs in its store."""

_ALL = 2**62
"""A limit that no session reaches: the two engines spell "no limit" differently."""

_NO_RESULT = encode_json({"error": "cancelled", "message": "The call was given up before it had a result."}).decode()


@attrs.frozen(kw_only=True)
class SessionSummary:
    """One conversation, from the outside."""

    #: `channel:chat_id`
    session: str
    messages: int
    #: ISO 8601, UTC
    first: str
    last: str


class Sessions:
    """Conversations in the store, which needs `MIGRATIONS`. Any text is a session's name.

    Args:
      store: where they are.
      now: the time that goes beside each message.
    """

    def __init__(self, store: Store, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._store = store
        self._now = now

    async def history(self, session: str, limit: int | None = None) -> tuple[Message, ...]:
        """The last messages of *session*, at most *limit*, oldest first, as a model may be shown them.

        No tool result without its call: where the limit cuts between them, the results are left out, too. No call
        without its result: one that was given up is answered so.

        Raises:
          StoreCorrupt: a message cannot be read.
          StoreError: the store cannot be used.

        Cancellation: safe.
        """

        def look(connection: Connection) -> list[bytes]:
            query = "SELECT message FROM messages WHERE session = ? ORDER BY place DESC LIMIT ?"
            return [data for (data,) in connection.execute(query, (session, _ALL if limit is None else limit))]

        found = await self._store.read(look)
        return presentable(message_from_json(data) for data in reversed(found))

    async def append(self, session: str, messages: Sequence[Message], *, turn_id: str = "") -> None:
        """Add *messages* to *session*, all or none.

        Args:
          turn_id: what an earlier run of this turn has added is replaced, so that a resumed turn is not told twice.

        Raises:
          StoreError: the store cannot be used.

        Cancellation: `Cancelled` means that none was added.
        """
        said_at = self._now().isoformat()
        rows = [(session, turn_id, said_at, message_to_json(message)) for message in messages]

        def add(connection: Connection) -> None:
            if turn_id:
                connection.execute("DELETE FROM messages WHERE turn = ? AND session = ?", (turn_id, session))
            connection.executemany("INSERT INTO messages (session, turn, said_at, message) VALUES (?, ?, ?, ?)", rows)

        await self._store.transact(add)

    async def clear(self, session: str) -> int:
        """Forget everything said in *session*; how many messages it was.

        Raises:
          StoreError: the store cannot be used.

        Cancellation: `Cancelled` means that nothing was forgotten.
        """
        query = "DELETE FROM messages WHERE session = ?"
        return await self._store.transact(lambda connection: connection.execute(query, (session,)).rowcount)

    async def summaries(self) -> tuple[SessionSummary, ...]:
        """Every conversation, the latest first.

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


class MemorySessions:
    """Conversations for the life of the process."""

    def __init__(self) -> None:
        self._said: dict[str, list[tuple[str, Message]]] = {}

    async def history(self, session: str, limit: int | None = None) -> tuple[Message, ...]:
        """The last messages of *session*; see `Sessions.history`.

        Cancellation: safe.
        """
        await trio.lowlevel.checkpoint()
        said = [message for _, message in self._said.get(session, ())]
        return presentable(said if limit is None else said[max(0, len(said) - limit) :])

    async def append(self, session: str, messages: Sequence[Message], *, turn_id: str = "") -> None:
        """Add *messages* to *session*; see `Sessions.append`.

        Cancellation: `Cancelled` means that none was added.
        """
        await trio.lowlevel.checkpoint()
        kept = [(turn, message) for turn, message in self._said.get(session, ()) if not turn_id or turn != turn_id]
        self._said[session] = kept + [(turn_id, message) for message in messages]

    async def clear(self, session: str) -> int:
        """Forget everything said in *session*; how many messages it was.

        Cancellation: `Cancelled` means that nothing was forgotten.
        """
        await trio.lowlevel.checkpoint()
        return len(self._said.pop(session, ()))


def presentable(messages: Iterable[Message]) -> tuple[Message, ...]:
    """*messages* with each call answered once, and each answer behind its call: providers refuse anything else."""
    shown: list[Message] = []
    unanswered: dict[str, ToolCall] = {}
    for is_answer, group in groupby(messages, key=lambda message: message.role == "tool"):
        if is_answer:
            shown.extend(_answers_to(unanswered, group))
            continue
        for message in group:
            shown.extend(_given_up(unanswered))
            shown.append(message)
            unanswered.update((call.id, call) for call in message.tool_calls)
    return (*shown, *_given_up(unanswered))


def _answers_to(unanswered: dict[str, ToolCall], answers: Iterable[Message]) -> Iterator[Message]:
    for answer in answers:
        if answer.tool_call_id in unanswered:
            del unanswered[answer.tool_call_id]
            yield answer


def _given_up(unanswered: dict[str, ToolCall]) -> Iterator[Message]:
    while unanswered:
        yield Message.tool(_NO_RESULT, tool_call_id=unanswered.pop(next(iter(unanswered))).id)
