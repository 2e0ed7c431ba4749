"""Prices: exact where they are known, and nothing where they are not."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import attrs
import genai_prices
import pytest
import trio
from genai_prices.data import providers
from hypothesis import given, settings, strategies as st

from clawft_trio.attempts import Usage
from clawft_trio.costs import ModelPrice, Prices, load_price_list, tier_prices
from clawft_trio.costs.money import from_pico, to_pico
from clawft_trio.costs.prices import _IN_THE_LIST, _load
from clawft_trio.llm import KNOWN
from clawft_trio.pipeline import Target
from clawft_trio.testing import cancel_everywhere

WHEN = datetime(2026, 11, 21, 12, tzinfo=UTC)
FULL = ModelPrice(input="3", output="15", cached="0.3", cache_write="3.75", reasoning="20", per_request="0.01")


@st.composite
def usages(draw: st.DrawFn, largest: int = 300_000) -> Usage:
    given_, answer = draw(st.integers(0, largest)), draw(st.integers(0, largest))
    cached = draw(st.integers(0, given_))
    return Usage(
        input_tokens=given_,
        output_tokens=answer,
        cached_tokens=cached,
        cache_write_tokens=draw(st.integers(0, given_ - cached)),
        reasoning_tokens=draw(st.integers(0, answer)),
    )


def test_every_kind_of_token_has_its_own_price() -> None:
    usage = Usage(input_tokens=1000, cached_tokens=400, cache_write_tokens=100, output_tokens=200, reasoning_tokens=50)
    expected = Decimal(500 * 3 + 150 * 15 + 50 * 20) + 400 * Decimal("0.3") + 100 * Decimal("3.75")
    assert FULL.cost(usage) == Decimal("0.01") + expected / 1_000_000


@pytest.mark.parametrize("kind", ["cached", "cache_write"])
def test_an_answer_that_used_a_cache_of_unknown_price_is_unpriced(kind: str) -> None:
    price = attrs.evolve(FULL, **{kind: None})
    assert price.cost(Usage(input_tokens=10, **{f"{kind}_tokens": 1})) is None
    assert price.cost(Usage(input_tokens=10)) is not None


def test_reasoning_without_a_price_of_its_own_is_output() -> None:
    price = attrs.evolve(FULL, reasoning=None)
    assert price.cost(Usage(output_tokens=10, reasoning_tokens=4)) == price.cost(Usage(output_tokens=10))


def test_a_tier_price_is_the_same_for_every_kind() -> None:
    usage = Usage(input_tokens=700, cached_tokens=200, cache_write_tokens=100, output_tokens=300, reasoning_tokens=30)
    assert ModelPrice.flat(0.1).cost(usage) == Decimal("0.1")


@settings(deadline=None, max_examples=50)
@given(usages())
def test_nothing_costs_more_than_its_upper_estimate(usage: Usage) -> None:
    cost = FULL.cost(usage)
    assert cost is not None
    assert cost <= FULL.at_most(usage.input_tokens, usage.output_tokens)


@pytest.mark.parametrize("wrong", [-1, "NaN", float("inf"), "-0.5"])
def test_a_price_is_zero_or_more(wrong: object) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        ModelPrice(input=wrong, output=1)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=100)
@given(st.decimals(0, 10_000, places=12))
def test_money_is_kept_exactly(amount: Decimal) -> None:
    assert from_pico(to_pico(amount)) == amount


def test_what_is_finer_than_a_picodollar_is_rounded_up() -> None:
    assert to_pico(Decimal("1e-15")) == 1
    assert to_pico(Decimal("1e30")) == 10**18


# --- where prices come from ----------------------------------------------------------------------------


def listed(provider: str, model: str, input_tokens: int, when: datetime, /) -> ModelPrice | None:
    return FULL if provider == "openai" else None


def test_the_config_comes_first_then_the_tier_then_the_list() -> None:
    prices = Prices(explicit={"openai/a": ModelPrice(input=1, output=1)}, listed=listed)
    in_tier = Target("openai", "a", cost_per_1k_tokens=Decimal(5))
    assert prices.of(in_tier, 1, WHEN) == ModelPrice(input=1, output=1)
    assert prices.of(attrs.evolve(in_tier, model="b"), 1, WHEN) == ModelPrice.flat(5)
    assert prices.of(Target("openai", "b"), 1, WHEN) is FULL
    assert prices.of(Target("ollama", "b"), 1, WHEN) is None
    assert Prices().of(Target("openai", "b"), 1, WHEN) is None


def test_a_list_does_not_speak_for_a_provider_at_an_address_of_its_own() -> None:
    assert Prices(listed=listed, unlisted={"openai"}).of(Target("openai", "b"), 1, WHEN) is None


def test_of_several_tiers_the_lowest_says_the_price() -> None:
    targets = [Target("p", "m", cost_per_1k_tokens=Decimal(rate)) for rate in (1, 2)]
    assert tier_prices([Target("p", "n"), *targets]) == {"p/m": ModelPrice.flat(1)}


# --- genai-prices --------------------------------------------------------------------------------------


async def test_the_list_is_loaded_where_it_is_installed() -> None:
    prices = await load_price_list()
    assert prices is not None
    found = prices("openai", "gpt-4o", 1000, WHEN)
    assert found is not None
    assert found.input > 0
    assert found.cached is not None
    assert found.cached < found.input < found.output


async def test_loading_the_list_can_be_cancelled() -> None:
    async def nothing_is_left() -> None:
        await trio.lowlevel.checkpoint()

    assert await cancel_everywhere(load_price_list, nothing_is_left) >= 1


def test_every_name_in_the_table_is_a_provider_of_ours_and_of_the_list() -> None:
    assert set(_IN_THE_LIST) <= set(KNOWN)
    assert set(_IN_THE_LIST.values()) <= {provider.id for provider in providers}


@pytest.mark.parametrize("name", ["my-openai", "openai-proxy", "ollama", "nobody", ""])
def test_a_name_that_only_looks_like_a_provider_has_no_list_price(name: str) -> None:
    prices = _load()
    assert prices is not None
    assert prices(name, "gpt-4o", 1000, WHEN) is None


def test_a_model_that_is_not_in_the_list_has_no_price() -> None:
    prices = _load()
    assert prices is not None
    assert prices("openai", "gpt-of-nobody", 1000, WHEN) is None
    assert prices("openai", "whisper-1", 1000, WHEN) is None  # by the minute, not by the token


MODELS = [
    (ours, model.id)
    for ours, theirs in sorted(_IN_THE_LIST.items())
    for p in providers
    if p.id == theirs
    for model in p.models
]


@settings(deadline=None, max_examples=300)
@given(which=st.sampled_from(MODELS), usage=usages(), day=st.integers(0, 1000))
def test_our_sums_are_those_of_the_list(which: tuple[str, str], usage: Usage, day: int) -> None:
    provider, model = which
    prices = _load()
    assert prices is not None
    when = WHEN.fromordinal(WHEN.toordinal() - day).replace(tzinfo=UTC)
    found = prices(provider, model, usage.input_tokens, when)
    cost = None if found is None else found.cost(usage)
    if cost is None:
        return
    theirs = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            output_reasoning_tokens=usage.reasoning_tokens,
        ),
        model,
        provider_id=_IN_THE_LIST[provider],
        genai_request_timestamp=when,
    )
    assert cost == theirs.total_price
