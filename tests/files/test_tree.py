"""The cache against a model of a tree that changes under it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import trio
from hypothesis import settings, strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from privileges import as_nobody

from clawft_trio.files import FileCache, OnDisk
from clawft_trio.files.cache import utc_now
from clawft_trio.testing.machine import TrioMachine

NAMES = ["a", "b", "c", "d/a", "d/b"]
# Few, and of one size: what differs least is missed most easily.
TEXTS = ["one", "two", "six", "", "x" * 300]
LIMIT = 200

LATER = datetime(9000, 1, 1, tzinfo=UTC)

paths = st.sampled_from(NAMES)
texts = st.sampled_from(TEXTS)


def outcome(found: OnDisk) -> str:
    return found.text if found.state == "file" else f"<{found.state}>"


class Tree(TrioMachine):
    """What each path holds is kept here; the cache has to say the same, at once and every time."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.root.chmod(0o755)
        (self.root / "d").mkdir(mode=0o755)
        self.files: dict[str, str] = {}
        self.locked: set[str] = set()
        self.closed = False

    @initialize(total=st.sampled_from([1 << 20, 1500]), patient=st.booleans())
    def open_cache(self, total: int, patient: bool) -> None:
        # A patient tree lets the clock tick before every change. There the stamps alone tell what has changed, and
        # a cache that thinks everything long past may rely on them; in an impatient one it must not.
        self.patient = patient
        self.cache = FileCache(max_file=LIMIT, max_total=total, now=(lambda: LATER) if patient else utc_now)

    def let_the_clock_tick(self) -> None:
        if not self.patient:
            return
        scratch = self.root / "d" / ".clock"
        scratch.touch()
        before = scratch.stat().st_ctime_ns
        while scratch.stat().st_ctime_ns == before:
            scratch.touch()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Permissions bind whoever runs this, unless that is root: lift them for a moment."""
        if os.geteuid() == 0:
            self.let_the_clock_tick()
            yield
            return
        (self.root / "d").chmod(0o755)
        for name in self.locked:
            (self.root / name).chmod(0o644)
        self.let_the_clock_tick()
        yield
        for name in self.locked:
            (self.root / name).chmod(0)
        (self.root / "d").chmod(0 if self.closed else 0o755)

    def expected(self, name: str) -> str:
        if self.closed and name.startswith("d/"):
            return "<unreadable>"
        if name not in self.files:
            return "<missing>"
        if name in self.locked:
            return "<unreadable>"
        return self.files[name] if len(self.files[name]) <= LIMIT else "<too_large>"

    def listed(self) -> tuple[str, ...]:
        return tuple(sorted({name.partition("/")[0] for name in self.files} | {"d"}))

    @rule(name=paths, text=texts)
    def write_in_place(self, name: str, text: str) -> None:
        with self.changing():
            (self.root / name).write_text(text)
            self.files[name] = text

    @rule(name=paths, text=texts)
    def write_keeping_the_time(self, name: str, text: str) -> None:
        with self.changing():
            path = self.root / name
            path.write_text(text)
            os.utime(path, ns=(10**18, 10**18))
            self.files[name] = text

    @rule(name=paths, text=texts)
    def replace(self, name: str, text: str) -> None:
        with self.changing():
            other = self.root / ".new"
            other.write_text(text)
            other.replace(self.root / name)
            self.files[name] = text
            self.locked.discard(name)

    @rule(name=paths)
    def delete(self, name: str) -> None:
        with self.changing():
            (self.root / name).unlink(missing_ok=True)
            self.files.pop(name, None)
            self.locked.discard(name)

    @rule(old=paths, new=paths)
    def rename(self, old: str, new: str) -> None:
        with self.changing():
            if old in self.files and old != new:
                (self.root / old).replace(self.root / new)
                self.files[new] = self.files.pop(old)
                self.locked.discard(new)
                if old in self.locked:
                    self.locked.remove(old)
                    self.locked.add(new)

    @rule(name=paths)
    def lock_or_unlock(self, name: str) -> None:
        with self.changing():
            if name in self.files:
                locked = name in self.locked
                (self.root / name).chmod(0o644 if locked else 0)
                self.locked ^= {name}

    @rule()
    def close_or_open_the_folder(self) -> None:
        with self.changing():
            (self.root / "d").chmod(0o755 if self.closed else 0)
            self.closed = not self.closed

    @rule(names=st.lists(paths, min_size=1, max_size=8), readers=st.integers(2, 4))
    def read_together(self, names: list[str], readers: int) -> None:
        self.read(names, readers)

    def read(self, names: list[str], readers: int) -> None:
        seen: list[list[str]] = []

        async def one() -> None:
            found = await self.cache.read_many([self.root / name for name in names])
            seen.append([outcome(what) for what in found])

        async def all_at_once() -> None:
            async with trio.open_nursery() as nursery:
                for _ in range(readers):
                    nursery.start_soon(one)

        with as_nobody():
            self.run(all_at_once)
        assert seen == [[self.expected(name) for name in names]] * readers

    @rule()
    def list_the_folder(self) -> None:
        assert self.run(self.cache.read, self.root).names == self.listed()

    @precondition(lambda self: not (self.closed or self.patient))
    @rule(name=paths, versions=st.lists(st.sampled_from(TEXTS[:3]), min_size=1, max_size=5))
    def read_while_it_is_replaced(self, name: str, versions: list[str]) -> None:
        path, other = self.root / name, self.root / ".new"
        before = self.expected(name)
        seen: list[str] = []

        def write() -> None:
            for text in versions:
                other.write_text(text)
                other.replace(path)

        async def look(done: trio.Event) -> None:
            while not done.is_set():
                seen.append(outcome(await self.cache.read(path)))

        async def both() -> None:
            done = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(look, done)
                nursery.start_soon(look, done)
                await trio.to_thread.run_sync(write)
                done.set()
            assert outcome(await self.cache.read(path)) == versions[-1]

        if name not in self.locked:
            self.run(both)
            self.files[name] = versions[-1]
            assert set(seen) <= {before, *versions}

    @invariant()
    def every_file_is_as_it_is(self) -> None:
        if hasattr(self, "cache"):
            self.read(NAMES, 1)

    @invariant()
    def the_room_is_kept(self) -> None:
        if hasattr(self, "cache"):
            held = self.cache.statistics()
            assert held.held <= self.cache._max_total
            assert held.held == sum(entry.cost for entry in self.cache._entries.values())
            assert not self.cache._flights

    def teardown(self) -> None:
        (self.root / "d").chmod(0o755)
        shutil.rmtree(self.root)
        super().teardown()


TestTree = Tree.TestCase
TestTree.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
