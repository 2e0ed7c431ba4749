"""Reading files without stopping the event loop, and never twice for nothing.

`FileCache` answers "what is at this path?" for files and folders. Every answer is checked against the disk (one
`stat`, in a worker thread, a whole batch in one hop) unless the owner allows a window of freshness; a file is opened
only when it has changed since it was last read.

Whether it has changed is told by its device, inode, size, mtime and ctime. Those stand still when a file is written
twice within one tick of the file system's clock, so what was read that soon after a change is read once more.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Literal, Protocol, TypeAlias

import attrs
import trio

StrPath: TypeAlias = str | os.PathLike[str]

State = Literal["file", "directory", "missing", "too_large", "binary", "unreadable", "special"]
"""`file` and `directory` have content; `binary` is a file that is no UTF-8 text, `special` a pipe, socket or device."""

_TRIES = 3
"""How often a file that changes while it is read is read again; after that the last reading is given, not kept."""

_TICK = 0.05
"""Seconds within which two writes may bear the same time: the kernel's clock ticks every 1 to 10 ms."""

_COARSE_TICK = 2.1
"""The same for file systems that count whole seconds (HFS+, NFSv2) or two (FAT)."""

_OVERHEAD = 512
"""Bytes that an entry costs beside its text, so that the total also limits how many there are."""

_LASTING = frozenset({errno.EACCES, errno.EPERM})
"""Failures to open that stay until the file's ctime moves. Any other (too many open files, I/O) is tried again."""

# A pipe without a writer must not hold the thread, and a terminal must not become ours.
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_CLOEXEC", 0)

_Stamp: TypeAlias = tuple[int, int, int, int, int]


@attrs.frozen(kw_only=True)
class OnDisk:
    """What is at a path. While nothing changes there, reading it again gives the same object."""

    state: State
    #: of a file: its text, without a byte order mark
    text: str = attrs.field(default="", repr=False)
    #: of a folder: the names in it, sorted
    names: tuple[str, ...] = attrs.field(default=(), repr=False)
    #: bytes, as the file system says
    size: int = 0
    #: why there is no content, for people
    detail: str = ""

    @property
    def usable(self) -> bool:
        """Whether it is a file with more than white space in it."""
        return self.state == "file" and not self.text.isspace() and bool(self.text)


@attrs.frozen(kw_only=True)
class CacheStatistics:
    """What a `FileCache` did so far, and what it holds."""

    #: answers that needed no reading
    hits: int
    #: files opened and folders listed
    reads: int
    #: times the file system was asked whether something changed
    stats: int
    #: visits to a worker thread
    hops: int
    #: entries given up to stay within the total
    evictions: int
    entries: int
    #: bytes that the entries are charged for
    held: int


_MISSING = OnDisk(state="missing", detail="not there")


class Reads(Protocol):
    """What `FileCache` and `Snapshot` have in common."""

    async def read_many(self, paths: Sequence[StrPath]) -> tuple[OnDisk, ...]:
        """What is at each of *paths*, in their order; see `FileCache.read_many`."""
        ...


@attrs.frozen
class _Entry:
    stamp: _Stamp
    found: OnDisk
    #: whether a later write is sure to change the stamp
    settled: bool

    @property
    def cost(self) -> int:
        names = sum(map(len, self.found.names))
        return _OVERHEAD + names + (self.found.size if self.found.state == "file" else 0)


@attrs.frozen
class _Look:
    """What a worker thread saw at one path."""

    found: OnDisk
    #: to be kept; None when there is nothing to recognise it by later
    entry: _Entry | None = None
    opened: int = 0


@attrs.define(eq=False)
class _Flight:
    """One visit to a worker thread, for all who ask for its paths before it begins."""

    begun: bool = False
    done: trio.Event = attrs.field(factory=trio.Event)
    #: empty when whoever flew it was cancelled
    found: dict[str, OnDisk] = attrs.field(factory=dict)


class FileCache:
    """A bounded cache of text files and folder listings.

    Args:
      max_file: bytes; a larger file is `too_large` and is not opened.
      max_total: bytes kept in memory; beyond it the least recently used goes first.
      max_names: a folder with more entries is `too_large`.
      fresh_for: seconds during which an answer is given again without asking the file system. 0 never does, so that
        a change is seen by the very next call.
      now: the calendar time in seconds, by the clock that stamps files.
    """

    def __init__(
        self,
        *,
        max_file: int = 1 << 20,
        max_total: int = 64 << 20,
        max_names: int = 10_000,
        fresh_for: float = 0.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._max_file = max_file
        self._max_total = max_total
        self._max_names = max_names
        self._fresh_for = fresh_for
        self._now = now
        # By device and inode: two names of one file are one entry.
        self._entries: OrderedDict[tuple[int, int], _Entry] = OrderedDict()
        self._fresh: OrderedDict[str, tuple[float, OnDisk]] = OrderedDict()
        self._flights: dict[str, _Flight] = {}
        # A thread that hangs on a dead mount keeps its place; a few others go on.
        self._threads = trio.CapacityLimiter(4)
        self._hits = self._reads = self._stats = self._hops = self._evictions = self._held = 0

    def __repr__(self) -> str:
        return f"<FileCache {self.statistics()}>"

    def statistics(self) -> CacheStatistics:
        """Counters since the beginning, and what is held now."""
        return CacheStatistics(
            hits=self._hits,
            reads=self._reads,
            stats=self._stats,
            hops=self._hops,
            evictions=self._evictions,
            entries=len(self._entries),
            held=self._held,
        )

    async def read(self, path: StrPath) -> OnDisk:
        """What is at *path*. Nothing there raises: that, too, is an answer.

        Cancellation: as `read_many`.
        """
        (found,) = await self.read_many([path])
        return found

    async def read_many(self, paths: Sequence[StrPath]) -> tuple[OnDisk, ...]:
        """What is at each of *paths*, in their order, by one visit to a worker thread.

        Who asks while somebody else is about to look at the same path shares that look. A look that had already
        begun is not shared: it may have missed a change that the caller knows of. A relative path is relative to
        the current folder at the time of the call. Symbolic links are followed.

        Cancellation: nothing is lost for others who wait for the same paths; a thread that hangs in the file system
        is left to end by itself.
        """
        names = [os.fspath(path) for path in paths]
        found = self._still_fresh(names)
        wanted = {name: None for name in names if name not in found}
        if wanted:
            found.update(await self._look_at(wanted))
        else:
            await trio.lowlevel.checkpoint()
        return tuple([found[name] for name in names])

    def forget(self, paths: Iterable[StrPath]) -> None:
        """End the freshness of *paths*: the next call asks the file system. For whoever has just written them."""
        for path in paths:
            self._fresh.pop(os.fspath(path), None)

    def _still_fresh(self, names: Iterable[str]) -> dict[str, OnDisk]:
        if not self._fresh_for:
            return {}
        since = trio.current_time() - self._fresh_for
        found = {}
        for name in names:
            at, what = self._fresh.get(name, (-float("inf"), None))
            if what is not None and at > since:
                found[name] = what
        self._hits += len(found)
        return found

    async def _look_at(self, wanted: Iterable[str]) -> dict[str, OnDisk]:
        found: dict[str, OnDisk] = {}
        while left := [name for name in wanted if name not in found]:
            others = {self._flights[name]: None for name in left if name in self._flights}
            shared = [flight for flight in others if not flight.begun]
            mine = [name for name in left if name not in self._flights]
            if mine:
                found.update(await self._fly(mine))
            for flight in others:
                await flight.done.wait()
            for flight in shared:
                taken = {name: flight.found[name] for name in left if name in flight.found}
                self._hits += len(taken)
                found.update(taken)
        return found  # noqa: ASYNC910 every round of the loop waits, and *wanted* is never empty

    async def _fly(self, names: list[str]) -> dict[str, OnDisk]:
        flight = _Flight()
        self._flights.update(dict.fromkeys(names, flight))
        try:
            # Whoever asks in this tick gets on board.
            await trio.lowlevel.checkpoint()
            flight.begun = True
            at = trio.current_time()
            looks = await trio.to_thread.run_sync(
                self._look_in_thread, names, abandon_on_cancel=True, limiter=self._threads
            )
            flight.found = self._land(names, looks, at)
        finally:
            for name in names:
                del self._flights[name]
            flight.done.set()
        return flight.found

    def _land(self, names: list[str], looks: list[_Look], at: float) -> dict[str, OnDisk]:
        self._hops += 1
        self._stats += len(looks)
        for look in looks:
            self._reads += look.opened
            self._hits += not look.opened
            if look.entry is not None:
                self._keep(look.entry)
        found = {name: look.found for name, look in zip(names, looks, strict=True)}
        if self._fresh_for:
            self._note_fresh(found, at)
        return found

    def _keep(self, entry: _Entry) -> None:
        key = entry.stamp[:2]
        old = self._entries.get(key)
        if old is not entry:
            self._held += entry.cost - (old.cost if old is not None else 0)
            self._entries[key] = entry
        self._entries.move_to_end(key)
        while self._held > self._max_total:
            _, gone = self._entries.popitem(last=False)
            self._held -= gone.cost
            self._evictions += 1

    def _note_fresh(self, found: dict[str, OnDisk], at: float) -> None:
        for name, what in found.items():
            self._fresh[name] = (at, what)
            self._fresh.move_to_end(name)
        while len(self._fresh) > self._max_total // _OVERHEAD:
            self._fresh.popitem(last=False)

    # What follows runs in a worker thread. It reads `_entries` and changes nothing.

    def _look_in_thread(self, names: list[str]) -> list[_Look]:
        return [self._look(name) for name in names]

    def _look(self, path: str) -> _Look:
        try:
            status = _status(path)
        except (OSError, ValueError) as exc:
            return _Look(_failed(exc))
        entry = self._entries.get((status.st_dev, status.st_ino))
        if entry is not None and entry.settled and entry.stamp == _stamp(status):
            return _Look(entry.found, entry)
        look = self._visit(path, status.st_mode)
        if entry is not None and look.entry is not None and look.found == entry.found:
            # The same again: whoever compares by identity sees no change.
            return attrs.evolve(look, found=entry.found, entry=attrs.evolve(look.entry, found=entry.found))
        return look

    def _visit(self, path: str, mode: int) -> _Look:
        if stat.S_ISDIR(mode):
            return self._list(path)
        if stat.S_ISREG(mode):
            return self._open(path)
        # Opening a device may already do something.
        return _Look(OnDisk(state="special", detail="not a regular file"))

    def _open(self, path: str) -> _Look:
        status: os.stat_result | None = None
        for tries in range(1, _TRIES + 1):
            looked_at = self._now()
            try:
                status, found, steady = self._read_once(path)
            except (OSError, ValueError) as exc:
                return self._not_opened(path, exc, tries)
            if steady:
                return _Look(found, _entry(status, found, looked_at), tries)
        return _Look(found, None, _TRIES)

    def _read_once(self, path: str) -> tuple[os.stat_result, OnDisk, bool]:
        descriptor = os.open(path, _OPEN_FLAGS)
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                return before, OnDisk(state="special", detail="not a regular file"), True
            if before.st_size > self._max_file:
                detail = f"{before.st_size} bytes are more than {self._max_file}"
                return before, OnDisk(state="too_large", size=before.st_size, detail=detail), True
            data = _read_up_to(descriptor, before.st_size + 1)
            steady = _stamp(os.fstat(descriptor)) == _stamp(before) and len(data) == before.st_size
        finally:
            os.close(descriptor)
        return before, _decoded(data), steady

    def _not_opened(self, path: str, exc: OSError | ValueError, tries: int) -> _Look:
        found = _failed(exc)
        if isinstance(exc, OSError) and exc.errno in _LASTING:
            looked_at = self._now()
            try:
                return _Look(found, _entry(_status(path), found, looked_at), tries)
            except OSError as later:
                return _Look(_failed(later), None, tries)
        return _Look(found, None, tries)

    def _list(self, path: str) -> _Look:
        found = OnDisk(state="missing")
        for tries in range(1, _TRIES + 1):
            looked_at = self._now()
            try:
                before = _status(path)
                with os.scandir(path) as entries:
                    names = sorted(entry.name for entry in islice(entries, self._max_names + 1))
                steady = _stamp(_status(path)) == _stamp(before)
            except (OSError, ValueError) as exc:
                return self._not_opened(path, exc, tries)
            found = self._listed(names)
            if steady:
                return _Look(found, _entry(before, found, looked_at), tries)
        return _Look(found, None, _TRIES)

    def _listed(self, names: list[str]) -> OnDisk:
        if len(names) > self._max_names:
            return OnDisk(state="too_large", detail=f"more than {self._max_names} entries")
        return OnDisk(state="directory", names=tuple(names))


class Snapshot:
    """One look at many paths: each is looked at once, however often it is asked for.

    For work that takes several steps and should need one visit to the disk: `await look(paths)` with all that is
    likely to be needed, and what asks later finds it here.
    """

    def __init__(self, cache: Reads) -> None:
        self._cache = cache
        self._found: dict[str, OnDisk] = {}

    @property
    def paths(self) -> tuple[str, ...]:
        """What was looked at so far."""
        return tuple(self._found)

    @property
    def found(self) -> tuple[OnDisk, ...]:
        """What was there, in the order of `paths`."""
        return tuple(self._found.values())

    async def read_many(self, paths: Sequence[StrPath]) -> tuple[OnDisk, ...]:
        """What is at each of *paths*; only those that are new here are looked up.

        Cancellation: what was found before stays.
        """
        names = [os.fspath(path) for path in paths]
        new = [name for name in names if name not in self._found]
        if new:
            self._found.update(zip(new, await self._cache.read_many(new), strict=True))
        else:
            await trio.lowlevel.checkpoint()
        return tuple([self._found[name] for name in names])


def _status(path: str) -> os.stat_result:
    return os.stat(path)  # noqa: PTH116 making a Path costs more than asking the kernel


def _stamp(status: os.stat_result) -> _Stamp:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _entry(status: os.stat_result, found: OnDisk, looked_at: float) -> _Entry:
    # ctime cannot be set back by anybody; on Windows it is the time of creation and says nothing.
    changed = status.st_ctime_ns if os.name == "posix" else status.st_mtime_ns
    tick = _TICK if changed % 1_000_000_000 else _COARSE_TICK
    return _Entry(_stamp(status), found, changed / 1e9 < looked_at - tick)


def _read_up_to(descriptor: int, limit: int) -> bytes:
    """All there is, but not more than *limit* bytes."""
    chunks = []
    while limit > 0 and (chunk := os.read(descriptor, limit)):
        chunks.append(chunk)
        limit -= len(chunk)
    return b"".join(chunks)


def _decoded(data: bytes) -> OnDisk:
    if b"\0" in data:
        return OnDisk(state="binary", size=len(data), detail=f"a zero byte at {data.index(0)}")
    try:
        return OnDisk(state="file", text=data.decode("utf-8-sig"), size=len(data))
    except UnicodeDecodeError as exc:
        return OnDisk(state="binary", size=len(data), detail=f"not UTF-8 at byte {exc.start}")


def _failed(exc: OSError | ValueError) -> OnDisk:
    if isinstance(exc, FileNotFoundError | NotADirectoryError):
        return _MISSING
    said = (exc.strerror or str(exc)) if isinstance(exc, OSError) else str(exc)
    return OnDisk(state="unreadable", detail=said)
