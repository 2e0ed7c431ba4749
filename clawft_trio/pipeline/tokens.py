"""How many tokens something is, estimated without anybody's tokenizer.

Four ASCII characters, or one other character, make a token. English prose has a little more characters in a token,
JSON and code a little fewer; CJK has about one. Whoever has the real tokenizer hands it in as `CountTokens`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from clawft_trio.chat import ChatRequest, Image, Message, Opaque, Part, Text, ToolSpec
from clawft_trio.codec import encode_json

CountTokens: TypeAlias = Callable[[str], int]
"""Tokens of a text."""

PER_MESSAGE = 4
"""Tokens of a message's frame: role, separators."""

PER_IMAGE = 1600
"""Tokens of an image of unknown size: the most that the large providers charge for one that they scale themselves."""


def count_tokens(text: str) -> int:
    """Estimated tokens of *text*."""
    if text.isascii():
        return (len(text) + 3) // 4
    ascii_characters = len(text.encode("ascii", "ignore"))
    return (ascii_characters + 3) // 4 + len(text) - ascii_characters


def message_tokens(message: Message, count: CountTokens = count_tokens) -> int:
    """Estimated tokens of *message*, its tool calls and images included."""
    content = sum(_part_tokens(part, count) for part in message.content)
    calls = sum(PER_MESSAGE + count(call.id + call.name) + count(call.arguments) for call in message.tool_calls)
    return PER_MESSAGE + content + calls + count(message.tool_call_id or "")


def _part_tokens(part: Part, count: CountTokens) -> int:
    if isinstance(part, Text):
        return count(part.text)
    if isinstance(part, Image):
        return PER_IMAGE
    assert isinstance(part, Opaque)
    return count(encode_json(part.block).decode())


def tool_tokens(tool: ToolSpec, count: CountTokens = count_tokens) -> int:
    """Estimated tokens of the offer of *tool*."""
    return PER_MESSAGE + count(tool.name + tool.description) + count(encode_json(tool.parameters).decode())


def fixed_tokens(request: ChatRequest, count: CountTokens = count_tokens) -> int:
    """Estimated input tokens of *request* that are not messages: tools and the answer's schema."""
    schema = request.response_schema
    offered = sum(tool_tokens(tool, count) for tool in request.tools)
    return offered + (0 if schema is None else count(encode_json(schema).decode()))


def request_tokens(request: ChatRequest, count: CountTokens = count_tokens) -> int:
    """Estimated input tokens of all of *request*."""
    return fixed_tokens(request, count) + sum(message_tokens(message, count) for message in request.messages)
