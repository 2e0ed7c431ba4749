"""The methods of resources: `resources/list`, `resources/read`, subscriptions and templates."""

from __future__ import annotations

from typing import Any

from clawft_trio.errors import PeerError
from clawft_trio.mcp.jsonrpc import INVALID_PARAMS
from clawft_trio.mcp.server.caller import InputRequired
from clawft_trio.mcp.server.content import resource_contents
from clawft_trio.mcp.server.options import ServeOptions
from clawft_trio.mcp.server.requests import Methods, ServerRequest, caching, page, tool_context, with_input
from clawft_trio.mcp.server.resources import ServedResource, unknown_resource
from clawft_trio.mcp.server.server import McpServer
from clawft_trio.mcp.server.wire import UriParams, decode_params

RESOURCE_NOT_FOUND = -32002
"""Error code of an unknown resource until 2025-11-25; 2026-07-28 uses `INVALID_PARAMS`."""


class ResourceMethods:
    """Answers the methods of resources. Only revisions until 2025-11-25 have the methods for subscriptions."""

    def __init__(self, server: McpServer, options: ServeOptions) -> None:
        self._server = server
        self._options = options

    def methods(self) -> Methods:
        """Return the functions that answer these methods."""
        return {
            "resources/list": self._list,
            "resources/templates/list": self._list_templates,
            "resources/read": self._read,
        }

    def subscription_methods(self) -> Methods:
        """Return the functions that answer the methods that 2026-07-28 does not have."""
        return {"resources/subscribe": self._subscribe, "resources/unsubscribe": self._unsubscribe}

    async def _list(self, request: ServerRequest) -> dict[str, Any]:
        allowed = allowed_resources(self._server, request)
        entries: list[tuple[str, Any]] = [(one.uri, one.definition) for one in allowed if not one.is_template]
        for folder in self._server.folders:
            entries += await folder.list_files()
        entries.sort(key=lambda entry: entry[0])
        return page(self._options, "resources", entries, request)

    async def _list_templates(self, request: ServerRequest) -> dict[str, Any]:
        allowed = allowed_resources(self._server, request)
        entries = [(one.uri, one.definition) for one in allowed if one.is_template]
        return page(self._options, "resourceTemplates", entries, request)

    async def _read(self, request: ServerRequest) -> dict[str, Any]:
        asked = decode_params(request.params, UriParams)
        context = tool_context(self._options, request, asked.uri, asked, b"")
        # Resources without variables come first, because a template may match their URIs, too.
        for resource in sorted(allowed_resources(self._server, request), key=lambda one: one.is_template):
            variables = resource.match(asked.uri)
            if variables is not None:
                found = await with_input(resource.read(variables, context))
                if isinstance(found, InputRequired):
                    return dict(found.result)
                contents = resource_contents(found, asked.uri, resource.mime_type)
                return {"contents": contents, **(caching(self._options) if request.peer.stateless else {})}
        raise _not_found(asked.uri, request)

    async def _subscribe(self, request: ServerRequest) -> dict[str, Any]:
        uri = decode_params(request.params, UriParams).uri
        if self._server.is_hidden(uri, request.auth.permissions.level):
            raise _not_found(uri, request)
        if len(request.peer.subscriptions) >= self._options.max_subscriptions:
            raise PeerError(f"more than {self._options.max_subscriptions} subscriptions", code=INVALID_PARAMS)
        request.peer.subscriptions.add(uri)
        return {}

    async def _unsubscribe(self, request: ServerRequest) -> dict[str, Any]:
        request.peer.subscriptions.discard(decode_params(request.params, UriParams).uri)
        return {}


def _not_found(uri: str, request: ServerRequest) -> PeerError:
    missing = unknown_resource(uri)
    code = INVALID_PARAMS if request.peer.stateless else RESOURCE_NOT_FOUND
    return PeerError(str(missing), code=code, data=missing.data)


def allowed_resources(server: McpServer, request: ServerRequest) -> list[ServedResource]:
    """Return the resources that the sender of *request* may read."""
    level = request.auth.permissions.level
    return [one for one in server.resources if one.required_level <= level]
