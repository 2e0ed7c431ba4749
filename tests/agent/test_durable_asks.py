"""Questions with an id: asked again, also by another process after a crash, they are one turn."""

from __future__ import annotations

import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import attrs
import psycopg
import pytest
import trio
from judged import ScriptedProvider

from clawft_trio import open_agent, open_store, tool
from clawft_trio.agent.durable_asks import ASK_MIGRATIONS
from clawft_trio.agent.journal import MIGRATIONS as JOURNAL_MIGRATIONS
from clawft_trio.costs import Claim, Ledger
from clawft_trio.errors import Refused, StoreError
from clawft_trio.store import Connection
from clawft_trio.store.leases import acquire
from clawft_trio.store.ownership import session_name
from clawft_trio.testing import CallTool, Finish, Say

CHILD = """
import os, signal, sys
from pathlib import Path
import trio
from clawft_trio import open_agent, tool
from clawft_trio.testing import CallTool, Finish, Say, ScriptedProvider

@tool(mode="mutating")
async def pay(n: str) -> str:
    "Pay."
    with open(sys.argv[2], "a") as file:
        file.write("paid\\n")
    return "paid"

def choose(request):
    if request.messages[-1].role == "tool":
        if sys.argv[3] == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        return [Say("done: " + request.messages[-1].text), Finish()]
    return [CallTool("pay", {"n": "1"}), Finish()]

async def main():
    provider = ScriptedProvider(choose=choose, name="p")
    async with open_agent(["p/m"], providers={"p": provider}, tools=[pay], store=sys.argv[1]) as agent:
        reply = await agent.ask("pay", turn_id="order 17")
        print(reply.text, len(provider.requests))

trio.run(main)
"""


async def run(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-c", CHILD, *arguments]
    ended = await trio.run_process(command, capture_stdout=True, check=False)
    return ended.returncode, ended.stdout.decode()


async def test_a_question_is_resumed_after_a_crash_and_then_answered_from_the_store(shared_place, tmp_path) -> None:
    effects = tmp_path / "effects"
    code, _ = await run(str(shared_place), str(effects), "crash")
    assert code == -signal.SIGKILL
    code, text = await run(str(shared_place), str(effects), "go on")
    assert code == 0
    # The tool's result may have been lost with the process: then it is unknown, and nothing is paid twice.
    assert text.startswith("done: ")
    assert effects.read_text() == "paid\n"
    assert await run(str(shared_place), str(effects), "go on") == (0, text.rpartition(" ")[0] + " 0\n")


@pytest.mark.long
@pytest.mark.timeout(300)
def test_killed_before_and_after_any_commit_it_is_one_turn_with_one_reply_and_a_charge_for_each_request(
    postgres, tmp_path: Path
) -> None:
    child = Path(__file__).with_name("ask_child.py")
    with subprocess.Popen([sys.executable, child], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as lives:
        assert lives.stdin is not None
        assert lives.stdout is not None
        step = 0
        while True:
            step += 1
            folder, address, codes = tmp_path / f"{step}", postgres.schema(), []
            folder.mkdir()
            # Killed, resumed, and asked once more.
            for last in (step, 0, 0):
                lives.stdin.write(f"{address} {folder} {last}\n")
                lives.stdin.flush()
                codes.append(int(lives.stdout.readline()))
            assert codes[1:] == [0, 0], (step, codes)
            if codes[0] == 0:
                break
            check_one_turn(address, folder, step)
        lives.stdin.close()
    assert step > 10, "the last life was the first without a kill"


def check_one_turn(address: str, folder: Path, step: int) -> None:
    noted = {file.name: file.read_text("utf-8").splitlines() for file in folder.iterdir()}
    assert len(set(noted["replies"])) == 1, (step, noted)
    assert noted["replies"][0].startswith("done: "), (step, noted)
    assert len(noted.get("effects", ())) <= 1, (step, noted)
    with psycopg.connect(address) as connection:
        roles = connection.execute("SELECT convert_from(message, 'UTF8')::json ->> 'role' FROM messages ORDER BY place")
        assert [role for (role,) in roles] == ["user", "assistant", "tool", "assistant"], step
        assert connection.execute("SELECT count(*) FROM answers").fetchone() == (0,), step
        rows = connection.execute("SELECT state FROM cost_charges").fetchall()
        # A process that was killed between its reservation and its request leaves a charge of the reservation.
        assert len(rows) - len(noted["requests"]) in ({0} if step % 2 else {0, 1}), (step, rows, noted)
        assert ("open",) not in rows, (step, rows)


async def test_asked_at_once_by_two_agents_it_is_one_turn(shared_place) -> None:
    provider = ScriptedProvider([Say("hello"), Finish()], name="p")
    texts: list[str] = []

    async def ask(agent) -> None:
        texts.append((await agent.ask("hi", turn_id="one")).text)

    async with (
        open_agent(["p/m"], providers={"p": provider}, store=shared_place) as first,
        open_agent(["p/m"], providers={"p": provider}, store=shared_place) as second,
    ):
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, first)
                nursery.start_soon(ask, second)
    assert texts == ["hello", "hello"]
    assert len(provider.requests) == 1


@pytest.mark.parametrize("other", [{"sender_id": "eve"}, {"session": "another"}], ids=["sender", "session"])
async def test_the_id_of_a_turn_belongs_to_its_first_sender_and_session(shared_place, other) -> None:
    began, refused = trio.Event(), trio.Event()

    @tool
    async def wait() -> str:
        """Wait."""
        began.set()
        await refused.wait()
        return "waited"

    provider = ScriptedProvider([CallTool("wait", {}), Finish()], [Say("secret"), Finish()], name="p")
    async with (
        open_agent(["p/m"], providers={"p": provider}, tools=[wait], store=shared_place) as first,
        open_agent(["p/m"], providers={"p": provider}, store=shared_place) as second,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(lambda: first.ask("hi", turn_id="one", sender_id="ana"))
        await began.wait()
        # While it runs, and after it has ended.
        with pytest.raises(Refused, match="another sender or session"):
            await second.ask("hi", turn_id="one", **other)
        refused.set()
        assert (await second.ask("another text", turn_id="one", sender_id="ana")).text == "secret"
        with pytest.raises(Refused, match="another sender or session"):
            await second.ask("hi", turn_id="one", **other)
    assert len(provider.requests) == 2


async def test_a_typed_answer_is_read_from_the_stored_reply(tmp_path: Path) -> None:
    @attrs.frozen
    class City:
        name: str

    provider = ScriptedProvider([Say('{"name": "Oslo"}'), Finish()], name="p")
    for _ in range(2):
        async with open_agent(["p/m"], providers={"p": provider}, store=tmp_path / "store.db") as agent:
            assert await agent.ask("where?", answer=City, turn_id="x") == City("Oslo")
    assert len(provider.requests) == 1


async def test_a_turn_id_without_a_store_is_refused() -> None:
    async with open_agent(["p/m"], providers={"p": ScriptedProvider([Say("x"), Finish()], name="p")}) as agent:
        with pytest.raises(StoreError, match="needs a store"):
            await agent.ask("hi", turn_id="x")


async def test_a_resumed_turn_does_not_wait_for_the_reservations_of_the_process_that_ended(tmp_path: Path) -> None:
    provider = ScriptedProvider([Say("hello"), Finish()], name="p")
    async with open_agent(["p/m"], providers={"p": provider}, store=tmp_path / "store.db") as agent:
        store, begin = agent.parts.store, "INSERT INTO asks (turn, session, reply) VALUES ('ask:one', 's', ?)"
        await store.transact(lambda c: c.execute(begin, (b"",)).rowcount)
        ended = Ledger(store, owner="the process that ended")
        await ended.reserve(Claim(sender_id="local:local", target="p/m", turn_id="ask:one"), Decimal(1))
        await agent.ask("hi", session="s", turn_id="one")
        assert [entry.state for entry in await ended.entries()] == ["settled", "lost"]


_OLD_ROWS = """
    UPDATE asks SET at = now_seconds() - 31 * 86400 WHERE turn IN ('ask:old', 'ask:left', 'ask:running')
"""


async def test_replies_are_stored_for_thirty_days_and_steps_for_as_long_as_nothing_resumes_them(shared_place) -> None:
    provider = ScriptedProvider(choose=lambda _: [Say(f"reply {len(provider.requests)}"), Finish()], name="p")
    async with open_agent(["p/m"], providers={"p": provider}, store=shared_place) as agent:
        store = agent.parts.store

        def leave_turns(connection: Connection) -> None:
            # A turn without a reply, and one that another process works on.
            for turn in ("ask:left", "ask:running"):
                connection.execute("INSERT INTO asks (turn, session, reply) VALUES (?, ?, ?)", (turn, turn, b""))
                connection.execute("INSERT INTO answers (turn, round, response) VALUES (?, 1, ?)", (turn, b"{}"))
            assert acquire(connection, session_name("ask:running"), "another", 60.0)
            connection.execute(_OLD_ROWS)

        for turn in ("old", "young"):
            await agent.ask("hi", turn_id=turn)
        await store.transact(leave_turns)
        for turn in ("young", "new"):
            await agent.ask("hi", turn_id=turn)
        asks = await store.read(lambda c: c.execute("SELECT turn FROM asks ORDER BY turn").fetchall())
        steps = await store.read(lambda c: c.execute("SELECT turn FROM answers").fetchall())
        assert (asks, steps) == ([("ask:new",), ("ask:running",), ("ask:young",)], [("ask:running",)])
        assert (await agent.ask("hi", turn_id="old")).text == "reply 4"


async def test_a_reply_that_another_process_deletes_meanwhile_begins_a_new_turn(postgres) -> None:
    provider, place = ScriptedProvider([Say("new"), Finish()], name="p"), postgres.schema()
    async with open_agent(["p/m"], providers={"p": provider}, store=place) as agent:
        with psycopg.connect(place) as connection:
            # As if the row were there when it is to be inserted, and gone afterwards.
            connection.execute("""
                CREATE SEQUENCE inserts;
                CREATE FUNCTION skip_first() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    IF nextval('inserts') = 1 THEN RETURN NULL; END IF;
                    RETURN NEW;
                END $$;
                CREATE TRIGGER skip_first BEFORE INSERT ON asks FOR EACH ROW EXECUTE FUNCTION skip_first();
            """)
        with trio.fail_after(20):
            assert (await agent.ask("hi", turn_id="one")).text == "new"


async def test_a_reply_of_an_earlier_version_is_stored_for_thirty_days_from_now(shared_place) -> None:
    async with open_store(shared_place, migrations=[*JOURNAL_MIGRATIONS, ASK_MIGRATIONS[0]]) as store:
        await store.transact(lambda c: c.execute("INSERT INTO asks VALUES ('t', 's', ?)", (b"x",)).rowcount)
    async with open_store(shared_place, migrations=[*JOURNAL_MIGRATIONS, *ASK_MIGRATIONS]) as store:
        query = "SELECT now_seconds() - at FROM asks"
        (age,) = await store.read(lambda c: c.execute(query).fetchone())
        assert 0 <= age < 60
