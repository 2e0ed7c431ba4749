"""What a fan-out costs per call: checked arguments, a deadline and locks, against a bare nursery.

    python benchmarks/bench_fan_out.py

1 000 tools that do nothing, in one run with 1 000 `nursery.start_soon` of a function that does nothing; the rounds
take turns, and of each side the best counts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable

import attrs
import trio

from clawft_trio.auth import AuthContext
from clawft_trio.chat import ToolCall
from clawft_trio.tools import ToolContext, ToolRegistry, tool

CALLS = 1000
CONTEXT = ToolContext(auth=AuthContext.local())


@attrs.frozen(kw_only=True)
class FanOutCost:
    """Microseconds of CPU per call."""

    #: `execute_all`, a tool without paths
    fan_out: float
    #: `execute_all`, each call with a path of its own to lock
    with_paths: float
    #: `nursery.start_soon` of a function that returns at once
    bare: float

    @property
    def ratio(self) -> float:
        """How much more a call costs than a bare task."""
        return self.fan_out / self.bare


@tool(mode="read_only", total=30)
async def nothing(number: int, text: str = "") -> str:
    """Do nothing."""
    return "done"


@tool(total=30, writes="path")
async def nothing_to(path: str) -> str:
    """Do nothing to a path."""
    return "done"


async def bare_nursery() -> None:
    async def nothing_at_all() -> None:
        pass

    async with trio.open_nursery() as nursery:
        for _ in range(CALLS):
            nursery.start_soon(nothing_at_all)


def fan_out_of(name: str, argument: str) -> Callable[[], Awaitable[object]]:
    registry = ToolRegistry([nothing, nothing_to])
    calls = [
        ToolCall(id=str(n), name=name, arguments=json.dumps({argument: n if argument == "number" else f"d{n % 9}/{n}"}))
        for n in range(CALLS)
    ]
    return lambda: registry.execute_all(calls, CONTEXT)


async def cost_of(operation: Callable[[], Awaitable[object]]) -> float:
    # CPU of this thread: what other programs do on the machine is not counted.
    began = time.thread_time()
    await operation()
    return (time.thread_time() - began) / CALLS * 1e6


async def measure(rounds: int = 15) -> FanOutCost:
    """Measure in one run; a second or two."""
    sides = (fan_out_of("nothing", "number"), fan_out_of("nothing_to", "path"), bare_nursery)
    seen = [[await cost_of(side) for side in sides] for _ in range(rounds)]
    fan_out, with_paths, bare = (min(column) for column in zip(*seen, strict=True))
    return FanOutCost(fan_out=fan_out, with_paths=with_paths, bare=bare)


def main() -> None:
    cost = trio.run(measure)
    print(f"bare start_soon     {cost.bare:6.1f} us")
    print(f"fan-out             {cost.fan_out:6.1f} us, {cost.ratio:.1f} times")
    print(f"fan-out with paths  {cost.with_paths:6.1f} us on the loop, and the paths in a thread")


if __name__ == "__main__":
    main()
