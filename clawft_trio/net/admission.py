"""Limits the requests that run at once and the requests that wait.

Requests wait here and at no lower layer: a waiting request holds no resources, and an admitted request gets a
connection without waiting for another request.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import trio

from clawft_trio.errors import BulkheadFull


@attrs.frozen(kw_only=True)
class AdmissionStatistics:
    """Statistics of an `Admission`."""

    limit: int
    in_use: int
    waiting: int
    #: the largest number of requests that waited at once
    most_waiting: int
    #: number of requests refused because the queue was full
    refused: int


class Admission:
    """Admits *limit* requests at once; the others wait in order of arrival.

    Args:
      max_queue: largest number of waiting requests; None is no limit.
      name: the provider that `ProviderError.provider` names in refusals.
    """

    def __init__(self, limit: int, *, max_queue: int | None = None, name: str = "") -> None:
        if limit < 1 or (max_queue is not None and max_queue < 0):
            raise ValueError(f"limit must be at least 1 and max_queue at least 0, got {limit} and {max_queue}")
        self._limiter = trio.CapacityLimiter(limit)
        self._max_queue = max_queue
        self._name = name
        self._most_waiting = 0
        self._refused = 0

    @asynccontextmanager
    async def admit(self) -> AsyncGenerator[None, None]:
        """Wait for admission, and hold it for the duration of the block.

        Raises:
          BulkheadFull: `max_queue` requests are already waiting.

        Cancellation: the place in the queue, or the admission, is released.
        """
        # A limiter accepts one borrower per task, and one task may have two requests open.
        token = object()
        try:
            self._limiter.acquire_on_behalf_of_nowait(token)
        except trio.WouldBlock:
            await self._wait_in_line(token)
        try:
            yield
        finally:
            self._limiter.release_on_behalf_of(token)

    async def _wait_in_line(self, token: object) -> None:
        waiting = self._limiter.statistics().tasks_waiting
        if self._max_queue is not None and waiting >= self._max_queue:
            self._refused += 1
            raise BulkheadFull(
                f"{waiting} requests are waiting for {self._limiter.total_tokens:g} connections", provider=self._name
            )
        self._most_waiting = max(self._most_waiting, waiting + 1)
        await self._limiter.acquire_on_behalf_of(token)

    def statistics(self) -> AdmissionStatistics:
        """Return the current statistics."""
        seen = self._limiter.statistics()
        return AdmissionStatistics(
            limit=int(seen.total_tokens),
            in_use=seen.borrowed_tokens,
            waiting=seen.tasks_waiting,
            most_waiting=self._most_waiting,
            refused=self._refused,
        )
