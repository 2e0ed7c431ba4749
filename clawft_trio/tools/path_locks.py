"""Advisory locks on paths: many readers or one writer, a directory with everything below it.

Who wants paths asks for all of them at once and stands in one queue. A request goes ahead as soon as it conflicts
with no holder and with no earlier request. So no request holds one path while waiting for another (no deadlock), and
none is overtaken by a later request that conflicts with it (no starvation).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeAlias

import attrs
import trio

from clawft_trio.tools.path_keys import PathKey, path_keys

LockMode = Literal["read", "write"]

Want: TypeAlias = tuple[PathKey, LockMode]
"""A path in canonical form, and what for."""


@attrs.frozen(kw_only=True)
class LockStatistics:
    """What the locks are doing."""

    holders: int
    waiters: int
    #: entries in the tree of paths: 0 without holders and waiters
    paths: int


class _Node:
    """A path with holders or waiters, or above one."""

    __slots__ = ("above", "below", "name", "readers", "writers")

    def __init__(self, name: str = "", above: _Node | None = None) -> None:
        self.name = name
        self.above = above
        self.below: dict[str, _Node] = {}
        # Dictionaries for sets that keep their order.
        self.readers: dict[LockRequest, None] = {}
        self.writers: dict[LockRequest, None] = {}

    def newest(self, mode: LockMode) -> dict[LockRequest, None]:
        """Who is in the way here of one who comes now."""
        return _newest(self.writers, self.readers if mode == "write" else {})

    def prune(self) -> None:
        """Remove this entry from the tree if it is unused, and those above it likewise."""
        node = self
        while node.above is not None and not (node.below or node.readers or node.writers):
            node.above.below.pop(node.name, None)
            node = node.above


class LockRequest:
    """A place in the queue, and then a set of held paths, until `release()`."""

    __slots__ = ("_ahead_of", "_behind", "_entries", "_granted", "_locks", "_released", "alone", "number", "wants")

    def __init__(self, locks: PathLocks, wants: Sequence[Want], number: int, *, alone: bool) -> None:
        self.wants: tuple[Want, ...] = tuple(wants)
        #: its place in the order of all that ever came
        self.number: int = number
        #: conflicts with every request
        self.alone: bool = alone
        self._locks = locks
        # The nodes of the tree, and the set in each, that this request is entered in.
        self._entries: list[tuple[_Node, dict[LockRequest, None]]] = []
        # Who is in the way, and whom this one is in the way of: not all of them, but enough that the others are in
        # the way of these. A thousand writers of one path are a chain, and not half a million pairs. None where there
        # is no conflict: most requests have none, and ten thousand of them would keep the garbage collector busy.
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
        """Whether all its paths are held, or were until it was released."""
        return not self._behind

    async def wait_granted(self) -> None:
        """Wait until all paths are held. Returns at once, without a checkpoint, when they are.

        Cancellation: the request keeps its place in the queue until it is released.
        """
        if not self.granted:
            self._granted = self._granted or trio.Event()
            await self._granted.wait()

    def release(self) -> None:
        """Give everything back, or leave the queue. A second time does nothing."""
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
        """A blocking request was released: this request now waits for what that one was waiting for."""
        assert self._behind is not None
        del self._behind[gone]
        self._stand_behind(one for one in gone._behind or () if self._conflicts_with(one))
        if not self._behind and self._granted is not None:
            self._granted.set()

    def _conflicts_with(self, other: LockRequest) -> bool:
        return self.alone or other.alone or wants_conflict(self.wants, other.wants)


def wants_conflict(first: Sequence[Want], second: Sequence[Want]) -> bool:
    """Whether one of the two changes a path that is, or contains, or lies below, a path of the other."""
    return any(
        "write" in (mode, other_mode) and (key[: len(other_key)] == other_key or other_key[: len(key)] == key)
        for key, mode in first
        for other_key, other_mode in second
    )


_PATH_THREADS = 8
"""Threads that resolve paths at once, for all turns. Resolving takes microseconds, except on a mount that hangs."""


class PathLocks:
    """Read and write locks on paths, fair and free of deadlock.

    Advisory: only tasks that request locks are bound by them. Not re-entrant: a task that requests a path that it holds
    waits for itself, until its deadline.
    """

    def __init__(self) -> None:
        #: for resolving paths: work that may hang on a dead mount, and must not take the threads of tools
        self.threads: trio.CapacityLimiter = trio.CapacityLimiter(_PATH_THREADS)
        self._root = _Node()
        self._number = 0
        # In the order of their coming.
        self._requests: dict[LockRequest, None] = {}
        # Those of them that conflict with every request.
        self._alone: dict[LockRequest, None] = {}

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<PathLocks: {now.holders} holding, {now.waiters} waiting>"

    def hold(self, paths: Iterable[tuple[str | Path, LockMode]], *, root: str | Path | None = None) -> HeldLock:
        """Hold all of *paths* for the length of an `async with` block, once no other request conflicts.

        Args:
          paths: each with what for. They need not exist. Relative ones start from *root*.
          root: the current directory by default.

        Raises:
          ValueError: on entry: something is no path (NUL).

        Cancellation: while waiting the queue is left; nothing is held.
        """
        return HeldLock(self, paths, root)

    def request(self, wants: Sequence[Want] = (), *, alone: bool = False) -> LockRequest:
        """Stand in the queue for canonical paths. Never blocks; the caller releases the request.

        Args:
          wants: none is possible, and conflicts only with who wants to be alone.
          alone: conflicts with every request.
        """
        self._number += 1
        request = LockRequest(self, wants, self._number, alone=alone)
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
        """What is going on now."""
        holders = sum(one.granted for one in self._requests)
        return LockStatistics(
            holders=holders, waiters=len(self._requests) - holders, paths=sum(1 for _ in _walk(self._root)) - 1
        )

    def _find_in_the_way(self, key: PathKey, mode: LockMode, found: dict[LockRequest, None]) -> None:
        """Add to *found* who holds or waits for the path, something above it or something below it."""
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
    """The newest of those who conflict with each other, and of the others those who came after it.

    An earlier request blocks it already, and need not be waited for separately.
    """
    last = next(reversed(strict), None)
    found = {} if last is None else {last: None}
    for one in reversed(others):
        if last is not None and one.number <= last.number:
            break
        found[one] = None
    return found


def _walk(node: _Node) -> Iterator[_Node]:
    """*node* and all below it."""
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
    """An `async with` block during which paths are held. Its value is the seconds that it waited."""

    __slots__ = ("_locks", "_paths", "_request", "_root")

    def __init__(self, locks: PathLocks, paths: Iterable[tuple[str | Path, LockMode]], root: str | Path | None) -> None:
        self._locks = locks
        self._paths = list(paths)
        self._root = root
        self._request: LockRequest | None = None

    async def __aenter__(self) -> float:
        """Wait for all paths.

        Cancellation: the queue is left; nothing is held.
        """
        keys = await trio.to_thread.run_sync(
            path_keys, [path for path, _ in self._paths], self._root, limiter=self._locks.threads
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
        """Give everything back. Does not block and, because leaving must not fail, does not checkpoint."""
        assert self._request is not None
        self._request.release()
