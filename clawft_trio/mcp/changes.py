"""Changes at one server: drops cached results that they make stale, and wakes tasks that wait for changed tools."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import trio
from msgspec import Raw

from clawft_trio.errors import McpError
from clawft_trio.mcp.connection import Connection
from clawft_trio.mcp.listing import ResultCache
from clawft_trio.mcp.messages import CallOptions, OnNotification
from clawft_trio.mcp.types import EmptyResult

_log = logging.getLogger("clawft_trio.mcp")

_LISTEN_AGAIN = 5.0
"""Seconds after which a subscription that the server has ended is requested again."""

# The results that a notification makes stale.
_STALE_AFTER = {
    "notifications/tools/list_changed": ("tools/list",),
    "notifications/prompts/list_changed": ("prompts/list",),
    "notifications/resources/list_changed": ("resources/list", "resources/templates/list"),
    "notifications/resources/updated": ("resources/read",),
}

decode_empty: Callable[[Raw], EmptyResult | None] = msgspec.json.Decoder(EmptyResult | None).decode


class Changes:
    """Counts the changes of a server's tools, and drops the results in *cache* that a change makes stale."""

    def __init__(self, cache: ResultCache) -> None:
        self._cache = cache
        #: number of times that the tools may have changed: a notification, or a new start of the server
        self.tools_version: int = 0
        self._tools_changed = trio.lowlevel.ParkingLot()

    def note_start(self) -> None:
        """Handle a start of the server: everything may have changed."""
        self._cache.forget()
        self._note_tools_changed()

    def note_notification(self, method: str, _: Raw) -> None:
        """Handle a notification."""
        stale = _STALE_AFTER.get(method)
        if stale is not None:
            self._cache.forget(*stale)
        if method == "notifications/tools/list_changed":
            self._note_tools_changed()

    def _note_tools_changed(self) -> None:
        self.tools_version += 1
        self._tools_changed.unpark_all()

    async def wait_tools_changed(self, seen: int) -> int:
        """Wait until `tools_version` differs from *seen*, and return it.

        Cancellation: nothing has changed.
        """
        await trio.lowlevel.checkpoint()
        while self.tools_version == seen:
            await self._tools_changed.park()
        return self.tools_version

    async def follow_tools(self, connection: Connection) -> None:
        """Subscribe to changes of the tools whenever the server uses 2026-07-28 and offers it.

        Cancellation: the subscription ends.
        """
        while True:
            seen = self.tools_version
            agreement = connection.agreement
            if agreement.meta is None or not (agreement.capabilities.tools or {}).get("listChanged"):
                await self.wait_tools_changed(seen)
                continue
            try:
                await listen(connection, lambda *_: None, {"toolsListChanged": True})
            except McpError as exc:
                _log.info("%s: changes of the tools cannot be followed: %s", connection.name, exc)
                await self.wait_tools_changed(seen)
            else:
                await trio.sleep(_LISTEN_AGAIN)


async def listen(connection: Connection, on_notification: OnNotification, wanted: Mapping[str, Any]) -> None:
    """Subscribe to the changes that the filter *wanted* names, at a server of 2026-07-28; see `McpClient.listen`.

    Raises:
      McpError: see `McpClient.call`.

    Cancellation: the server is notified; *on_notification* is not called again.
    """
    options = CallOptions(total=math.inf, on_notification=on_notification)
    await connection.call("subscriptions/listen", {"notifications": wanted}, decode=decode_empty, options=options)
