"""The commands that look after a store: worker, workers, requeue, store."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
import trio
from cli.program import run

from clawft_trio.agent import LoopPolicy, serve_sessions
from clawft_trio.agent.from_config import owed_file
from clawft_trio.agent.journal import Journal, turn_id_of
from clawft_trio.agent.open_agent import MIGRATIONS
from clawft_trio.agent.sessions import Sessions
from clawft_trio.agent.workers import requeue, summarize_work
from clawft_trio.bus import LeasedUndelivered, MessageBus
from clawft_trio.chat import Message
from clawft_trio.cli.store import check, copy
from clawft_trio.costs import Bill, Claim, Ledger
from clawft_trio.costs.records import Closing
from clawft_trio.errors import StoreCorrupt, StoreError
from clawft_trio.messages import InboundMessage, OutboundMessage
from clawft_trio.store import Connection, Migration, copying, open_store
from clawft_trio.store.copying import copy_store
from clawft_trio.store.ownership import Ownership

ASKED = InboundMessage(channel="test", sender_id="ana", chat_id="1", id="m1", content="hello")


async def answer(message: InboundMessage, _: object) -> OutboundMessage:
    await trio.lowlevel.checkpoint()
    return OutboundMessage(channel="", chat_id="", content=f"re: {message.content}")


async def serve(place, **policy: object) -> None:
    async with open_store(place, migrations=MIGRATIONS) as store:
        ownership = Ownership(store)
        bus = MessageBus(undelivered=LeasedUndelivered(ownership))
        bus.close_inbound()
        await serve_sessions(bus, answer, journal=Journal(store, ownership=ownership), policy=LoopPolicy(**policy))


async def test_a_message_that_was_given_up_can_be_queued_again(shared_place) -> None:
    async with open_store(shared_place, migrations=MIGRATIONS) as store:
        await Journal(store).accepted(ASKED)
        await store.transact(lambda c: c.execute("UPDATE turns SET resumes = 9").rowcount)
        await serve(shared_place, max_resumes=3)
        found = await summarize_work(store)
        [given_up] = found.given_up
        assert (given_up.turn_id, given_up.deliveries) == (turn_id_of(ASKED), 10)
        assert "given up" in given_up.error
        assert (found.open, found.undelivered, found.workers) == (0, (("test", 1),), ())
        assert not await requeue(store, "another")
        assert await requeue(store, given_up.turn_id)
        assert (await summarize_work(store)).open == 1
        await serve(shared_place, max_resumes=3)
        found = await summarize_work(store)
        assert (found.open, found.given_up, found.undelivered) == (0, (), (("test", 1),))
        keys = await LeasedUndelivered(Ownership(store)).keys("test", 10)
        [reply] = await LeasedUndelivered(Ownership(store)).fetch(keys)
        assert reply.message.content == "re: hello"


async def test_workers_and_their_leases_are_summarized(shared_place) -> None:
    async with open_store(shared_place, migrations=MIGRATIONS) as store:
        ownership = Ownership(store, length=20)
        assert await ownership.acquire("session:test:1")
        assert await ownership.acquire("channel:test")
        [worker] = (await summarize_work(store)).workers
        assert (worker.owner, worker.sessions, worker.channels) == (ownership.owner, 1, ("test",))
        assert 15 < worker.expires_in <= 20


@pytest.mark.parametrize("back", [False, True])
async def test_a_store_is_copied_to_the_other_engine(tmp_path: Path, postgres, back: bool) -> None:
    places = [tmp_path / "agent.db", postgres.schema()]
    if back:
        places.reverse()
    async with open_store(places[0], migrations=MIGRATIONS) as old, open_store(places[1], migrations=MIGRATIONS) as new:
        await Sessions(old).append("ä", [Message.user("one"), Message.user("two")])
        await Journal(old).accepted(ASKED)
        copied = {table.name: table.rows for table in await copy_store(old, new, MIGRATIONS)}
        assert (copied["messages"], copied["turns"]) == (2, 1)
        assert await Sessions(new).history("ä") == await Sessions(old).history("ä")
        # Rows that are added later come behind those that were copied.
        await Sessions(new).append("ä", [Message.user("three")])
        assert [message.text for message in await Sessions(new).history("ä")] == ["one", "two", "three"]
        assert not await Journal(new).accepted(ASKED)
        with pytest.raises(StoreError, match="not empty"):
            await copy_store(old, new, MIGRATIONS)


@pytest.mark.parametrize("back", [False, True])
async def test_a_copy_reads_and_writes_in_batches(
    tmp_path: Path, postgres, monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    monkeypatch.setattr(copying, "_BATCH", 2)
    places = [tmp_path / "agent.db", postgres.schema()]
    if back:
        places.reverse()
    async with open_store(places[0], migrations=MIGRATIONS) as old, open_store(places[1], migrations=MIGRATIONS) as new:
        said = [Message.user(str(number)) for number in range(25)]
        await Sessions(old).append("s", said)
        await copy_store(old, new, MIGRATIONS)
        assert [message.text for message in await Sessions(new).history("s")] == [message.text for message in said]
        # With more batches than wait at once, a target that refuses ends the copy, too.
        with pytest.raises(StoreError, match="not empty"):
            await copy_store(old, new, MIGRATIONS)


async def test_a_copy_reads_about_as_many_bytes_at_once_whatever_the_rows_hold(
    shared_place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_BATCH_BYTES", 10_000)
    async with open_store(shared_place, migrations=MIGRATIONS) as store:
        for length, count in ((4000, 20), (10, 300), (30_000, 1), (10, 1)):
            await Sessions(store).append("s", [Message.user("x" * length)] * count)

        def sizes(connection: Connection) -> list[tuple[int, int]]:
            batches = [values for _, values in copying._batches_of(connection, "messages", store.engine)]
            return [(len(rows), sum(len(row[-1]) for row in rows)) for rows in batches]

        found = await store.read(sizes)
    assert sum(rows for rows, _ in found) == 322
    assert len(found) < 50
    assert max(size for rows, size in found if rows > 1) < 40_000


async def test_a_copy_settles_what_is_owed_and_names_the_tables_that_it_leaves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "old.db", tmp_path / "new.db"
    own = Migration("notes", 1, "CREATE TABLE notes (id INTEGER);")
    async with open_store(source, migrations=[*MIGRATIONS, own]) as store:
        reservation = await Ledger(store, owner="ended").reserve(Claim(sender_id="ana", target="p/m"), Decimal(1))
        bill = Bill(cost=Decimal("0.5"))
        owed = owed_file(store)
        assert owed is not None
        await owed.append([Closing(id=reservation.id, state="settled", owner="ended", bill=bill)])
    await copy(str(source), str(target))
    assert "tables of notes" in capsys.readouterr().err
    async with open_store(target, migrations=MIGRATIONS) as store:
        [entry] = await Ledger(store).entries()
        assert (entry.state, entry.cost) == ("settled", bill.cost)


async def test_a_store_of_nothing_but_spoiled_rows_is_checked_and_some_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = "INSERT INTO messages (session, turn, said_at, message) VALUES ('s', '', '', ?)"
    async with open_store(tmp_path / "s.db", migrations=MIGRATIONS) as store:
        await store.transact(lambda c: c.executemany(row, [(b"{",)] * 100).rowcount)
    assert not await check(str(tmp_path / "s.db"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("messages, row 1: ")
    assert (len(lines), lines[-2:]) == (22, ["… and 80 more", "100 problems."])


async def test_a_store_in_use_is_not_copied(shared_place) -> None:
    async with open_store(shared_place, migrations=MIGRATIONS) as old, open_store(None, migrations=MIGRATIONS) as new:
        ownership = Ownership(old)
        assert await ownership.acquire("channel:test")
        with pytest.raises(StoreError, match="in use by 1 process"):
            await copy_store(old, new, MIGRATIONS)
        await ownership.release_all()
        await copy_store(old, new, MIGRATIONS)


@pytest.mark.parametrize("table", ["messages", "windows"])
async def test_a_copy_of_a_store_without_a_table_fails_with_the_error_of_the_source(tmp_path: Path, table: str) -> None:
    places = (tmp_path / "old.db", tmp_path / "new.db")
    async with open_store(places[0], migrations=MIGRATIONS) as old, open_store(places[1], migrations=MIGRATIONS) as new:
        await Sessions(old).append("s", [Message.user("one")])
        await old.transact(lambda connection: connection.execute(f"DROP TABLE {table}").rowcount)
        with pytest.raises(StoreCorrupt, match="does not have what a statement needs"):
            await copy_store(old, new, MIGRATIONS)
        assert await Sessions(new).history("s") == ()


async def test_the_commands_of_a_store(tmp_path: Path) -> None:
    file = tmp_path / "agent.db"
    for command in ("workers", "store check", "store upgrade"):
        missing = await run(*command.split(), str(file))
        assert missing.returncode == 2, missing.stderr
        assert not file.exists()

    async with open_store(file, migrations=MIGRATIONS) as store:
        await Journal(store).accepted(ASKED)
    shown = await run("workers", str(file), "--json")
    assert json.loads(shown.stdout)["open"] == 1, shown.stderr
    assert b"1 open message in 1 session" in (await run("workers", str(file))).stdout
    assert (await run("store", "check", str(file))).returncode == 0
    copied = await run("store", "copy", str(file), str(tmp_path / "copy.db"))
    assert copied.returncode == 0, copied.stderr
    assert b"turns: 1 rows" in copied.stderr
    assert (await run("requeue", str(file), "test:1:m1")).returncode == 1
    async with open_store(file, migrations=MIGRATIONS) as store:
        await store.transact(lambda c: c.execute("UPDATE turns SET message = ?", (b"{",)).rowcount)
    checked = await run("store", "check", str(file))
    assert checked.returncode == 1
    assert b"turns, row 1" in checked.stderr
