"""Encodes a `ChatRequest` for OpenAI's Responses API.

By default the server stores nothing (`store: false`): every request carries the whole conversation with its reasoning,
encrypted where the model encrypts it. With `stateful`, a request continues from the last stored response in its
history and carries only the messages after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from clawft_trio.chat import ChatRequest, File, Image, Message, Opaque, Part, Text, ToolCall, ToolSpec
from clawft_trio.llm.conform.strict import fits_strict
from clawft_trio.llm.openai_request import data_url
from clawft_trio.llm.responses_items import DIALECT
from clawft_trio.llm.responses_response import STATE

# Tokens. The API refuses a smaller limit.
_LEAST_OUTPUT = 16

# OpenAI's reasoning models, which can return encrypted reasoning; the others refuse the option.
_REASONS = re.compile(r"(?:^|/)(?:o\d|gpt-[5-9]|codex|computer-use)(?!.*-chat)")


@attrs.frozen(kw_only=True)
class ResponsesOptions:
    """Options for requests to the Responses API."""

    #: whether the server stores responses, so that requests continue from the last one by its id
    stateful: bool = False
    #: whether to request encrypted reasoning, to send it back; None decides by the model's name
    encrypted_reasoning: bool | None = None

    def wants_encrypted(self, model: str) -> bool:
        """Return whether to request encrypted reasoning from *model*."""
        if self.encrypted_reasoning is not None:
            return self.encrypted_reasoning
        return not self.stateful and _REASONS.search(model.lower()) is not None


def request_body(request: ChatRequest, model: str, options: ResponsesOptions) -> dict[str, Any]:
    """Return the body of `POST /responses`. The fields of `request.extra` override the others.

    The API has no stop sequences, so `request.stop` is left out.
    """
    previous, messages = _continued(request.messages) if options.stateful else ("", request.messages)
    instructions, messages = _instructions(request.messages if previous else messages, messages)
    body: dict[str, Any] = {"model": model, "input": list(_items(messages)), "store": options.stateful}
    if instructions:
        body["instructions"] = instructions
    if previous:
        body["previous_response_id"] = previous
    if options.wants_encrypted(model):
        body["include"] = ["reasoning.encrypted_content"]
    if request.stream:
        body["stream"] = True
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        body["tool_choice"] = _tool_choice(request.tool_choice)
    if request.max_tokens is not None:
        body["max_output_tokens"] = max(_LEAST_OUTPUT, request.max_tokens)
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.reasoning_effort is not None:
        body["reasoning"] = {"effort": request.reasoning_effort}
    if request.cache is not None and request.cache.key:
        body["prompt_cache_key"] = request.cache.key
    text: dict[str, Any] = {}
    if request.response_schema is not None:
        text["format"] = _format(request.response_schema)
    if request.verbosity is not None:
        text["verbosity"] = request.verbosity
    if text:
        body["text"] = text
    return {**body, **request.extra}


def _tool(tool: ToolSpec) -> dict[str, Any]:
    # Without `strict`, this API treats every schema as strict and refuses those that are not.
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": False,
    }


def _tool_choice(choice: str) -> Any:
    return choice if choice in ("auto", "none", "required") else {"type": "function", "name": choice}


def _format(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "name": "answer", "schema": schema, "strict": fits_strict(schema)}


def _continued(messages: tuple[Message, ...]) -> tuple[str, tuple[Message, ...]]:
    """Return the id of the last stored response, and the messages after it."""
    for number in range(len(messages) - 1, -1, -1):
        for part in messages[number].content:
            if isinstance(part, Opaque) and part.dialect == STATE:
                return str(part.block.get("response_id", "")), messages[number + 1 :]
    return "", messages


def _instructions(everything: tuple[Message, ...], messages: tuple[Message, ...]) -> tuple[str, tuple[Message, ...]]:
    """Return the text of the system messages at the start of the conversation, and the other messages.

    The server does not store instructions: they are sent with every request.
    """
    opening = 0
    while opening < len(everything) and everything[opening].role == "system":
        opening += 1
    text = "\n\n".join(message.text for message in everything[:opening] if message.text)
    return text, messages[opening:] if messages is everything else messages


def _items(messages: Iterable[Message]) -> Iterator[dict[str, Any]]:
    for message in messages:
        if message.role == "assistant":
            yield from _with_followers(_assistant(message))
        elif message.role == "tool":
            output: Any = message.text
            if any(isinstance(part, Image | File) for part in message.content):
                output = [_part(part) for part in message.content if not isinstance(part, Opaque)]
            yield {"type": "function_call_output", "call_id": message.tool_call_id or "", "output": output}
        else:
            yield {"type": "message", "role": message.role, "content": _content(message.content)}


def _with_followers(items: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return *items* without reasoning at their end: the API refuses reasoning without the item that followed it."""
    kept = list(items)
    while kept and kept[-1].get("type") == "reasoning":
        kept.pop()
    return kept


def _assistant(message: Message) -> Iterator[dict[str, Any]]:
    """Yield the output items of one answer in their original order."""
    calls = {call.id: call for call in message.tool_calls}
    open_item: dict[str, Any] | None = None
    for part in message.content:
        if isinstance(part, Text):
            if open_item is None:
                open_item = {"type": "message", "role": "assistant", "content": []}
            open_item["content"].append(_output_text(part))
        elif isinstance(part, Opaque) and part.dialect == DIALECT:
            yield from _closed(open_item)
            open_item = None
            kind = part.block.get("type")
            if kind == "message":
                open_item = {"role": "assistant", **part.block, "content": []}
            elif kind == "function_call":
                call = calls.pop(str(part.block.get("call_id", "")), None)
                yield from [_call(call, part.block)] if call is not None else []
            elif _may_go_back(part.block):
                yield dict(part.block)
    yield from _closed(open_item)
    for call in calls.values():
        yield _call(call, {})


def _closed(item: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    # The API refuses a message without text.
    if item is not None and item["content"]:
        yield item


def _may_go_back(item: Mapping[str, Any]) -> bool:
    """Return whether *item* is sent back: reasoning only with its content; a stateless server does not know its id."""
    return item.get("type") != "reasoning" or bool(item.get("encrypted_content") or item.get("content"))


def _call(call: ToolCall, mark: Mapping[str, Any]) -> dict[str, Any]:
    return {**mark, "type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}


def _output_text(part: Text) -> dict[str, Any]:
    cited = [dict(citation.raw) for citation in part.citations if citation.dialect == DIALECT]
    return {"type": "output_text", "text": part.text, "annotations": cited}


def _content(parts: tuple[Part, ...]) -> str | list[dict[str, Any]]:
    if all(isinstance(part, Text | Opaque) for part in parts):
        return "".join(part.text for part in parts if isinstance(part, Text))
    return [_part(part) for part in parts if not isinstance(part, Opaque)]


def _part(part: Any) -> dict[str, Any]:
    if isinstance(part, Image):
        return {"type": "input_image", "image_url": part.url or data_url(part)}
    if isinstance(part, File):
        if part.url:
            return {"type": "input_file", "file_url": part.url}
        return {"type": "input_file", "filename": part.name or "file", "file_data": data_url(part)}
    return {"type": "input_text", "text": part.text}
