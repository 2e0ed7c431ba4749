"""The requests that a vendor refuses, and its error bodies: the rules of `open_fault_server(accepts=…)`.

They are written from the vendors' references and from error messages in public issues (each check names its source),
independently of `llm.conform`, so that a mistake in one is not hidden by the other. What a vendor merely ignores is
not refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from clawft_trio.chat import JsonObject
from clawft_trio.testing import vendor_anthropic, vendor_responses
from clawft_trio.testing.vendor_checks import (
    Check,
    Complaint,
    arguments_are_objects,
    at_most,
    calls_have_content,
    content_is_there,
    descriptions_at_most,
    first_is_user,
    has_messages,
    ids_fit,
    images_are,
    known_roles,
    last_is_user_or_tool,
    media_of_users_only,
    names_fit,
    no_blank_messages,
    no_blank_parts,
    no_developers,
    no_documents,
    no_user_after_tool,
    only_fields,
    only_message_fields,
    results_follow_calls,
    roles_alternate,
    system_comes_first,
    temperature_at_most,
    text_only,
    tools_are_offered,
    values_of,
    without,
)
from clawft_trio.testing.vendor_models import (
    COOL,
    DEEPSEEK_THINKS,
    KIMI_THINKS,
    OPENAI_REASONS,
    calls_are_signed,
    calls_follow_users,
    kimi_temperature,
    no_forced_tools,
    one_thinking_form,
    reasoning_comes_back,
    temperature_only_unreasoned,
)
from clawft_trio.testing.vendor_schemas import (
    anthropic_schemas,
    google_schemas,
    grammar_schemas,
    moonshot_schemas,
    openai_schemas,
)

Vendor: TypeAlias = Literal[
    "anthropic", "openai", "responses", "azure", "mistral", "gemini-openai", "moonshot", "deepseek", "groq", "xai",
    "openrouter", "perplexity", "cohere", "together", "fireworks", "vllm", "llama.cpp", "bedrock",
]  # fmt: skip
"""The vendors with known refusals. `responses` is OpenAI's Responses API, which `openai` and `azure` have, too."""

_ALIASES: Mapping[str, Vendor] = MappingProxyType(
    {"gemini": "gemini-openai", "vertex": "gemini-openai", "kimi": "moonshot", "llamacpp": "llama.cpp",
     "lmstudio": "llama.cpp", "ollama": "llama.cpp"}
)  # fmt: skip

_NAMES = r"[a-zA-Z0-9_-]{1,64}"
_PNG_JPEG = ("image/png", "image/jpeg", "image/jpg")

# Checks of nearly all servers of this dialect.
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


_MESSAGE = ("role", "content", "name", "tool_calls", "tool_call_id")

_OPENAI_LIMITS: tuple[Check, ...] = (
    *_COMMON,
    ids_fit(r"[\s\S]{1,40}"),
    images_are("image/png", "image/jpeg", "image/gif", "image/webp"),
    at_most("tools", 128),
    at_most("stop", 4),
    descriptions_at_most(1024),
    temperature_at_most(2),
    temperature_only_unreasoned,
    without("stop", models=OPENAI_REASONS),
    values_of("reasoning_effort", "minimal", "low", "medium", "high", models=r"(^|/)gpt-5($|-mini|-nano)"),
    values_of("reasoning_effort", "low", "medium", "high", models=r"(^|/)o[134]($|-)"),
    values_of("reasoning_effort", "none", "low", "medium", "high", "xhigh", models=COOL),
)

RULES: Mapping[Vendor, tuple[Check, ...]] = MappingProxyType(
    {
        "anthropic": (*vendor_anthropic.CHECKS, anthropic_schemas()),
        "openai": (
            *_OPENAI_LIMITS,
            without("max_tokens", models=OPENAI_REASONS),
            without("reasoning_effort", "verbosity", models=r"(^|/)(gpt-4|gpt-3|chatgpt|gpt-5-chat)"),
        ),
        "responses": (*vendor_responses.CHECKS, openai_schemas(), temperature_at_most(2)),
        "azure": (*_OPENAI_LIMITS, no_documents),
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
            values_of("reasoning_effort", "none", "high", models="small|medium"),
            without("reasoning_effort", models="large|magistral|codestral|devstral|ministral|pixtral"),
        ),
        "gemini-openai": (
            has_messages,
            known_roles,
            results_follow_calls,
            tools_are_offered,
            media_of_users_only,
            no_blank_parts,
            no_documents,
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
            reasoning_comes_back(KIMI_THINKS, blank_counts=True),
            images_are("image/png", "image/jpeg", "image/gif", "image/webp", urls=False),
            temperature_at_most(1),
            kimi_temperature,
            no_forced_tools("auto", "none"),
        ),
        "deepseek": (
            *_COMMON,
            no_developers,
            text_only,
            roles_alternate,
            last_is_user_or_tool,
            reasoning_comes_back("", blank_counts=False),
            at_most("tools", 128),
            temperature_at_most(2),
            no_forced_tools("auto", "none", models=DEEPSEEK_THINKS),
            values_of("reasoning_effort", "minimal", "low", "medium", "high", "xhigh", "max", "ultra"),
        ),
        "groq": (
            *_COMMON,
            text_only,
            no_blank_messages("user", "tool"),
            only_message_fields(*_MESSAGE, "reasoning"),
            at_most("tools", 128),
            at_most("stop", 4),
            temperature_at_most(2),
            without("reasoning_effort", models="llama|gemma|kimi|mixtral|compound"),
            values_of("reasoning_effort", "low", "medium", "high", models="gpt-oss"),
            values_of("reasoning_effort", "none", "default", models="qwen3"),
        ),
        "xai": (
            *_COMMON,
            no_blank_messages("user", "assistant", "tool", "system"),
            calls_have_content,
            images_are(*_PNG_JPEG),
            without("stop", models=r"grok-4|grok-3-mini|grok-code"),
            # docs.x.ai, Reasoning; anomalyco/opencode#39448 (4.5); vercel/ai, @ai-sdk/xai 4.0.8 (4.20).
            without("reasoning_effort", models=r"grok-4$|grok-4\.20(?!-multi)|grok-code|grok-3$|grok-2"),
            values_of(
                "reasoning_effort", "none", "low", "medium", "high", models=r"grok-4\.3|grok-4-(fast|1-fast|0709)"
            ),
            values_of("reasoning_effort", "low", "medium", "high", models=r"grok-4\.[5-9]"),
            values_of("reasoning_effort", "low", "high", models="grok-3-mini"),
            temperature_at_most(2),
        ),
        # Encrypted reasoning of another model "could not be verified" (OpenRouterTeam/ai-sdk-provider#542): the server
        # cannot know which model created a block, so the tests that need this check it themselves.
        "openrouter": (*_COMMON, ids_fit(r"[a-zA-Z0-9_-]{1,64}"), first_is_user, no_blank_messages("user", "tool")),
        "perplexity": (
            has_messages,
            content_is_there,
            roles_alternate,
            first_is_user,
            last_is_user_or_tool,
            without("tools", "tool_choice"),
        ),
        "cohere": (
            *_COMMON,
            no_blank_messages("user", "assistant", "tool"),
            last_is_user_or_tool,
            # docs.cohere.com, Chat V2: `tool_choice` has no names, temperature goes to 1, five stop sequences.
            no_forced_tools("auto", "none", "required"),
            values_of("reasoning_effort", "none", "high"),
            temperature_at_most(1),
            at_most("stop", 5),
        ),
        "together": (*_COMMON, no_blank_messages("user"), temperature_at_most(2)),
        # earendil-works/pi#4514: "Extra inputs are not permitted, field: 'messages[8].reasoning'".
        "fireworks": (*_COMMON, only_message_fields(*_MESSAGE, "reasoning_content"), temperature_at_most(2)),
        # The templates of open models; "function.arguments" are parsed (vllm-project/vllm#43995).
        "vllm": (
            has_messages,
            known_roles,
            results_follow_calls,
            tools_are_offered,
            arguments_are_objects,
            system_comes_first,
            roles_alternate,
        ),
        "llama.cpp": (
            has_messages,
            known_roles,
            results_follow_calls,
            tools_are_offered,
            arguments_are_objects,
            system_comes_first,
            roles_alternate,
            last_is_user_or_tool,
            grammar_schemas(),
        ),
        "bedrock": (
            *_COMMON,
            ids_fit(r"[a-zA-Z0-9_-]{1,64}"),
            first_is_user,
            last_is_user_or_tool,
            no_blank_messages("user", "assistant", "tool"),
            images_are("image/png", "image/jpeg", "image/gif", "image/webp", urls=False),
            # crewAIInc/crewAI#3317: "This model doesn't support the stopSequences field."
            without("stop", models="gpt-oss"),
        ),
    }
)
"""The checks of each vendor, in the order of its complaints."""


def refusal(vendor: Vendor, body: JsonObject) -> Complaint | None:
    """Return why *vendor* refuses a request with this *body*; None when it accepts it."""
    by_responses = vendor in {"openai", "azure"} and "messages" not in body and "input" in body
    checks = RULES["responses" if by_responses else vendor]
    return next((complaint for check in checks for complaint in check(body)), None)


def refusal_body(vendor: Vendor, complaint: Complaint) -> JsonObject | list[Any]:
    """Return the error body that *vendor* sends with its 400 (Mistral: 422 for unknown fields)."""
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
    """Return the canonical name of *vendor*.

    Raises:
      ValueError: there are no rules for it; the message names the known vendors.
    """
    known = _ALIASES.get(vendor, vendor)
    for one in RULES:
        if one == known:
            return one
    raise ValueError(f"no rules of {vendor!r}: known are {', '.join(RULES)}")
