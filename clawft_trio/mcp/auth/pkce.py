"""Proof key for code exchange (RFC 7636), method S256."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable


def new_verifier(random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """Return a code verifier of 43 characters, from 32 random bytes (RFC 7636, 4.1)."""
    return _encode(random_bytes(32))


def challenge_of(verifier: str) -> str:
    """Return the code challenge for *verifier* (RFC 7636, 4.2)."""
    return _encode(hashlib.sha256(verifier.encode("ascii")).digest())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
