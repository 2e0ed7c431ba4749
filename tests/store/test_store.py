"""What a store does on either engine."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings, strategies as st

from clawft_trio.errors import StoreClosed, StoreCorrupt, StoreError, StoreTooNew
from clawft_trio.store import Connection, Migration, open_store
from clawft_trio.store.dialect import schema_for_postgres, statement_for_postgres
from clawft_trio.testing.sweep import cancel_everywhere

WORDS = Migration("words", 1, "CREATE TABLE words (word TEXT PRIMARY KEY, data BLOB) STRICT, WITHOUT ROWID;")
NUMBERS = Migration("numbers", 1, "CREATE TABLE numbers (n INTEGER NOT NULL);")
PLACES = Migration(
    "places", 1, "CREATE TABLE places (place INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, at REAL) STRICT;"
)


def add(word: str, connection: Connection) -> None:
    connection.execute("INSERT INTO words (word) VALUES (?)", (word,))


def words(connection: Connection) -> list[str]:
    return [word for (word,) in connection.execute("SELECT word FROM words ORDER BY word")]


async def test_what_was_committed_is_read_back(place) -> None:
    async with open_store(place, migrations=[WORDS]) as store:
        await store.transact(partial(add, "oslo"))
        assert await store.read(words) == ["oslo"]
        assert (store.statistics().written, store.statistics().read >= 1) == (2, True)
        assert store.private == (place is None)


async def test_any_exception_rolls_everything_back(place) -> None:
    def half(connection: Connection) -> None:
        add("half", connection)
        raise KeyError("stop")

    async with open_store(place, migrations=[WORDS]) as store:
        with pytest.raises(KeyError):
            await store.transact(half)
        assert await store.read(words) == []
        await store.transact(partial(add, "whole"))
        assert await store.read(words) == ["whole"]
        assert store.statistics().rolled_back == 1


async def test_a_failed_transaction_of_a_group_rolls_back_alone(shared_place) -> None:
    failed: list[str] = []

    async def write(store, word: str) -> None:
        def work(connection: Connection) -> None:
            add(word, connection)
            if word.endswith("3"):
                raise KeyError(word)

        try:
            await store.transact(work)
        except KeyError:
            failed.append(word)

    async with open_store(shared_place, migrations=[WORDS]) as store:
        before = store.statistics()
        async with trio.open_nursery() as nursery:
            for n in range(60):
                nursery.start_soon(write, store, f"{n:02}")
        after = store.statistics()
        kept = await store.read(words)
    assert sorted(failed) == [f"{n:02}" for n in range(60) if n % 10 == 3]
    assert kept == [f"{n:02}" for n in range(60) if n % 10 != 3]
    assert after.written - before.written == 54
    if after.engine == "sqlite":
        # Those that wait while the first commits share the next commit.
        assert after.commits - before.commits <= 10


async def test_a_closed_store_refuses(place) -> None:
    async with open_store(place, migrations=[WORDS]) as store:
        pass
    with pytest.raises(StoreClosed):
        await store.read(words)
    with pytest.raises(StoreClosed):
        await store.transact(words)
    assert repr(store).endswith("closed>")


@pytest.mark.parametrize("place", ["mysql://host/x", "postgresq://host/x", "redis://:word@host", "https://host/x"])
async def test_an_address_of_something_else_is_refused_and_makes_no_file(place, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=r"a store is a file or postgresql://…") as caught:
        async with open_store(place):
            raise AssertionError("it was opened")
    assert "word" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


async def test_a_newer_schema_is_refused(shared_place) -> None:
    async with open_store(shared_place, migrations=[WORDS, Migration("words", 2, "CREATE INDEX i ON words (data);")]):
        pass
    with pytest.raises(StoreTooNew):
        async with open_store(shared_place, migrations=[WORDS]):
            raise AssertionError("opened")


async def test_migrations_run_once_and_subpackages_do_not_meet(shared_place) -> None:
    async with open_store(shared_place, migrations=[WORDS]) as store:
        await store.transact(partial(add, "oslo"))
    async with open_store(shared_place, migrations=[NUMBERS, WORDS]) as store:
        await store.transact(lambda c: c.executemany("INSERT INTO numbers VALUES (?)", [(1,), (2,)]).rowcount)
        rows = await store.read(lambda c: c.execute("SELECT word, sum(n) FROM words, numbers GROUP BY word").fetchall())
    assert rows == [("oslo", 3)]


async def test_values_come_back_as_they_were(place) -> None:
    async with open_store(place, migrations=[WORDS, PLACES]) as store:
        row = ("ä?%s'", b"\x00\xff")
        await store.transact(lambda c: c.execute("INSERT INTO words VALUES (?, ?)", row).rowcount)
        assert await store.read(lambda c: c.execute("SELECT word, data, '?%' FROM words").fetchall()) == [(*row, "?%")]
        insert = "INSERT INTO places (name, at) VALUES (?, ?) RETURNING place"
        places = [await store.transact(lambda c: c.execute(insert, ("a", 0.5)).fetchone()[0]) for _ in range(2)]
        assert places[0] < places[1]
        total = await store.read(lambda c: c.execute("SELECT sum(place), sum(at) FROM places").fetchone())
        assert total == (sum(places), 1.0)
        assert [type(value) for value in total] == [int, float]


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
async def test_a_text_that_is_no_unicode_is_a_typed_error(place, text: str) -> None:
    async with open_store(place, migrations=[WORDS]) as store:
        with pytest.raises(StoreError):
            await store.transact(partial(add, text))
        await store.transact(partial(add, "whole"))
        assert await store.read(words) == ["whole"]


async def test_a_dropped_table_is_a_typed_error(place) -> None:
    async with open_store(place, migrations=[WORDS]) as store:
        await store.transact(lambda c: c.execute("DROP TABLE words").rowcount)
        with pytest.raises(StoreCorrupt):
            await store.read(words)
        with pytest.raises(StoreCorrupt):
            await store.transact(partial(add, "oslo"))


async def test_listeners_get_what_was_committed_and_nothing_else(place) -> None:
    heard: list[tuple[str, str]] = []
    listening = trio.Event()

    def listener(topic: str, payload: str) -> None:
        listening.set()
        if topic:
            heard.append((topic, payload))

    def observer(text: str, fails: bool, connection: Connection) -> None:
        connection.execute("SELECT notify_listeners(?)", (text,)).fetchone()
        if fails:
            raise KeyError(text)

    async with open_store(place) as store:
        with store.listening(listener):
            if store.engine == "postgresql":
                # The connection that listens is there, and says that something may have been lost before.
                with trio.fail_after(10):
                    await listening.wait()
            with pytest.raises(KeyError):
                await store.transact(partial(observer, "lost\n", True))
            await store.transact(partial(observer, "topic\ntwo\nlines", False))
            with trio.fail_after(10):
                while not heard:
                    await trio.sleep(0.01)
        await store.transact(partial(observer, "late\n", False))
    assert heard == [("topic", "two\nlines")]


async def test_cancelled_means_not_written(place) -> None:
    done: list[str] = []
    begun = 0
    async with open_store(place, migrations=[WORDS]) as store:

        async def write() -> None:
            nonlocal begun
            begun += 1
            word = f"{begun:04}"
            await store.transact(partial(add, word))
            done.append(word)

        async def what_returned_is_there_and_nothing_else() -> None:
            assert await store.read(words) == sorted(done)
            assert store.statistics().waiting == 0

        assert await cancel_everywhere(write, what_returned_is_there_and_nothing_else) >= 2


async def test_a_transaction_cancelled_before_its_commit_is_rolled_back(shared_place) -> None:
    started = trio.Event()
    token = trio.lowlevel.current_trio_token()
    go_on = trio.Event()

    def slow(connection: Connection) -> None:
        add("late", connection)
        trio.from_thread.run_sync(started.set, trio_token=token)
        trio.from_thread.run(go_on.wait, trio_token=token)

    async with open_store(shared_place, migrations=[WORDS]) as store:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.transact, slow)
            await started.wait()
            nursery.cancel_scope.cancel()
            go_on.set()
        assert await store.read(words) == []


async def test_a_transaction_that_waits_is_withdrawn_at_once(shared_place) -> None:
    started, go_on = trio.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    def slow(_: Connection) -> None:
        trio.from_thread.run_sync(started.set, trio_token=token)
        trio.from_thread.run(go_on.wait, trio_token=token)

    async with open_store(shared_place, migrations=[WORDS]) as store, trio.open_nursery() as nursery:
        for _ in range(1 if store.engine == "sqlite" else 8):
            nursery.start_soon(partial(store.transact, slow, concurrent=True))
        await started.wait()
        with trio.move_on_after(0.05) as scope:
            await store.transact(partial(add, "late"))
        assert scope.cancelled_caught
        go_on.set()


async def test_many_tasks_share_it(shared_place) -> None:
    async with open_store(shared_place, migrations=[WORDS], durability="process") as store:
        async with trio.open_nursery() as nursery:
            for n in range(50):
                nursery.start_soon(store.transact, partial(add, f"{n:02}"))
                nursery.start_soon(store.read, words)
        assert len(await store.read(words)) == 50


async def test_transactions_that_are_not_concurrent_never_overlap(shared_place) -> None:
    def bump(connection: Connection) -> None:
        (n,) = connection.execute("SELECT coalesce(max(n), 0) FROM numbers").fetchone()
        connection.execute("INSERT INTO numbers VALUES (?)", (n + 1,))

    async with (
        open_store(shared_place, migrations=[NUMBERS], busy=30) as one,
        open_store(shared_place, migrations=[NUMBERS], busy=30) as two,
        trio.open_nursery() as nursery,
    ):
        for _ in range(40):
            nursery.start_soon(one.transact, bump)
            nursery.start_soon(two.transact, bump)
    async with open_store(shared_place) as store:
        numbers = await store.read(lambda c: c.execute("SELECT n FROM numbers ORDER BY n").fetchall())
    assert [n for (n,) in numbers] == list(range(1, 81))


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=12))
def test_the_store_holds_exactly_the_transactions_that_returned(place, steps: list[tuple[str, bool]]) -> None:
    model: set[str] = set()
    # A folder of its own for each example would take longer than the example.
    if isinstance(place, Path):
        place = None

    async def main() -> None:
        async with open_store(place, migrations=[WORDS]) as store:
            await store.transact(lambda c: c.execute("DELETE FROM words").rowcount)
            for word, fails in steps:

                def work(connection: Connection, word: str = word, fails: bool = fails) -> None:
                    connection.execute("INSERT INTO words (word) VALUES (?) ON CONFLICT (word) DO NOTHING", (word,))
                    if fails:
                        raise RuntimeError(word)

                try:
                    await store.transact(work)
                    model.add(word)
                except RuntimeError:
                    assert fails
            assert await store.read(words) == sorted(model)

    trio.run(main)


def test_statements_are_translated_outside_literals() -> None:
    text = "SELECT '?', now_seconds() FROM t WHERE a LIKE '%it''s?' AND b = ? AND c % 2 = 0"
    expected = (
        "SELECT '?', extract(epoch from clock_timestamp())::float8 FROM t"
        " WHERE a LIKE '%%it''s?' AND b = %s AND c %% 2 = 0"
    )
    assert statement_for_postgres(text) == expected


def test_schemas_get_the_types_of_postgresql() -> None:
    text = (
        "CREATE TABLE t (a INTEGER PRIMARY KEY AUTOINCREMENT, b BLOB, c REAL, d TEXT, e INTEGER) STRICT, WITHOUT ROWID;"
    )
    expected = (
        "CREATE TABLE t (a bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, b bytea, c double precision,"
        ' d text COLLATE "C", e bigint);'
    )
    assert schema_for_postgres(text) == expected
