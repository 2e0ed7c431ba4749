"""Masks texts that look like secrets: a second line of defence for texts from elsewhere.

This package keeps secrets out of its own errors and events. Errors of foreign tools and the stderr of servers may
contain them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TypeAlias

Redactor: TypeAlias = Callable[[str], str]
"""Takes a text and returns it with secrets masked."""

REDACTED = "***"

# Every repetition is bounded or cannot start twice at one position, so that the time is linear in any text.
_SHAPES = re.compile(
    r"""
      # an authorization header
      (?P<before> \b (?:bearer|basic) \s{1,3} ) [\w.~+/=-]{8,}
      # a password in an address
    | (?P<url> :// ) [^\s/@:]{0,100} : [^\s/@]{1,200} (?=@)
      # a setting with a telling name
    | (?P<name> (?:api[_-]?key|secret|token|passw(?:or)?d|authorization) [\w-]{0,20} ["']? \s{0,3} [:=] \s{0,3} ["']?)
      (?! \s | \d+ \b ) (?: (?:bearer|basic) \s{1,3} )? [^\s"',;&}]+
      # the issuers' own prefixes
    | \b (?: sk | pk | rk | gsk | xai | ghp | gho | ghs | github_pat | glpat | hf | xox[abprs] | AIza | AKIA | eyJ )
      [-_]? [\w.-]{12,}
    """,
    re.IGNORECASE | re.VERBOSE,
)


_ACCOUNT = re.compile(r"(?<=://)[^\s/?#]{1,4096}@")
# `user:password@host` in an address without a scheme.
_BARE_ACCOUNT = re.compile(r"(?<![^\s'\"(=])[^\s/?#:@'\"]{1,256}:[^\s/?#'\"]{1,4096}@(?=[\w\[])")
_QUERY_VALUE = re.compile(r"(?<=[?&#])([^=&#\s]{1,200}=)[^&#\s]+")


def redact_secrets(text: str) -> str:
    """Return *text* with everything that is shaped like a credential replaced by `***`."""
    return _SHAPES.sub(_keep_name, text)


def cut(text: str, limit: int) -> str:
    """Return *text*, cut to *limit* characters; a text that was cut ends with `…`."""
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"[:limit]


def cut_redacted(text: str, limit: int, *, redact: Redactor = redact_secrets, partial: bool = False) -> str:
    """Mask secrets in *text*, then cut it to *limit* characters, so that no part of a secret remains.

    Args:
      partial: *text* is itself the beginning of a longer one: its last word, which may be a part of a secret, is left
        out. Masks are shorter than secrets, so the end of *text* may be inside of *limit*.

    A text that was cut ends with `…`. Only its beginning is masked, so that a text of any length takes about a
    millisecond.
    """
    most = 8 * limit + 2 * _LONGEST_SECRET
    if len(text) > most:
        text, partial = text[:most], True
    masked = redact(text)
    if partial:
        # After the masking, so that this cut is in no secret: all but the last are masked.
        blank = max(map(masked.rfind, " \n\t"))
        masked = f"{masked[: max(blank, len(masked) - _LONGEST_SECRET, 0)]}…"
    return cut(masked, limit)


def cut_redacted_end(text: str, limit: int) -> str:
    """Mask secrets in *text*, then keep its last *limit* characters, so that no part of a secret remains.

    A text that was cut begins with `…`. Only the end is masked, as in `cut_redacted`.
    """
    most = 8 * limit + 2 * _LONGEST_SECRET
    masked = redact_secrets(text[-most:])
    if len(text) > most:
        # The first word may be the rest of a secret, or of the name that shows that a secret follows.
        return f"…{masked[_LONGEST_SECRET:][-limit:]}"
    return masked if len(masked) <= limit else f"…{masked[-limit:]}"


_LONGEST_SECRET = 2048
"""Characters of a secret that may be cut; a longer last word is left out only so far."""


def redact_address(text: str) -> str:
    """Return *text* with accounts and query values of addresses masked, and with other secrets masked."""
    if "://" in text:
        text = _QUERY_VALUE.sub(rf"\1{REDACTED}", _ACCOUNT.sub(f"{REDACTED}@", text))
    return redact_secrets(_BARE_ACCOUNT.sub(f"{REDACTED}@", text))


def make_redactor(secrets: Iterable[str]) -> Redactor:
    """Return a redactor that also masks the known values *secrets*: `make_redactor([os.environ["OPENAI_API_KEY"]])`.

    Values shorter than four characters are not masked; they occur in ordinary text.
    """
    # The longest first, because one secret may be the beginning of another.
    known = sorted({secret for secret in secrets if len(secret) >= 4}, key=len, reverse=True)

    def redact(text: str) -> str:
        for secret in known:
            text = text.replace(secret, REDACTED)
        return redact_secrets(text)

    return redact


def _keep_name(found: re.Match[str]) -> str:
    groups = found.groupdict(default="")
    return f"{groups['before']}{groups['url']}{groups['name']}{REDACTED}"
