"""The same work by many tasks at once, on either event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

import trio

Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
SideBySide: TypeAlias = Callable[[Work, int], Awaitable[None]]


async def on_trio(work: Work, tasks: int) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(work)


async def on_asyncio(work: Work, tasks: int) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(tasks):
            group.create_task(work())
