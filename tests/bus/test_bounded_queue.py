"""Each overflow policy against a model, cancellations included."""

from __future__ import annotations

from bisect import insort
from collections import defaultdict

import attrs
import pytest
import trio
from hypothesis import settings, strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from clawft_trio.bus import BoundedQueue, Reader, SessionReader
from clawft_trio.bus.bounded_queue import OVERFLOWS
from clawft_trio.errors import BusClosed, BusFull
from clawft_trio.observe import BusPressure, MessageDropped, Recorder
from clawft_trio.testing.machine import TrioMachine
from clawft_trio.testing.sweep import cancel_everywhere


@attrs.frozen
class Item:
    number: int
    weight: int = 1
    precious: bool = False
    session: str = ""


class Model:
    """The queue as its documentation describes it, without a thought for speed."""

    def __init__(self, policy: str, capacity: int, max_bytes: int | None) -> None:
        self.policy, self.capacity, self.max_bytes = policy, capacity, max_bytes
        self.queue: list[Item] = []
        self.waiting: list[Item] = []
        self.dropped: list[int] = []
        self.delivered = self.rejected = self.high_water = 0

    def weight(self, item: Item) -> int:
        return 0 if self.max_bytes is None else min(item.weight, self.max_bytes)

    @property
    def bytes(self) -> int:
        return sum(map(self.weight, self.queue))

    def has_room(self, item: Item) -> bool:
        holds = self.max_bytes is None or self.bytes + self.weight(item) <= self.max_bytes
        return len(self.queue) < self.capacity and holds

    def enter(self, item: Item) -> str:
        self.queue.append(item)
        self.high_water = max(self.high_water, len(self.queue))
        return "in"

    def put(self, item: Item) -> str:
        if self.max_bytes is not None and item.weight > self.max_bytes and not item.precious:
            self.rejected += 1
            return "full"
        if self.has_room(item) and not self.waiting:
            return self.enter(item)
        if self.policy == "reject" and not item.precious:
            self.rejected += 1
            return "full"
        if self.policy == "drop_oldest" or (self.policy == "drop_newest" and item.precious):
            while not self.has_room(item) and any(not other.precious for other in self.queue):
                oldest = next(other for other in self.queue if not other.precious)
                self.queue.remove(oldest)
                self.dropped.append(oldest.number)
            if self.has_room(item) and not self.waiting:
                return self.enter(item)
        if self.policy == "block" or item.precious:
            self.waiting.append(item)
            return "waits"
        self.dropped.append(item.number)
        return "dropped"

    def admit(self) -> None:
        while self.waiting and self.has_room(self.waiting[0]):
            self.enter(self.waiting.pop(0))

    def take(self) -> Item:
        self.delivered += 1
        item = self.queue.pop(0)
        self.admit()
        return item


class OverflowMachine(TrioMachine):
    policy: str

    @initialize(capacity=st.integers(1, 7), max_bytes=st.none() | st.integers(1, 6))
    def begin(self, capacity: int, max_bytes: int | None) -> None:
        self.recorder = Recorder()
        self.queue: BoundedQueue[Item] = BoundedQueue(
            "q",
            capacity=capacity,
            overflow=self.policy,
            max_bytes=max_bytes,
            weigh=lambda item: item.weight,
            precious=lambda item: item.precious,
            observer=self.recorder,
        )
        self.model = Model(self.policy, capacity, max_bytes)
        self.results: dict[int, str] = {}
        self.scopes: dict[int, trio.CancelScope] = {}
        self.count = 0
        self.closed = False

    async def publish(self, item: Item) -> None:
        with trio.CancelScope() as self.scopes[item.number]:
            try:
                self.results[item.number] = "in" if await self.queue.put(item) else "dropped"
            except BusFull:
                self.results[item.number] = "full"
            except BusClosed:
                self.results[item.number] = "closed"

    @rule(weight=st.integers(0, 7), precious=st.booleans(), wait=st.booleans())
    def put(self, weight: int, precious: bool, wait: bool) -> None:
        self.count += 1
        item = Item(self.count, weight, precious)
        expected = "closed" if self.closed else self.model.put(item)
        if wait:
            self.start(item)
            assert self.results.get(item.number, "waits") == expected
        else:
            assert self.put_now(item) == expected
            if expected == "waits":
                self.model.waiting.pop()

    def start(self, item: Item) -> None:
        async def start() -> None:
            self.nursery.start_soon(self.publish, item)

        self.run(start)
        self.settle()

    def put_now(self, item: Item) -> str:
        try:
            return "in" if self.queue.put_nowait(item) else "dropped"
        except BusFull:
            return "full"
        except BusClosed:
            return "closed"
        except trio.WouldBlock:
            return "waits"

    @rule()
    def take(self) -> None:
        if self.model.queue:
            assert self.queue.get_nowait() == self.model.take()
        else:
            with pytest.raises(BusClosed if self.closed else trio.WouldBlock):
                self.queue.get_nowait()
        self.settle()

    @rule()
    def clear(self) -> None:
        items, self.model.queue = self.model.queue, []
        self.model.delivered += len(items)
        self.model.admit()
        assert self.queue.clear(None) == tuple(items)
        self.settle()

    @precondition(lambda self: not self.closed)
    @rule(count=st.integers(2, 6))
    def put_a_burst(self, count: int) -> None:
        """As one task does in a loop, which takes the short way where it can."""
        items = [Item(self.count + number) for number in range(1, count + 1)]
        self.count += count

        async def publish_all() -> None:
            for item in items:
                with trio.CancelScope() as self.scopes[item.number]:
                    await self.publish(item)

        expected = {item.number: self.model.put(item) for item in items}
        if "waits" in expected.values():
            first = next(number for number, what in expected.items() if what == "waits")
            # The task waits at the first, and never comes to the rest.
            dropped = [item for item in items if item.number > first]
            self.model.waiting = [item for item in self.model.waiting if item not in dropped]
            items = [item for item in items if item.number <= first]

        async def start() -> None:
            self.nursery.start_soon(publish_all)

        self.run(start)
        self.settle()
        for item in items:
            assert self.results.get(item.number, "waits") == expected[item.number]

    @rule(count=st.integers(2, 6))
    def iterate(self, count: int) -> None:
        """As `async for` does, which takes the short way where it can."""
        wanted = min(count, len(self.model.queue))

        async def take() -> list[Item]:
            reader = Reader(self.queue)
            return [await reader.__anext__() for _ in range(wanted)]

        assert self.run(take) == [self.model.take() for _ in range(wanted)]
        self.settle()

    @precondition(lambda self: self.model.waiting)
    @rule(data=st.data())
    def cancel_a_publisher(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.model.waiting))
        self.scopes[item.number].cancel(reason="the publisher changed its mind")
        self.settle()
        assert item.number not in self.results
        self.model.waiting.remove(item)
        self.model.admit()

    @precondition(lambda self: self.count > 12)
    @rule()
    def close(self) -> None:
        self.queue.close()
        self.settle()
        self.closed = True
        for item in self.model.waiting:
            assert self.results[item.number] == "closed"
        self.model.waiting.clear()

    @invariant()
    def the_books_are_exact(self) -> None:
        if not hasattr(self, "model"):
            return
        books, model = self.queue.statistics(), self.model
        assert (books.depth, books.bytes, books.high_water) == (len(model.queue), model.bytes, model.high_water)
        assert (books.delivered, books.dropped, books.rejected) == (
            model.delivered,
            len(model.dropped),
            model.rejected,
        )
        assert books.waiting == len(model.waiting)
        assert books.published == books.delivered + books.dropped + books.depth
        assert [event.message.number for event in self.recorder.of(MessageDropped)] == model.dropped
        for item in model.waiting:
            assert item.number not in self.results


def machine(name: str) -> type:
    case = type(f"{name.title()}Machine", (OverflowMachine,), {"policy": name}).TestCase
    case.settings = settings(deadline=None, max_examples=25, stateful_step_count=30)
    return case


TestBlock, TestDropOldest, TestDropNewest, TestReject = map(machine, OVERFLOWS)


class LinesMachine(TrioMachine):
    """Sessions of their own: order within each, no wait without a reason, a full session delays only itself."""

    CAPACITY, SESSION = 5, 2

    def __init__(self) -> None:
        super().__init__()
        self.queue: BoundedQueue[Item] = BoundedQueue("q", capacity=self.CAPACITY, session_of=lambda item: item.session)
        self.reader = SessionReader(self.queue, self.SESSION)
        self.count = 0
        self.published: dict[str, list[int]] = defaultdict(list)
        self.taken: dict[str, list[int]] = defaultdict(list)
        self.pending: dict[int, tuple[Item, trio.CancelScope]] = {}
        self.held: set[str] = set()

    async def publish(self, item: Item) -> None:
        with trio.CancelScope() as scope:
            self.pending[item.number] = (item, scope)
            await self.queue.put(item)
            # In the order of the puts: publishers that are admitted together run on in any order.
            insort(self.published[item.session], item.number)
        del self.pending[item.number]

    @rule(session=st.sampled_from("abc"))
    def put(self, session: str) -> None:
        self.count += 1

        async def start() -> None:
            self.nursery.start_soon(self.publish, Item(self.count, session=session))

        self.run(start)
        self.settle()

    @rule(hold=st.booleans())
    def take(self, hold: bool) -> None:
        depth = len(self.queue)
        try:
            item = self.queue.get_nowait(hold=hold)
        except trio.WouldBlock:
            waiting = {session for session in "abc" if len(self.published[session]) > len(self.taken[session])}
            assert waiting <= self.held
            assert depth == sum(len(self.published[session]) - len(self.taken[session]) for session in "abc")
            return
        assert item.session not in self.held
        self.taken[item.session].append(item.number)
        if hold:
            self.held.add(item.session)
        self.settle()

    @rule(session=st.sampled_from("abc"))
    def take_session(self, session: str) -> None:
        self.taken[session].extend(item.number for item in self.reader.take_session(session))
        assert self.taken[session] == self.published[session]
        self.settle()

    @rule(session=st.sampled_from("abc"))
    def take_the_second(self, session: str) -> None:
        waiting = self.published[session][len(self.taken[session]) :]
        second = waiting[1] if len(waiting) > 1 else None
        item = self.reader.take_one(session, lambda item: item.number == second)
        assert (None if item is None else item.number) == second
        if second is not None:
            self.published[session].remove(second)
        self.settle()

    @rule()
    def take_all(self) -> None:
        for item in self.reader.take_all():
            self.taken[item.session].append(item.number)
        assert self.taken == {session: self.published[session] for session in self.taken}
        self.settle()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(sorted(self.held)))
        self.held.remove(session)
        self.reader.release(session)

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def cancel_a_publisher(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.pending)))
        self.pending[number][1].cancel(reason="the publisher changed its mind")
        self.settle()

    @invariant()
    def who_waits_has_a_reason(self) -> None:
        depth = {session: len(self.published[session]) - len(self.taken[session]) for session in "abc"}
        assert sum(depth.values()) == len(self.queue) <= self.CAPACITY
        assert max(depth.values()) <= self.SESSION
        assert self.queue.statistics().waiting == len(self.pending)
        if sum(depth.values()) < self.CAPACITY:
            assert all(depth[item.session] == self.SESSION for item, _ in self.pending.values())

    @invariant()
    def each_line_is_in_order(self) -> None:
        for session in "abc":
            assert self.taken[session] == self.published[session][: len(self.taken[session])]


TestLines = LinesMachine.TestCase
TestLines.settings = settings(deadline=None, max_examples=40, stateful_step_count=40)


async def test_sessions_are_served_in_turn_and_a_held_session_is_skipped() -> None:
    queue: BoundedQueue[Item] = BoundedQueue("q", capacity=100, session_of=lambda item: item.session)
    for number in range(4):
        await queue.put(Item(number, session="a"))
    await queue.put(Item(10, session="b"))
    reader = SessionReader(queue, 8)
    await queue.put(Item(20, session="c"))
    assert [queue.get_nowait().number for _ in range(4)] == [0, 10, 20, 1]
    assert reader.claim_nowait().number == 2
    with pytest.raises(trio.WouldBlock):
        queue.get_nowait()
    reader.release("a")
    assert queue.get_nowait().number == 3


async def test_when_everything_is_taken_out_at_once_waiting_publishers_are_let_in() -> None:
    queue: BoundedQueue[Item] = BoundedQueue("q", capacity=3, session_of=lambda item: item.session)
    reader = SessionReader(queue, 2)
    async with trio.open_nursery() as nursery:
        for number, session in enumerate("aaaabb"):
            nursery.start_soon(queue.put, Item(number, session=session))
            await trio.testing.wait_all_tasks_blocked()
        assert queue.statistics().waiting == 3
        assert len(reader.take_all()) == 3
        await trio.testing.wait_all_tasks_blocked()
        assert queue.statistics().waiting == 0
    assert [item.number for item in reader.take_session("a")] == [2, 3]


async def test_pressure_is_reported_again_after_the_queue_was_emptied_at_once() -> None:
    recorder = Recorder()
    queue: BoundedQueue[int] = BoundedQueue("q", capacity=10, observer=recorder)
    for _ in range(2):
        for number in range(8):
            await queue.put(number)
        queue.clear(None)
    assert [event.depth for event in recorder.of(BusPressure)] == [8, 8]


async def test_pressure_is_reported_once_until_the_queue_is_half_empty_again() -> None:
    recorder = Recorder()
    queue: BoundedQueue[int] = BoundedQueue("q", capacity=10, observer=recorder)
    for number in range(10):
        await queue.put(number)
    [event] = recorder.of(BusPressure)
    assert (event.depth, event.capacity, event.queue) == (8, 10, "q")
    reader = Reader(queue)
    for _ in range(5):
        await reader.receive()
    for number in range(5):
        await queue.put(number)
    assert len(recorder.of(BusPressure)) == 1
    for _ in range(8):
        await reader.receive()
    for number in range(6):
        await queue.put(number)
    assert len(recorder.of(BusPressure)) == 2
    assert queue.statistics().high_water == 10


async def test_the_high_water_mark_is_exact_when_a_waiting_publisher_gives_up() -> None:
    queue: BoundedQueue[int] = BoundedQueue("q", capacity=3)
    for number in range(3):
        await queue.put(number)
    with trio.move_on_after(0):
        await queue.put(3)
    reader = Reader(queue)
    for _ in range(2):
        await reader.__anext__()
    assert queue.statistics().high_water == 3


async def test_every_waiting_consumer_is_woken_while_there_is_something_for_it() -> None:
    queue: BoundedQueue[int] = BoundedQueue("q", capacity=64)
    for number in range(10):
        await queue.put(number)
    for _ in range(10):
        queue.get_nowait()
    taken: list[int] = []

    async def take_one_and_keep_busy() -> None:
        taken.append(await Reader(queue).receive())
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(take_one_and_keep_busy)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(4):
            await queue.put(number)
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(taken) == [0, 1, 2, 3]
        nursery.cancel_scope.cancel(reason="seen enough")


@pytest.mark.parametrize("policy", OVERFLOWS)
async def test_putting_for_ever_lets_others_run(policy: str) -> None:
    queue: BoundedQueue[int] = BoundedQueue("q", capacity=64, overflow=policy)

    async def put() -> None:
        while True:
            try:
                await queue.put(1)
            except BusFull:
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(put)
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel(reason="seen enough")


async def test_a_consumer_that_publishes_to_its_own_queue_lets_other_tasks_run() -> None:
    queue: BoundedQueue[int] = BoundedQueue("q", capacity=64)
    await queue.put(1)

    async def feed() -> None:
        async for number in Reader(queue):
            await queue.put(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed)
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel(reason="seen enough")


@pytest.mark.parametrize("policy", OVERFLOWS)
async def test_cancelled_means_not_published_and_not_taken(policy: str) -> None:
    queue: BoundedQueue[int] = BoundedQueue("q", capacity=2, overflow=policy)
    published: list[int] = []
    taken: list[int] = []

    async def publish(numbers: range) -> None:
        for number in numbers:
            try:
                if await queue.put(number):
                    published.append(number)
            except BusFull:
                await trio.lowlevel.checkpoint()

    async def take() -> None:
        reader = Reader(queue)
        while True:
            number = await reader.receive()
            taken.append(number)
            if number == 4 or number == 104:
                return

    async def operation() -> None:
        with trio.move_on_after(1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(take)
                nursery.start_soon(publish, range(5))
                nursery.start_soon(publish, range(100, 105))

    before = 0

    async def nothing_is_lost_or_invented() -> None:
        nonlocal before
        while len(queue):
            taken.append(queue.get_nowait())
        books = queue.statistics()
        assert books.waiting == books.consumers_waiting == 0
        assert len(taken) == books.delivered - before
        if policy in {"block", "reject"}:
            assert sorted(taken) == sorted(published)
        published.clear()
        taken.clear()
        before = books.delivered

    assert await cancel_everywhere(operation, nothing_is_lost_or_invented) >= 5
