"""Results of tool calls: decoded on the event loop while they are small, in a thread when they are large."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio
from msgspec import Raw

from clawft_trio.errors import ProtocolViolation
from clawft_trio.large_json import LARGE, decode_large
from clawft_trio.mcp.connection import Connection
from clawft_trio.mcp.messages import CallOptions
from clawft_trio.mcp.types import CallToolResult, decode_tool_result, tool_result_of


async def call_for_result(
    connection: Connection, method: str, params: Mapping[str, Any], *, options: CallOptions
) -> CallToolResult:
    """Send a request with a tool result as its result; a large one is decoded in a thread.

    Raises:
      McpError: see `McpClient.call`.

    Cancellation: as `McpClient.call`.
    """
    found = await connection.call(method, params, decode=_decode_unless_large, options=options)
    if isinstance(found, CallToolResult):
        return found
    try:
        value = await decode_large(bytes(found))
        return await trio.to_thread.run_sync(tool_result_of, value)
    except (ValueError, RecursionError) as exc:
        raise ProtocolViolation(f"{method}: {exc}", server=connection.name) from exc


def _decode_unless_large(raw: Raw) -> CallToolResult | Raw:
    return decode_tool_result(raw) if len(memoryview(raw)) < LARGE else raw
