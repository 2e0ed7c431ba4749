"""SQLite's two connections: one writes in groups, one reads. Each runs its jobs in a thread.

Jobs that wait at the same time run in one SQLite transaction, each under a savepoint, and share one commit.
"""

from __future__ import annotations

import sqlite3
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import attrs
import outcome
import trio

from clawft_trio.errors import StoreClosed, StoreError
from clawft_trio.store.interface import Durability, Work
from clawft_trio.store.jobs import Job
from clawft_trio.store.listeners import Listeners
from clawft_trio.store.sqlite_errors import Named, copied, is_locked

T = TypeVar("T")

_GROUP = 64
"""Transactions that share one commit: 64 small ones take about as long as the fsync that they save."""

_SLOW = 0.005
"""Seconds of a job without a thread, after which other tasks run before its caller continues."""

_SYNCHRONOUS = {True: "PRAGMA synchronous = FULL", False: "PRAGMA synchronous = NORMAL"}


@attrs.frozen
class _Done:
    """Jobs that have ended, and what they have sent to listeners."""

    jobs: Sequence[Job[Any]] = ()
    texts: Sequence[str] = ()


class SharedConnection:
    """Runs the jobs of the two lanes of a database in memory one at a time: they have one connection."""

    def __init__(self) -> None:
        self.lock: trio.Lock = trio.Lock()
        #: whether jobs run in a thread, because there may be large texts
        self.in_thread: bool = False


class Lane(ABC):
    """One connection. Jobs run on it one after another, in a thread that runs while there are jobs.

    Args:
      shared: for a database in memory, whose small jobs need no thread.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        token: trio.lowlevel.TrioToken,
        *,
        source: str,
        shared: SharedConnection | None = None,
    ) -> None:
        self.closed: bool = False
        self.failed: int = 0
        self._connection = connection
        self._source = source
        self._named = Named(source)
        self._shared = shared
        self._jobs: deque[Job[Any]] = deque()
        self._active = False
        self._idle: trio.Event | None = None
        #: what the last transactions sent to the listeners
        self._texts: list[str] = []
        self._token = token

    @property
    def waiting(self) -> int:
        """Number of tasks that wait and are not being served."""
        return sum(not job.abandoned for job in tuple(self._jobs))

    def _count_failures(self, number: int) -> None:
        self.failed += number

    async def _submit(self, function: Work[T], *, durable: bool, large: bool = False) -> T:
        if self.closed:
            await trio.lowlevel.checkpoint()
            raise StoreClosed(f"{self._source} is closed", path=self._source)
        job = Job(function, durable=durable)
        if self._shared is not None:
            return await self._run_in_turn(self._shared, job, large=large)
        await trio.lowlevel.checkpoint_if_cancelled()
        self._jobs.append(job)
        self._start()
        return await job.wait()

    async def _run_in_turn(self, shared: SharedConnection, job: Job[T], *, large: bool) -> T:
        async with shared.lock:
            shared.in_thread = shared.in_thread or large
            if shared.in_thread:
                value = await trio.to_thread.run_sync(self._run_inline, job)
            else:
                began = trio.current_time()
                value = self._run_inline(job)
                if trio.current_time() - began > _SLOW:
                    await trio.lowlevel.cancel_shielded_checkpoint()
            self._publish_texts(self._texts.copy())
        return value

    def _start(self) -> None:
        if not self._active:
            self._active = True
            trio.lowlevel.start_thread_soon(self._serve, self._served, "clawft store")

    def _served(self, last: outcome.Outcome[_Done]) -> None:
        # In the database thread. The trio run may have ended.
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._rest, last)

    def _rest(self, last: outcome.Outcome[_Done]) -> None:
        self._active = False
        self._deliver(last.unwrap())
        if self._jobs:
            self._start()
        elif self._idle is not None:
            self._idle.set()

    @abstractmethod
    def _serve(self) -> _Done:
        """Run jobs while there are some, in the database thread; return the last ones."""

    @abstractmethod
    def _run_inline(self, job: Job[T]) -> T:
        """Run *job* in this thread, between checkpoints; a failure is raised."""

    def _next(self) -> Job[Any] | None:
        """Take the next job that is still wanted; in the database thread."""
        while self._jobs:
            job = self._jobs.popleft()
            if job.take():
                return job
        return None

    def _hand_back(self, done: _Done) -> None:
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._deliver, done)

    def _deliver(self, done: _Done) -> None:
        for job in done.jobs:
            job.deliver()
        self._publish_texts(done.texts)

    @abstractmethod
    def _publish_texts(self, texts: Sequence[str]) -> None:
        """Pass the texts that committed transactions sent to the listeners."""

    async def close(self) -> None:
        """Wait for running jobs, refuse the others, and close the connection.

        Cancellation: the others are refused; the connection may still be open.
        """
        self.closed = True
        while self._active:
            self._idle = trio.Event()
            await self._idle.wait()
        if self._shared is None:
            await trio.to_thread.run_sync(self._connection.close)
        else:
            async with self._shared.lock:
                self._connection.close()


class _RolledBack(Exception):
    """The failure of one job has rolled back the transaction of its group."""


def beside(path: Path, suffix: str) -> Path:
    """Return the path of SQLite's file with *suffix* for the database at *path*: it is beside the target of a link."""
    real = path.resolve()
    return real.with_name(real.name + suffix)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the identity of the file at *path*; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Writer(Lane):
    """The connection that writes."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        listeners: Listeners,
        token: trio.lowlevel.TrioToken,
        *,
        source: str,
        busy: float,
        shared: SharedConnection | None = None,
    ) -> None:
        super().__init__(connection, token, source=source, shared=shared)
        self.written: int = 0
        self.commits: int = 0
        self.synced: int = 0
        self._busy = busy
        self._listeners = listeners
        self._files: Sequence[tuple[Path, tuple[int, int] | None]] = ()
        #: whether a commit ever waits for the disk, and whether the next one does
        self._may_sync: bool = False
        self._syncs: bool = False
        connection.create_function("now_seconds", 0, time.time)
        connection.create_function("notify_listeners", 1, self._texts.append)

    def watch(self, path: Path) -> None:
        """Refuse to write from now on while the file at *path*, or one of its logs, is not the one that it is now.

        The logs are there while a connection has used them.
        """
        # Absolute, because the program may change its directory.
        files = (path.absolute(), beside(path, "-wal"), beside(path, "-shm"))
        self._files = [(file, _identity(file)) for file in files]

    async def run(self, function: Work[T], *, durable: bool, large: bool = False) -> T:
        """Run *function* in a transaction.

        Raises:
          StoreError: see `Store.transact`.

        Cancellation: `Cancelled` means that nothing was written.
        """
        return await self._submit(function, durable=durable, large=large)

    def set_durability(self, durability: Durability) -> None:
        """Set whether commits wait for the disk; call it while nothing runs."""
        self._may_sync = self._syncs = durability == "power"
        self._connection.execute(_SYNCHRONOUS[self._syncs])

    def _serve(self) -> _Done:
        done = _Done()
        while self._jobs:
            if done.jobs:
                self._hand_back(done)
            group: list[Job[Any]] = []
            self._texts.clear()
            ended = outcome.capture(self._run_group, group)
            if isinstance(ended, outcome.Error) and isinstance(ended.error, _RolledBack):
                self._run_separately(group)
            elif isinstance(ended, outcome.Error):
                group = group or self._all_waiting()
                self._fail(group, ended.error)
            self._count_failures(sum(not isinstance(job.result, outcome.Value) for job in group))
            done = _Done(group, self._texts.copy())
        return done

    def _run_group(self, group: list[Job[Any]]) -> None:
        durable = any(job.durable for job in tuple(self._jobs)[:_GROUP])
        with self._named:
            self._set_sync(self._may_sync and durable)
            if not self.begin(lambda: self._jobs):
                return
            # A single job needs no savepoint: the transaction is its own.
            alone = len(self._jobs) == 1
            while len(group) < _GROUP and self._jobs and not (self._jobs[0].durable and not durable):
                job = self._next()
                if job is None:
                    break
                group.append(job)
                if alone:
                    job.result = self._outcome(job)
                    break
                self._run_job(job)
            self._commit(sum(isinstance(job.result, outcome.Value) for job in group))

    def _set_sync(self, wanted: bool) -> None:
        if wanted != self._syncs:
            self._syncs = wanted
            self._connection.execute(_SYNCHRONOUS[wanted])

    def begin(self, wanted: Callable[[], object]) -> bool:
        """Lock the database for writing; return False when none of its jobs is wanted any more."""
        for file, identity in self._files:
            if _identity(file) != identity:
                # What is written to a file without a name is lost, and other processes use another file.
                text = f"the file {file.name} was removed or replaced while it was open"
                raise StoreError(f"{self._source}: {text}", path=self._source)
        deadline = time.monotonic() + self._busy
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                return True
            except sqlite3.OperationalError as exc:
                if not is_locked(exc) or time.monotonic() >= deadline:
                    raise
            # Cancelled jobs are not waited for.
            while self._jobs and self._jobs[0].abandoned:
                self._jobs.popleft()
            if not wanted():
                return False

    def _run_job(self, job: Job[Any]) -> None:
        connection, texts = self._connection, len(self._texts)
        connection.execute("SAVEPOINT job")
        job.result = self._outcome(job)
        if not isinstance(job.result, outcome.Value):
            del self._texts[texts:]
            # On a full disk SQLite rolls the whole transaction back; then the savepoint is gone, too.
            if not connection.in_transaction:
                raise _RolledBack
            connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")

    def _run_separately(self, group: list[Job[Any]]) -> None:
        """Run the jobs that the failure of another one rolled back, each in its own transaction."""
        texts: list[str] = []
        for job in group:
            if not isinstance(job.result, outcome.Error):
                self._texts.clear()
                ended = outcome.capture(self._run_alone, job)
                if isinstance(ended, outcome.Error):
                    self._fail([job], ended.error)
                texts += self._texts
        self._texts[:] = texts

    def _run_alone(self, job: Job[Any]) -> None:
        with self._named:
            self.begin(lambda: True)
            job.result = self._outcome(job)
            self._commit(isinstance(job.result, outcome.Value))

    def _outcome(self, job: Job[Any]) -> outcome.Outcome[Any] | None:
        result = outcome.capture(self._call, job.function)
        return None if job.abandoned else result

    def _call(self, function: Work[T]) -> T:
        with self._named:
            return function(self._connection)

    def _commit(self, jobs: int) -> None:
        if not jobs:
            self._texts.clear()
            # On a full disk SQLite has already rolled the transaction back.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            return
        self._connection.execute("COMMIT")
        self.written += jobs
        self.commits += 1
        self.synced += self._syncs

    def _all_waiting(self) -> list[Job[Any]]:
        found = []
        while (job := self._next()) is not None:
            found.append(job)
        return found

    def _fail(self, jobs: list[Job[Any]], error: BaseException) -> None:
        """Deliver *error* to those of *jobs* that have no error of their own: nothing of *jobs* is in the file."""
        self._texts.clear()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        for job in jobs:
            if not isinstance(job.result, outcome.Error):
                job.result = None if job.abandoned else outcome.Error(copied(error))

    def _run_inline(self, job: Job[T]) -> T:
        job.take()
        return self.transaction(job.function)

    def transaction(self, function: Work[T], wanted: Callable[[], object] = lambda: True) -> T:
        """Run *function* in a separate transaction, in the calling thread; call it while no job runs."""
        self._texts.clear()
        with self._named:
            self.begin(wanted)
            try:
                value = function(self._connection)
                self._connection.execute("COMMIT")
            except BaseException:
                self._count_failures(1)
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        self.written += 1
        self.commits += 1
        return value

    def _publish_texts(self, texts: Sequence[str]) -> None:
        for text in texts:
            self._listeners.notify(text)


class Reader(Lane):
    """The connection that only reads."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        token: trio.lowlevel.TrioToken,
        *,
        source: str,
        shared: SharedConnection | None = None,
    ) -> None:
        super().__init__(connection, token, source=source, shared=shared)
        self.done: int = 0
        self._named = Named(source, reads=True)
        connection.create_function("now_seconds", 0, time.time)
        if shared is None:
            connection.execute("PRAGMA query_only = ON")

    async def run(self, function: Work[T]) -> T:
        """Run *function* on one consistent state.

        Raises:
          StoreError: see `Store.read`.

        Cancellation: nothing was changed.
        """
        return await self._submit(function, durable=False)

    def _serve(self) -> _Done:
        done = _Done()
        while (job := self._next()) is not None:
            if done.jobs:
                self._hand_back(done)
            job.result = outcome.capture(self._look, job.function)
            if job.abandoned:
                job.result = None
            self._count_failures(int(not isinstance(job.result, outcome.Value)))
            done = _Done([job])
        return done

    def _look(self, function: Work[T]) -> T:
        with self._named:
            self._connection.execute("BEGIN")
            try:
                value = function(self._connection)
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        self.done += 1
        return value

    def _publish_texts(self, texts: Sequence[str]) -> None:
        """Do nothing: a read sends no texts."""

    def _run_inline(self, job: Job[T]) -> T:
        # The writer uses the same connection, and `PRAGMA query_only` would make SQLite prepare every statement again.
        try:
            before = self._connection.total_changes
            value = self._look(job.function)
            if self._connection.total_changes != before:
                raise _wrote()
        except BaseException:
            self._count_failures(1)
            raise
        return value


def _wrote() -> sqlite3.OperationalError:
    """Return the error that SQLite raises for a write on a read-only connection."""
    error = sqlite3.OperationalError("attempt to write a readonly database")
    error.sqlite_errorcode = sqlite3.SQLITE_READONLY
    return error
