"""How to reach an MCP server over HTTP: its address, its secrets, its login, its TLS."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

import attrs

from clawft_trio.mcp.auth.oauth import OAuth
from clawft_trio.net import Clocks, HeaderValue, HttpEndpoint, bearer
from clawft_trio.observe.redaction import redact_address

_CONNECTIONS = 256
"""Requests under way at once: each call holds one, and most of them only wait."""


def _shown_url(url: str) -> str:
    return repr(redact_address(url))


@attrs.frozen
class HttpServer:
    """How to reach an MCP server over streamable HTTP."""

    #: the address of its MCP endpoint
    url: str = attrs.field(repr=_shown_url)
    #: sent with every request; a value may be a callable, sync or async, that is asked each time
    headers: Mapping[str, HeaderValue] = attrs.field(factory=dict, kw_only=True, repr=False)
    #: bearer token, or a callable, sync or async, that is asked for it before each request
    token: HeaderValue | None = attrs.field(default=None, kw_only=True, repr=False)
    #: seconds until a connection is made
    connect: float = attrs.field(default=10.0, kw_only=True)
    #: redirects that are followed; secrets are not taken along to another origin, bodies not at all
    redirects: int = attrs.field(default=2, kw_only=True)
    #: how to log in where the server wants a login
    auth: OAuth | None = attrs.field(default=None, kw_only=True)
    #: whether certificates are checked, or the context that does it (own CAs, client certificates)
    verify: bool | ssl.SSLContext = attrs.field(default=True, kw_only=True, repr=False)
    #: `http:`, `https:` or `socks5:` URL of a proxy; None: the one that the environment names
    proxy: str | None = attrs.field(default=None, kw_only=True, repr=False)

    def endpoint(self, name: str) -> HttpEndpoint:
        """A pool of connections to it.

        Raises:
          NotConfigured: the address is none.
        """
        secret = {} if self.token is None else {"authorization": bearer(self.token)}
        return HttpEndpoint(
            self.url,
            name=name,
            headers={**self.headers, **secret},
            connections=_CONNECTIONS,
            # How long an answer takes is for the call to say, not for the connection.
            clocks=Clocks(connect=self.connect, write=30.0, first_byte=None),
            redirects=self.redirects,
            verify=self.verify,
            proxy=self.proxy,
        )
