"""SQLite's failures under the names of this package."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from clawft_trio.errors import StoreBusy, StoreCorrupt, StoreError, StoreReadOnly

_NOT_A_STORE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_BROKEN = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM})


def copied(error: BaseException) -> BaseException:
    """An error of its own for each task: callers write into what they catch."""
    if not isinstance(error, StoreError):
        return error
    fresh = type(error)(str(error), path=error.path)
    fresh.__cause__ = error.__cause__
    return fresh


def is_locked(exc: sqlite3.Error) -> bool:
    """Whether another process holds a lock."""
    return _code(exc) in _LOCKED


def _code(exc: sqlite3.Error) -> int:
    # Extended result codes keep the primary one in the low byte.
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF


@contextmanager
def named(source: str, *, reads: bool = False) -> Iterator[None]:
    """Give failures of the database our names; violated constraints are the caller's."""
    try:
        yield
    except sqlite3.OperationalError as exc:
        raise _typed(exc, source, reads=reads) from exc
    except sqlite3.DatabaseError as exc:
        if _code(exc) in _NOT_A_STORE:
            raise StoreCorrupt(f"{source}: is damaged or is no store: {exc}", path=source) from exc
        raise
    except UnicodeEncodeError as exc:
        raise StoreError(f"{source}: a text with a lone surrogate cannot be stored", path=source) from exc


def _typed(exc: sqlite3.OperationalError, source: str, *, reads: bool) -> Exception:
    code = _code(exc)
    if code in _NOT_A_STORE:
        return StoreCorrupt(f"{source}: is damaged or is no store: {exc}", path=source)
    if code in _LOCKED:
        return StoreBusy(f"{source}: other processes keep it locked", path=source)
    if code == sqlite3.SQLITE_READONLY and not reads:
        return StoreReadOnly(f"{source}: {exc}", path=source)
    if code in _BROKEN:
        return StoreError(f"{source}: {exc}", path=source)
    if code in {0, sqlite3.SQLITE_ERROR}:
        # A table or column is not there, or a text is not UTF-8: the file is not what this package wrote.
        return StoreCorrupt(f"{source}: does not have what a statement needs: {exc}", path=source)
    # In a read, the caller's function tried to write.
    return exc
