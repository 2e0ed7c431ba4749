"""Tool calls as tasks (2025-11-25): started, polled until they end, and cancelled with their caller."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs
import msgspec
import trio
from msgspec import Raw

from clawft_trio.errors import McpError, PeerError, RequestTimeout
from clawft_trio.mcp.connection import Connection
from clawft_trio.mcp.handshake import Agreement
from clawft_trio.mcp.messages import CallOptions, OnProgress, Progress
from clawft_trio.mcp.tool_results import call_for_result
from clawft_trio.mcp.types import (
    LATEST_HANDSHAKE,
    CallToolResult,
    EmptyResult,
    ToolDefinition,
    WireRecord,
    decode_tool_result,
)

if TYPE_CHECKING:
    from clawft_trio.mcp.client import McpClient

FIRST_POLL = 1.0
"""Seconds between two polls when the server names no interval."""

SHORTEST_POLL = 0.05
"""Seconds; a server may name less, and would be polled in a busy loop."""

LONGEST_POLL = 30.0

_CANCEL_GRACE = 2.0
"""Seconds for the request to the server to cancel a task."""

_ENDED = frozenset(("completed", "failed", "cancelled"))


class Task(WireRecord, frozen=True):
    """A task of a server. Its status is `working`, `input_required`, `completed`, `failed` or `cancelled`."""

    task_id: str
    status: str = "working"
    status_message: str | None = None
    #: lifetime and poll interval in milliseconds
    ttl: float | None = None
    poll_interval: float | None = None


@attrs.frozen
class _Created:
    """The response to a call that requested a task."""

    task: Task | None
    raw: Raw


_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_task = msgspec.json.Decoder(Task).decode
_decode_empty = msgspec.json.Decoder(EmptyResult).decode


def can_run_tasks(agreement: Agreement) -> bool:
    """Return whether the server runs tool calls as tasks."""
    if agreement.protocol_version != LATEST_HANDSHAKE:
        return False
    found: Any = agreement.capabilities.tasks
    for key in ("requests", "tools", "call"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found is not None


def wants_task(tool: ToolDefinition) -> bool:
    """Return whether *tool* can be called only as a task."""
    return (tool.execution or {}).get("taskSupport") == "required"


async def call_tool_as_task(
    client: McpClient,
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    total: float | None = None,
    ttl: float | None = None,
    on_status: Callable[[Task], object] = lambda _: None,
    on_progress: OnProgress | None = None,
) -> CallToolResult:
    """Call a tool as a task and wait for its result. `McpClient.call_tool` does so when the tool requires it.

    Args:
      client: client of the server; the revision is 2025-11-25.
      name: name of the tool.
      arguments: a JSON object.
      total: seconds that the task may take, None: `McpOptions.task_total`; each poll has the client's own limit.
      ttl: seconds for which the server should keep the task; None leaves it to the server.
      on_status: called with each state of the task; synchronous and cheap.
      on_progress: called with each progress report; synchronous and cheap. Its exceptions are logged.

    Raises:
      RequestTimeout: the task has not ended in time; it was cancelled.
      PeerError: the server cancelled the task, or no longer knows it.
      McpError: see `McpClient.call`.

    Cancellation: the task is cancelled, within two seconds.
    """
    return await run_as_task(
        client.connection,
        name,
        {} if arguments is None else arguments,
        total=total,
        ttl=ttl,
        on_status=on_status,
        on_progress=on_progress,
    )


async def run_as_task(
    connection: Connection,
    name: str,
    arguments: Mapping[str, Any],
    *,
    total: float | None,
    ttl: float | None = None,
    on_status: Callable[[Task], object] = lambda _: None,
    on_progress: OnProgress | None = None,
) -> CallToolResult:
    """Call a tool as a task and wait for its result; see `call_tool_as_task`.

    Raises:
      McpError: see `call_tool_as_task`.

    Cancellation: the task is cancelled, within two seconds.
    """
    total = connection.options.task_total if total is None else total
    wanted = {} if ttl is None else {"ttl": math.ceil(ttl * 1000)}
    params: dict[str, Any] = {"name": name, "arguments": arguments, "task": wanted}
    with connection.task_progress.reported_to(on_progress or _ignore) as token:
        if on_progress is not None:
            params["_meta"] = {"progressToken": token}
        with trio.move_on_after(total):
            return await _run_task(connection, name, params, on_status)
    raise RequestTimeout(f"tools/call: the task has not ended within {total:g} s", server=connection.name)


async def _run_task(
    connection: Connection, name: str, params: Mapping[str, Any], on_status: Callable[[Task], object]
) -> CallToolResult:
    created = await connection.call("tools/call", params, decode=_decode_created, options=CallOptions(name=name))
    if created.task is None:
        # The server has run the tool at once instead.
        return decode_tool_result(created.raw)
    task_id = created.task.task_id
    ended = False
    try:
        await _wait_ended(connection, created.task, on_status)
        # A task that needs input gets it during this request, which brings the server's questions and ends with the
        # task.
        result = await call_for_result(
            connection, "tasks/result", {"taskId": task_id}, options=CallOptions(total=math.inf)
        )
        ended = True
        return result
    finally:
        if not ended:
            # An error means that the task or the server has ended, which is the goal.
            with trio.move_on_after(_CANCEL_GRACE, shield=True), suppress(McpError):
                await connection.call("tasks/cancel", {"taskId": task_id}, decode=_decode_empty)


async def _wait_ended(connection: Connection, task: Task, on_status: Callable[[Task], object]) -> None:
    """Poll until *task* has ended, or wants input.

    Raises:
      PeerError: the task was cancelled, or the server no longer knows it.
    """
    task_id = task.task_id
    while True:
        on_status(task)
        if task.status in _ENDED or task.status == "input_required":
            break
        wait = FIRST_POLL if task.poll_interval is None else task.poll_interval / 1000
        await trio.sleep(min(max(wait, SHORTEST_POLL), LONGEST_POLL))
        task = await connection.call("tasks/get", {"taskId": task_id}, decode=_decode_task)
    if task.status == "cancelled":
        raise PeerError(
            f"tools/call: the task was cancelled: {task.status_message or ''}", code=-1, server=connection.name
        )


def _ignore(_: Progress) -> None:
    """Ignore a progress report."""


def _decode_created(raw: Raw) -> _Created:
    members = _decode_members(raw)
    return _Created(task=_decode_task(members["task"]) if "task" in members else None, raw=raw)
