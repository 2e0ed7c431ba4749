"""What the models of Anthropic, OpenAI and Google accept; `llm.vendors` explains the sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from clawft_trio.llm.conform.rules import Rules, SchemaRules, VendorRules

PDF = ("application/pdf",)
AUDIO = ("audio/wav", "audio/x-wav", "audio/wave", "audio/mpeg", "audio/mp3")
SAFE_IDS = r"[a-zA-Z0-9_-]{1,64}"

# docs.claude.com, Messages: names of at most 128 characters, temperature from 0 to 1. Ids `^[a-zA-Z0-9_-]+$`
# (maximhq/bifrost#5097, HKUDS/nanobot#4356), no combination at the top of `input_schema` and property keys
# `^[a-zA-Z0-9_.-]{1,64}$` (the text of its 400s), no empty content (anthropics/claude-code#6774), unknown fields are
# refused ("Extra inputs are not permitted", anthropics/claude-code#4378).
_ANTHROPIC = Rules(
    id_pattern=SAFE_IDS,
    id_prefix="toolu_",
    name_pattern=r"[a-zA-Z0-9_-]{1,128}",
    name_length=128,
    schemas=SchemaRules(key_pattern=r"[a-zA-Z0-9_.-]{1,64}", patterns="any"),
    first_user=True,
    blank_end=False,
    opaque=("anthropic", "anthropic:tool_use"),
    shared_blocks={"server_tool_use", "web_search_tool_result", "web_fetch_tool_result", "code_execution_tool_result",
                   "bash_code_execution_tool_result", "text_editor_code_execution_tool_result", "container_upload",
                   "search_result", "mcp_tool_use", "mcp_tool_result"},
    media_in_results=True,
    file_types=(*PDF, "text/plain"),
    file_urls=True,
    url_schemes=("https",),
    refuses={"seed", "verbosity"},
    hottest=1.0,
    efforts=(),
    thinking="anthropic",
    answer_schemas="closed",
    visible_stops=True,
)  # fmt: skip

# Sonnet 4.5 and Opus 4.1 introduced structured outputs, Opus 4.5 effort, 4.6 adaptive thinking. Opus and Sonnet from
# 4.6 on refuse a last message of the assistant; Opus from 4.7 on refuses sampling parameters and fixed budgets and has
# the effort `xhigh`; Fable and Mythos refuse forced tools (docs.claude.com, "What's new", and pydantic-ai profiles).
_WITHOUT_SCHEMAS: Mapping[str, Any] = {"refuses": ("seed", "verbosity", "response_schema")}
_NO_PREFILL: Mapping[str, Any] = {
    "last_user": True,
    "adaptive_thinking": True,
    "efforts": ("low", "medium", "high", "max"),
}
_ADAPTIVE: Mapping[str, Any] = {
    **_NO_PREFILL,
    "efforts": ("low", "medium", "high", "xhigh", "max"),
    "refuses": ("seed", "verbosity", "temperature", "thinking_budget"),
}
ANTHROPIC = VendorRules(
    _ANTHROPIC,
    (
        ("*claude-3*", {"refuses": ("seed", "verbosity", "reasoning_effort", "thinking_budget", "response_schema")}),
        ("*claude-3-7*", _WITHOUT_SCHEMAS),
        *((f"*claude-{line}-4-[02]*", _WITHOUT_SCHEMAS) for line in ("opus", "sonnet")),
        ("*claude-opus-4[-.]5*", {"efforts": ("low", "medium", "high")}),
        ("*claude-opus-4[-.]6*", _NO_PREFILL),
        ("*claude-sonnet-4[-.]6*", _NO_PREFILL),
        ("*claude-opus-4[-.][789]*", _ADAPTIVE),
        *((f"*claude-{line}-[56789]*", _ADAPTIVE) for line in ("opus", "sonnet", "haiku", "mythos", "fable")),
        *(
            (f"*claude-{line}-*", {"tool_choices": ("auto", "none"), "named_choice": False})
            for line in ("mythos", "fable")
        ),
    ),
)

# platform.openai.com, Chat: `tool_calls[].id` has at most 40 characters, a description 1024, a request 128 tools,
# `stop` 4 sequences. Patterns in schemas: "is not a 'regex'" for `\\p{…}` (BerriAI/litellm#40485), "regex lookaround is
# not supported" (decolua/9router#1556, vercel/ai#16021).
_OPENAI = Rules(
    id_pattern=r"[\s\S]{1,40}",
    description_length=1024,
    most_tools=128,
    file_types=PDF,
    refuses={"thinking_budget"},
    most_stops=4,
)
# Reasoning models refuse `stop` (gpt-5: huggingface/smolagents#1671; gpt-5.1: crewAIInc/crewAI#4149; gpt-5.2:
# rocketride-org/rocketride-server#1538) and temperature; from gpt-5.1 on they accept a temperature while the effort is
# `none`, which is the default until gpt-5.4 (platform.openai.com, guides/latest-model, and pydantic-ai profiles). The
# chat variants of gpt-5.1 and later reason with a fixed effort; gpt-5-chat does not reason.
_REASONS: Mapping[str, Any] = {
    "refuses": ("thinking_budget", "temperature", "stop", "verbosity"),
    "efforts": ("low", "medium", "high"),
}
_GPT5: Mapping[str, Any] = {
    "refuses": ("thinking_budget", "temperature", "stop"),
    "efforts": ("minimal", "low", "medium", "high"),
}
_GPT51: Mapping[str, Any] = {
    "refuses": ("thinking_budget", "stop"),
    "efforts": ("none", "low", "medium", "high"),
    "temperature_efforts": ("", "none"),
}
_GPT52: Mapping[str, Any] = {**_GPT51, "efforts": ("none", "low", "medium", "high", "xhigh")}
_GPT55: Mapping[str, Any] = {**_GPT52, "temperature_efforts": ("none",)}
_ALWAYS_REASONS: Mapping[str, Any] = {
    "refuses": ("thinking_budget", "temperature", "stop"),
    "temperature_efforts": None,
}
_CHAT: Mapping[str, Any] = {"refuses": ("thinking_budget", "reasoning_effort", "verbosity")}
OPENAI_FAMILIES: tuple[tuple[str, Mapping[str, Any]], ...] = (
    *((f"*{line}*", _CHAT) for line in ("gpt-3.5", "gpt-4", "chatgpt")),
    ("*o[1345]", _REASONS),
    ("*o[1345]-*", _REASONS),
    ("*o1-mini*", {"system_role": "user", "efforts": ()}),
    ("*o1-preview*", {"system_role": "user", "efforts": ()}),
    ("*gpt-[56789]*", _GPT5),
    ("*gpt-5.1*", _GPT51),
    ("*gpt-5.[234]*", _GPT52),
    ("*gpt-5.[5-9]*", _GPT55),
    ("*gpt-5.1-codex*", {**_ALWAYS_REASONS, "efforts": ("low", "medium", "high")}),
    ("*gpt-5-pro*", {**_ALWAYS_REASONS, "efforts": ("high",)}),
    ("*gpt-5.[2-9]-pro*", {**_ALWAYS_REASONS, "efforts": ("medium", "high", "xhigh")}),
    ("*gpt-5-chat*", _CHAT),
    ("*gpt-5.[1-9]-chat*", {**_ALWAYS_REASONS, "refuses": (*_GPT5["refuses"], "reasoning_effort")}),
    ("*audio*", {"file_types": (*PDF, *AUDIO)}),
    ("*gpt-3.5*", {"image_types": (), "file_types": ()}),
)
OPENAI = VendorRules(_OPENAI, OPENAI_FAMILIES)

# platform.openai.com, Responses: no `stop` and no `seed`; a tool result may contain images and files; `call_id` has
# at most 64 characters. A reasoning item is followed by its message or call ("was provided without its required
# following item", vercel/ai#7099, openai/openai-node#1567); ids begin with `msg`, `fc`, `rs` (openai/codex#33176).
_NOT_IN_RESPONSES = ("seed", "stop")
RESPONSES = VendorRules(
    attrs.evolve(
        _OPENAI,
        id_pattern=r"[\s\S]{1,64}",
        opaque=("responses", "responses:state"),
        media_in_results=True,
        file_urls=True,
        refuses={"thinking_budget", *_NOT_IN_RESPONSES},
        most_stops=None,
    ),
    tuple(
        (
            pattern,
            {**changes, "refuses": (*changes["refuses"], *_NOT_IN_RESPONSES)} if "refuses" in changes else changes,
        )
        for pattern, changes in OPENAI_FAMILIES
    ),
)

# A deployment may have any name, so its model is mostly unknown: refused parameters are learned. Chat completions
# accept no documents (pydantic-ai profiles).
AZURE = VendorRules(attrs.evolve(_OPENAI, file_types=()), OPENAI_FAMILIES)

# ai.google.dev, `Schema`: the fields of its subset of OpenAPI ("Unknown name … Cannot find field": zed#44875 for
# `const`, felinics/Memoh#620 for `additionalProperties`, AstrBotDevs/AstrBot#7572 for `examples`). `type` is one value
# ("Proto field is not repeating", voocel/litellm#9) and is required from Gemini 3 on
# (UKGovernmentBEIS/inspect_ai#3097); only objects may have `properties` and `required` (anomalyco/opencode#11889),
# which may not be empty in nested schemas (browser-use#3786); `required` names defined properties
# (Kilo-Org/kilocode#11955). Names begin with a letter or an underscore (kaitranntt/ccs#25).
_GOOGLE_SCHEMAS = SchemaRules(
    keywords={"type", "format", "title", "description", "nullable", "enum", "maxItems", "minItems", "properties",
              "required", "minProperties", "maxProperties", "minLength", "maxLength", "pattern", "anyOf", "default",
              "items", "minimum", "maximum"},
    formats={"enum", "date-time", "int32", "int64", "float", "double"},
    refs=False,
    type_lists=False,
    typed=True,
    loose_properties=False,
    mixed_enums=False,
    items={"type": "string"},
    key_pattern=r"[a-zA-Z_][a-zA-Z0-9_.-]{0,63}",
)  # fmt: skip
UNSIGNED = "skip_thought_signature_validator"
"""Google's documented signature for calls that were not made by a Gemini model (ai.google.dev, Thought signatures)."""

# Effort: ai.google.dev, OpenAI compatibility; the reasoning of 2.5 Pro and Gemini 3 cannot be switched off.

_GEMINI = Rules(
    name_pattern=r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}",
    schemas=_GOOGLE_SCHEMAS,
    first_user=True,
    system_first=True,
    calls_after_user=True,
    last_user=True,
    blank_result="(no output)",
    opaque=("openai:extra_content",),
    signature_stand_in=UNSIGNED,
    image_types=("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"),
    file_types=AUDIO,
    refuses={"verbosity"},
    efforts=("minimal", "low", "medium", "high"),
    thinking="google",
    most_stops=5,
)
GEMINI = VendorRules(
    _GEMINI,
    (
        ("*gemini-2.5*", {"signature_stand_in": None, "efforts": ("none", "minimal", "low", "medium", "high")}),
        ("*gemini-2.5-pro*", {"efforts": ("minimal", "low", "medium", "high")}),
        ("*gemini-[12].[05]-flash*", {"signature_stand_in": None}),
        ("*gemini-2.0*", {"signature_stand_in": None, "refuses": ("verbosity", "reasoning_effort", "thinking_budget")}),
        ("*gemini-1*", {"signature_stand_in": None, "refuses": ("verbosity", "reasoning_effort", "thinking_budget")}),
        ("*gemma*", {"signature_stand_in": None, "refuses": ("verbosity", "reasoning_effort", "thinking_budget")}),
        ("*gemini-3*", {"refuses": ("verbosity",)}),
    ),
)
