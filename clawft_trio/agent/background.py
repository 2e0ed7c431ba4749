"""Work on sessions between their turns: at most one task per session, none of which outlives the agent."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from clawft_trio.errors import ClawftError
from clawft_trio.nursery import open_hidden_nursery

_log = logging.getLogger("clawft_trio.agent")


class Background:
    """Tasks by session. Made by `open_background`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._running: dict[str, trio.Event] = {}

    def __repr__(self) -> str:
        return f"<Background: {len(self._running)} sessions>"

    def start(self, session: str, work: Callable[[], Awaitable[object]]) -> bool:
        """Run *work* for *session*; False when something runs for it already, or the agent is closing."""
        if session in self._running or self._nursery.cancel_scope.cancel_called:
            return False
        self._running[session] = trio.Event()
        self._nursery.start_soon(self._run, session, work)
        return True

    async def wait(self, session: str) -> None:
        """Wait until nothing runs for *session*.

        Cancellation: the task goes on.
        """
        await trio.lowlevel.checkpoint()
        running = self._running.get(session)
        if running is not None:
            await running.wait()

    async def _run(self, session: str, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except ClawftError as exc:
            # No caller waits for it, and the next turn finds the session as it was.
            _log.warning("work on session %s failed: %s", session, exc)
        except Exception:  # noqa: BLE001 - a bug in the work costs no other session its agent
            _log.exception("work on session %s failed", session)
        finally:
            self._running.pop(session).set()


@asynccontextmanager
async def open_background() -> AsyncGenerator[Background, None]:
    """Tasks that end with the block: those that still run then are cancelled.

    Cancellation: every task is cancelled and waited for.
    """
    async with open_hidden_nursery() as nursery:
        yield Background(nursery)
        nursery.cancel_scope.cancel(reason="agent closed")
