"""The redirect that ends a login by a person: its checks, and the authorization code in it."""

from __future__ import annotations

import hmac
from urllib.parse import parse_qs, urlsplit

from clawft_trio.errors import AuthorizationFailed
from clawft_trio.mcp.auth.records import ServerMetadata
from clawft_trio.observe.redaction import cut_redacted

_MOST_PARAMETERS = 50
"""Parameters of a redirect; a login has five."""


def code_of(answer: str, redirect_uri: str, state: str, server: ServerMetadata) -> str:
    """Return the authorization code in the redirect *answer*.

    Raises:
      AuthorizationFailed: it does not belong to our request, is of another server, or refuses.
    """
    expected = urlsplit(redirect_uri)
    try:
        url = urlsplit(answer)
        params = parse_qs(url.query, max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        raise AuthorizationFailed(f"the redirect is no URL, or has over {_MOST_PARAMETERS} parameters") from None
    if (url.scheme, url.netloc, url.path) != (expected.scheme, expected.netloc, expected.path):
        raise AuthorizationFailed("the login returned to another address")
    if any(len(values) != 1 for values in params.values()):
        raise AuthorizationFailed("the redirect has a parameter twice")
    given = {name: values[0] for name, values in params.items()}
    if not hmac.compare_digest(given.get("state", "").encode(), state.encode()):
        raise AuthorizationFailed("the redirect has another state: it answers no request of ours")
    issuer = given.get("iss")
    # RFC 9207, 2.4: compared as strings, even when the server did not announce it.
    if issuer != server.issuer and (issuer is not None or server.authorization_response_iss_parameter_supported):
        raise AuthorizationFailed("the redirect is of another issuer" if issuer else "the redirect names no issuer")
    if "error" in given:
        words = f"{given['error'][:60]} {cut_redacted(given.get('error_description', ''), 200)}".strip()
        text = words if words.isprintable() else ""
        raise AuthorizationFailed(f"the login was refused: {text}", code=given["error"][:60])
    if not given.get("code"):
        raise AuthorizationFailed("the redirect has no code")
    return given["code"]
