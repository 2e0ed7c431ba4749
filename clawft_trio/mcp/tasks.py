"""Tool calls as tasks (2025-11-25): started, polled until they have ended, and cancelled with their caller."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from clawft_trio.errors import McpError, PeerError, RequestTimeout
from clawft_trio.mcp.messages import CallOptions
from clawft_trio.mcp.types import CallToolResult, EmptyResult, WireRecord, decode_tool_result

if TYPE_CHECKING:
    from clawft_trio.mcp.client import McpClient

FIRST_POLL = 1.0
"""Seconds between two polls, where the server names no interval."""

SHORTEST_POLL = 0.05
"""Seconds; a server may name less, and would be polled in a busy loop."""

LONGEST_POLL = 30.0

_CANCEL_GRACE = 2.0
"""Seconds for telling the server that a task is not wanted any more."""

_ENDED = frozenset(("completed", "failed", "cancelled"))


class Task(WireRecord, frozen=True):
    """A task of a server. Its status is `working`, `input_required`, `completed`, `failed` or `cancelled`."""

    task_id: str
    status: str = "working"
    status_message: str | None = None
    #: milliseconds
    ttl: float | None = None
    poll_interval: float | None = None


class _Created(WireRecord, frozen=True):
    task: Task


_decode_created = msgspec.json.Decoder(_Created).decode
_decode_task = msgspec.json.Decoder(Task).decode
_decode_empty = msgspec.json.Decoder(EmptyResult).decode


async def call_tool_as_task(
    client: McpClient,
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    total: float = math.inf,
    ttl: float | None = None,
    on_status: Callable[[Task], object] = lambda _: None,
) -> CallToolResult:
    """Call a tool as a task and wait for its result.

    Args:
      client: of the server; its revision is 2025-11-25.
      name: of the tool.
      arguments: a JSON object.
      total: seconds that the task may take; each request has the client's own total besides.
      ttl: seconds that the server is to keep the task; None leaves it to the server.
      on_status: is called with each state of the task; synchronous and cheap.

    Raises:
      RequestTimeout: it has not ended in time; it was cancelled.
      PeerError: it was cancelled by the server, or the server does not know it any more.
      McpError: see `McpClient.call`.

    Cancellation: the task is cancelled, within two seconds.
    """
    wanted = {} if ttl is None else {"ttl": math.ceil(ttl * 1000)}
    params = {"name": name, "arguments": {} if arguments is None else arguments, "task": wanted}
    created = await client.call("tools/call", params, decode=_decode_created, options=CallOptions(name=name))
    task = created.task
    ended = False
    try:
        with trio.move_on_after(total):
            await _wait_ended(client, task, on_status)
            result = await client.call("tasks/result", {"taskId": task.task_id}, decode=decode_tool_result)
            ended = True
            return result
    finally:
        if not ended:
            # An error means that it has ended, or that the server is gone: both are what is wanted.
            with trio.move_on_after(_CANCEL_GRACE, shield=True), suppress(McpError):
                await client.call("tasks/cancel", {"taskId": task.task_id}, decode=_decode_empty)
    raise RequestTimeout(f"tools/call: the task has not ended within {total:g} s", server=client.name)


async def _wait_ended(client: McpClient, task: Task, on_status: Callable[[Task], object]) -> None:
    task_id = task.task_id
    while True:
        on_status(task)
        if task.status in _ENDED or task.status == "input_required":
            # A task that wants input gets it through `tasks/result`, which brings the server's questions.
            break
        wait = FIRST_POLL if task.poll_interval is None else task.poll_interval / 1000
        await trio.sleep(min(max(wait, SHORTEST_POLL), LONGEST_POLL))
        task = await client.call("tasks/get", {"taskId": task_id}, decode=_decode_task)
    if task.status == "cancelled":
        raise PeerError(f"tools/call: the task was cancelled: {task.status_message or ''}", code=-1, server=client.name)
