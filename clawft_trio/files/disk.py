"""Read one path: its content, and a stamp to recognise it later. Everything here blocks.

A change is detected by device, inode, size, mtime and ctime. Two writes within one tick of the file system's clock give
the same times, so an entry that was read so soon after a change is not `settled` and is read once more.
"""

from __future__ import annotations

import codecs
import errno
import os
import stat
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import islice
from typing import Literal, TypeAlias

import attrs

from clawft_trio.files.confinement import Confinement

PathState = Literal["file", "directory", "missing", "too_large", "binary", "unreadable", "special"]
"""`file` and `directory` have content; `binary` is a file without UTF-8 text, `special` a pipe, socket or device."""

# Loaded now, because a codec that is first used in a worker thread would be imported there.
_CODEC = codecs.lookup("utf-8-sig").name

_TRIES = 3
"""Number of reads of a file that changes while it is read; the last result is returned and not cached."""

_TICK = 0.05
"""Seconds within which two writes may have the same time: the kernel's clock ticks every 1 to 10 ms."""

_COARSE_TICK = 2.1
"""The same for file systems that count whole seconds (HFS+, NFSv2) or two (FAT)."""

OVERHEAD = 512
"""Bytes that an entry counts in addition to its text, so that the total also limits the number of entries."""

_LASTING = frozenset({errno.EACCES, errno.EPERM})
"""Errors of `open` that last until the file's ctime changes. After others (too many open files, I/O), try again."""

# Opening a pipe without a writer must not block, and a terminal must not become the controlling terminal.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0)

Stamp: TypeAlias = tuple[int, int, int, int, int]


@attrs.frozen(kw_only=True)
class OnDisk:
    """What is at a path. While nothing changes there, another read returns the same object."""

    #: `file`, `directory`, `missing`, `too_large`, `binary`, `unreadable`, `special`
    state: PathState
    #: of a file: its text, without a byte order mark
    text: str = attrs.field(default="", repr=False)
    #: of a folder: the names in it, sorted
    names: tuple[str, ...] = attrs.field(default=(), repr=False)
    #: size in bytes, as the file system reports it
    size: int = 0
    #: the reason why there is no content, for people
    detail: str = ""

    @property
    def usable(self) -> bool:
        """Whether it is a file with text other than white space."""
        return self.state == "file" and not self.text.isspace() and bool(self.text)


_MISSING = OnDisk(state="missing", detail="not there")

_OUTSIDE = OnDisk(state="unreadable", detail="a symbolic link leads out of the workspace")

_Within: TypeAlias = "tuple[Confinement, str | None]"


@attrs.frozen
class CacheEntry:
    """A cached result and the stamp of its file."""

    stamp: Stamp
    found: OnDisk
    #: whether every later write changes the stamp
    settled: bool
    #: the bytes that it counts for; computed here, in the thread, and not in the event loop
    cost: int = attrs.field(init=False)

    @cost.default
    def _reckon(self) -> int:
        names = sum(map(len, self.found.names))
        return OVERHEAD + names + (self.found.size if self.found.state == "file" else 0)


@attrs.frozen
class Look:
    """The result of a worker thread for one path."""

    found: OnDisk
    #: the entry to cache; None when no stamp can identify the result later
    entry: CacheEntry | None = None
    opened: int = 0


@attrs.frozen(kw_only=True)
class Disk:
    """Reads of the file system, within limits."""

    #: largest file in bytes
    max_file: int
    #: largest number of names in a folder
    max_names: int
    #: returns the calendar time, by the clock that sets the times of files
    now: Callable[[], datetime]

    def look(self, path: str, known: Mapping[tuple[int, int], CacheEntry], confinement: Confinement) -> Look:
        """Read *path*, which is opened only if it differs from the *known* entry of its device and inode."""
        root = confinement.root_of(path)
        try:
            status = _status(path)
            if root is not None and confinement.leaves(path, root):
                return Look(_OUTSIDE)
        except (OSError, ValueError) as exc:
            return Look(_failed(exc))
        entry = known.get((status.st_dev, status.st_ino))
        if entry is not None and entry.settled and entry.stamp == _stamp(status):
            return Look(entry.found, entry)
        look = self._visit(path, status.st_mode, (confinement, root))
        if entry is not None and look.entry is not None and look.found == entry.found:
            # The old object, so that a comparison by identity finds no change.
            return attrs.evolve(look, found=entry.found, entry=attrs.evolve(look.entry, found=entry.found))
        return look

    def _visit(self, path: str, mode: int, within: _Within) -> Look:
        if stat.S_ISDIR(mode):
            return self._list(path)
        if stat.S_ISREG(mode):
            return self._open(path, within)
        # Opening a device may have side effects.
        return Look(OnDisk(state="special", detail="not a regular file"))

    def _open(self, path: str, within: _Within) -> Look:
        found = _MISSING
        for tries in range(1, _TRIES + 1):
            looked_at = self.now().timestamp()
            try:
                status, found, steady = self._read_once(path, within)
            except (OSError, ValueError) as exc:
                return self._not_opened(path, exc, tries)
            if steady:
                return Look(found, _entry(status, found, looked_at), tries)
        return Look(found, None, _TRIES)

    def _read_once(self, path: str, within: _Within) -> tuple[os.stat_result, OnDisk, bool]:
        descriptor = os.open(path, _OPEN_FLAGS)
        try:
            before = os.fstat(descriptor)
            confinement, root = within
            if root is not None and confinement.opened_outside(descriptor, root):
                # A link was created after the check.
                return before, _OUTSIDE, False
            if not stat.S_ISREG(before.st_mode):
                return before, OnDisk(state="special", detail="not a regular file"), True
            if before.st_size > self.max_file:
                return before, self._too_large(before.st_size), True
            # The size is no limit: files of /proc have size 0 and content. They count as changing and are never cached.
            data = _read_all(descriptor, before.st_size, self.max_file + 1)
            steady = _stamp(os.fstat(descriptor)) == _stamp(before) and len(data) == before.st_size
        finally:
            os.close(descriptor)
        return before, self._decoded(data), steady

    def _decoded(self, data: bytes) -> OnDisk:
        if len(data) > self.max_file:
            return self._too_large(len(data))
        if b"\0" in data:
            return OnDisk(state="binary", size=len(data), detail=f"a zero byte at {data.index(0)}")
        try:
            return OnDisk(state="file", text=data.decode(_CODEC), size=len(data))
        except UnicodeDecodeError as exc:
            return OnDisk(state="binary", size=len(data), detail=f"not UTF-8 at byte {exc.start}")

    def _too_large(self, size: int) -> OnDisk:
        return OnDisk(state="too_large", size=size, detail=f"{size} bytes are more than {self.max_file}")

    def _not_opened(self, path: str, exc: OSError | ValueError, tries: int) -> Look:
        found = _failed(exc)
        if isinstance(exc, OSError) and exc.errno in _LASTING:
            looked_at = self.now().timestamp()
            try:
                return Look(found, _entry(_status(path), found, looked_at), tries)
            except OSError as later:
                return Look(_failed(later), None, tries)
        return Look(found, None, tries)

    def _list(self, path: str) -> Look:
        found = _MISSING
        for tries in range(1, _TRIES + 1):
            looked_at = self.now().timestamp()
            try:
                before = _status(path)
                with os.scandir(path) as entries:
                    names = sorted(entry.name for entry in islice(entries, self.max_names + 1))
                steady = _stamp(_status(path)) == _stamp(before)
            except (OSError, ValueError) as exc:
                return self._not_opened(path, exc, tries)
            found = self._listed(names)
            if steady:
                return Look(found, _entry(before, found, looked_at), tries)
        return Look(found, None, _TRIES)

    def _listed(self, names: list[str]) -> OnDisk:
        if len(names) > self.max_names:
            return OnDisk(state="too_large", detail=f"more than {self.max_names} entries")
        return OnDisk(state="directory", names=tuple(names))


def _status(path: str) -> os.stat_result:
    return os.stat(path)


def _stamp(status: os.stat_result) -> Stamp:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _entry(status: os.stat_result, found: OnDisk, looked_at: float) -> CacheEntry:
    # ctime cannot be set by programs; on Windows it is the time of creation and does not show changes.
    changed = status.st_ctime_ns if os.name == "posix" else status.st_mtime_ns
    tick = _TICK if changed % 1_000_000_000 else _COARSE_TICK
    return CacheEntry(_stamp(status), found, changed / 1e9 < looked_at - tick)


def _read_all(descriptor: int, size: int, limit: int) -> bytes:
    """Read everything, about *size* bytes, but at most *limit*."""
    chunks: list[bytes] = []
    read = 0
    while chunk := os.read(descriptor, min(max(size, 4096), limit - read)):
        chunks.append(chunk)
        read += len(chunk)
    return b"".join(chunks)


def _failed(exc: OSError | ValueError) -> OnDisk:
    if isinstance(exc, FileNotFoundError | NotADirectoryError):
        return _MISSING
    detail = (exc.strerror or str(exc)) if isinstance(exc, OSError) else str(exc)
    return OnDisk(state="unreadable", detail=detail)
