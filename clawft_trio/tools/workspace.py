"""A folder that file tools cannot leave.

Every path is walked from the folder's own descriptor, one name at a time. The kernel never follows a symlink: a link
is read and its target is walked by the same rules. A name cannot be swapped between the check and the opening, because
every step opens what it checked (openat with O_NOFOLLOW).

A hard link cannot be distinguished: it *is* the file. Only the link count shows that the file has other names.
Everything here blocks: call it in a thread.
"""

# pathlib knows no descriptors, and normalises what has to be looked at.
# ruff: noqa: PTH117

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import reduce
from operator import or_
from pathlib import Path
from typing import NoReturn

from clawft_trio.errors import PermissionDenied, ToolFailed, Unsupported

_MOST_LINKS = 40
"""Symlinks that one path may go through; Linux has the same limit."""


_MOST_NAMES = 128
"""Directories that one path may go through. Each takes a descriptor while the path is walked."""


def _flags(*names: str) -> int:
    # Windows lacks most of them, and `Workspace` cannot be made there.
    return reduce(or_, (getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_CLOEXEC", *names)))


DIRECTORY_FLAGS = _flags("O_RDONLY", "O_DIRECTORY")
# A named pipe or a device must not be waited for, nor become our terminal.
_FILE = _flags("O_RDONLY", "O_NONBLOCK", "O_NOCTTY")
_NEW_FILE = _flags("O_WRONLY", "O_CREAT", "O_EXCL")

_MOST_STALE = 1000
"""Names that are tried for a temporary file; a crashed process with our number may have left some."""


class Workspace:
    """A folder, and access to what is in it and nowhere else.

    Args:
      root: the folder, which exists. Symlinks on the way to it are followed: the operator chose it.

    Raises:
      Unsupported: this platform cannot open relative to a descriptor.
    """

    def __init__(self, root: str | Path) -> None:
        if os.open not in os.supports_dir_fd or not hasattr(os, "O_NOFOLLOW"):
            raise Unsupported("confined file tools need POSIX")
        self.root: Path = Path(root).absolute()
        self._serial = itertools.count()

    def __repr__(self) -> str:
        return f"<Workspace {self.root}>"

    @contextmanager
    def open_file(self, path: str) -> Iterator[int]:
        """A descriptor of an existing regular file, to read from. Blocks.

        Raises:
          PermissionDenied: *path* leads outside.
          ToolFailed: it does not exist, or is no regular file.
        """
        with (
            _errors(path),
            self._located(path) as (directory, name),
            open_regular(path, directory, name) as descriptor,
        ):
            yield descriptor

    @contextmanager
    def open_directory(self, path: str) -> Iterator[int]:
        """A descriptor of an existing directory. Blocks.

        Raises:
          PermissionDenied: *path* leads outside.
          ToolFailed: it does not exist, or is no directory.
        """
        with _errors(path), self._located(path) as (directory, name):
            descriptor = os.open(name, DIRECTORY_FLAGS, dir_fd=directory)
            try:
                yield descriptor
            finally:
                os.close(descriptor)

    def replace(self, path: str, data: bytes) -> None:
        """Replace a file's content atomically: a reader sees the old content or the new one. Blocks.

        Missing directories are made. The file keeps its permissions; other hard links keep the old content.

        Raises:
          PermissionDenied: *path* leads outside.
          ToolFailed: it is no regular file, or the file system refuses.
        """
        with _errors(path), self._located(path, create=True) as (directory, name):
            mode = _mode_of(path, directory, name)
            temporary, descriptor = self._new_file(directory)
            try:
                _write(descriptor, data, mode)
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
        """The open directory that holds what *path* names, and its name there: `.` for the root itself."""
        walk = _Walk(self.root, path, create=create)
        try:
            yield walk.go(), walk.name
        finally:
            walk.close()


class _Walk:
    """The walk from the root to what a path names; every directory on the way is held open."""

    def __init__(self, root: Path, path: str, *, create: bool) -> None:
        self.name = "."
        self._root = root
        self._path = path
        self._create = create
        self._links = 0
        self._names = deque(self._inside(path))
        self._refuse_climbing()
        self._held = [os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]

    def close(self) -> None:
        for descriptor in self._held:
            os.close(descriptor)

    def go(self) -> int:
        """Walk the path, and return the descriptor of the directory that holds its last name."""
        while self._names:
            name = self._names.popleft()
            if name == "..":
                self._leave()
            elif (target := _link(name, self._held[-1])) is not None:
                self._follow(target)
            elif self._names:
                self._held.append(self._enter(name))
            else:
                self.name = name
            if len(self._held) > _MOST_NAMES:
                self._refuse_length()
        return self._held[-1]

    def _inside(self, path: str) -> list[str]:
        """The names of *path* from the root on."""
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
        """Refuse `newdir/../../x` before `newdir` is made."""
        depth = 0
        for name in self._names:
            depth += -1 if name == ".." else 1
            if depth < 0:
                self._refuse()

    def _leave(self) -> None:
        if len(self._held) == 1:
            self._refuse()
        os.close(self._held.pop())

    def _follow(self, target: str) -> None:
        self._links += 1
        if self._links > _MOST_LINKS:
            raise ToolFailed(f"{self._path}: too many symlinks")
        names = self._inside(target)
        if os.path.isabs(target):
            while len(self._held) > 1:
                os.close(self._held.pop())
        self._names.extendleft(reversed(names))

    def _enter(self, name: str) -> int:
        try:
            return os.open(name, DIRECTORY_FLAGS, dir_fd=self._held[-1])
        except FileNotFoundError:
            if not self._create or ".." in self._names:
                raise
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=self._held[-1])
        return os.open(name, DIRECTORY_FLAGS, dir_fd=self._held[-1])


@contextmanager
def open_regular(path: str, directory: int, name: str) -> Iterator[int]:
    """A descriptor of the regular file *name* in *directory*, to read from. Blocks.

    Args:
      path: the path for error messages.
      directory: an open descriptor.
      name: a single name; a symlink of that name is not followed.

    Raises:
      ToolFailed: it is a directory, a device, a pipe or a socket.
      OSError: it cannot be opened.
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
    """The target of the symlink *name*; None when it is no symlink, or does not exist."""
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


def _mode_of(path: str, directory: int, name: str) -> int | None:
    """The permissions of the file that will be replaced; None when there is none."""
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
    """Turn errors of the file system into errors that name the path."""
    try:
        yield
    except FileNotFoundError as exc:
        raise ToolFailed(f"{path}: not found") from exc
    except OSError as exc:
        raise ToolFailed(f"{path}: {(exc.strerror or type(exc).__name__).lower()}") from exc
