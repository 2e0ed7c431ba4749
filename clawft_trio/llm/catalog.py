"""The catalog of providers: base URLs, environment variables for keys, quirks.

The catalog is data. A model is named `provider/model`, split at the first `/`: `openrouter/anthropic/claude-sonnet-4.5`
is the model `anthropic/claude-sonnet-4.5` of OpenRouter. An unknown provider is an error; nothing is sent elsewhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import urlsplit

import attrs

from clawft_trio.chat import Provider
from clawft_trio.errors import MissingKey, NotConfigured
from clawft_trio.llm.anthropic import Anthropic
from clawft_trio.llm.conform import VendorRules
from clawft_trio.llm.dialect import ApiKey
from clawft_trio.llm.http_provider import HttpProvider
from clawft_trio.llm.openai import Azure, OpenAICompatible
from clawft_trio.llm.openai_request import Quirks
from clawft_trio.llm.responses import OpenAIResponses
from clawft_trio.llm.vendors import PLAIN, VENDORS
from clawft_trio.llm.vendors_large import ANTHROPIC, RESPONSES
from clawft_trio.net.http import Clocks
from clawft_trio.similar import closest
from clawft_trio.target import split_name


@attrs.frozen(kw_only=True)
class KnownProvider:
    """Address, key variables and quirks of one provider."""

    #: base URL up to and including the API version; `{NAME}` in it is replaced by that environment variable
    base_url: str
    #: environment variables that may hold the key, in order of preference; empty when no key is needed
    key_variables: tuple[str, ...] = ()
    dialect: Literal["openai", "anthropic"] = "openai"
    quirks: Quirks = Quirks()
    #: what the provider's models accept; None for the defaults of the provider's name or dialect
    accepts: VendorRules | None = None
    #: environment variables that may hold the base URL; they override `base_url`
    url_variables: tuple[str, ...] = ()
    #: patterns of the models that are called through the Responses API, for example `gpt-5*-pro*`
    responses_models: tuple[str, ...] = ()
    #: whether requests are addressed as for Azure OpenAI
    azure: bool = False
    #: whether the server runs on this machine; a key is then optional
    local: bool = False
    #: headers of every request
    headers: Mapping[str, str] = attrs.field(factory=dict)


def _cloud(base_url: str, *key_variables: str, quirks: Quirks | None = None) -> KnownProvider:
    return KnownProvider(base_url=base_url, key_variables=key_variables, quirks=quirks or Quirks())


def _local(base_url: str, quirks: Quirks | None = None) -> KnownProvider:
    return KnownProvider(base_url=base_url, key_variables=("LOCAL_LLM_API_KEY",), quirks=quirks or Quirks(), local=True)


# Ollama sometimes sends complete answers without a finish reason; it sends `[DONE]` only at the end.
_OLLAMA = _local("http://localhost:11434/v1", Quirks(ends_with="done", think_tags=True))

# Without a reasoning parser, these servers leave the model's reasoning in the text, inside tags.
_TAGGED = Quirks(think_tags=True)

# Models that OpenAI offers through the Responses API only.
_RESPONSES_ONLY = ("*-codex*", "codex-*", "gpt-5*-pro*", "o1-pro*", "o3-pro*", "*-deep-research*", "computer-use-*")

LOCAL_FIRST_BYTE = 300.0
"""Seconds until the response headers of a local server, which may have to load the model first."""

KNOWN: Mapping[str, KnownProvider] = MappingProxyType(
    {
        "openai": KnownProvider(
            base_url="https://api.openai.com/v1",
            key_variables=("OPENAI_API_KEY",),
            quirks=Quirks(max_tokens_field="max_completion_tokens", prompt_cache_key=True),
            responses_models=_RESPONSES_ONLY,
        ),
        "anthropic": KnownProvider(
            base_url="https://api.anthropic.com/v1",
            key_variables=("ANTHROPIC_API_KEY",),
            dialect="anthropic",
        ),
        # The v1 address needs no api-version. With one (`OPENAI_API_VERSION`), the path names the deployment.
        "azure": KnownProvider(
            base_url="",
            key_variables=("AZURE_OPENAI_API_KEY",),
            url_variables=("AZURE_OPENAI_BASE_URL", "AZURE_OPENAI_ENDPOINT"),
            quirks=Quirks(max_tokens_field="max_completion_tokens"),
            azure=True,
        ),
        # The key is an access token that expires; pass a callable to return the current one.
        "vertex": _cloud(
            "https://{GOOGLE_CLOUD_LOCATION}-aiplatform.googleapis.com/v1/projects/{GOOGLE_CLOUD_PROJECT}"
            "/locations/{GOOGLE_CLOUD_LOCATION}/endpoints/openapi",
            "VERTEX_ACCESS_TOKEN",
            quirks=Quirks(returns=("extra_content",)),
        ),
        # The key is a Bedrock API key; with `sign=` requests are signed (SigV4) and no key is needed.
        "bedrock": _cloud("https://bedrock-runtime.{AWS_REGION}.amazonaws.com/openai/v1", "AWS_BEARER_TOKEN_BEDROCK"),
        "groq": _cloud("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
        "deepseek": _cloud(
            "https://api.deepseek.com/v1",
            "DEEPSEEK_API_KEY",
            quirks=Quirks(response_format="json_object", returns=("reasoning_content",)),
        ),
        # Mistral refuses unknown fields, and reports usage without being asked.
        "mistral": _cloud(
            "https://api.mistral.ai/v1", "MISTRAL_API_KEY", quirks=Quirks(include_usage=False, prompt_cache_key=True)
        ),
        "together": _cloud("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
        "openrouter": _cloud(
            "https://openrouter.ai/api/v1",
            "OPENROUTER_API_KEY",
            quirks=Quirks(returns=("reasoning_details",), cache_marks=("anthropic/*", "~anthropic/*")),
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
        "cohere": _cloud("https://api.cohere.ai/compatibility/v1", "COHERE_API_KEY", "CO_API_KEY"),
        "aihubmix": _cloud("https://aihubmix.com/v1", "AIHUBMIX_API_KEY"),
        "ollama": _OLLAMA,
        "local": _OLLAMA,
        "lmstudio": _local("http://localhost:1234/v1", _TAGGED),
        "llamacpp": _local("http://localhost:8080/v1", _TAGGED),
        "vllm": _local("http://localhost:8000/v1", _TAGGED),
    }
)
"""The known providers, by the name before the slash."""


def split_target(target: str) -> tuple[str, str]:
    """Split `provider/model` at the first slash and return the provider and the model.

    Raises:
      NotConfigured: one of the two parts is missing.
    """
    provider, model = split_name(target)
    if not (provider and model):
        raise NotConfigured(
            f"{target!r} does not name a model: write it as provider/model, for example openai/gpt-5-mini"
        )
    return provider, model


def known_provider(name: str, known: Mapping[str, KnownProvider] | None = None) -> KnownProvider:
    """Return the catalog entry of the provider called *name*.

    Raises:
      NotConfigured: the catalog has no such provider.
    """
    known = KNOWN if known is None else known
    if name in known:
        return known[name]
    close = closest(name, known)
    advice = f"did you mean {close[0]!r}?" if close else "known are " + ", ".join(sorted(known))
    raise NotConfigured(f"unknown provider {name!r}: {advice}", provider=name)


def find_key(name: str, spec: KnownProvider, environ: Mapping[str, str] | None = None) -> str | None:
    """Return the key for *spec* from *environ* (default: the environment of this process); None when none is needed.

    Raises:
      MissingKey: a key is needed and not set; the message names the variable to set.
    """
    # Not a default argument: documentation tools render defaults, and the environment holds keys.
    environ = os.environ if environ is None else environ
    for variable in spec.key_variables:
        key = environ.get(variable, "").strip()
        if key:
            return key
    if spec.local or not spec.key_variables:
        return None
    raise MissingKey(f"no key for {name!r}: set {' or '.join(spec.key_variables)}", provider=name)


def url_variable(name: str, spec: KnownProvider, environ: Mapping[str, str] | None = None) -> str | None:
    """Return the name of the variable in *environ* that holds the base URL of *spec*; None when none is set."""
    environ = os.environ if environ is None else environ
    # The usual variables are `GROQ_BASE_URL`, and the older `GROQ_API_BASE`.
    prefix = name.upper().replace("-", "_")
    variables = spec.url_variables or (f"{prefix}_BASE_URL", f"{prefix}_API_BASE")
    return next((variable for variable in variables if environ.get(variable, "").strip()), None)


def find_url(name: str, spec: KnownProvider, environ: Mapping[str, str] | None = None) -> str:
    """Return the base URL of *spec*, with variables replaced from *environ* (default: the environment of this process).

    Raises:
      NotConfigured: a variable that the URL needs is not set; the message names it.
    """
    environ = os.environ if environ is None else environ
    variable = url_variable(name, spec, environ)
    if variable is not None:
        url = environ[variable].strip()
        if not url.lower().startswith(("http://", "https://")):
            raise NotConfigured(f"{variable} must be a URL with http:// or https://", provider=name)
        # Anthropic's own libraries append /v1 to the value of this variable, so users set it without the version; and
        # a server on this machine is often named by its host and port alone.
        return with_version(url) if spec.dialect == "anthropic" or spec.local else url
    needed = list(dict.fromkeys(_VARIABLE.findall(spec.base_url)))
    missing = [variable for variable in needed if not environ.get(variable, "").strip()]
    if missing or not spec.base_url:
        advice = " and ".join(missing) or " or ".join(spec.url_variables)
        raise NotConfigured(f"no address for {name!r}: give base_url or set {advice}", provider=name)
    url = _VARIABLE.sub(lambda found: environ[found[1]].strip(), spec.base_url)
    # Vertex AI addresses its global location by a host name without a region.
    return url.replace("://global-aiplatform.", "://aiplatform.")


def with_version(url: str) -> str:
    """Return *url* with `/v1` appended to its path, unless the path already has a version."""
    path = urlsplit(url).path.rstrip("/")
    return url if _VERSION.search(path) else f"{url.rstrip('/')}/v1"


_VERSION = re.compile(r"/v\d+\w*(/|\Z)")

_VARIABLE = re.compile(r"\{([A-Z][A-Z0-9_]*)\}")


def provider_named(
    name: str,
    *,
    api_key: ApiKey = None,
    base_url: str | None = None,
    environ: Mapping[str, str] | None = None,
    known: Mapping[str, KnownProvider] | None = None,
    rules: Mapping[str, Mapping[str, Any]] | None = None,
    api_version: str | None = None,
    deployments: Mapping[str, str] | None = None,
    api: Literal["chat", "responses"] | None = None,
    **options: Any,
) -> HttpProvider:
    """Return the provider called *name*, to be used in an `async with`.

    Args:
      name: one of `KNOWN`.
      api_key: used instead of the key in the environment.
      base_url: used instead of the known URL.
      environ: where keys and addresses are looked up; None is the environment of this process.
      known: the catalog; None is `KNOWN`.
      rules: changes to what the models accept, by patterns of model names: `{"gpt-5*": {"refuses": ["temperature"]}}`.
      api_version: for Azure: put the deployment into the path, with this version; None reads `OPENAI_API_VERSION`, an
        empty string selects the v1 address.
      deployments: for Azure: deployment names by model, where they differ.
      api: use this API for all models; None selects the API by the model (`responses_models`).
      options: passed on to `OpenAICompatible`, `Anthropic` or `OpenAIResponses`.

    Raises:
      NotConfigured: the name is unknown, or there is no key or no address. Nothing has been sent.
      InvalidData: *rules* has a key that is not a rule.
    """
    spec = known_provider(name, known)
    # A signed request needs no key.
    unkeyed = api_key is None and options.get("sign") is not None
    key = None if unkeyed else find_key(name, spec, environ) if api_key is None else api_key
    address = base_url or find_url(name, spec, environ)
    options["headers"] = {**spec.headers, **(options.get("headers") or {})}
    if spec.local:
        options.setdefault("clocks", Clocks(first_byte=LOCAL_FIRST_BYTE))
    options.setdefault("key_variable", next(iter(spec.key_variables), ""))
    default = ANTHROPIC if spec.dialect == "anthropic" else PLAIN
    if api == "responses":
        if spec.dialect == "anthropic" or spec.azure:
            raise NotConfigured(f"{name!r} is not asked through the Responses API here", provider=name)
        options.setdefault("accepts", RESPONSES)
    accepts = options.pop("accepts", None) or spec.accepts or VENDORS.get(name, default)
    for pattern, changes in (rules or {}).items():
        accepts = accepts.with_family(pattern, **changes)
    if spec.dialect == "anthropic":
        return Anthropic(name, base_url=address, api_key=key, accepts=accepts, **options)
    if api == "responses":
        return OpenAIResponses(name, base_url=address, api_key=key, accepts=accepts, **options)
    options.setdefault("quirks", spec.quirks)
    options.setdefault("responses_models", spec.responses_models if api is None else ())
    if spec.azure:
        options["azure"] = _azure(address, api_version, deployments or {}, environ)
    return OpenAICompatible(name, base_url=address, api_key=key, accepts=accepts, **options)


def _azure(
    address: str, version: str | None, deployments: Mapping[str, str], environ: Mapping[str, str] | None
) -> Azure:
    if version is None:
        environ = os.environ if environ is None else environ
        version = environ.get("OPENAI_API_VERSION", "").strip()
    if address.rstrip("/").endswith("/v1"):
        version = ""
    elif not version:
        raise NotConfigured(
            "Azure is addressed either by a base URL that ends in /openai/v1, or by an api_version", provider="azure"
        )
    return Azure(api_version=version, deployments=deployments)


def vendor_at(url: str, known: Mapping[str, KnownProvider] | None = None) -> str:
    """Return the catalog's name of the provider with its API at *url*; empty when *url* belongs to no known vendor.

    A variable in a known address (a region, a project) matches any text without a slash.
    """
    found = url.strip().rstrip("/")
    if _AZURE.match(found):
        return "azure"
    for name, spec in (KNOWN if known is None else known).items():
        pattern = "[^/]+".join(map(re.escape, _VARIABLE.split(spec.base_url)[::2]))
        if spec.base_url and not spec.local and re.fullmatch(pattern, found):
            return name
    return ""


_AZURE = re.compile(r"https://[^/]+\.(openai|cognitiveservices|services\.ai)\.azure\.com(/|$)")


def vendor_of(provider: Provider) -> str:
    """Return the catalog's name of the vendor that *provider* calls, whatever its name and wrappers; or empty."""
    inner: object = provider
    while inner is not None and not isinstance(inner, HttpProvider):
        inner = getattr(inner, "provider", None)
    return "" if inner is None else vendor_at(inner.base_url)
