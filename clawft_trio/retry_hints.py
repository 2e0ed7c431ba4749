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


# One pattern for all spellings: anthropic-ratelimit-tokens-reset, x-ratelimit-reset-tokens, x-ratelimit-reset,
# x-ratelimit-limit-tokens-5-minute (Mistral), x-tokenlimit-limit (Together), ratelimit-reset, x-rate-limit-reset.
_NAME = re.compile(
    r"(?:anthropic-(?:priority-)?|x-)?(?P<counted>rate-?|token)limit-(?:(?P<kind>[a-z0-9-]+?)-)?"
    r"(?P<field>limit|remaining|reset)(?:-(?P<kind2>[a-z0-9-]+))?"
)


def rate_limits(headers: Mapping[str, str], now: Now = utc_now) -> tuple[RateLimit, ...]:
    """Return the limits that *headers* state, by kind, in all known spellings."""
    found: dict[str, dict[str, str]] = {}
    for name, value in headers.items():
        match = _NAME.fullmatch(name.lower())
        if match and match["kind2"] != "after":
            counted = "tokens" if match["counted"] == "token" else ""
            found.setdefault(match["kind"] or match["kind2"] or counted, {})[match["field"]] = value
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
    text = text.strip()
    number = _number(text)
    if number is None:
        seconds = _duration(text)
        return seconds if seconds is not None else _until(text, now)
    if number >= _EPOCH:
        epoch = number / 1000 if number >= _EPOCH_MS else number
        number = epoch - now().timestamp()
    return _capped(number)


_UNITS: Mapping[str, float] = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PIECE = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")


def _duration(text: str) -> float | None:
    """Parse a Go duration (`1s`, `6m0s`, `1h2m3.5s`, `120ms`) to seconds."""
    if not re.fullmatch(rf"(?:{_PIECE.pattern})+", text[:40]):
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
