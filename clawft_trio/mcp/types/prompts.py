"""Prompts, and completions of their arguments."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Raw

from clawft_trio.mcp.types.content import Content, content_of
from clawft_trio.mcp.types.handshake import Icon
from clawft_trio.mcp.types.wire import JsonObject, WireRecord, decode_without_nulls


class PromptArgument(WireRecord, frozen=True):
    """A parameter of a prompt."""

    name: str
    title: str | None = None
    description: str | None = None
    required: bool = False


class Prompt(WireRecord, frozen=True):
    """A prompt with parameters."""

    name: str
    title: str | None = None
    description: str | None = None
    arguments: tuple[PromptArgument, ...] | None = None
    icons: tuple[Icon, ...] = ()
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


class PromptMessage(WireRecord, frozen=True):
    """One message of a prompt whose parameters are filled in."""

    role: Literal["user", "assistant"]
    content: Content


class GetPromptResult(WireRecord, frozen=True):
    """A prompt whose parameters are filled in."""

    messages: tuple[PromptMessage, ...]
    description: str | None = None


class _LooseMessage(WireRecord, frozen=True):
    role: Literal["user", "assistant"]
    content: Any


class _LoosePrompt(WireRecord, frozen=True):
    messages: tuple[_LooseMessage, ...]
    description: str | None = None


def decode_prompt_result(raw: Raw) -> GetPromptResult:
    """Decode a filled-in prompt; blocks of unknown kinds stay unchanged.

    Raises:
      msgspec.DecodeError: it is not a prompt.
    """
    try:
        return _decode_prompt(raw)
    except msgspec.ValidationError:
        loose = decode_without_nulls(raw, _loose_prompt)
        messages = tuple(PromptMessage(role=one.role, content=content_of(one.content)) for one in loose.messages)
        return GetPromptResult(messages=messages, description=loose.description)


_decode_prompt = msgspec.json.Decoder(GetPromptResult).decode
_loose_prompt = msgspec.json.Decoder(_LoosePrompt)


class Completion(WireRecord, frozen=True):
    """Suggestions for the rest of an input."""

    values: tuple[str, ...] = ()
    total: int | None = None
    has_more: bool = False


class CompleteResult(WireRecord, frozen=True):
    """The result of `completion/complete`."""

    completion: Completion
