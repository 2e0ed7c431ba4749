"""Authenticates a client at the token endpoint (RFC 6749, 2.3; RFC 7523, 2.2)."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Mapping
from urllib.parse import quote

from clawft_trio.errors import AuthorizationFailed, NotConfigured
from clawft_trio.mcp.auth.records import OAuthClient, ServerMetadata

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_LIFE = 60.0
"""Seconds that a client assertion is valid."""

# RFC 8414's default for a server that lists no methods.
_DEFAULT_METHODS = ("client_secret_basic",)


def method_of(client: OAuthClient, metadata: ServerMetadata) -> str:
    """Return the authentication method of *client* at this server.

    Raises:
      AuthorizationFailed: the server accepts none that the client can use.
    """
    if client.auth_method is not None:
        return client.auth_method
    accepted = metadata.token_endpoint_auth_methods_supported or _DEFAULT_METHODS
    if client.private_key is not None:
        usable: tuple[str, ...] = ("private_key_jwt",)
    elif client.client_secret is not None:
        usable = ("client_secret_basic", "client_secret_post", "none")
    else:
        return "none"
    chosen = next((one for one in usable if one in accepted), None)
    if chosen is None:
        raise AuthorizationFailed(f"the authorization server accepts none of {', '.join(usable)}")
    return chosen


def authenticate(
    client: OAuthClient, metadata: ServerMetadata, form: Mapping[str, str], now: Callable[[], float]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the form of a token request with the client's authentication, and its additional headers.

    Raises:
      AuthorizationFailed: the server accepts no method that the client can use.
      NotConfigured: the client has no key or secret for its method, or the library for keys is not installed.
    """
    method = method_of(client, metadata)
    whole = {**form, "client_id": client.client_id}
    if method == "none":
        return whole, {}
    if method == "private_key_jwt":
        assertion = client_assertion(client, metadata.issuer, now())
        return {**whole, "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}, {}
    if client.client_secret is None:
        raise NotConfigured(f"the OAuth client has no secret for {method}")
    if method == "client_secret_post":
        return {**whole, "client_secret": client.client_secret}, {}
    if method != "client_secret_basic":
        raise AuthorizationFailed(f"unknown client authentication method: {method[:60]!r}")
    return dict(form), {"authorization": basic(client.client_id, client.client_secret)}


def basic(client_id: str, secret: str) -> str:
    """Return the `Authorization` header of client_secret_basic: both parts are form-encoded first (RFC 6749, 2.3.1)."""
    pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def client_assertion(client: OAuthClient, audience: str, now: float) -> str:
    """Return a signed JWT that authenticates *client* (RFC 7523, 3).

    Raises:
      NotConfigured: there is no key, it does not fit the algorithm, or joserfc is not installed.
    """
    if client.private_key is None:
        raise NotConfigured("the OAuth client has no private key for private_key_jwt")
    try:
        from joserfc import jwt  # noqa: PLC0415 - an extra
        from joserfc.errors import JoseError  # noqa: PLC0415 - an extra
        from joserfc.jwk import import_key  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise NotConfigured("private_key_jwt needs joserfc: pip install clawft-trio[oauth]") from exc
    claims = {
        "iss": client.client_id,
        "sub": client.client_id,
        "aud": audience,
        "jti": secrets.token_urlsafe(16),
        "iat": int(now),
        "exp": int(now + ASSERTION_LIFE),
    }
    # EdDSA, and its names since RFC 9864: Ed25519, Ed448.
    kind = "OKP" if client.algorithm.startswith("Ed") else "EC" if client.algorithm.startswith("E") else "RSA"
    try:
        key = import_key(client.private_key, kind)  # type: ignore[call-overload]
        return jwt.encode({"alg": client.algorithm}, claims, key, algorithms=[client.algorithm])
    except (JoseError, ValueError, TypeError) as exc:
        # Its text may quote the key.
        raise NotConfigured(f"the private key does not fit {client.algorithm}: {type(exc).__name__}") from None
