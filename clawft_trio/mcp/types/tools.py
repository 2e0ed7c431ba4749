"""Tools and the results of their calls."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw

from clawft_trio.mcp.types.content import Content, TextContent, content_of
from clawft_trio.mcp.types.handshake import Icon
from clawft_trio.mcp.types.wire import JsonObject, WireRecord


class ToolAnnotations(WireRecord, frozen=True):
    """Hints of a server about its tool. They are not trusted."""

    title: str | None = None
    read_only_hint: bool | None = None
    destructive_hint: bool | None = None
    idempotent_hint: bool | None = None
    open_world_hint: bool | None = None


class ToolDefinition(WireRecord, frozen=True):
    """A tool as its server describes it."""

    name: str
    input_schema: JsonObject = msgspec.field(default_factory=lambda: {"type": "object"})
    title: str | None = None
    description: str | None = None
    output_schema: JsonObject | None = None
    annotations: ToolAnnotations | None = None
    #: how it may be run as a task (2025-11-25): `taskSupport` is `required`, `optional` or `forbidden`
    execution: JsonObject | None = None
    icons: tuple[Icon, ...] = ()
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


class CallToolResult(WireRecord, frozen=True):
    """The result of a tool call. `is_error`: the tool failed; the content then has the reason."""

    content: tuple[Content, ...] = ()
    structured_content: Any = UNSET
    is_error: bool = False
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)

    @property
    def text(self) -> str:
        """All its plain text, with a line break between blocks."""
        return "\n".join(block.text for block in self.content if isinstance(block, TextContent))


class _LooseResult(WireRecord, frozen=True):
    content: tuple[Any, ...] = ()
    structured_content: Any = UNSET
    is_error: bool = False
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


def decode_tool_result(raw: Raw) -> CallToolResult:
    """Decode the result of a tool call; blocks of unknown kinds, and those that do not fit their kind, stay unchanged.

    Raises:
      msgspec.DecodeError: it is not a tool result.
    """
    try:
        return _decode_result(raw)
    except msgspec.ValidationError:
        return tool_result_of(msgspec.json.decode(raw))


def tool_result_of(value: Any) -> CallToolResult:
    """Convert *value*, decoded JSON, to the result of a tool call.

    Raises:
      msgspec.ValidationError: it is not a tool result.
    """
    if isinstance(value, dict):
        value = {key: member for key, member in value.items() if member is not None or key == "structuredContent"}
    loose = msgspec.convert(value, _LooseResult)
    return CallToolResult(
        content=tuple(map(content_of, loose.content)),
        structured_content=loose.structured_content,
        is_error=loose.is_error,
        meta=loose.meta,
    )


_decode_result = msgspec.json.Decoder(CallToolResult).decode
