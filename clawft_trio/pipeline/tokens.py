"""Token counts, estimated without a tokenizer.

A character counts 4/20 of a token, plus 9/20 if it is a digit, capital, punctuation or line end, plus 8/20 for each
UTF-8 byte after the first. Fitted to o200k_base: within -20 % and +30 % for English and German prose, code, JSON,
HTML, CSV, logs and hexadecimal; up to 2.2 times too high for other scripts; a third too low for base64. A real
tokenizer can be passed as `CountTokens`.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import TypeAlias

from clawft_trio.chat import ChatRequest, File, Image, Message, Opaque, Part, Text, ToolSpec
from clawft_trio.codec import encode_json

CountTokens: TypeAlias = Callable[[str], int]
"""Returns the number of tokens of a text."""

PER_MESSAGE = 4
"""Tokens of a message's frame: role, separators."""

PER_IMAGE = 1600
"""Tokens of an image of unknown size: the most that large providers charge for one that they scale themselves."""


_IN_WORDS = (string.ascii_lowercase + " ").encode() + bytes(range(0x80, 0x100))


_MOST_COUNTED = 4 * 1024 * 1024
"""Characters of a text that are all looked at: 6 ms. Of a longer text samples are counted."""

_SAMPLES = 256
_SAMPLE = 4096
"""Characters of one sample."""


def count_tokens(text: str) -> int:
    """Estimate the tokens of *text*; of more than 4 MiB characters, from samples that are spread over the text."""
    if len(text) > _MOST_COUNTED:
        step = len(text) // _SAMPLES
        sample = "".join([text[number * step : number * step + _SAMPLE] for number in range(_SAMPLES)])
        return -(-_twentieths(sample) * len(text) // len(sample) // 20)
    return (_twentieths(text) + 19) // 20


def _twentieths(text: str) -> int:
    # Uses the interpreter's own loops, because the history of a session is counted in every turn.
    data = text.encode("utf-8", "surrogatepass")
    dense = len(data.translate(None, _IN_WORDS))
    return 4 * len(text) + 9 * dense + 8 * (len(data) - len(text))


def message_tokens(message: Message, count: CountTokens = count_tokens) -> int:
    """Estimate the tokens of *message* with its tool calls and images. Cached for the default *count*."""
    if count is not count_tokens:
        return _counted(message, count)
    if message._tokens is None:
        object.__setattr__(message, "_tokens", _counted(message, count))
        assert message._tokens is not None
    return message._tokens


def _counted(message: Message, count: CountTokens) -> int:
    content = sum(_part_tokens(part, count) for part in message.content)
    calls = sum(PER_MESSAGE + count(call.id + call.name) + count(call.arguments) for call in message.tool_calls)
    return PER_MESSAGE + content + calls + count(message.tool_call_id or "")


def _part_tokens(part: Part, count: CountTokens) -> int:
    if isinstance(part, Text):
        return count(part.text)
    if isinstance(part, Image):
        return PER_IMAGE
    if isinstance(part, File):
        # A page of a PDF has about 3 kB and costs as much as its text and its image together.
        return PER_IMAGE + len(part.data) // 3
    assert isinstance(part, Opaque)
    return count(encode_json(part.block).decode())


def tool_tokens(tool: ToolSpec, count: CountTokens = count_tokens) -> int:
    """Estimate the tokens of the description of *tool*. Cached for the default *count*."""
    if count is not count_tokens:
        return _counted_tool(tool, count)
    if tool._tokens is None:
        object.__setattr__(tool, "_tokens", _counted_tool(tool, count))
        assert tool._tokens is not None
    return tool._tokens


def _counted_tool(tool: ToolSpec, count: CountTokens) -> int:
    return PER_MESSAGE + count(tool.name + tool.description) + count(encode_json(tool.parameters).decode())


def fixed_tokens(request: ChatRequest, count: CountTokens = count_tokens) -> int:
    """Estimate the input tokens of *request* outside its messages: tools and the answer's schema."""
    schema = request.response_schema
    offered = sum(tool_tokens(tool, count) for tool in request.tools)
    return offered + (0 if schema is None else count(encode_json(schema).decode()))


def request_tokens(request: ChatRequest, count: CountTokens = count_tokens) -> int:
    """Estimate all input tokens of *request*."""
    return fixed_tokens(request, count) + sum(message_tokens(message, count) for message in request.messages)
