"""Ctrl-C that cancels the current operation and not the program."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from clawft_trio.nursery import open_hidden_nursery


class Interrupts:
    """Handles Ctrl-C. Created by `open_interrupts`."""

    def __init__(self) -> None:
        self._scope: trio.CancelScope | None = None

    @contextmanager
    def ending(self) -> Iterator[trio.CancelScope]:
        """Let Ctrl-C end the block; then `cancelled_caught` of the scope is true.

        Outside of such a block Ctrl-C does nothing.
        """
        with trio.CancelScope() as scope:
            self._scope = scope
            try:
                yield scope
            finally:
                self._scope = None

    async def _serve(self, signals: AsyncIterator[int]) -> None:
        async for _ in signals:
            if self._scope is not None:
                self._scope.cancel(reason="Ctrl-C")


@asynccontextmanager
async def open_interrupts(*, take: bool) -> AsyncGenerator[Interrupts, None]:
    """Handle Ctrl-C during the block.

    Args:
      take: False keeps the default behavior of Ctrl-C, as a program in a pipe should.

    Cancellation: the previous handler of Ctrl-C is restored.
    """
    interrupts = Interrupts()
    if not take:
        yield interrupts
        return
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        async with open_hidden_nursery() as nursery:
            nursery.start_soon(interrupts._serve, signals)
            yield interrupts
            nursery.cancel_scope.cancel(reason="the conversation is over")
