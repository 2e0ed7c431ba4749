"""Requests to the token and registration endpoints, and the interpretation of their responses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

import msgspec

from clawft_trio.errors import AuthorizationFailed
from clawft_trio.mcp.auth.client_auth import authenticate
from clawft_trio.mcp.auth.http import Answer, OAuthHttp
from clawft_trio.mcp.auth.records import OAuthClient, ServerMetadata, Token
from clawft_trio.observe.redaction import cut_redacted, make_redactor
from clawft_trio.retry_hints import RETRYABLE_STATUSES

LONGEST_LIFE = 10 * 365 * 86_400.0
"""Longest lifetime of a token in seconds; a longer one is reduced to it."""


class _TokenResponse(msgspec.Struct, frozen=True):
    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - a type, not a token
    expires_in: float | str | None = None
    refresh_token: str | None = None
    scope: str | None = None


class _ErrorResponse(msgspec.Struct, frozen=True):
    error: str = ""
    error_description: str = ""


class _Registration(msgspec.Struct, frozen=True):
    client_id: str
    client_secret: str | None = None
    token_endpoint_auth_method: str | None = None


async def request_token(
    http: OAuthHttp,
    metadata: ServerMetadata,
    client: OAuthClient,
    form: Mapping[str, str],
    *,
    asked: tuple[str, ...],
    now: Callable[[], float],
) -> Token:
    """Request a token from the token endpoint.

    Args:
      http: connections to authorization servers.
      metadata: metadata of the server that *client* is registered at.
      client: the client.
      form: the parameters of the grant.
      asked: requested scopes; they are granted when the response names none (RFC 6749, 5.1).
      now: returns calendar time in epoch seconds.

    Raises:
      AuthorizationFailed: it was refused, or the response is invalid.
      NotConfigured: the client cannot authenticate itself.

    Cancellation: it is unknown whether a token was issued.
    """
    whole, headers = authenticate(client, metadata, form, now)
    answer = await http.post_form(metadata.token_endpoint, "token", whole, headers)
    if answer.status != 200:
        raise refusal(answer, "the token was refused", sent={**whole, **headers})
    response = answer.decode(_TokenResponse, "token response")
    if response.token_type.lower() != "bearer":
        raise AuthorizationFailed(f"the token is of an unknown type: {response.token_type[:60]!r}")
    try:
        return Token(
            access_token=response.access_token,
            refresh_token=response.refresh_token,
            expires_at=_expiry(response.expires_in, now()),
            scopes=asked if response.scope is None else tuple(response.scope.split()),
        )
    except ValueError as exc:
        raise AuthorizationFailed(str(exc)) from None


def _expiry(expires_in: float | str | None, now: float) -> float | None:
    try:
        life = None if expires_in is None else float(expires_in)
    except ValueError:
        return None
    # The comparison is false for NaN.
    return now + min(life, LONGEST_LIFE) if life is not None and life > 0 else None


async def register(
    http: OAuthHttp, metadata: ServerMetadata, *, name: str, redirect_uri: str, scopes: tuple[str, ...]
) -> OAuthClient:
    """Register a client (RFC 7591).

    Raises:
      AuthorizationFailed: it was refused, or the response is invalid.

    Cancellation: it is unknown whether the client was registered.
    """
    accepted = metadata.token_endpoint_auth_methods_supported or ()
    document: dict[str, Any] = {
        "client_name": name,
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        # A program on the user's machine cannot keep a secret from the user; a server may still require one.
        "token_endpoint_auth_method": next(
            (one for one in ("none", "client_secret_basic", "client_secret_post") if one in accepted), "none"
        ),
        "application_type": "web" if redirect_uri.startswith("https:") else "native",
    }
    if scopes:
        document["scope"] = " ".join(scopes)
    answer = await http.post_json(metadata.registration_endpoint, "registration", document)
    if answer.status not in {200, 201}:
        raise refusal(answer, "the client's registration was refused")
    response = answer.decode(_Registration, "registration")
    try:
        return OAuthClient(
            client_id=response.client_id,
            client_secret=response.client_secret or None,
            auth_method=response.token_endpoint_auth_method,
            issuer=metadata.issuer,
        )
    except ValueError as exc:
        raise AuthorizationFailed(f"the registration: {exc}") from None


# Parameters of a token request that are credentials (RFC 6749, 7521, 7636).
_CREDENTIALS = {
    "assertion",
    "authorization",
    "client_assertion",
    "client_secret",
    "code",
    "code_verifier",
    "refresh_token",
}


def refusal(answer: Answer, what: str, sent: Mapping[str, str] | None = None) -> AuthorizationFailed:
    """Return the error for a refusal. Of the response it contains only the error code and the description.

    Args:
      answer: the response.
      what: what was refused, for the message.
      sent: parameters and headers of the request. A server may repeat them; the error does not.
    """
    try:
        response = answer.decode(_ErrorResponse, "error")
    except AuthorizationFailed:
        response = _ErrorResponse()
    redact = make_redactor(spellings(value for name, value in (sent or {}).items() if name in _CREDENTIALS))
    code, description = redact(response.error)[:60], cut_redacted(response.error_description, 200, redact=redact)
    text = " ".join(part for part in (code, description) if part)
    shown = text if text.isprintable() else ""
    error = AuthorizationFailed(f"{what}: HTTP status {answer.status} {shown}".rstrip(), code=code)
    error.retryable = answer.status in RETRYABLE_STATUSES
    return error


def spellings(values: Iterable[str]) -> Iterator[str]:
    """Yield *values* unchanged and form-encoded."""
    for value in values:
        bare = value.partition(" ")[2] or value
        yield from (value, bare, quote(value, safe=""), quote_plus(bare))
