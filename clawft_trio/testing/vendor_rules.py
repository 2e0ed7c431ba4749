"""Which requests a vendor refuses, and how its refusal looks: what `open_fault_server(accepts=…)` enforces.

Written from the vendors' references and from error messages in public issues (each check names its source), and kept
apart from `llm.conform`: the two are written independently, so that a mistake in one does not hide in the other. What a
vendor merely ignores is not refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from clawft_trio.chat import JsonObject
from clawft_trio.testing import vendor_anthropic
from clawft_trio.testing.vendor_checks import (
    Check,
    Complaint,
    arguments_are_objects,
    at_most,
    calls_of,
    content_is_there,
    descriptions_at_most,
    first_is_user,
    function_of,
    has_messages,
    ids_fit,
    images_are,
    known_roles,
    last_is_user_or_tool,
    media_of_users_only,
    messages_of,
    names_fit,
    no_blank_messages,
    no_blank_parts,
    no_user_after_tool,
    only_fields,
    only_message_fields,
    results_follow_calls,
    roles_alternate,
    system_comes_first,
    temperature_at_most,
    text_only,
    tools_are_offered,
    without,
)
from clawft_trio.testing.vendor_schemas import anthropic_schemas, google_schemas, moonshot_schemas, openai_schemas

Vendor: TypeAlias = Literal[
    "anthropic", "openai", "azure", "mistral", "gemini-openai", "moonshot", "deepseek", "groq", "xai", "openrouter",
    "perplexity", "vllm", "bedrock",
]  # fmt: skip
"""The vendors with known refusals."""

_NAMES = r"[a-zA-Z0-9_-]{1,64}"
_OPENAI_REASONS = r"(^|/)(o[1345]($|-)|gpt-5(?!.*chat))"
_PNG_JPEG = ("image/png", "image/jpeg", "image/jpg")

# What nearly all servers of this dialect check.
_COMMON: tuple[Check, ...] = (
    has_messages,
    known_roles,
    content_is_there,
    results_follow_calls,
    tools_are_offered,
    media_of_users_only,
    no_blank_parts,
    names_fit(_NAMES),
    openai_schemas(),
)


def reasoning_comes_back(models: str, *, blank_counts: bool) -> Check:
    """Moonshot: "thinking is enabled but reasoning_content is missing in assistant tool call message", also for an
    empty one (llmgateway#2093); DeepSeek in thinking mode: "Missing `reasoning_content`".
    """

    def check(body: JsonObject) -> Iterator[Complaint]:
        if not re.search(models, str(body.get("model"))):
            return
        for message in messages_of(body):
            reasoning = message.get("reasoning_content")
            if calls_of(message) and (reasoning is None or (blank_counts and reasoning == "")):
                yield Complaint("thinking is enabled but reasoning_content is missing in assistant tool call message")

    return check


def calls_are_signed(body: JsonObject) -> Iterator[Complaint]:
    """Gemini 3: "Function call is missing a thought_signature in functionCall parts": of each message with calls, the
    first call carries one; `skip_thought_signature_validator` is documented for calls of other models.
    """
    if "gemini-3" not in str(body.get("model")):
        return
    for message in messages_of(body):
        first = next(iter(calls_of(message)), None)
        if first is None:
            continue
        extra = first.get("extra_content")
        google = extra.get("google") if isinstance(extra, Mapping) else None
        if not isinstance(google, Mapping) or not google.get("thought_signature"):
            yield Complaint(f"Function call `{function_of(first).get('name')}` is missing a `thought_signature`.")


def calls_follow_users(body: JsonObject) -> Iterator[Complaint]:
    """Google: "function call turn comes immediately after a user turn or after a function response turn"."""
    previous = ""
    for message in messages_of(body):
        if message.get("role") in {"system", "developer"}:
            continue
        if calls_of(message) and previous not in {"user", "tool"}:
            yield Complaint("Please ensure that function call turn comes immediately after a user turn")
        previous = str(message.get("role"))


def one_thinking_form(body: JsonObject) -> Iterator[Complaint]:
    """Google: `reasoning_effort` and `thinking_config` together are refused."""
    google = (body.get("extra_body") or {}).get("google") or {}
    if "thinking_config" in google and "reasoning_effort" in body:
        yield Complaint("Expected one of either `reasoning_effort` or `thinking_config`")


_MESSAGE = ("role", "content", "name", "tool_calls", "tool_call_id")

RULES: Mapping[Vendor, tuple[Check, ...]] = MappingProxyType(
    {
        "anthropic": (*vendor_anthropic.CHECKS, anthropic_schemas()),
        "openai": (
            *_COMMON,
            ids_fit(r"[\s\S]{1,40}"),
            images_are("image/png", "image/jpeg", "image/gif", "image/webp"),
            at_most("tools", 128),
            at_most("stop", 4),
            descriptions_at_most(1024),
            temperature_at_most(2),
            temperature_at_most(2, only=1, models=_OPENAI_REASONS),
            without("max_tokens", "stop", models=_OPENAI_REASONS),
            without("reasoning_effort", "verbosity", models=r"(^|/)(gpt-4|gpt-3|chatgpt)"),
        ),
        "azure": (
            *_COMMON,
            ids_fit(r"[\s\S]{1,40}"),
            images_are("image/png", "image/jpeg", "image/gif", "image/webp"),
            at_most("tools", 128),
            at_most("stop", 4),
            descriptions_at_most(1024),
            temperature_at_most(2, only=1, models=_OPENAI_REASONS),
            without("stop", models=_OPENAI_REASONS),
        ),
        "mistral": (
            *_COMMON,
            ids_fit(r"[a-zA-Z0-9]{9}"),
            last_is_user_or_tool,
            no_user_after_tool,
            first_is_user,
            system_comes_first,
            no_blank_messages("assistant", "user"),
            arguments_are_objects,
            only_fields(
                "model",
                "messages",
                "temperature",
                "top_p",
                "max_tokens",
                "stream",
                "stop",
                "random_seed",
                "response_format",
                "tools",
                "tool_choice",
                "presence_penalty",
                "frequency_penalty",
                "n",
                "prediction",
                "parallel_tool_calls",
                "prompt_mode",
                "reasoning_effort",
                "safe_prompt",
                "metadata",
                "guardrails",
                "prompt_cache_key",
            ),
            only_message_fields(*_MESSAGE, "prefix"),
            temperature_at_most(1.5),
        ),
        "gemini-openai": (
            has_messages,
            known_roles,
            results_follow_calls,
            tools_are_offered,
            media_of_users_only,
            no_blank_parts,
            no_blank_messages("user", "assistant", "tool"),
            names_fit(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}"),
            google_schemas(),
            arguments_are_objects,
            calls_are_signed,
            calls_follow_users,
            first_is_user,
            last_is_user_or_tool,
            one_thinking_form,
            images_are("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"),
            at_most("stop", 5),
            temperature_at_most(2),
            without("verbosity"),
        ),
        "moonshot": (
            *_COMMON,
            names_fit(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}"),
            moonshot_schemas(),
            arguments_are_objects,
            no_blank_messages("user", "assistant", "system", "tool"),
            last_is_user_or_tool,
            reasoning_comes_back(r"kimi-k2\.[5-9]|kimi-k[3-9]|thinking", blank_counts=True),
            images_are("image/png", "image/jpeg", "image/gif", "image/webp", urls=False),
            temperature_at_most(1),
            temperature_at_most(1, only=1, models=r"kimi-k2\.[5-9]|kimi-k[3-9]"),
        ),
        "deepseek": (
            *_COMMON,
            text_only,
            roles_alternate,
            last_is_user_or_tool,
            reasoning_comes_back(r"", blank_counts=False),
            at_most("tools", 128),
            temperature_at_most(2),
        ),
        "groq": (
            *_COMMON,
            text_only,
            no_blank_messages("user", "tool"),
            only_message_fields(*_MESSAGE, "reasoning"),
            at_most("tools", 128),
            at_most("stop", 4),
            temperature_at_most(2),
            without("reasoning_effort", models="llama|gemma|kimi"),
        ),
        "xai": (
            *_COMMON,
            no_blank_messages("user", "assistant", "tool", "system"),
            images_are(*_PNG_JPEG),
            without("stop", models=r"grok-4|grok-3-mini|grok-code"),
            without("reasoning_effort", models=r"grok-4|grok-code|grok-3$|grok-2"),
            temperature_at_most(2),
        ),
        # Encrypted reasoning of another model "could not be verified" (OpenRouterTeam/ai-sdk-provider#542): the server
        # cannot know which model made what, so the tests that need it look themselves.
        "openrouter": (*_COMMON, ids_fit(r"[a-zA-Z0-9_-]{1,64}"), first_is_user, no_blank_messages("user", "tool")),
        "perplexity": (
            has_messages,
            content_is_there,
            roles_alternate,
            first_is_user,
            last_is_user_or_tool,
            without("tools", "tool_choice"),
        ),
        "vllm": (
            has_messages,
            known_roles,
            results_follow_calls,
            tools_are_offered,
            arguments_are_objects,
            system_comes_first,
            roles_alternate,
        ),
        "bedrock": (
            *_COMMON,
            ids_fit(r"[a-zA-Z0-9_-]{1,64}"),
            first_is_user,
            last_is_user_or_tool,
            no_blank_messages("user", "assistant", "tool"),
            images_are("image/png", "image/jpeg", "image/gif", "image/webp", urls=False),
        ),
    }
)
"""What each vendor checks, in the order in which it complains."""


def refusal(vendor: Vendor, body: JsonObject) -> Complaint | None:
    """Why *vendor* refuses a request with this *body*; None when it accepts it."""
    return next((complaint for check in RULES[vendor] for complaint in check(body)), None)


def refusal_body(vendor: Vendor, complaint: Complaint) -> JsonObject | list[Any]:
    """The error object that *vendor* sends with its 400 (Mistral: 422 for fields that it does not know)."""
    message = complaint.message
    if vendor == "anthropic":
        return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    if vendor == "mistral":
        return {
            "object": "error",
            "message": message,
            "type": complaint.code or "invalid_request_error",
            "param": complaint.param or None,
            "code": "3230",
        }
    if vendor == "gemini-openai":
        return [{"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}]
    if vendor == "xai":
        return {"code": "Client specified an invalid argument", "error": message}
    error: dict[str, Any] = {
        "message": message,
        "type": "BadRequestError" if vendor == "vllm" else "invalid_request_error",
        "param": complaint.param or None,
        "code": complaint.code or None,
    }
    if vendor == "openrouter":
        error = {"message": message, "code": 400}
    return {"error": error}


def check_vendor(vendor: str) -> Vendor:
    """*vendor*, if its rules are known.

    Raises:
      ValueError: they are not; the message names those that are.
    """
    known = {"gemini": "gemini-openai"}.get(vendor, vendor)
    for one in RULES:
        if one == known:
            return one
    raise ValueError(f"no rules of {vendor!r}: known are {', '.join(RULES)}")
