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
from clawft_trio.costs import LongContextPrice, ModelPrice, Prices, TokenPrice, load_price_list, tier_prices
from clawft_trio.costs.money import from_pico, to_pico
from clawft_trio.costs.prices import _IN_THE_LIST, _load
from clawft_trio.llm import KNOWN, provider_named
from clawft_trio.llm.catalog import vendor_at, vendor_of
from clawft_trio.pipeline import Target
from clawft_trio.resilience import Resilient, Retry
from clawft_trio.testing import ScriptedProvider, cancel_everywhere

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
    assert ModelPrice.flat(0.1).cost(attrs.evolve(usage, web_searches=5)) == Decimal("0.1")


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


@attrs.frozen
class At:
    """A target, as far as its price goes."""

    name: str
    cost_per_1k_tokens: Decimal | None = None

    @property
    def provider(self) -> str:
        return self.name.partition("/")[0]

    @property
    def model(self) -> str:
        return self.name.partition("/")[2]


def test_another_service_tier_has_its_own_price_or_none() -> None:
    flex = TokenPrice(input=1, output=5)
    prices = Prices(explicit={"p/m": ModelPrice(input=2, output=10, service_tiers={"flex": flex})})
    assert prices.of(At("p/m"), 10, WHEN, service_tier="flex") == flex
    found = prices.find(At("p/m"), 10, WHEN, service_tier="priority")
    assert found.price is None
    assert "'priority'" in found.why


def test_long_inputs_have_their_own_price() -> None:
    long = LongContextPrice(input=4, output=20, above=200_000)
    price = ModelPrice(input=2, output=10, long_context=long)
    assert price.at(200_000) is price
    assert price.at(200_001) is long


def test_every_kind_of_token_has_its_price() -> None:
    price = ModelPrice(
        input=1,
        output=10,
        cached="0.1",
        cache_write="1.25",
        cache_write_1h=2,
        reasoning=20,
        input_audio=5,
        output_audio=50,
        input_image=3,
        output_image=30,
        web_search=10,
    )
    usage = Usage(
        input_tokens=1_000_000,
        cached_tokens=100_000,
        cache_write_tokens=300_000,
        cache_write_1h_tokens=200_000,
        input_audio_tokens=50_000,
        input_image_tokens=50_000,
        output_tokens=1_000_000,
        reasoning_tokens=100_000,
        output_audio_tokens=200_000,
        output_image_tokens=300_000,
        web_searches=3,
    )
    given = Decimal("0.5") + Decimal("0.01") + Decimal("0.125") + Decimal("0.4") + Decimal("0.25") + Decimal("0.15")
    answer = 4 + 2 + 10 + 9
    assert price.cost(usage) == given + answer + Decimal("0.03")


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (Usage(input_tokens=10, cached_tokens=4, input_audio_tokens=9), 6 * 5 + 4 * 2),
        (Usage(input_tokens=10, input_audio_tokens=7, input_image_tokens=9), 7 * 5 + 3 * 3),
        (Usage(output_tokens=10, reasoning_tokens=4, output_audio_tokens=9), 6 * 50 + 4 * 20),
        (Usage(output_tokens=10, output_audio_tokens=7, output_image_tokens=9), 7 * 50 + 3 * 30),
    ],
)
def test_no_token_is_paid_twice_when_a_vendors_parts_are_more_than_the_whole(usage: Usage, dollars: int) -> None:
    price = ModelPrice(
        input=1, output=10, cached=2, reasoning=20, input_audio=5, output_audio=50, input_image=3, output_image=30
    )
    assert price.cost(usage) == Decimal(dollars) / 1_000_000


@pytest.mark.parametrize(
    ("usage", "kind"),
    [
        (Usage(input_tokens=9, cached_tokens=1), "cached input"),
        (Usage(input_tokens=9, cache_write_tokens=1), "input written to the cache"),
        (
            Usage(input_tokens=9, cache_write_tokens=1, cache_write_1h_tokens=1),
            "input written to the cache for an hour",
        ),
        (Usage(input_tokens=9, input_audio_tokens=1), "audio input"),
        (Usage(output_tokens=9, output_audio_tokens=1), "audio output"),
        (Usage(input_tokens=9, web_searches=1), "web searches"),
    ],
)
def test_a_kind_without_a_price_is_unpriced_and_named(usage: Usage, kind: str) -> None:
    price = ModelPrice(input=1, output=10)
    assert (price.cost(usage), price.unknown(usage)) == (None, (kind,))


def test_images_and_reasoning_are_tokens_like_others_where_no_price_of_theirs_is_known() -> None:
    usage = Usage(input_tokens=1_000_000, input_image_tokens=500_000, output_tokens=1_000_000, reasoning_tokens=500_000)
    assert ModelPrice(input=1, output=10).cost(usage) == 11


ALIASES = {"azure/prod-chat": "openai/gpt-4o", "bedrock/eu.*": "bedrock/*", "gateway/*": "p/m"}


@pytest.mark.parametrize(
    ("name", "same"), [("azure/prod-chat", "openai/gpt-4o"), ("gateway/anything", "p/m"), ("gateway/", "p/m")]
)
def test_an_alias_has_the_price_of_what_it_names(name: str, same: str) -> None:
    explicit = {"openai/gpt-4o": ModelPrice(input=2, output=3), "p/m": ModelPrice(input=5, output=6)}
    prices = Prices(explicit=explicit, aliases=ALIASES, unlisted={"azure", "gateway"})
    assert prices.of(At(name), 1, WHEN) == explicit[same]


def test_an_alias_that_ends_in_an_asterisk_holds_for_what_begins_with_the_whole_rest_of_it() -> None:
    prices = Prices(listed=listed, aliases={"mine/eu.*": "openai/*"})
    assert prices.of(At("mine/eu.gpt-5"), 1, WHEN) == FULL
    assert prices.of(At("mine/eu-gpt-5"), 1, WHEN) is None


def test_an_alias_is_looked_up_in_the_list_also_where_the_provider_is_not_listed() -> None:
    asked: list[tuple[str, str]] = []

    def listed(provider: str, model: str, input_tokens: int, when: datetime, /, **_: str) -> ModelPrice:
        asked.append((provider, model))
        return ModelPrice(input=1, output=1)

    prices = Prices(listed=listed, aliases=ALIASES, unlisted={"bedrock", "mine"}, vendors={"work": "openai"})
    assert prices.of(At("bedrock/eu.nova-pro"), 1, WHEN) is not None
    assert prices.of(At("work/gpt-5"), 1, WHEN) is not None
    assert asked == [("bedrock", "nova-pro"), ("openai", "gpt-5")]
    found = prices.find(At("mine/x"), 1, WHEN)
    assert found.price is None
    assert "price_aliases" in found.why


def test_the_list_has_higher_prices_for_inputs_above_a_threshold_and_not_at_it() -> None:
    prices = _load()
    assert prices is not None
    at, above = (prices("gemini", "gemini-2.5-pro", number, WHEN) for number in (200_000, 200_001))
    assert at is not None
    assert above is not None
    assert above.input == 2 * at.input


def test_the_list_has_the_windows_of_its_models() -> None:
    prices = Prices(listed=_load(), aliases={"mine/prod": "openai/gpt-4o"}, unlisted={"mine"})
    asked = ("openai/gpt-4o", "mine/prod", "openai/gpt-4o", "openai/no-such-model", "mine/gpt-4o", "nobody/gpt-4o")
    window = prices.context_window(At("openai/gpt-4o"))
    assert window is not None
    assert window > 100_000
    assert [prices.context_window(At(name)) for name in asked] == [window, window, window, None, None, None]
    assert Prices().context_window(At("openai/gpt-4o")) is None


def test_the_list_knows_tiers_and_hours_of_the_cache() -> None:
    prices = _load()
    assert prices is not None
    when = datetime(2026, 11, 20, tzinfo=UTC)
    standard = prices("openai", "gpt-4.1", 100, when)
    priority = prices("openai", "gpt-4.1", 100, when, service_tier="priority")
    batch = prices("openai", "gpt-4.1", 100, when, service_tier="batch")
    assert standard is not None
    assert priority is not None
    assert batch is not None
    assert batch.input < standard.input < priority.input
    assert prices("openai", "gpt-4.1", 100, when, service_tier="scale") is None
    claude = prices("anthropic", "claude-opus-4-5", 100, when)
    assert claude is not None
    assert (claude.cache_write, claude.cache_write_1h) == (claude.input * Decimal("1.25"), claude.input * 2)
    found = Prices(listed=prices).find(At("openai/gpt-4.1"), 100, when, service_tier="scale")
    assert "service tier 'scale'" in found.why


@pytest.mark.parametrize(
    ("url", "vendor"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://api.openai.com/v1/", "openai"),
        ("https://prod.openai.azure.com/openai/v1", "azure"),
        ("https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1", "bedrock"),
        ("https://api.openai.com.example.org/v1", ""),
        ("https://gateway.example.org/v1", ""),
        ("http://localhost:11434/v1", ""),
        ("", ""),
    ],
)
def test_a_vendor_is_known_by_its_address(url: str, vendor: str) -> None:
    assert vendor_at(url) == vendor


async def test_a_provider_is_known_by_its_address_whatever_it_is_called_and_wrapped_in() -> None:
    async with (
        provider_named("openai", api_key="k") as own,
        provider_named("openai", api_key="k", base_url="https://gateway.example.org/v1") as gateway,
    ):
        assert vendor_of(Resilient(own, Retry())) == "openai"
        assert vendor_of(gateway) == ""
        assert vendor_of(ScriptedProvider.saying("x", name="openai")) == ""
