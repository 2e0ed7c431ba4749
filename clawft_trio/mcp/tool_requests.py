"""Requests about the tools of one server: lists them, and calls them as their definitions require."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import trio

from clawft_trio.errors import ProtocolViolation
from clawft_trio.mcp.connection import Connection
from clawft_trio.mcp.listing import ListReader
from clawft_trio.mcp.messages import CallOptions, OnProgress
from clawft_trio.mcp.output_schema import OutputCheck
from clawft_trio.mcp.tasks import can_run_tasks, run_as_task, wants_task
from clawft_trio.mcp.tool_results import call_for_result
from clawft_trio.mcp.transports.param_headers import Path, header_paths, param_headers
from clawft_trio.mcp.types import CallToolResult, ToolDefinition

_log = logging.getLogger("clawft_trio.mcp")


class ToolRequests:
    """Lists and calls the tools of one server.

    The last list decides how a tool is called: as a task, with which headers, and whether its structured result is
    checked against an output schema.
    """

    def __init__(self, connection: Connection, lists: ListReader) -> None:
        self._connection = connection
        self._lists = lists
        self._checks: dict[str, OutputCheck] = {}
        self._header_paths: dict[str, Mapping[Path, str]] = {}
        self._task_tools: set[str] = set()

    async def list(self) -> tuple[ToolDefinition, ...]:
        """Return all tools, over all pages; see `McpClient.list_tools`.

        Raises:
          McpError: see `McpClient.call`.

        Cancellation: as `McpClient.call`.
        """
        tools = await self._lists.read("tools/list", "tools", ToolDefinition)
        agreement = self._connection.agreement
        if agreement.meta is not None:
            tools = await self._without_bad_headers(tools)
        self._checks = {tool.name: OutputCheck(tool.output_schema) for tool in tools if tool.output_schema is not None}
        await trio.lowlevel.checkpoint()
        runs_tasks = can_run_tasks(agreement)
        self._task_tools = {tool.name for tool in tools if runs_tasks and wants_task(tool)}
        return tools

    async def _without_bad_headers(self, tools: tuple[ToolDefinition, ...]) -> tuple[ToolDefinition, ...]:
        """Return the tools with valid `x-mcp-header` annotations; 2026-07-28 requires to leave out the others."""
        kept: list[ToolDefinition] = []
        found: dict[str, Mapping[Path, str]] = {}
        for tool in tools:
            # A schema of the largest size takes some milliseconds.
            await trio.lowlevel.checkpoint()
            try:
                paths = header_paths(tool.input_schema)
            except ValueError as exc:
                _log.warning("%s: tool %r is left out: %s", self._connection.name, tool.name[:100], exc)
                continue
            kept.append(tool)
            if paths:
                found[tool.name] = paths
        self._header_paths = found
        return tuple(kept)

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        total: float | None,
        longest: float | None,
        on_progress: OnProgress | None,
    ) -> CallToolResult:
        """Call a tool; see `McpClient.call_tool`.

        Raises:
          McpError: see `McpClient.call`.

        Cancellation: as `McpClient.call`.
        """
        if name in self._task_tools:
            result = await run_as_task(self._connection, name, arguments, total=total, on_progress=on_progress)
        else:
            paths = self._header_paths.get(name) if self._header_paths else None
            options = CallOptions(
                name=name,
                total=total,
                longest=longest,
                on_progress=on_progress,
                headers=None if paths is None else param_headers(paths, arguments),
            )
            params = {"name": name, "arguments": arguments}
            result = await call_for_result(self._connection, "tools/call", params, options=options)
        if self._checks and not result.is_error and name in self._checks:
            problem = await self._checks[name].find_problem(result.structured_content)
            if problem is not None:
                raise ProtocolViolation(f"{name}: structured content: {problem}", server=self._connection.name)
        return result
