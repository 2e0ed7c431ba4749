"""Finds the authorization server of an MCP server (RFC 9728, RFC 8414), and refuses metadata that does not fit."""

from __future__ import annotations

import attrs

from clawft_trio.errors import AuthorizationFailed
from clawft_trio.mcp.auth.addresses import (
    canonical_resource,
    checked_address,
    covers,
    origin,
    resource_metadata_addresses,
    server_metadata_addresses,
    shown_address,
)
from clawft_trio.mcp.auth.http import OAuthHttp
from clawft_trio.mcp.auth.records import ResourceMetadata, ServerMetadata


@attrs.frozen(kw_only=True)
class Discovered:
    """The authorization server of an MCP server, and the requirements of both."""

    #: the resource indicator for authorization and token requests (RFC 8707)
    resource: str
    #: scopes in the metadata of the resource
    scopes: tuple[str, ...]
    server: ServerMetadata
    #: whether the server's metadata was found; without it the URLs are those of revision 2025-03-26
    has_metadata: bool = True


async def discover_authorization(http: OAuthHttp, server: str, named: str = "", issuer: str = "") -> Discovered:
    """Find the authorization server of the MCP server at URL *server*.

    Args:
      http: connections.
      server: URL of the MCP server.
      named: URL of the resource metadata, from the server's challenge.
      issuer: the issuer to use when the resource names several; empty for the first.

    Raises:
      AuthorizationFailed: there is none, or its metadata does not match the request.

    Cancellation: nothing has changed.
    """
    found = await _resource_metadata(http, server, named)
    if found is None:
        return await _legacy(http, server)
    if not covers(found.resource, server):
        raise AuthorizationFailed(f"the metadata is for another resource: {shown_address(found.resource)}")
    if not found.authorization_servers:
        raise AuthorizationFailed("the resource names no authorization server")
    chosen = issuer or found.authorization_servers[0]
    if chosen not in found.authorization_servers:
        raise AuthorizationFailed(f"the resource does not name the authorization server {shown_address(chosen)}")
    metadata = await _server_metadata(http, chosen)
    if metadata is None:
        raise AuthorizationFailed(f"the authorization server {shown_address(chosen)} has no metadata")
    return Discovered(resource=found.resource, scopes=found.scopes_supported, server=metadata)


async def _resource_metadata(http: OAuthHttp, server: str, named: str) -> ResourceMetadata | None:
    for address in [named] if named else resource_metadata_addresses(server):
        answer = await http.get(address, "resource metadata")
        if answer.status == 200:
            return answer.decode(ResourceMetadata, "resource metadata")
    if named:
        raise AuthorizationFailed(
            f"the resource metadata {shown_address(named)} cannot be had: HTTP status {answer.status}"
        )
    return None


async def _server_metadata(http: OAuthHttp, issuer: str) -> ServerMetadata | None:
    checked_address(issuer, "authorization server")
    for address in server_metadata_addresses(issuer):
        answer = await http.get(address, "authorization server metadata")
        if answer.status != 200:
            continue
        found = answer.decode(ServerMetadata, "authorization server metadata")
        # RFC 8414, 3.3: compared as strings. With another issuer's document that issuer would receive our codes
        # (mix-up).
        if found.issuer != issuer:
            raise AuthorizationFailed(
                f"the metadata is of another issuer: {shown_address(found.issuer)}, not {issuer!r}"
            )
        return _checked(found)
    return None


def _checked(metadata: ServerMetadata) -> ServerMetadata:
    checked_address(metadata.token_endpoint, "token endpoint")
    for address, what in (
        (metadata.authorization_endpoint, "authorization endpoint"),
        (metadata.registration_endpoint, "registration endpoint"),
    ):
        if address:
            checked_address(address, what)
    return metadata


async def _legacy(http: OAuthHttp, server: str) -> Discovered:
    """Return the settings of revision 2025-03-26: the MCP server's origin is the authorization server."""
    issuer = origin(server)
    metadata = await _server_metadata(http, issuer)
    resource = canonical_resource(server)
    if metadata is not None:
        return Discovered(resource=resource, scopes=(), server=metadata)
    defaults = ServerMetadata(
        issuer=issuer,
        authorization_endpoint=f"{issuer}/authorize",
        token_endpoint=f"{issuer}/token",
        registration_endpoint=f"{issuer}/register",
        token_endpoint_auth_methods_supported=("client_secret_basic", "client_secret_post", "none"),
    )
    return Discovered(resource=resource, scopes=(), server=_checked(defaults), has_metadata=False)
