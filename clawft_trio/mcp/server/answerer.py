"""Answers each request of a client, in both kinds of revisions. Independent of pipes and HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Raw

from clawft_trio.errors import PeerError
from clawft_trio.mcp.jsonrpc import INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR
from clawft_trio.mcp.server.caller import LEVELS, Peer
from clawft_trio.mcp.server.options import ServeOptions
from clawft_trio.mcp.server.prompt_methods import PromptMethods
from clawft_trio.mcp.server.requests import Methods, ServerRequest, caching, tasks_of
from clawft_trio.mcp.server.resource_methods import ResourceMethods
from clawft_trio.mcp.server.server import McpServer
from clawft_trio.mcp.server.task_methods import TaskMethods
from clawft_trio.mcp.server.tool_methods import ToolMethods
from clawft_trio.mcp.server.wire import InitializeParams, LevelParams, TraceParams, decode_params
from clawft_trio.mcp.stateless import SERVER_INFO
from clawft_trio.mcp.types import HANDSHAKE_VERSIONS, LATEST_HANDSHAKE, STATELESS_VERSION, JsonObject
from clawft_trio.observe.trace_context import continuing


class Answerer:
    """Answers requests about the offers of *server*."""

    def __init__(self, server: McpServer, options: ServeOptions) -> None:
        self.server: McpServer = server
        self.options: ServeOptions = options
        resources = ResourceMethods(server, options)
        common = {
            **ToolMethods(server, options).methods(),
            **resources.methods(),
            **PromptMethods(server, options).methods(),
        }
        self._stateless: Methods = {**common, "server/discover": self._discover}
        self._handshake: Methods = {
            **common,
            **resources.subscription_methods(),
            **TaskMethods(options).methods(),
            "ping": self._ping,
            "logging/setLevel": self._set_level,
        }

    async def answer(self, request: ServerRequest) -> JsonObject:
        """Return the result of *request*.

        Raises:
          PeerError: the response is an error.

        Cancellation: the code that runs for the request is cancelled and awaited.
        """
        peer = request.peer
        methods = self._stateless if peer.stateless else self._handshake
        method = methods.get(request.method)
        if method is None or not self._offers(request.method, peer):
            raise PeerError(f"unknown method: {request.method[:100]}", code=METHOD_NOT_FOUND)
        if not (peer.stateless or peer.initialized or request.method == "ping"):
            raise PeerError("not initialized", code=INVALID_REQUEST)
        try:
            bytes(request.params).decode()
        except UnicodeDecodeError as exc:
            raise PeerError("the message is not UTF-8", code=PARSE_ERROR) from exc
        with continuing(_trace_of(request.params)):
            result: dict[str, Any] = await method(request)
        if peer.stateless:
            result.setdefault("resultType", "complete")
            result["_meta"] = {**result.get("_meta", {}), SERVER_INFO: self.options.server}
        return result

    def initialize(self, peer: Peer, params: Raw) -> JsonObject:
        """Store what the client declares, and return the result of its `initialize`. Sync: later requests find it done.

        Raises:
          PeerError: the parameters are invalid.
        """
        hello = decode_params(params, InitializeParams)
        peer.version = hello.protocol_version if hello.protocol_version in HANDSHAKE_VERSIONS else LATEST_HANDSHAKE
        peer.capabilities = hello.capabilities
        peer.initialized = True
        result = {
            "protocolVersion": peer.version,
            "capabilities": self._capabilities(peer),
            "serverInfo": self.options.server,
        }
        return {**result, "instructions": self.options.instructions} if self.options.instructions else result

    def _offers(self, method: str, peer: Peer) -> bool:
        if method.startswith("tasks/"):
            return tasks_of(peer) is not None
        if method.startswith("resources/"):
            return bool(self.server.resources)
        if method.startswith("prompts/"):
            return bool(self.server.prompts)
        return method != "completion/complete" or self._completes

    @property
    def _completes(self) -> bool:
        return bool(self.server.prompts) or any(resource.is_template for resource in self.server.resources)

    def _capabilities(self, peer: Peer) -> JsonObject:
        offered: dict[str, JsonObject] = {"tools": {"listChanged": True}, "logging": {}}
        if self.server.resources:
            offered["resources"] = {"subscribe": True, "listChanged": True}
        if self.server.prompts:
            offered["prompts"] = {"listChanged": True}
        if self._completes:
            offered["completions"] = {}
        if tasks_of(peer) is not None:
            offered["tasks"] = {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}
        return offered

    async def _ping(self, _: ServerRequest) -> dict[str, Any]:
        return {}

    async def _discover(self, request: ServerRequest) -> dict[str, Any]:
        found = {
            "supportedVersions": [STATELESS_VERSION],
            "capabilities": self._capabilities(request.peer),
            **caching(self.options),
        }
        return {**found, "instructions": self.options.instructions} if self.options.instructions else found

    async def _set_level(self, request: ServerRequest) -> dict[str, Any]:
        level = decode_params(request.params, LevelParams).level
        if level not in LEVELS:
            raise PeerError(f"unknown level; known: {', '.join(LEVELS)}", code=INVALID_PARAMS)
        request.peer.log_level = level
        return {}


def _trace_of(params: Raw) -> Mapping[str, Any]:
    """Return the `_meta` of *params*, which may name a trace to continue."""
    if b'"traceparent"' not in bytes(params):
        return {}
    try:
        return decode_params(params, TraceParams).meta
    except PeerError:
        return {}
