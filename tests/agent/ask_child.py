"""Processes that ask with a turn id and are killed at a commit. Run by test_durable_asks.

    python ask_child.py

Each line of stdin, `ADDRESS FOLDER STEP`, starts a process that asks one question; its exit code is printed. It counts the
boundaries of commits on PostgreSQL, before and after each; at boundary number STEP it kills itself with SIGKILL, with 0 it
lives. What it does outside of the store it writes to files in FOLDER, each write on disk before it goes on.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import trio

from clawft_trio import open_agent, tool
from clawft_trio.store.postgres_lane import Lane
from clawft_trio.testing import CallTool, Finish, Say, ScriptedProvider


class Boundaries:
    """Counts commits; kills the process at one of them."""

    def __init__(self, last: int) -> None:
        self.left = last
        self.commit = Lane._commit

    def __call__(self, lane: Lane, session, transaction: str) -> None:
        self.one()
        self.commit(lane, session, transaction)
        self.one()

    def one(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


async def ask(address: str, folder: Path, step: int) -> None:
    def note(file: str, text: str) -> None:
        with (folder / file).open("a") as notes:
            notes.write(text + "\n")
            notes.flush()
            os.fsync(notes.fileno())

    def choose(request):
        note("requests", "one")
        if request.messages[-1].role == "tool":
            return [Say("done: " + request.messages[-1].text), Finish()]
        return [CallTool("pay", {"n": "1"}), Finish()]

    @tool(mode="mutating")
    async def pay(n: str) -> str:
        """Pay."""
        await trio.lowlevel.checkpoint()
        note("effects", n)
        return "paid"

    provider = ScriptedProvider(choose=choose, name="p")
    async with open_agent(["p/m"], providers={"p": provider}, tools=[pay], store=address) as agent:
        # From here on: opening and closing are no part of the turn.
        boundaries = Boundaries(step)
        Lane._commit = lambda lane, session, transaction: boundaries(lane, session, transaction)
        reply = await agent.ask("pay", turn_id="order 17", session="s")
        Lane._commit = boundaries.commit
        note("replies", reply.text)


def main() -> None:
    for line in sys.stdin:
        address, folder, step = line.split()
        pid = os.fork()
        if not pid:
            trio.run(ask, address, Path(folder), int(step))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


main()
