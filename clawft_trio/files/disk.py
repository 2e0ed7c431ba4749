"""Looking at one path: what is there, and how to recognise it the next time. Everything here blocks.

A change is detected by its device, inode, size, mtime and ctime. Those stand still when a file is
written twice within one tick of the file system's clock, so what was read that soon after a change is not `settled`
and is read once more.
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
"""`file` and `directory` have content; `binary` is a file that is no UTF-8 text, `special` a pipe, socket or device."""

# Loaded now: a codec that is first used in a worker thread would be imported there.
_CODEC = codecs.lookup("utf-8-sig").name

_TRIES = 3
"""How often a file that changes while it is read is read again; after that the last reading is given, not kept."""

_TICK = 0.05
"""Seconds within which two writes may bear the same time: the kernel's clock ticks every 1 to 10 ms."""

_COARSE_TICK = 2.1
"""The same for file systems that count whole seconds (HFS+, NFSv2) or two (FAT)."""

OVERHEAD = 512
"""Bytes that an entry costs beside its text, so that the total also limits how many there are."""

_LASTING = frozenset({errno.EACCES, errno.EPERM})
"""Failures to open that stay until the file's ctime moves. Any other (too many open files, I/O) is tried again."""

# A pipe without a writer must not hold the thread, and a terminal must not become ours.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0)

Stamp: TypeAlias = tuple[int, int, int, int, int]


@attrs.frozen(kw_only=True)
class OnDisk:
    """What is at a path. While nothing changes there, reading it again gives the same object."""

    #: `file`, `directory`, `missing`, `too_large`, `binary`, `unreadable`, `special`
    state: PathState
    #: of a file: its text, without a byte order mark
    text: str = attrs.field(default="", repr=False)
    #: of a folder: the names in it, sorted
    names: tuple[str, ...] = attrs.field(default=(), repr=False)
    #: bytes, as the file system reports
    size: int = 0
    #: why there is no content, for people
    detail: str = ""

    @property
    def usable(self) -> bool:
        """Whether it is a file with more than white space in it."""
        return self.state == "file" and not self.text.isspace() and bool(self.text)


_MISSING = OnDisk(state="missing", detail="not there")

_OUTSIDE = OnDisk(state="unreadable", detail="a symbolic link leads out of the workspace")

_Within: TypeAlias = "tuple[Confinement, str | None]"


@attrs.frozen
class CacheEntry:
    """What was found, and what it looked like from outside."""

    stamp: Stamp
    found: OnDisk
    #: whether a later write is sure to change the stamp
    settled: bool
    #: the bytes it is charged for; reckoned here, in the thread, and not by the event loop
    cost: int = attrs.field(init=False)

    @cost.default
    def _reckon(self) -> int:
        names = sum(map(len, self.found.names))
        return OVERHEAD + names + (self.found.size if self.found.state == "file" else 0)


@attrs.frozen
class Look:
    """What a worker thread saw at one path."""

    found: OnDisk
    #: to be kept; None when there is nothing to recognise it by later
    entry: CacheEntry | None = None
    opened: int = 0


@attrs.frozen(kw_only=True)
class Disk:
    """The file system, within limits."""

    #: bytes
    max_file: int
    #: entries of a folder
    max_names: int
    #: the calendar time, by the clock that stamps files
    now: Callable[[], datetime]

    def look(self, path: str, known: Mapping[tuple[int, int], CacheEntry], confinement: Confinement) -> Look:
        """What is at *path*, opened only when it is not *known* (by device and inode) as it is now."""
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
            # The same object: a comparison by identity sees no change.
            return attrs.evolve(look, found=entry.found, entry=attrs.evolve(look.entry, found=entry.found))
        return look

    def _visit(self, path: str, mode: int, within: _Within) -> Look:
        if stat.S_ISDIR(mode):
            return self._list(path)
        if stat.S_ISREG(mode):
            return self._open(path, within)
        # Opening a device may already do something.
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
                # A link was put there after the check.
                return before, _OUTSIDE, False
            if not stat.S_ISREG(before.st_mode):
                return before, OnDisk(state="special", detail="not a regular file"), True
            if before.st_size > self.max_file:
                return before, self._too_large(before.st_size), True
            # The size is no limit: files of /proc say 0 and have text. Being unsteady, they are never kept.
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
    # ctime cannot be set back; on Windows it is the time of creation and no evidence.
    changed = status.st_ctime_ns if os.name == "posix" else status.st_mtime_ns
    tick = _TICK if changed % 1_000_000_000 else _COARSE_TICK
    return CacheEntry(_stamp(status), found, changed / 1e9 < looked_at - tick)


def _read_all(descriptor: int, size: int, limit: int) -> bytes:
    """All there is, probably *size* bytes, but not more than *limit*."""
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
