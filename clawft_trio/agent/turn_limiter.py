"""The right to run, for so many at a time."""

from __future__ import annotations

import attrs
import trio


class TurnLimiter:
    """The right to run a turn, for so many at a time, first come, first served."""

    def __init__(self, count: int) -> None:
        self._semaphore = trio.Semaphore(count)

    @property
    def free(self) -> int:
        """How many could be taken now."""
        return self._semaphore.value

    async def take(self) -> TurnSlot:
        """Take a slot, waiting for one.

        Cancellation: none is taken.
        """
        await self._semaphore.acquire()
        return TurnSlot(self._semaphore)


@attrs.define(eq=False)
class TurnSlot:
    """One of them, until it is given back."""

    _semaphore: trio.Semaphore | None

    def free(self) -> None:
        """Give it back; a second time does nothing."""
        if self._semaphore is not None:
            self._semaphore.release()
            self._semaphore = None
