"""PostgreSQL through psycopg 3 in trio's threads: one database for workers on any number of machines.

Transactions run as READ COMMITTED. Those that are not `concurrent` take one advisory lock, so that they run one after
another as on SQLite. A commit without a response, because the connection ended, is looked up by its transaction id.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

import attrs
import psycopg
import trio

from clawft_trio.errors import StoreBusy, StoreClosed, StoreError
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.store.address import shown
from clawft_trio.store.dialect import CHANNEL
from clawft_trio.store.interface import Connection, Durability, Engine, Listener, StoreStatistics, Work
from clawft_trio.store.jobs import Job
from clawft_trio.store.listeners import Listeners
from clawft_trio.store.migrations import Migration, apply, missing, present_versions
from clawft_trio.store.postgres_lane import FIRST_WAIT, STATEMENT, Lane, TryAgain, connect

T = TypeVar("T")

_LANES = 8
"""Connections that run transactions: PostgreSQL's group commit needs a few at once, and each costs it a process."""

_CLOSING_GRACE = 5.0
"""Seconds that closing the connections may take."""

_ANSWER = 60.0
"""Seconds after which a server that does not respond at all is abandoned, whatever its own bounds."""

_LONGEST_WAIT = 1.0
"""Longest time in seconds between attempts to reach a server that is not reachable."""


@attrs.define
class _Counts:
    """Counts of a store."""

    written: int = 0
    read: int = 0
    failed: int = 0
    waiting: int = 0


class PostgresStore:
    """A store on a PostgreSQL server. Created by `open_store`."""

    engine: Engine = "postgresql"
    private: bool = False

    def __init__(self, address: str, listeners: Listeners, *, busy: float, lanes: int) -> None:
        self._source = shown(address)
        self._busy = busy
        self._free = [Lane(address, self._source, lock_wait=busy) for _ in range(lanes)]
        self._all = tuple(self._free)
        self._slots = trio.Semaphore(lanes)
        #: transactions that run one at a time queue here and not for the server's lock, whose wait is bounded
        self._alone = trio.Semaphore(1)
        self._listeners = listeners
        self._counts = _Counts()
        self._closed = False
        #: why the last connection attempt failed; None after a successful one
        self._away: StoreError | None = None

    def __repr__(self) -> str:
        return f"<Store {self._source}{' closed' if self._closed else ''}>"

    async def transact(
        self,
        function: Work[T],
        *,
        concurrent: bool = False,
        durability: Durability = "power",
        repeatable: bool = False,
        large: bool = False,
    ) -> T:
        """Run *function* in one transaction; see `Store.transact`.

        Raises:
          StoreError: see `Store.transact`.

        Cancellation: `Cancelled` means that nothing was written.
        """
        del large  # everything runs in a thread
        del durability  # the server's commit is awaited: its crash must not lose what this process survives
        value = await self._run(
            function,
            lambda lane, job: lane.write(job, concurrent=concurrent),
            repeatable=repeatable,
            concurrent=concurrent,
        )
        self._counts.written += 1
        return value

    async def read(self, function: Work[T]) -> T:
        """Run *function*, which only reads, on one consistent state.

        Raises:
          StoreError: as for `transact`.

        Cancellation: nothing was changed.
        """
        value = await self._run(function, lambda lane, job: lane.look(job))
        self._counts.read += 1
        return value

    async def _run(
        self,
        function: Work[T],
        use: Callable[[Lane, Job[T]], None],
        *,
        repeatable: bool = True,
        concurrent: bool = True,
    ) -> T:
        """Run *function*; repeat it while the server is unreachable or rows are locked, for at most `busy` seconds."""
        deadline, wait = trio.current_time() + self._busy, FIRST_WAIT
        while True:
            if self._closed:
                await trio.lowlevel.checkpoint()
                raise StoreClosed(f"{self._source} is closed", path=self._source)
            try:
                return await self._once(function, use, deadline, concurrent=concurrent)
            except TryAgain as again:
                if (again.unknown and not repeatable) or trio.current_time() + wait >= deadline:
                    raise again.error from again.__cause__
                await trio.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT)

    async def _once(
        self, function: Work[T], use: Callable[[Lane, Job[T]], None], deadline: float, *, concurrent: bool
    ) -> T:
        began = trio.current_time()
        self._counts.waiting += 1
        try:
            if not concurrent:
                await self._alone.acquire()
            try:
                await self._slots.acquire()
            except BaseException:
                if not concurrent:
                    self._alone.release()
                raise
        finally:
            self._counts.waiting -= 1
        lane = self._free.pop()
        try:
            if self._away is not None and began < deadline <= trio.current_time():
                # Another task has found that out while this one queued.
                raise TryAgain(self._away)
            with trio.move_on_after(_ANSWER) as waited:

                def progress() -> None:
                    waited.deadline = trio.current_time() + _ANSWER

                value = await lane.run(Job(function, durable=True), lambda job: use(lane, job), progress)
                self._away = None
                return value
            raise StoreBusy(f"{self._source}: has not answered for {_ANSWER:g} s", path=self._source)
        except BaseException as exc:
            self._counts.failed += 1
            if isinstance(exc, TryAgain):
                self._away = exc.error
            raise
        finally:
            self._free.append(lane)
            self._slots.release()
            if not concurrent:
                self._alone.release()

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Call *listener* with every notification of every process."""
        with self._listeners.added(listener):
            yield

    def statistics(self) -> StoreStatistics:
        """Return the current counts."""
        counts = self._counts
        return StoreStatistics(
            engine=self.engine,
            path=None,
            written=counts.written,
            read=counts.read,
            rolled_back=counts.failed,
            waiting=counts.waiting,
            commits=counts.written,
            synced=counts.written,
        )

    async def prepare(self, steps: tuple[Migration, ...]) -> None:
        """Bring the schema up to date.

        Raises:
          StoreError: see `open_store`.

        Cancellation: the schema is brought up to date completely or not at all.
        """

        def is_current(connection: Connection) -> bool:
            present = present_versions(connection, engine="postgresql")
            return bool(present) and not missing(steps, present, source=self._source)

        if not await self.read(is_current):
            await self.transact(
                lambda connection: apply(connection, steps, engine="postgresql", source=self._source), repeatable=True
            )

    async def close(self) -> None:
        """Wait for running transactions, refuse the others, and close the connections.

        Cancellation: the others are refused; the connections may still be open.
        """
        self._closed = True
        for _ in self._all:
            await self._slots.acquire()
        await trio.to_thread.run_sync(self._disconnect)

    def _disconnect(self) -> None:
        for lane in self._all:
            lane.disconnect()


@asynccontextmanager
async def open_postgres(
    address: str, steps: tuple[Migration, ...], *, busy: float, lanes: int = _LANES
) -> AsyncGenerator[PostgresStore, None]:
    """Open the database at *address*; see `open_store`.

    Raises:
      StoreError: see `open_store`.

    Cancellation: the connections are closed.
    """
    listeners = Listeners()
    store = PostgresStore(address, listeners, busy=busy, lanes=lanes)
    async with open_hidden_nursery() as nursery:
        try:
            await store.prepare(steps)
            nursery.start_soon(_listen, address, listeners)
            yield store
        finally:
            with trio.move_on_after(_CLOSING_GRACE, shield=True):
                await store.close()
            nursery.cancel_scope.cancel(reason="store closed")


async def _listen(address: str, listeners: Listeners) -> None:
    """Pass the server's notifications to *listeners*, over a separate connection, while the store is open."""
    wait = FIRST_WAIT
    while True:
        with suppress(psycopg.Error, OSError):
            raw = await trio.to_thread.run_sync(_listening_connection, address)
            try:
                wait = FIRST_WAIT
                # Notifications that were sent before this connection listened are lost.
                listeners.notify("")
                await _pass_on(raw, listeners)
            finally:
                with trio.move_on_after(_CLOSING_GRACE, shield=True):
                    await trio.to_thread.run_sync(raw.close)
        await trio.sleep(wait)
        wait = min(wait * 2, _LONGEST_WAIT)


async def _pass_on(raw: psycopg.Connection[Any], listeners: Listeners) -> None:
    while True:
        await trio.lowlevel.wait_readable(raw.fileno())
        # Reads what has arrived, without waiting.
        raw.pgconn.consume_input()
        while (notice := raw.pgconn.notifies()) is not None:
            listeners.notify(notice.extra.decode())


def _listening_connection(address: str) -> psycopg.Connection[Any]:
    raw = connect(address, lock_wait=STATEMENT)
    try:
        row = raw.execute(f"SELECT {CHANNEL}").fetchone()
        raw.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(str(row and row[0]))), prepare=False)
    except BaseException:
        raw.close()
        raise
    return raw
