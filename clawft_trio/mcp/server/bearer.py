"""Bearer tokens of HTTP requests: determines the sender of a request, or the response that refuses it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from urllib.parse import urlsplit

import attrs
import trio

from clawft_trio.auth import AuthContext
from clawft_trio.mcp.server.options import Bearer, VerifiedToken
from clawft_trio.mcp.types import JsonObject

MAX_TOKEN = 16 * 1024
"""Largest token in characters. Widely used servers limit headers to 8 to 16 KiB."""

VERIFY_WITHIN = 10.0
"""Seconds that the check of a token may take."""

WELL_KNOWN = "/.well-known/oauth-protected-resource"

_log = logging.getLogger("clawft_trio.mcp")


@attrs.frozen
class Rejection:
    """A refusal of a request: a status, and the value of `WWW-Authenticate`."""

    status: int
    challenge: str


def metadata_paths(bearer: Bearer) -> tuple[str, ...]:
    """Return paths of the metadata document: the well-known path, with or without the resource's path (RFC 9728)."""
    path = urlsplit(bearer.resource).path.rstrip("/")
    return (WELL_KNOWN + path, WELL_KNOWN)


def metadata(bearer: Bearer) -> JsonObject:
    """Return the protected-resource metadata document."""
    found = {
        "resource": bearer.resource,
        "authorization_servers": list(bearer.authorization_servers),
        "bearer_methods_supported": ["header"],
    }
    scopes = {"scopes_supported": list(bearer.scopes)} if bearer.scopes else {}
    return {**found, **scopes, **bearer.metadata}


async def authenticate(bearer: Bearer, headers: Mapping[str, str]) -> AuthContext | Rejection:
    """Return the sender that a request runs for, by its token, or the refusal.

    Cancellation: as for the application's check.
    """
    kind, _, token = headers.get("authorization", "").partition(" ")
    token = token.strip()
    if kind.lower() != "bearer" or not token:
        await trio.lowlevel.checkpoint()
        return Rejection(401, _challenge(bearer))
    try:
        verified = await _verify(bearer, token)
    except Exception:  # noqa: BLE001 - the application's code; a token that could not be checked is not valid
        _log.exception("checking a bearer token failed")
        return Rejection(503, "")
    if verified is None:
        return Rejection(401, _challenge(bearer, "invalid_token"))
    if not verified.scopes.issuperset(bearer.scopes):
        return Rejection(403, _challenge(bearer, "insufficient_scope"))
    return verified.auth


async def _verify(bearer: Bearer, token: str) -> VerifiedToken | None:
    await trio.lowlevel.checkpoint()
    if len(token) > MAX_TOKEN:
        return None
    with trio.fail_after(VERIFY_WITHIN):
        return await bearer.verify(token)


def _challenge(bearer: Bearer, error: str = "") -> str:
    parts = urlsplit(bearer.resource)
    address = f"{parts.scheme}://{parts.netloc}{metadata_paths(bearer)[0]}"
    fields = {"error": error} if error else {}
    if bearer.scopes:
        fields["scope"] = " ".join(bearer.scopes)
    fields["resource_metadata"] = address
    return "Bearer " + ", ".join(f'{key}="{value}"' for key, value in fields.items())
