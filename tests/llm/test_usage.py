"""Usage as each vendor reports it: shapes of documented answers, with numbers of our own."""

from __future__ import annotations

import json
import math
from decimal import Decimal

import pytest
from hypothesis import given, strategies as st

from clawft_trio.attempts import MOST_TOKENS, Usage
from clawft_trio.chat import Call, ChatRequest, Message
from clawft_trio.llm import provider_named
from clawft_trio.llm.usage import (
    UsageReader,
    read_chat_usage,
    read_messages_usage,
    read_responses_usage,
)
from clawft_trio.observe import Noted, Recorder
from clawft_trio.testing import Page, open_fault_server


def details(**inner: int) -> dict[str, int]:
    return inner


CHAT = [
    pytest.param(
        "dashscope",
        {"prompt_tokens": 30, "completion_tokens": 5, "total_tokens": 35}
        | {"prompt_tokens_details": details(cached_tokens=10, cache_creation_input_tokens=15)},
        Usage(input_tokens=30, output_tokens=5, cached_tokens=10, cache_write_tokens=15),
        id="an explicit cache of Alibaba",
    ),
    pytest.param(
        "openai",
        {"prompt_tokens": 30, "completion_tokens": 50, "total_tokens": 80}
        | {"prompt_tokens_details": details(cached_tokens=10, audio_tokens=5)}
        | {"completion_tokens_details": details(reasoning_tokens=40, audio_tokens=3)},
        Usage(
            input_tokens=30,
            output_tokens=50,
            cached_tokens=10,
            reasoning_tokens=40,
            input_audio_tokens=5,
            output_audio_tokens=3,
        ),
        id="reasoning and cache within",
    ),
    pytest.param(
        "xai",
        {"prompt_tokens": 30, "completion_tokens": 5, "total_tokens": 75}
        | {"completion_tokens_details": details(reasoning_tokens=40)},
        Usage(input_tokens=30, output_tokens=45, reasoning_tokens=40),
        id="reasoning beside",
    ),
    pytest.param(
        "xai",
        {"prompt_tokens": 30, "completion_tokens": 5, "completion_tokens_details": details(reasoning_tokens=4)},
        Usage(input_tokens=30, output_tokens=9, reasoning_tokens=4),
        id="reasoning beside, without a total",
    ),
    pytest.param(
        "xai",
        {"prompt_tokens": 30, "completion_tokens": 45, "total_tokens": 75}
        | {"completion_tokens_details": details(reasoning_tokens=40)},
        Usage(input_tokens=30, output_tokens=45, reasoning_tokens=40),
        id="the total contradicts the vendor's rule",
    ),
    pytest.param(
        "gateway",
        {"prompt_tokens": 30, "completion_tokens": 5, "total_tokens": 75}
        | {"completion_tokens_details": details(reasoning_tokens=40)},
        Usage(input_tokens=30, output_tokens=45, reasoning_tokens=40),
        id="an unknown vendor with reasoning beside",
    ),
    pytest.param(
        "gemini",
        {"prompt_tokens": 20, "completion_tokens": 100, "total_tokens": 500},
        Usage(input_tokens=20, output_tokens=480, reasoning_tokens=380),
        id="reasoning only in the total",
    ),
    pytest.param(
        "gemini",
        {"prompt_tokens": 20, "completion_tokens": 0, "total_tokens": 80}
        | {"completion_tokens_details": details(reasoning_tokens=60)},
        Usage(input_tokens=20, output_tokens=60, reasoning_tokens=60),
        id="nothing but reasoning",
    ),
    pytest.param(
        "gateway",
        {"prompt_tokens": 3, "completion_tokens": 10, "total_tokens": 2013}
        | {"prompt_tokens_details": details(cached_tokens=1500, cache_write_tokens=500)},
        Usage(input_tokens=2003, output_tokens=10, cached_tokens=1500, cache_write_tokens=500),
        id="cached input beside",
    ),
    pytest.param(
        "gateway",
        {"prompt_tokens": 3, "completion_tokens": 10}
        | {"cache_read_input_tokens": 1500, "cache_creation_input_tokens": 500},
        Usage(input_tokens=2003, output_tokens=10, cached_tokens=1500, cache_write_tokens=500),
        id="more cached than there is in all: beside",
    ),
    *(
        pytest.param(
            vendor,
            {"prompt_tokens": 30, "completion_tokens": 5, "total_tokens": 35, name: 20},
            Usage(input_tokens=30, output_tokens=5, cached_tokens=20),
            id=name,
        )
        for vendor, name in [
            ("moonshot", "cached_tokens"),
            ("deepseek", "prompt_cache_hit_tokens"),
            ("mistral", "num_cached_tokens"),
            ("gateway", "cache_read_input_tokens"),
        ]
    ),
    pytest.param(
        "openrouter",
        {"prompt_tokens": 30, "completion_tokens": 5, "total_tokens": 35, "cost": 0.0025, "is_byok": False}
        | {"server_tool_use_details": details(web_search_requests=2)},
        Usage(input_tokens=30, output_tokens=5, web_searches=2, cost=Decimal("0.0025")),
        id="the answer names its price",
    ),
    pytest.param(
        "openrouter",
        {"prompt_tokens": 30, "completion_tokens": 5, "cost": 0.001, "is_byok": True}
        | {"cost_details": {"upstream_inference_cost": 0.02}},
        Usage(input_tokens=30, output_tokens=5, cost=Decimal("0.021")),
        id="a key of one's own is charged by the vendor, and the fee by the gateway",
    ),
    pytest.param(
        "openrouter",
        {"prompt_tokens": 30, "completion_tokens": 5, "cost": 0, "is_byok": True},
        Usage(input_tokens=30, output_tokens=5),
        id="a fee is not the price",
    ),
    pytest.param(
        "xai",
        {"prompt_tokens": 30, "completion_tokens": 5, "cost_in_usd_ticks": 1_399_000},
        Usage(input_tokens=30, output_tokens=5, cost=Decimal("0.0001399")),
        id="ten thousand million ticks a dollar",
    ),
    pytest.param(
        "perplexity",
        {"prompt_tokens": 30, "completion_tokens": 5, "cost": {"total_cost": 0.006, "request_cost": 0.005}},
        Usage(input_tokens=30, output_tokens=5, cost=Decimal("0.006")),
        id="a price with its parts",
    ),
    pytest.param(
        "openai",
        {"prompt_tokens": 30, "completion_tokens": 5, "service_tier": "Flex"},
        Usage(input_tokens=30, output_tokens=5, service_tier="flex"),
        id="another service tier",
    ),
    pytest.param(
        "groq",
        {"prompt_tokens": 30, "completion_tokens": 5, "service_tier": "flex"},
        Usage(input_tokens=30, output_tokens=5),
        id="a service tier that costs the same",
    ),
    pytest.param(
        "openrouter",
        {"prompt_tokens": 30, "completion_tokens": 5, "total_tokens": 35}
        | {"completion_tokens_details": details(reasoning_tokens=6)},
        Usage(input_tokens=30, output_tokens=5, reasoning_tokens=5),
        id="one token more of reasoning than of output, in a total that adds up",
    ),
    pytest.param(
        "gateway",
        {"input_tokens": 30, "output_tokens": 5, "total_tokens": 35},
        Usage(input_tokens=30, output_tokens=5),
        id="another dialect's names",
    ),
]


@pytest.mark.parametrize(("vendor", "raw", "usage"), CHAT)
def test_chat_usage_is_read_as_its_vendor_counts(vendor: str, raw: dict, usage: Usage) -> None:
    reading = read_chat_usage(raw, vendor)
    assert (reading.usage, reading.problem) == (usage, "")
    if "total_tokens" in raw:
        assert usage.total_tokens == raw["total_tokens"]


def test_what_the_total_has_more_than_its_parts_counts_as_output_and_is_a_problem() -> None:
    reading = read_chat_usage({"prompt_tokens": 20, "completion_tokens": 100, "total_tokens": 150}, "openai")
    assert reading.usage == Usage(input_tokens=20, output_tokens=130)
    assert "30 more" in reading.problem


BASE = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
IMPOSSIBLE = [
    {"prompt_tokens": -1},
    {"prompt_tokens": 2**53 + 1},
    {"prompt_tokens": 2**63},
    {"prompt_tokens": 1e300},
    {"completion_tokens": math.nan},
    {"completion_tokens": math.inf},
    {"completion_tokens": True},
    {"completion_tokens": "10"},
    {"completion_tokens": 9.5},
    {"completion_tokens": [10]},
    {"total_tokens": 29},
    {"total_tokens": 0},
    {"total_tokens": -30},
    {"prompt_tokens_details": {"cached_tokens": -5}},
    {"prompt_tokens_details": {"cached_tokens": 25}},
    {"prompt_tokens_details": {"audio_tokens": 21}},
    {"completion_tokens_details": {"reasoning_tokens": True}},
    {"cost": -0.01},
    {"cost": math.nan},
    {"cost": math.inf},
    {"cost": True},
    {"cost": "0.01"},
    {"cost": {"total_cost": -1}},
    {"cost_in_usd_ticks": -1},
    {"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": -1}},
]


@pytest.mark.parametrize("wrong", IMPOSSIBLE, ids=str)
def test_impossible_figures_are_refused(wrong: dict) -> None:
    reading = read_chat_usage({**BASE, **wrong}, "openai")
    assert reading.usage is None
    assert reading.problem


@pytest.mark.parametrize("raw", [{}, {"queue_time": 0.1}, {"prompt_tokens": 0, "completion_tokens": 0}])
def test_zeros_and_other_figures_report_nothing(raw: dict) -> None:
    reading = read_chat_usage(raw, "openai")
    assert (reading.usage, reading.problem) == (None, "")


MESSAGES = [
    pytest.param(
        {"input_tokens": 6, "output_tokens": 8, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 50}
        | {"cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30}}
        | {"output_tokens_details": {"thinking_tokens": 3}, "server_tool_use": {"web_search_requests": 1}}
        | {"service_tier": "standard", "inference_geo": "global"},
        Usage(
            input_tokens=156,
            output_tokens=8,
            cached_tokens=100,
            cache_write_tokens=50,
            cache_write_1h_tokens=30,
            reasoning_tokens=3,
            web_searches=1,
        ),
        id="cached input beside, by how long it is kept",
    ),
    pytest.param(
        {"input_tokens": 6, "output_tokens": 8}
        | {"cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30}},
        Usage(input_tokens=56, output_tokens=8, cache_write_tokens=50, cache_write_1h_tokens=30),
        id="cache writes without their sum",
    ),
    pytest.param(
        {"input_tokens": 20, "output_tokens": 8}
        | {
            "iterations": [
                {"type": "compaction", "input_tokens": 5000, "output_tokens": 100, "cache_read_input_tokens": 70},
                {"type": "message", "input_tokens": 20, "output_tokens": 8},
            ]
        },
        Usage(input_tokens=5090, output_tokens=108, cached_tokens=70),
        id="a compaction is charged beside the answer",
    ),
    pytest.param(
        {"input_tokens": 6, "output_tokens": 8, "service_tier": "batch"},
        Usage(input_tokens=6, output_tokens=8, service_tier="batch"),
        id="batch",
    ),
    pytest.param(
        {"input_tokens": 6, "output_tokens": 8, "service_tier": "standard", "speed": "fast"},
        Usage(input_tokens=6, output_tokens=8, service_tier="fast"),
        id="fast",
    ),
    pytest.param(
        {"input_tokens": 6, "output_tokens": 8, "inference_geo": "us"},
        Usage(input_tokens=6, output_tokens=8, service_tier="region:us"),
        id="a region with a price of its own",
    ),
]


@pytest.mark.parametrize(("raw", "usage"), MESSAGES)
def test_messages_usage_counts_cached_input_beside(raw: dict, usage: Usage) -> None:
    reading = read_messages_usage(raw)
    assert (reading.usage, reading.problem) == (usage, "")


def test_tokens_of_another_model_are_a_problem() -> None:
    step = {"type": "advisor_message", "model": "larger", "input_tokens": 9, "output_tokens": 9}
    reading = read_messages_usage({"input_tokens": 6, "output_tokens": 8, "iterations": [step]})
    assert reading.usage == Usage(input_tokens=6, output_tokens=8)
    assert "'larger'" in reading.problem


def test_responses_usage_has_reasoning_within() -> None:
    raw = {"input_tokens": 53, "output_tokens": 469, "total_tokens": 522, "cost": 0.5} | {
        "input_tokens_details": details(cached_tokens=3, cache_write_tokens=2),
        "output_tokens_details": details(reasoning_tokens=448),
    }
    assert read_responses_usage(raw, "xai").usage == Usage(
        input_tokens=53,
        output_tokens=469,
        cached_tokens=3,
        cache_write_tokens=2,
        reasoning_tokens=448,
        cost=Decimal("0.5"),
    )


def test_zeros_behind_figures_without_a_total_are_no_total() -> None:
    reader = UsageReader(read_chat_usage, "")
    reader.note({"prompt_tokens": 3, "completion_tokens": 2})
    reading = reader.note({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})
    assert reading is not None
    assert reading.usage == Usage(input_tokens=3, output_tokens=2)
    assert reading.problem == ""


def test_a_reader_keeps_figures_that_later_zeros_and_nulls_would_erase() -> None:
    reader = UsageReader(read_chat_usage, "openai")
    reader.note({**BASE, "prompt_tokens_details": {"cached_tokens": 15}})
    reading = reader.note(
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "prompt_tokens_details": None}
    )
    assert reading is not None
    assert reading.usage == Usage(input_tokens=20, output_tokens=10, cached_tokens=15)


def test_a_reader_takes_the_latest_of_cumulative_figures() -> None:
    reader = UsageReader(read_chat_usage, "openai")
    for tokens in (1, 2, 7):
        reading = reader.note({"prompt_tokens": 20, "completion_tokens": tokens, "total_tokens": 20 + tokens})
    assert reading is not None
    assert reading.usage == Usage(input_tokens=20, output_tokens=7)


def test_a_reader_takes_the_tier_from_outside_of_the_usage() -> None:
    reader = UsageReader(read_chat_usage, "openai")
    assert reader.note(None, service_tier="priority") is None
    reading = reader.note(None, BASE)
    assert reading is not None
    assert reading.usage is not None
    assert reading.usage.service_tier == "priority"


@pytest.mark.parametrize("raw", [None, 5, "x", [], {}, [{"prompt_tokens": 1}]])
def test_a_reader_passes_over_what_is_no_usage(raw: object) -> None:
    assert UsageReader(read_chat_usage, "openai").note(raw) is None


COUNT = st.integers(0, 10**6)


@given(
    vendor=st.sampled_from(["openai", "xai", "gemini", "vertex", "?"]), figures=st.lists(COUNT, min_size=4, max_size=4)
)
def test_whatever_adds_up_is_counted_so_that_it_adds_up(vendor: str, figures: list[int]) -> None:
    prompt, completion, cached, reasoning = figures
    for beside in (0, cached), (reasoning, cached), (0, 0), (reasoning, 0):
        raw = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion + sum(beside),
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }
        reading = read_chat_usage(raw, vendor)
        if reading.usage is not None:
            assert reading.usage.total_tokens == raw["total_tokens"]
            assert not reading.usage.problem()
        else:
            assert reading.problem or not (prompt or completion or sum(beside))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(
    [*BASE, "input_tokens", "output_tokens", "cost", "iterations", "cache_creation", "prompt_tokens_details", "speed"]
)


@given(
    raw=st.dictionaries(NAMES, JUNK, max_size=6),
    read=st.sampled_from([read_chat_usage, read_messages_usage, read_responses_usage]),
)
def test_whatever_is_sent_gives_possible_figures_or_none(raw: dict, read) -> None:
    reader = UsageReader(read, "xai")
    for _ in range(2):
        reading = reader.note(raw)
        if reading is not None and reading.usage is not None:
            assert not reading.usage.problem()


def stream(*chunks: dict) -> bytes:
    return "".join(f"data: {json.dumps({'id': 'x', **chunk})}\n\n" for chunk in chunks).encode() + b"data: [DONE]\n\n"


def choice(content: str = "", finish: str | None = None, **more: object) -> dict:
    return {"index": 0, "delta": {"content": content}, "finish_reason": finish, **more}


async def ask(vendor: str, body: bytes, *, kind: str = "text/event-stream"):
    events = Recorder()
    async with (
        open_fault_server([Page(body, content_type=kind)]) as server,
        provider_named(vendor, base_url=server.url, api_key="k", model="m") as provider,
    ):
        call = Call(observer=events)
        response = await provider.complete(ChatRequest([Message.user("q")], stream=kind != "application/json"), call)
    return response, call.log.records[-1], [event for event in events.of(Noted) if event.component == "llm"]


PLACES = {
    "at the top, behind the last choice": [choice("hi"), choice(finish="stop"), {"choices": [], "usage": BASE}],
    "in the choice": [choice("hi"), choice(finish="stop", usage=BASE)],
    "in x_groq": [choice("hi"), {"choices": [choice(finish="stop")], "x_groq": {"id": "r", "usage": BASE}}],
    "in every chunk": [
        {"choices": [choice("hi")], "usage": {**BASE, "completion_tokens": 1, "total_tokens": 21}},
        {"choices": [choice(finish="stop")], "usage": BASE},
    ],
    "zeros behind it": [
        {"choices": [choice("hi", finish="stop")], "usage": BASE},
        {"choices": [], "usage": dict.fromkeys(BASE, 0)},
    ],
}


@pytest.mark.parametrize("place", PLACES)
async def test_usage_is_found_wherever_a_stream_has_it(place: str) -> None:
    chunks = [chunk if "choices" in chunk else {"choices": [chunk]} for chunk in PLACES[place]]
    response, record, noted = await ask("groq", stream(*chunks))
    assert response.usage == Usage(input_tokens=20, output_tokens=10)
    assert (record.certainty, noted) == ("exact", [])


async def test_refused_usage_leaves_none_and_is_an_event() -> None:
    body = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": {**BASE, "total_tokens": -1}}
    response, record, (noted,) = await ask("openai", json.dumps(body).encode(), kind="application/json")
    assert (response.text, response.usage) == ("hi", None)
    assert (record.usage, record.certainty) == (None, None)
    assert "total_tokens" in noted.details["problem"]


async def test_usage_that_does_not_add_up_is_an_event_and_not_exact() -> None:
    body = stream({"choices": [choice("hi", "stop")], "usage": {**BASE, "total_tokens": MOST_TOKENS}})
    response, record, (noted,) = await ask("openai", body)
    assert response.usage is not None
    assert response.usage.total_tokens == MOST_TOKENS
    assert record.certainty == "estimated"
    assert noted.details["provider"] == "openai"


@pytest.mark.parametrize(
    ("raw", "tier"),
    [
        ({"service_tier": "flex"}, "flex"),
        ({"service_tier": "Priority"}, "priority"),
        *(({"service_tier": name}, "") for name in ("", "default", "Standard", "auto", "on_demand")),
        ({"service_tier": 3}, ""),
        ({"speed": "fast"}, "fast"),
        ({"speed": "standard"}, ""),
        ({"service_tier": "default", "speed": "fast"}, "fast"),
        ({"service_tier": "flex", "speed": "fast"}, "flex"),
        ({"service_tier": "a b/c-d_e.f"}, "a_b_c-d_e.f"),
        ({"service_tier": "x" * 41}, "x" * 40),
        ({"inference_geo": "us"}, "region:us"),
        *(({"inference_geo": name}, "") for name in ("", "global", "not_available", 3)),
    ],
    ids=repr,
)
def test_a_tier_is_one_that_changes_the_price(raw: dict, tier: str) -> None:
    usage = read_chat_usage({"prompt_tokens": 1, "completion_tokens": 1, **raw}).usage
    assert usage is not None
    assert usage.service_tier == tier


def test_flex_processing_of_groq_is_ordinary() -> None:
    usage = read_chat_usage({"prompt_tokens": 1, "completion_tokens": 1, "service_tier": "flex"}, "groq").usage
    assert usage is not None
    assert usage.service_tier == ""


@pytest.mark.parametrize(
    ("raw", "cost"),
    [
        ({"cost": 0.1}, Decimal("0.1")),
        ({"cost": 0}, Decimal(0)),
        ({"cost": None}, None),
        ({"cost": {"total_cost": 0.25, "input_tokens_cost": 0.1}}, Decimal("0.25")),
        ({"cost": {}}, None),
        ({"cost_in_usd_ticks": 5_000_000_000}, Decimal("0.5")),
        ({"cost_in_usd_ticks": 0, "cost": 1}, Decimal(0)),
        ({"cost": 0.5, "is_byok": True}, None),
        ({"cost": 0.5, "is_byok": True, "cost_details": {"upstream_inference_cost": 1}}, Decimal("1.5")),
        ({"cost": 0.5, "is_byok": False, "cost_details": {"upstream_inference_cost": 1}}, Decimal("0.5")),
        ({"cost": MOST_TOKENS}, Decimal(MOST_TOKENS)),
    ],
    ids=repr,
)
def test_the_cost_is_what_the_answer_reports(raw: dict, cost: Decimal | None) -> None:
    usage = read_chat_usage({"prompt_tokens": 1, "completion_tokens": 1, **raw}).usage
    assert usage is not None
    assert usage.cost == cost


@pytest.mark.parametrize("cost", [-0.1, True, "1", [1], math.inf, math.nan, MOST_TOKENS * 2])
def test_an_impossible_cost_is_a_problem(cost: object) -> None:
    reading = read_chat_usage({"prompt_tokens": 1, "completion_tokens": 1, "cost": cost})
    assert (reading.usage, reading.problem.startswith("cost is ")) == (None, True)


@pytest.mark.parametrize(
    "raw",
    [
        {"server_tool_use": {"web_search_requests": 3}},
        {"server_tool_use_details": {"web_search_requests": 3}},
        {"num_search_queries": 3},
        {"num_sources_used": 3},
        {"server_tool_use": {"web_search_requests": 0}, "num_sources_used": 3},
        {"server_tool_use": 3, "num_search_queries": 3},
    ],
    ids=repr,
)
@pytest.mark.parametrize("read", [read_chat_usage, read_responses_usage, read_messages_usage])
def test_web_searches_are_counted_under_each_name(raw: dict, read) -> None:
    counted = {"prompt_tokens": 1, "completion_tokens": 1} if read is read_chat_usage else {"input_tokens": 1}
    assert read({**counted, **raw}).usage.web_searches == 3


@pytest.mark.parametrize(
    ("raw", "figures"),
    [
        (
            {"prompt_tokens_details": {"image_tokens": 2, "audio_tokens": 3}},
            {"input_image_tokens": 2, "input_audio_tokens": 3},
        ),
        ({"completion_tokens_details": {"image_tokens": 2}}, {"output_image_tokens": 2}),
        ({"cached_tokens": 4}, {"cached_tokens": 4}),
        ({"num_cached_tokens": 4}, {"cached_tokens": 4}),
        ({"prompt_cache_hit_tokens": 4}, {"cached_tokens": 4}),
        ({"cache_read_input_tokens": 4}, {"cached_tokens": 4}),
        ({"prompt_tokens_details": {"cached_tokens": 5}, "cached_tokens": 4}, {"cached_tokens": 5}),
        ({"prompt_tokens_details": {"cache_write_tokens": 4}}, {"cache_write_tokens": 4}),
        ({"prompt_tokens_details": {"cache_creation_tokens": 4}}, {"cache_write_tokens": 4}),
        ({"cache_creation_input_tokens": 4}, {"cache_write_tokens": 4}),
        ({"reasoning_tokens": 4}, {"reasoning_tokens": 4}),
    ],
    ids=repr,
)
def test_figures_are_found_under_each_of_their_names(raw: dict, figures: dict) -> None:
    usage = read_chat_usage({"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30, **raw}).usage
    assert usage == Usage(input_tokens=20, output_tokens=10, **figures)


@pytest.mark.parametrize("value", [MOST_TOKENS + 1, -1, True, "3", 1.5])
def test_an_impossible_count_names_its_field(value: object) -> None:
    reading = read_chat_usage({"prompt_tokens": 1, "completion_tokens": value})
    assert reading.usage is None
    assert reading.problem.startswith("completion_tokens is ")
    most = read_chat_usage({"prompt_tokens": MOST_TOKENS, "completion_tokens": 1.0}).usage
    assert most is not None
    assert (most.input_tokens, most.output_tokens) == (MOST_TOKENS, 1)


@pytest.mark.parametrize(
    ("raw", "figures"),
    [
        # A part as large as its whole is within it, with and without a total.
        ({"prompt_tokens": 40, "completion_tokens": 10, "cached_tokens": 40, "reasoning_tokens": 10}, (40, 10)),
        (
            {
                "prompt_tokens": 40,
                "completion_tokens": 10,
                "cached_tokens": 40,
                "reasoning_tokens": 10,
                "total_tokens": 50,
            },
            (40, 10),
        ),
        # A larger part is beside it.
        ({"prompt_tokens": 40, "completion_tokens": 10, "cached_tokens": 41, "reasoning_tokens": 11}, (81, 21)),
        # What the total has more is output, also where cached input is beside the input.
        ({"prompt_tokens": 10, "completion_tokens": 5, "cached_tokens": 40, "total_tokens": 62}, (50, 12)),
        # One figure alone.
        ({"prompt_tokens": 40}, (40, 0)),
        ({"completion_tokens": 10}, (0, 10)),
        ({"output_tokens": 10}, (0, 10)),
    ],
)
def test_parts_are_within_their_whole_while_they_fit(raw: dict, figures: tuple[int, int]) -> None:
    usage = read_chat_usage(raw).usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == figures


@pytest.mark.parametrize("read", [read_responses_usage, read_messages_usage])
@pytest.mark.parametrize("figures", [(40, 0), (0, 10)])
def test_one_figure_is_usage(read, figures: tuple[int, int]) -> None:
    names = ("input_tokens", "output_tokens")
    raw = {name: value for name, value in zip(names, figures, strict=True) if value}
    assert read(raw).usage == Usage(input_tokens=figures[0], output_tokens=figures[1])


@pytest.mark.parametrize(("total", "input_tokens"), [(110, 100), (150, 140), (None, 140)])
def test_the_total_of_messages_decides_whether_cached_input_is_beside(total: int | None, input_tokens: int) -> None:
    raw = {"input_tokens": 100, "output_tokens": 10, "cache_read_input_tokens": 40, "total_tokens": total}
    reading = read_messages_usage(raw)
    assert reading.usage is not None
    assert (reading.usage.input_tokens, reading.usage.output_tokens, reading.problem) == (input_tokens, 10, "")


def test_a_problem_states_how_many_tokens_are_not_explained() -> None:
    problem = read_chat_usage(
        {"prompt_tokens": 10, "completion_tokens": 5, "cached_tokens": 40, "total_tokens": 62}
    ).problem
    assert problem == "total_tokens is 62, 7 more than its parts: counted as output"
