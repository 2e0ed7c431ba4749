"""Locks on paths: against a model that knows only the rule, with cancellation as one of the things that happen."""

from __future__ import annotations

import os

import pytest
import trio
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import invariant, precondition, rule

from clawft_trio.testing.machine import TrioMachine, in_mock_time
from clawft_trio.testing.sweep import cancel_everywhere
from clawft_trio.tools import PathLocks
from clawft_trio.tools.path_locks import wants_conflict

KEYS = st.sampled_from([("a",), ("a", "b"), ("a", "b", "c"), ("a", "d"), ("e",), ()])
WANTS = st.one_of(*3 * [st.lists(st.tuples(KEYS, st.sampled_from(["read", "write"])), max_size=3)], st.just("alone"))


def overlaps(one, other):
    short = min(len(one), len(other))
    return one[:short] == other[:short]


ALONE = "alone"


def conflict(some, others):
    return (
        some == ALONE
        or others == ALONE
        or any("write" in (mode, also) and overlaps(key, other) for key, mode in some for other, also in others)
    )


def ask(locks, wants):
    return locks.request(alone=True) if wants == ALONE else locks.request(wants)


class Locks(TrioMachine):
    """Requests come, hold, leave and are cancelled in any order; the rule says who must hold by now."""

    def __init__(self):
        super().__init__()
        self.locks = PathLocks()
        self.alive = {}  # number: wants, in the order of their coming
        self.holding = set()
        self.count = 0
        self.scopes = {}
        self.leave = {}

    def expected(self):
        """Who holds: everybody whom no earlier one alive is in the way of."""
        alive = list(self.alive.items())
        return {
            number
            for at, (number, wants) in enumerate(alive)
            if not any(conflict(wants, earlier) for _, earlier in alive[:at])
        }

    async def hold(self, number, wants):
        with self.scopes[number]:
            request = ask(self.locks, wants)
            try:
                await request.wait_granted()
                self.holding.add(number)
                await self.leave[number].wait()
            finally:
                request.release()
                request.release()
                self.holding.discard(number)

    @rule(wants=WANTS)
    def come(self, wants):
        number = self.count
        self.count += 1
        self.alive[number] = wants
        self.scopes[number] = trio.CancelScope()
        self.leave[number] = trio.Event()

        async def start():
            self.nursery.start_soon(self.hold, number, wants)

        self.run(start)
        self.settle()

    @precondition(lambda self: self.holding)
    @rule(data=st.data())
    def go(self, data):
        number = data.draw(st.sampled_from(sorted(self.holding)))
        del self.alive[number]
        self._in_trio(self.leave[number].set)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def cancel(self, data):
        number = data.draw(st.sampled_from(sorted(self.alive)))
        del self.alive[number]
        self._in_trio(lambda: self.scopes[number].cancel(reason="the machine's"))

    @precondition(lambda self: len(self.alive) > 1)
    @rule(data=st.data())
    def two_at_once(self, data):
        """One goes or is cancelled in the same tick as another is: between being granted and knowing it."""
        first, second = data.draw(st.permutations(sorted(self.alive)).map(lambda some: some[:2]))

        def both():
            for number in (first, second):
                if number in self.holding and data.draw(st.booleans()):
                    self.leave[number].set()
                else:
                    self.scopes[number].cancel(reason="the machine's")

        del self.alive[first], self.alive[second]
        self._in_trio(both)

    def _in_trio(self, function):
        async def act():
            function()

        self.run(act)
        self.settle()

    @invariant()
    def who_holds_is_who_should(self):
        assert self.holding == self.expected()

    @invariant()
    def nothing_is_left(self):
        now = self.locks.statistics()
        assert (now.holders, now.holders + now.waiters) == (len(self.holding), len(self.alive))
        if not self.alive:
            assert now.paths == 0

    @invariant()
    def holders_do_not_conflict(self):
        held = sorted(self.holding)
        for at, one in enumerate(held):
            for other in held[:at]:
                assert not conflict(self.alive[one], self.alive[other])


SOME = st.lists(st.tuples(KEYS, st.sampled_from(["read", "write"])), max_size=3)


@given(SOME, SOME)
def test_two_requests_conflict_when_one_writes_what_equals_contains_or_is_inside_of_the_others(some, others):
    assert wants_conflict(some, others) is wants_conflict(others, some) is conflict(some, others)


@pytest.mark.parametrize(
    ("some", "others", "expected"),
    [
        ([(("a",), "write")], [(("a",), "write")], True),
        ([(("a",), "write")], [(("a",), "read")], True),
        ([(("a",), "read")], [(("a",), "read")], False),
        ([(("a",), "write")], [(("a", "b"), "read")], True),
        ([(("a", "b"), "write")], [(("a",), "read")], True),
        ([(("a",), "write")], [(("b",), "write")], False),
        ([(("a", "b"), "write")], [(("a", "c"), "write")], False),
        ([((), "write")], [(("a", "b"), "read")], True),
        ([(("a",), "read"), (("b",), "write")], [(("c",), "write"), (("b", "x"), "read")], True),
        ([], [((), "write")], False),
    ],
)
def test_the_table_of_conflicts(some, others, expected):
    assert wants_conflict(some, others) is wants_conflict(others, some) is expected


@given(st.lists(WANTS, max_size=8), st.data())
@settings(deadline=None, max_examples=300)
def test_whatever_is_released_in_whatever_order_exactly_those_without_a_conflict_before_them_hold(all_wants, data):
    locks = PathLocks()
    alive = {ask(locks, wants): wants for wants in all_wants}
    while alive:
        order = list(alive)
        for at, request in enumerate(order):
            assert request.granted is not any(conflict(alive[request], alive[earlier]) for earlier in order[:at])
        gone = data.draw(st.sampled_from(order))
        del alive[gone]
        gone.release()
    assert (locks.statistics().holders, locks.statistics().waiters, locks.statistics().paths) == (0, 0, 0)


def test_a_request_waits_for_what_a_released_one_waited_for_only_in_a_conflict_of_its_own():
    locks = PathLocks()
    first = locks.request([(("x",), "write")])
    middle = locks.request([(("x",), "write"), (("y",), "write")])
    apart, behind = locks.request([(("y",), "write")]), locks.request([(("x", "z"), "read")])
    middle.release()
    assert (first.granted, apart.granted, behind.granted) == (True, True, False)
    first.release()
    assert behind.granted


def test_eight_threads_resolve_paths():
    assert PathLocks().threads.total_tokens == 8


TestLocks = Locks.TestCase
TestLocks.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)


@given(st.lists(st.tuples(WANTS, st.integers(0, 3)), max_size=15))
@settings(deadline=None, max_examples=60)
@in_mock_time
async def test_everybody_gets_through_and_nobody_is_overtaken(requests):
    locks = PathLocks()
    began = {}
    ended = {}

    async def visit(number, wants, seconds):
        request = ask(locks, wants)
        try:
            await request.wait_granted()
            began[number] = trio.current_time()
            await trio.sleep(seconds)
            ended[number] = trio.current_time()
        finally:
            request.release()

    async with trio.open_nursery() as nursery:
        for number, (wants, seconds) in enumerate(requests):
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(visit, number, wants, seconds)
    assert len(ended) == len(requests)
    for later, (wants, _) in enumerate(requests):
        for earlier, (others, _) in enumerate(requests[:later]):
            if conflict(wants, others):
                assert began[later] >= ended[earlier]
    assert locks.statistics().paths == 0


class Held:
    """`PathLocks.hold` for keys: its thread has no place where the clock jumps."""

    def __init__(self, locks, *wants):
        self.locks, self.wants = locks, wants

    async def __aenter__(self):
        self.request = self.locks.request(self.wants)
        await self.request.wait_granted()

    async def __aexit__(self, *_):
        self.request.release()


async def test_a_stream_of_readers_does_not_starve_a_writer(autojump_clock):
    locks = PathLocks()
    done = []

    async def read():
        async with Held(locks, (("a",), "read")):
            await trio.sleep(10)

    async def write():
        async with Held(locks, (("a", "x"), "write")):
            done.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for second in range(30):
            nursery.start_soon(write if second == 1 else read)
            await trio.sleep(1)
    assert done == [pytest.approx(10)]


async def test_readers_share_and_a_writer_waits_for_all_of_them(autojump_clock):
    locks = PathLocks()
    began = []

    async def visit(mode):
        async with Held(locks, (("x",), mode)):
            began.append((mode, trio.current_time()))
            await trio.sleep(5)

    async with trio.open_nursery() as nursery:
        for mode in ("read", "read", "write", "read"):
            nursery.start_soon(visit, mode)
            await trio.testing.wait_all_tasks_blocked()
    assert began == [("read", 0), ("read", 0), ("write", 5), ("read", 10)]


async def test_many_paths_are_granted_at_once_so_two_orders_do_not_deadlock(autojump_clock):
    locks = PathLocks()

    async def visit(first, second):
        for _ in range(20):
            async with Held(locks, ((first,), "write"), ((second,), "write")):
                await trio.sleep(1)

    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(visit, "a", "b")
            nursery.start_soon(visit, "b", "a")


async def test_how_long_it_waited_is_told(tmp_path):
    locks = PathLocks()
    async with locks.hold([(tmp_path, "write")]) as waited:
        assert waited == 0
    first = locks.request([(("",), "write")])
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def visit():
            nonlocal waited
            async with locks.hold([(tmp_path, "write")]) as waited:
                pass

        while not locks.statistics().waiters:
            await trio.sleep(0.001)
        await trio.sleep(0.02)
        first.release()
    assert waited > 0.01


async def test_different_names_of_one_file_are_one_lock(tmp_path):
    (tmp_path / "dir").mkdir()
    (tmp_path / "link").symlink_to("dir")
    locks = PathLocks()
    async with locks.hold([(tmp_path / "link" / ".." / "dir" / "new", "write")]):
        with trio.move_on_after(0.05) as scope:
            async with locks.hold([("link/new", "read")], root=tmp_path):
                raise AssertionError("both hold")
        assert scope.cancelled_caught
        async with locks.hold([("link/other", "write")], root=tmp_path):
            assert locks.statistics().holders == 2
    assert locks.statistics() == PathLocks().statistics()


async def test_holding_is_safe_to_cancel_everywhere(tmp_path):
    locks = PathLocks()

    async def visit(name):
        async with locks.hold([(tmp_path / name, "write"), (tmp_path / "shared", "read")]):
            await trio.lowlevel.checkpoint()

    async def operation():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(visit, "a")
            nursery.start_soon(visit, "a")
            nursery.start_soon(visit, "")

    async def check():
        assert (locks.statistics().holders, locks.statistics().waiters, locks.statistics().paths) == (0, 0, 0)

    assert await cancel_everywhere(operation, check) > 10


async def test_an_error_inside_gives_everything_back(tmp_path):
    locks = PathLocks()
    with pytest.raises(ValueError, match="inside"):
        async with locks.hold([(tmp_path, "write")]):
            assert "1 holding" in repr(locks)
            raise ValueError("inside")
    assert locks.statistics().paths == 0


async def test_what_is_no_path_is_refused_before_anything_waits():
    locks = PathLocks()
    with pytest.raises(ValueError, match="null"):
        async with locks.hold([("a\0b", "read")]):
            raise AssertionError("held")
    assert locks.statistics().paths == 0


def test_requests_cost_the_same_however_many_others_there_are():
    """Ten times as many unrelated holders: the tree is not searched."""
    locks = PathLocks()
    for number in range(2000):
        locks.request([((str(number), "x"), "write"), (("calls",), "read")])
    visited = []

    class Counting(dict):
        def __getitem__(self, key):
            visited.append(key)
            return super().__getitem__(key)

    locks._root.below = Counting(locks._root.below)
    assert locks.request([(("new", "x"), "write")]).granted
    assert len(visited) < 10


def test_a_queue_for_one_path_is_a_chain():
    locks = PathLocks()
    queue = [locks.request([(("a",), "write")]) for _ in range(1000)]
    assert sum(len(one._behind or ()) for one in queue) == 999
    for one in queue[1:-1]:
        one.release()  # left before its turn: who stands behind it moves up
    assert [one.granted for one in (queue[0], queue[-1])] == [True, False]
    queue[0].release()
    assert queue[-1].granted


def test_names_are_shown_in_a_requests_repr():
    request = PathLocks().request([(("", "w", "x"), "write")])
    assert repr(request) == "<LockRequest held: write /w/x>"
    request.release()
    assert "released" in repr(request)
    assert os.sep == "/"
