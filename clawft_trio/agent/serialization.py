"""Lossless JSON of messages, answers and results for the store."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypeVar

import cattrs
import msgspec
from cattrs.strategies import configure_tagged_union

from clawft_trio.agent.turn_types import Reply
from clawft_trio.chat import ChatResponse, File, Image, Message, Opaque, Part, Text
from clawft_trio.codec import decode_json, decode_losslessly, encode_json, encode_losslessly, make_converter, structure
from clawft_trio.errors import InvalidData, Problem, StoreCorrupt
from clawft_trio.messages import InboundMessage
from clawft_trio.pipeline import RoutingDecision
from clawft_trio.tools import ToolResult

T = TypeVar("T")

MAX_METADATA = 4 * 1024 * 1024
"""Bytes of a message's metadata as JSON."""

_MOST_COMMAS = 100_000
"""Commas in a message's metadata as JSON. Each may separate two values, and the metadata are decoded in one step."""


def _converter() -> cattrs.Converter:
    converter = make_converter()
    converter.register_unstructure_hook(bytes, lambda data: base64.b64encode(data).decode())
    converter.register_structure_hook(bytes, lambda text, _: base64.b64decode(text, validate=True))
    converter.register_unstructure_hook(Decimal, str)
    converter.register_structure_hook(Decimal, lambda text, _: Decimal(text))
    # An error of another run cannot be raised here: only the outcome of the call is stored.
    converter.register_unstructure_hook_func(lambda kind: kind in _ERRORS, lambda _: None)
    converter.register_structure_hook_func(lambda kind: kind in _ERRORS, lambda *_: None)
    # The return value of a tool function is an object of this run: only its text is stored.
    converter.register_unstructure_hook_func(lambda kind: kind is object, lambda _: None)
    converter.register_structure_hook_func(lambda kind: kind is object, lambda *_: None)
    converter.register_unstructure_hook_func(lambda kind: kind == (RoutingDecision | None), lambda _: None)
    converter.register_structure_hook_func(lambda kind: kind == (RoutingDecision | None), lambda *_: None)
    # Otherwise cattrs would copy these entry by entry and look for a hook for each.
    converter.register_unstructure_hook_func(lambda kind: kind == Mapping[str, Any], dict)
    converter.register_structure_hook_func(lambda kind: kind == Mapping[str, Any], lambda value, _: dict(value))
    names = {Text: "text", Image: "image", File: "file", Opaque: "opaque"}
    # Messages may have any part, tool results only parts that are not text.
    for union in (Part, Image | File):
        configure_tagged_union(union, converter, tag_name="type", tag_generator=names.__getitem__)
    return converter


_ERRORS = (BaseException | None, Exception | None)
_CONVERTER = _converter()


def message_to_json(message: Message) -> bytes:
    """Encode one message, with images and opaque blocks."""
    return encode_json(_CONVERTER.unstructure(message))


def message_from_json(data: bytes) -> Message:
    """Decode a message.

    Raises:
      StoreCorrupt: *data* was not written by `message_to_json`.
    """
    return _from_json(data, Message)


def response_to_json(response: ChatResponse) -> bytes:
    """Encode a model's answer; only the outcome of errors in its attempts is kept."""
    return encode_json(_CONVERTER.unstructure(response))


def response_from_json(data: bytes) -> ChatResponse:
    """Decode a model's answer.

    Raises:
      StoreCorrupt: *data* was not written by `response_to_json`.
    """
    return _from_json(data, ChatResponse)


def reply_to_json(reply: Reply) -> bytes:
    """Encode a reply without its routing decision and typed answer; the latter is later read from the text again."""
    return encode_json(_CONVERTER.unstructure(reply, unstructure_as=Reply[object]))


def reply_from_json(data: bytes) -> Reply:
    """Decode a reply.

    Raises:
      StoreCorrupt: *data* was not written by `reply_to_json`.
    """
    return _from_json(data, Reply[object])


def tool_result_to_json(answer: ToolResult) -> bytes:
    """Encode a tool result; only outcome and text of its error are kept."""
    return encode_json(_CONVERTER.unstructure(answer))


def tool_result_from_json(data: bytes) -> ToolResult:
    """Decode a tool result.

    Raises:
      StoreCorrupt: *data* was not written by `tool_result_to_json`.
    """
    return _from_json(data, ToolResult)


def inbound_to_json(message: InboundMessage) -> bytes:
    """Encode a message from a channel.

    Raises:
      InvalidData: its metadata are nested too deeply, or too large.
    """
    data = encode_losslessly(message)
    if len(data) > _MOST_COMMAS:
        metadata = encode_losslessly(message.metadata)
        if len(metadata) > MAX_METADATA or metadata.count(b",") > _MOST_COMMAS:
            limits = f"{MAX_METADATA} bytes or {_MOST_COMMAS} values"
            raise InvalidData([Problem("$.metadata", f"more than {limits}")], source="message")
    return data


def inbound_from_json(data: bytes) -> InboundMessage:
    """Decode a message from a channel.

    Raises:
      StoreCorrupt: *data* was not written by `inbound_to_json`.
    """
    try:
        return decode_losslessly(data, InboundMessage)
    except (msgspec.DecodeError, TypeError) as exc:
        raise StoreCorrupt(f"a kept message cannot be read: {exc}") from exc


def _from_json(data: bytes, cls: type[T]) -> T:
    try:
        return structure(decode_json(data), cls, converter=_CONVERTER, source=f"a stored {cls.__name__}")
    # cattrs accesses keys before it checks that the value is a mapping; a column may have another type.
    except (InvalidData, AttributeError, TypeError) as exc:
        raise StoreCorrupt(f"a stored {cls.__name__} cannot be read: {exc}") from exc
