"""Converts messages of `sampling/createMessage` to messages for a model, and the model's answer to content blocks.

Since 2025-11-25 a conversation may contain calls of the server's tools (`tool_use`, from the assistant) and their
results (`tool_result`, from the user). The protocol's rules are checked here, because most models refuse violations:
a message with results has nothing else, and every call has its result in the next message.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from clawft_trio.chat import CALLS_MAY_RUN, ChatResponse, File, Image, Message, Part, Text, ToolCall
from clawft_trio.codec import decode_json, encode_json
from clawft_trio.errors import InvalidData, PeerError
from clawft_trio.mcp.jsonrpc import INVALID_PARAMS
from clawft_trio.mcp.types import JsonObject, SamplingMessage, WireRecord

R = TypeVar("R", bound=WireRecord)


class _ToolUse(WireRecord, frozen=True):
    id: str
    name: str
    input: dict[str, Any] = msgspec.field(default_factory=dict)


class _ToolResult(WireRecord, frozen=True):
    tool_use_id: str
    content: tuple[dict[str, Any], ...] = ()
    structured_content: Any = None
    is_error: bool = False


def chat_messages(messages: Sequence[SamplingMessage]) -> Iterator[Message]:
    """Convert *messages* for a model.

    Raises:
      PeerError: a message has content that is not supported, or calls and results do not match.
    """
    open_calls: set[str] = set()
    for message in messages:
        blocks = _blocks(message)
        results = [block for block in blocks if block.get("type") == "tool_result"]
        if open_calls or results:
            yield from _results(message, blocks, results, open_calls)
            open_calls = set()
            continue
        calls = tuple(_call(block, message) for block in blocks if block.get("type") == "tool_use")
        open_calls = {call.id for call in calls}
        if len(open_calls) < len(calls):
            raise _invalid("two tool_use blocks have one id")
        parts = tuple(_part(block) for block in blocks if block.get("type") != "tool_use")
        yield Message(message.role, parts, tool_calls=calls)
    if open_calls:
        raise _invalid("the last message calls a tool, and its result is missing")


def answer_blocks(response: ChatResponse) -> list[JsonObject]:
    """Return the answer's text, images and tool calls as content blocks; at least one block."""
    blocks: list[JsonObject] = [block for part in response.content if (block := _block_of(part))]
    if response.finish_reason in CALLS_MAY_RUN:
        blocks += [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": _arguments(call)}
            for call in response.tool_calls
        ]
    return blocks or [{"type": "text", "text": ""}]


def _results(
    message: SamplingMessage, blocks: Sequence[JsonObject], results: Sequence[JsonObject], expected: set[str]
) -> Iterator[Message]:
    if message.role != "user" or len(results) < len(blocks) or not results:
        raise _invalid("tool results stand alone, in the user's message right behind the calls")
    found = [_decoded(block, _ToolResult) for block in results]
    if sorted(one.tool_use_id for one in found) != sorted(expected):
        raise _invalid("every tool_use needs one tool_result of its id in the next message, and no other is allowed")
    for one in found:
        parts = tuple(map(_part, one.content)) or (Text(_structured(one)),)
        mark = (Text("Error: "),) if one.is_error else ()
        yield Message("tool", mark + parts, tool_call_id=one.tool_use_id)


def _structured(result: _ToolResult) -> str:
    return "" if result.structured_content is None else encode_json(result.structured_content).decode()


def _call(block: JsonObject, message: SamplingMessage) -> ToolCall:
    if message.role != "assistant":
        raise _invalid("only the assistant calls tools")
    use = _decoded(block, _ToolUse)
    return ToolCall(id=use.id, name=use.name, arguments=encode_json(use.input).decode())


def _arguments(call: ToolCall) -> Any:
    try:
        return decode_json(call.arguments or "{}")
    except InvalidData:
        return {}


def _blocks(message: SamplingMessage) -> list[Mapping[str, Any]]:
    blocks = message.content if isinstance(message.content, list) else [message.content]
    if not all(isinstance(block, dict) for block in blocks):
        raise _invalid("a content block is no object")
    return blocks


def _decoded(block: JsonObject, kind: type[R]) -> R:
    try:
        return msgspec.convert(block, kind)
    except msgspec.ValidationError as exc:
        raise _invalid(f"{block.get('type')}: {str(exc)[:200]}") from exc


def _part(block: Any) -> Part:
    match block:
        case {"type": "text", "text": str(text)}:
            return Text(text)
        case {"type": "image", "data": str(data), "mimeType": str(kind)}:
            return Image(data=_bytes(data, "image"), media_type=kind)
        case {"type": "audio", "data": str(data), "mimeType": str(kind)}:
            return File(data=_bytes(data, "recording"), media_type=kind)
        case {"type": "resource_link", "uri": str(uri)}:
            return Text(f"[resource {uri}]")
        case {"type": "resource", "resource": {"text": str(text)}}:
            return Text(text)
    raise _invalid("only text, images, recordings and text resources can be sampled from")


def _block_of(part: Part) -> JsonObject | None:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text} if part.text else None
    if isinstance(part, Image) and part.data:
        return {"type": "image", "data": base64.b64encode(part.data).decode(), "mimeType": part.media_type}
    return None


def _bytes(data: str, what: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise _invalid(f"the {what} is not base64") from exc


def _invalid(text: str) -> PeerError:
    return PeerError(text, code=INVALID_PARAMS)
