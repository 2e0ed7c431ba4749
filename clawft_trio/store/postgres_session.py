"""The statements of one transaction on PostgreSQL, sent in pipeline mode."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.types.numeric import NumericLoader

from clawft_trio.store.dialect import statement_for_postgres
from clawft_trio.store.interface import Cursor

_PROGRESS = 5.0
"""Seconds between reports of a long transaction that the server responds."""


class Numbers(NumericLoader):
    """Sums of integers are integers, as on SQLite."""

    def load(self, data: Any) -> Any:
        number = super().load(data)
        return int(number) if number.is_finite() and number == number.to_integral_value() else number


class Session:
    """A psycopg connection with the interface of `Connection`.

    Statements are sent in pipeline mode: a result is waited for where it is looked at, so that statements whose results
    are not needed cost no round trip of their own. What fails raises at the next result, or at the pipeline's end.
    """

    def __init__(self, raw: psycopg.Connection[Any], on_progress: Callable[[], None]) -> None:
        self.raw = raw
        self._on_progress = on_progress
        self._next_progress = time.monotonic() + _PROGRESS
        #: how often all results until then were awaited
        self.syncs: int = 0
        self._pipeline: psycopg.Pipeline | None = None

    @contextmanager
    def pipelined(self) -> Iterator[None]:
        """Send the block's statements in pipeline mode; all of them have ended after it."""
        with self.raw.pipeline() as self._pipeline:
            yield

    def wait(self) -> None:
        """Wait for the results of all statements so far."""
        assert self._pipeline is not None
        self._pipeline.sync()
        self.syncs += 1
        self._note_progress()

    def _note_progress(self) -> None:
        if time.monotonic() >= self._next_progress:
            self._next_progress = time.monotonic() + _PROGRESS
            self._on_progress()

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Cursor:
        """Run one statement."""
        return _Result(self, self.raw.execute(statement_for_postgres(sql), parameters, prepare=True))

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> Cursor:
        """Run one statement once per row of parameters."""
        cursor = self.raw.cursor()
        cursor.executemany(statement_for_postgres(sql), rows)
        self._note_progress()
        return _Result(self, cursor)


class _Result:
    """The result of a statement that was sent; waits for it when it is looked at."""

    def __init__(self, session: Session, cursor: psycopg.Cursor[Any]) -> None:
        self._session = session
        self._cursor = cursor
        self._sent_after = session.syncs

    def _arrived(self) -> psycopg.Cursor[Any]:
        if self._session.syncs == self._sent_after:
            self._session.wait()
        return self._cursor

    @property
    def rowcount(self) -> int:
        return self._arrived().rowcount

    @property
    def description(self) -> Any:
        return self._arrived().description

    def fetchone(self) -> Any:
        return self._arrived().fetchone()

    def fetchall(self) -> list[Any]:
        return self._arrived().fetchall()

    def fetchmany(self, size: int) -> list[Any]:
        return self._arrived().fetchmany(size)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._arrived())
