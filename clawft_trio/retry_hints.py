"""What an HTTP answer states about asking again: statuses, waits and rate limits, without I/O.

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
"""Calendar time, aware of its zone."""


def utc_now() -> datetime:
    """The calendar time of this machine."""
    return datetime.now(UTC)


RETRYABLE_STATUSES: frozenset[int] = frozenset({408, 409, 425, 429, *range(500, 600)} - {501, 505})
"""Statuses after which the same request may succeed at the same server. 501 and 505 state that it never will."""

LONGEST_WAIT = 3600.0
"""Seconds: no server can ask for more. A wrong clock or unit must not take a target out of service for years."""

# A wait of 31 years, or a point in time since 2001: only the latter makes sense. Thousand times that is milliseconds.
_EPOCH = 1e9
_EPOCH_MS = 1e12


def retry_after(headers: Mapping[str, str], now: Now = utc_now) -> float | None:
    """Seconds until the server wants to be asked again, by its own word; None when it gives none.

    `retry-after-ms` goes before `Retry-After`, which may be seconds, an HTTP date or an epoch (for the last two *now*
    is asked). Between 0 and `LONGEST_WAIT`.
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
    """Seconds until a request may pass again by the rate-limit headers, for answers without `Retry-After`.

    The latest reset among the limits that are used up; where no limit is known to be used up, the earliest reset.
    """
    limits = rate_limits(headers, now)
    used_up = [limit.resets_after for limit in limits if limit.remaining == 0 and limit.resets_after is not None]
    if used_up:
        return max(used_up)
    return min((limit.resets_after for limit in limits if limit.resets_after is not None), default=None)


@attrs.frozen(kw_only=True)
class RateLimit:
    """One limit of a server, as its headers state it."""

    #: what is counted: `requests`, `tokens`, `input-tokens`, ... ; empty where the server has one limit only
    kind: str
    #: allowed per window
    limit: int | None = None
    #: left in this window
    remaining: int | None = None
    #: seconds until all of it is available again
    resets_after: float | None = None


# One pattern for every spelling: anthropic-ratelimit-tokens-reset, x-ratelimit-reset-tokens, x-ratelimit-reset,
# x-ratelimit-limit-tokens-5-minute (Mistral), x-tokenlimit-limit (Together), ratelimit-reset, x-rate-limit-reset.
_NAME = re.compile(
    r"(?:anthropic-(?:priority-)?|x-)?(?P<counted>rate-?|token)limit-(?:(?P<kind>[a-z0-9-]+?)-)?"
    r"(?P<field>limit|remaining|reset)(?:-(?P<kind2>[a-z0-9-]+))?"
)


def rate_limits(headers: Mapping[str, str], now: Now = utc_now) -> tuple[RateLimit, ...]:
    """The limits that *headers* state, by kind, in every spelling that is known."""
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
    # The IETF draft allows a policy behind the number: "100, 100;w=60".
    number = _number(text.partition(",")[0].partition(";")[0].strip()) if text else None
    return None if number is None else int(number)


def parse_wait(text: str | None, now: Now = utc_now) -> float | None:
    """Seconds, at most `LONGEST_WAIT`, from a number of seconds, an epoch, a duration such as `6m0s`, or a date."""
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
    """Seconds of a Go duration: `1s`, `6m0s`, `1h2m3.5s`, `120ms`."""
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
