"""The cache of files: entries are kept until the file system reports a change."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Protocol, TypeAlias

import attrs
import trio

from clawft_trio.files.confinement import Confinement
from clawft_trio.files.disk import OVERHEAD, CacheEntry, Disk, Look, OnDisk

StrPath: TypeAlias = str | os.PathLike[str]


def utc_now() -> datetime:
    """Return the calendar time in UTC."""
    return datetime.now(UTC)


@attrs.frozen(kw_only=True)
class CacheStatistics:
    """Counters of a `FileCache` and its current contents."""

    #: results that needed no reading
    hits: int
    #: files opened and folders listed
    reads: int
    #: checks of the file system for a change
    stats: int
    #: calls in a worker thread
    hops: int
    #: entries removed to stay within `max_total`
    evictions: int
    #: number of entries
    entries: int
    #: bytes that the entries count for
    held: int


class Reads(Protocol):
    """The method that `FileCache` and `Snapshot` share."""

    async def read_many(self, paths: Sequence[StrPath]) -> tuple[OnDisk, ...]:
        """Return what is at each of *paths*, in their order; see `FileCache.read_many`.

        Cancellation: as there.
        """
        ...


@attrs.define(eq=False)
class _Flight:
    """One call in a worker thread, for all tasks that ask for its paths before it begins."""

    begun: bool = False
    done: trio.Event = attrs.field(factory=trio.Event)
    #: empty when the task that read it was cancelled
    found: dict[str, OnDisk] = attrs.field(factory=dict)
    #: names forgotten meanwhile: what was read of them may be from before the change
    forgotten: set[str] = attrs.field(factory=set)


class FileCache:
    """A bounded cache of text files and folder listings.

    Args:
      max_file: bytes; a larger file is `too_large` and is not opened.
      max_total: bytes kept in memory; beyond it the least recently used entry is removed.
      max_names: a folder with more entries is `too_large`.
      fresh_for: seconds during which a result is reused without a check of the file system. With 0 every call checks,
        so that the next call sees a change.
      now: returns the calendar time, by the clock that sets the times of files.
    """

    def __init__(
        self,
        *,
        max_file: int = 1 << 20,
        max_total: int = 64 << 20,
        max_names: int = 10_000,
        fresh_for: float = 0.0,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._disk = Disk(max_file=max_file, max_names=max_names, now=now)
        self._max_total = max_total
        self._fresh_for = fresh_for
        # By device and inode: two names of one file have one entry.
        self._entries: OrderedDict[tuple[int, int], CacheEntry] = OrderedDict()
        self._fresh: OrderedDict[str, tuple[float, OnDisk]] = OrderedDict()
        self._confined: tuple[str, ...] = ()
        self._flights: dict[str, _Flight] = {}
        # A thread that hangs on a dead mount keeps its slot; the others stay usable.
        self._threads = trio.CapacityLimiter(4)
        self._hits = self._reads = self._stats = self._hops = self._evictions = self._held = 0

    def __repr__(self) -> str:
        return f"<FileCache {self.statistics()}>"

    def statistics(self) -> CacheStatistics:
        """Return the counters and the current contents."""
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
        """Return what is at *path*. A missing file raises nothing: `missing` is a result, too.

        Cancellation: as for `read_many`.
        """
        (found,) = await self.read_many([path])
        return found

    async def read_many(self, paths: Sequence[StrPath]) -> tuple[OnDisk, ...]:
        """Return what is at each of *paths*, in their order, by one call in a worker thread.

        A call shares the read of another call that is about to read the same path. A read that has already begun is
        not shared: it may have missed a change that the caller knows of. A relative path is relative to the current
        folder at the time of the call. Symbolic links are followed.

        Cancellation: other tasks that wait for the same paths lose nothing; a thread that hangs in the file system
        is abandoned.
        """
        names = [os.fspath(path) for path in paths]
        found = self._still_fresh(names)
        wanted = [name for name in dict.fromkeys(names) if name not in found]
        if wanted:
            found.update(await self._look_at(wanted))
        else:
            await trio.lowlevel.checkpoint()
        return tuple([found[name] for name in names])

    def confine(self, folder: StrPath) -> None:
        """Stop following links out of *folder*: a path below it that leads elsewhere is `unreadable` from now on.

        For a folder to which others than the operator write. *folder* itself may be a link. It cannot be undone.
        """
        absolute = os.path.abspath(folder)
        if absolute not in self._confined:
            self._confined = (*self._confined, absolute)
            self._fresh.clear()

    def forget(self, paths: Iterable[StrPath]) -> None:
        """End the freshness of *paths*: the next call checks the file system. Call it after writing to them."""
        for name in [os.fspath(path) for path in paths]:
            self._fresh.pop(name, None)
            if name in self._flights:
                self._flights[name].forgotten.add(name)

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

    async def _look_at(self, wanted: Sequence[str]) -> dict[str, OnDisk]:
        found = await self._look_once(wanted)
        while left := [name for name in wanted if name not in found]:
            found.update(await self._look_once(left))
        return found

    async def _look_once(self, wanted: Sequence[str]) -> dict[str, OnDisk]:
        """Read paths that no other task reads, and wait for the others; some of *wanted* may be missing afterwards."""
        others = {self._flights[name]: None for name in wanted if name in self._flights}
        shared = [flight for flight in others if not flight.begun]
        found = await self._fly([name for name in wanted if name not in self._flights])
        for flight in others:
            await flight.done.wait()
        for flight in shared:
            taken = {name: flight.found[name] for name in wanted if name in flight.found}
            self._hits += len(taken)
            found.update(taken)
        return found

    async def _fly(self, names: list[str]) -> dict[str, OnDisk]:
        flight = _Flight()
        self._flights.update(dict.fromkeys(names, flight))
        try:
            # Callers of the same scheduler tick share the read.
            await trio.lowlevel.checkpoint()
            flight.begun = True
            if names:
                at = trio.current_time()
                flight.found = await self._visit(names)
                self._note_fresh(flight, at)
        finally:
            for name in names:
                del self._flights[name]
            flight.done.set()
        return dict(flight.found)

    async def _visit(self, names: list[str]) -> dict[str, OnDisk]:
        looks = await trio.to_thread.run_sync(
            self._look_in_thread, names, abandon_on_cancel=True, limiter=self._threads
        )
        self._hops += 1
        self._stats += len(looks)
        for look in looks:
            self._reads += look.opened
            self._hits += not look.opened
            if look.entry is not None:
                self._keep(look.entry)
        return {name: look.found for name, look in zip(names, looks, strict=True)}

    def _keep(self, entry: CacheEntry) -> None:
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

    def _note_fresh(self, flight: _Flight, at: float) -> None:
        if not self._fresh_for:
            return
        for name, what in flight.found.items():
            if name not in flight.forgotten:
                self._fresh[name] = (at, what)
                self._fresh.move_to_end(name)
        while len(self._fresh) > self._max_total // OVERHEAD:
            self._fresh.popitem(last=False)

    def _look_in_thread(self, names: list[str]) -> list[Look]:
        # Only reads `_entries`: the event loop changes it afterwards.
        confinement = Confinement(self._confined)
        return [self._disk.look(name, self._entries, confinement) for name in names]


class Snapshot:
    """A view of many paths that reads each path only once.

    For work of several steps that should need one call in a worker thread: `await read_many(paths)` with all paths that
    are likely to be needed; later calls use the results.
    """

    def __init__(self, cache: Reads) -> None:
        self._cache = cache
        self._found: dict[str, OnDisk] = {}

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths that were read so far."""
        return tuple(self._found)

    @property
    def found(self) -> tuple[OnDisk, ...]:
        """The results, in the order of `paths`."""
        return tuple(self._found.values())

    async def read_many(self, paths: Sequence[StrPath]) -> tuple[OnDisk, ...]:
        """Return what is at each of *paths*; only new paths are read.

        Cancellation: earlier results are kept.
        """
        names = [os.fspath(path) for path in paths]
        new = [name for name in names if name not in self._found]
        if new:
            self._found.update(zip(new, await self._cache.read_many(new), strict=True))
        else:
            await trio.lowlevel.checkpoint()
        return tuple([self._found[name] for name in names])
