"""Masks secrets in text from outside, such as an error page that repeats the request's headers."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote

MIN_SECRET = 6
"""Characters below which a value is not masked: masking it would garble the text and reveal its position."""


def redact(text: str, secrets: str | Iterable[str]) -> str:
    """Return *text* with *secrets* masked, at the same length, so that cutting the result cannot reveal a part.

    A secret is found verbatim, escaped as in a JSON string, and percent-encoded; of `Bearer x` and `Basic x` also the
    part after the scheme, decoded too. Values shorter than `MIN_SECRET` are not masked.
    """
    found = {form for secret in ([secrets] if isinstance(secrets, str) else secrets) for form in _forms(secret)}
    # The longest first, because one secret may be part of another.
    for form in sorted(found, key=len, reverse=True):
        text = text.replace(form, "*" * len(form))
    return text


def _forms(secret: str) -> Iterator[str]:
    for value in (secret, *_behind_scheme(secret)):
        for form in (value, json.dumps(value)[1:-1], quote(value), quote(value, safe=""), unquote(value)):
            if len(form) >= MIN_SECRET:
                yield form


def _behind_scheme(secret: str) -> Iterator[str]:
    """Yield the credentials of an `Authorization` header, and what they encode."""
    scheme, blank, credentials = secret.partition(" ")
    if not blank:
        return
    yield credentials.strip()
    if scheme.lower() == "basic":
        try:
            user, colon, password = base64.b64decode(credentials, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            return
        yield from (f"{user}{colon}{password}", password)
