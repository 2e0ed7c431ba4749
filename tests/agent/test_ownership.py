"""Sessions have one owner at a time, and only the owner writes: against a model, over both engines."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from clawft_trio.agent.journal import Claimed, Journal, Unfinished, turn_id_of
from clawft_trio.agent.open_agent import MIGRATIONS
from clawft_trio.agent.sessions import Sessions
from clawft_trio.bus import LeasedUndelivered, MessageBus
from clawft_trio.bus.undelivered import decode_message
from clawft_trio.chat import ChatResponse, Message, ToolCall
from clawft_trio.errors import LeaseLost
from clawft_trio.keys import joined_key
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.store import Store, open_store
from clawft_trio.store.leases import Lease, has_ended, new_owner
from clawft_trio.store.ownership import Ownership, session_name
from clawft_trio.testing.machine import TrioMachine
from clawft_trio.tools import tool

SESSIONS = ("a", "b")
WORKERS = (0, 1)


@tool
async def pay(n: str) -> str:
    """Not idempotent."""
    await trio.lowlevel.checkpoint()
    return n


def asks(session: str, number: int) -> InboundMessage:
    return InboundMessage(channel="ch", sender_id="u", chat_id=session, id=f"m{number}", content=f"{number}")


def replies_to(message: InboundMessage, content: str) -> OutboundMessage:
    return OutboundMessage(channel="ch", chat_id=message.chat_id, content=content, reply_to=message.id)


class Worker:
    """One process: its leases, and the message that it works on in each session."""

    def __init__(self, store: Store) -> None:
        self.ownership = Ownership(store, length=1000.0)
        self.journal = Journal(store, ownership=self.ownership)
        self.sessions = Sessions(store, ownership=self.ownership)
        self.working: dict[str, tuple[Lease, Unfinished]] = {}


def inside(method):
    """A rule that runs inside the machine's trio run."""

    @wraps(method)
    def call(self, **drawn):
        return self.run(partial(method, self, **drawn))

    return call


class Owners(TrioMachine):
    """Publish, claim, renew, lose, write, reply, crash and take over, beside a model of who may do what."""

    place: Callable[[], Path | str | None]

    def __init__(self) -> None:
        super().__init__()
        self.store: Store
        self.workers: list[Worker] = []
        self.number = 0
        #: open messages in order, and replies in order, by session
        self.open: dict[str, list[str]] = {session: [] for session in SESSIONS}
        self.replied: dict[str, list[str]] = {session: [] for session in SESSIONS}
        #: the worker that owns a session, while it does
        self.owner: dict[str, int] = {}

        self.run(self.start)

    async def start(self) -> None:
        await self.nursery.start(self.keep_open)
        for table in ("turns", "leases", "undelivered", "answers", "tool_calls", "messages"):
            await self.store.transact(lambda c, t=table: c.execute(f"DELETE FROM {t}").rowcount)
        self.workers = [Worker(self.store) for _ in WORKERS]

    async def keep_open(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with open_store(type(self).place(), migrations=MIGRATIONS) as self.store:
            task_status.started()
            await trio.sleep_forever()

    def note(self, worker: int, claimed: Claimed) -> None:
        """*worker* has a session: nobody else had it, and it is given the oldest message."""
        session = claimed.first.message.chat_id
        assert session not in self.owner
        assert claimed.first.message.id == self.open[session][0]
        self.owner[session] = worker
        self.workers[worker].working[session] = (claimed.lease, claimed.first)
        self.workers[worker].ownership.guard(turn_id_of(claimed.first.message), claimed.lease)

    @rule(worker=st.sampled_from(WORKERS), session=st.sampled_from(SESSIONS), claim=st.booleans())
    @inside
    async def publish(self, worker: int, session: str, claim: bool) -> None:
        self.number += 1
        message = asks(session, self.number)
        new, claimed = await self.workers[worker].journal.accept(message, claim=claim)
        assert new
        self.open[session].append(message.id)
        if claimed is not None:
            self.note(worker, claimed)
        assert await self.workers[worker].journal.accept(message, claim=claim) == (False, None)

    @rule(worker=st.sampled_from(WORKERS), limit=st.integers(1, 3))
    @inside
    async def claim(self, worker: int, limit: int) -> None:
        free = [session for session in SESSIONS if self.may_claim(worker, session)]
        free.sort(key=lambda session: int(self.open[session][0][1:]))
        claimed = await self.workers[worker].journal.claim(limit)
        assert [one.first.message.chat_id for one in claimed] == free[:limit]
        for one in claimed:
            self.note(worker, one)

    @rule(worker=st.sampled_from(WORKERS), session=st.sampled_from(SESSIONS))
    @inside
    async def claim_one(self, worker: int, session: str) -> None:
        may_claim = self.may_claim(worker, session)
        claimed = await self.workers[worker].journal.claim_session(asks(session, 0).session_key)
        assert (claimed is not None) == may_claim
        if claimed is not None:
            self.note(worker, claimed)

    def may_claim(self, worker: int, session: str) -> bool:
        """Whether *session* is free, and *worker* does not take itself for its owner: then its turn may still end."""
        held = self.workers[worker].ownership.lease_of(session_name(asks(session, 0).session_key))
        return bool(self.open[session]) and session not in self.owner and held is None

    @rule(session=st.sampled_from(SESSIONS))
    @inside
    async def expire(self, session: str) -> None:
        """The owner has not renewed: the next one may take over."""
        name = session_name(asks(session, 0).session_key)
        await self.store.transact(lambda c: c.execute("UPDATE leases SET expires = 0 WHERE name = ?", (name,)).rowcount)
        # Who has lost it does not know it yet: `working` stays as it is.
        self.owner.pop(session, None)

    @rule(session=st.sampled_from(SESSIONS))
    @inside
    async def take_over(self, session: str) -> None:
        """The owner has not renewed for too long, and another worker is there."""
        former = self.owner.get(session)
        if former is None:
            return
        name = session_name(asks(session, 0).session_key)
        await self.store.transact(lambda c: c.execute("UPDATE leases SET expires = 0 WHERE name = ?", (name,)).rowcount)
        del self.owner[session]
        other = 1 - former
        if not self.may_claim(other, session):
            return
        claimed = await self.workers[other].journal.claim_session(asks(session, 0).session_key)
        assert claimed is not None
        assert claimed.first.resumes >= 1
        self.note(other, claimed)

    @rule(worker=st.sampled_from(WORKERS))
    @inside
    async def renew(self, worker: int) -> None:
        """Renewing brings back what nobody has taken, and loses what somebody has."""
        one = self.workers[worker]
        await one.ownership._renew()
        for session, (lease, _) in tuple(one.working.items()):
            if one.ownership.lease_of(lease.name) is None:
                assert self.owner.get(session) != worker
            elif session not in self.owner:
                self.owner[session] = worker

    @rule(worker=st.sampled_from(WORKERS))
    @inside
    async def crash(self, worker: int) -> None:
        """The process is gone, and another one is there; its leases run out."""
        owner = self.workers[worker].ownership.owner
        await self.store.transact(
            lambda c: c.execute("UPDATE leases SET expires = 0 WHERE owner = ?", (owner,)).rowcount
        )
        self.owner = {session: other for session, other in self.owner.items() if other != worker}
        self.workers[worker] = Worker(self.store)

    @rule(worker=st.sampled_from(WORKERS), session=st.sampled_from(SESSIONS))
    @inside
    async def write(self, worker: int, session: str) -> None:
        """A step of a turn: written by the owner, by nobody else."""
        one = self.workers[worker]
        if session not in one.working:
            return
        lease, left = one.working[session]
        turn = turn_id_of(left.message)
        await one.journal.answered(turn, 1, ChatResponse(content=f"by {worker}"))
        started = one.journal.tools(turn, 1).started(ToolCall(id="c", name="pay"), pay)
        await self.fenced(worker, session, lease, started)

    async def fenced(self, worker: int, session: str, lease: Lease, writing) -> bool:
        """Await *writing*; whether it was written. An expired lease that nobody has taken is still good."""
        taken = self.owner.get(session, worker) != worker or not await self.holds(lease)
        try:
            await writing
        except LeaseLost:
            assert taken
            self.workers[worker].working.pop(session)
            return False
        assert not taken
        self.owner[session] = worker
        return True

    async def holds(self, lease: Lease) -> bool:
        query = "SELECT count(*) FROM leases WHERE name = ? AND owner = ? AND token = ?"
        row = (lease.name, lease.owner, lease.token)
        return await self.store.read(lambda c: c.execute(query, row).fetchone()) == (1,)

    @rule(worker=st.sampled_from(WORKERS), session=st.sampled_from(SESSIONS), go_on=st.booleans())
    @inside
    async def reply(self, worker: int, session: str, go_on: bool) -> None:
        one = self.workers[worker]
        if session not in one.working:
            return
        lease, left = one.working[session]
        turn = turn_id_of(left.message)
        await one.sessions.append(left.message.session_key, [Message.user(left.message.content)], turn_id=turn)
        following: list[Unfinished | None] = []

        async def end() -> None:
            reply = replies_to(left.message, f"by {worker}")
            following.append(await one.journal.end(left.message, reply, go_on=go_on))

        written = await self.fenced(worker, session, lease, end())
        one.ownership.unguard(turn)
        if not written:
            return
        self.open[session].remove(left.message.id)
        self.replied[session].append(left.message.id)
        if go_on and self.open[session]:
            assert following[0] is not None
            assert following[0].message.id == self.open[session][0]
            one.working[session] = (lease, following[0])
            one.ownership.guard(turn_id_of(following[0].message), lease)
        else:
            assert following == [None]
            one.working.pop(session)
            self.owner.pop(session)

    @invariant()
    @inside
    async def replies_are_stored_once_and_in_order(self) -> None:
        if not self.workers:
            return
        rows = await self.store.read(lambda c: c.execute("SELECT message FROM undelivered ORDER BY place").fetchall())
        stored = [decode_message(data) for (data,) in rows]
        histories = await self.store.read(
            lambda c: c.execute("SELECT session, count(*) FROM messages GROUP BY session").fetchall()
        )
        counts = {session.partition(":")[2]: count for session, count in histories}
        for session in SESSIONS:
            assert [reply.reply_to for reply in stored if reply.chat_id == session] == self.replied[session]
            assert counts.get(session, 0) == len(self.replied[session])

    @invariant()
    @inside
    async def open_messages_are_those_without_a_reply(self) -> None:
        if not self.workers:
            return
        query = "SELECT count(*) FROM turns WHERE message IS NOT NULL"
        (count,) = await self.store.read(lambda c: c.execute(query).fetchone())
        assert count == sum(map(len, self.open.values()))


def test_only_owners_write_whatever_happens(shared_place, request: pytest.FixtureRequest) -> None:
    Owners.place = staticmethod(lambda: shared_place)
    run_state_machine_as_test(
        Owners,
        settings=settings(
            max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


async def test_an_expired_lease_that_no_process_has_taken_is_still_valid(shared_place) -> None:
    async with open_store(shared_place, migrations=MIGRATIONS) as store:
        first, second = Worker(store), Worker(store)
        _, claimed = await first.journal.accept(asks("a", 1), claim=True)
        assert claimed is not None
        first.ownership.guard(turn_id_of(asks("a", 1)), claimed.lease)
        await store.transact(lambda c: c.execute("UPDATE leases SET expires = 0").rowcount)
        await first.ownership.write(turn_id_of(asks("a", 1)), lambda _: None)
        assert await second.journal.claim(5) == ()


async def test_a_turn_that_lost_its_lease_ends_without_a_reply(shared_place) -> None:
    lost: list[str] = []
    async with open_store(shared_place, migrations=MIGRATIONS) as store:
        first, second = Worker(store), Worker(store)
        first.ownership.on_lost(lost.append)
        _, claimed = await first.journal.accept(asks("a", 1), claim=True)
        assert claimed is not None
        first.ownership.guard(turn_id_of(asks("a", 1)), claimed.lease)
        await store.transact(lambda c: c.execute("UPDATE leases SET expires = 0").rowcount)
        [taken] = await second.journal.claim(5)
        assert taken.first.resumes == 1
        with pytest.raises(LeaseLost):
            await first.journal.end(asks("a", 1), replies_to(asks("a", 1), "late"), go_on=True)
        assert lost == [claimed.lease.name]
        assert await store.read(lambda c: c.execute("SELECT count(*) FROM undelivered").fetchone()) == (0,)


async def test_of_two_tasks_of_one_process_one_takes_a_session(shared_place) -> None:
    async with open_store(shared_place, migrations=MIGRATIONS) as store:
        worker, found = Worker(store), []
        await worker.journal.accept(asks("a", 1), claim=False)

        async def look() -> None:
            found.append(await worker.journal.claim_session("ch:a"))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(look)
        assert len([one for one in found if one is not None]) == 1


async def test_a_lease_whose_answer_was_lost_is_given_back(shared_place) -> None:
    async with open_store(shared_place, migrations=MIGRATIONS) as store:
        ownership = Ownership(store)
        await ownership.acquire("session:a")
        await ownership.acquire("session:b")
        ownership.forget("session:a")
        for _ in range(2):
            await ownership._renew()
        names = await store.read(lambda c: c.execute("SELECT name FROM leases").fetchall())
        assert names == [("session:b",)]


async def test_a_channel_is_served_by_one_process_and_then_by_the_next(shared_place) -> None:
    async with open_store(shared_place, migrations=MIGRATIONS) as store:
        buses = [MessageBus(undelivered=LeasedUndelivered(Ownership(store))) for _ in range(2)]
        worker = Worker(store)
        for number in (1, 2):
            await worker.journal.accept(asks("a", number), claim=False)
            await worker.journal.end(asks("a", number), replies_to(asks("a", number), f"{number}"), go_on=False)
        first = buses[0].outbound("ch")
        assert (await anext(first)).content == "1"
        with trio.move_on_after(0.3) as scope:
            await anext(buses[1].outbound("ch"))
        assert scope.cancelled_caught
        await store.transact(lambda c: c.execute("UPDATE leases SET expires = 0").rowcount)
        with trio.fail_after(10):
            assert (await anext(buses[1].outbound("ch"))).content == "2"


def test_an_owner_is_known_to_have_ended_only_when_it_has() -> None:
    owner = new_owner()
    assert not has_ended(owner)
    machine, pid, _, unique = owner.split(" ")
    assert has_ended(f"{machine} {pid} 1 {unique}") == (machine != "?")
    assert not has_ended(f"elsewhere {pid} 1 {unique}")
    assert not has_ended("anything")


@settings(max_examples=300)
@given(
    st.lists(st.text(alphabet=st.sampled_from("ab:%0A\0\ud800"), max_size=5), min_size=3, max_size=3),
    st.lists(st.text(alphabet=st.sampled_from("ab:%0A\0\ud800"), max_size=5), min_size=3, max_size=3),
)
def test_different_parts_never_give_the_same_key(one: list[str], other: list[str]) -> None:
    assert (joined_key(*one) == joined_key(*other)) == (one == other)
    joined_key(*one).encode()
    assert "\0" not in joined_key(*one)


@pytest.mark.parametrize("parts", [("telegram", "42"), ("cli", "room 1"), ("mail", "a@b.c")])
def test_plain_keys_stay_as_they_are(parts: tuple[str, str]) -> None:
    assert joined_key(*parts) == ":".join(parts)


async def test_a_process_never_claims_a_session_again_that_it_works_on(place) -> None:
    # The lease expires at once: as when the database is slow, and the renewals come late.
    async with open_store(place, migrations=MIGRATIONS) as store:
        ownership = Ownership(store, length=0.0)
        journal = Journal(store, ownership=ownership)
        await journal.accept(asks("s", 1), claim=False)
        [claimed] = await journal.claim(10)
        await trio.sleep(0.01)
        assert await journal.claim(10) == ()
        assert await journal.claim_session(claimed.session) is None
        message = claimed.first.message
        ownership.guard(turn_id_of(message), claimed.lease)
        assert await journal.end(message, replies_to(message, "done"), go_on=False) is None


async def test_a_session_that_is_claimed_again_has_another_token(place) -> None:
    async with open_store(place, migrations=MIGRATIONS) as store:
        ownership = Ownership(store, length=0.0)
        journal = Journal(store, ownership=ownership)
        await journal.accept(asks("s", 1), claim=False)
        [first] = await journal.claim(10)
        # As after a time without the database, when others may have taken it.
        ownership.lose(first.lease.name)
        await trio.sleep(0.01)
        [second] = await journal.claim(10)
        assert second.lease.token > first.lease.token
        turn_id = turn_id_of(first.first.message)
        ownership.guard(turn_id, first.lease)
        with pytest.raises(LeaseLost):
            await ownership.write(turn_id, lambda _: None)
        assert ownership.lease_of(second.lease.name) == second.lease


async def test_a_clock_that_is_set_back_delays_a_takeover_by_eight_lengths_at_most(place) -> None:
    async def advance(seconds: float) -> None:
        await store.transact(lambda c: c.execute("UPDATE leases SET expires = expires - ?", (seconds,)).rowcount)

    async with open_store(place, migrations=MIGRATIONS) as store:
        gone, other = (Ownership(store, length=10.0, owner=f"elsewhere {n}") for n in range(2))
        journal = Journal(store, ownership=gone)
        for number in (1, 2):
            await journal.accept(asks("s", number), claim=False)
        assert await journal.claim(10)
        assert await gone.acquire("channel:ch")
        await advance(-3600.0)
        assert await Journal(store, ownership=other).claim(10) == ()
        assert not await other.acquire("channel:ch")
        await advance(79.0)
        assert not await other.acquire("channel:ch")
        await advance(2.0)
        assert await other.acquire("channel:ch")
        assert [one.first.message.id for one in await Journal(store, ownership=other).claim(10)] == ["m1"]


async def test_a_step_of_a_turn_that_is_over_is_a_typed_error() -> None:
    async with open_store(None, migrations=MIGRATIONS) as store:
        with pytest.raises(LeaseLost):
            Ownership(store).postpone("ch:s:m1", lambda _: None, outlives_turn=True)
