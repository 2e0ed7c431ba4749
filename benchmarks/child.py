"""One case in a process of its own: `python -m benchmarks.child BENCH CASE SETTING`, started by `rounds`.

For every line on its standard input it runs one round and answers with one line of JSON; at the end of the input it
closes its contender and answers with the most memory that it had.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import platform
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Any, TextIO, cast

import trio

from benchmarks.bench import Case, PlainRound, Round, Setting, Stopwatch
from benchmarks.found import find


def peak_mib() -> float:
    """The most memory that this process had, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: on Linux it begins with what the parent had when it forked.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    unit = 2**20 if platform.system() == "Darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def requests() -> Iterator[Stopwatch]:
    """A stopwatch per round that is asked for. What the round before left behind is not this one's."""
    for _ in sys.stdin:
        gc.collect()
        yield Stopwatch()


async def serve(opening: AbstractAsyncContextManager[Round], answer: Callable[[object], None]) -> None:
    async with opening as one_round:
        # Reading blocks the loop, and nothing is to happen on it between two rounds.
        for watch in requests():
            await one_round(watch)
            answer(watch.figures())


def serve_plainly(opening: AbstractContextManager[PlainRound], answer: Callable[[object], None]) -> None:
    with opening as one_round:
        for watch in requests():
            one_round(watch)
            answer(watch.figures())


def run(case: Case, setting: Setting, out: TextIO) -> None:
    def answer(value: object) -> None:
        print(json.dumps(value), file=out, flush=True)

    opening: Any = case.open(setting)
    if case.loop == "none":
        serve_plainly(opening, answer)
    elif case.loop == "asyncio":
        asyncio.run(serve(opening, answer))
    else:
        trio.run(serve, opening, answer)
    answer({"peak_mib": peak_mib()})


def main(bench: str, case: str, setting: str) -> None:
    # What a contender prints must not come between our lines.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    values = json.loads(setting)
    run(find(bench).case(case), Setting(**{**values, "folder": Path(values["folder"])}), cast(TextIO, out))



if __name__ == "__main__":
    main(*sys.argv[1:])
