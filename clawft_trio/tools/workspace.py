"""A folder that file tools cannot leave.

Every path is walked from the folder's own descriptor, one name at a time. The kernel never follows a symlink: a link
is read and its target is walked by the same rules. A name cannot be swapped between the check and the opening, because
every step opens the file that it checked (openat with O_NOFOLLOW).

A hard link cannot be distinguished from the file. Only the link count shows that the file has other names.
Everything here blocks: call it in a thread.
"""

# pathlib has no descriptors, and normalises paths that have to be checked.
# ruff: noqa: PTH117

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import reduce
from operator import or_
from pathlib import Path
from typing import NoReturn

from clawft_trio.errors import PermissionDenied, ToolFailed, Unsupported

_MOST_LINKS = 40
"""Largest number of symlinks in one path; Linux has the same limit."""


_MOST_NAMES = 128
"""Largest number of directories in one path."""


PRIVATE = ("memory", "senders")
"""The folder in a workspace with the notes of single senders, which the tools of no sender can reach."""


def _is_private(*names: str) -> bool:
    """Whether the path of *names*, from the root of a workspace, is `PRIVATE` or in it."""
    # Also on a file system that ignores case.
    return tuple(name.casefold() for name in names[: len(PRIVATE)]) == PRIVATE


def _flags(*names: str) -> int:
    # Windows lacks most of them, and `Workspace` cannot be made there.
    return reduce(or_, (getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_CLOEXEC", *names)))


DIRECTORY_FLAGS = _flags("O_RDONLY", "O_DIRECTORY")
# Opening a named pipe or a device must not block, nor make it the controlling terminal.
_FILE = _flags("O_RDONLY", "O_NONBLOCK", "O_NOCTTY")
_NEW_FILE = _flags("O_WRONLY", "O_CREAT", "O_EXCL")

_MOST_STALE = 1000
"""Number of names tried for a temporary file; a crashed process with the same number may have left some."""


class Workspace:
    """A folder, and access to its contents except `PRIVATE`, and to nothing else.

    Args:
      root: the folder, which exists. Symlinks in its path are followed, because the operator chose it.
      readable: returns further folders, as absolute paths, whose files can be read by their absolute paths. Each is
        confined like the root: no path leads out of it, and nothing is written there.

    Raises:
      Unsupported: this platform cannot open relative to a descriptor.
    """

    def __init__(self, root: str | Path, *, readable: Callable[[], Iterable[str]] = tuple) -> None:
        if os.open not in os.supports_dir_fd or not hasattr(os, "O_NOFOLLOW"):
            raise Unsupported("confined file tools need POSIX")
        self.root: Path = Path(root).absolute()
        self._readable = readable
        self._serial = itertools.count()

    def __repr__(self) -> str:
        return f"<Workspace {self.root}>"

    def private_folder(self) -> os.stat_result | None:
        """Return the status of `PRIVATE`; None when there is none. Blocks."""
        try:
            return self.root.joinpath(*PRIVATE).stat()
        except OSError:
            return None

    @contextmanager
    def open_file(self, path: str) -> Iterator[int]:
        """Open an existing regular file for reading; the value is its descriptor. Blocks.

        Raises:
          PermissionDenied: *path* leads outside.
          ToolFailed: the file does not exist, or is not a regular file.
        """
        with (
            _errors(path),
            self._located(path) as (directory, name),
            open_regular(path, directory, name) as descriptor,
        ):
            yield descriptor

    @contextmanager
    def open_directory(self, path: str) -> Iterator[int]:
        """Open an existing directory; the value is its descriptor. Blocks.

        Raises:
          PermissionDenied: *path* leads outside.
          ToolFailed: the directory does not exist, or is not a directory.
        """
        with _errors(path), self._located(path) as (directory, name):
            descriptor = os.open(name, DIRECTORY_FLAGS, dir_fd=directory)
            try:
                yield descriptor
            finally:
                os.close(descriptor)

    def replace(self, path: str, data: bytes, *, read: os.stat_result | None = None) -> None:
        """Replace a file's content atomically: a reader gets the old content or the new one. Blocks.

        Missing directories are made. The file keeps its permissions; other hard links keep the old content.

        Args:
          read: status of the file when its content was read, which *data* is based on.

        Raises:
          PermissionDenied: *path* leads outside.
          ToolFailed: the file is not a regular file, cannot be written, or has changed since it was *read*.
        """
        with _errors(path), self._located(path, create=True) as (directory, name):
            mode = _mode_of(path, directory, name)
            temporary, descriptor = self._new_file(directory)
            try:
                _write(descriptor, data, mode)
                if read is not None and _changed(read, os.lstat(name, dir_fd=directory)):
                    raise ToolFailed(f"{path}: another program has changed the file meanwhile; read it again")
                os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=directory)
                raise

    def _new_file(self, directory: int) -> tuple[str, int]:
        for _ in range(_MOST_STALE):
            name = f".clawft-{os.getpid()}-{next(self._serial)}.tmp"
            with suppress(FileExistsError):
                return name, os.open(name, _NEW_FILE, 0o666, dir_fd=directory)
        raise ToolFailed("too many temporary files (.clawft-*.tmp) are left in the directory")

    @contextmanager
    def _located(self, path: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        """Open the directory that contains *path*; the value is its descriptor and the name in it (`.`: the root)."""
        walk = _Walk(self.root if create else self._root_of(path), path, create=create)
        try:
            yield walk.go(), walk.name
        finally:
            walk.close()

    def _root_of(self, path: str) -> Path:
        """Return the folder to walk from: the root, or the readable folder that contains *path*."""
        if os.path.isabs(path) and not _inside(path, os.fspath(self.root)):
            for folder in self._readable():
                if _inside(path, folder):
                    return Path(folder)
        return self.root


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


class _Walk:
    """The walk from the root to a path. Only the root and one directory are open: a process has few descriptors."""

    def __init__(self, root: Path, path: str, *, create: bool) -> None:
        self.name = "."
        self._root = root
        self._path = path
        self._create = create
        self._links = 0
        self._names = deque(self._inside(path))
        self._refuse_climbing()
        self._top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        #: the directory that the walk is in, and its names from the root; none of them is a link
        self._here = self._top
        self._at: list[str] = []

    def close(self) -> None:
        self._move(self._top)
        os.close(self._top)

    def go(self) -> int:
        """Walk the path, and return the descriptor of the directory that contains its last name."""
        while self._names:
            name = self._names.popleft()
            if name == "..":
                self._leave()
            elif (target := _link(name, self._here)) is not None:
                self._follow(target)
            elif _is_private(*self._at, name):
                raise PermissionDenied(f"{self._path}: the notes of single senders are not for tools")
            elif self._names:
                self._move(self._enter(name))
                self._at.append(name)
            else:
                self.name = name
            if len(self._at) >= _MOST_NAMES:
                self._refuse_length()
        return self._here

    def _inside(self, path: str) -> list[str]:
        """Return the names of *path* below the root."""
        if "\0" in path:
            raise ToolFailed("a path cannot hold NUL")
        if os.path.isabs(path):
            for root in (os.fspath(self._root), os.path.realpath(self._root)):
                if path == root or path.startswith(root.rstrip("/") + "/"):
                    path = path[len(root) :]
                    break
            else:
                self._refuse()
        names = [name for name in path.split("/") if name not in {"", "."}]
        if len(names) > _MOST_NAMES:
            # Refused before the first directory is made.
            self._refuse_length()
        return names

    def _refuse_length(self) -> NoReturn:
        raise ToolFailed(f"{self._path[:200]}: a path may go through {_MOST_NAMES} directories")

    def _refuse(self) -> NoReturn:
        raise PermissionDenied(f"{self._path}: outside of the workspace")

    def _refuse_climbing(self) -> None:
        """Refuse a path that leads out of the root before any directory is made, as in `newdir/../../x`."""
        depth = 0
        for name in self._names:
            depth += -1 if name == ".." else 1
            if depth < 0:
                self._refuse()

    def _leave(self) -> None:
        if not self._at:
            self._refuse()
        self._at.pop()
        # Walked again, because `..` of a directory that was moved meanwhile leads elsewhere.
        self._move(self._top)
        for name in self._at:
            self._move(os.open(name, DIRECTORY_FLAGS, dir_fd=self._here))

    def _move(self, descriptor: int) -> None:
        if self._here != self._top:
            os.close(self._here)
        self._here = descriptor

    def _follow(self, target: str) -> None:
        self._links += 1
        if self._links > _MOST_LINKS:
            raise ToolFailed(f"{self._path}: too many symlinks")
        names = self._inside(target)
        if os.path.isabs(target):
            self._at.clear()
            self._move(self._top)
        self._names.extendleft(reversed(names))

    def _enter(self, name: str) -> int:
        try:
            return os.open(name, DIRECTORY_FLAGS, dir_fd=self._here)
        except FileNotFoundError:
            if not self._create or ".." in self._names:
                raise
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=self._here)
        return os.open(name, DIRECTORY_FLAGS, dir_fd=self._here)


@contextmanager
def open_regular(path: str, directory: int, name: str) -> Iterator[int]:
    """Open the regular file *name* in *directory* for reading; the value is its descriptor. Blocks.

    Args:
      path: the path for error messages.
      directory: an open descriptor.
      name: a single name; a symlink of that name is not followed.

    Raises:
      ToolFailed: the file is a directory, a device, a pipe or a socket.
      OSError: the file cannot be opened.
    """
    _refuse_special(path, os.lstat(name, dir_fd=directory))
    descriptor = os.open(name, _FILE, dir_fd=directory)
    try:
        # The name may have been swapped between lstat and open.
        _refuse_special(path, os.fstat(descriptor))
        yield descriptor
    finally:
        os.close(descriptor)


def _link(name: str, directory: int) -> str | None:
    """Return the target of the symlink *name*; None when it is not a symlink, or does not exist."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as exc:
        if exc.errno in {errno.EINVAL, errno.ENOENT}:
            return None
        raise


def _refuse_special(path: str, found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise ToolFailed(f"{path}: is a directory")
    if not stat.S_ISREG(found.st_mode):
        raise ToolFailed(f"{path}: not a regular file")


def _changed(before: os.stat_result, after: os.stat_result) -> bool:
    return not os.path.samestat(before, after) or (before.st_size, before.st_mtime_ns) != (
        after.st_size,
        after.st_mtime_ns,
    )


def _mode_of(path: str, directory: int, name: str) -> int | None:
    """Return the permissions of the file that will be replaced; None when there is none."""
    try:
        found = os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return None
    _refuse_special(path, found)
    return stat.S_IMODE(found.st_mode) & 0o777


def _write(descriptor: int, data: bytes, mode: int | None) -> None:
    with open(descriptor, "wb") as file:
        if mode is not None:
            os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        os.fsync(descriptor)


@contextmanager
def _errors(path: str) -> Iterator[None]:
    """Convert errors of the file system to errors that name the path."""
    try:
        yield
    except FileNotFoundError as exc:
        raise ToolFailed(f"{path}: not found") from exc
    except OSError as exc:
        raise ToolFailed(f"{path}: {(exc.strerror or type(exc).__name__).lower()}") from exc
