"""A worker for the tests that kill it: `python worker_child.py STORE FOLDER`.

Scripted models, and a tool that is not idempotent and writes outside the store.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

import trio

from clawft_trio import open_agent, parse_config, tool
from clawft_trio.agent import LoopPolicy
from clawft_trio.testing import CallTool, Finish, Say, ScriptedProvider
from clawft_trio.tools import ToolContext

CONFIG = """
{
    "routing": {"permissions": {"channels": {"ch": {
        "level": 1, "toolAccess": ["*"], "rateLimit": 0, "costBudgetDailyUsd": 0, "costBudgetMonthlyUsd": 0
    }}}},
    "prices": {"p/m": {"input": "1", "output": "1"}}
}
"""

FOLDER = Path(sys.argv[2]) if len(sys.argv) > 2 else Path()


def log(name: str, line: str) -> None:
    """Append a line, in one write, so that lines of several processes never mix."""
    descriptor = os.open(FOLDER / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, (line + "\n").encode())
    finally:
        os.close(descriptor)


@tool(mode="mutating")
async def pay(n: str, context: ToolContext) -> str:
    """Not idempotent."""
    await trio.lowlevel.checkpoint()
    log("effects", context.turn_id)
    return "paid"


def choose(request):
    log("requests", request.messages[-1].role)
    if request.messages[-1].role == "tool":
        outcome = "unknown" if "outcome_unknown" in request.messages[-1].text else "paid"
        return [Say(outcome), Finish()]
    return [CallTool("pay", {"n": request.messages[-1].text}), Finish()]


async def main(store: str) -> None:
    policy = LoopPolicy(hand_over=True, max_resumes=1000, poll=0.3, max_concurrent_turns=16, lease=1.5)
    async with open_agent(
        ["p/m"],
        providers={"p": ScriptedProvider(choose=choose, name="p")},
        tools=[pay],
        config=parse_config(CONFIG),
        store=store,
        loop=policy,
    ):
        (FOLDER / f"ready-{os.getpid()}").touch()
        print("ready", flush=True)
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                return


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    trio.run(main, sys.argv[1])
