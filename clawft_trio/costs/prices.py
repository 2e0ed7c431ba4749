"""Prices of tokens: from the configuration, else from an installed price list, else unknown.

An unknown price stays unknown: an answer that used the prompt cache of a model without a known cache price has no price
at all, because any number would be invented.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias, cast

import attrs
import trio

from clawft_trio.attempts import Usage
from clawft_trio.costs.money import dollars
from clawft_trio.target import split_name

_MILLION = Decimal(1_000_000)


def _known(amount: Decimal | float | str | None) -> Decimal | None:
    """Convert a price that may be unknown."""
    return None if amount is None else dollars(amount)


@attrs.frozen(kw_only=True)
class TokenPrice:
    """US dollars for a million tokens of each kind. None is an unknown price, not 0."""

    #: input that is not cached
    input: Decimal = attrs.field(converter=dollars)
    #: output, reasoning included
    output: Decimal = attrs.field(converter=dollars)
    #: input read from the provider's prompt cache
    cached: Decimal | None = attrs.field(default=None, converter=_known)
    #: input written to the provider's prompt cache, for its usual time
    cache_write: Decimal | None = attrs.field(default=None, converter=_known)
    #: input written to the provider's prompt cache for an hour
    cache_write_1h: Decimal | None = attrs.field(default=None, converter=_known)
    #: output spent on reasoning; None is the price of other output, as providers count it
    reasoning: Decimal | None = attrs.field(default=None, converter=_known)
    #: audio in the input
    input_audio: Decimal | None = attrs.field(default=None, converter=_known)
    #: audio in the output
    output_audio: Decimal | None = attrs.field(default=None, converter=_known)
    #: images in the input; None is the price of other tokens, as most providers count them
    input_image: Decimal | None = attrs.field(default=None, converter=_known)
    #: images in the output
    output_image: Decimal | None = attrs.field(default=None, converter=_known)
    #: US dollars for a thousand searches that the provider runs itself
    web_search: Decimal | None = attrs.field(default=None, converter=_known)
    #: US dollars for each answer, in addition to its tokens
    per_request: Decimal = attrs.field(default=Decimal(0), converter=dollars)

    def _kinds(self, usage: Usage) -> tuple[tuple[str, int, Decimal | None], ...]:
        """Return the kinds of tokens of *usage*: name, number, and price of a million."""
        written = usage.cache_write_tokens - usage.cache_write_1h_tokens
        # Providers do not report which cached tokens are audio or images: all are counted as text.
        given = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
        audio = min(usage.input_audio_tokens, given)
        image = min(usage.input_image_tokens, given - audio)
        answer = usage.output_tokens - usage.reasoning_tokens
        spoken = min(usage.output_audio_tokens, answer)
        drawn = min(usage.output_image_tokens, answer - spoken)
        return (
            ("input", given - audio - image, self.input),
            ("cached input", usage.cached_tokens, self.cached),
            ("input written to the cache", written, self.cache_write),
            ("input written to the cache for an hour", usage.cache_write_1h_tokens, self.cache_write_1h),
            ("audio input", audio, self.input_audio),
            ("image input", image, self.input if self.input_image is None else self.input_image),
            ("output", answer - spoken - drawn, self.output),
            ("reasoning", usage.reasoning_tokens, self.output if self.reasoning is None else self.reasoning),
            ("audio output", spoken, self.output_audio),
            ("image output", drawn, self.output if self.output_image is None else self.output_image),
            ("web searches", usage.web_searches, None if self.web_search is None else self.web_search * 1000),
        )

    def unknown(self, usage: Usage) -> tuple[str, ...]:
        """Return the names of the kinds in *usage* without a known price."""
        return tuple(name for name, count, price in self._kinds(usage) if count and price is None)

    def cost(self, usage: Usage) -> Decimal | None:
        """Return the cost of *usage*; None when it has tokens of a kind without a known price."""
        kinds = self._kinds(usage)
        if any(count and price is None for _, count, price in kinds):
            return None
        return self.per_request + sum((count * (price or 0) for _, count, price in kinds), Decimal(0)) / _MILLION

    def at_most(self, input_tokens: int, output_tokens: int) -> Decimal:
        """Return the highest cost of so many tokens, of whichever kinds they are."""
        inputs = (
            self.input,
            self.cached,
            self.cache_write,
            self.cache_write_1h,
            self.input_audio,
            self.input_image,
        )
        outputs = (self.output, self.reasoning, self.output_audio, self.output_image)
        dearest_input, dearest_output = (max(filter(None, kinds), default=Decimal(0)) for kinds in (inputs, outputs))
        return self.per_request + (input_tokens * dearest_input + output_tokens * dearest_output) / _MILLION


@attrs.frozen(kw_only=True)
class LongContextPrice(TokenPrice):
    """The price of answers to long inputs, for all of their tokens."""

    #: number of input tokens above which the price applies
    above: int = attrs.field(validator=attrs.validators.gt(0))


@attrs.frozen(kw_only=True)
class ModelPrice(TokenPrice):
    """US dollars for a million tokens of each kind, with the prices of other service tiers and of long inputs."""

    #: prices by the service tier that the answer names: `flex`, `priority`, `batch`, ...
    service_tiers: Mapping[str, TokenPrice] = attrs.field(factory=dict)
    #: the price of answers to long inputs
    long_context: LongContextPrice | None = None

    @classmethod
    def flat(cls, per_1k_tokens: Decimal | float | str) -> ModelPrice:
        """Make a price that is the same for every kind, as in tiers: US dollars for 1 000 tokens."""
        each = dollars(per_1k_tokens) * 1000
        return cls(
            input=each,
            output=each,
            cached=each,
            cache_write=each,
            cache_write_1h=each,
            reasoning=each,
            input_audio=each,
            output_audio=each,
            input_image=each,
            output_image=each,
            web_search=0,
        )

    def at(self, input_tokens: int, service_tier: str = "") -> TokenPrice | None:
        """Return the price of an answer to *input_tokens* on *service_tier*; None when that tier has no known price."""
        if service_tier:
            return self.service_tiers.get(service_tier)
        if self.long_context is not None and input_tokens > self.long_context.above:
            return self.long_context
        return self


class Priced(Protocol):
    """A target with the attributes that its price depends on, such as `pipeline.Target`."""

    @property
    def provider(self) -> str:
        """Name of the provider, before the slash."""
        ...

    @property
    def model(self) -> str:
        """Name of the model as the provider knows it."""
        ...

    @property
    def name(self) -> str:
        """The name `provider/model`."""
        ...

    @property
    def cost_per_1k_tokens(self) -> Decimal | None:
        """The tier's price of 1 000 tokens in US dollars; None when it has none."""
        ...


class PriceList(Protocol):
    """A function that returns the listed price of a model."""

    def __call__(
        self, provider: str, model: str, input_tokens: int, when: datetime, /, *, service_tier: str = ""
    ) -> TokenPrice | None:
        """Return the price of an answer to *input_tokens* at *when*; None when it is not in the list.

        Args:
          service_tier: the tier that the answer names; empty for the ordinary one.
        """
        ...


class WindowList(Protocol):
    """A price list that also has the context windows of its models."""

    def context_window(self, provider: str, model: str, /) -> int | None:
        """Return the window of *model* in tokens, input and output together; None when it is not in the list."""
        ...


Explicit: TypeAlias = Mapping[str, ModelPrice]
"""Prices by `provider/model`."""

_NONE: Explicit = MappingProxyType({})
_NO_NAMES: Mapping[str, str] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class Found:
    """A price, or the reason why there is none."""

    price: TokenPrice | None = None
    #: the reason why there is no price; empty when there is one
    why: str = ""


@attrs.frozen(kw_only=True)
class Prices:
    """The sources of prices, in order; the first source that has a price is used.

    Args:
      explicit: prices from the configuration, by `provider/model`.
      listed: price list for models that the configuration does not name.
      unlisted: names of providers, before the slash, that are not the vendor of that name (another address, a
        gateway): the list does not apply to them.
      vendors: for names of providers, before the slash, the vendor of the list that they are.
      aliases: for the name of a target, the `provider/model` that has its price: Azure deployments, names with a
        region. A name may end in `*`, and so may its alias: `bedrock/eu.*` as `bedrock/*`.
    """

    explicit: Explicit = _NONE
    listed: PriceList | None = None
    unlisted: Collection[str] = frozenset()
    vendors: Mapping[str, str] = _NO_NAMES
    aliases: Mapping[str, str] = _NO_NAMES

    def of(self, target: Priced, input_tokens: int, when: datetime, *, service_tier: str = "") -> TokenPrice | None:
        """Return the price of *target* for an answer to *input_tokens* (long inputs may cost more); None: unpriced."""
        return self.find(target, input_tokens, when, service_tier=service_tier).price

    def find(self, target: Priced, input_tokens: int, when: datetime, *, service_tier: str = "") -> Found:
        """Return the price of *target*, or the reason why it has none."""
        alias = self._alias(target.name)
        for name in (target.name, alias):
            if name in self.explicit:
                return _at_tier(self.explicit[name].at(input_tokens, service_tier), name, service_tier)
        if target.cost_per_1k_tokens is not None:
            return Found(price=ModelPrice.flat(target.cost_per_1k_tokens))
        return self._in_list(target, alias, input_tokens, when, service_tier)

    def context_window(self, target: Priced) -> int | None:
        """Return the window of *target*, input and output together; None when the list has none."""
        alias = self._alias(target.name)
        listed: object = self.listed
        # Not `isinstance`, which for a protocol is slower than the rest of this function, and every request calls it.
        if not hasattr(listed, "context_window") or (not alias and target.provider in self.unlisted):
            return None
        return cast("WindowList", listed).context_window(*self._listed_as(target, alias))

    def _listed_as(self, target: Priced, alias: str) -> tuple[str, str]:
        """Return the vendor and the model of *target* in the list."""
        provider, model = split_name(alias) if alias else (target.provider, target.model)
        return self.vendors.get(provider, provider), model

    def _in_list(self, target: Priced, alias: str, input_tokens: int, when: datetime, tier: str) -> Found:
        provider, model = self._listed_as(target, alias)
        if self.listed is None:
            return Found(why=f"{target.name} has no price in the configuration, and no price list is loaded")
        if not alias and target.provider in self.unlisted:
            return Found(
                why=f"{target.provider!r} is not at the address of the vendor of that name, so no price list holds for "
                f"it: give {target.name} a price, or an alias in `price_aliases`"
            )
        if not tier:
            # A list made by the user may lack the parameter.
            price = self.listed(provider, model, input_tokens, when)
        else:
            price = self.listed(provider, model, input_tokens, when, service_tier=tier)
            if price is None and self.listed(provider, model, input_tokens, when) is not None:
                return _at_tier(None, f"{provider}/{model}", tier)
        return Found(price=price) if price is not None else Found(why=f"{provider}/{model} is not in the price list")

    def _alias(self, name: str) -> str:
        if name in self.aliases:
            return self.aliases[name]
        for pattern, alias in self.aliases.items():
            if pattern.endswith("*") and name.startswith(pattern[:-1]):
                rest = name[len(pattern) - 1 :]
                return alias[:-1] + rest if alias.endswith("*") else alias
        return ""


def _at_tier(price: TokenPrice | None, name: str, tier: str) -> Found:
    return Found(price=price) if price is not None else Found(why=f"{name} has no price for the service tier {tier!r}")


def tier_prices(targets: Iterable[Priced]) -> dict[str, ModelPrice]:
    """Return the prices of targets in tiers, lowest tier first: the lowest tier of a target counts."""
    found: dict[str, ModelPrice] = {}
    for target in targets:
        if target.cost_per_1k_tokens is not None:
            found.setdefault(target.name, ModelPrice.flat(target.cost_per_1k_tokens))
    return found


_IN_THE_LIST: Mapping[str, str] = MappingProxyType(
    {
        "openai": "openai",
        "anthropic": "anthropic",
        "groq": "groq",
        "deepseek": "deepseek",
        "mistral": "mistral",
        "together": "together",
        "openrouter": "openrouter",
        "gemini": "google",
        "xai": "x-ai",
        "fireworks": "fireworks",
        "cerebras": "cerebras",
        "perplexity": "perplexity",
        "moonshot": "moonshotai",
        "zhipu": "zhipuai",
        "minimax": "minimax",
    }
)
"""The list's names for our providers. The list itself would also match `my-openai` with OpenAI."""

_OTHER_VENDORS: Mapping[str, str] = MappingProxyType(
    {
        "azure": "azure",
        "bedrock": "aws",
        "google": "google",
        "vertex": "google",
        "cohere": "cohere",
        "databricks": "databricks",
        "novita": "novita",
        "zai": "zai",
    }
)
"""Names that aliases may use for vendors that are not in the catalog."""

_KEPT = 1000
"""Number of models whose prices are cached; looking one up takes about 100 µs."""


async def load_price_list() -> PriceList | None:
    """Load the prices of genai-prices; return None if it is not installed.

    Importing it takes a quarter of a second, so that happens in a thread.

    Cancellation: delayed until it is loaded.
    """
    return await trio.to_thread.run_sync(_load)


def _load() -> PriceList | None:
    try:
        library = importlib.import_module("genai_prices")
    except ImportError:
        return None
    prices = _GenaiPrices(library)
    # The first call reads the whole list.
    prices("openai", "gpt-4o", 0, datetime.now(UTC))
    return prices


class _GenaiPrices:
    """The list of genai-prices, for providers with an exact name only."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._found: dict[tuple[str, str, str, str], Any] = {}
        self._windows: dict[tuple[str, str], int | None] = {}

    def __call__(
        self, provider: str, model: str, input_tokens: int, when: datetime, /, *, service_tier: str = ""
    ) -> TokenPrice | None:
        known = _IN_THE_LIST.get(provider) or _OTHER_VENDORS.get(provider)
        found = None if known is None else self._lookup(known, model, when, service_tier)
        return None if found is None else _converted(found, input_tokens)

    def context_window(self, provider: str, model: str, /) -> int | None:
        """Return the window of *model*; see `WindowList`."""
        key = (provider, model)
        if key not in self._windows:
            if len(self._windows) >= _KEPT:
                self._windows.clear()
            self._windows[key] = self._window(provider, model)
        return self._windows[key]

    def _window(self, provider: str, model: str) -> int | None:
        known = _IN_THE_LIST.get(provider) or _OTHER_VENDORS.get(provider)
        if known is None:
            return None
        nothing = self._library.Usage(input_tokens=0, output_tokens=0)
        try:
            found = self._library.calc_price(nothing, model, provider_id=known)
        except LookupError:
            return None
        window: int | None = found.model.context_window
        return window

    def _lookup(self, provider: str, model: str, when: datetime, tier: str) -> Any:
        # Some prices change with the time of day, to the minute.
        key = (provider, model, tier, f"{when.astimezone(UTC):%Y-%m-%dT%H:%M}")
        if key not in self._found:
            if len(self._found) >= _KEPT:
                self._found.clear()
            self._found[key] = self._look_up(provider, model, when, tier)
        return self._found[key]

    def _look_up(self, provider: str, model: str, when: datetime, tier: str) -> Any:
        nothing = self._library.Usage(input_tokens=0, output_tokens=0)
        # The list's parameter for the tier differs between vendors.
        context = {name: tier for name in ("service_tier", "processing", "speed") if tier}
        try:
            found = self._library.calc_price(
                nothing, model, provider_id=provider, genai_request_timestamp=when, price_context=context
            )
        except LookupError:
            return None
        if tier and not any(tier in variant.when.values() for variant in found.model.price_variants or ()):
            return None
        return found.model_price


def _converted(found: Any, input_tokens: int) -> TokenPrice | None:
    def at(name: str) -> Decimal | None:
        return _at(getattr(found, name), input_tokens)

    given, answer = at("input_mtok"), at("output_mtok")
    if given is None or answer is None:
        return None
    return TokenPrice(
        input=given,
        output=answer,
        cached=at("cache_read_mtok"),
        cache_write=at("cache_write_mtok"),
        cache_write_1h=at("cache_write_1h_mtok"),
        reasoning=at("output_reasoning_mtok"),
        # A kind without a price in the list has the price of text.
        input_audio=at("input_audio_mtok") or given,
        output_audio=at("output_audio_mtok") or answer,
        input_image=at("input_image_mtok"),
        output_image=at("output_image_mtok"),
        web_search=at("web_searches_kcount"),
        per_request=(at("requests_kcount") or Decimal(0)) / 1000,
    )


def _at(price: Any, input_tokens: int) -> Decimal | None:
    """Return a price for *input_tokens*. Above a threshold, all tokens have the higher price of long inputs."""
    if price is None or isinstance(price, Decimal):
        return price
    over = [tier.price for tier in price.tiers if input_tokens > tier.start]
    found: Decimal = over[-1] if over else price.base
    return found
