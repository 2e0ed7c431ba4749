"""Status lines on stderr for operations that take longer than a second."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import trio

from clawft_trio.cli.output import write_line, write_status
from clawft_trio.nursery import open_hidden_nursery

SHOW_AFTER = 1.0
"""Seconds before anything is shown: a shorter wait needs no explanation."""

_STEP = 0.25


@asynccontextmanager
async def progress(what: str) -> AsyncGenerator[Callable[[], None], None]:
    """Show on stderr, after a second, that *what* is running and for how long.

    The line is erased after the block, or when the block calls the yielded function. Nothing is shown without a
    terminal.

    Cancellation: the line is erased.
    """
    async with open_hidden_nursery() as nursery:
        shown = trio.CancelScope()

        def done() -> None:
            shown.cancel(reason="done")

        if sys.stderr.isatty():
            nursery.start_soon(_show, what, shown)
        yield done
        done()


async def _show(what: str, shown: trio.CancelScope) -> None:
    started = trio.current_time()
    with shown:
        await trio.sleep(SHOW_AFTER)
        try:
            while True:
                write_status(f"{what} … {trio.current_time() - started:.0f} s")
                await trio.sleep(_STEP)
        finally:
            write_status("")


class LateNotes:
    """Lines for stderr that are held back for the first second, so that short problems stay silent.

    Lines noted within that second are written at its end, later ones at once. If the block ends earlier, nothing is
    written.
    """

    def __init__(self) -> None:
        self._held: list[str] = []
        self._started = False
        self._late = False

    def __call__(self, line: str) -> None:
        """Write *line*, or hold it back. Outside of `running` lines are dropped."""
        if self._late:
            write_line(line, error=True)
        elif self._started:
            self._held.append(line)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Write noted lines during the block.

        Cancellation: held lines are dropped.
        """
        async with open_hidden_nursery() as nursery:
            self._started = True
            nursery.start_soon(self._write_late)
            try:
                yield
            finally:
                self._started = self._late = False
                nursery.cancel_scope.cancel(reason="the turn is over")

    async def _write_late(self) -> None:
        await trio.sleep(SHOW_AFTER)
        self._late = True
        for line in self._held:
            write_line(line, error=True)
        self._held.clear()
