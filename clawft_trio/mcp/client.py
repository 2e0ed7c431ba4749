"""A client for one MCP server: the requests of the protocol by their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
import trio

from clawft_trio.mcp.changes import Changes, decode_empty, listen
from clawft_trio.mcp.connection import Connection
from clawft_trio.mcp.handshake import Agreement
from clawft_trio.mcp.listing import ListReader, ResultCache, decode_page
from clawft_trio.mcp.messages import DEFAULT_OPTIONS, CallOptions, Decode, OnNotification, OnProgress
from clawft_trio.mcp.multiplexer import MultiplexerStatistics, Transport
from clawft_trio.mcp.options import McpOptions
from clawft_trio.mcp.tool_requests import ToolRequests
from clawft_trio.mcp.types import (
    CallToolResult,
    CompleteResult,
    Completion,
    GetPromptResult,
    LogLevel,
    Prompt,
    ReadResourceResult,
    Resource,
    ResourceContents,
    ResourceTemplate,
    ToolDefinition,
    decode_prompt_result,
    decode_without_nulls,
)
from clawft_trio.nursery import open_hidden_nursery

T = TypeVar("T")


class McpClient:
    """A client of one server. Any number of tasks may call through it; cancelling one does not affect the others.

    `open_mcp` and `connect_mcp` create one. While the server restarts, calls wait for it, within their own time limit.
    A call that the server had when it ended fails with `PeerGone` and is never repeated here; a call that was refused
    because the server had dropped the session did not run, and is sent once more.
    """

    def __init__(
        self, name: str, options: McpOptions, transport: Callable[[], Transport], *, handshake_first: bool = False
    ) -> None:
        self.name = name
        #: options of the client
        self.options: McpOptions = options
        cache = ResultCache()
        self._changes = Changes(cache)
        #: the connection that carries the requests, over as many starts of the server as its supervision allows
        self.connection: Connection = Connection(
            name,
            options,
            transport,
            handshake_first=handshake_first,
            on_start=self._changes.note_start,
            on_notification=self._changes.note_notification,
        )
        self._cache = cache
        self._lists = ListReader(name, partial(self.connection.call, decode=decode_page), cache, options.observer)
        self._tools = ToolRequests(self.connection, self._lists)

    def __repr__(self) -> str:
        return f"<McpClient {self.name!r}: {self.connection.state}>"

    def statistics(self) -> MultiplexerStatistics:
        """Return the counts of the connection's calls; all zeros while there is no connection."""
        return self.connection.statistics()

    @property
    def agreement(self) -> Agreement:
        """The result of the handshake: revision, capabilities, the server's name and version.

        Raises:
          PeerGone: there was no handshake yet.
        """
        return self.connection.agreement

    @property
    def restarts(self) -> int:
        """Number of restarts of the server."""
        return self.connection.restarts

    async def run_until_closed(
        self, *, shielded: bool = False, task_status: trio.TaskStatus[McpClient] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Start the server and keep it running until `aclose`, or until it has ended and is not restarted.

        Args:
          shielded: after the start only `aclose` ends it; cancelling the surrounding nursery does not.
          task_status: gets this client after the handshake.

        Raises:
          McpError: as `open_mcp`.

        Cancellation: the server is stopped, within its grace times.
        """
        async with open_hidden_nursery() as nursery:

            def note_started() -> None:
                nursery.start_soon(self._changes.follow_tools, self.connection)
                task_status.started(self)

            await self.connection.run(note_started, shielded=shielded)
            nursery.cancel_scope.cancel(reason="the connection has ended")

    async def aclose(self) -> None:
        """Close the connection and stop the server; pending calls fail with `PeerGone`. Idempotent.

        Cancellation: closing continues, within the server's grace times.
        """
        await self.connection.aclose()

    async def call(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        decode: Decode[T],
        options: CallOptions = DEFAULT_OPTIONS,
    ) -> T:
        """Send any request and wait for its response.

        Args:
          method: method of the request.
          params: parameters, a JSON object.
          decode: converts the result's JSON text to the return value; raises `ValueError` for a result that does not
            fit.
          options: how the request is sent and how long its response may take.

        Raises:
          PeerError: the server responded with an error.
          PeerGone: the server ended while it had the request, or the client is closed.
          ServerDown: the server has ended too often; nothing was sent.
          RequestTimeout: no response in time.
          ProtocolViolation: the response is invalid.

        Cancellation: the server is notified, the id is retired, a late response is dropped.
        """
        return await self.connection.call(method, params, decode=decode, options=options)

    def notify_nowait(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        """Queue a notification; it is dropped while there is no connection.

        Raises:
          trio.WouldBlock: the server has stopped reading.
        """
        self.connection.notify_nowait(method, params)

    def notify_roots_changed(self) -> None:
        """Notify the server that `Host.roots` changed (until 2025-11-25).

        Raises:
          trio.WouldBlock: the server has stopped reading.
        """
        if self.agreement.meta is None:
            self.notify_nowait("notifications/roots/list_changed")

    async def listen(
        self,
        on_notification: OnNotification,
        *,
        tools: bool = False,
        prompts: bool = False,
        resources: bool = False,
        uris: Sequence[str] = (),
    ) -> None:
        """Subscribe to changes at a server of 2026-07-28, until it ends the subscription.

        Args:
          on_notification: called with method and parameters of each notification of this subscription; synchronous and
            cheap. The first is `notifications/subscriptions/acknowledged`.
          tools: report changes of the list of tools; `prompts` and `resources` likewise.
          uris: report changes of these resources.

        Raises:
          McpError: see `call`.

        Cancellation: the server is notified; *on_notification* is not called again.
        """
        flags = {"toolsListChanged": tools, "promptsListChanged": prompts, "resourcesListChanged": resources}
        wanted: dict[str, Any] = {key: True for key, value in flags.items() if value}
        if uris:
            wanted["resourceSubscriptions"] = list(uris)
        await listen(self.connection, on_notification, wanted)

    @property
    def tools_version(self) -> int:
        """Number of times that the server's tools may have changed: a notification, or a new start of the server."""
        return self._changes.tools_version

    async def wait_tools_changed(self, seen: int) -> int:
        """Wait until `tools_version` differs from *seen*, and return it.

        Cancellation: nothing has changed.
        """
        return await self._changes.wait_tools_changed(seen)

    async def list_tools(self) -> tuple[ToolDefinition, ...]:
        """Return all tools, over all pages. From then on results are checked against their output schemas.

        Raises:
          McpError: see `call`.

        Cancellation: as `call`.
        """
        return await self._tools.list()

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        total: float | None = None,
        longest: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> CallToolResult:
        """Call a tool. A failure of the tool is a result with `is_error`, not an exception.

        A tool that its server runs only as a task (2025-11-25; known since `list_tools`) is called as a task, polled
        and awaited.

        Args:
          name: the tool's name on the server.
          arguments: a JSON object.
          total: seconds that the call may take; None is the client's default, for a task `McpOptions.task_total`.
          longest: if set, each progress report restarts the clock of *total*, up to this many seconds in all.
          on_progress: called with each progress report as it arrives; sync and cheap.

        Raises:
          McpError: see `call`; `ProtocolViolation` also when the structured result does not fit the tool's output
            schema.

        Cancellation: the server is sent a cancellation, the id is retired, a late response is dropped.
        """
        given = {} if arguments is None else arguments
        return await self._tools.call(name, given, total=total, longest=longest, on_progress=on_progress)

    async def list_resources(self) -> tuple[Resource, ...]:
        """Return all resources, over all pages.

        Raises:
          McpError: see `call`.

        Cancellation: as `call`.
        """
        return await self._lists.read("resources/list", "resources", Resource)

    async def list_resource_templates(self) -> tuple[ResourceTemplate, ...]:
        """Return all resource templates, over all pages.

        Raises:
          McpError: see `call`.

        Cancellation: as `call`.
        """
        return await self._lists.read("resources/templates/list", "resourceTemplates", ResourceTemplate)

    async def read_resource(self, uri: str) -> tuple[ResourceContents, ...]:
        """Read a resource.

        Raises:
          McpError: see `call`.

        Cancellation: as `call`.
        """
        kept: tuple[ResourceContents, ...] | None = self._cache.get("resources/read", uri)
        if kept is not None:
            await trio.lowlevel.checkpoint()
            return kept
        result = await self.call("resources/read", {"uri": uri}, decode=_decode_read, options=CallOptions(name=uri))
        self._cache.keep("resources/read", uri, result.contents, result.ttl_ms)
        return result.contents

    async def subscribe(self, uri: str) -> None:
        """Request `notifications/resources/updated` for *uri* (until 2025-11-25; they go to `Host.on_notification`).

        Raises:
          McpError: see `call`.

        Cancellation: as `call`.
        """
        await self.call("resources/subscribe", {"uri": uri}, decode=decode_empty)

    async def unsubscribe(self, uri: str) -> None:
        """Cancel a `subscribe`.

        Raises:
          McpError: see `call`.

        Cancellation: as `call`.
        """
        await self.call("resources/unsubscribe", {"uri": uri}, decode=decode_empty)

    async def list_prompts(self) -> tuple[Prompt, ...]:
        """Return all prompts, over all pages.

        Raises:
          McpError: see `call`.

        Cancellation: as `call`.
        """
        return await self._lists.read("prompts/list", "prompts", Prompt)

    async def get_prompt(self, name: str, arguments: Mapping[str, str] | None = None) -> GetPromptResult:
        """Return a prompt with its parameters filled in.

        Raises:
          McpError: see `call`.

        Cancellation: as `call`.
        """
        params: dict[str, Any] = {"name": name}
        if arguments is not None:
            params["arguments"] = arguments
        return await self.call("prompts/get", params, decode=decode_prompt_result, options=CallOptions(name=name))

    async def complete(
        self,
        *,
        argument: str,
        value: str,
        prompt: str | None = None,
        resource_template: str | None = None,
        context: Mapping[str, str] | None = None,
    ) -> Completion:
        """Return completions of *value*, typed into *argument* of a prompt or of a resource template.

        Raises:
          McpError: see `call`.
          ValueError: neither a prompt nor a template was named, or both were.

        Cancellation: as `call`.
        """
        if (prompt is None) == (resource_template is None):
            raise ValueError("name either a prompt or a resource template")
        params: dict[str, Any] = {
            "ref": {"type": "ref/prompt", "name": prompt}
            if prompt is not None
            else {"type": "ref/resource", "uri": resource_template},
            "argument": {"name": argument, "value": value},
        }
        if context is not None:
            params["context"] = {"arguments": context}
        result = await self.call("completion/complete", params, decode=_decode_completion)
        return result.completion

    async def set_log_level(self, level: LogLevel) -> None:
        """Set the lowest level of the server's `notifications/message` (until 2025-11-25).

        Raises:
          McpError: see `call`.

        Cancellation: as `call`.
        """
        await self.call("logging/setLevel", {"level": level}, decode=decode_empty)

    async def ping(self, *, total: float | None = None) -> float:
        """Return the seconds until the response to the cheapest request: `ping`, in 2026-07-28 `server/discover`.

        Raises:
          McpError: see `call`.

        Cancellation: as `call`.
        """
        asked = trio.current_time()
        method = "ping" if self.agreement.meta is None else "server/discover"
        await self.call(method, decode=decode_empty, options=CallOptions(total=total))
        return trio.current_time() - asked


_decode_read = partial(decode_without_nulls, decoder=msgspec.json.Decoder(ReadResourceResult))
_decode_completion = partial(decode_without_nulls, decoder=msgspec.json.Decoder(CompleteResult))
