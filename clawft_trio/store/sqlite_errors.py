"""Converts SQLite's failures to this package's errors."""

from __future__ import annotations

import sqlite3
from types import TracebackType

from clawft_trio.errors import StoreBusy, StoreCorrupt, StoreError, StoreReadOnly

_NOT_A_STORE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
# Constraints that this package's statements cannot violate in its own tables; the others are the caller's.
# The second is `SQLITE_CONSTRAINT_DATATYPE`, which older versions of Python do not name.
_FOREIGN = frozenset({sqlite3.SQLITE_CONSTRAINT_TRIGGER, sqlite3.SQLITE_CONSTRAINT | 12 << 8})
_BROKEN = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM})


def copied(error: BaseException) -> BaseException:
    """Return a copy of a `StoreError`, one for each task, because callers write into what they catch."""
    if not isinstance(error, StoreError):
        return error
    fresh = type(error)(str(error), path=error.path)
    fresh.__cause__ = error.__cause__
    return fresh


def is_locked(exc: sqlite3.Error) -> bool:
    """Return whether another process holds a lock."""
    return _code(exc) in _LOCKED


def _code(exc: sqlite3.Error) -> int:
    # Extended result codes keep the primary one in the low byte.
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF


class Named:
    """A context manager that converts failures of the database to our errors; violated constraints are the caller's."""

    __slots__ = ("_reads", "_source")

    def __init__(self, source: str, *, reads: bool = False) -> None:
        self._source = source
        self._reads = reads

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is not None:
            named = _typed(exc, self._source, reads=self._reads)
            if named is not exc:
                raise named from exc


def _typed(exc: BaseException, source: str, *, reads: bool) -> BaseException:  # noqa: PLR0911 - one line for each kind
    if isinstance(exc, UnicodeEncodeError):
        return StoreError(f"{source}: a text with a lone surrogate cannot be stored", path=source)
    if isinstance(exc, sqlite3.DataError | OverflowError):
        return StoreError(f"{source}: a value is too large to be stored: {exc}", path=source)
    if not isinstance(exc, sqlite3.DatabaseError):
        return exc
    if getattr(exc, "sqlite_errorcode", 0) in _FOREIGN:
        return StoreCorrupt(f"{source}: holds what this package did not write: {exc}", path=source)
    code = _code(exc)
    if code in _NOT_A_STORE:
        return StoreCorrupt(f"{source}: is damaged or is no store: {exc}", path=source)
    if not isinstance(exc, sqlite3.OperationalError):
        return exc
    if code in _LOCKED:
        return StoreBusy(f"{source}: other processes keep it locked", path=source)
    if code == sqlite3.SQLITE_READONLY and not reads:
        return StoreReadOnly(f"{source}: {exc}", path=source)
    if code in _BROKEN:
        return StoreError(f"{source}: {exc}", path=source)
    if code in {0, sqlite3.SQLITE_ERROR}:
        # A table or column is missing, or a text is not UTF-8: this package did not write the file.
        return StoreCorrupt(f"{source}: does not have what a statement needs: {exc}", path=source)
    # In a read, the caller's function tried to write.
    return exc
