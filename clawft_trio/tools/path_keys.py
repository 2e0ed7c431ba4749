"""Canonical keys of paths for locks: equal for paths of the same file.

Symlinks and `..` are resolved as the file system does, also in parents of missing files, and case is folded where the
file system ignores it. Everything here blocks: call it in a thread.
"""

# Uses os.path, because pathlib normalises names and is five times slower.
# ruff: noqa: PTH109, PTH118, PTH206

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from clawft_trio.files.confinement import real_path

PathKey: TypeAlias = tuple[str, ...]
"""The names from the file system's root down; the key of a directory is a prefix of the keys of its contents."""

Lstat: TypeAlias = Callable[[str], os.stat_result]


def path_keys(paths: Iterable[str | Path], root: str | Path | None = None, *, lstat: Lstat = os.lstat) -> list[PathKey]:
    """Return the keys of *paths*; relative paths start from *root*. Blocks.

    Args:
      paths: they need not exist.
      root: the current directory by default.
      lstat: reads the status of a file.

    Raises:
      ValueError: a path is invalid (NUL, lone surrogates).
      OSError: a path leads through too many links.
    """
    start = os.getcwd() if root is None else os.fspath(root)
    # One cache for all, because calls of one turn mostly name files of a few directories.
    folds: dict[str, bool] = {}
    return [_key(real_path(os.path.join(start, path)), folds, lstat) for path in paths]


def _key(path: str, folds: dict[str, bool], lstat: Lstat) -> PathKey:
    os.fsencode(path)
    drive, names = os.path.splitdrive(path)
    at, folding = drive + os.sep, False
    key = [drive]
    for name in filter(None, names.split(os.sep)):
        # For a missing entry, the result of the directory above applies.
        folding = _folds(at, name, folds, lstat, default=folding)
        key.append(unicodedata.normalize("NFC", name.casefold()).casefold() if folding else name)
        at = os.path.join(at, name)
    return tuple(key)


def _folds(directory: str, name: str, folds: dict[str, bool], lstat: Lstat, *, default: bool) -> bool:
    """Whether *directory* treats `Name` and `name` as one file: tested by looking up *name* in the other case."""
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
