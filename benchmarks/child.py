"""Cases in a process of their own: `python -m benchmarks.child BENCH SETTING CASE …`, started by `rounds`.

For every line `round` on its standard input it runs one round of the first case and answers with one line of JSON; at a
line `end` it closes the case, answers with the most memory that the process had, and goes on to the next.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import platform
import resource
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Any, TypeAlias

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


def rounds() -> Iterator[Stopwatch]:
    """A stopwatch per round that is asked for. What the round before left behind is not this one's."""
    for line in sys.stdin:
        if line.strip() == "end":
            return
        gc.collect()
        yield Stopwatch()


Answer: TypeAlias = Callable[[dict[str, float | str]], None]


async def serve(opening: AbstractAsyncContextManager[Round], answer: Answer) -> None:
    async with opening as one_round:
        # Reading blocks the loop, and nothing is to happen on it between two rounds.
        for watch in rounds():
            await one_round(watch)
            answer({**watch.figures()})


def serve_plainly(opening: AbstractContextManager[PlainRound], answer: Answer) -> None:
    with opening as one_round:
        for watch in rounds():
            one_round(watch)
            answer({**watch.figures()})


def run(case: Case, setting: Setting, answer: Answer) -> None:
    opening: Any = case.open(setting)
    if case.loop == "none":
        serve_plainly(opening, answer)
    elif case.loop == "asyncio":
        asyncio.run(serve(opening, answer))
    else:
        trio.run(serve, opening, answer)


def main(name: str, values: str, *cases: str) -> None:
    # What a contender prints must not come between our lines.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value: dict[str, float | str]) -> None:
        print(json.dumps(value), file=out, flush=True)

    bench, run_of = find(name), json.loads(values)
    for case in map(bench.case, cases):
        folder = Path(run_of["scratch"]) / str(bench.cases.index(case))
        folder.mkdir()
        try:
            run(case, Setting(quick=run_of["quick"], server=run_of["server"], folder=folder), answer)
            answer({"peak_mib": peak_mib()})
        except Exception as exc:
            traceback.print_exc()
            answer({"failed": f"{type(exc).__name__}: {_first(exc)}"[:300]})


def _first(exc: BaseException) -> BaseException:
    """The error itself, where a nursery wrapped it."""
    return _first(exc.exceptions[0]) if isinstance(exc, BaseExceptionGroup) else exc


if __name__ == "__main__":
    main(*sys.argv[1:])
