"""Checks of one request body for what OpenAI's Responses API refuses. Independent of `llm`.

Written from platform.openai.com, "Responses", and from the text of its 400s in public issues.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from clawft_trio.chat import JsonObject
from clawft_trio.testing.vendor_checks import Complaint, objects

_PREFIXES: Mapping[str, str] = {"message": "msg", "function_call": "fc", "reasoning": "rs"}
_KNOWN = frozenset(
    {"model", "input", "instructions", "stream", "store", "include", "previous_response_id", "tools", "tool_choice",
     "parallel_tool_calls", "max_output_tokens", "max_tool_calls", "temperature", "top_p", "top_logprobs", "reasoning",
     "text", "truncation", "metadata", "user", "service_tier", "prompt_cache_key", "prompt_cache_retention",
     "safety_identifier", "background", "conversation", "prompt", "stream_options", "context_management"}
)  # fmt: skip


def items_of(body: JsonObject) -> list[dict[str, Any]]:
    """Return the input items of a body; a string is one user message."""
    given = body.get("input")
    return [{"type": "message", "role": "user", "content": given}] if isinstance(given, str) else objects(given)


def _kind(item: Mapping[str, Any]) -> str:
    return str(item.get("type") or "message")


def required_fields(body: JsonObject) -> Iterator[Complaint]:
    """A request needs input or a conversation to continue; "Unknown parameter: 'messages'"."""
    if not items_of(body) and not any(body.get(name) for name in ("previous_response_id", "conversation", "prompt")):
        yield Complaint("One of 'input' or 'previous_response_id' must be provided.", param="input")
    for name in body.keys() - _KNOWN:
        yield Complaint(f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")


def ids(body: JsonObject) -> Iterator[Complaint]:
    """Ids: "Expected an ID that begins with 'msg'" (openai/codex#33176, langchain-ai/langchain#39113)."""
    for place, item in enumerate(items_of(body)):
        id_, prefix = item.get("id"), _PREFIXES.get(_kind(item), "")
        if id_ is not None and prefix and not str(id_).startswith(prefix):
            yield Complaint(
                f"Invalid 'input[{place}].id': '{id_}'. Expected an ID that begins with '{prefix}'.",
                param=f"input[{place}].id",
                code="invalid_value",
            )


def reasoning_is_followed(body: JsonObject) -> Iterator[Complaint]:
    """Order: "Item 'rs_…' of type 'reasoning' was provided without its required following item" (vercel/ai#7099)."""
    items = items_of(body)
    for place, item in enumerate(items):
        if _kind(item) != "reasoning":
            continue
        following = items[place + 1] if place + 1 < len(items) else {"type": "end"}
        user = _kind(following) == "message" and following.get("role") != "assistant"
        if user or _kind(following) in {"end", "function_call_output"}:
            yield Complaint(f"Item '{item.get('id')}' of type 'reasoning' was provided without its following item.")


def calls_have_outputs(body: JsonObject) -> Iterator[Complaint]:
    """Pairs: "No tool output found for function call", "No tool call found for …"; ids have 64 characters."""
    items = items_of(body)
    calls = [str(item.get("call_id")) for item in items if _kind(item) == "function_call"]
    outputs = [str(item.get("call_id")) for item in items if _kind(item) == "function_call_output"]
    for id_ in calls:
        if id_ not in outputs:
            yield Complaint(f"No tool output found for function call {id_}.", param="input")
        if not 1 <= len(id_) <= 64:
            yield Complaint("Invalid 'call_id': string too long.", param="input", code="string_above_max_length")
    if not body.get("previous_response_id"):
        for id_ in outputs:
            if id_ not in calls:
                yield Complaint(f"No tool call found for function call output with call_id {id_}.", param="input")
    if len(set(calls)) < len(calls):
        yield Complaint("Duplicate call_id in input.", param="input")


def contents(body: JsonObject) -> Iterator[Complaint]:
    """Assistant messages contain `output_text` or `refusal`, all others `input_text`, images and files."""
    for place, item in enumerate(items_of(body)):
        if _kind(item) != "message":
            continue
        allowed = (
            ("output_text", "refusal")
            if item.get("role") == "assistant"
            else ("input_text", "input_image", "input_file", "input_audio")
        )
        content = item.get("content")
        if content in (None, []) or (isinstance(content, str) and not content):
            yield Complaint(f"Invalid 'input[{place}].content': it is empty.", param=f"input[{place}].content")
        for part in objects(content):
            if part.get("type") not in allowed:
                yield Complaint(
                    f"Invalid value: '{part.get('type')}'. Supported values are: {', '.join(allowed)}.",
                    param=f"input[{place}].content",
                    code="invalid_value",
                )


def tools(body: JsonObject) -> Iterator[Complaint]:
    """Names of 64 letters, digits, `_` and `-`, each once; a choice needs tools."""
    offered = [tool for tool in objects(body.get("tools")) if tool.get("type") == "function"]
    names = [str(tool.get("name")) for tool in offered]
    for name in [*names, *(str(item.get("name")) for item in items_of(body) if _kind(item) == "function_call")]:
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
            yield Complaint(f"Invalid function name {name!r}", param="tools", code="invalid_value")
    if len(set(names)) < len(names):
        yield Complaint("Tool names must be unique.", param="tools")
    if len(objects(body.get("tools"))) > 128:
        yield Complaint("Invalid 'tools': array too long.", param="tools", code="array_above_max_length")
    if "tool_choice" in body and not body.get("tools"):
        yield Complaint("Tool choice must be used with tools.", param="tool_choice")


def options(body: JsonObject) -> Iterator[Complaint]:
    """The limit is at least 16 tokens."""
    limit = body.get("max_output_tokens")
    if isinstance(limit, int) and limit < 16:
        yield Complaint(
            "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16.",
            param="max_output_tokens",
            code="integer_below_min_value",
        )


CHECKS = (required_fields, ids, reasoning_is_followed, calls_have_outputs, contents, tools, options)
