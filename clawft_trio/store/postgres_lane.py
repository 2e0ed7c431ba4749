"""One connection to PostgreSQL: runs transactions in a thread, and converts its failures to this package's errors."""

from __future__ import annotations

import contextlib
import math
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import outcome
import psycopg
import trio
from psycopg.pq import TransactionStatus

from clawft_trio.errors import StoreBusy, StoreCorrupt, StoreError, StoreReadOnly
from clawft_trio.store.jobs import Job, nothing
from clawft_trio.store.postgres_session import Numbers, Session

T = TypeVar("T")

_CONNECT = 5
"""Seconds that connecting may take; libpq accepts whole seconds."""

STATEMENT = 30.0
"""Seconds that one statement may take on the server."""

_CANCEL = 2.0
"""Seconds that the server has to end a cancelled statement; then the connection is shut down."""

FIRST_WAIT = 0.05
"""Seconds until the next attempt to reach a server that is not reachable; doubled after each attempt."""

_ONE_AT_A_TIME = 0x436C6177
_LOCK = f"SELECT pg_advisory_xact_lock({_ONE_AT_A_TIME}, hashtext(current_schema()))"
"""Takes the advisory lock of transactions that are not `concurrent`."""

_LIFE = "SELECT stats_reset::text FROM pg_stat_bgwriter"
"""Changes with each crash of the server, of one of its processes, and with each failover; a clean restart keeps it."""

_ENCODINGS = frozenset({"UTF8", "SQL_ASCII"})
"""Encodings of databases that store every text; `SQL_ASCII` stores the bytes unchanged."""

_NOT_COMMITTED = frozenset({"40001", "40P01"})
"""Failures of a COMMIT before it: serialization failure and deadlock."""


_REASON = re.compile(r"\A(?:.*(?: failed: |\[Errno -?\d+\] )(?:FATAL:\s*)?(.{1,200}))?[\s\S]*")
"""Why there is no connection, at the end of the first line that libpq or psycopg reports; and everything else."""

_QUOTED = re.compile(r'"([^"]*)"')


class TryAgain(Exception):
    """The transaction was not committed and may run again; `error` is the reason.

    With *unknown*, it may have been committed: then only a transaction that may run twice runs again.
    """

    def __init__(self, error: StoreError, *, unknown: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.unknown = unknown


class Lane:
    """One connection, opened when it is needed, used by one job at a time."""

    def __init__(self, address: str, source: str, *, lock_wait: float) -> None:
        self._address = address
        self._source = source
        self._lock_wait = lock_wait
        self._session: Session | None = None
        #: whether the next job needs a new connection
        self._stale = False
        #: the value of `_LIFE` when the connection was opened
        self._life = ""
        self._cancelling: trio.Event | None = None
        self._on_progress: Callable[[], None] = nothing

    async def run(self, job: Job[T], transaction: Callable[[Job[T]], None], progress: Callable[[], None]) -> T:
        """Run *transaction* for *job* in a thread; call *progress* while it takes long and the server responds.

        Cancellation: the statement is cancelled on the server, and its end is awaited.
        """
        token = trio.lowlevel.current_trio_token()

        def ended(_: outcome.Outcome[None]) -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(job.deliver)

        def progressed() -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(progress)

        self._on_progress = progressed
        job.take()
        trio.lowlevel.start_thread_soon(lambda: transaction(job), ended, "clawft store")
        try:
            return await job.wait(lambda: self._cancel(token))
        finally:
            # A late cancellation would hit the next job of this connection.
            if self._cancelling is not None:
                with trio.CancelScope(shield=True):
                    await self._cancelling.wait()
                self._cancelling = None

    def _cancel(self, token: trio.lowlevel.TrioToken) -> None:
        session, done = self._session, trio.Event()
        if session is None:
            return
        self._cancelling = done

        def cancelled(_: outcome.Outcome[None]) -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(done.set)

        trio.lowlevel.start_thread_soon(lambda: _cancel_statement(session.raw), cancelled, "clawft store cancel")

    def write(self, job: Job[Any], *, concurrent: bool) -> None:
        """Run the job's function in a transaction, and commit."""
        job.result = outcome.capture(self._write, job, concurrent)
        if job.abandoned and isinstance(job.result, outcome.Error):
            job.result = None

    def look(self, job: Job[Any]) -> None:
        """Run the job's function on one consistent state."""
        job.result = outcome.capture(self._look, job)
        if job.abandoned:
            job.result = None

    def _write(self, job: Job[T], concurrent: bool) -> T:
        with self._failures():
            session = self._connected()
            with self._rolled_back():
                with session.pipelined():
                    session.execute("BEGIN")
                    if not concurrent:
                        session.execute(_LOCK)
                    number = session.execute("SELECT pg_current_xact_id()::text")
                    value = job.function(session)
                    (transaction,) = number.fetchone()
                if job.abandoned:
                    raise _Abandoned
        with self._failures():
            self._commit(session, transaction)
        return value

    def _commit(self, session: Session, transaction: str) -> None:
        try:
            tag = session.raw.execute("COMMIT", prepare=False).statusmessage
        except psycopg.OperationalError as exc:
            if exc.sqlstate in _NOT_COMMITTED:
                raise
            # The connection ended, or the server was about to end it: the commit may have happened before.
            self._look_up(transaction, exc)
            return
        if tag != "COMMIT":
            # PostgreSQL responds to the COMMIT of a failed transaction with `ROLLBACK`, and raises nothing.
            raise TryAgain(StoreBusy(f"{self._source}: the server has rolled the transaction back", path=self._source))

    def _look(self, job: Job[T]) -> T:
        with self._failures():
            session = self._connected()
            with self._rolled_back(), session.pipelined():
                session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                value = job.function(session)
                # After a ROLLBACK psycopg would prepare every statement again.
                session.execute("COMMIT")
            return value

    @contextmanager
    def _rolled_back(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error:
            self._undo()
            # psycopg takes statements for prepared that the server has skipped after the error.
            self._stale = True
            raise
        except BaseException:
            self._undo()
            raise

    def _undo(self) -> None:
        """Roll back, or close the connection when that fails."""
        session = self._session
        if session is None:
            return
        try:
            if session.raw.info.transaction_status != TransactionStatus.IDLE:
                session.raw.execute("ROLLBACK", prepare=False)
        except psycopg.Error:
            self.disconnect()

    def _look_up(self, transaction: str, exc: psycopg.Error) -> None:
        """Find out whether *transaction*, whose COMMIT got no response, is committed.

        Raises:
          TryAgain: it is not, or, with `unknown`, that cannot be found out.
        """
        life = self._life
        self.disconnect()
        deadline = time.monotonic() + max(self._lock_wait, FIRST_WAIT)
        while True:
            state = self._state_of(transaction)
            # A server that crashed may reuse the number of a transaction that it lost.
            if state == "committed" and self._life == life:
                return
            if state == "aborted":
                raise TryAgain(self._away(exc)) from exc
            if state != "in progress" or time.monotonic() >= deadline:
                error = StoreError(
                    f"{self._source}: the connection ended during a commit; whether it was written is not known",
                    path=self._source,
                )
                raise TryAgain(error, unknown=True) from exc
            time.sleep(FIRST_WAIT)

    def _state_of(self, transaction: str) -> str | None:
        """`committed`, `aborted`, `in progress` (also while the server is away), or None where it is forgotten."""
        try:
            with self._failures():
                query = "SELECT pg_xact_status(%s::text::xid8)"
                row = self._connected().raw.execute(query, (transaction,)).fetchone()
        except (TryAgain, psycopg.Error):
            return "in progress"
        except StoreError as error:
            # Numbers above the newest one were lost in a crash.
            if isinstance(error.__cause__, psycopg.errors.InvalidParameterValue):
                return "aborted"
            raise
        return None if row is None else row[0]

    def _connected(self) -> Session:
        """Return the connection, outside of any transaction."""
        self._undo()
        if self._session is not None and (self._stale or self._session.raw.closed or self._session.raw.broken):
            self.disconnect()
        if self._session is None:
            self._stale = False
            raw = connect(self._address, lock_wait=self._lock_wait)
            self._refuse_encoding(raw)
            self._session = Session(raw, self._progressed)
            row = self._session.raw.execute(_LIFE, prepare=False).fetchone()
            self._life = "" if row is None else str(row[0])
        return self._session

    def _refuse_encoding(self, raw: psycopg.Connection[Any]) -> None:
        encoding = raw.info.parameter_status("server_encoding")
        if encoding not in _ENCODINGS:
            raw.close()
            raise StoreError(
                f"{self._source}: the database's encoding is {encoding}, and texts need UTF8", path=self._source
            )

    def _progressed(self) -> None:
        self._on_progress()

    def disconnect(self) -> None:
        """Close the connection; the next job opens a new one."""
        session, self._session = self._session, None
        if session is not None:
            with suppress(psycopg.Error):
                session.raw.close()

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Convert failures of the database to this package's errors; violated constraints are the caller's."""
        try:
            yield
        except psycopg.Error as exc:
            if self._session is not None and (self._session.raw.closed or self._session.raw.broken):
                self.disconnect()
            raised = self._typed(exc)
            if raised is exc:
                raise
            if self._session is None:
                # The message quotes an address that cannot be parsed, with its password.
                raise raised from None
            raise raised from exc
        except UnicodeEncodeError as exc:
            raise StoreError(
                f"{self._source}: a text with a lone surrogate cannot be stored", path=self._source
            ) from exc

    def _typed(self, exc: psycopg.Error) -> Exception:  # noqa: PLR0911 - one line for each kind
        source, state = self._source, exc.sqlstate or ""
        if isinstance(exc, psycopg.errors.ReadOnlySqlTransaction):
            return StoreReadOnly(f"{source}: cannot be written", path=source)
        # Serialization failure, deadlock, lock not available; a statement that psycopg only takes for prepared.
        if state in {"40001", "40P01", "55P03", "26000"}:
            return TryAgain(StoreBusy(f"{source}: other transactions keep rows locked", path=source))
        if not state and isinstance(exc, psycopg.DataError | psycopg.ProgrammingError):  # found by psycopg: a NUL
            if self._session is None:
                return StoreError(f"{source}: is not an address of PostgreSQL", path=source)
            return StoreError(f"{source}: a value cannot be stored: {exc}", path=source)
        if not state or state.startswith(("08", "57P", "53300", "25P03")):
            return TryAgain(self._away(exc))
        if state.startswith(("53", "58", "XX000")):  # disk full, I/O, or a standby that cannot write
            return StoreError(f"{source}: {exc.diag.message_primary}", path=source)
        if state.startswith(("28", "3D", "42501")):  # password, no such database, no privilege
            return StoreError(f"{source}: cannot be used: {exc.diag.message_primary}", path=source)
        if state.startswith(("42", "3F", "XX001", "XX002")):
            return StoreCorrupt(
                f"{source}: does not have what a statement needs: {exc.diag.message_primary}", path=source
            )
        if state.startswith(("22", "54")):  # a text with NUL, a number out of range, a key that is too long
            return StoreError(f"{source}: a value cannot be stored: {exc.diag.message_primary}", path=source)
        if state == "57014":
            return StoreBusy(f"{source}: a statement took longer than {STATEMENT:g} s", path=source)
        if state.startswith("23"):  # a violated constraint is the caller's
            return exc
        return StoreError(f"{source}: {exc.diag.message_primary}", path=source)

    def _away(self, exc: psycopg.Error) -> StoreError:
        detail = exc.diag.message_primary
        if detail is None:
            # Only its end, and of names only those of the address as shown: libpq may take a part of a password that is
            # not encoded for a host, a port or a database.
            reason = _REASON.sub(lambda found: found[1] or type(exc).__name__, str(exc))
            detail = _QUOTED.sub(self._known, reason)
        return StoreBusy(f"{self._source}: is away: {detail}", path=self._source)

    def _known(self, quoted: re.Match[str]) -> str:
        return quoted[0] if quoted[1] in self._source else '"…"'


class _Abandoned(Exception):
    """The task of the job was cancelled before the commit."""


def connect(address: str, *, lock_wait: float) -> psycopg.Connection[Any]:
    """Connect, in a thread, with bounds on every wait of the server."""
    # Zero would mean no bound.
    locks = max(1, math.ceil(lock_wait * 1000))
    raw: psycopg.Connection[Any] = psycopg.connect(
        address,
        autocommit=True,
        client_encoding="UTF8",
        connect_timeout=_CONNECT,
        prepare_threshold=0,
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=round(STATEMENT * 1000),
    )
    try:
        raw.adapters.register_loader("numeric", Numbers)
        raw.execute(
            f"SET statement_timeout = {round(STATEMENT * 1000)}; SET lock_timeout = {locks};"
            f" SET idle_in_transaction_session_timeout = {round(STATEMENT * 1000)}; SET client_min_messages = warning",
            prepare=False,
        )
    except BaseException:
        raw.close()
        raise
    return raw


def _cancel_statement(raw: psycopg.Connection[Any]) -> None:
    """Cancel the running statement of *raw* on the server; end the connection when the server does not respond."""
    try:
        raw.cancel_safe(timeout=_CANCEL)
    except psycopg.Error:
        with suppress(OSError, psycopg.Error), contextlib.closing(socket.socket(fileno=os.dup(raw.fileno()))) as line:
            line.shutdown(socket.SHUT_RDWR)
