"""A worker process for the benchmark of workers: `python -m benchmarks.worker STORE`."""

from __future__ import annotations

import logging
import sys

import trio

from benchmarks.measures.durable import CONFIG, choose, pay
from clawft_trio import open_agent
from clawft_trio.agent import LoopPolicy
from clawft_trio.testing import ScriptedProvider


async def main(place: str) -> None:
    """Answer what the store has, until killed."""
    async with open_agent(
        ["p/m"],
        providers={"p": ScriptedProvider(choose=choose, name="p")},
        tools=[pay],
        config=CONFIG,
        store=place,
        loop=LoopPolicy(hand_over=True, poll=0.05),
    ):
        print("ready", flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    trio.run(main, sys.argv[1])
