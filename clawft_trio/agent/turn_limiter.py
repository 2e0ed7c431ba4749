"""A limit on concurrent turns."""

from __future__ import annotations

import attrs
import trio


class TurnLimiter:
    """Limits concurrent turns, first come, first served."""

    def __init__(self, count: int) -> None:
        self._semaphore = trio.Semaphore(count)

    @property
    def free(self) -> int:
        """Number of free slots."""
        return self._semaphore.value

    async def take(self) -> TurnSlot:
        """Wait for a slot and take it.

        Cancellation: none is taken.
        """
        await self._semaphore.acquire()
        return TurnSlot(self._semaphore)


@attrs.define(eq=False)
class TurnSlot:
    """A slot for one turn, until it is freed."""

    _semaphore: trio.Semaphore | None

    def free(self) -> None:
        """Free the slot; a second call does nothing."""
        if self._semaphore is not None:
            self._semaphore.release()
            self._semaphore = None
