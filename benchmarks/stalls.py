"""How long the event loop was not to be had."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

_EVERY = 0.001


class Stalls:
    """Asks for a wake-up every millisecond and keeps how late the latest came."""

    def __init__(self) -> None:
        #: seconds
        self.longest: float = 0.0

    @asynccontextmanager
    async def watched(self) -> AsyncGenerator[None, None]:
        """Watch for the length of the block."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            # The watcher's own start is not a stall.
            await trio.sleep(2 * _EVERY)
            yield
            nursery.cancel_scope.cancel(reason="seen enough")

    async def _watch(self) -> None:
        while True:
            due = time.perf_counter() + _EVERY
            await trio.sleep(_EVERY)
            self.longest = max(self.longest, time.perf_counter() - due)
