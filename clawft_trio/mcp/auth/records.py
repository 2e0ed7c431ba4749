"""Records that an OAuth client stores and receives. No `repr` shows a secret."""

from __future__ import annotations

import re

import attrs
import msgspec

# RFC 6750, 2.1: the characters of a bearer token. Any other character could forge a header.
_BEARER = re.compile(r"[A-Za-z0-9\-._~+/]+=*")


def _is_bearer(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not _BEARER.fullmatch(value):
        raise ValueError(f"{attribute.name}: not a bearer token (RFC 6750, 2.1)")


@attrs.frozen(kw_only=True)
class OAuthClient:
    """A client's registration at one authorization server.

    A secret or a key makes it a confidential client; with neither it is public and relies on PKCE.
    """

    client_id: str = attrs.field(validator=attrs.validators.min_len(1))
    client_secret: str | None = attrs.field(default=None, repr=False)
    #: PEM of the key that signs client assertions (RFC 7523)
    private_key: str | None = attrs.field(default=None, repr=False)
    #: JWS algorithm of that key
    algorithm: str = "ES256"
    #: `none`, `client_secret_basic`, `client_secret_post` or `private_key_jwt`; None: chosen by the server's metadata
    auth_method: str | None = None
    #: issuer of the authorization server of the registration; None is the first one that the resource names
    issuer: str | None = None


@attrs.frozen(kw_only=True)
class Token:
    """An access token, and its refresh token."""

    access_token: str = attrs.field(repr=False, validator=_is_bearer)
    refresh_token: str | None = attrs.field(default=None, repr=False)
    #: expiry in epoch seconds; None when the server named no lifetime
    expires_at: float | None = None
    #: granted scopes
    scopes: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Credentials:
    """Stored data of one resource: a token and the registration that it was issued to, bound to their issuer."""

    issuer: str
    client: OAuthClient
    token: Token | None = None
    #: every scope that was requested so far
    requested: tuple[str, ...] = ()


class ResourceMetadata(msgspec.Struct, frozen=True):
    """Protected resource metadata (RFC 9728)."""

    resource: str
    authorization_servers: tuple[str, ...] = ()
    scopes_supported: tuple[str, ...] = ()


class ServerMetadata(msgspec.Struct, frozen=True):
    """Authorization server metadata (RFC 8414 and OpenID Connect Discovery)."""

    issuer: str
    token_endpoint: str
    authorization_endpoint: str = ""
    registration_endpoint: str = ""
    scopes_supported: tuple[str, ...] = ()
    grant_types_supported: tuple[str, ...] | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] | None = None
    code_challenge_methods_supported: tuple[str, ...] | None = None
    client_id_metadata_document_supported: bool = False
    authorization_response_iss_parameter_supported: bool = False
