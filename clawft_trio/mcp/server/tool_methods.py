"""The methods of tools: listed, called, called as tasks."""

from __future__ import annotations

from typing import Any

import attrs
import msgspec
from msgspec import Raw

from clawft_trio.auth import AuthContext
from clawft_trio.chat import ToolCall, new_id
from clawft_trio.errors import ClientLacksCapability, PeerError
from clawft_trio.mcp.jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND
from clawft_trio.mcp.server.caller import Channel, InputRequired
from clawft_trio.mcp.server.content import check_structured, tool_result
from clawft_trio.mcp.server.options import ServeOptions
from clawft_trio.mcp.server.requests import Methods, ServerRequest, lacks, page, tasks_of, tool_context
from clawft_trio.mcp.server.server import McpServer
from clawft_trio.mcp.server.tasks import TaskTable
from clawft_trio.mcp.server.wire import CallParams, decode_params
from clawft_trio.mcp.types import JsonObject
from clawft_trio.tools.tool import Tool


class ToolMethods:
    """Answers `tools/list` and `tools/call`."""

    def __init__(self, server: McpServer, options: ServeOptions) -> None:
        self._server = server
        self._options = options

    def methods(self) -> Methods:
        """Return the functions that answer these methods."""
        return {"tools/list": self._list, "tools/call": self._call}

    def _allowed(self, auth: AuthContext) -> list[Tool]:
        """Return the tools that *auth* may use, sorted by name."""
        return [tool for tool in self._server.tools if tool.allowed(auth.permissions)]

    async def _list(self, request: ServerRequest) -> dict[str, Any]:
        tasks = tasks_of(request.peer)
        entries = []
        for tool in self._allowed(request.auth):
            entry = _tool_entry(tool)
            if tasks is not None:
                entry["execution"] = {"taskSupport": tasks.options.support(tool.name)}
            entries.append((tool.name, entry))
        return page(self._options, "tools", entries, request)

    async def _call(self, request: ServerRequest) -> dict[str, Any]:
        asked = decode_params(request.params, CallParams)
        tasks = tasks_of(request.peer)
        if tasks is not None:
            support = tasks.options.support(asked.name)
            if asked.task is not None:
                return self._create_task(tasks, request, asked, support)
            if support == "required":
                raise PeerError("this tool is called as a task only", code=METHOD_NOT_FOUND)
        return await self._run(request, asked)

    def _create_task(self, tasks: TaskTable, request: ServerRequest, asked: CallParams, support: str) -> dict[str, Any]:
        if asked.name not in {tool.name for tool in self._allowed(request.auth)}:
            raise _unknown_tool(asked.name)
        if support == "forbidden":
            raise PeerError("this tool is not called as a task", code=METHOD_NOT_FOUND)
        # The parameters are part of a buffer that goes when the request has been answered.
        asked = msgspec.structs.replace(asked, arguments=asked.arguments.copy())
        request = attrs.evolve(request, params=request.params.copy())

        async def run(channel: Channel) -> JsonObject:
            return await self._run(attrs.evolve(request, channel=channel), asked)

        return {"task": tasks.create(run, (asked.task or {}).get("ttl")).record}

    async def _run(self, request: ServerRequest, asked: CallParams) -> dict[str, Any]:
        registry = self._server.tools
        context = tool_context(self._options, request, asked.name, asked, bytes(asked.arguments))
        # Clients count their requests alike, and events of two clients must not mix.
        call = ToolCall(id=new_id(), name=asked.name, arguments=bytes(asked.arguments).decode())
        try:
            [answer] = await registry.execute_all([call], context)
        except InputRequired as required:
            return dict(required.result)
        if answer.outcome == "unknown" or (answer.outcome == "refused" and asked.name not in registry):
            raise _unknown_tool(asked.name)
        if isinstance(answer.error, ClientLacksCapability) and request.peer.stateless:
            raise lacks(answer.error)
        tool = registry.get(asked.name)
        result = tool_result(tool, answer)
        if tool is not None and tool.wrapped is None and isinstance(result.get("structuredContent"), Raw):
            await check_structured(tool, result)
        return result


def _unknown_tool(name: str) -> PeerError:
    return PeerError(f"unknown tool: {name[:100]}", code=INVALID_PARAMS)


def _tool_entry(tool: Tool) -> dict[str, Any]:
    metadata = tool.metadata
    entry: dict[str, Any] = {
        "name": tool.name,
        "description": tool.description,
        "inputSchema": tool.parameters,
        "annotations": {"readOnlyHint": metadata.mode == "read_only", "idempotentHint": metadata.idempotent},
    }
    if tool.output_schema is not None:
        entry["outputSchema"] = tool.output_schema
    return entry
