"""The methods of prompts, and completion of their arguments and of those of resource templates."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from clawft_trio.errors import PeerError
from clawft_trio.mcp.jsonrpc import INVALID_PARAMS
from clawft_trio.mcp.server.caller import InputRequired
from clawft_trio.mcp.server.content import prompt_messages
from clawft_trio.mcp.server.options import ServeOptions
from clawft_trio.mcp.server.requests import Methods, ServerRequest, page, tool_context, with_input
from clawft_trio.mcp.server.resource_methods import allowed_resources
from clawft_trio.mcp.server.resources import Complete
from clawft_trio.mcp.server.server import McpServer
from clawft_trio.mcp.server.wire import CompleteParams, PromptParams, decode_params

MAX_COMPLETIONS = 100
"""Values of one completion; the specification's own limit."""


class PromptMethods:
    """Answers `prompts/list`, `prompts/get` and `completion/complete`."""

    def __init__(self, server: McpServer, options: ServeOptions) -> None:
        self._server = server
        self._options = options

    def methods(self) -> Methods:
        """Return the functions that answer these methods."""
        return {"prompts/list": self._list, "prompts/get": self._get, "completion/complete": self._complete}

    async def _list(self, request: ServerRequest) -> dict[str, Any]:
        level = request.auth.permissions.level
        entries = [
            (name, prompt.definition)
            for name, prompt in sorted(self._server.prompts.items())
            if prompt.required_level <= level
        ]
        return page(self._options, "prompts", entries, request)

    async def _get(self, request: ServerRequest) -> dict[str, Any]:
        asked = decode_params(request.params, PromptParams)
        prompt = self._server.prompts.get(asked.name)
        if prompt is None or prompt.required_level > request.auth.permissions.level:
            raise PeerError(f"unknown prompt: {asked.name[:100]}", code=INVALID_PARAMS)
        prompt.check(asked.arguments)
        context = tool_context(self._options, request, asked.name, asked, msgspec.json.encode(asked.arguments))
        found = await with_input(prompt.fill(asked.arguments, context))
        if isinstance(found, InputRequired):
            return dict(found.result)
        messages = {"messages": prompt_messages(found)}
        return {**messages, "description": prompt.description} if prompt.description else messages

    async def _complete(self, request: ServerRequest) -> dict[str, Any]:
        asked = decode_params(request.params, CompleteParams)
        complete = self._completer(request, asked)
        known = asked.context.arguments
        found = [] if complete is None else complete(asked.argument.value, known)
        values = await found if inspect.isawaitable(found) else found
        shown = list(values[:MAX_COMPLETIONS])
        return {"completion": {"values": shown, "total": len(values), "hasMore": len(values) > len(shown)}}

    def _completer(self, request: ServerRequest, asked: CompleteParams) -> Complete | None:
        level = request.auth.permissions.level
        if asked.ref.type == "ref/prompt":
            prompt = self._server.prompts.get(asked.ref.name)
            if prompt is not None and prompt.required_level <= level:
                return prompt.complete.get(asked.argument.name)
        elif asked.ref.type == "ref/resource":
            for resource in allowed_resources(self._server, request):
                if asked.ref.uri == resource.uri:
                    return resource.complete.get(asked.argument.name)
        raise PeerError("there is nothing of that name to complete", code=INVALID_PARAMS)
