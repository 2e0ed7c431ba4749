"""The leases of one process: how long they are valid, what is written under them, and when they are lost or freed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
import trio

from clawft_trio.errors import LeaseLost, StoreBusy, StoreError
from clawft_trio.store import Connection, Migration, Store, open_store
from clawft_trio.store.leases import LEASE_MIGRATIONS, Lease, acquire
from clawft_trio.store.ownership import RELEASED, Ownership, channel_name, open_ownership, session_name

WORDS = Migration("words", 1, "CREATE TABLE words (word TEXT) STRICT;")


class Shared:
    """A store in memory of which nobody knows that it is in memory, and that can be out of reach."""

    engine = "sqlite"
    private = False

    def __init__(self, store: Store) -> None:
        self._store = store
        self.away = False

    async def transact(self, function: Any, **options: Any) -> Any:
        if self.away:
            await trio.lowlevel.checkpoint()
            raise StoreBusy("out of reach", path="store")
        return await self._store.transact(function, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@asynccontextmanager
async def shared() -> AsyncGenerator[Shared, None]:
    async with open_store(None, migrations=[*LEASE_MIGRATIONS, WORDS]) as store:
        yield Shared(store)


async def lease_of_a(ownership: Ownership) -> Lease:
    await ownership.acquire("a")
    lease = ownership.lease_of("a")
    assert lease is not None
    return lease


def owner_of(name: str, connection: Connection) -> str | None:
    found = connection.execute("SELECT owner FROM leases WHERE name = ?", (name,)).fetchone()
    return None if found is None else found[0]


async def owners(store: Shared, *names: str) -> list[str | None]:
    return [await store.read(partial(owner_of, name)) for name in names]


def add(word: str, connection: Connection) -> None:
    connection.execute("INSERT INTO words VALUES (?)", (word,))


async def words(store: Shared) -> list[str]:
    return [word for (word,) in await store.read(lambda c: c.execute("SELECT word FROM words").fetchall())]


async def take_over(store: Shared, name: str) -> None:
    """Let the process `other` have the lease."""
    await store.transact(lambda c: c.execute("UPDATE leases SET expires = 0 WHERE name = ?", (name,)).rowcount)
    assert await store.transact(lambda c: acquire(c, name, "other", 60.0)) is not None


async def test_a_lease_is_valid_for_its_length_after_it_was_taken_or_renewed(autojump_clock) -> None:
    async with shared() as store:
        ownership = Ownership(store, length=8.0, owner="me")
        assert not ownership.is_valid("a")
        assert await ownership.acquire("a")
        assert (ownership.is_valid("a"), ownership.is_valid("b"), ownership.held) == (True, False, 1)
        await trio.sleep(7.9)
        assert ownership.is_valid("a")
        await trio.sleep(0.1)
        assert not ownership.is_valid("a")
        assert await ownership.acquire("a")
        assert ownership.is_valid("a")
        assert ownership.held == 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ownership.keep_renewed)
            # Between two renewals, which are at even seconds.
            await trio.sleep(101)
            assert ownership.is_valid("a")
            store.away = True
            await trio.sleep(6)
            assert ownership.is_valid("a")
            nursery.cancel_scope.cancel()


async def test_a_lease_in_a_store_that_no_other_process_reaches_stays_valid(autojump_clock) -> None:
    async with open_store(None, migrations=LEASE_MIGRATIONS) as store:
        ownership = Ownership(store, length=8.0)
        assert await ownership.acquire("a")
        await trio.sleep(100)
        assert ownership.is_valid("a")
        assert not ownership.is_valid("b")


async def test_without_its_store_a_process_gives_up_its_leases_after_their_length(autojump_clock) -> None:
    lost: list[tuple[str, float]] = []
    async with shared() as store:
        ownership = Ownership(store, length=8.0, owner="me")
        ownership.on_lost(lambda name: lost.append((name, trio.current_time() - began)))
        await ownership.acquire("a")
        await ownership.acquire("b")
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ownership.keep_renewed)
            await trio.sleep(5)
            # The last renewal was after four seconds, and one is tried every two.
            store.away = True
            await trio.sleep(100)
            nursery.cancel_scope.cancel()
        assert lost == [("a", 14.0), ("b", 14.0)]
        assert ownership.held == 0
        assert not ownership.is_valid("a")


async def test_a_renewal_finds_which_leases_other_processes_have_taken(autojump_clock) -> None:
    lost: list[str] = []
    async with shared() as store:
        ownership = Ownership(store, length=8.0, owner="me")
        ownership.on_lost(lost.append)
        for name in ("a", "b", "c"):
            assert await ownership.acquire(name)
        await take_over(store, "b")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ownership.keep_renewed)
            await trio.sleep(1.9)
            assert lost == []
            await trio.sleep(0.2)
            assert lost == ["b"]
            await trio.sleep(10)
            nursery.cancel_scope.cancel()
        assert lost == ["b"]
        assert ownership.lease_of("b") is None
        assert await owners(store, "a", "b", "c") == ["me", "other", "me"]


async def test_a_lost_lease_is_reported_once_and_one_that_is_not_held_never() -> None:
    lost: list[str] = []
    async with shared() as store:
        ownership = Ownership(store, owner="me")
        ownership.on_lost(lost.append)
        await ownership.acquire("a")
        await ownership.acquire("b")
        ownership.forget("b")
        for name in ("a", "a", "b", "c"):
            ownership.lose(name)
        assert lost == ["a"]


async def test_only_one_process_gets_a_lease_and_the_next_one_when_it_is_released() -> None:
    async with shared() as store:
        first, second = Ownership(store, owner="first"), Ownership(store, owner="second")
        assert await first.acquire("a")
        assert await first.acquire("b")
        assert not await second.acquire("a")
        assert second.held == 0
        await second.release("a")
        assert await owners(store, "a") == ["first"]
        await first.release("a")
        assert first.lease_of("a") is None
        assert await owners(store, "a", "b") == [None, "first"]
        assert await second.acquire("a")


async def test_leases_are_released_by_the_beginning_of_their_names_and_others_are_notified() -> None:
    heard: list[str] = []
    async with shared() as store:
        ownership = Ownership(store, owner="me")
        with store.listening(lambda topic, _: heard.append(topic)):
            for name in (session_name("a"), session_name("b"), channel_name("a")):
                assert await ownership.acquire(name)
            assert heard == []
            await ownership.release_all("session:")
            assert heard == [RELEASED]
            await ownership.release_all("session:")
            assert heard == [RELEASED]
        assert ownership.held == 1
        assert await owners(store, "session:a", "session:b", "channel:a") == [None, None, "me"]


async def test_steps_are_written_in_order_with_the_next_write_of_their_turn() -> None:
    ends: list[tuple[str, bool]] = []
    async with shared() as store:
        ownership = Ownership(store, owner="me")
        lease = await lease_of_a(ownership)
        assert not ownership.guards("t")
        ownership.guard("t", lease)
        assert ownership.guards("t")
        for word in ("one", "two"):
            ownership.postpone(
                "t", partial(add, word), outlives_turn=True, ended=lambda ok, w=word: ends.append((w, ok))
            )
        assert await words(store) == []
        assert await ownership.write("t", lambda c: add("three", c) or "result") == "result"
        assert await words(store) == ["one", "two", "three"]
        assert ends == [("one", True), ("two", True)]
        await ownership.write("t", partial(add, "four"))
        assert await words(store) == ["one", "two", "three", "four"]
        assert len(ends) == 2


async def test_the_write_that_ends_a_turn_leaves_out_what_only_its_next_run_would_need() -> None:
    ends: list[tuple[str, bool]] = []
    async with shared() as store:
        ownership = Ownership(store, owner="me")
        lease = await lease_of_a(ownership)
        ownership.guard("t", lease)
        for word, outlives in (("cost", True), ("step", False)):
            ownership.postpone(
                "t", partial(add, word), outlives_turn=outlives, ended=lambda ok, w=word: ends.append((w, ok))
            )
        await ownership.write("t", partial(add, "reply"), ends=True)
        assert await words(store) == ["cost", "reply"]
        assert sorted(ends) == [("cost", True), ("step", False)]
        ownership.unguard("t")
        assert len(ends) == 2


async def test_the_steps_of_a_turn_that_ends_without_a_write_are_dropped() -> None:
    ends: list[bool] = []
    async with shared() as store:
        ownership = Ownership(store, owner="me")
        lease = await lease_of_a(ownership)
        ownership.guard("t", lease)
        ownership.postpone("t", partial(add, "step"), outlives_turn=True, ended=ends.append)
        ownership.unguard("t")
        ownership.unguard("t")
        assert ends == [False]
        assert not ownership.guards("t")
        with pytest.raises(LeaseLost, match="the turn is over"):
            await ownership.write("t", partial(add, "late"))
        with pytest.raises(LeaseLost, match="the turn is over"):
            ownership.postpone("t", partial(add, "late"), outlives_turn=True)
        assert await words(store) == []


async def test_steps_that_no_write_follows_are_written_with_the_next_renewal(autojump_clock) -> None:
    async with shared() as store:
        ownership = Ownership(store, length=8.0, owner="me")
        lease = await lease_of_a(ownership)
        ownership.guard("t", lease)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ownership.keep_renewed)
            await trio.sleep(1)
            commits = store.statistics().commits
            await trio.sleep(10)
            # Without steps there is one transaction for each renewal.
            assert store.statistics().commits == commits + 5
            ownership.postpone("t", partial(add, "step"), outlives_turn=False)
            await trio.sleep(2)
            assert await words(store) == ["step"]
            nursery.cancel_scope.cancel()


async def test_after_a_takeover_nothing_of_a_turn_is_written() -> None:
    lost: list[str] = []
    ends: list[bool] = []
    async with shared() as store:
        ownership = Ownership(store, owner="me")
        ownership.on_lost(lost.append)
        lease = await lease_of_a(ownership)
        ownership.guard("t", lease)
        ownership.postpone("t", partial(add, "step"), outlives_turn=True, ended=ends.append)
        await take_over(store, "a")
        for _ in range(2):
            with pytest.raises(LeaseLost, match="another worker"):
                await ownership.write("t", partial(add, "reply"))
        assert lost == ["a"]
        assert (await words(store), ends) == ([], [])
        ownership.unguard("t")
        assert ends == [False]


async def test_a_turn_is_fresh_in_its_first_run_only() -> None:
    async with shared() as store:
        ownership = Ownership(store, owner="me")
        lease = await lease_of_a(ownership)
        ownership.guard("first", lease, fresh=True)
        ownership.guard("again", lease)
        assert [ownership.is_fresh(turn) for turn in ("first", "again", "unknown")] == [True, False, False]


async def test_a_process_takes_no_session_inside_a_transaction_that_it_already_has() -> None:
    async with shared() as store:
        ownership = Ownership(store, length=8.0, owner="me")
        lease = await store.transact(lambda c: ownership.acquire_in(c, "a"))
        assert (lease.name, lease.owner, lease.length) == ("a", "me", 8.0)
        ownership.note(lease)
        assert ownership.lease_of("a") == lease
        await store.transact(lambda c: c.execute("UPDATE leases SET expires = 0").rowcount)
        assert await store.transact(lambda c: ownership.acquire_in(c, "a")) is None


@pytest.mark.parametrize("away", [False, True])
async def test_the_leases_are_freed_at_the_end_even_when_it_is_cancelled(away: bool) -> None:
    async with shared() as store:
        with trio.CancelScope() as scope:
            async with open_ownership(store, durable=True, length=8.0) as ownership:
                assert ownership is not None
                assert ownership.length == 8.0
                assert await ownership.acquire("a")
                assert await owners(store, "a") == [ownership.owner]
                store.away = away
                scope.cancel()
                await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert await owners(store, "a") == [ownership.owner if away else None]


async def test_nothing_is_owned_where_nothing_outlives_the_process() -> None:
    async with shared() as store, open_ownership(store, durable=False) as ownership:
        assert ownership is None


async def test_every_process_has_its_own_name() -> None:
    async with shared() as store:
        async with open_ownership(store, durable=True) as one, open_ownership(store, durable=True) as other:
            assert one is not None
            assert other is not None
            assert one.owner != other.owner
        assert Ownership(store, owner="me").owner == "me"
        assert Ownership(store).owner != Ownership(store).owner


async def test_a_store_out_of_reach_is_an_error_of_those_who_ask() -> None:
    async with shared() as store:
        ownership = Ownership(store, owner="me")
        store.away = True
        with pytest.raises(StoreError, match="out of reach"):
            await ownership.acquire("a")
        assert ownership.lease_of("a") is None
        with suppress(StoreError):
            await ownership.release("a")
