from __future__ import annotations

import os
import sys
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
import trio.testing
from privileges import as_nobody

from clawft_trio.files import FileCache, Snapshot
from clawft_trio.testing.sweep import cancel_everywhere

LATER = datetime(9000, 1, 1, tzinfo=UTC)
"""A clock by which every change is long ago."""


def settled(**options) -> FileCache:
    """A cache that need not read again what was written a moment ago."""
    return FileCache(now=lambda: LATER, **options)


class Gate:
    """A clock that holds whoever asks for the time, in the worker thread, until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()
        self.times = 0
        self.released = False

    def __call__(self) -> datetime:
        self.times += 1
        if self.times == 1:
            self.reached.set()
            opened = self.open.wait(20)
            self.released = True
            assert opened
        return LATER

    async def wait_reached(self) -> None:
        assert await trio.to_thread.run_sync(self.reached.wait, 20)


async def test_a_second_call_asks_and_does_not_read(tmp_path):
    (tmp_path / "a").write_text("one")
    cache = settled()
    first = await cache.read(tmp_path / "a")
    second = await cache.read(tmp_path / "a")
    assert first.text == "one" and second is first
    assert cache.statistics().reads == 1 and cache.statistics().hits == 1
    assert cache.statistics().stats == cache.statistics().hops == 2


async def test_many_files_are_one_visit_to_a_thread(tmp_path):
    for number in range(30):
        (tmp_path / str(number)).write_text(f"text {number}")
    cache = settled()
    found = await cache.read_many([tmp_path / str(number) for number in range(30)])
    assert [what.text for what in found] == [f"text {number}" for number in range(30)]
    assert cache.statistics().hops == 1


async def test_a_change_is_seen_by_the_next_call(tmp_path):
    cache = settled()
    path = tmp_path / "a"
    for text in ("one", "two", "twenty", "", "two"):
        path.write_text(text)
        assert (await cache.read(path)).text == text


async def test_a_change_of_the_same_size_and_mtime_is_seen(tmp_path):
    path = tmp_path / "a"
    path.write_text("one")
    os.utime(path, ns=(10**18, 10**18))
    cache = FileCache()
    assert (await cache.read(path)).text == "one"
    path.write_text("two")
    os.utime(path, ns=(10**18, 10**18))
    assert (await cache.read(path)).text == "two"


async def test_rewriting_within_one_tick_of_the_clock_is_seen(tmp_path):
    path = tmp_path / "a"
    cache = FileCache()
    for number in range(100, 400):
        # In place and of one size: inode, size and often every time stay the same.
        path.write_text(str(number))
        assert (await cache.read(path)).text == str(number)


@pytest.mark.parametrize(("age", "reads"), [(0.001, 2), (0.04, 2), (0.5, 1)])
async def test_what_was_read_soon_after_a_change_is_read_once_more(tmp_path, age, reads):
    path = tmp_path / "a"
    path.write_text("one")
    changed = path.stat().st_ctime_ns
    assert changed % 1_000_000_000
    times = iter([datetime.fromtimestamp(changed / 1e9 + age, UTC), LATER])
    cache = FileCache(now=lambda: next(times))
    first = await cache.read(path)
    for _ in range(3):
        # The very object, so that whoever compares sees no change.
        assert await cache.read(path) is first
    assert cache.statistics().reads == reads


async def test_replacing_by_a_rename_is_seen(tmp_path):
    path, other = tmp_path / "a", tmp_path / "b"
    cache = settled()
    path.write_text("one")
    other.write_text("two")
    for file in (path, other):
        os.utime(file, ns=(10**18, 10**18))
    assert [what.text for what in await cache.read_many([path, other])] == ["one", "two"]
    other.rename(path)
    assert [(what.state, what.text) for what in await cache.read_many([path, other])] == [
        ("file", "two"),
        ("missing", ""),
    ]


async def test_two_names_of_one_file_are_read_once(tmp_path):
    (tmp_path / "a").write_text("one")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "c").hardlink_to(tmp_path / "a")
    cache = settled()
    first, second = await cache.read_many([tmp_path / "a", tmp_path / "b"])
    assert first.text == second.text == "one"
    found = await cache.read_many([tmp_path / name for name in "abc"])
    assert len({id(what) for what in found}) == 1
    assert cache.statistics().entries == 1


async def test_a_folder_is_its_sorted_names(tmp_path):
    cache = settled()
    for name in ("b", "a", "c"):
        (tmp_path / name).write_text("")
    assert (await cache.read(tmp_path)).names == ("a", "b", "c")
    assert (await cache.read(tmp_path)).state == "directory"
    assert cache.statistics().reads == 1
    (tmp_path / "b").rename(tmp_path / "d")
    assert (await cache.read(tmp_path)).names == ("a", "c", "d")


async def test_a_folder_with_too_many_entries_is_too_large(tmp_path):
    for name in "abc":
        (tmp_path / name).write_text("")
    found = await settled(max_names=2).read(tmp_path)
    assert found.state == "too_large" and found.names == () and "2" in found.detail


def make_fifo(path):
    os.mkfifo(path)


ODDITIES = {
    "missing": (lambda path: None, "missing"),
    "empty": (lambda path: path.write_bytes(b""), "file"),
    "too large": (lambda path: path.write_bytes(b"x" * 1001), "too_large"),
    "a zero byte": (lambda path: path.write_bytes(b"a\0b"), "binary"),
    "not UTF-8": (lambda path: path.write_bytes(b"a\xff"), "binary"),
    "a pipe": (make_fifo, "special"),
    "a symlink to itself": (lambda path: path.symlink_to(path), "unreadable"),
    "a dangling symlink": (lambda path: path.symlink_to("nowhere"), "missing"),
}


@pytest.mark.parametrize("kind", ODDITIES)
async def test_nothing_there_raises(tmp_path, kind):
    make, state = ODDITIES[kind]
    path = tmp_path / "it"
    make(path)
    cache = settled(max_file=1000)
    found = await cache.read(path)
    assert found.state == state and not found.usable
    assert bool(found.detail) == (state != "file")
    reads = cache.statistics().reads
    # The bad news is remembered, too.
    assert await cache.read(path) == found and cache.statistics().reads == reads


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "a/" * 3000, "\udcff", ""])
async def test_a_path_that_is_none_is_an_answer(path):
    found = await FileCache().read(path)
    assert found.state in {"unreadable", "missing"} and found.detail


async def test_a_path_below_a_file_is_missing(tmp_path):
    (tmp_path / "a").write_text("")
    assert (await FileCache().read(tmp_path / "a" / "b")).state == "missing"


async def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfone")
    assert (await FileCache().read(tmp_path / "a")).text == "one"


@pytest.fixture
def open_folder():
    """A folder that others reach, too; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def test_no_permission_is_remembered_until_it_is_given(open_folder):
    path = open_folder / "a"
    path.write_text("secret")
    path.chmod(0)
    cache = settled()
    with as_nobody():
        found = await cache.read(path)
        assert found.state == "unreadable" and "ermission" in found.detail
        assert await cache.read(path) is found and cache.statistics().reads == 1
    path.chmod(0o644)
    with as_nobody():
        assert (await cache.read(path)).text == "secret"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
async def test_a_file_that_is_not_what_it_says_is_never_kept():
    cache = settled()
    found = await cache.read("/proc/self/status")
    assert found.state == "file" and "Name:" in found.text and "VmRSS" in found.text
    assert cache.statistics().entries == 0
    assert (await cache.read("/proc/self/status")).state == "file"
    assert cache.statistics().hits == 0


async def test_who_asks_at_the_same_time_shares_one_look(tmp_path):
    path = tmp_path / "a"
    path.write_text("one")
    cache = settled()
    found = []

    async def ask():
        found.append(await cache.read(path))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(ask)
    assert len(found) == 50 and len({id(what) for what in found}) == 1
    assert cache.statistics().reads == cache.statistics().hops == 1
    assert cache.statistics().hits == 49


async def test_a_look_that_had_begun_is_not_shared(tmp_path):
    path = tmp_path / "a"
    path.write_text("one")
    gate = Gate()
    cache = FileCache(now=gate)
    found = {}

    async def ask(who):
        found[who] = (await cache.read(path)).text

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, "first")
        await gate.wait_reached()
        for who in range(20):
            nursery.start_soon(ask, who)
        await trio.testing.wait_all_tasks_blocked()
        gate.open.set()
    assert set(found.values()) == {"one"} and len(found) == 21
    # The twenty share one look of their own, which finds the file unchanged.
    assert cache.statistics().hops == 2 and cache.statistics().reads == 1


async def test_cancelling_who_looks_does_not_cancel_who_shares(tmp_path):
    path = tmp_path / "a"
    path.write_text("one")
    gate = Gate()
    cache = FileCache(now=gate)
    found = []

    async def look(scope):
        with scope:
            found.append(await cache.read(path))

    async def share():
        found.append(await cache.read(path))

    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look, scope)
        for _ in range(3):
            nursery.start_soon(share)
        await gate.wait_reached()
        scope.cancel(reason="the leader leaves")
        await trio.testing.wait_all_tasks_blocked()
        gate.open.set()
    assert len(found) in (3, 4) and {what.text for what in found} == {"one"}


async def test_a_thread_that_hangs_does_not_hold_its_caller(tmp_path):
    path = tmp_path / "a"
    path.write_text("one")
    gate = Gate()
    cache = FileCache(now=gate)

    async def look():
        with scope:
            await cache.read(path)

    scope = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await gate.wait_reached()
        scope.cancel(reason="it takes too long")
    assert scope.cancelled_caught and not gate.open.is_set()
    assert (await cache.read(path)).text == "one"
    # The thread that hangs has not ended: its slot is not needed for the other paths.
    assert not gate.released
    gate.open.set()


async def test_the_least_recently_used_goes_first(tmp_path):
    for name in "abc":
        (tmp_path / name).write_text("x" * 1000)
    cache = settled(max_total=3200)
    await cache.read_many([tmp_path / "a", tmp_path / "b"])
    await cache.read(tmp_path / "a")
    await cache.read(tmp_path / "c")
    before = cache.statistics()
    assert (before.entries, before.evictions) == (2, 1) and before.held <= 3200
    await cache.read(tmp_path / "a")
    assert cache.statistics().reads == before.reads
    await cache.read(tmp_path / "b")
    assert cache.statistics().reads == before.reads + 1


async def test_what_is_larger_than_all_the_room_is_given_and_not_kept(tmp_path):
    (tmp_path / "a").write_text("x" * 1000)
    cache = settled(max_total=100)
    assert (await cache.read(tmp_path / "a")).text == "x" * 1000
    assert cache.statistics().entries == 0 and cache.statistics().held == 0


async def test_within_the_window_nothing_is_asked(tmp_path, mock_clock):
    path, missing = tmp_path / "a", tmp_path / "b"
    path.write_text("one")
    cache = settled(fresh_for=2.0)
    await cache.read_many([path, missing])
    path.write_text("two")
    missing.write_text("there")
    mock_clock.jump(1.9)
    found = await cache.read_many([path, missing])
    assert (found[0].text, found[1].state) == ("one", "missing")
    assert cache.statistics().stats == 2 and cache.statistics().hops == 1
    mock_clock.jump(0.2)
    assert [what.text for what in await cache.read_many([path, missing])] == ["two", "there"]


async def test_what_is_forgotten_is_asked_again(tmp_path, mock_clock):
    path = tmp_path / "a"
    path.write_text("one")
    cache = settled(fresh_for=60.0)
    await cache.read(path)
    path.write_text("two")
    cache.forget([path])
    assert (await cache.read(path)).text == "two"


async def test_a_look_from_before_a_change_does_not_become_fresh(tmp_path):
    path = tmp_path / "a"
    path.write_text("one")
    gate = Gate()
    cache = FileCache(fresh_for=60.0, now=gate)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cache.read, path)
        await gate.wait_reached()
        # The thread has not opened the file yet, but it might have.
        cache.forget([path])
        gate.open.set()
    stats = cache.statistics().stats
    await cache.read(path)
    assert cache.statistics().stats == stats + 1
    await cache.read(path)
    assert cache.statistics().stats == stats + 1


async def test_a_snapshot_looks_once(tmp_path):
    path = tmp_path / "a"
    path.write_text("one")
    cache = settled()
    snapshot = Snapshot(cache)
    assert [what.text for what in await snapshot.read_many([path, path])] == ["one", "one"]
    path.write_text("two")
    assert (await snapshot.read_many([path, tmp_path]))[0].text == "one"
    assert snapshot.paths == (str(path), str(tmp_path)) and snapshot.found[0].text == "one"
    assert (await cache.read(path)).text == "two"


async def test_cancelled_at_any_step_the_cache_still_answers(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_text(path.name)
    cache = settled()

    async def operation():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cache.read_many, paths)
            nursery.start_soon(cache.read_many, paths[1:])
            await cache.read(paths[0])

    async def check():
        assert [what.text for what in await cache.read_many(paths)] == ["a", "b", "c"]
        assert not cache._flights

    assert await cancel_everywhere(operation, check) > 5


async def test_its_repr_says_what_it_did(tmp_path):
    cache = settled()
    await cache.read(tmp_path)
    assert "reads=1" in repr(cache) and "hops=1" in repr(cache)


@pytest.mark.parametrize(("size", "state"), [(0, "file"), (99, "file"), (100, "file"), (101, "too_large")])
async def test_a_file_of_the_largest_size_is_read_and_a_larger_one_is_not(
    size: int, state: str, tmp_path: Path
) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"x" * size)
    found = await settled(max_file=100).read(file)
    assert (found.state, found.size, found.text) == (state, size, "x" * size if state == "file" else "")
    assert found.usable is (0 < size <= 100)


@pytest.mark.parametrize(("names", "state"), [(0, "directory"), (3, "directory"), (4, "too_large")])
async def test_a_folder_of_the_largest_number_of_names_is_listed(names: int, state: str, tmp_path: Path) -> None:
    for number in range(names):
        (tmp_path / f"b{number}").touch()
    found = await settled(max_names=3).read(tmp_path)
    assert found.state == state
    assert found.names == (tuple(f"b{number}" for number in range(names)) if state == "directory" else ())


@pytest.mark.parametrize(("data", "state"), [(b"\xef\xbb\xbfhi", "file"), (b"a\0b", "binary"), (b"a\xff", "binary")])
async def test_a_file_is_text_only_without_zero_bytes_and_in_utf_8(data: bytes, state: str, tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(data)
    found = await settled().read(file)
    assert (found.state, found.size) == (state, len(data))
    assert found.text == ("hi" if state == "file" else "")
    assert ("byte" in found.detail) is (state == "binary")
