"""What tokens cost: from the config, else from a price list where one is installed, else nobody knows.

A price that is not known stays unknown: an answer that used the prompt cache of a model whose cache price nobody has
told is unpriced as a whole, because any number for it would be made up.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

import attrs
import trio

from clawft_trio.attempts import Usage
from clawft_trio.costs.money import dollars

_MILLION = Decimal(1_000_000)


@attrs.frozen(kw_only=True)
class ModelPrice:
    """US dollars for a million tokens of each kind. None is not known, which is not 0."""

    input: Decimal = attrs.field(converter=dollars)
    output: Decimal = attrs.field(converter=dollars)
    #: input read from the provider's prompt cache
    cached: Decimal | None = attrs.field(default=None, converter=attrs.converters.optional(dollars))
    #: input written to the provider's prompt cache
    cache_write: Decimal | None = attrs.field(default=None, converter=attrs.converters.optional(dollars))
    #: output spent on reasoning; None is as other output, since that is what providers count it as
    reasoning: Decimal | None = attrs.field(default=None, converter=attrs.converters.optional(dollars))
    #: US dollars for each answer, whatever its tokens
    per_request: Decimal = attrs.field(default=Decimal(0), converter=dollars)

    @classmethod
    def flat(cls, per_1k_tokens: Decimal | float | str) -> ModelPrice:
        """The same for tokens of every kind, as tiers have it: US dollars for 1 000 of them."""
        each = dollars(per_1k_tokens) * 1000
        return cls(input=each, output=each, cached=each, cache_write=each, reasoning=each)

    def cost(self, usage: Usage) -> Decimal | None:
        """What *usage* costs; None when it has tokens of a kind whose price is not known."""
        cached, written, reasoned = usage.cached_tokens, usage.cache_write_tokens, usage.reasoning_tokens
        kinds = (
            (max(0, usage.input_tokens - cached - written), self.input),
            (cached, self.cached),
            (written, self.cache_write),
            (max(0, usage.output_tokens - reasoned), self.output),
            (reasoned, self.output if self.reasoning is None else self.reasoning),
        )
        total = self.per_request
        for tokens, price in kinds:
            if tokens and price is None:
                return None
            total += tokens * (price or 0) / _MILLION
        return total

    def at_most(self, input_tokens: int, output_tokens: int) -> Decimal:
        """What so many tokens can cost, whichever kinds they turn out to be of."""
        dearest_input = max(filter(None, (self.input, self.cached, self.cache_write)), default=Decimal(0))
        dearest_output = max(self.output, self.reasoning or Decimal(0))
        return self.per_request + (input_tokens * dearest_input + output_tokens * dearest_output) / _MILLION


class Priced(Protocol):
    """A target, as far as its price goes: `pipeline.Target` is one."""

    @property
    def provider(self) -> str:
        """The name before the slash."""
        ...

    @property
    def model(self) -> str:
        """As the provider knows it."""
        ...

    @property
    def name(self) -> str:
        """`provider/model`."""
        ...

    @property
    def cost_per_1k_tokens(self) -> Decimal | None:
        """What its tier says 1 000 tokens cost, in US dollars."""
        ...


class PriceList(Protocol):
    """Somebody who knows what models cost."""

    def __call__(self, provider: str, model: str, input_tokens: int, when: datetime, /) -> ModelPrice | None:
        """The price of an answer to *input_tokens* at *when*; None when it is not in the list."""
        ...


Explicit: TypeAlias = Mapping[str, ModelPrice]
"""Prices by `provider/model`."""

_NONE: Explicit = MappingProxyType({})


@attrs.frozen(kw_only=True)
class Prices:
    """Where prices come from, the first that knows one.

    Args:
      explicit: from the config, by `provider/model`.
      listed: for what the config does not name.
      unlisted: providers, by the name before the slash, that are not who their name says (an address of one's own, a
        gateway): no list speaks for them.
    """

    explicit: Explicit = _NONE
    listed: PriceList | None = None
    unlisted: Collection[str] = frozenset()

    def of(self, target: Priced, input_tokens: int, when: datetime) -> ModelPrice | None:
        """The price of *target* for an answer to *input_tokens* (long ones may cost more a token); None: unpriced."""
        if target.name in self.explicit:
            return self.explicit[target.name]
        if target.cost_per_1k_tokens is not None:
            return ModelPrice.flat(target.cost_per_1k_tokens)
        if self.listed is None or target.provider in self.unlisted:
            return None
        return self.listed(target.provider, target.model, input_tokens, when)


def tier_prices(targets: Iterable[Priced]) -> dict[str, ModelPrice]:
    """The prices that tiers give their targets, lowest tier first: in several, the lowest counts."""
    found: dict[str, ModelPrice] = {}
    for target in targets:
        if target.cost_per_1k_tokens is not None:
            found.setdefault(target.name, ModelPrice.flat(target.cost_per_1k_tokens))
    return found


# --- genai-prices --------------------------------------------------------------------------------------

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
"""Our names for providers and the list's, which would take `my-openai` for OpenAI, too."""

_KEPT = 1000
"""Models whose price is remembered; looking one up takes about 100 µs."""


async def load_price_list() -> PriceList | None:
    """The prices of genai-prices, or None where it is not installed.

    Importing it takes a quarter of a second, so that happens in a thread.

    Cancellation: waits until it is loaded.
    """
    return await trio.to_thread.run_sync(_load)


def _load() -> PriceList | None:
    try:
        library = importlib.import_module("genai_prices")
    except ImportError:
        return None
    prices = _GenaiPrices(library)
    # The first question reads the whole list.
    prices("openai", "gpt-4o", 0, datetime.now(UTC))
    return prices


class _GenaiPrices:
    """The list of genai-prices, asked for one provider by its exact name."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self._found: dict[tuple[str, str, str], Any] = {}

    def __call__(self, provider: str, model: str, input_tokens: int, when: datetime, /) -> ModelPrice | None:
        known = _IN_THE_LIST.get(provider)
        found = None if known is None else self._lookup(known, model, when)
        return None if found is None else _converted(found, input_tokens)

    def _lookup(self, provider: str, model: str, when: datetime) -> Any:
        # Some prices change with the time of day, to the minute.
        key = (provider, model, f"{when.astimezone(UTC):%Y-%m-%dT%H:%M}")
        if key not in self._found:
            if len(self._found) >= _KEPT:
                self._found.clear()
            self._found[key] = self._look_up(provider, model, when)
        return self._found[key]

    def _look_up(self, provider: str, model: str, when: datetime) -> Any:
        nothing = self._library.Usage(input_tokens=0, output_tokens=0)
        try:
            found = self._library.calc_price(nothing, model, provider_id=provider, genai_request_timestamp=when)
        except LookupError:
            return None
        return found.model_price


def _converted(found: Any, input_tokens: int) -> ModelPrice | None:
    given, answer = _at(found.input_mtok, input_tokens), _at(found.output_mtok, input_tokens)
    if given is None or answer is None:
        return None
    return ModelPrice(
        input=given,
        output=answer,
        cached=_at(found.cache_read_mtok, input_tokens),
        cache_write=_at(found.cache_write_mtok, input_tokens),
        reasoning=_at(found.output_reasoning_mtok, input_tokens),
        per_request=(_at(found.requests_kcount, input_tokens) or Decimal(0)) / 1000,
    )


def _at(price: Any, input_tokens: int) -> Decimal | None:
    """A price that may be higher for long inputs. Past a threshold, all tokens have the higher one."""
    if price is None or isinstance(price, Decimal):
        return price
    over = [tier.price for tier in price.tiers if input_tokens > tier.start]
    found: Decimal = over[-1] if over else price.base
    return found
