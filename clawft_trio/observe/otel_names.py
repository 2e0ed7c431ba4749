"""Names in OpenTelemetry's conventions for generative AI, by version: tables only.

All versions have the status *Development*, and names have changed twice; so the user chooses the version. Names that
begin with `clawft.` are this library's, for what the conventions do not cover.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import attrs

Version: TypeAlias = Literal["1.36", "1.44", "2026-10"]
"""`1.36`: the last version with `gen_ai.system`. `1.44`: the last version in the general conventions (Python package
0.66b2). `2026-10`: the conventions' own repository, semantic-conventions-genai, as of October 2026."""


@attrs.frozen(kw_only=True)
class Names:
    """The names that differ between the versions."""

    #: attribute: provider of the model
    provider: str = "gen_ai.provider.name"
    #: attributes: input tokens read from the provider's cache, and input tokens written to it
    cached_tokens: str = "gen_ai.usage.cache_read.input_tokens"
    cache_write_tokens: str = "gen_ai.usage.cache_creation.input_tokens"
    reasoning_tokens: str = "gen_ai.usage.reasoning.output_tokens"
    #: histograms in seconds
    call_duration: str = "gen_ai.client.operation.duration"
    first_chunk: str = "gen_ai.client.operation.time_to_first_chunk"
    tool_duration: str = "clawft.execute_tool.duration"
    turn_duration: str = "clawft.invoke_agent.duration"
    #: histogram of tokens with the attribute `gen_ai.token.type`; empty when counters replace it
    token_usage: str = "gen_ai.client.token.usage"  # noqa: S105  # a name
    #: counters of tokens; empty when the histogram is used
    input_tokens: str = ""
    output_tokens: str = ""


VERSIONS: Final[Mapping[Version, Names]] = MappingProxyType(
    {
        "1.36": Names(
            provider="gen_ai.system",
            cached_tokens="clawft.usage.cache_read.input_tokens",
            cache_write_tokens="clawft.usage.cache_creation.input_tokens",
            reasoning_tokens="clawft.usage.reasoning.output_tokens",
            first_chunk="clawft.client.operation.time_to_first_chunk",
        ),
        "1.44": Names(),
        "2026-10": Names(
            cache_write_tokens="gen_ai.usage.cache_write.input_tokens",
            call_duration="gen_ai.client.inference.duration",
            first_chunk="gen_ai.client.inference.time_to_first_chunk",
            tool_duration="gen_ai.execute_tool.duration",
            turn_duration="gen_ai.invoke_agent.duration",
            token_usage="",
            input_tokens="gen_ai.client.inference.usage.input_tokens",
            output_tokens="gen_ai.client.inference.usage.output_tokens",
        ),
    }
)

PROVIDERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "mistral": "mistral_ai",
        "xai": "x_ai",
        "gemini": "gcp.gemini",
        "google": "gcp.gemini",
        "vertex": "gcp.vertex_ai",
        "azure": "azure.ai.openai",
        "bedrock": "aws.bedrock",
        "watsonx": "ibm.watsonx.ai",
        "moonshot": "moonshot_ai",
        "moonshotai": "moonshot_ai",
        "kimi": "moonshot_ai",
        "mistralai": "mistral_ai",
        "grok": "x_ai",
        "vertexai": "gcp.vertex_ai",
        "vertex-ai": "gcp.vertex_ai",
        "azure-openai": "azure.ai.openai",
        "azure_openai": "azure.ai.openai",
        "claude": "anthropic",
    }
)
"""Provider names of the conventions where they differ from this package's; all others are the same."""

OPTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "max_tokens": "gen_ai.request.max_tokens",
        "temperature": "gen_ai.request.temperature",
        "top_p": "gen_ai.request.top_p",
        "top_k": "gen_ai.request.top_k",
        "frequency_penalty": "gen_ai.request.frequency_penalty",
        "presence_penalty": "gen_ai.request.presence_penalty",
        "seed": "gen_ai.request.seed",
        "stop": "gen_ai.request.stop_sequences",
        "n": "gen_ai.request.choice.count",
        "stream": "gen_ai.request.stream",
        "reasoning_effort": "gen_ai.request.reasoning.level",
    }
)
"""Attributes of request options, by the names in `AttemptStarted.options`."""

FRACTIONS: Final = frozenset(
    f"gen_ai.request.{name}" for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty")
)
"""Attributes of type double."""

SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""Histogram boundaries that the conventions recommend for durations."""

TOKENS: Final = tuple(4**power for power in range(14))
"""Histogram boundaries that the conventions recommend for tokens."""
