"""What the vendors accept, as data for conform: the documented limits of each, and of families of its models.

Sources are named where a limit is not in the vendor's reference of the request body. A limit that is not known here is
learned: a 400 that names an optional parameter is remembered for its target (`llm.refused_options`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import attrs

from clawft_trio.llm.conform.rules import COMMON_IMAGES, Rules, SchemaRules, VendorRules

_PDF = ("application/pdf",)
_AUDIO = ("audio/wav", "audio/x-wav", "audio/wave", "audio/mpeg", "audio/mp3")
_SAFE_IDS = r"[a-zA-Z0-9_-]{1,64}"

# --- Anthropic -----------------------------------------------------------------------------------------

# docs.claude.com, Messages: ids `^[a-zA-Z0-9_-]+$`, names of at most 128 characters, property keys
# `^[a-zA-Z0-9_.-]{1,64}$`, no combination at the top of `input_schema`, temperature from 0 to 1.
_ANTHROPIC = Rules(
    id_pattern=_SAFE_IDS,
    id_prefix="toolu_",
    name_pattern=r"[a-zA-Z0-9_-]{1,128}",
    name_length=128,
    schemas=SchemaRules(key_pattern=r"[a-zA-Z0-9_.-]{1,64}"),
    first_user=True,
    opaque=("anthropic", "anthropic:tool_use"),
    shared_blocks={"server_tool_use", "web_search_tool_result", "web_fetch_tool_result", "code_execution_tool_result",
                   "bash_code_execution_tool_result", "text_editor_code_execution_tool_result", "container_upload",
                   "search_result", "mcp_tool_use", "mcp_tool_result"},
    media_in_results=True,
    file_types=(*_PDF, "text/plain"),
    file_urls=True,
    refuses={"seed", "verbosity"},
    hottest=1.0,
    efforts=(),
    thinking="anthropic",
    visible_stops=True,
)  # fmt: skip

# Effort came with Opus 4.5; a last message of the assistant is refused from Opus and Sonnet 4.6 on, sampling
# parameters and fixed budgets from Opus 4.7 on (docs.claude.com, "What's new").
_NO_PREFILL: Mapping[str, Any] = {"last_user": True, "efforts": ("low", "medium", "high", "max")}
_ADAPTIVE: Mapping[str, Any] = {
    **_NO_PREFILL,
    "efforts": ("low", "medium", "high", "xhigh", "max"),
    "refuses": ("seed", "verbosity", "temperature", "thinking_budget"),
}
ANTHROPIC = VendorRules(
    _ANTHROPIC,
    (
        ("*claude-3*", {"refuses": ("seed", "verbosity", "reasoning_effort", "thinking_budget")}),
        ("*claude-3-7*", {"refuses": ("seed", "verbosity")}),
        ("*claude-opus-4[-.]5*", {"efforts": ("low", "medium", "high")}),
        ("*claude-opus-4[-.]6*", _NO_PREFILL),
        ("*claude-sonnet-4[-.]6*", _NO_PREFILL),
        ("*claude-opus-4[-.][789]*", _ADAPTIVE),
        *((f"*claude-{line}-[56789]*", _ADAPTIVE) for line in ("opus", "sonnet", "haiku", "mythos", "fable")),
    ),
)

# --- OpenAI --------------------------------------------------------------------------------------------

# platform.openai.com, Chat: `tool_calls[].id` has at most 40 characters, a description 1024, a request 128 tools,
# `stop` 4 sequences. Reasoning models refuse temperature and stop (guides/reasoning).
_OPENAI = Rules(
    id_pattern=r"[\s\S]{1,40}",
    description_length=1024,
    most_tools=128,
    file_types=_PDF,
    refuses={"thinking_budget"},
    most_stops=4,
)
_REASONS: Mapping[str, Any] = {
    "refuses": ("thinking_budget", "temperature", "stop", "verbosity"),
    "efforts": ("low", "medium", "high"),
}
_GPT5: Mapping[str, Any] = {
    "refuses": ("thinking_budget", "temperature", "stop"),
    "efforts": ("minimal", "low", "medium", "high"),
}
_GPT51: Mapping[str, Any] = {**_GPT5, "efforts": ("none", "low", "medium", "high")}
_GPT52: Mapping[str, Any] = {**_GPT5, "efforts": ("none", "low", "medium", "high", "xhigh")}
_CHAT: Mapping[str, Any] = {"refuses": ("thinking_budget", "reasoning_effort", "verbosity")}
OPENAI_FAMILIES: tuple[tuple[str, Mapping[str, Any]], ...] = (
    *((f"*{line}*", _CHAT) for line in ("gpt-3.5", "gpt-4", "chatgpt")),
    ("*o[1345]", _REASONS),
    ("*o[1345]-*", _REASONS),
    ("*o1-mini*", {"system_role": "user", "efforts": ()}),
    ("*o1-preview*", {"system_role": "user", "efforts": ()}),
    ("*gpt-[56789]*", _GPT5),
    ("*gpt-5.1*", _GPT51),
    ("*gpt-5.[2-9]*", _GPT52),
    ("*gpt-5*-pro*", {"efforts": ("high",)}),
    ("*gpt-5*-chat*", {**_CHAT, "only_temperature": 1.0}),
    ("*audio*", {"file_types": (*_PDF, *_AUDIO)}),
    ("*gpt-3.5*", {"image_types": (), "file_types": ()}),
)
OPENAI = VendorRules(_OPENAI, OPENAI_FAMILIES)

# platform.openai.com, Responses: no `stop` and no `seed`; images and files may stand in a tool's result.
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

# A deployment has any name, so its model is mostly not known: what is refused there is learned.
AZURE = VendorRules(attrs.evolve(_OPENAI, file_types=()), OPENAI_FAMILIES)

# --- Google --------------------------------------------------------------------------------------------

# ai.google.dev, `Schema`: the fields of its subset of OpenAPI. Function declarations: names begin with a letter or an
# underscore. Thought signatures: the stand-in for calls of other models is documented for Gemini 3.
_GOOGLE_SCHEMAS = SchemaRules(
    keywords={"type", "format", "title", "description", "nullable", "enum", "maxItems", "minItems", "properties",
              "required", "minProperties", "maxProperties", "minLength", "maxLength", "pattern", "anyOf", "default",
              "items", "minimum", "maximum"},
    formats={"enum", "date-time", "int32", "int64", "float", "double"},
    refs=False,
    type_lists=False,
    mixed_enums=False,
    items={"type": "string"},
    key_pattern=r"[a-zA-Z_][a-zA-Z0-9_.-]{0,63}",
)  # fmt: skip
UNSIGNED = "skip_thought_signature_validator"
"""Google's documented signature for calls that no Gemini model made."""

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
    file_types=_AUDIO,
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

# --- the others ----------------------------------------------------------------------------------------

_NO_REASONING = frozenset({"thinking_budget", "reasoning_effort", "verbosity"})

# docs.mistral.ai: ids of 9 letters or digits; "Unexpected role 'user' after role 'tool'"; the last message is the
# user's or a tool's; unknown fields are refused.
MISTRAL = VendorRules(
    Rules(
        id_pattern="[a-zA-Z0-9]{9}",
        id_prefix="",
        id_length=9,
        first_user=True,
        last_user=True,
        user_after_tool=False,
        system_first=True,
        file_types=_PDF,
        file_urls=True,
        file_form="document_url",
        # It has `random_seed`.
        refuses={"thinking_budget", "verbosity", "seed"},
        hottest=1.5,
    ),
    (
        *(
            (f"{line}-*", {"refuses": ("thinking_budget", "reasoning_effort", "verbosity", "seed")})
            for line in ("mistral-large", "magistral", "codestral", "devstral", "ministral", "pixtral", "open")
        ),
        ("voxtral*", {"file_types": _AUDIO}),
        ("codestral*", {"image_types": (), "file_types": ()}),
        ("devstral*", {"image_types": (), "file_types": ()}),
    ),
)

# api-docs.deepseek.com: text only; in thinking mode the reasoning before a call has to come back. Another model's is
# replaced by a blank, which both DeepSeek and Kimi take; Kimi takes an empty text for a missing one.
DEEPSEEK = VendorRules(
    Rules(
        opaque=("openai:reasoning_content",),
        reasoning_stand_in=" ",
        alternate=True,
        last_user=True,
        image_types=(),
        refuses={"verbosity", "seed", "thinking_budget"},
        thinking="type",
        most_tools=128,
    ),
    (
        ("*reasoner*", {"tool_choices": ("auto", "none"), "named_choice": False, "refuses": (
            "verbosity", "seed", "thinking_budget", "reasoning_effort", "temperature")}),
    ),
)  # fmt: skip

_KIMI_SCHEMAS = SchemaRules(
    refs=False, typed_alternatives=False, items={"type": "string"}, key_pattern=r"[a-zA-Z_][a-zA-Z0-9_.-]{0,63}"
)
_KIMI_THINKS: Mapping[str, Any] = {"only_temperature": 1.0, "tool_choices": ("auto", "none"), "named_choice": False}
MOONSHOT = VendorRules(
    Rules(
        name_pattern=r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}",
        schemas=_KIMI_SCHEMAS,
        last_user=True,
        blank_result="(no output)",
        opaque=("openai:reasoning_content",),
        reasoning_stand_in=" ",
        image_urls=False,
        refuses={"verbosity", "seed", "thinking_budget"},
        hottest=1.0,
        thinking="type",
        tool_choices=("auto", "none"),
    ),
    (
        ("kimi-k2.[5-9]*", _KIMI_THINKS),
        ("kimi-k[3-9]*", _KIMI_THINKS),
        ("kimi-*thinking*", _KIMI_THINKS),
        ("moonshot-v1-*", {"image_types": ()}),
        ("moonshot-v1-*vision*", {"image_types": COMMON_IMAGES}),
        ("kimi-k2-*", {"image_types": ()}),
    ),
)

# console.groq.com: most models take text only; `reasoning_effort` belongs to gpt-oss and Qwen 3.
GROQ = VendorRules(
    Rules(
        image_types=(),
        refuses={"thinking_budget", "verbosity"},
        blank_result="(no output)",
        most_tools=128,
        most_stops=4,
    ),
    (
        *((f"*{line}*", {"refuses": _NO_REASONING}) for line in ("llama", "gemma", "kimi", "mixtral", "compound")),
        ("*gpt-oss*", {"refuses": ("thinking_budget", "verbosity"), "efforts": ("low", "medium", "high")}),
        ("*qwen3*", {"refuses": ("thinking_budget", "verbosity"), "efforts": ("none", "default")}),
        ("*llama-4*", {"image_types": COMMON_IMAGES}),
        ("*vision*", {"image_types": COMMON_IMAGES}),
    ),
)

# docs.x.ai: reasoning models refuse `stop`; only Grok 3 mini and the multi-agent models take an effort.
_GROK_REASONS: Mapping[str, Any] = {"refuses": ("thinking_budget", "reasoning_effort", "verbosity", "stop")}
XAI = VendorRules(
    Rules(
        image_types=("image/png", "image/jpeg"),
        refuses={"thinking_budget", "verbosity"},
        blank_result="(no output)",
        most_tools=128,
    ),
    (
        ("grok-4*", _GROK_REASONS),
        ("grok-[56789]*", {"refuses": ("thinking_budget", "verbosity", "stop")}),
        ("grok-code*", {**_GROK_REASONS, "image_types": ()}),
        ("grok-[23]*", {"image_types": (), "refuses": _NO_REASONING}),
        ("grok-2-vision*", {"image_types": ("image/png", "image/jpeg")}),
        ("grok-3-mini*", {"refuses": ("thinking_budget", "verbosity", "stop"), "efforts": ("low", "high")}),
    ),
)

# openrouter.ai: adapts parameters and images to the model behind it, and passes reasoning on as it came.
OPENROUTER = VendorRules(
    Rules(
        id_pattern=_SAFE_IDS,
        opaque=("openai:reasoning_details",),
        thinking="openrouter",
        first_user=True,
        file_types=(*_PDF, *_AUDIO),
        file_urls=True,
        blank_result="(no output)",
    )
)

# docs.perplexity.ai: roles alternate, the last message is the user's; there are no tools.
PERPLEXITY = VendorRules(
    Rules(first_user=True, last_user=True, alternate=True, system_first=True, refuses={
        "tools", "seed", "stop", "verbosity", "thinking_budget"}, efforts=("minimal", "low", "medium", "high"))
)  # fmt: skip

CEREBRAS = VendorRules(
    Rules(image_types=(), refuses={"thinking_budget", "verbosity"}, blank_result="(no output)"),
    (
        ("*llama*", {"refuses": _NO_REASONING}),
        ("*gpt-oss*", {"refuses": ("thinking_budget", "verbosity"), "efforts": ("low", "medium", "high")}),
    ),
)
DASHSCOPE = VendorRules(
    Rules(
        last_user=True, blank_result="(no output)", thinking="enable_thinking", image_types=(), refuses={"verbosity"}
    ),
    (("*vl*", {"image_types": COMMON_IMAGES}), ("qwen3.[5-9]*", {"image_types": COMMON_IMAGES}), ("*omni*", {
        "image_types": COMMON_IMAGES, "file_types": _AUDIO})),
)  # fmt: skip
ZHIPU = VendorRules(
    Rules(
        last_user=True,
        blank_result="(no output)",
        thinking="type",
        image_types=(),
        refuses={"verbosity", "seed", "thinking_budget"},
        hottest=1.0,
        tool_choices=("auto",),
        named_choice=False,
        most_stops=1,
    ),
    (("glm-*v*", {"image_types": COMMON_IMAGES}),),
)
MINIMAX = VendorRules(
    Rules(system_first=True, alternate=True, last_user=True, image_types=(), refuses=_NO_REASONING | {"seed"},
          hottest=1.0, blank_result="(no output)")
)  # fmt: skip
# docs.aws.amazon.com, Bedrock's chat completions address: ids as in Converse.
BEDROCK = VendorRules(Rules(id_pattern=_SAFE_IDS, first_user=True, last_user=True, image_urls=False, refuses={
    "thinking_budget", "verbosity"}, blank_result="(no output)"))  # fmt: skip
HOSTED = VendorRules(Rules(refuses={"thinking_budget", "verbosity"}, blank_result="(no output)"))
"""Servers of open models (Together, Fireworks, gateways): their chat templates differ by model."""

# Chat templates of open models: system first, roles alternate (vllm-project/vllm, ggml-org/llama.cpp).
LOCAL = VendorRules(
    Rules(system_first=True, alternate=True, image_urls=False, refuses={"thinking_budget", "verbosity"}),
    (("*mistral*", {"id_pattern": "[a-zA-Z0-9]{9}", "id_prefix": "", "id_length": 9, "user_after_tool": False}),),
)

PLAIN = VendorRules()
"""A server of which nothing is known."""

VENDORS: Mapping[str, VendorRules] = MappingProxyType(
    {
        "anthropic": ANTHROPIC,
        "openai": OPENAI,
        "azure": AZURE,
        "gemini": GEMINI,
        "vertex": GEMINI,
        "bedrock": BEDROCK,
        "mistral": MISTRAL,
        "deepseek": DEEPSEEK,
        "moonshot": MOONSHOT,
        "groq": GROQ,
        "xai": XAI,
        "openrouter": OPENROUTER,
        "perplexity": PERPLEXITY,
        "cerebras": CEREBRAS,
        "dashscope": DASHSCOPE,
        "zhipu": ZHIPU,
        "minimax": MINIMAX,
        "together": HOSTED,
        "fireworks": HOSTED,
        "aihubmix": HOSTED,
        "ollama": LOCAL,
        "local": LOCAL,
        "lmstudio": LOCAL,
        "llamacpp": LOCAL,
        "vllm": LOCAL,
    }
)
"""The rules of the providers that the catalog knows, by the same names."""
