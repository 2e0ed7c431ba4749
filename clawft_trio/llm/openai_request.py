"""Encodes a `ChatRequest`, conformed to its target, in the OpenAI-compatible dialect."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Literal, get_args

import attrs

from clawft_trio.chat import ChatRequest, File, Image, JsonObject, Message, Opaque, Part, Text, ToolSpec
from clawft_trio.checks import one_of
from clawft_trio.llm.anthropic_cache import mark_chat_cache
from clawft_trio.llm.conform.rules import Rules, overlaid
from clawft_trio.llm.conform.strict import fits_strict
from clawft_trio.llm.conform.words import schema_in_words, with_words
from clawft_trio.llm.openai_extras import Extra, call_fields, message_fields
from clawft_trio.llm.openai_response import EndsWith

_TOLERANT = Rules()


def _patterns(patterns: Iterable[str]) -> tuple[str, ...]:
    return tuple(patterns)


def _extras(extras: Iterable[Extra]) -> tuple[Extra, ...]:
    return tuple(extras)


@attrs.frozen(kw_only=True)
class Quirks:
    """Differences of one server of this dialect from the others."""

    #: what proves that its streams are complete
    ends_with: EndsWith = attrs.field(default="finish_reason", validator=one_of(*get_args(EndsWith)))
    #: name of the field that limits output tokens
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    #: whether to request usage in streams; the few servers that refuse this option send usage without it
    include_usage: bool = True
    #: form in which it accepts a schema for its answer; None when it accepts none. Unless it is "json_schema", the
    #: schema is also written into the system message
    response_format: Literal["json_schema", "json_object"] | None = "json_schema"
    #: whether it accepts `prompt_cache_key`, which routes requests with the same beginning to the same cache
    prompt_cache_key: bool = False
    #: patterns of the models that accept Anthropic's prompt cache marks: `anthropic/*`
    cache_marks: tuple[str, ...] = attrs.field(default=(), converter=_patterns)
    #: whether it leaves reasoning in the text, between `<think>` and `</think>`
    think_tags: bool = False
    #: fields of its answers that it requires back in the next request
    returns: tuple[Extra, ...] = attrs.field(default=(), converter=_extras)

    def over(self, changes: Mapping[str, Any]) -> Quirks:
        """Return these quirks overridden by *changes*: fields in snake or camel case, as in config.json.

        Raises:
          InvalidData: names each key that is not a quirk and each value that does not fit.
        """
        new: Quirks = overlaid(self, changes, "$")
        return new


def request_body(request: ChatRequest, model: str, quirks: Quirks, rules: Rules = _TOLERANT) -> dict[str, Any]:
    """Return the body of `POST /chat/completions`. The fields of `request.extra` override the others."""
    schema = request.response_schema
    response_format = quirks.response_format
    if schema is not None and response_format == "json_schema" and not _is_object(schema):
        # OpenAI accepts only object schemas here.
        response_format = None
    messages = request.messages
    if schema is not None and response_format != "json_schema":
        messages = with_words(messages, schema_in_words(schema))
    body: dict[str, Any] = {"model": model, "messages": [_message(message, quirks, rules) for message in messages]}
    if request.stream:
        body["stream"] = True
        if quirks.include_usage:
            body["stream_options"] = {"include_usage": True}
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        body["tool_choice"] = _tool_choice(request.tool_choice)
    if request.max_tokens is not None:
        body[quirks.max_tokens_field] = request.max_tokens
    for option in ("temperature", "seed", "verbosity"):
        value = getattr(request, option)
        if value is not None:
            body[option] = value
    if request.stop:
        body["stop"] = list(request.stop)
    if schema is not None and response_format is not None:
        body["response_format"] = _response_format(schema, response_format)
    if quirks.prompt_cache_key and request.cache is not None and request.cache.key:
        body["prompt_cache_key"] = request.cache.key
    if request.cache is not None and any(fnmatchcase(model, pattern) for pattern in quirks.cache_marks):
        mark_chat_cache(body["messages"], request.cache)
    return {**body, **_thinking(request, rules), **request.extra}


def _tool(tool: ToolSpec) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
    }


def _tool_choice(choice: str) -> Any:
    if choice in ("auto", "none", "required"):
        return choice
    return {"type": "function", "function": {"name": choice}}


def _is_object(schema: JsonObject) -> bool:
    return bool(schema["type"] == "object") if "type" in schema else "$ref" in schema or "properties" in schema


def _response_format(schema: JsonObject, kind: str) -> dict[str, Any]:
    if kind == "json_object":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": fits_strict(schema)}}


def _thinking(request: ChatRequest, rules: Rules) -> dict[str, Any]:
    """Return the fields for reasoning effort and budget, in the vendor's form."""
    effort, budget = request.reasoning_effort, request.thinking_budget
    write = _THINKING.get(rules.thinking)
    return {} if write is None or (effort is None and budget is None) else write(effort, budget)


def _openrouter(effort: str | None, budget: int | None) -> dict[str, Any]:
    return {"reasoning": {"effort": effort} if budget is None else {"max_tokens": budget}}


def _google(effort: str | None, budget: int | None) -> dict[str, Any]:
    if budget is None:
        return {"reasoning_effort": effort}
    return {"extra_body": {"google": {"thinking_config": {"thinking_budget": budget, "include_thoughts": budget != 0}}}}


def _enable_thinking(effort: str | None, budget: int | None) -> dict[str, Any]:
    return {"enable_thinking": _thinks(effort, budget), **({"thinking_budget": budget} if budget else {})}


def _type_and_effort(effort: str | None, budget: int | None) -> dict[str, Any]:
    if not _thinks(effort, budget):
        return {"thinking": {"type": "disabled"}}
    return {"thinking": {"type": "enabled"}, **({} if effort is None else {"reasoning_effort": effort})}


def _thinks(effort: str | None, budget: int | None) -> bool:
    return budget != 0 and effort != "none"


_THINKING: Mapping[str, Callable[[str | None, int | None], dict[str, Any]]] = MappingProxyType(
    {
        "effort": lambda effort, _: {} if effort is None else {"reasoning_effort": effort},
        "openrouter": _openrouter,
        "google": _google,
        "enable_thinking": _enable_thinking,
        "type": lambda effort, budget: {"thinking": {"type": "enabled" if _thinks(effort, budget) else "disabled"}},
        "type_and_effort": _type_and_effort,
    }
)


def _message(message: Message, quirks: Quirks, rules: Rules) -> dict[str, Any]:
    if message.role == "tool":
        content = message.text if not rules.media_in_results else _content(message.content, rules)
        return {"role": "tool", "tool_call_id": message.tool_call_id or "", "content": content}
    if message.role == "assistant":
        return _assistant(message, quirks.returns, rules)
    role = rules.system_role if message.role == "system" else message.role
    return {"role": role, "content": _content(message.content, rules)}


def _assistant(message: Message, returns: tuple[Extra, ...], rules: Rules) -> dict[str, Any]:
    absent = None if message.tool_calls and rules.null_content else ""
    fields: dict[str, Any] = {"role": "assistant", "content": message.text or absent}
    if message.tool_calls:
        fields["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
                **call_fields(message, call, returns),
            }
            for call in message.tool_calls
        ]
    return fields | message_fields(message, returns)


def _content(parts: tuple[Part, ...], rules: Rules) -> str | list[dict[str, Any]]:
    if all(isinstance(part, Text | Opaque) for part in parts):
        return "".join(part.text for part in parts if isinstance(part, Text))
    return [_part(part, rules) for part in parts if not isinstance(part, Opaque)]


def _part(part: Text | Image | File, rules: Rules) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Image):
        return {"type": "image_url", "image_url": {"url": part.url or data_url(part)}}
    if part.media_type.startswith("audio/") and part.data:
        data = data_url(part) if rules.audio_addresses else b64encode(part.data).decode()
        audio = {"data": data, "format": _AUDIO.get(part.media_type, "wav")}
        return {"type": "input_audio", "input_audio": audio}
    if rules.file_form == "document_url":
        return {"type": "document_url", "document_url": part.url or data_url(part)}
    name = part.name or "file"
    return {"type": "file", "file": {"filename": name, "file_data": part.url or data_url(part)}}


_AUDIO = {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/wav": "wav", "audio/x-wav": "wav", "audio/wave": "wav"}


def data_url(part: Image | File) -> str:
    """Return *part* with its content as a `data:` URL."""
    return f"data:{part.media_type};base64,{b64encode(part.data).decode()}"
