"""Conversations as JSON in the store, and back without loss."""

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
from clawft_trio.codec import decode_json, encode_json, make_converter, structure
from clawft_trio.errors import InvalidData, StoreCorrupt
from clawft_trio.messages import InboundMessage
from clawft_trio.pipeline import RoutingDecision
from clawft_trio.tools import ToolResult

T = TypeVar("T")


def _converter() -> cattrs.Converter:
    converter = make_converter()
    converter.register_unstructure_hook(bytes, lambda data: base64.b64encode(data).decode())
    converter.register_structure_hook(bytes, lambda text, _: base64.b64decode(text, validate=True))
    converter.register_unstructure_hook(Decimal, str)
    converter.register_structure_hook(Decimal, lambda text, _: Decimal(text))
    # What another run of the program raised cannot be raised here: of an error, its outcome stays.
    converter.register_unstructure_hook_func(lambda kind: kind in _ERRORS, lambda _: None)
    converter.register_structure_hook_func(lambda kind: kind in _ERRORS, lambda *_: None)
    # What a tool function returned is an object of this run; its text is kept.
    converter.register_unstructure_hook_func(lambda kind: kind is object, lambda _: None)
    converter.register_structure_hook_func(lambda kind: kind is object, lambda *_: None)
    converter.register_unstructure_hook_func(lambda kind: kind == (RoutingDecision | None), lambda _: None)
    converter.register_structure_hook_func(lambda kind: kind == (RoutingDecision | None), lambda *_: None)
    # Left alone, cattrs would copy them entry by entry and look for a hook for each.
    converter.register_unstructure_hook_func(lambda kind: kind == Mapping[str, Any], dict)
    converter.register_structure_hook_func(lambda kind: kind == Mapping[str, Any], lambda value, _: dict(value))
    names = {Text: "text", Image: "image", File: "file", Opaque: "opaque"}
    # Messages have any part, results of tools only those that are no text.
    for union in (Part, Image | File):
        configure_tagged_union(union, converter, tag_name="type", tag_generator=names.__getitem__)
    return converter


_ERRORS = (BaseException | None, Exception | None)
_CONVERTER = _converter()


def message_to_json(message: Message) -> bytes:
    """One message of a conversation, images and opaque blocks included."""
    return encode_json(_CONVERTER.unstructure(message))


def message_from_json(data: bytes) -> Message:
    """The message again.

    Raises:
      StoreCorrupt: it is not what `message_to_json` writes.
    """
    return _from_json(data, Message)


def response_to_json(response: ChatResponse) -> bytes:
    """A model's answer; of errors in its attempts only the outcome is kept."""
    return encode_json(_CONVERTER.unstructure(response))


def response_from_json(data: bytes) -> ChatResponse:
    """The answer again.

    Raises:
      StoreCorrupt: it is not what `response_to_json` writes.
    """
    return _from_json(data, ChatResponse)


def reply_to_json(reply: Reply) -> bytes:
    """A whole reply, without the routing decision and the typed answer: the latter is read from its text again."""
    return encode_json(_CONVERTER.unstructure(reply, unstructure_as=Reply[object]))


def reply_from_json(data: bytes) -> Reply:
    """The reply again.

    Raises:
      StoreCorrupt: it is not what `reply_to_json` writes.
    """
    return _from_json(data, Reply[object])


def tool_result_to_json(answer: ToolResult) -> bytes:
    """A tool's answer; of its error only outcome and text are kept."""
    return encode_json(_CONVERTER.unstructure(answer))


def tool_result_from_json(data: bytes) -> ToolResult:
    """The answer again.

    Raises:
      StoreCorrupt: it is not what `tool_result_to_json` writes.
    """
    return _from_json(data, ToolResult)


def inbound_to_json(message: InboundMessage) -> bytes:
    """A message from a channel."""
    return encode_json(message)


def inbound_from_json(data: bytes) -> InboundMessage:
    """The message again.

    Raises:
      StoreCorrupt: it is not what `inbound_to_json` writes.
    """
    try:
        return msgspec.json.decode(data, type=InboundMessage)
    except msgspec.DecodeError as exc:
        raise StoreCorrupt(f"a kept message cannot be read: {exc}") from exc


def _from_json(data: bytes, cls: type[T]) -> T:
    try:
        return structure(decode_json(data), cls, converter=_CONVERTER, source=f"a stored {cls.__name__}")
    # cattrs looks for keys before it looks whether there can be any.
    except (InvalidData, AttributeError) as exc:
        raise StoreCorrupt(f"a stored {cls.__name__} cannot be read: {exc}") from exc
