"""Background tasks of sessions between their turns: at most one per session, all cancelled with the agent."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from clawft_trio.errors import ClawftError
from clawft_trio.nursery import open_hidden_nursery

_log = logging.getLogger("clawft_trio.agent")


class Background:
    """Background tasks by session. Made by `open_background`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._running: dict[str, trio.Event] = {}

    def __repr__(self) -> str:
        return f"<Background: {len(self._running)} sessions>"

    def start(self, session: str, work: Callable[[], Awaitable[object]]) -> bool:
        """Run *work* for *session*; return False if a task of it already runs, or the agent is closing."""
        if session in self._running or self._nursery.cancel_scope.cancel_called:
            return False
        self._running[session] = trio.Event()
        self._nursery.start_soon(self._run, session, work)
        return True

    async def wait(self, session: str) -> None:
        """Wait until no task runs for *session*.

        Cancellation: the task continues.
        """
        await trio.lowlevel.checkpoint()
        running = self._running.get(session)
        if running is not None:
            await running.wait()

    async def _run(self, session: str, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except ClawftError as exc:
            # No caller waits for the task, and the session is unchanged for the next turn.
            _log.warning("work on session %s failed: %s", session, exc)
        except Exception:  # noqa: BLE001 - a bug in the work must not end the agent of other sessions
            _log.exception("work on session %s failed", session)
        finally:
            self._running.pop(session).set()


@asynccontextmanager
async def open_background() -> AsyncGenerator[Background, None]:
    """Open background tasks; those that still run at the end of the block are cancelled.

    Cancellation: every task is cancelled and awaited.
    """
    async with open_hidden_nursery() as nursery:
        yield Background(nursery)
        nursery.cancel_scope.cancel(reason="agent closed")
