"""The requests of the protocol by their names, over anything that can `call`."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
import trio
from msgspec import Raw

from clawft_trio.errors import ProtocolViolation
from clawft_trio.mcp.frames import Decode, OnProgress
from clawft_trio.mcp.handshake import Agreement
from clawft_trio.mcp.output import OutputCheck
from clawft_trio.mcp.param_headers import Path, header_paths, param_headers
from clawft_trio.mcp.types import (
    CallToolResult,
    CompleteResult,
    Completion,
    EmptyResult,
    GetPromptResult,
    LogLevel,
    Prompt,
    PromptsPage,
    ReadResourceResult,
    Resource,
    ResourceContents,
    ResourcesPage,
    ResourceTemplate,
    ResourceTemplatesPage,
    ToolDefinition,
    ToolsPage,
    decode_tool_result,
)

T = TypeVar("T")
P = TypeVar("P", ToolsPage, ResourcesPage, ResourceTemplatesPage, PromptsPage)

_log = logging.getLogger("clawft_trio.mcp")

MAX_PAGES = 1000
"""Pages of one list. A server whose list never ends is broken or hostile."""


class Calls(ABC):
    """Everything that a client may ask of a server."""

    name: str

    def __init__(self) -> None:
        self._checks: dict[str, OutputCheck] = {}
        self._header_paths: dict[str, Mapping[Path, str]] = {}
        self._tools_version = 0
        self._tools_changed = trio.lowlevel.ParkingLot()

    @property
    @abstractmethod
    def agreement(self) -> Agreement:
        """What the handshake settled."""

    @abstractmethod
    async def call(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        decode: Decode[T],
        name: str = "",
        total: float | None = None,
        longest: float | None = None,
        on_progress: OnProgress | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> T:
        """Send any request and wait for its answer.

        Raises:
          McpError: there was none, or it was an error, or it was no answer.

        Cancellation: nobody waits for the answer any more, and the server is told.
        """

    async def _pages(self, method: str, decode: Callable[[Raw], P]) -> list[P]:
        pages: list[P] = []
        cursor: str | None = None
        seen: set[str] = set()
        while len(pages) < MAX_PAGES:
            params = None if cursor is None else {"cursor": cursor}
            page = await self.call(method, params, decode=decode)
            pages.append(page)
            cursor = page.next_cursor
            if cursor is None:
                return pages
            if cursor in seen:
                raise ProtocolViolation(f"{method}: the cursor {cursor[:60]!r} came twice", server=self.name)
            seen.add(cursor)
        raise ProtocolViolation(f"{method}: more than {MAX_PAGES} pages", server=self.name)

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

    def _forget_tools(self) -> None:
        self._tools_version += 1
        self._tools_changed.unpark_all()

    async def list_tools(self) -> tuple[ToolDefinition, ...]:
        """All tools, over all pages. From then on results are checked against their output schemas.

        Raises:
          McpError: see `call`.

        Cancellation: as `call`.
        """
        pages = await self._pages("tools/list", _decode_tools)
        tools = tuple(tool for page in pages for tool in page.tools)
        if self.agreement.meta is not None:
            tools = self._without_bad_headers(tools)
        self._checks = {tool.name: OutputCheck(tool.output_schema) for tool in tools if tool.output_schema is not None}
        return tools

    def _without_bad_headers(self, tools: tuple[ToolDefinition, ...]) -> tuple[ToolDefinition, ...]:
        """The tools whose `x-mcp-header` annotations make sense; 2026-07-28 wants the others left out."""
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

        Args:
          name: as the server has it.
          arguments: a JSON object.
          total: seconds it may take; None is the client's default.
          longest: with it, each progress report starts the clock of *total* anew, up to so many seconds in all.
          on_progress: is shown each progress report as it comes; sync and cheap.

        Raises:
          McpError: see `call`; `ProtocolViolation` also when the structured result does not fit the tool's own
            output schema.

        Cancellation: the server is told, the id is retired, a late answer is dropped.
        """
        given = {} if arguments is None else arguments
        paths = self._header_paths.get(name) if self._header_paths else None
        result = await self.call(
            "tools/call",
            {"name": name, "arguments": given},
            decode=decode_tool_result,
            name=name,
            total=total,
            longest=longest,
            on_progress=on_progress,
            headers=None if paths is None else param_headers(paths, given),
        )
        if self._checks and not result.is_error and name in self._checks:
            problem = self._checks[name].problem_with(result.structured_content)
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
        pages = await self._pages("resources/list", _decode_resources)
        return tuple(resource for page in pages for resource in page.resources)

    async def list_resource_templates(self) -> tuple[ResourceTemplate, ...]:
        """All templates of resources, over all pages.

        Raises:
          McpError: see `call`.

        Cancellation: as `call`.
        """
        pages = await self._pages("resources/templates/list", _decode_templates)
        return tuple(template for page in pages for template in page.resource_templates)

    async def read_resource(self, uri: str) -> tuple[ResourceContents, ...]:
        """Read a resource.

        Raises:
          McpError: see `call`.

        Cancellation: as `call`.
        """
        result = await self.call("resources/read", {"uri": uri}, decode=_decode_read, name=uri)
        return result.contents

    async def subscribe(self, uri: str) -> None:
        """Ask for `notifications/resources/updated` about *uri* (until 2025-11-25; it goes to `Host.hear`).

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
        pages = await self._pages("prompts/list", _decode_prompts)
        return tuple(prompt for page in pages for prompt in page.prompts)

    async def get_prompt(self, name: str, arguments: Mapping[str, str] | None = None) -> GetPromptResult:
        """A prompt, with its blanks filled in.

        Raises:
          McpError: see `call`.

        Cancellation: as `call`.
        """
        params: dict[str, Any] = {"name": name}
        if arguments is not None:
            params["arguments"] = arguments
        return await self.call("prompts/get", params, decode=_decode_prompt, name=name)

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
        """Seconds that the server took to say that it is there (until 2025-11-25).

        Raises:
          McpError: see `call`.

        Cancellation: as `call`.
        """
        asked = trio.current_time()
        await self.call("ping", decode=_decode_empty, total=total)
        return trio.current_time() - asked


_decode_tools = msgspec.json.Decoder(ToolsPage).decode
_decode_resources = msgspec.json.Decoder(ResourcesPage).decode
_decode_templates = msgspec.json.Decoder(ResourceTemplatesPage).decode
_decode_read = msgspec.json.Decoder(ReadResourceResult).decode
_decode_prompts = msgspec.json.Decoder(PromptsPage).decode
_decode_prompt = msgspec.json.Decoder(GetPromptResult).decode
_decode_completion = msgspec.json.Decoder(CompleteResult).decode
_decode_empty = msgspec.json.Decoder(EmptyResult).decode
