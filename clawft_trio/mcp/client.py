"""A client for one MCP server: the requests of the protocol by their names."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeVar

import msgspec
import trio
from msgspec import Raw

from clawft_trio.errors import McpError, ProtocolViolation
from clawft_trio.mcp.connection import Connection
from clawft_trio.mcp.handshake import Agreement
from clawft_trio.mcp.large import LARGE, decode_large
from clawft_trio.mcp.listing import ListReader, ResultCache, decode_page
from clawft_trio.mcp.messages import DEFAULT_OPTIONS, CallOptions, Decode, OnNotification, OnProgress
from clawft_trio.mcp.multiplexer import MultiplexerStatistics, Transport
from clawft_trio.mcp.options import McpOptions
from clawft_trio.mcp.output_schema import OutputCheck
from clawft_trio.mcp.tasks import call_tool_as_task, can_run_tasks, wants_task
from clawft_trio.mcp.transports.param_headers import Path, header_paths, param_headers
from clawft_trio.mcp.types import (
    CallToolResult,
    CompleteResult,
    Completion,
    EmptyResult,
    GetPromptResult,
    LogLevel,
    Prompt,
    ReadResourceResult,
    Resource,
    ResourceContents,
    ResourceTemplate,
    ToolDefinition,
    decode_prompt_result,
    decode_tool_result,
    decode_without_nulls,
    tool_result_of,
)
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.observe import Noted, fan_out
from clawft_trio.tracebacks import shorten_traceback

T = TypeVar("T")

_log = logging.getLogger("clawft_trio.mcp")

_LISTEN_AGAIN = 5.0
"""Seconds after which a subscription that the server has ended is asked for again."""

# The results that a notification makes stale.
_STALE_AFTER = {
    "notifications/tools/list_changed": ("tools/list",),
    "notifications/prompts/list_changed": ("prompts/list",),
    "notifications/resources/list_changed": ("resources/list", "resources/templates/list"),
    "notifications/resources/updated": ("resources/read",),
}


class McpClient:
    """A client of one server. Any number of tasks may call through it; cancelling one leaves the others alone.

    `open_mcp` and `connect_mcp` make one. While the server is being started again calls wait for it, within their own
    total. A call that was with the server when it ended fails with `PeerGone` and is never repeated here.
    """

    def __init__(
        self, name: str, options: McpOptions, transport: Callable[[], Transport], *, handshake_first: bool = False
    ) -> None:
        self.name = name
        self._connection = Connection(
            name,
            options,
            transport,
            handshake_first=handshake_first,
            on_start=self._note_start,
            on_notification=self._note_notification,
        )
        self._observer = fan_out([options.observer])
        self._cache = ResultCache()
        self._lists = ListReader(name, self._call_raw, self._cache, self._report)
        self._checks: dict[str, OutputCheck] = {}
        self._header_paths: dict[str, Mapping[Path, str]] = {}
        self._task_tools: set[str] = set()
        self._tools_version = 0
        self._tools_changed = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<McpClient {self.name!r}: {self._connection.state}>"

    def statistics(self) -> MultiplexerStatistics:
        """How busy the connection is; all zeros while there is none."""
        return self._connection.statistics()

    @property
    def agreement(self) -> Agreement:
        """What the handshake settled: revision, capabilities, the server's name and version.

        Raises:
          PeerGone: there has been none yet.
        """
        return self._connection.agreement

    @property
    def options(self) -> McpOptions:
        """How it behaves."""
        return self._connection.options

    def task_progress(self, on_progress: OnProgress) -> AbstractContextManager[str]:
        """Give *on_progress* the reports about the progress token that is yielded, inside the block; see `tasks`."""
        return self._connection.task_progress(on_progress)

    @property
    def restarts(self) -> int:
        """How often the server has been started again."""
        return self._connection.restarts

    # --- life ----------------------------------------------------------------------------------------------------

    async def run_until_closed(
        self, *, shielded: bool = False, task_status: trio.TaskStatus[McpClient] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Start the server and keep it up until `aclose`, or until it is gone and is not to be started again.

        Args:
          shielded: once it has started, only `aclose` ends it: cancelling the surrounding nursery does not.
          task_status: gets this client after the handshake.

        Raises:
          McpError: as `open_mcp`.

        Cancellation: the server is ended, within its graces.
        """
        async with open_hidden_nursery() as nursery:

            def note_started() -> None:
                nursery.start_soon(self._follow_tools)
                task_status.started(self)

            await self._connection.run(note_started, shielded=shielded)
            nursery.cancel_scope.cancel(reason="the connection has ended")

    async def aclose(self) -> None:
        """End the connection and the server; pending calls fail with `PeerGone`. Idempotent.

        Cancellation: the end goes on, within the server's graces.
        """
        await self._connection.aclose()

    # --- any request ---------------------------------------------------------------------------------------------

    async def call(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        decode: Decode[T],
        options: CallOptions = DEFAULT_OPTIONS,
    ) -> T:
        """Send any request and wait for its answer.

        Args:
          method: what to ask for.
          params: a JSON object.
          decode: turns the result's JSON text into what is returned; it raises `ValueError` for what does not fit.
          options: how it is sent and how long its answer may take.

        Raises:
          PeerError: the server answered with an error.
          PeerGone: the server ended while it had the request, or the client is closed.
          ServerDown: the server has ended too often; not tried.
          RequestTimeout: no answer in time.
          ProtocolViolation: the answer is not one.

        Cancellation: the server is notified, the id is retired, a late answer is dropped.
        """
        try:
            return await self._connection.call(method, params, decode=decode, options=options)
        except Exception as exc:
            shorten_traceback(exc)
            raise

    def notify_nowait(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        """Queue a notification; it is dropped while there is no server.

        Raises:
          trio.WouldBlock: the server has stopped reading.
        """
        self._connection.notify_nowait(method, params)

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
          on_notification: is called with method and parameters of each notification of this subscription; synchronous
            and cheap. The first is `notifications/subscriptions/acknowledged`.
          tools: changes of the list of tools; `prompts` and `resources` likewise.
          uris: changes of these resources.

        Raises:
          McpError: see `call`.

        Cancellation: the server is notified; *on_notification* is not called again.
        """
        wanted = {"toolsListChanged": tools, "promptsListChanged": prompts, "resourcesListChanged": resources}
        filter_: dict[str, Any] = {key: True for key, value in wanted.items() if value}
        if uris:
            filter_["resourceSubscriptions"] = list(uris)
        options = CallOptions(total=math.inf, on_notification=on_notification)
        await self.call("subscriptions/listen", {"notifications": filter_}, decode=_decode_empty, options=options)

    async def _call_raw(self, method: str, params: Mapping[str, Any] | None) -> dict[str, Raw]:
        return await self._connection.call(method, params, decode=decode_page)

    def _report(self, what: str, reason: str) -> None:
        _log.warning("%s: %s: %s", self.name, what, reason)
        self._observer(Noted(component="mcp", what=what, details={"server": self.name, "reason": reason[:500]}))

    # --- tools -------------------------------------------------------------------------------------------------

    @property
    def tools_version(self) -> int:
        """Counts how often the server's tools may have changed: a notice, or a new life of the server."""
        return self._tools_version

    async def wait_tools_changed(self, seen: int) -> int:
        """Wait until `tools_version` is not *seen* any more, and return it.

        Cancellation: nothing has changed.
        """
        await trio.lowlevel.checkpoint()
        while self._tools_version == seen:
            await self._tools_changed.park()
        return self._tools_version

    def _note_start(self) -> None:
        self._cache.forget()
        self._forget_tools()

    def _note_notification(self, method: str, _: Raw) -> None:
        stale = _STALE_AFTER.get(method)
        if stale is not None:
            self._cache.forget(*stale)
        if method == "notifications/tools/list_changed":
            self._forget_tools()

    async def _follow_tools(self) -> None:
        """Subscribe to changes of the tools wherever the server is of 2026-07-28 and offers it."""
        while True:
            seen = self._tools_version
            agreement = self.agreement
            if agreement.meta is None or not (agreement.capabilities.tools or {}).get("listChanged"):
                await self.wait_tools_changed(seen)
                continue
            try:
                await self.listen(lambda *_: None, tools=True)
            except McpError as exc:
                _log.info("%s: changes of the tools cannot be followed: %s", self.name, exc)
                await self.wait_tools_changed(seen)
            else:
                await trio.sleep(_LISTEN_AGAIN)

    def _forget_tools(self) -> None:
        self._tools_version += 1
        self._tools_changed.unpark_all()

    async def list_tools(self) -> tuple[ToolDefinition, ...]:
        """All tools, over all pages. From then on results are checked against their output schemas.

        Raises:
          McpError: see `call`.

        Cancellation: as `call`.
        """
        tools = await self._lists.read("tools/list", "tools", ToolDefinition)
        if self.agreement.meta is not None:
            tools = self._without_bad_headers(tools)
        self._checks = {tool.name: OutputCheck(tool.output_schema) for tool in tools if tool.output_schema is not None}
        await trio.lowlevel.checkpoint()
        runs_tasks = can_run_tasks(self.agreement)
        self._task_tools = {tool.name for tool in tools if runs_tasks and wants_task(tool)}
        return tools

    def _without_bad_headers(self, tools: tuple[ToolDefinition, ...]) -> tuple[ToolDefinition, ...]:
        """The tools with valid `x-mcp-header` annotations; 2026-07-28 wants the others left out."""
        kept: list[ToolDefinition] = []
        self._header_paths = {}
        for tool in tools:
            try:
                paths = header_paths(tool.input_schema)
            except ValueError as exc:
                _log.warning("%s: tool %r is left out: %s", self.name, tool.name[:100], exc)
                continue
            kept.append(tool)
            if paths:
                self._header_paths[tool.name] = paths
        return tuple(kept)

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        total: float | None = None,
        longest: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> CallToolResult:
        """Call a tool. Its own failure is a result with `is_error`, not an exception.

        A tool that its server runs as a task only (2025-11-25; known since `list_tools`) is called so, polled and
        awaited.

        Args:
          name: as the server has it.
          arguments: a JSON object.
          total: seconds it may take; None is the client's default, for a task `McpOptions.task_total`.
          longest: with it, each progress report starts the clock of *total* anew, up to so many seconds in all.
          on_progress: is shown each progress report as it comes; sync and cheap.

        Raises:
          McpError: see `call`; `ProtocolViolation` also when the structured result does not fit the tool's own
            output schema.

        Cancellation: the server is sent a cancellation, the id is retired, a late answer is dropped.
        """
        given = {} if arguments is None else arguments
        if name in self._task_tools:
            result = await call_tool_as_task(self, name, given, total=total, on_progress=on_progress)
            return await self._checked(name, result)
        paths = self._header_paths.get(name) if self._header_paths else None
        result = await self.call_for_result(
            "tools/call",
            {"name": name, "arguments": given},
            options=CallOptions(
                name=name,
                total=total,
                longest=longest,
                on_progress=on_progress,
                headers=None if paths is None else param_headers(paths, given),
            ),
        )
        return await self._checked(name, result)

    async def call_for_result(
        self, method: str, params: Mapping[str, Any], *, options: CallOptions = DEFAULT_OPTIONS
    ) -> CallToolResult:
        """Send a request whose result is that of a tool call; a large one is decoded in a thread.

        Raises:
          McpError: see `call`.

        Cancellation: as `call`.
        """
        found = await self.call(method, params, decode=_decode_unless_large, options=options)
        if isinstance(found, CallToolResult):
            return found
        try:
            value = await decode_large(bytes(found))
            return await trio.to_thread.run_sync(tool_result_of, value)
        except (ValueError, RecursionError) as exc:
            raise ProtocolViolation(f"{method}: {exc}", server=self.name) from exc

    async def _checked(self, name: str, result: CallToolResult) -> CallToolResult:
        if self._checks and not result.is_error and name in self._checks:
            problem = await self._checks[name].find_problem(result.structured_content)
            if problem is not None:
                raise ProtocolViolation(f"{name}: structured content: {problem}", server=self.name)
        return result

    # --- resources ------------------------------------------------------------------------------------------------

    async def list_resources(self) -> tuple[Resource, ...]:
        """All resources, over all pages.

        Raises:
          McpError: see `call`.

        Cancellation: as `call`.
        """
        return await self._lists.read("resources/list", "resources", Resource)

    async def list_resource_templates(self) -> tuple[ResourceTemplate, ...]:
        """All templates of resources, over all pages.

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
        """Ask for `notifications/resources/updated` about *uri* (until 2025-11-25; it goes to `Host.on_notification`).

        Raises:
          McpError: see `call`.

        Cancellation: as `call`.
        """
        await self.call("resources/subscribe", {"uri": uri}, decode=_decode_empty)

    async def unsubscribe(self, uri: str) -> None:
        """Take back a `subscribe`.

        Raises:
          McpError: see `call`.

        Cancellation: as `call`.
        """
        await self.call("resources/unsubscribe", {"uri": uri}, decode=_decode_empty)

    # --- prompts ---------------------------------------------------------------------------------------------------

    async def list_prompts(self) -> tuple[Prompt, ...]:
        """All prompts, over all pages.

        Raises:
          McpError: see `call`.

        Cancellation: as `call`.
        """
        return await self._lists.read("prompts/list", "prompts", Prompt)

    async def get_prompt(self, name: str, arguments: Mapping[str, str] | None = None) -> GetPromptResult:
        """A prompt, with its blanks filled in.

        Raises:
          McpError: see `call`.

        Cancellation: as `call`.
        """
        params: dict[str, Any] = {"name": name}
        if arguments is not None:
            params["arguments"] = arguments
        return await self.call("prompts/get", params, decode=decode_prompt_result, options=CallOptions(name=name))

    # --- the rest --------------------------------------------------------------------------------------------------

    async def complete(
        self,
        *,
        argument: str,
        value: str,
        prompt: str | None = None,
        resource_template: str | None = None,
        context: Mapping[str, str] | None = None,
    ) -> Completion:
        """What may follow *value*, typed into *argument* of a prompt or of a resource template.

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
        """From which level on the server sends `notifications/message` (until 2025-11-25).

        Raises:
          McpError: see `call`.

        Cancellation: as `call`.
        """
        await self.call("logging/setLevel", {"level": level}, decode=_decode_empty)

    async def ping(self, *, total: float | None = None) -> float:
        """Seconds that the server took to answer the cheapest request: `ping`, in 2026-07-28 `server/discover`.

        Raises:
          McpError: see `call`.

        Cancellation: as `call`.
        """
        asked = trio.current_time()
        method = "ping" if self.agreement.meta is None else "server/discover"
        await self.call(method, decode=_decode_empty, options=CallOptions(total=total))
        return trio.current_time() - asked


def _decode_unless_large(raw: Raw) -> CallToolResult | Raw:
    return decode_tool_result(raw) if len(memoryview(raw)) < LARGE else raw


_decode_read = partial(decode_without_nulls, decoder=msgspec.json.Decoder(ReadResourceResult))
_decode_completion = partial(decode_without_nulls, decoder=msgspec.json.Decoder(CompleteResult))
_decode_empty = msgspec.json.Decoder(EmptyResult | None).decode
