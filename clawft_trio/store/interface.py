"""The `Store` protocol: transactions off the event loop, over one of two engines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import attrs

T = TypeVar("T")

Engine: TypeAlias = Literal["sqlite", "postgresql"]
"""The database engine of a store."""

Durability: TypeAlias = Literal["power", "process"]
"""What a commit survives: a power cut (an fsync), or only the end of this process."""

Listener: TypeAlias = Callable[[str, str], None]
"""Called in the trio thread with topic and payload of a notification; an empty topic means that some may be lost."""


class Cursor(Protocol):
    """The result of one statement."""

    @property
    def rowcount(self) -> int:
        """Number of rows that the statement inserted, updated or deleted."""
        ...

    def fetchone(self) -> Any:
        """Return the next row as a tuple, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """Return all remaining rows."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the remaining rows."""
        ...


class Connection(Protocol):
    """A connection inside a transaction. Parameters are written `?` on both engines.

    PostgreSQL is sent statements without waiting for the results of earlier ones: an error is raised when the next
    result is read, or when the function has returned. Nothing of the transaction is written then.

    Two functions exist on both engines: `now_seconds()` returns the database's clock in seconds since 1970, and
    `notify_listeners(text)` sends a topic, a line feed and a payload to every listener when the transaction commits.
    """

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Cursor:
        """Execute one statement."""
        ...

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> Cursor:
        """Execute one statement once per row of parameters."""
        ...


Work: TypeAlias = Callable[[Connection], T]
"""Runs inside one transaction: it may read and write, and never begins or ends a transaction itself. When the engine
could not commit, it runs again from the start, so it changes nothing but the database."""


@attrs.frozen(kw_only=True)
class StoreStatistics:
    """Counts of a store since it was opened, and of the tasks that wait for it."""

    #: `sqlite` or `postgresql`
    engine: Engine = "sqlite"
    #: path of the file; None in memory and on PostgreSQL
    path: Path | None
    #: number of committed transactions
    written: int
    #: number of reads that have ended
    read: int
    #: number of transactions and reads that failed or were abandoned; they left nothing in the database
    rolled_back: int
    #: number of tasks that wait for a connection
    waiting: int
    #: number of commits: on SQLite, transactions that wait at the same time share one
    commits: int = 0
    #: number of commits that waited for the disk
    synced: int = 0


class Store(Protocol):
    """Transactions off the event loop. Created by `open_store`."""

    @property
    def engine(self) -> Engine:
        """The database engine."""
        ...

    @property
    def private(self) -> bool:
        """Whether no other process can reach it, because it is in memory."""
        ...

    async def transact(
        self,
        function: Work[T],
        *,
        concurrent: bool = False,
        durability: Durability = "power",
        repeatable: bool = False,
        large: bool = False,
    ) -> T:
        """Run *function* in one transaction, in a thread, and commit.

        It sees everything committed before. Any exception rolls back this transaction only, and is raised unchanged.

        Args:
          concurrent: the transaction is correct while others run, because it locks the rows that its decisions rely on.
            Otherwise it never overlaps another one that is not *concurrent*, across processes. SQLite writes one
            transaction at a time in any case.
          durability: `process` does not wait for the disk: the commit survives the end of this process at once, and a
            power cut from the next `power` commit on. PostgreSQL always waits.
          repeatable: *function* may run again after it was committed. It does so when the connection ended during the
            commit and a crash of the server makes it impossible to find out whether it was written. Otherwise that is a
            `StoreError`.
          large: *function* writes more than a few hundred kilobytes. A store in memory, which otherwise needs no
            thread, runs it in one, and everything after it, which may read that again.

        Raises:
          StoreBusy: other processes kept the database locked, or it was not reachable, for longer than `open_store`
            allows.
          StoreCorrupt: the database is damaged, or does not have the tables of this package.
          StoreError: the disk is full or missing, a text cannot be stored, or the store is closed.

        Cancellation: `Cancelled` means that nothing was written; a transaction that is already being committed ends
        first and its result is returned.
        """
        ...

    async def read(self, function: Work[T]) -> T:
        """Run *function*, which only reads, on one consistent state, at the same time as a writer.

        Raises:
          StoreError: as for `transact`.

        Cancellation: nothing was changed.
        """
        ...

    def listening(self, listener: Listener) -> AbstractContextManager[None]:
        """Call *listener* with every notification that is committed while the block runs.

        SQLite delivers the notifications of this process only; PostgreSQL those of every process.
        """
        ...

    def statistics(self) -> StoreStatistics:
        """Return the current counts."""
        ...
