"""Apps with a life of their own, in which parts of this package live."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import pytest
import trio

from clawft_trio import Agent, open_agent, serve_agent
from clawft_trio.testing import CallTool, ScriptedProvider, nothing_left

Shape = Literal["block", "nursery"]
"""How the agent is embedded: `async with open_agent()`, or `nursery.start(serve_agent, …)` in the app's nursery."""


@asynccontextmanager
async def app(shape: Shape, model: ScriptedProvider | None = None, **agent: Any) -> AsyncGenerator[Agent, None]:
    """An app around an agent; its own work is the block."""
    opening = open_agent(**{"models": ["p/m"], "providers": {"p": model or asks_for("crash")}, **agent})
    if shape == "block":
        async with opening as served:
            yield served
        return
    async with trio.open_nursery() as nursery:
        yield await nursery.start(serve_agent, opening)
        nursery.cancel_scope.cancel(reason="the app is done")


def reaches(shape: Shape, kind: type[BaseException], words: str | None = None) -> AbstractContextManager[Any]:
    """What the app sees: one error, bare, and in its own nursery that error in the one group that trio makes."""
    if shape == "block":
        return pytest.raises(kind, match=words)
    return pytest.RaisesGroup(pytest.RaisesExc(kind, match=words))


def asks_for(tool: str) -> ScriptedProvider:
    """A model that calls *tool*, and then says that it did."""
    return ScriptedProvider.using_tools(CallTool(tool, {}), then="Done.")


def children() -> set[str]:
    """The ids of the processes that this one has started and not yet reaped; none where the system does not tell."""
    listed = Path("/proc/self/task").glob("*/children")
    return {pid for threads in listed for pid in threads.read_text().split()}


def descriptors() -> set[str]:
    """The open descriptors of this process, each with what it leads to; for where there is no trio to ask."""
    found: set[str] = set()
    for one in list(Path("/dev/fd").iterdir()):
        with suppress(OSError):  # the one that lists them is gone by now
            found.add(f"{one.name} {one.readlink()}")
    return found


@asynccontextmanager
async def leaving_nothing() -> AsyncGenerator[None, None]:
    """Assert at the end that no task, descriptor or process is left of the block."""
    check, before = nothing_left(), children()
    yield
    await check()
    assert children() <= before
