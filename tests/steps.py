"""Growth and effort of code, measured so that other programs on the machine do not change the result."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from typing import Any


def growth(work: Callable[[int], object], small: int, large: int, *, below: float, rounds: int = 12) -> float:
    """How many times the processor time of `work(small)` is needed for `work(large)`.

    The best of up to *rounds* measurements; it stops at the first one *below* the limit. Code that grows faster than
    the limit never gets there; a busy machine only costs rounds.
    """

    def cost(size: int) -> float:
        started = time.thread_time()
        work(size)
        return max(time.thread_time() - started, 1e-6)

    work(small)
    best = float("inf")
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            best = min(best, cost(large) / min(cost(small) for _ in range(3)))
            if best < below:
                break
    finally:
        gc.enable()
    return best


def calls(run: Callable[[], object]) -> int:
    """The number of calls, of Python functions and of built-in ones, that *run* makes. The same on every run."""
    count = 0

    def profile(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count
