"""Several worker processes on one store: a worker is killed in the middle of a turn, another one answers.

Run it: python tests/cookbook/workers.py

The store is an SQLite file; on several machines it is `postgresql://…`, and nothing else changes. In production the
workers are `clawft-trio worker --store …`; the process that receives messages is any agent on the same store.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from clawft_trio import ChatRequest, InboundMessage, open_agent, open_store, parse_config
from clawft_trio.agent import Journal, LoopPolicy
from clawft_trio.agent.open_agent import MIGRATIONS
from clawft_trio.store import Connection
from clawft_trio.store.ownership import Ownership
from clawft_trio.testing import Finish, Hang, Say, Script, ScriptedProvider

CONFIG = parse_config('{"routing": {"permissions": {"channels": {"shop": {"level": 1, "rateLimit": 0}}}}}')
QUESTIONS = 6


async def work(store: str, *, hangs: bool) -> None:
    """A worker: it answers the messages of *store* until it is stopped. The first one hangs in its turns."""

    def script(request: ChatRequest) -> Script:
        if hangs:
            print("working", flush=True)
            return [Say("Let me "), Hang()]
        return [Say(f"Answer to {request.messages[-1].text}"), Finish()]

    policy = LoopPolicy(lease=1.0, poll=0.2, hand_over=True)
    model = ScriptedProvider(choose=script, name="scripted")
    async with open_agent(["scripted/m"], providers={"scripted": model}, config=CONFIG, store=store, loop=policy):
        await trio.sleep_forever()


async def accept_questions(store: str) -> None:
    """What a front end does with each message that comes in: it is stored before its sender is notified."""
    async with open_store(store, migrations=MIGRATIONS) as kept:
        journal = Journal(kept, ownership=Ownership(kept))
        for number in range(QUESTIONS):
            question = InboundMessage(
                channel="shop", sender_id="ana", chat_id=str(number % 3), id=f"q{number}", content=f"question {number}"
            )
            await journal.accept(question, claim=False)


def stored_replies(connection: Connection) -> list[str]:
    """Final replies that wait for their channel: here no process serves the channel `shop`."""
    return [bytes(row[0]).decode() for row in connection.execute("SELECT message FROM undelivered").fetchall()]


async def main(folder: Path) -> None:
    store = str(folder / "agent.db")
    await accept_questions(store)
    command = [sys.executable, __file__, "--work", store]
    async with trio.open_nursery() as nursery:
        start = partial(trio.run_process, check=False, env={**os.environ, "PYTHONWARNINGS": "error"})
        stuck = await nursery.start(partial(start, [*command, "--hang"], stdout=-1))
        await stuck.stdout.receive_some(1)  # it is in the middle of a turn
        stuck.kill()
        print("killed the first worker in the middle of a turn")

        worker = await nursery.start(partial(start, command))  # or any number of them
        async with open_store(store, migrations=MIGRATIONS) as kept:
            with trio.fail_after(60):
                while len(replies := await kept.read(stored_replies)) < QUESTIONS:
                    await trio.sleep(0.1)
        worker.terminate()
    print(f"{len(replies)} replies, one for each question")
    assert all(any(f"Answer to question {number}" in reply for reply in replies) for number in range(QUESTIONS))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        trio.run(partial(work, sys.argv[2], hangs="--hang" in sys.argv))
    else:
        with TemporaryDirectory() as temporary:
            trio.run(main, Path(temporary))
