"""The tables of the journal, and its statements; each function runs inside a transaction."""

from __future__ import annotations

from clawft_trio.bus.undelivered import MIGRATIONS as SHELF_MIGRATIONS
from clawft_trio.errors import LeaseLost
from clawft_trio.keys import storable_text
from clawft_trio.store import Connection, Migration
from clawft_trio.store.leases import LEASE_MIGRATIONS

MIGRATIONS = (
    *SHELF_MIGRATIONS,
    *LEASE_MIGRATIONS,
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
    Migration(
        "journal",
        2,
        """
        ALTER TABLE turns ADD COLUMN session TEXT NOT NULL DEFAULT '';
        ALTER TABLE turns ADD COLUMN error TEXT NOT NULL DEFAULT '';  -- why it was given up
        ALTER TABLE turns ADD COLUMN given_up BLOB;  -- the message, once it was given up
        CREATE INDEX turns_by_session ON turns (session, place) WHERE message IS NOT NULL;
        """,
    ),
)
"""The tables that `Journal` needs in its store, with those of leases and undelivered replies."""

WORK = "work"
"""The topic of notifications of a session with a message that may have no owner."""

_REMEMBERED = 100_000
"""Number of stored ids of answered messages, to recognise duplicates: about 10 MB on disk."""


_FREE = """
    NOT EXISTS (
        SELECT 1 FROM leases WHERE leases.name = 'session:' || turns.session AND leases.expires >= now_seconds()
    )
"""

_OLDEST_FREE = f"""
    SELECT min(place) FROM (
        SELECT session, place FROM turns WHERE message IS NOT NULL ORDER BY place LIMIT ?
    ) AS turns WHERE {_FREE} GROUP BY session ORDER BY min(place) LIMIT ?
"""

_LOCKED = f"SELECT session FROM turns WHERE place IN ({_OLDEST_FREE}) ORDER BY place /* skip locked */"

_WINDOW = 512
"""Number of open messages, oldest first, that a claim searches for free sessions before it searches all."""

_EVERYTHING = 2**62


def free_sessions(connection: Connection, limit: int, *, locked: bool = True) -> list[str]:
    """Return sessions with open messages and without an owner, in order of arrival, at most *limit*.

    With *locked*, those that another process is claiming are left out.
    """
    query = _LOCKED if locked else _LOCKED.replace("/* skip locked */", "")
    for window in (_WINDOW, _EVERYTHING):
        # More than needed, because some of them may be skipped.
        rows = connection.execute(query, (window, limit * 4)).fetchall()
        if rows:
            return [session for (session,) in rows[:limit]]
    return []


_BEGIN_NEXT = """
    UPDATE turns SET resumes = resumes + 1 WHERE message IS NOT NULL AND place = (
        SELECT place FROM turns WHERE session = ? AND message IS NOT NULL ORDER BY place LIMIT 1
    ) RETURNING message, resumes - 1
"""


def begin_next(connection: Connection, session: str) -> tuple[bytes, int] | None:
    """Begin the oldest open message of *session*; return it, and the number of times it was begun before."""
    found: tuple[bytes, int] | None = connection.execute(_BEGIN_NEXT, (session,)).fetchone()
    return found


def end_turn(connection: Connection, turn: str, session: str, accepted_at: str, *, must_be_open: bool) -> None:
    """End *turn*, and delete its steps.

    Raises:
      LeaseLost: *turn* has already ended, and *must_be_open* is set.
    """
    open_ = " AND message IS NOT NULL" if must_be_open else ""
    known = connection.execute(f"UPDATE turns SET message = NULL WHERE turn = ?{open_}", (turn,)).rowcount
    if not known:
        query = "INSERT INTO turns (turn, session, accepted_at) VALUES (?, ?, ?) ON CONFLICT (turn) DO NOTHING"
        if not connection.execute(query, (turn, session, accepted_at)).rowcount:
            raise LeaseLost("another worker has answered the message")
    connection.execute("DELETE FROM answers WHERE turn = ?", (turn,))
    connection.execute("DELETE FROM tool_calls WHERE turn = ?", (turn,))


def give_up(connection: Connection, turn: str, error: str) -> None:
    """Store the message of *turn*, which is about to end, for `workers.requeue`."""
    connection.execute("UPDATE turns SET given_up = message, error = ? WHERE turn = ?", (storable_text(error), turn))


def refuse_if_owned(connection: Connection, name: str, owner: str) -> None:
    """Raise an error if another owner has the lease *name*.

    Raises:
      LeaseLost: another owner has the lease.
    """
    query = "SELECT owner FROM leases WHERE name = ? AND expires >= now_seconds()"
    found = connection.execute(query, (name,)).fetchone()
    if found is not None and found[0] != owner:
        raise LeaseLost("another worker has the session")


def is_left_to_others(connection: Connection, session: str, name: str, owner: str) -> bool:
    """Whether *session* has no open message, or another process than *owner* has its lease, called *name*."""
    query = """
        SELECT 1 FROM turns WHERE session = ? AND message IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM leases WHERE name = ? AND owner != ? AND expires >= now_seconds()
        ) LIMIT 1
    """
    return connection.execute(query, (session, name, owner)).fetchone() is None


def notify_store(connection: Connection, topic: str, payload: str) -> None:
    """Notify the listeners of *topic* when the transaction commits."""
    connection.execute("SELECT notify_listeners(?)", (f"{topic}\n{payload}",))


def forget_old(connection: Connection) -> None:
    """Delete the oldest ids of answered messages."""
    connection.execute(
        "DELETE FROM turns WHERE message IS NULL AND place <= (SELECT max(place) FROM turns) - ?", (_REMEMBERED,)
    )
