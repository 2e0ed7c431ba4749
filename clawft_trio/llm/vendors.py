"""What the vendors accept, as data for `conform`: the documented limits of each vendor and of its model families.

Each limit names its source: the vendor's documentation, or a public issue that quotes the vendor's 400 (`owner/name#N`
on GitHub). "pydantic-ai profiles" are the model profiles of pydantic/pydantic-ai, which record what its authors tried
against the live servers (August 2026). A limit that is not listed here is learned: a 400 that names an optional
parameter is remembered for its model (`llm.refused_options`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from clawft_trio.llm.conform.rules import COMMON_IMAGES, Rules, SchemaRules, VendorRules
from clawft_trio.llm.vendors_large import ANTHROPIC, AUDIO, AZURE, GEMINI, OPENAI, PDF, SAFE_IDS

_NO_REASONING = frozenset({"thinking_budget", "reasoning_effort", "verbosity"})

# docs.mistral.ai, and its 400s: ids have 9 letters or digits; "Unexpected role 'user' after role 'tool'"
# (zed-industries/zed#37021, aaif-goose/goose#5998); "Expected last role User or Tool" (0xPlaygrounds/rig#1130); unknown
# fields and empty lists of tools are refused (partITech/php-mistral#76). Small and Medium, the models with adjustable
# reasoning, accept the efforts `none` and `high` (pydantic-ai profiles).
MISTRAL = VendorRules(
    Rules(
        id_pattern="[a-zA-Z0-9]{9}",
        id_prefix="",
        id_length=9,
        first_user=True,
        last_user=True,
        user_after_tool=False,
        system_first=True,
        file_types=PDF,
        file_urls=True,
        file_form="document_url",
        # It has `random_seed` instead of `seed`.
        refuses={"thinking_budget", "verbosity", "seed"},
        efforts=("none", "high"),
        hottest=1.5,
    ),
    (
        *(
            (f"{line}-*", {"refuses": ("thinking_budget", "reasoning_effort", "verbosity", "seed")})
            for line in ("mistral-large", "magistral", "codestral", "devstral", "ministral", "pixtral", "open")
        ),
        ("voxtral*", {"file_types": AUDIO}),
        ("codestral*", {"image_types": (), "file_types": ()}),
        ("devstral*", {"image_types": (), "file_types": ()}),
    ),
)

# api-docs.deepseek.com, Thinking mode: text only; the reasoning before a call has to be sent back ("must be passed back
# to the API", langchain-ai/langchain#37713). Another model's reasoning is replaced by a blank, which DeepSeek and Kimi
# both accept; Kimi treats an empty text as missing. Efforts are `low`, `high` and `max`; thinking is on by default and
# excludes forced tools (pydantic-ai profiles).
DEEPSEEK = VendorRules(
    Rules(
        opaque=("openai:reasoning_content",),
        reasoning_stand_in=" ",
        alternate=True,
        last_user=True,
        image_types=(),
        refuses={"verbosity", "seed", "thinking_budget"},
        efforts=("none", "low", "high", "max"),
        thinking="type_and_effort",
        most_tools=128,
    ),
    (
        *((name, {"tool_choices": ("auto", "none"), "named_choice": False}) for name in (
            "*reasoner*", "deepseek-v[4-9]*", "deepseek-flash*", "deepseek-pro*")),
        ("*reasoner*", {"refuses": ("verbosity", "seed", "thinking_budget", "temperature")}),
    ),
)  # fmt: skip

# platform.moonshot.ai, and its 400s. "not a valid moonshot flavored json schema": `type` beside `anyOf`, lists in
# `items` (vercel/ai#18921), text beside `$ref` (MoonshotAI/kimi-cli#2061), boolean schemas (can1357/oh-my-pi#5952),
# schemas without a type (NousResearch/hermes-agent#14805); names begin with a letter (MoonshotAI/kimi-cli#2531).
# `tool_choice: required` is not supported (docs/guide/migrating-from-openai-to-kimi). The temperature of models that
# think is fixed, to 1 while they think and to 0.6 while they do not (MoonshotAI/kimi-code#686): it is never sent.
# Images are accepted only by content.
_KIMI_SCHEMAS = SchemaRules(
    refs=False,
    typed=True,
    drops={"prefixItems"},
    typed_alternatives=False,
    items={"type": "string"},
    key_pattern=r"[a-zA-Z_][a-zA-Z0-9_.-]{0,63}",
)
_KIMI_THINKS: Mapping[str, Any] = {
    "refuses": ("verbosity", "seed", "thinking_budget", "temperature"),
}
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
        named_choice=False,
    ),
    (
        ("kimi-k2.[5-9]*", _KIMI_THINKS),
        ("kimi-k[3-9]*", _KIMI_THINKS),
        ("kimi-*thinking*", _KIMI_THINKS),
        ("kimi-for-coding*", _KIMI_THINKS),
        ("moonshot-v1-*", {"image_types": ()}),
        ("moonshot-v1-*vision*", {"image_types": COMMON_IMAGES}),
        ("kimi-k2-*", {"image_types": ()}),
    ),
)

# console.groq.com, Reasoning: most models accept text only; `reasoning_effort` exists for gpt-oss (low, medium, high)
# and for Qwen 3 (none, default); also in pydantic-ai profiles. Unknown fields of messages are refused ("property
# 'reasoning_content' is unsupported", tashfeenahmed/freellmapi#1070).
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

# docs.x.ai, Reasoning: reasoning models refuse `stop`. Efforts: none to high for Grok 4.3 and the retired names that
# lead to it, low to high for 4.5, low and high for Grok 3 mini; the others refuse effort (pydantic-ai profiles;
# anomalyco/opencode#39448; vercel/ai, @ai-sdk/xai 4.0.8 for 4.20). Every message needs content; a message with calls
# needs at least an empty text ("Each message must have at least one content element", langchain-ai/langchain#34140).
_GROK_REASONS: Mapping[str, Any] = {"refuses": ("thinking_budget", "reasoning_effort", "verbosity", "stop")}
_GROK_ADJUSTS: Mapping[str, Any] = {
    "refuses": ("thinking_budget", "verbosity", "stop"),
    "efforts": ("none", "low", "medium", "high"),
}
XAI = VendorRules(
    Rules(
        image_types=("image/png", "image/jpeg"),
        refuses={"thinking_budget", "verbosity"},
        blank_result="(no output)",
        null_content=False,
        most_tools=128,
    ),
    (
        ("grok-4*", _GROK_REASONS),
        *((name, _GROK_ADJUSTS) for name in (
            "grok-4.3*", "grok-4-0709", "grok-4-1-fast*", "grok-4-fast*", "grok-latest")),
        ("grok-4.20-multi-agent*", {**_GROK_ADJUSTS, "efforts": ("low", "medium", "high", "xhigh")}),
        ("grok-4.[5-9]", {**_GROK_ADJUSTS, "efforts": ("low", "medium", "high")}),
        ("grok-4.[5-9]-*", {**_GROK_ADJUSTS, "efforts": ("low", "medium", "high")}),
        ("grok-[56789]*", {**_GROK_ADJUSTS, "efforts": ("low", "medium", "high")}),
        ("grok-code*", {**_GROK_REASONS, "image_types": ()}),
        ("grok-[23]*", {"image_types": (), "refuses": _NO_REASONING}),
        ("grok-2-vision*", {"image_types": ("image/png", "image/jpeg")}),
        ("grok-3-mini*", {"refuses": ("thinking_budget", "verbosity", "stop"), "efforts": ("low", "high")}),
    ),
)  # fmt: skip

# openrouter.ai/docs: it adapts parameters and images to the model behind it, accepts files by URL, and relays reasoning
# unchanged (`reasoning_details`). It sends tools unchanged, so schemas and ids have the strictest common form.
OPENROUTER = VendorRules(
    Rules(
        id_pattern=SAFE_IDS,
        opaque=("openai:reasoning_details",),
        thinking="openrouter",
        first_user=True,
        file_types=(*PDF, *AUDIO),
        file_urls=True,
        blank_result="(no output)",
    )
)

# docs.perplexity.ai, Chat completions: roles alternate, the last message is the user's; there are no tools.
PERPLEXITY = VendorRules(
    Rules(first_user=True, last_user=True, alternate=True, system_first=True, refuses={
        "tools", "seed", "stop", "verbosity", "thinking_budget"}, efforts=("minimal", "low", "medium", "high"))
)  # fmt: skip

# inference-docs.cerebras.ai, Reasoning: gpt-oss has efforts and always reasons, GLM accepts `none`.
CEREBRAS = VendorRules(
    Rules(image_types=(), refuses={"thinking_budget", "verbosity"}, blank_result="(no output)"),
    (
        ("*llama*", {"refuses": _NO_REASONING}),
        ("*gpt-oss*", {"refuses": ("thinking_budget", "verbosity"), "efforts": ("low", "medium", "high")}),
        ("*glm*", {"refuses": ("thinking_budget", "verbosity"), "efforts": ("none",)}),
    ),
)
# help.aliyun.com, Qwen API: `enable_thinking`; audio by URL, no documents (pydantic-ai's Alibaba provider).
DASHSCOPE = VendorRules(
    Rules(
        last_user=True, blank_result="(no output)", thinking="enable_thinking", image_types=(), refuses={"verbosity"}
    ),
    (("*vl*", {"image_types": COMMON_IMAGES}), ("qwen3.[5-9]*", {"image_types": COMMON_IMAGES}), ("*omni*", {
        "image_types": COMMON_IMAGES, "file_types": AUDIO, "audio_addresses": True})),
)  # fmt: skip
# docs.z.ai, Chat completion: `thinking.type`, only `auto` for tools, one stop sequence, temperature from 0 to 1.
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
# platform.minimax.io, Text: temperature above 0 and at most 1, one system message.
MINIMAX = VendorRules(
    Rules(system_first=True, alternate=True, last_user=True, image_types=(), refuses=_NO_REASONING | {"seed"},
          hottest=1.0, blank_result="(no output)")
)  # fmt: skip
# docs.aws.amazon.com, Bedrock's chat completions URL: ids as in Converse. gpt-oss accepts no stop sequences
# (crewAIInc/crewAI#3317) and no forced tools (langchain-ai/langchain-aws#1278).
BEDROCK = VendorRules(
    Rules(id_pattern=SAFE_IDS, first_user=True, last_user=True, image_urls=False, refuses={
        "thinking_budget", "verbosity"}, blank_result="(no output)"),
    (("*gpt-oss*", {"refuses": ("thinking_budget", "verbosity", "stop"), "efforts": ("low", "medium", "high")}),),
)  # fmt: skip
# docs.cohere.com, Compatibility API and Chat V2: `tool_choice` cannot name a tool, effort is `none` or `high`.
COHERE = VendorRules(
    Rules(
        last_user=True,
        blank_result="(no output)",
        image_types=(),
        refuses={"thinking_budget", "verbosity"},
        efforts=("none", "high"),
        hottest=1.0,
        tool_choices=("none", "required"),
        named_choice=False,
        most_stops=5,
    ),
    (
        ("*command-r*", {"refuses": _NO_REASONING}),
        ("*vision*", {"image_types": COMMON_IMAGES}),
        ("*command-a-plus*", {"image_types": COMMON_IMAGES}),
    ),
)
HOSTED = VendorRules(Rules(refuses={"thinking_budget", "verbosity"}, blank_result="(no output)"))
"""Servers of open models (Together, Fireworks, gateways): their chat templates differ by model. Fireworks refuses
unknown fields of messages ("Extra inputs are not permitted, field: 'messages[8].reasoning'",
earendil-works/pi#4514), so none is sent."""

# Chat templates of open models: system first, roles alternate (vllm-project/vllm, ggml-org/llama.cpp). A last message
# of the assistant is refused when the template thinks ("prefill is incompatible with enable_thinking", llama.cpp#15404
# and #20861; anomalyco/opencode#27920), two of them always (NousResearch/hermes-agent#80265). llama.cpp, LM Studio and
# Ollama convert the tools' schemas into a grammar. The conversion fails, and with it the whole request, for patterns
# without anchors or with lookaround (containers/kubernetes-mcp-server#758, codefuturist/email-mcp#58), `not`
# (llama.cpp#17574), long texts and lists (firecrawl/firecrawl#4512) and schemas without a type (llama.cpp#19716).
_GRAMMARS = SchemaRules(
    patterns="none",
    typed=True,
    drops={"not", "maxLength", "maxItems", "minLength", "propertyNames"},
    items={"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}, {"type": "object"}]},
)
LOCAL = VendorRules(
    Rules(
        system_first=True,
        alternate=True,
        last_user=True,
        schemas=_GRAMMARS,
        image_urls=False,
        refuses={"thinking_budget", "verbosity"},
    ),
    (("*mistral*", {"id_pattern": "[a-zA-Z0-9]{9}", "id_prefix": "", "id_length": 9, "user_after_tool": False}),),
)

PLAIN = VendorRules()
"""Rules of a server of which nothing is known."""

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
        "cohere": COHERE,
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
"""The rules of the providers in the catalog, by the same names."""
