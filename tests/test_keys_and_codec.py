"""Keys from foreign names, strict decoding, suggestions and waits: the exact limits."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import attrs
import msgspec
import pytest

from clawft_trio.auth import ADMIN, USER, ZERO_TRUST, UserPermissions
from clawft_trio.backoff import backoff
from clawft_trio.codec import (
    decode_json,
    decode_losslessly,
    encode_json,
    encode_losslessly,
    is_json_object,
    make_converter,
    structure,
)
from clawft_trio.errors import InvalidData
from clawft_trio.keys import joined_key, storable_key, storable_text
from clawft_trio.retry_hints import RateLimit, limit_resets_after, parse_wait, rate_limits, retry_after
from clawft_trio.similar import closest

# Keys.


@pytest.mark.parametrize(
    ("part", "whole"),
    [
        ("a" * 500, True),
        ("a" * 501, False),
        ("ä" * 250, True),
        ("ä" * 251, False),
        ("%" * 166, True),  # three bytes each, when escaped
        ("%" * 167, False),
    ],
    ids=["500", "501", "500 bytes", "502 bytes", "498 escaped", "501 escaped"],
)
def test_a_part_of_up_to_500_bytes_is_in_its_key_and_a_longer_one_is_cut_to_a_hash(part: str, whole: bool) -> None:
    key = joined_key(part, "end")
    escaped = part.replace("%", "%25")
    assert (key == f"{escaped}:end") is whole
    assert (joined_key("begin", part) == f"begin:{part}") is (whole or "%" in part)
    if not whole:
        assert key.startswith(escaped[:100])
        assert len(key.encode()) < 500
        assert key != joined_key(part + "x", "end")


def test_different_parts_never_have_the_same_key() -> None:
    parts = ["a", "a:b", "a%3Ab", "a%b", "%", "%25", "%00", "\0", "\ud800", "%D800", "", "a" * 501, "a" * 502]
    keys = [joined_key(first, last) for first in parts for last in parts]
    assert len(set(keys)) == len(parts) ** 2
    assert all("\0" not in key and key.isprintable() for key in keys)
    # Most last parts stay readable.
    assert joined_key("telegram", "a:b%c") == "telegram:a:b%c"


@pytest.mark.parametrize(("length", "whole"), [(1100, True), (1101, False)])
def test_a_whole_key_has_up_to_1100_bytes(length: int, whole: bool) -> None:
    key = storable_key("k" * length)
    assert (key == "k" * length) is whole
    assert storable_key(key) == key
    assert len(key) <= 1100


def test_texts_are_stored_without_what_a_database_refuses() -> None:
    assert storable_text("a\0b\ud800c") == "a\N{REPLACEMENT CHARACTER}b?c"
    assert storable_key("a\0b\ud800") == "a%00b%D800"


# JSON.


def test_a_lone_surrogate_changes_nothing_else_of_a_value() -> None:
    value = {1: "a\ud800", "path": Path("b"), "price": Decimal("0.10")}
    plain = {**value, 1: "a"}
    assert encode_json(value) == encode_json({**plain, 1: "a\N{REPLACEMENT CHARACTER}"})
    assert json.loads(encode_losslessly(value)) == {**json.loads(encode_losslessly(plain)), "1": "a\ud800"}


@attrs.frozen
class Sample:
    text: str = ""
    number: int = 0
    share: float = 0.0
    flag: bool = False


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"text": 7}, "$.text"),
        ({"number": "7"}, "$.number"),
        ({"number": 7.0}, "$.number"),
        ({"number": True}, "$.number"),
        ({"share": "1"}, "$.share"),
        ({"share": False}, "$.share"),
        ({"flag": 1}, "$.flag"),
        ({"flag": None}, "$.flag"),
        ({"other": 1}, "$.other"),
    ],
    ids=str,
)
def test_no_value_is_converted_to_another_type(given: dict[str, object], place: str) -> None:
    with pytest.raises(InvalidData) as caught:
        structure(given, Sample, converter=make_converter())
    assert [problem.path for problem in caught.value.problems] == [place]


def test_a_whole_number_is_a_number() -> None:
    made = structure({"share": 1, "number": 2, "flag": True, "text": "x"}, Sample, converter=make_converter())
    assert made == Sample("x", 2, 1.0, True)
    assert type(made.share) is float


@pytest.mark.parametrize("padding", [0, 70_000])
def test_only_one_complete_object_is_a_json_object(padding: int) -> None:
    inside = '"' + "a" * padding + '"'
    assert is_json_object(f'{{"a": {inside}}}')
    assert is_json_object(f' \n\t{{"a": {inside}}} ')
    for wrong in (f"[{inside}]", inside, f'{{"a": {inside}', f'{{"a": {inside}}} {{}}', f'x{{"a": {inside}}}'):
        assert not is_json_object(wrong)


def test_a_text_of_more_than_16_mib_is_not_checked() -> None:
    most = 16 * 1024 * 1024
    assert is_json_object("{}" + " " * (most - 2))
    assert not is_json_object("{}" + " " * (most - 1))


def test_values_without_json_are_text_and_broken_json_is_refused() -> None:
    assert decode_json(encode_json({"a": "\ud800", "b": ("\udfff", [1])})) == {
        "a": "\N{REPLACEMENT CHARACTER}",
        "b": ["\N{REPLACEMENT CHARACTER}", [1]],
    }
    for wrong in ("{", b"\xff", "[" * 100_000):
        with pytest.raises(InvalidData):
            decode_json(wrong)


# Suggestions and waits.


def test_the_most_similar_names_come_first() -> None:
    known = ["read_file", "write_file", "edit_file", "web_fetch"]
    assert closest("raed_file", known) == ["read_file"]
    assert closest("read_fil", known, most=2)[0] == "read_file"
    assert len(closest("read_fil", known, most=2)) == 2
    assert closest("x", known) == []
    # Names are compared by their first 48 characters, and only a thousand of them.
    assert closest("n" * 48, ["n" * 200]) == ["n" * 200]
    assert closest("zzz", [*[f"a{number}" for number in range(999)], "zzz"]) == ["zzz"]
    assert closest("zzz", [*[f"a{number}" for number in range(1000)], "zzz"]) == []


@pytest.mark.parametrize(("failures", "seconds"), [(1, 0.5), (2, 1.0), (3, 2.0), (7, 32.0), (8, 60.0), (5000, 60.0)])
def test_waits_double_up_to_the_longest(failures: int, seconds: float) -> None:
    assert backoff(failures, first=0.5, longest=60.0) == seconds


def test_waits_grow_by_their_multiplier_and_never_overflow() -> None:
    assert backoff(3, first=1.0, longest=1e6, multiplier=10.0) == 100.0
    assert backoff(10**6, first=1.0, longest=float("inf")) == 2.0**40


# Permissions.


def test_unknown_senders_have_next_to_nothing_and_admins_no_limits() -> None:
    assert (ZERO_TRUST.level, ZERO_TRUST.tool_access, ZERO_TRUST.streaming_allowed) == (0, (), False)
    assert (ZERO_TRUST.rate_limit, ZERO_TRUST.max_context_tokens, ZERO_TRUST.max_output_tokens) == (10, 4096, 1024)
    assert (ZERO_TRUST.cost_budget_daily_usd, ZERO_TRUST.cost_budget_monthly_usd) == (0.10, 2.00)
    assert (ZERO_TRUST.escalation_allowed, ZERO_TRUST.model_override) == (False, False)
    assert (USER.level, USER.rate_limit, USER.max_context_tokens, USER.max_output_tokens) == (1, 60, 16_384, 4096)
    assert (USER.streaming_allowed, USER.escalation_allowed, USER.model_override) == (True, True, False)
    assert (ADMIN.level, ADMIN.rate_limit, ADMIN.max_context_tokens, ADMIN.max_output_tokens) == (2, 0, 200_000, 16_384)
    assert (ADMIN.streaming_allowed, ADMIN.escalation_allowed, ADMIN.model_override) == (True, True, True)
    assert (ADMIN.cost_budget_daily_usd, ADMIN.cost_budget_monthly_usd) == (0, 0)
    for permissions in (ZERO_TRUST, USER, ADMIN):
        assert (permissions.token_budget_daily, permissions.token_budget_monthly) == (0, 0)
        assert (permissions.turn_budget_daily, permissions.turn_budget_monthly) == (0, 0)


@pytest.mark.parametrize(
    ("asked", "window", "limit"),
    [(None, None, 1000), (500, None, 500), (2000, None, 1000), (None, 1000, 500), (None, 1, 1), (0, None, 0)],
)
def test_an_answer_is_limited_by_the_request_the_sender_and_half_of_the_window(
    asked: int | None, window: int | None, limit: int
) -> None:
    assert UserPermissions(max_output_tokens=1000).output_limit(asked, window=window) == limit


@attrs.frozen
class Samples:
    several: tuple[Sample, ...] = ()
    named: dict[str, Sample] = attrs.field(factory=dict)
    needed: int = attrs.field(kw_only=True)


def test_every_problem_is_listed_with_its_place() -> None:
    wrong = {"several": [{"text": "a"}, {"text": 7, "number": "8"}], "named": {"x": {"flag": 1}}, "more": 1}
    with pytest.raises(InvalidData) as caught:
        structure(wrong, Samples, converter=make_converter(), source="a file")
    found = {problem.path: problem.message for problem in caught.value.problems}
    assert found == {
        "$.several[1].text": "expected str, got 7",
        "$.several[1].number": 'expected int, got "8"',
        "$.named['x'].flag": "expected bool, got 1",
        "$.needed": "required, and missing",
        "$.more": "unknown key",
    }
    assert str(caught.value).startswith("a file: ")


# Waits that a server asks for.

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("5", 5.0),
        ('"5"', 5.0),
        ("5, 7", 5.0),
        ("-1", None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("3599.5", 3599.5),
        ("3601", 3600.0),
        # From a billion on it is a point in time, from a trillion on in milliseconds.
        ("999999999", 3600.0),
        ("1000000000", 0.0),
        (f"{NOW.timestamp() + 5:.0f}", 5.0),
        (f"{(NOW.timestamp() + 5) * 1000:.0f}", 5.0),
        ("1000000000000", 0.0),
        ("6m0s", 360.0),
        ("1h2m", 3600.0),
        ("120ms", 0.12),
        ("PT30S", 30.0),
        ("1 minute 30 seconds", 90.0),
        ("5x", None),
        ("2026-01-01T00:00:07Z", 7.0),
        ("2026-01-01T00:00:07", 7.0),
        ("2026-01-01T01:00:07+01:00", 7.0),
        ("Thu, 01 Jan 2026 00:00:09 GMT", 9.0),
        ("Wed, 31 Dec 2025 23:59:00 GMT", 0.0),
    ],
)
def test_a_wait_is_read_in_every_form_and_at_most_an_hour(text: str, seconds: float | None) -> None:
    found = parse_wait(text, lambda: NOW)
    assert found == (None if seconds is None else pytest.approx(seconds, abs=1e-3))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
        ({"retry-after": "x", "x-ratelimit-reset-after": "4"}, 4.0),
        ({"retry-after-ms": "0"}, 0.0),
        ({"retry-after": "0"}, 0.0),
        ({"x-other": "4"}, None),
    ],
    ids=str,
)
def test_milliseconds_come_before_seconds(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, lambda: NOW) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        # The latest of the limits that are used up; else the earliest.
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "5s",
          "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "9s"}, 9.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "5s",
          "x-ratelimit-remaining-tokens": "1", "x-ratelimit-reset-tokens": "9s"}, 5.0),
        ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "5s",
          "x-ratelimit-remaining-tokens": "1", "x-ratelimit-reset-tokens": "9s"}, 5.0),
        ({"x-ratelimit-remaining-requests": "0"}, None),
        ({"ratelimit": '"minute";r=0;t=30, "day";r=7;t=3000'}, 30.0),
        ({"ratelimit": "limit=100, remaining=0, reset=31"}, 31.0),
        ({"x-ratelimit-reset-ms": "2500"}, 2.5),
        ({}, None),
    ],
    ids=str,
)  # fmt: skip
def test_the_limit_that_is_used_up_gives_the_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert limit_resets_after(headers, lambda: NOW) == seconds


def test_a_limit_is_read_with_its_numbers() -> None:
    headers = {
        "x-ratelimit-limit-requests": "100, 100;w=60",
        "x-ratelimit-remaining-requests": "7",
        "x-ratelimit-reset-requests": "5s",
        "anthropic-ratelimit-tokens-limit": "50",
    }
    assert rate_limits(headers, lambda: NOW) == (
        RateLimit(kind="requests", limit=100, remaining=7, resets_after=5.0),
        RateLimit(kind="tokens", limit=50),
    )


def test_what_is_nested_too_deeply_is_invalid_in_both_directions() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, [deep, "\ud800"]):
        for encode in (encode_json, encode_losslessly):
            with pytest.raises(InvalidData, match="nested too deeply"):
                encode(value)
    with pytest.raises(msgspec.DecodeError):
        decode_losslessly(b"[" * 100_000 + b"]" * 100_000, list)
