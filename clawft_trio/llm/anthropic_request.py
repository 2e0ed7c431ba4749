"""Encodes a `ChatRequest` in Anthropic's Messages dialect."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import msgspec

from clawft_trio.chat import ChatRequest, File, Image, Message, Opaque, Part, Text, ToolCall, ToolSpec
from clawft_trio.llm.anthropic_cache import mark_cache
from clawft_trio.llm.anthropic_response import CALLS, DIALECT
from clawft_trio.llm.conform.calls import MALFORMED
from clawft_trio.llm.conform.rules import Rules

_TOOL_CHOICES = {"auto": "auto", "none": "none", "required": "any"}
_TOLERANT = Rules()


def request_body(request: ChatRequest, model: str, max_tokens: int, rules: Rules = _TOLERANT) -> dict[str, Any]:
    """Return the body of `POST /messages`. The fields of `request.extra` override the others.

    Args:
      request: the request, conformed to *rules*.
      model: the name of the model.
      max_tokens: output limit of a request that sets none; this API requires one.
      rules: the rules of the model.
    """
    body: dict[str, Any] = {
        "model": model,
        # Thinking counts as output.
        "max_tokens": request.max_tokens or max_tokens + (request.thinking_budget or 0),
        "messages": _turns(request.messages),
    }
    system = [_block(part) for message in request.messages if message.role == "system" for part in _parts_of(message)]
    if system:
        body["system"] = system
    if request.stream:
        body["stream"] = True
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        body["tool_choice"] = _tool_choice(request.tool_choice)
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    body |= _thinking(request, body["max_tokens"], rules)
    if request.response_schema is not None:
        output = {"format": {"type": "json_schema", "schema": request.response_schema}}
        body["output_config"] = body.get("output_config", {}) | output
    if request.cache is not None:
        mark_cache(body, request.cache)
    return {**body, **request.extra}


def _forces_tool(request: ChatRequest) -> bool:
    return bool(request.tools) and request.tool_choice not in {"auto", "none"}


def _thinking(request: ChatRequest, max_tokens: int, rules: Rules) -> dict[str, Any]:
    """Return `thinking` with a budget below *max_tokens*, or the effort for models that choose their own budget."""
    effort, budget = request.reasoning_effort, request.thinking_budget
    if effort == "none" or budget == 0:
        return {}
    fields: dict[str, Any] = {}
    if budget is not None and budget < max_tokens:
        fields["thinking"] = {"type": "enabled", "budget_tokens": budget}
    elif effort is not None and rules.adaptive_thinking and not _forces_tool(request):
        fields["thinking"] = {"type": "adaptive"}
    if effort is not None and rules.efforts:
        fields["output_config"] = {"effort": effort}
    return fields


def _tool(tool: ToolSpec) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}


def _tool_choice(choice: str) -> dict[str, Any]:
    kind = _TOOL_CHOICES.get(choice)
    return {"type": "tool", "name": choice} if kind is None else {"type": kind}


def _turns(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Return the conversation as alternating turns; tool results belong to the user's turns."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        # The API refuses empty blocks; a turn without blocks is left out.
        blocks = list(_blocks(message))
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"].extend(blocks)
        elif blocks:
            turns.append({"role": role, "content": blocks})
    return turns


def _blocks(message: Message) -> Iterator[dict[str, Any]]:
    blocks = [_block(part) for part in _parts_of(message)]
    if message.role == "tool":
        yield {"type": "tool_result", "tool_use_id": message.tool_call_id or "", "content": blocks}
        return
    yield from blocks
    more = next((part.block for part in message.content if isinstance(part, Opaque) and part.dialect == CALLS), {})
    for call in message.tool_calls:
        yield _tool_use(call) | more.get(call.id, {})


def _parts_of(message: Message) -> Iterator[Part]:
    for part in message.content:
        if isinstance(part, Opaque):
            if part.dialect == DIALECT:
                yield part
        elif not isinstance(part, Text) or (part.text and not part.text.isspace()):
            yield part


def _block(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        cited = [dict(citation.raw) for citation in part.citations if citation.dialect == DIALECT]
        return {"type": "text", "text": part.text, **({"citations": cited} if cited else {})}
    if isinstance(part, Opaque):
        return dict(part.block)
    title = {"title": part.name} if isinstance(part, File) and part.name else {}
    return {"type": "image" if isinstance(part, Image) else "document", "source": _source(part), **title}


def _source(part: Image | File) -> dict[str, Any]:
    if part.url:
        return {"type": "url", "url": part.url}
    if part.media_type.startswith("text/"):
        return {"type": "text", "media_type": "text/plain", "data": part.data.decode(errors="replace")}
    return {"type": "base64", "media_type": part.media_type, "data": b64encode(part.data).decode()}


def _tool_use(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call.arguments)}


def _input(arguments: str) -> dict[str, Any]:
    # A call that got an error as its result may have any arguments; this API accepts only objects.
    try:
        decoded = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        decoded = None
    return decoded if isinstance(decoded, dict) else {MALFORMED: arguments}
