"""The providers known by name: where they are, which variable holds their key, and what is odd about them.

All of it is data. A model is `provider/model`, split at the first `/`: `openrouter/anthropic/claude-sonnet-4.5` is the
model `anthropic/claude-sonnet-4.5` of OpenRouter. What is not known by name is an error, never sent elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Literal

import attrs

from clawft_trio.errors import NotConfigured
from clawft_trio.llm.anthropic import Anthropic
from clawft_trio.llm.exchange import ApiKey
from clawft_trio.llm.http_model import HttpModel
from clawft_trio.llm.openai import OpenAICompatible
from clawft_trio.llm.openai_request import Quirks


@attrs.frozen(kw_only=True)
class KnownProvider:
    """How to reach one provider."""

    #: up to and including the version of its API
    base_url: str
    #: the environment variables that may hold its key, the first one first; empty when it needs none
    key_variables: tuple[str, ...] = ()
    dialect: Literal["openai", "anthropic"] = "openai"
    quirks: Quirks = Quirks()
    #: runs on this machine: a key is sent only when there is one
    local: bool = False
    #: sent with every request
    headers: Mapping[str, str] = attrs.field(factory=dict)


def _cloud(base_url: str, *key_variables: str, quirks: Quirks | None = None) -> KnownProvider:
    return KnownProvider(base_url=base_url, key_variables=key_variables, quirks=quirks or Quirks())


def _local(base_url: str, quirks: Quirks | None = None) -> KnownProvider:
    return KnownProvider(base_url=base_url, key_variables=("LOCAL_LLM_API_KEY",), quirks=quirks or Quirks(), local=True)


# Ollama was seen to leave the finish reason of whole answers empty; `[DONE]` it sends only at the end.
_OLLAMA = _local("http://localhost:11434/v1", Quirks(ends_with="done"))

KNOWN: Mapping[str, KnownProvider] = MappingProxyType(
    {
        "openai": _cloud(
            "https://api.openai.com/v1",
            "OPENAI_API_KEY",
            quirks=Quirks(max_tokens_field="max_completion_tokens", prompt_cache_key=True),
        ),
        "anthropic": KnownProvider(
            base_url="https://api.anthropic.com/v1", key_variables=("ANTHROPIC_API_KEY",), dialect="anthropic"
        ),
        "groq": _cloud("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
        "deepseek": _cloud(
            "https://api.deepseek.com/v1",
            "DEEPSEEK_API_KEY",
            quirks=Quirks(response_format="json_object", returns=("reasoning_content",)),
        ),
        # Mistral refuses fields that it does not know, and reports usage unasked.
        "mistral": _cloud("https://api.mistral.ai/v1", "MISTRAL_API_KEY", quirks=Quirks(include_usage=False)),
        "together": _cloud("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
        "openrouter": _cloud(
            "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", quirks=Quirks(returns=("reasoning_details",))
        ),
        "gemini": _cloud(
            "https://generativelanguage.googleapis.com/v1beta/openai",
            "GEMINI_API_KEY",
            "GOOGLE_API_KEY",
            "GOOGLE_GEMINI_API_KEY",
            quirks=Quirks(returns=("extra_content",)),
        ),
        "xai": _cloud("https://api.x.ai/v1", "XAI_API_KEY"),
        "fireworks": _cloud("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
        "cerebras": _cloud("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
        "perplexity": _cloud("https://api.perplexity.ai", "PERPLEXITY_API_KEY"),
        "moonshot": _cloud(
            "https://api.moonshot.ai/v1", "MOONSHOT_API_KEY", quirks=Quirks(returns=("reasoning_content",))
        ),
        "zhipu": _cloud("https://open.bigmodel.cn/api/paas/v4", "ZHIPU_API_KEY", "ZAI_API_KEY"),
        "dashscope": _cloud("https://dashscope.aliyuncs.com/compatible-mode/v1", "DASHSCOPE_API_KEY"),
        "minimax": _cloud("https://api.minimax.io/v1", "MINIMAX_API_KEY"),
        "aihubmix": _cloud("https://aihubmix.com/v1", "AIHUBMIX_API_KEY"),
        "ollama": _OLLAMA,
        "local": _OLLAMA,
        "lmstudio": _local("http://localhost:1234/v1"),
        "llamacpp": _local("http://localhost:8080/v1"),
        "vllm": _local("http://localhost:8000/v1"),
    }
)
"""The known providers, by the name before the slash."""


def split_target(target: str) -> tuple[str, str]:
    """The provider and the model of `provider/model`. Only the first slash divides.

    Raises:
      NotConfigured: one of the two is missing.
    """
    provider, slash, model = target.partition("/")
    if not (provider and slash and model):
        raise NotConfigured(
            f"{target!r} does not name a model: write it as provider/model, for example openai/gpt-5-mini"
        )
    return provider, model


def known_provider(name: str, known: Mapping[str, KnownProvider] | None = None) -> KnownProvider:
    """What is known of the provider called *name*.

    Raises:
      NotConfigured: there is none.
    """
    known = KNOWN if known is None else known
    if name in known:
        return known[name]
    close = get_close_matches(name, known, n=1)
    advice = f"did you mean {close[0]!r}?" if close else "known are " + ", ".join(sorted(known))
    raise NotConfigured(f"unknown provider {name!r}: {advice}", provider=name)


def find_key(name: str, spec: KnownProvider, environ: Mapping[str, str] | None = None) -> str | None:
    """The key for *spec* out of *environ*, by default the process's; None where none is needed.

    Raises:
      NotConfigured: there is none and one is needed; the message names the variable to set.
    """
    # Not a default: rendered signatures show defaults, and these are everybody's keys.
    environ = os.environ if environ is None else environ
    for variable in spec.key_variables:
        key = environ.get(variable, "").strip()
        if key:
            return key
    if spec.local or not spec.key_variables:
        return None
    raise NotConfigured(f"no key for {name!r}: set {' or '.join(spec.key_variables)}", provider=name)


def provider_named(
    name: str,
    *,
    api_key: ApiKey = None,
    base_url: str | None = None,
    environ: Mapping[str, str] | None = None,
    known: Mapping[str, KnownProvider] | None = None,
    **options: Any,
) -> HttpModel:
    """Make the provider called *name*; it is used in an `async with`.

    Args:
      name: one of `KNOWN`.
      api_key: instead of what the environment holds.
      base_url: instead of the known one.
      environ: where keys are looked up; None is the process's environment.
      known: the providers that there are; None is `KNOWN`.
      options: passed on to `OpenAICompatible` or `Anthropic`.

    Raises:
      NotConfigured: the name is unknown, or there is no key; before anything is sent.
    """
    spec = known_provider(name, known)
    key = find_key(name, spec, environ) if api_key is None else api_key
    options["headers"] = {**spec.headers, **(options.get("headers") or {})}
    options.setdefault("key_variable", next(iter(spec.key_variables), ""))
    address = base_url or spec.base_url
    if spec.dialect == "anthropic":
        return Anthropic(name, base_url=address, api_key=key, **options)
    options.setdefault("quirks", spec.quirks)
    return OpenAICompatible(name, base_url=address, api_key=key, **options)
