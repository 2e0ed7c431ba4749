"""Retry information of an HTTP response: statuses, waits and rate limits, without I/O.

Sources: RFC 9110 10.2.3 (`Retry-After`: seconds or a date), `retry-after-ms` (OpenAI, Azure), `x-ratelimit-*` (OpenAI,
Groq, Azure, Mistral, Together, OpenRouter), `anthropic-ratelimit-*`, `ratelimit-*` (IETF draft).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import TypeAlias

import attrs

Now: TypeAlias = Callable[[], datetime]
"""Returns the calendar time with a time zone."""


def utc_now() -> datetime:
    """Return the system's calendar time, in UTC."""
    return datetime.now(UTC)


RETRYABLE_STATUSES: frozenset[int] = frozenset({408, 409, 425, 429, *range(500, 600)} - {501, 505})
"""Statuses after which the same request may succeed at the same server. After 501 and 505 it never does."""

LONGEST_WAIT = 3600.0
"""Seconds: the longest wait that a server can request. A wrong clock or unit must not disable a target for years."""

# A wait of 31 years, or a point in time since 2001: only the latter makes sense. From 1000 times as much, milliseconds.
_EPOCH = 1e9
_EPOCH_MS = 1e12


def retry_after(headers: Mapping[str, str], now: Now = utc_now) -> float | None:
    """Return the seconds after which the server asks for a retry; None when it states none.

    `retry-after-ms` overrides `Retry-After`, which may be seconds, an HTTP date or an epoch (the last two use *now*).
    Between 0 and `LONGEST_WAIT`.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _capped(milliseconds / 1000)
    for name in ("retry-after", "x-ratelimit-reset-after"):
        seconds = parse_wait(headers.get(name), now)
        if seconds is not None:
            return seconds
    return None


def limit_resets_after(headers: Mapping[str, str], now: Now = utc_now) -> float | None:
    """Return the seconds until a request may pass by the rate-limit headers, for answers without `Retry-After`.

    The latest reset among the limits that are used up; if none is known to be used up, the earliest reset.
    """
    limits = rate_limits(headers, now)
    used_up = [limit.resets_after for limit in limits if limit.remaining == 0 and limit.resets_after is not None]
    if used_up:
        return max(used_up)
    return min((limit.resets_after for limit in limits if limit.resets_after is not None), default=None)


@attrs.frozen(kw_only=True)
class RateLimit:
    """One rate limit that a server states in its headers."""

    #: the counted unit: `requests`, `tokens`, `input-tokens`, ... ; empty where the server has one limit only
    kind: str
    #: number allowed per window
    limit: int | None = None
    #: number left in this window
    remaining: int | None = None
    #: seconds until the whole limit is available again
    resets_after: float | None = None


# One pattern for all spellings: anthropic-ratelimit-tokens-reset, anthropic-priority-input-tokens-reset,
# x-ratelimit-reset-tokens, x-ratelimit-reset, x-ratelimit-reset-ms, x-ratelimit-limit-tokens-5-minute and
# ratelimitbysize-reset (Mistral), x-tokenlimit-limit (Together), ratelimit-reset, x-rate-limit-reset.
_NAME = re.compile(
    r"(?:anthropic-priority|(?:anthropic-(?:priority-)?|x-)?(?P<counted>rate-?|token)limit(?P<bysize>bysize)?)-"
    r"(?:(?P<kind>[a-z0-9-]+?)-)?(?P<field>limit|remaining|reset)(?:-(?P<kind2>[a-z0-9-]+))?"
)

# The members of the single header of the IETF draft: `limit=100, remaining=0, reset=30`; since its eighth version
# `"minute";r=0;t=30, "day";r=7;t=3600`.
_POLICY = re.compile(r'"(?P<name>[^"]{0,40})"(?P<fields>(?:;[a-z]+=[^;,]*)+)')
_MEMBER = re.compile(r"\b(limit|remaining|reset|r|t)=(\d{1,12})\b")
_MEMBERS = {"r": "remaining", "t": "reset"}


def rate_limits(headers: Mapping[str, str], now: Now = utc_now) -> tuple[RateLimit, ...]:
    """Return the limits that *headers* state, by kind, in all known spellings."""
    found: dict[str, dict[str, str]] = {}
    for name, value in ((name.lower(), value) for name, value in headers.items()):
        match = _NAME.fullmatch(name)
        if match and match["kind2"] != "after":
            counted = "tokens" if match["counted"] == "token" or match["bysize"] else ""
            kind2 = f"-{match['kind2'] or ''}"
            milliseconds = _number(value) if kind2.endswith("-ms") else None
            kind = match["kind"] or kind2.removesuffix("-ms")[1:] or counted
            found.setdefault(kind, {})[match["field"]] = value if milliseconds is None else str(milliseconds / 1000)
        elif name == "ratelimit":
            policies = {policy["name"]: policy["fields"] for policy in _POLICY.finditer(value[:500])} or {"": value}
            for kind, fields in policies.items():
                members = _MEMBER.findall(fields[:500])
                found.setdefault(kind, {}).update({_MEMBERS.get(key, key): number for key, number in members})
    return tuple(
        RateLimit(
            kind=kind,
            limit=_whole(fields.get("limit")),
            remaining=_whole(fields.get("remaining")),
            resets_after=parse_wait(fields.get("reset"), now),
        )
        for kind, fields in found.items()
    )


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else None
    except ValueError:
        return None
    return number if number is not None and isfinite(number) and number >= 0 else None


def _whole(text: str | None) -> int | None:
    # The IETF draft allows a policy after the number: "100, 100;w=60".
    number = _number(text.partition(",")[0].partition(";")[0].strip()) if text else None
    return None if number is None else int(number)


def parse_wait(text: str | None, now: Now = utc_now) -> float | None:
    """Parse a number of seconds, an epoch, a duration such as `6m0s`, or a date, to seconds up to `LONGEST_WAIT`."""
    if not text:
        return None
    text = text.strip().strip('"')
    number = _number(text)
    if number is None and "," in text:
        # The header occurs twice.
        number = _number(text.partition(",")[0])
    if number is None:
        seconds = _duration(text)
        return seconds if seconds is not None else _until(text, now)
    if number >= _EPOCH:
        epoch = number / 1000 if number >= _EPOCH_MS else number
        number = epoch - now().timestamp()
    return _capped(number)


_UNITS: Mapping[str, float] = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PIECE = re.compile(r"(\d+(?:\.\d+)?) ?(ms|[smhd])(?:ec|in|our|ay|econd|inute)?s?(?:, | |$|(?=\d))")


def _duration(text: str) -> float | None:
    """Parse `1s`, `6m0s`, `1h2m3.5s`, `120ms`, `PT30S` or `1 minute 30 seconds` to seconds."""
    text = text[:40].lower().removeprefix("pt")
    if not re.fullmatch(rf"(?:{_PIECE.pattern})+", text):
        return None
    return _capped(sum(float(amount) * _UNITS[unit] for amount, unit in _PIECE.findall(text)))


def _until(text: str, now: Now) -> float | None:
    when = next(_dates(text[:60]), None)
    if when is None:
        return None
    # A date without a zone is in UTC (RFC 9110, 5.6.7).
    aware = when if when.tzinfo else when.replace(tzinfo=UTC)
    return _capped((aware - now()).total_seconds())


def _dates(text: str) -> Iterator[datetime]:
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            yield parse(text)
        except (ValueError, OverflowError):
            continue


def _capped(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST_WAIT)
