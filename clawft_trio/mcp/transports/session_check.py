"""Finds out whether a refused request means that the server has forgotten the session.

The protocol demands 404 for that, but many servers respond 400 (the examples of the TypeScript SDK, older Python SDKs),
401 or 422 (Rust), which also have other reasons. A ping in the same session decides: if it is refused in the same way,
the session is lost. A server that refuses a ping in a new session too is not asked for some minutes.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import attrs
import trio

_PING_WITHIN = 5.0
"""Seconds for the response to a ping; without one the session counts as alive."""


_ASK_AGAIN = 300.0
"""Seconds in which no more pings are sent after a new session has refused one."""


@attrs.define
class PingSupport:
    """Whether one server accepts pings, over all its sessions."""

    #: whether it has accepted one
    proven: bool = False
    #: whether a session was given up because of a refused ping before that was proven
    doubted: bool = False
    #: `trio.current_time()` until which no ping is sent, because a new session has refused one
    refused_until: float = -math.inf


class SessionCheck:
    """Decides with a ping whether one session is lost.

    Args:
      ping: sends a ping in the session and returns whether it was accepted; None if the response shows neither.
      support: what earlier sessions with the server have shown.
    """

    def __init__(self, ping: Callable[[], Awaitable[bool | None]], support: PingSupport) -> None:
        self._ping = ping
        self._support = support
        self._lock = trio.Lock()
        self._pings = 0
        self._lost = False

    async def is_lost(self) -> bool:
        """Return whether the session is lost, after a request was refused for no clear reason.

        Concurrent callers share one ping.

        Cancellation: another caller that waits sends the ping.
        """
        ended_before = self._pings
        async with self._lock:
            if self._pings == ended_before and not self._lost and trio.current_time() >= self._support.refused_until:
                self._lost = await self._ping_refused()
                self._pings += 1
            return self._lost

    async def _ping_refused(self) -> bool:
        accepted = await self._send_ping()
        if accepted:
            self._support.proven = True
        elif accepted is False and not self._support.proven:
            self._support.doubted = True
        return accepted is False

    async def prove_support(self) -> None:
        """Send a ping at the start of a session, if the session before it was given up without proof.

        Cancellation: nothing is recorded; the next session repeats it.
        """
        support = self._support
        if not support.doubted:
            await trio.lowlevel.checkpoint()
            return
        accepted = await self._send_ping()
        if accepted is None:
            return
        support.doubted = False
        if accepted:
            support.proven = True
        else:
            support.refused_until = trio.current_time() + _ASK_AGAIN

    async def _send_ping(self) -> bool | None:
        with trio.move_on_after(_PING_WITHIN):
            return await self._ping()
        return None
