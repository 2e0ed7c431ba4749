"""Advisory locks on paths: many readers or one writer, a directory with everything below it.

A task requests all its paths at once and enters one queue. A request is granted as soon as it conflicts with no holder
and no earlier request. So no request holds one path while it waits for another (no deadlock), and no later request
that conflicts with it overtakes it (no starvation).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeAlias

import attrs
import trio

from clawft_trio.tools.path_keys import PathKey, path_keys

LockMode = Literal["read", "write"]

Want: TypeAlias = tuple[PathKey, LockMode]
"""A canonical path and its lock mode."""


@attrs.frozen(kw_only=True)
class LockStatistics:
    """The state of `PathLocks`."""

    holders: int
    waiters: int
    #: number of entries in the tree of paths: 0 without holders and waiters
    paths: int


class _Node:
    """A path with holders or waiters, or a parent of one."""

    __slots__ = ("above", "below", "name", "readers", "writers")

    def __init__(self, name: str = "", above: _Node | None = None) -> None:
        self.name = name
        self.above = above
        self.below: dict[str, _Node] = {}
        # Dictionaries serve as ordered sets.
        self.readers: dict[LockRequest, None] = {}
        self.writers: dict[LockRequest, None] = {}

    def newest(self, mode: LockMode) -> dict[LockRequest, None]:
        """Return the newest requests here that block a new request of *mode*."""
        return _newest(self.writers, self.readers if mode == "write" else {})

    def prune(self) -> None:
        """Remove this entry from the tree if it is unused, and then its unused parents."""
        node = self
        while node.above is not None and not (node.below or node.readers or node.writers):
            node.above.below.pop(node.name, None)
            node = node.above


class LockRequest:
    """A request in the queue, and then a set of held paths, until `release()`."""

    __slots__ = ("_ahead_of", "_behind", "_entries", "_granted", "_locks", "_released", "alone", "number", "wants")

    def __init__(self, locks: PathLocks, wants: Sequence[Want], number: int, *, alone: bool) -> None:
        self.wants: tuple[Want, ...] = tuple(wants)
        #: its number in the order of all requests
        self.number: int = number
        #: conflicts with every request
        self.alone: bool = alone
        self._locks = locks
        # The entries of this request: nodes of the tree, and the set in each that contains it.
        self._entries: list[tuple[_Node, dict[LockRequest, None]]] = []
        # The requests that block this one, and those that it blocks: not all, only the newest, because they in turn
        # wait for the older ones. A thousand writers of one path are a chain, and not half a million pairs. None
        # without a conflict: most requests have none, and ten thousand empty dictionaries load the garbage collector.
        self._behind: dict[LockRequest, None] | None = None
        self._ahead_of: dict[LockRequest, None] | None = None
        self._granted: trio.Event | None = None
        self._released = False

    def __repr__(self) -> str:
        state = "released" if self._released else "held" if self.granted else "waiting"
        wanted = ", ".join(f"{mode} {'/'.join(key) or '/'}" for key, mode in self.wants)
        return f"<LockRequest {state}: {wanted}>"

    @property
    def granted(self) -> bool:
        """Whether all paths are held, or were until the release."""
        return not self._behind

    async def wait_granted(self) -> None:
        """Wait until all paths are held. Returns at once, without a checkpoint, if they are.

        Cancellation: the request stays in the queue until it is released.
        """
        if not self.granted:
            self._granted = self._granted or trio.Event()
            await self._granted.wait()

    def release(self) -> None:
        """Release all paths, or leave the queue. A second call does nothing."""
        if not self._released:
            self._released = True
            del self._locks._requests[self]
            self._locks._alone.pop(self, None)
            for node, members in self._entries:
                members.pop(self, None)
                node.prune()
            self._entries.clear()
            for earlier in self._behind or ():
                assert earlier._ahead_of is not None
                del earlier._ahead_of[self]
            for later in self._ahead_of or ():
                later._close_up(self)
            self._ahead_of = None

    def _stand_behind(self, earlier: Iterable[LockRequest]) -> None:
        for one in earlier:
            self._behind = self._behind or {}
            self._behind[one] = None
            one._ahead_of = one._ahead_of or {}
            one._ahead_of[self] = None

    def _close_up(self, gone: LockRequest) -> None:
        """Replace *gone*, a blocking request that was released, by the requests that blocked it."""
        assert self._behind is not None
        del self._behind[gone]
        self._stand_behind(one for one in gone._behind or () if self._conflicts_with(one))
        if not self._behind and self._granted is not None:
            self._granted.set()

    def _conflicts_with(self, other: LockRequest) -> bool:
        return self.alone or other.alone or wants_conflict(self.wants, other.wants)


def wants_conflict(first: Sequence[Want], second: Sequence[Want]) -> bool:
    """Whether one of the two writes a path that equals, contains or lies below a path of the other."""
    return any(
        "write" in (mode, other_mode) and (key[: len(other_key)] == other_key or other_key[: len(key)] == key)
        for key, mode in first
        for other_key, other_mode in second
    )


_PATH_THREADS = 8
"""Threads that resolve paths, for all turns together. Resolving takes microseconds, except on a mount that hangs."""


class PathLocks:
    """Read and write locks on paths: fair, without deadlocks.

    Advisory: they bind only tasks that request locks. Not re-entrant: a task that requests a path that it holds waits
    for itself, until its deadline.
    """

    def __init__(self) -> None:
        #: for resolving paths: this may hang on a dead mount, and must not use up the threads of tools
        self.threads: trio.CapacityLimiter = trio.CapacityLimiter(_PATH_THREADS)
        self._root = _Node()
        self._numbers = itertools.count()
        # In the order of the requests.
        self._requests: dict[LockRequest, None] = {}
        # The subset of requests that conflict with every request.
        self._alone: dict[LockRequest, None] = {}

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<PathLocks: {now.holders} holding, {now.waiters} waiting>"

    def hold(self, paths: Iterable[tuple[str | Path, LockMode]], *, root: str | Path | None = None) -> HeldLock:
        """Hold all of *paths* during an `async with` block, which begins when no other request conflicts.

        Args:
          paths: each with its mode. They need not exist. Relative ones start from *root*.
          root: the current directory by default.

        Raises:
          ValueError: on entry: a path is invalid (NUL).
          OSError: on entry: a path leads through too many links.

        Cancellation: a waiting task leaves the queue; nothing is held.
        """
        return HeldLock(self, paths, root)

    def request(self, wants: Sequence[Want] = (), *, alone: bool = False) -> LockRequest:
        """Enter the queue for canonical paths. Never blocks; the caller releases the request.

        Args:
          wants: paths and modes; without any, it conflicts only with requests that are *alone*.
          alone: the request conflicts with every other one.
        """
        request = LockRequest(self, wants, next(self._numbers), alone=alone)
        in_the_way = _newest(self._alone, self._requests if alone else {})
        for key, mode in wants:
            self._find_in_the_way(key, mode, in_the_way)
        request._stand_behind(in_the_way)
        for key, mode in wants:
            node = self._node(key)
            members = node.readers if mode == "read" else node.writers
            members[request] = None
            request._entries.append((node, members))
        if alone:
            self._alone[request] = None
        self._requests[request] = None
        return request

    def statistics(self) -> LockStatistics:
        """Return the current counts."""
        holders = sum(one.granted for one in self._requests)
        return LockStatistics(
            holders=holders, waiters=len(self._requests) - holders, paths=sum(1 for _ in _walk(self._root)) - 1
        )

    def _find_in_the_way(self, key: PathKey, mode: LockMode, found: dict[LockRequest, None]) -> None:
        """Add to *found* the newest requests for the path, its parents and its contents that conflict."""
        node = self._root
        for name in key:
            found |= node.newest(mode)
            if name not in node.below:
                return
            node = node.below[name]
        for inner in _walk(node):
            found |= inner.newest(mode)

    def _node(self, key: PathKey) -> _Node:
        node = self._root
        for name in key:
            if name not in node.below:
                node.below[name] = _Node(name, node)
            node = node.below[name]
        return node


def _newest(strict: dict[LockRequest, None], others: dict[LockRequest, None]) -> dict[LockRequest, None]:
    """Return the newest of *strict*, which conflict with each other, and those of *others* that came after it.

    That newest one already waits for the earlier requests, so a new request need not wait for them separately.
    """
    last = next(reversed(strict), None)
    found = {} if last is None else {last: None}
    for one in reversed(others):
        if last is not None and one.number <= last.number:
            break
        found[one] = None
    return found


def _walk(node: _Node) -> Iterator[_Node]:
    """Yield *node* and all nodes below it."""
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(node.below.values())


async def _wait(request: LockRequest) -> float:
    began = trio.current_time()
    try:
        await request.wait_granted()
    except BaseException:
        request.release()
        raise
    return trio.current_time() - began


class HeldLock:
    """An `async with` block that holds paths. Its value is the seconds that it waited."""

    __slots__ = ("_locks", "_paths", "_request", "_root")

    def __init__(self, locks: PathLocks, paths: Iterable[tuple[str | Path, LockMode]], root: str | Path | None) -> None:
        self._locks = locks
        self._paths = list(paths)
        self._root = root
        self._request: LockRequest | None = None

    async def __aenter__(self) -> float:
        """Wait for all paths.

        Cancellation: the task leaves the queue; nothing is held.
        """
        # Abandoned on cancellation, because a path on a mount that hangs would block the thread endlessly.
        paths = [path for path, _ in self._paths]
        keys = await trio.to_thread.run_sync(
            path_keys, paths, self._root, abandon_on_cancel=True, limiter=self._locks.threads
        )
        request = self._locks.request([(key, mode) for key, (_, mode) in zip(keys, self._paths, strict=True)])
        waited = 0.0
        if not request.granted:
            waited = await _wait(request)
        self._request = request
        return waited

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release all paths. Does not block and, because leaving must not fail, does not checkpoint."""
        assert self._request is not None
        self._request.release()
