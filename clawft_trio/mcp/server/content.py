"""Converts the return values of Python functions to MCP content."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

import msgspec
import trio
from msgspec import Raw

from clawft_trio.chat import File, Image
from clawft_trio.codec import decode_json, encode_json
from clawft_trio.errors import PeerError, Problem
from clawft_trio.mcp.jsonrpc import INTERNAL_ERROR
from clawft_trio.mcp.types import (
    AudioContent,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    JsonObject,
    PromptMessage,
    ResourceContents,
    ResourceLink,
    TextContent,
)
from clawft_trio.tools.json_schema import SchemaCheck
from clawft_trio.tools.result import ToolResult
from clawft_trio.tools.tool import Tool

_CHECKED_AT_ONCE = 8 * 1024
"""Bytes of structured data that are checked on the event loop; more are checked in a thread."""

_BLOCKS = (TextContent, ImageContent, AudioContent, ResourceLink, EmbeddedResource)


def tool_result(tool: Tool | None, answer: ToolResult) -> dict[str, Any]:
    """Return the result of `tools/call`: content blocks of the tool unchanged, all other data as text, and in addition
    the structured data when the tool has an output schema; `check_structured` checks it.
    """
    value = answer.data
    if isinstance(value, CallToolResult):
        result: dict[str, Any] = msgspec.to_builtins(value)
        result.setdefault("content", [])
        return result
    blocks = _blocks(value)
    if blocks is None:
        text = [{"type": "text", "text": answer.text}] if answer.text or not answer.parts else []
        blocks = [*text, *map(_media_block, answer.parts)]
    result = {"content": blocks, "isError": answer.outcome != "ok"}
    if tool is not None and tool.output_schema is not None and answer.outcome == "ok":
        result["structuredContent"] = Raw(encode_json(value))
    return result


def _blocks(value: object) -> list[Any] | None:
    if isinstance(value, _BLOCKS):
        return [value]
    if isinstance(value, list | tuple) and any(isinstance(one, _BLOCKS) for one in value):
        return [one if isinstance(one, _BLOCKS) else _text(one) for one in value]
    return None


def _media_block(media: Image | File) -> Any:
    """Convert an image or file of this package to content: a URL becomes a link, bytes become the matching kind."""
    kind, data = media.media_type, base64.b64encode(media.data).decode()
    name = media.name if isinstance(media, File) and media.name else kind.partition("/")[0]
    if media.url:
        return ResourceLink(uri=media.url, name=name, mime_type=kind)
    if isinstance(media, Image):
        return ImageContent(data=data, mime_type=kind)
    if kind.startswith("audio/"):
        return AudioContent(data=data, mime_type=kind)
    return EmbeddedResource(resource=ResourceContents(uri=f"file:///{quote(name)}", mime_type=kind, blob=data))


def _text(value: object) -> TextContent:
    return TextContent(text=value if isinstance(value, str) else encode_json(value).decode())


async def check_structured(tool: Tool, result: Mapping[str, Any]) -> None:
    """Check the structured data in a result of *tool*, whose output schema was not read from the hints of a function.

    Raises:
      PeerError: the data does not fit the schema.

    Cancellation: a check of large data, in a thread, is finished first.
    """
    await trio.lowlevel.checkpoint()
    data = bytes(result["structuredContent"])
    find = partial(_problems, tool, data)
    problems = find() if len(data) <= _CHECKED_AT_ONCE else await trio.to_thread.run_sync(find)
    if problems:
        what = "; ".join(map(str, problems))
        raise PeerError(f"the tool {tool.name!r} returned what its schema does not allow: {what}", code=INTERNAL_ERROR)


def _problems(tool: Tool, data: bytes) -> list[Problem]:
    return SchemaCheck(tool.output_schema or {}, noun="field").problems(decode_json(data))


def prompt_messages(value: object) -> list[Any]:
    """Return the messages of a prompt: text and blocks become user messages, messages stay unchanged."""
    values = value if isinstance(value, list | tuple) else [value]
    return [
        one
        if isinstance(one, PromptMessage)
        else PromptMessage(role="user", content=one if isinstance(one, _BLOCKS) else _text(one))
        for one in values
    ]


def resource_contents(value: object, uri: str, mime_type: str | None) -> list[JsonObject]:
    """Return the contents of a resource: text, bytes as a blob, contents unchanged, all other values as JSON."""
    values = value if isinstance(value, list) and value and isinstance(value[0], ResourceContents) else [value]
    return [_contents(one, uri, mime_type) for one in values]


def _contents(value: object, uri: str, mime_type: str | None) -> JsonObject:
    if isinstance(value, ResourceContents):
        found: JsonObject = msgspec.to_builtins(value)
        return found
    if isinstance(value, bytes | bytearray):
        blob = base64.b64encode(value).decode()
        return {"uri": uri, "mimeType": mime_type or "application/octet-stream", "blob": blob}
    if isinstance(value, str):
        return {"uri": uri, "mimeType": mime_type or "text/plain", "text": value}
    return {"uri": uri, "mimeType": mime_type or "application/json", "text": encode_json(value).decode()}
