"""The description of an MCP server over HTTP: its URL, secrets, login and TLS."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

import attrs

from clawft_trio.mcp.auth.oauth import OAuth
from clawft_trio.net import Clocks, HeaderValue, HttpEndpoint, bearer
from clawft_trio.observe.redaction import redact_address

_CONNECTIONS = 256
"""Largest number of concurrent requests: each call holds one, and most of them only wait."""


def _shown_url(url: str) -> str:
    return repr(redact_address(url))


_NO_SECRETS = frozenset({"accept", "accept-language", "content-type", "origin", "user-agent"})


def _noting(name: str, value: HeaderValue, sent: dict[str, str]) -> HeaderValue:
    """Return *value* as a function that stores what it returns in *sent*."""
    if name.lower() in _NO_SECRETS:
        return value

    async def noted() -> str:
        made = value() if callable(value) else value
        sent[name] = made if isinstance(made, str) else await made
        return sent[name]

    return noted


@attrs.frozen
class HttpServer:
    """An MCP server over streamable HTTP."""

    #: URL of its MCP endpoint
    url: str = attrs.field(repr=_shown_url)
    #: headers of every request; a value may be a callable, sync or async, that is called for each request
    headers: Mapping[str, HeaderValue] = attrs.field(factory=dict, kw_only=True, repr=False)
    #: bearer token, or a callable, sync or async, that returns it for each request
    token: HeaderValue | None = attrs.field(default=None, kw_only=True, repr=False)
    #: seconds until the connection is ready
    connect: float = attrs.field(default=10.0, kw_only=True)
    #: largest number of redirects that are followed; another origin gets no secrets, and never a body
    redirects: int = attrs.field(default=2, kw_only=True)
    #: how to log in if the server requires a login
    auth: OAuth | None = attrs.field(default=None, kw_only=True)
    #: whether certificates are checked, or the SSL context for it (own CAs, client certificates)
    verify: bool | ssl.SSLContext = attrs.field(default=True, kw_only=True, repr=False)
    #: `http:`, `https:` or `socks5:` URL of a proxy; None: the one from the environment
    proxy: str | None = attrs.field(default=None, kw_only=True, repr=False)

    def endpoint(self, name: str, sent: dict[str, str]) -> HttpEndpoint:
        """Return a pool of connections to the server.

        Args:
          name: its name in errors.
          sent: receives the values of the secret headers, by name, whenever they are sent.

        Raises:
          NotConfigured: the URL is invalid.
        """
        secret = {} if self.token is None else {"authorization": bearer(self.token)}
        return HttpEndpoint(
            self.url,
            name=name,
            headers={key: _noting(key, value, sent) for key, value in {**self.headers, **secret}.items()},
            connections=_CONNECTIONS,
            # The time limit of a response belongs to the call, not to the connection.
            clocks=Clocks(connect=self.connect, write=30.0, first_byte=None),
            redirects=self.redirects,
            verify=self.verify,
            proxy=self.proxy,
        )
