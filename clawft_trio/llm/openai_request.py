"""A `ChatRequest` as the OpenAI-compatible dialect writes it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import attrs

from clawft_trio.chat import ChatRequest, Image, JsonObject, Message, Opaque, Part, Text, ToolSpec
from clawft_trio.codec import encode_json
from clawft_trio.llm.openai_answer import EndsWith
from clawft_trio.llm.openai_extras import Extra, call_fields, message_fields


@attrs.frozen(kw_only=True)
class Quirks:
    """Where a server of this dialect differs from the others."""

    #: what proves that its streams are whole
    ends_with: EndsWith = "finish_reason"
    #: the name it has for the limit on output tokens
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    #: whether to ask for usage in streams; the few that refuse the question answer it unasked
    include_usage: bool = True
    #: how it takes a schema for its answer; None where it takes none. Unless it is "json_schema", the model is told the
    #: schema in words
    response_format: Literal["json_schema", "json_object"] | None = "json_schema"
    #: whether it takes a `prompt_cache_key`, by which requests that begin alike reach the same cache
    prompt_cache_key: bool = False
    #: what of its own answers it wants to see again
    returns: tuple[Extra, ...] = ()


def request_body(request: ChatRequest, model: str, quirks: Quirks) -> dict[str, Any]:
    """The body of `POST /chat/completions`. `request.extra` is put over it."""
    schema = request.response_schema
    messages = request.messages
    if schema is not None and quirks.response_format != "json_schema":
        messages = _with_instructions(messages, _in_words(schema))
    body: dict[str, Any] = {"model": model, "messages": list(_messages(messages, quirks))}
    if request.stream:
        body["stream"] = True
        if quirks.include_usage:
            body["stream_options"] = {"include_usage": True}
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        body["tool_choice"] = _tool_choice(request.tool_choice)
    if request.max_tokens is not None:
        body[quirks.max_tokens_field] = request.max_tokens
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.stop:
        body["stop"] = list(request.stop)
    if schema is not None and quirks.response_format is not None:
        body["response_format"] = _response_format(schema, quirks.response_format)
    if quirks.prompt_cache_key and request.cache is not None and request.cache.key:
        body["prompt_cache_key"] = request.cache.key
    return {**body, **request.extra}


def _tool(tool: ToolSpec) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
    }


def _tool_choice(choice: str) -> Any:
    if choice in ("auto", "none", "required"):
        return choice
    return {"type": "function", "function": {"name": choice}}


def _response_format(schema: JsonObject, kind: str) -> dict[str, Any]:
    if kind == "json_object":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": is_closed(schema)}}


def is_closed(schema: Any) -> bool:
    """Whether every object in *schema* requires all its properties and forbids others.

    Only for such schemas does OpenAI promise the shape (`strict`); it refuses the promise for any other.
    """
    if isinstance(schema, list):
        return all(map(is_closed, schema))
    if not isinstance(schema, Mapping):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, Mapping):
        required = schema.get("required") or ()
        if schema.get("additionalProperties") is not False or set(required) != set(properties or ()):
            return False
    return all(map(is_closed, schema.values()))


def _in_words(schema: JsonObject) -> str:
    return (
        "The final answer is JSON that fits this JSON Schema, and nothing else: no other text, no code fence.\n"
        + encode_json(schema).decode()
    )


# --- messages ----------------------------------------------------------------------------------------


def _with_instructions(messages: tuple[Message, ...], words: str) -> tuple[Message, ...]:
    """*messages* with *words* at the end of what the system says, which many servers take only as the first message."""
    if messages and messages[0].role == "system":
        first = messages[0]
        return (attrs.evolve(first, content=(*first.content, Text(f"\n\n{words}"))), *messages[1:])
    return (Message.system(words), *messages)


def _messages(messages: tuple[Message, ...], quirks: Quirks) -> Iterator[dict[str, Any]]:
    shown: list[Image] = []
    for message in messages:
        if message.role != "tool" and shown:
            yield _user(shown)
            shown = []
        yield _message(message, quirks)
        if message.role == "tool":
            shown.extend(part for part in message.content if isinstance(part, Image))
    if shown:
        yield _user(shown)


def _user(images: list[Image]) -> dict[str, Any]:
    # A tool's answer is text in this dialect; what it showed follows its turn as the user's.
    return {"role": "user", "content": [_part(image) for image in images]}


def _message(message: Message, quirks: Quirks) -> dict[str, Any]:
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.tool_call_id or "", "content": message.text}
    if message.role == "assistant":
        return _assistant(message, quirks.returns)
    return {"role": message.role, "content": _content(message.content)}


def _assistant(message: Message, returns: tuple[Extra, ...]) -> dict[str, Any]:
    said: dict[str, Any] = {"role": "assistant", "content": message.text or (None if message.tool_calls else "")}
    if message.tool_calls:
        said["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
                **call_fields(message, call, returns),
            }
            for call in message.tool_calls
        ]
    return said | message_fields(message, returns)


def _content(parts: tuple[Part, ...]) -> str | list[dict[str, Any]]:
    if all(isinstance(part, Text | Opaque) for part in parts):
        return "".join(part.text for part in parts if isinstance(part, Text))
    return [_part(part) for part in parts if not isinstance(part, Opaque)]


def _part(part: Text | Image) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    return {"type": "image_url", "image_url": {"url": part.url or data_url(part)}}


def data_url(image: Image) -> str:
    """*image* with its content, as an address."""
    return f"data:{image.media_type};base64,{b64encode(image.data).decode()}"
