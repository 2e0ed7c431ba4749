"""A word on what is waited for, when it takes longer than a second."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import trio

from clawft_trio.cli.output import write_status
from clawft_trio.nursery import open_hidden_nursery

SHOW_AFTER = 1.0
"""Seconds without a word: what is faster needs none."""

_STEP = 0.25


@asynccontextmanager
async def progress(what: str) -> AsyncGenerator[Callable[[], None], None]:
    """Say on stderr, once it takes longer than a second, *what* takes so long and for how long it has.

    The line is gone after the block, or once the block calls what it is given. Without a terminal nothing is said.

    Cancellation: the line is gone.
    """
    async with open_hidden_nursery() as nursery:
        saying = trio.CancelScope()

        def done() -> None:
            saying.cancel(reason="it is there")

        if sys.stderr.isatty():
            nursery.start_soon(_say, what, saying)
        yield done
        done()


async def _say(what: str, saying: trio.CancelScope) -> None:
    started = trio.current_time()
    with saying:
        await trio.sleep(SHOW_AFTER)
        try:
            while True:
                write_status(f"{what} … {trio.current_time() - started:.0f} s")
                await trio.sleep(_STEP)
        finally:
            write_status("")
