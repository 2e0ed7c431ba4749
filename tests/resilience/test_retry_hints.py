"""Waits and rate limits that servers state, in every spelling that is known."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st

from clawft_trio.retry_hints import LONGEST_WAIT, RateLimit, limit_resets_after, parse_wait, rate_limits, retry_after

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def now() -> datetime:
    return NOON


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "30"}, 30.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": str(int(NOON.timestamp()) + 20)}, 20.0),
        ({"retry-after": str((int(NOON.timestamp()) + 20) * 1000)}, 20.0),
        ({"retry-after": str(int(NOON.timestamp()) - 20)}, 0.0),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:07 GMT"}, 7.0),
        ({"retry-after": "999999"}, LONGEST_WAIT),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "99999999999"}, LONGEST_WAIT),
        ({"retry-after": "30, 30"}, 30.0),
        ({"retry-after": '"30"'}, 30.0),
        ({"retry-after": "30 seconds"}, 30.0),
        ({"retry-after": "PT1M30S"}, 90.0),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_a_retry_after_is_read_in_every_form_and_capped(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360.0),
        ("120ms", 0.12),
        ("1h2m3.5s", LONGEST_WAIT),
        ("17ms", 0.017),
        ("1 minute 30 seconds", 90.0),
        ("2 mins", 120.0),
        ("2026-11-21T12:00:30Z", 30.0),
    ],
)
def test_a_reset_is_a_duration_or_a_point_in_time(text: str, seconds: float) -> None:
    assert parse_wait(text, now) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-reset-ms": "1500"}, 1.5),
        ({"x-ratelimit-reset-requests-ms": str((int(NOON.timestamp()) + 20) * 1000)}, 20.0),
        ({"ratelimit": "limit=100, remaining=0, reset=30"}, 30.0),
        ({"RateLimit": '"minute";r=0;t=30, "day";r=7;t=3000'}, 30.0),
        ({"anthropic-priority-input-tokens-remaining": "0", "anthropic-priority-input-tokens-reset": "20"}, 20.0),
        # Mistral
        ({"ratelimitbysize-remaining": "0", "ratelimitbysize-reset": "40"}, 40.0),
        # OpenAI, Groq
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "12s",
                "x-ratelimit-remaining-tokens": "900",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            12.0,
        ),
        # Anthropic
        (
            {
                "Anthropic-RateLimit-Input-Tokens-Remaining": "0",
                "Anthropic-RateLimit-Input-Tokens-Reset": "2026-11-21T12:00:40Z",
                "Anthropic-RateLimit-Requests-Remaining": "10",
                "Anthropic-RateLimit-Requests-Reset": "2026-11-21T12:00:01Z",
            },
            40.0,
        ),
        # OpenRouter: an epoch in milliseconds
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOON.timestamp() + 9) * 1000)}, 9.0),
        # IETF draft
        ({"ratelimit-remaining": "0", "ratelimit-reset": "50"}, 50.0),
        # Nothing is known to be used up: the earliest.
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "1m"}, 1.0),
        ({"x-ratelimit-remaining-requests": "0"}, None),
        ({}, None),
    ],
)
def test_reset_headers_say_when_where_retry_after_is_missing(headers: dict[str, str], seconds: float | None) -> None:
    assert limit_resets_after(headers, now) == seconds


def test_limits_are_read_by_kind() -> None:
    headers = {
        "anthropic-ratelimit-output-tokens-limit": "8000",
        "anthropic-ratelimit-output-tokens-remaining": "7000",
        "anthropic-ratelimit-output-tokens-reset": "2026-11-21T12:00:15Z",
        "x-ratelimit-limit-requests": "100, 100;w=60",
        "content-type": "text/plain",
    }
    assert set(rate_limits(headers, now)) == {
        RateLimit(kind="output-tokens", limit=8000, remaining=7000, resets_after=15.0),
        RateLimit(kind="requests", limit=100),
    }


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        # OpenAI and Groq
        (
            {
                "x-ratelimit-limit-requests": "14400",
                "x-ratelimit-remaining-requests": "14370",
                "x-ratelimit-reset-requests": "2m59.56s",
            },
            RateLimit(kind="requests", limit=14400, remaining=14370, resets_after=179.56),
        ),
        # Azure, and its way of stating none
        (
            {"x-ratelimit-limit-tokens": "50000", "x-ratelimit-remaining-tokens": "49000"},
            RateLimit(kind="tokens", limit=50_000, remaining=49_000),
        ),
        (
            {"x-ratelimit-limit-tokens": "-1", "x-ratelimit-remaining-tokens": "-1", "x-ratelimit-reset-tokens": "0"},
            RateLimit(kind="tokens", resets_after=0.0),
        ),
        # OpenRouter: milliseconds since 1970
        (
            {
                "X-RateLimit-Limit": "20",
                "X-RateLimit-Remaining": "0",
                "X-RateLimit-Reset": str((int(NOON.timestamp()) + 20) * 1000),
            },
            RateLimit(kind="", limit=20, remaining=0, resets_after=20.0),
        ),
        # Mistral
        (
            {"x-ratelimit-limit-tokens-5-minute": "600", "x-ratelimit-remaining-tokens-5-minute": "500"},
            RateLimit(kind="tokens-5-minute", limit=600, remaining=500),
        ),
        (
            {"x-ratelimit-limit-req-minute": "60", "x-ratelimit-remaining-req-minute": "59"},
            RateLimit(kind="req-minute", limit=60, remaining=59),
        ),
        # Cerebras
        (
            {
                "x-ratelimit-limit-requests-day": "1000",
                "x-ratelimit-remaining-requests-day": "999",
                "x-ratelimit-reset-requests-day": "33.5",
            },
            RateLimit(kind="requests-day", limit=1000, remaining=999, resets_after=33.5),
        ),
        # Together
        (
            {"x-tokenlimit-limit": "180000", "x-tokenlimit-remaining": "179000"},
            RateLimit(kind="tokens", limit=180_000, remaining=179_000),
        ),
        # Fireworks
        (
            {"x-ratelimit-limit-tokens-prompt": "60000", "x-ratelimit-remaining-tokens-prompt": "59000"},
            RateLimit(kind="tokens-prompt", limit=60_000, remaining=59_000),
        ),
    ],
)
def test_each_vendors_spelling_is_read(headers: dict[str, str], expected: RateLimit) -> None:
    assert rate_limits(headers, now) == (expected,)


@given(st.text(max_size=30) | st.floats().map(str) | st.integers().map(str))
def test_no_text_makes_a_wait_that_is_negative_or_too_long(text: str) -> None:
    for wait in (parse_wait(text, now), retry_after({"retry-after": text, "retry-after-ms": text}, now)):
        assert wait is None or 0.0 <= wait <= LONGEST_WAIT
