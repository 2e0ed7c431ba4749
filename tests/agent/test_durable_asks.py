"""Questions with an id: asked again, also by another process after a crash, they are one turn."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import attrs
import pytest
import trio
from judged import ScriptedProvider

from clawft_trio import open_agent, open_store, tool
from clawft_trio.agent.durable_asks import ASK_MIGRATIONS
from clawft_trio.agent.journal import MIGRATIONS as JOURNAL_MIGRATIONS
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


async def test_a_reply_of_an_earlier_version_is_stored_for_thirty_days_from_now(shared_place) -> None:
    async with open_store(shared_place, migrations=[*JOURNAL_MIGRATIONS, ASK_MIGRATIONS[0]]) as store:
        await store.transact(lambda c: c.execute("INSERT INTO asks VALUES ('t', 's', ?)", (b"x",)).rowcount)
    async with open_store(shared_place, migrations=[*JOURNAL_MIGRATIONS, *ASK_MIGRATIONS]) as store:
        query = "SELECT now_seconds() - at FROM asks"
        (age,) = await store.read(lambda c: c.execute(query).fetchone())
        assert 0 <= age < 60
