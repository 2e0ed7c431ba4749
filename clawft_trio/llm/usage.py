"""Reads the token usage that providers report for an answer, by dialect and vendor, without I/O.

Vendors count the same things differently. `_RULES` has the rule of each vendor; when `total_tokens` is sent and
contradicts the rule, the total decides:

| figure       | within                       | beside                        | only in the total                     |
|--------------|------------------------------|-------------------------------|---------------------------------------|
| reasoning    | OpenAI and most others       | xAI (chat completions)        | Gemini (OpenAI-compatible endpoints)  |
| cached input | OpenAI and most others       | Anthropic (Messages)          |                                       |

Figures that cannot be right (negative, fractional, over 2**53, booleans, NaN, a total below its parts) make the whole
usage invalid: the answer then counts as one without usage, and its usage is estimated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import attrs

from clawft_trio.attempts import MOST_TOKENS, Usage

Raw: TypeAlias = Mapping[str, Any]
"""A `usage` object as the provider sent it."""


@attrs.frozen(kw_only=True)
class UsageRule:
    """Counting rule of one vendor."""

    #: whether reasoning tokens are counted in `completion_tokens`, in addition to it, or only in `total_tokens`
    reasoning: Literal["within", "beside", "total"] = "within"
    #: whether cached input tokens are counted in `prompt_tokens`, or in addition to it
    cached: Literal["within", "beside"] = "within"
    #: service tiers with the price of the ordinary tier
    ordinary: frozenset[str] = frozenset()


_DEFAULT = UsageRule()

_RULES: Mapping[str, UsageRule] = MappingProxyType(
    {
        "xai": UsageRule(reasoning="beside"),
        "gemini": UsageRule(reasoning="total"),
        "vertex": UsageRule(reasoning="total"),
        # Flex processing at Groq costs the same as on demand.
        "groq": UsageRule(ordinary=frozenset({"flex"})),
    }
)
"""Rules by the provider's name in the catalog; all other providers count as OpenAI does."""

_ORDINARY = frozenset({"", "default", "standard", "auto", "on_demand"})
"""Names of the ordinary service tier."""

_NO_REGION = frozenset({"", "global", "not_available"})
"""Values of Anthropic's `inference_geo` that do not change the price."""

_TICKS = Decimal(10) ** 10
"""Number of xAI's `cost_in_usd_ticks` per dollar."""


@attrs.frozen(kw_only=True)
class UsageReading:
    """The result of reading a `usage` object."""

    #: the usage; None when no usage, or no valid usage, is reported
    usage: Usage | None = None
    #: what is wrong with the reported usage; empty when everything adds up
    problem: str = ""


NOTHING = UsageReading()

ReadUsage: TypeAlias = Callable[[Raw, str], UsageReading]
"""Reads a `usage` object of one dialect by the rule of a vendor."""


class UsageReader:
    """Combines the usage that one answer reports, in any number of pieces.

    Pieces are cumulative: the latest figure counts, and a zero or null never replaces a figure.

    Args:
      read: the dialect's function.
      vendor: the provider's name in the catalog.
    """

    __slots__ = ("_raw", "_read", "_vendor")

    def __init__(self, read: ReadUsage, vendor: str) -> None:
        self._read = read
        self._vendor = vendor
        self._raw: dict[str, Any] = {}

    def note(self, *raws: Any, service_tier: Any = None) -> UsageReading | None:
        """Add the next pieces, of any type, and return the usage so far; None when no piece reports usage.

        Args:
          raws: `usage` objects, in order of preference.
          service_tier: the service tier that the answer reports outside of its usage.
        """
        given = next((raw for raw in raws if isinstance(raw, Mapping) and raw), None)
        if isinstance(service_tier, str):
            self._raw["service_tier"] = service_tier
        if given is None:
            return None
        if any(self._raw.values()):
            # Servers that report usage twice send zeros the second time, also for figures that they omitted before.
            given = {name: value for name, value in given.items() if value or name in self._raw}
        _merge(self._raw, given)
        return self._read(self._raw, self._vendor)


def _merge(into: dict[str, Any], piece: Raw) -> None:
    for name, value in piece.items():
        before = into.get(name)
        if isinstance(value, Mapping):
            inner = dict(before) if isinstance(before, Mapping) else {}
            _merge(inner, value)
            into[name] = inner
        elif value or isinstance(value, bool) or not before:
            into[name] = value


def read_chat_usage(raw: Raw, vendor: str = "") -> UsageReading:
    """Read the usage of a chat completion."""
    return _reading(raw, vendor, _chat_parts)


def read_responses_usage(raw: Raw, vendor: str = "") -> UsageReading:
    """Read the usage of an answer of the Responses API. All vendors count reasoning within its output tokens."""
    return _reading(raw, vendor, _responses_parts)


def read_messages_usage(raw: Raw, vendor: str = "") -> UsageReading:
    """Read the usage of an answer of Anthropic's Messages API: its `input_tokens` do not include cached input."""
    return _reading(raw, vendor, _messages_parts)


@attrs.define(kw_only=True)
class _Parts:
    """The figures of an answer before it is known which figure contains which."""

    rule: UsageRule
    input: int
    output: int
    total: int | None = None
    cached: int = 0
    written: int = 0
    reasoning: int = 0
    #: figures that are the same under every rule, by their names in `Usage`
    others: dict[str, Any] = attrs.field(factory=dict)
    problem: str = ""


class _ImpossibleError(ValueError):
    """A figure that cannot be right."""


def _reading(raw: Raw, vendor: str, parts_of: Callable[[Raw, str], _Parts | None]) -> UsageReading:
    try:
        parts = parts_of(raw, vendor)
        cost = _cost(raw)
        if parts is None:
            return NOTHING
        if not (parts.input or parts.output or parts.cached or parts.written or parts.total or cost):
            # Servers that do not count send zeros.
            return NOTHING
        usage = _arranged(parts, cost=cost, service_tier=_tier(raw, parts.rule))
    except _ImpossibleError as exc:
        return UsageReading(problem=str(exc))
    problem = usage.problem()
    return UsageReading(problem=problem) if problem else UsageReading(usage=usage, problem=parts.problem)


def _chat_parts(raw: Raw, vendor: str) -> _Parts | None:
    if raw.get("prompt_tokens") is None and raw.get("completion_tokens") is None:
        # Servers that translate another dialect use its names.
        return _responses_parts(raw, vendor) if raw.get("output_tokens") is not None else None
    prompt, completion = _inner(raw, "prompt_tokens_details"), _inner(raw, "completion_tokens_details")
    return _Parts(
        rule=_RULES.get(vendor, _DEFAULT),
        input=_count(raw, "prompt_tokens"),
        output=_count(raw, "completion_tokens"),
        total=_total(raw),
        cached=_first(
            (prompt, "cached_tokens"),
            # Moonshot and Hugging Face; DeepSeek; Mistral; servers that use Anthropic's names.
            (raw, "cached_tokens"),
            (raw, "prompt_cache_hit_tokens"),
            (raw, "num_cached_tokens"),
            (raw, "cache_read_input_tokens"),
        ),
        written=_first(
            (prompt, "cache_write_tokens"),
            (prompt, "cache_creation_tokens"),
            # Alibaba; servers that use Anthropic's names.
            (prompt, "cache_creation_input_tokens"),
            (raw, "cache_creation_input_tokens"),
        ),
        reasoning=_first((completion, "reasoning_tokens"), (raw, "reasoning_tokens")),
        others={
            "input_audio_tokens": _count(prompt, "audio_tokens"),
            "output_audio_tokens": _count(completion, "audio_tokens"),
            "input_image_tokens": _count(prompt, "image_tokens"),
            "output_image_tokens": _count(completion, "image_tokens"),
            "web_searches": _searches(raw),
            "cache_write_1h_tokens": _first(
                (_inner(raw, "cache_creation"), "ephemeral_1h_input_tokens"),
                (_inner(prompt, "cache_creation_token_details"), "ephemeral_1h_input_tokens"),
            ),
        },
    )


def _responses_parts(raw: Raw, vendor: str) -> _Parts | None:
    if raw.get("input_tokens") is None and raw.get("output_tokens") is None:
        return None
    given, answer = _inner(raw, "input_tokens_details"), _inner(raw, "output_tokens_details")
    return _Parts(
        rule=attrs.evolve(_RULES.get(vendor, _DEFAULT), reasoning="within"),
        input=_count(raw, "input_tokens"),
        output=_count(raw, "output_tokens"),
        total=_total(raw),
        cached=_count(given, "cached_tokens"),
        written=_count(given, "cache_write_tokens"),
        reasoning=_count(answer, "reasoning_tokens"),
        others={
            "input_audio_tokens": _count(given, "audio_tokens"),
            "output_audio_tokens": _count(answer, "audio_tokens"),
            "input_image_tokens": _count(given, "image_tokens"),
            "output_image_tokens": _count(answer, "image_tokens"),
            "web_searches": _searches(raw),
        },
    )


def _messages_parts(raw: Raw, vendor: str) -> _Parts | None:
    if raw.get("input_tokens") is None and raw.get("output_tokens") is None:
        return None
    parts = _Parts(
        rule=attrs.evolve(_RULES.get(vendor, _DEFAULT), cached="beside", reasoning="within"),
        input=0,
        output=0,
        total=_total(raw),
        others={"cache_write_1h_tokens": 0, "web_searches": _searches(raw)},
    )
    _add_messages(parts, raw)
    steps = raw.get("iterations")
    for number, step in enumerate(steps if isinstance(steps, list) else ()):
        if not isinstance(step, Mapping):
            continue
        # A compaction is charged in addition to the figures of the answer, at the same price.
        if step.get("type") == "compaction":
            _add_messages(parts, step)
        elif step.get("type") == "advisor_message":
            parts.problem = f"iterations[{number}]: the tokens of {step.get('model')!r} are not in these figures"
    return parts


def _add_messages(parts: _Parts, raw: Raw) -> None:
    parts.input += _count(raw, "input_tokens")
    parts.output += _count(raw, "output_tokens")
    parts.cached += _count(raw, "cache_read_input_tokens")
    by_age = _inner(raw, "cache_creation")
    hour = _count(by_age, "ephemeral_1h_input_tokens")
    parts.written += _count(raw, "cache_creation_input_tokens") or hour + _count(by_age, "ephemeral_5m_input_tokens")
    parts.others["cache_write_1h_tokens"] += hour
    parts.reasoning += _count(_inner(raw, "output_tokens_details"), "thinking_tokens")


def _arranged(parts: _Parts, **others: Any) -> Usage:
    """Return the figures as `Usage` has them: cached input within the input, reasoning within the output."""
    if parts.total == parts.input + parts.output:
        # Nothing is counted separately. OpenRouter was seen to report one token more of reasoning than of output.
        parts.reasoning = min(parts.reasoning, parts.output)
    cached = parts.cached + parts.written
    beside_input = {"within": 0, "beside": cached}[parts.rule.cached]
    beside_output = {"within": 0, "beside": parts.reasoning, "total": parts.reasoning}[parts.rule.reasoning]
    if parts.total is None:
        # A part that is larger than its whole is counted separately from it.
        beside_input = cached if cached > parts.input else beside_input
        beside_output = parts.reasoning if parts.reasoning > parts.output else beside_output
    else:
        beside_input, beside_output = _explained(parts, beside_input, beside_output)
    output = parts.output + beside_output
    # When reasoning is reported only through the total, the rest of the total is reasoning.
    hidden = beside_output if parts.rule.reasoning == "total" and not parts.reasoning else 0
    return Usage(
        input_tokens=parts.input + beside_input,
        output_tokens=output,
        cached_tokens=parts.cached,
        cache_write_tokens=parts.written,
        reasoning_tokens=parts.reasoning or hidden,
        **parts.others,
        **others,
    )


def _explained(parts: _Parts, beside_input: int, beside_output: int) -> tuple[int, int]:
    """Return the tokens beside input and output that explain the total; the vendor's own rule is tried first."""
    assert parts.total is not None
    rest = parts.total - parts.input - parts.output
    cached, reasoning = parts.cached + parts.written, parts.reasoning
    ways = [
        (beside_input, beside_output),
        *((beside, more) for beside in (0, cached) for more in (0, reasoning)),
    ]
    possible = [
        (beside, more)
        for beside, more in ways
        if (beside or cached <= parts.input) and (more or reasoning <= parts.output)
    ]
    for way in possible:
        if sum(way) == rest:
            return way
    least = min(sum(way) for way in possible)
    if rest < least:
        raise _ImpossibleError(f"total_tokens is {parts.total}, less than its parts have together")
    if not (parts.rule.reasoning == "total" and reasoning == 0):
        parts.problem = f"total_tokens is {parts.total}, {rest - least} more than its parts: counted as output"
    beside = min(way[0] for way in possible)
    return beside, rest - beside


def _count(raw: Raw, name: str) -> int:
    value = raw.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_TOKENS:
        raise _ImpossibleError(f"{name} is {value!r:.40}, and a count is a whole number from 0 to 2**53")
    if value != int(value):
        raise _ImpossibleError(f"{name} is {value!r}, which is no whole number")
    return int(value)


def _total(raw: Raw) -> int | None:
    return None if raw.get("total_tokens") is None else _count(raw, "total_tokens")


def _first(*places: tuple[Raw, str]) -> int:
    """Return the first figure other than 0 in *places*, or 0."""
    return next((found for raw, name in places if (found := _count(raw, name))), 0)


def _inner(raw: Raw, name: str) -> Raw:
    value = raw.get(name)
    return value if isinstance(value, Mapping) else {}


def _searches(raw: Raw) -> int:
    return _first(
        (_inner(raw, "server_tool_use"), "web_search_requests"),
        # OpenRouter; Perplexity; xAI.
        (_inner(raw, "server_tool_use_details"), "web_search_requests"),
        (raw, "num_search_queries"),
        (raw, "num_sources_used"),
    )


def _tier(raw: Raw, rule: UsageRule) -> str:
    for name, ordinary in (("service_tier", _ORDINARY | rule.ordinary), ("speed", _ORDINARY)):
        value = raw.get(name)
        if isinstance(value, str) and value.lower() not in ordinary:
            return _word(value)
    region = raw.get("inference_geo")
    return f"region:{_word(region)}" if isinstance(region, str) and region not in _NO_REGION else ""


def _word(text: str) -> str:
    """Return *text* as a short name that can be stored and printed."""
    return "".join(char if char.isalnum() or char in "-_." else "_" for char in text[:40].lower())


def _cost(raw: Raw) -> Decimal | None:
    """Return the US dollars charged, as the answer reports them."""
    ticks = raw.get("cost_in_usd_ticks")
    if ticks is not None:
        return _dollars("cost_in_usd_ticks", ticks) / _TICKS
    cost = raw.get("cost")
    if isinstance(cost, Mapping):
        # Perplexity.
        cost = cost.get("total_cost")
    if cost is None:
        return None
    charged = _dollars("cost", cost)
    if raw.get("is_byok") is not True:
        return charged
    # OpenRouter with the user's own vendor key: `cost` is OpenRouter's fee alone, and the vendor charges that key.
    upstream = _inner(raw, "cost_details").get("upstream_inference_cost")
    return None if upstream is None else charged + _dollars("upstream_inference_cost", upstream)


def _dollars(name: str, value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_TOKENS:
        raise _ImpossibleError(f"{name} is {value!r:.40}, and a cost is a number of 0 or more")
    # Converted by `str`: 0.1 is a tenth and not its nearest binary fraction.
    return Decimal(str(value))
