"""One call of a server's tool: reports to observers, and converts the result for the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any, Literal

import trio
from msgspec import UNSET

from clawft_trio.chat import Call, File, Image
from clawft_trio.codec import decode_base64, encode_json
from clawft_trio.errors import InvalidArguments, McpError, RequestTimeout, ToolFailed, ToolTimeout
from clawft_trio.large_json import LARGE
from clawft_trio.mcp.client import McpClient
from clawft_trio.mcp.messages import Progress
from clawft_trio.mcp.types import (
    AudioContent,
    CallToolResult,
    Content,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    UnknownContent,
)
from clawft_trio.observe import ServerCalled
from clawft_trio.resilience.strategy import Strategy
from clawft_trio.tools.json_schema import SchemaCheck
from clawft_trio.tools.tool import ToolContext


async def call_for(
    client: McpClient,
    name: str,
    arguments: Mapping[str, Any],
    context: ToolContext,
    *,
    total: float | None = None,
    strategy: Strategy | None = None,
    check: SchemaCheck | None = None,
) -> object:
    """Call the tool *name* of *client*'s server for *context*, and return the result for the model.

    Args:
      client: client of the server.
      name: the tool's name on the server.
      arguments: a JSON object.
      context: context of the tool call.
      total: seconds that the call may take; None is the client's default.
      strategy: strategy for the attempts; None: one attempt.
      check: checks the arguments, in a thread if they are large; None: they are not checked.

    Raises:
      InvalidArguments: the arguments do not fit the tool's schema.
      ToolTimeout: no response in time.
      ToolFailed: the server reported a failure, or could not be reached.

    Cancellation: the server is sent a cancellation; a late response is dropped.
    """
    problems = [] if check is None else await check.find_problems(arguments)
    if problems:
        raise InvalidArguments(problems, tool=context.tool)

    def show(progress: Progress) -> None:
        context.progress(progress.progress, progress.total, progress.message)

    async def attempt(_: Call) -> CallToolResult:
        with _reported_to_observers(client.name, name, context):
            return await client.call_tool(name, arguments, total=total, on_progress=show)

    call = Call(id=context.call_id, turn_id=context.turn_id, observer=context.observer)
    try:
        result = await (attempt(call) if strategy is None else strategy.run(attempt, call))
    except RequestTimeout as exc:
        raise ToolTimeout(str(exc), tool=context.tool) from exc
    except McpError as exc:
        raise ToolFailed(str(exc), tool=context.tool) from exc
    if result.is_error:
        raise ToolFailed(_failure(result), tool=context.tool)
    if _media_size(result) < LARGE:
        return _for_model(result)
    return await trio.to_thread.run_sync(_for_model, result, abandon_on_cancel=True)


@contextmanager
def _reported_to_observers(server: str, tool: str, context: ToolContext) -> Iterator[None]:
    """Report the end of a request to observers."""
    started = trio.current_time()
    outcome: Literal["ok", "error", "timeout", "cancelled"] = "cancelled"
    error: Exception | None = None
    try:
        yield
        outcome = "ok"
    except Exception as exc:
        outcome, error = "timeout" if isinstance(exc, RequestTimeout) else "error", exc
        raise
    finally:
        context.observer(
            ServerCalled(
                server=server,
                method="tools/call",
                target=tool,
                tool_call_id=context.call_id,
                turn_id=context.turn_id,
                outcome=outcome,
                duration=trio.current_time() - started,
                error=error,
            )
        )


_MOST_PARTS = 4096
"""Largest number of parts of one result; each takes some microseconds of the event loop."""


def _for_model(result: CallToolResult) -> Any:
    """Return the result for a model: text, images and recordings in order; structured content if there is no other."""
    if not result.content and result.structured_content is not UNSET:
        return result.structured_content
    parts = [_media(block) or _words(block) for block in result.content[:_MOST_PARTS]]
    if len(result.content) > _MOST_PARTS:
        parts.append(f"[truncated: {len(result.content) - _MOST_PARTS} of {len(result.content)} parts left out]")
    if any(isinstance(part, Image | File) for part in parts):
        return parts
    return "\n".join(part for part in parts if isinstance(part, str))


def _failure(result: CallToolResult) -> str:
    """Return the server's description of its tool's failure as text."""
    if not result.content and result.structured_content is not UNSET:
        return encode_json(result.structured_content).decode()
    return "\n".join(map(_words, result.content[:_MOST_PARTS]))


def _media(block: Content) -> Image | File | None:
    """Return the image, document or recording in *block*; None when there is none, or it is not base64."""
    if isinstance(block, ImageContent):
        data = _decoded(block.data)
        return Image(data=data, media_type=block.mime_type) if data else None
    if isinstance(block, AudioContent):
        data = _decoded(block.data)
        return File(data=data, media_type=block.mime_type) if data else None
    if isinstance(block, EmbeddedResource) and not block.resource.text and block.resource.blob:
        data, kind = _decoded(block.resource.blob), block.resource.mime_type or ""
        if data and kind.startswith("image/"):
            return Image(data=data, media_type=kind)
        if data and (kind == "application/pdf" or kind.startswith("audio/")):
            return File(data=data, media_type=kind, name=block.resource.uri.rpartition("/")[2])
    return None


def _media_size(result: CallToolResult) -> int:
    """Return the number of characters of base64 in *result*."""
    blobs = (block.resource.blob or "" for block in result.content if isinstance(block, EmbeddedResource))
    data = (block.data for block in result.content if isinstance(block, ImageContent | AudioContent))
    return sum(map(len, chain(blobs, data)))


def _decoded(data: str) -> bytes:
    try:
        return decode_base64(data)
    except ValueError:
        return b""


def _words(block: Content) -> str:
    match block:
        case TextContent():
            return block.text
        case ResourceLink():
            return f"[resource {block.uri}]"
        case EmbeddedResource():
            return block.resource.text or f"[resource {block.resource.uri}, {block.resource.mime_type or 'binary'}]"
        case UnknownContent():
            return f"[{str(block.block.get('type'))[:40]}]"
        case ImageContent() | AudioContent():
            kind = "image" if isinstance(block, ImageContent) else "audio"
            return f"[{kind} {block.mime_type}, {len(block.data) * 3 // 4} bytes]"
