"""Which paths are the same: canonical keys for locks.

Symlinks and `..` are resolved as the file system does, also in front of what does not exist yet, and names are
folded where the file system folds them. Everything here blocks: call it in a thread.
"""

# Names are compared as the file system spells them: pathlib would normalise them, and costs five times more.
# ruff: noqa: PTH109, PTH118, PTH206

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

PathKey: TypeAlias = tuple[str, ...]
"""The names from the file system's root down; a directory's key is the beginning of the keys of what it holds."""

Lstat: TypeAlias = Callable[[str], os.stat_result]


def path_keys(paths: Iterable[str | Path], root: str | Path | None = None, *, lstat: Lstat = os.lstat) -> list[PathKey]:
    """The keys of *paths*, relative ones starting from *root*. Blocks.

    Args:
      paths: they need not exist.
      root: the current directory by default.
      lstat: how to look at the file system.

    Raises:
      ValueError: something is no path (NUL, lone surrogates).
    """
    start = os.getcwd() if root is None else os.fspath(root)
    # Calls of one turn mostly name files of a few directories.
    folds: dict[str, bool] = {}
    return [_key(os.path.realpath(os.path.join(start, path)), folds, lstat) for path in paths]


def _key(path: str, folds: dict[str, bool], lstat: Lstat) -> PathKey:
    os.fsencode(path)
    drive, names = os.path.splitdrive(path)
    at, folding = drive + os.sep, False
    key = [drive]
    for name in filter(None, names.split(os.sep)):
        # Where the entry itself has no answer, the directory above has.
        folding = _folds(at, name, folds, lstat, default=folding)
        key.append(unicodedata.normalize("NFC", name.casefold()).casefold() if folding else name)
        at = os.path.join(at, name)
    return tuple(key)


def _folds(directory: str, name: str, folds: dict[str, bool], lstat: Lstat, *, default: bool) -> bool:
    """Whether *directory* takes `Name` for `name`: seen by asking for *name* in the other case."""
    if directory not in folds:
        other = name.swapcase()
        if other == name or (found := _identity(directory, name, lstat)) is None:
            return default
        folds[directory] = found == _identity(directory, other, lstat)
    return folds[directory]


def _identity(directory: str, name: str, lstat: Lstat) -> tuple[int, int] | None:
    try:
        found = lstat(os.path.join(directory, name))
    except OSError:
        return None
    return found.st_dev, found.st_ino
