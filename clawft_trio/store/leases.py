"""Leases: which process owns a name until when, by the database's clock, with a token that fences its writes.

A lease that has expired stays valid until another process takes it: then its token changes, and a
transaction that checks the old token can write nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import attrs

from clawft_trio.chat import new_id
from clawft_trio.errors import LeaseLost
from clawft_trio.store.interface import Connection
from clawft_trio.store.migrations import Migration

LEASE_MIGRATIONS = (
    Migration(
        "leases",
        1,
        """
        CREATE TABLE leases (
            name TEXT PRIMARY KEY,
            owner TEXT NOT NULL,
            token INTEGER NOT NULL,  -- grows with each owner
            expires REAL NOT NULL  -- seconds since 1970, by the database's clock
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX leases_by_owner ON leases (owner);
        """,
    ),
)
"""The table of leases."""

_ACQUIRE = """
    INSERT INTO leases (name, owner, token, expires)
    VALUES (?, ?, CAST(now_seconds() * 1000 AS BIGINT), now_seconds() + ?)
    ON CONFLICT (name) DO UPDATE SET
        token = CASE
            WHEN leases.owner = excluded.owner AND ? = 1 THEN leases.token
            WHEN leases.token >= excluded.token THEN leases.token + 1
            ELSE excluded.token
        END,
        owner = excluded.owner,
        expires = excluded.expires
    WHERE leases.expires < now_seconds() OR (leases.owner = excluded.owner AND ? = 1)
    RETURNING token
"""

_CHECK = "UPDATE leases SET expires = now_seconds() + ? WHERE name = ? AND owner = ? AND token = ?"


@attrs.frozen
class Lease:
    """The right to write for *name*, while the database has the same owner and token."""

    name: str
    owner: str
    token: int
    #: seconds that it is valid without a renewal
    length: float


def acquire(connection: Connection, name: str, owner: str, length: float, *, again: bool = False) -> Lease | None:
    """Take the lease of *name* if it is free, expired or, with *again*, already *owner*'s; otherwise return None.

    Without *again*, only one of several tasks of a process takes it; the token changes with each acquisition.
    """
    found = connection.execute(_ACQUIRE, (name, owner, length, int(again), int(again))).fetchone()
    return None if found is None else Lease(name, owner, found[0], length)


def check(connection: Connection, lease: Lease) -> None:
    """Renew *lease*, and lock its row until the transaction ends.

    Raises:
      LeaseLost: another owner has it.
    """
    if connection.execute(_CHECK, (lease.length, lease.name, lease.owner, lease.token)).rowcount != 1:
        raise LeaseLost("another worker has taken over")


def release(connection: Connection, lease: Lease) -> None:
    """Free *lease*, if it is still held."""
    connection.execute(
        "DELETE FROM leases WHERE name = ? AND owner = ? AND token = ?", (lease.name, lease.owner, lease.token)
    )


def release_named(connection: Connection, name: str, owner: str) -> None:
    """Free the lease of *name*, whatever its token, if *owner* has it."""
    connection.execute("DELETE FROM leases WHERE name = ? AND owner = ?", (name, owner))


def renew(connection: Connection, owner: str, length: float) -> frozenset[str]:
    """Renew all leases of *owner* and return their names."""
    rows = connection.execute(
        "UPDATE leases SET expires = now_seconds() + ? WHERE owner = ? RETURNING name", (length, owner)
    )
    return frozenset(name for (name,) in rows)


def release_all(connection: Connection, owner: str, prefix: str) -> int:
    """Free the leases of *owner* with names that begin with *prefix*; return their number."""
    query = "DELETE FROM leases WHERE owner = ? AND substr(name, 1, ?) = ?"
    return connection.execute(query, (owner, len(prefix), prefix)).rowcount


def expire_ended(connection: Connection) -> int:
    """Expire the leases of processes of this machine that have ended; return their number.

    So a killed process is replaced at once, not only when its leases expire. Reads files: only for databases that run
    transactions in a thread.
    """
    rows = connection.execute("SELECT DISTINCT owner FROM leases WHERE expires >= now_seconds()").fetchall()
    ended = [owner for (owner,) in rows if has_ended(owner)]
    return sum(_expire(connection, owner) for owner in ended)


def shorten(connection: Connection, longest: float) -> None:
    """Let no lease be valid for more than *longest* seconds from now.

    When the database's clock was set back, the lease of a process that does not renew it would be valid for as long as
    the clock was set back. A process that renews its leases more often than that keeps them.
    """
    if outlasts(connection, longest):
        query = "UPDATE leases SET expires = now_seconds() + ? WHERE expires > now_seconds() + ?"
        connection.execute(query, (longest, longest))


def outlasts(connection: Connection, longest: float) -> bool:
    """Whether a lease is valid for more than *longest* seconds from now."""
    query = "SELECT 1 FROM leases WHERE expires > now_seconds() + ? LIMIT 1"
    return connection.execute(query, (longest,)).fetchone() is not None


def _expire(connection: Connection, owner: str) -> int:
    return connection.execute("UPDATE leases SET expires = 0 WHERE owner = ?", (owner,)).rowcount


def new_owner() -> str:
    """Return a name for this process as an owner: machine, process, and a unique part."""
    return " ".join((_machine(), str(os.getpid()), _started(os.getpid()), new_id()))


def has_ended(owner: str) -> bool:
    """Return whether the process of *owner* is known to have ended; False also when that cannot be known."""
    parts = owner.split(" ")
    if len(parts) != 4 or parts[0] != _machine() or parts[0] == "?" or not parts[1].isdecimal():
        return False
    return _started(int(parts[1])) != parts[2]


def _machine() -> str:
    """Return the boot id and the process namespace; `?` where processes cannot be looked up."""
    if sys.platform != "linux":
        return "?"
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return "?"


def _started(pid: int) -> str:
    """Return when the process *pid* was started, in ticks since the boot; empty when there is no such process."""
    try:
        # The name of the program, in parentheses, may contain anything.
        _, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except (OSError, UnicodeDecodeError):
        return ""
    fields: Sequence[str] = rest.split()
    # A zombie has ended; it only waits for its parent.
    return "" if fields[0] in {"Z", "X"} else fields[19]
