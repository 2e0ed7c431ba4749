"""HTTP client for one server: pooled connections, limited requests, bounded waits; a response ends with its block.

The only file that imports httpx. httpx2, its maintained successor, may be used instead (`library="httpx2"`).

Failures are raised as one of these, from the original exception:

* `ProviderTimeout`: one of this endpoint's clocks ran out (`connect`, `write`, `first_byte`);
* `TransportFailed`: no connection, a broken one, or something on it that is not HTTP;
* `BulkheadFull`: too many requests wait already;
* `AddressRefused`: the address policy forbids the server's address.

A status is not an error here: the layer above, which knows the protocol, interprets it.
"""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import attrs
import httpx  # noqa: ASYNC127 - the library that the design names; httpx2 is an option
import trio

from clawft_trio.attempts import AttemptInProgress
from clawft_trio.errors import NotConfigured, ProviderError, ProviderTimeout, TransportFailed
from clawft_trio.net.addresses import AddressPolicy
from clawft_trio.net.admission import Admission, AdmissionStatistics
from clawft_trio.net.connections import QUERY, Connections
from clawft_trio.net.headers import HeaderValue, look_up
from clawft_trio.net.http_library import HttpClient, Library, connection_maker, library_of, load_library
from clawft_trio.net.library_logs import protected_logs
from clawft_trio.net.network import Network
from clawft_trio.net.proxies import NamedProxy, environment_proxy, given_proxy
from clawft_trio.net.response import HttpResponse
from clawft_trio.observe.redaction import cut_redacted, redact_address

# Largest number of parsed URLs that an endpoint keeps. A provider uses one, or one for each model.
_MOST_URLS = 64

# A compressed stream arrives in bursts, and a compressed page may be a decompression bomb: none is requested.
_UNCOMPRESSED = {"accept-encoding": "identity"}

# Methods whose requests have no `Content-Length` when they have no body (RFC 9110, 8.6).
_WITHOUT_BODY = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})

# Headers that a redirect to another origin keeps.
_HARMLESS = frozenset(
    (
        "accept",
        "accept-encoding",
        "accept-language",
        "connection",
        "content-length",
        "content-type",
        "host",
        "user-agent",
    )
)


def _positive(_: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
    if value is not None and not value > 0:
        raise ValueError(f"{attribute.name} must be more than 0 seconds, got {value!r}")


@attrs.frozen(kw_only=True)
class Clocks:
    """Limits in seconds for the parts of a request that are not visible to higher layers. None sets no limit."""

    #: until the connection is ready: name, TCP, proxy and TLS together
    connect: float | None = attrs.field(default=5.0, validator=_positive)
    #: longest time without progress while the request is sent
    write: float | None = attrs.field(default=30.0, validator=_positive)
    #: from admission until the response's headers
    first_byte: float | None = attrs.field(default=30.0, validator=_positive)
    #: from admission until the headers of a model's answer that is not streamed: they arrive when it is complete
    unstreamed: float | None = attrs.field(default=600.0, validator=_positive)
    #: longest silence of a model after a sign that it is thinking: the start of a block, an empty delta
    thinking: float | None = attrs.field(default=120.0, validator=_positive)
    #: longest wait for the end of a body after the end of the answer in it
    linger: float = attrs.field(default=2.0, validator=attrs.validators.ge(0))


@attrs.frozen(kw_only=True)
class EndpointStatistics:
    """Statistics of an endpoint."""

    admission: AdmissionStatistics
    #: connections that a request owns; always 0 with a user-supplied client
    busy: int
    #: connections kept for the next request
    idle: int
    #: requests admitted so far
    requests: int


class HttpEndpoint:
    """One server, by its base URL, and the connections to it.

    Use it as `async with HttpEndpoint(url) as http`. Nothing is opened before the first request.

    base_url: `http:` or `https:` URL, without credentials: those are headers.
    name: the provider that `ProviderError.provider` names in errors.
    headers: headers of every request. Values are never in logs or errors.
    connections: largest number of concurrent requests. The others wait, and hold no connection.
    max_queue: largest number of waiting requests; None is no limit.
    clocks: time limits for the parts of a request.
    keep_alive: seconds that an unused connection is kept. Some servers close theirs after 5.
    redirects: largest number of redirects that are followed; 0 returns them as responses.
    verify: whether certificates are checked, or the SSL context for it.
    proxy: `http:`, `https:` or `socks5:` URL of a proxy.
    trust_env: use the proxy and the certificates that the environment names (`HTTPS_PROXY`, `SSL_CERT_FILE`).
    policy: which addresses may be reached; None is all. Cannot be combined with a proxy, which resolves names itself.
    library: `httpx` or `httpx2`.
    client: a user-supplied client in place of these settings; its owner configures and closes it. It must not queue
      (`max_connections=None`).

    Raises:
      NotConfigured: the base URL is not a URL, or settings exclude each other.
    """

    def __init__(
        self,
        base_url: str,
        *,
        name: str = "",
        headers: Mapping[str, HeaderValue] | None = None,
        connections: int = 32,
        max_queue: int | None = None,
        clocks: Clocks = Clocks(),
        keep_alive: float = 5.0,
        redirects: int = 0,
        verify: bool | ssl.SSLContext = True,
        proxy: str | None = None,
        trust_env: bool = True,
        policy: AddressPolicy | None = None,
        library: Library = "httpx",
        client: HttpClient | None = None,
    ) -> None:
        if isinstance(base_url, str):
            # No request has the fragment.
            base_url = base_url.strip().partition("#")[0]
        url = _checked_url(base_url)
        if policy is not None and (proxy is not None or client is not None):
            raise NotConfigured("an address policy cannot be kept through a proxy or by a client of one's own")
        self.name = name
        self._base_url = base_url
        self._headers = dict(headers or {})
        self._clocks = clocks
        self._redirects = redirects
        self._admission = Admission(connections, max_queue=max_queue, name=name)
        self._requests = 0
        self._urls: dict[str, Any] = {}
        self._closed = False
        self._connections: Connections | None = None
        self._peers: set[str] = set()
        self._proxy: NamedProxy | None = None
        self._client: HttpClient
        self._library = load_library(library_of(client) if client is not None else library)
        if client is None:
            if proxy is not None:
                self._proxy = given_proxy(proxy)
            elif policy is None and trust_env:
                self._proxy = environment_proxy(url)
            tls = verify if isinstance(verify, ssl.SSLContext) else None
            # Reading the certificates takes 20 ms, which is saved for a server without TLS.
            if tls is None and (url.scheme == "https" or redirects or verify is False):
                tls = self._library.http.create_ssl_context(verify=verify, trust_env=trust_env)
            network = Network(policy=policy, write_broke=self._library.core.WriteError)
            make = connection_maker(self._library, tls, self._proxy, network, keep_alive)
            if self._proxy is None:
                self._peers = network.peers
            self._connections = Connections(self._library.http, self._library.core, make, most_idle=connections)
            own = self._library.http.AsyncClient(transport=self._connections, trust_env=False, timeout=None)
            self._client = own
            self._client_headers = dict(own.headers)
        else:
            self._client = client

    @property
    def base_url(self) -> str:
        """The base URL that request paths are appended to."""
        return self._base_url

    def __repr__(self) -> str:
        if not hasattr(self, "_admission"):
            # A traceback with local variables also shows an instance whose `__init__` failed.
            return f"<{type(self).__name__}, not made>"
        seen = self._admission.statistics()
        state = "closed" if self._closed else f"{seen.in_use} of {seen.limit} in use, {seen.waiting} waiting"
        return f"<HttpEndpoint {_shown(self._base_url)} by {self._library.name}: {state}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection. Running requests fail; new ones are refused.

        Cancellation: all connections are closed nevertheless.
        """
        self._closed = True
        if self._connections is not None:
            await self._connections.aclose()
        await trio.lowlevel.checkpoint()

    @property
    def peers(self) -> frozenset[str]:
        """The addresses that were connected to; empty behind a proxy and with a user-supplied client."""
        return frozenset(self._peers)

    def statistics(self) -> EndpointStatistics:
        """Return the current statistics."""
        return EndpointStatistics(
            admission=self._admission.statistics(),
            busy=self._connections.busy if self._connections else 0,
            idle=self._connections.idle if self._connections else 0,
            requests=self._requests,
        )

    @asynccontextmanager
    async def request(
        self,
        method: str,
        path: str = "",
        *,
        content: bytes | None = None,
        headers: Mapping[str, HeaderValue] | None = None,
        clocks: Clocks | None = None,
        attempt: AttemptInProgress | None = None,
    ) -> AsyncGenerator[HttpResponse, None]:
        """Send a request and yield its response once the headers have arrived; the body is read within the block.

        Leaving the block ends the response. If the body was not received completely, the connection is closed.

        Args:
          path: appended to the base URL's path, before its query; empty is the base URL itself.
          headers: override the endpoint's own.
          clocks: for this request, instead of the endpoint's.
          attempt: records when the request was admitted and sent and when the headers arrived.

        Raises:
          ProviderTimeout: a time limit passed.
          TransportFailed: the server was not reached, or its answer is not HTTP.
          BulkheadFull: too many requests are already waiting.
          AddressRefused: the address policy forbids the address.
          NotConfigured: a header cannot be sent.
          trio.ClosedResourceError: the endpoint is closed.

        Cancellation: the connection is closed.
        """
        # Before admission: looking up a key may take long, and must not hold a connection.
        values = await look_up(_UNCOMPRESSED, self._headers, headers or {})
        async with self._admission.admit():
            if self._closed:
                raise trio.ClosedResourceError(f"{self!r} is closed")
            self._requests += 1
            sending = _Sending(self, clocks or self._clocks, attempt)
            response = await sending.send(method, self.address(path), content, values)
            response.secrets = (*_secret_headers(values), *self._query_values())
            async with response:
                yield response

    def _query_values(self) -> list[str]:
        """Return the values in the base URL's query, where some gateways expect their key."""
        query = self._base_url.partition("#")[0].partition("?")[2]
        return [piece.partition("=")[2] or piece for piece in query.split("&") if piece]

    def _parsed(self, url: str) -> Any:
        """Return *url* parsed by the library; cached, because parsing it costs as much as sending it."""
        known = self._urls.get(url)
        if known is None:
            if len(self._urls) >= _MOST_URLS:
                self._urls.clear()
            known = self._urls[url] = self._library.http.URL(url)
        return known

    def address(self, path: str) -> str:
        """Return the URL of a request to *path*."""
        if not path:
            return self._base_url
        base, _, query = self._base_url.partition("?")
        address = f"{base.rstrip('/')}/{path.lstrip('/')}"
        return f"{address}{'&' if '?' in address else '?'}{query}" if query else address


class _Sending:
    """A request whose response headers have not arrived yet."""

    def __init__(self, endpoint: HttpEndpoint, clocks: Clocks, attempt: AttemptInProgress | None) -> None:
        self._endpoint = endpoint
        self._library = endpoint._library
        self._clocks = clocks
        self._attempt = attempt
        self._request: Any = None
        if attempt is not None:
            attempt.admit()

    async def send(self, method: str, url: str, content: bytes | None, headers: dict[str, str]) -> HttpResponse:
        request = self._built(method, url, content, headers)
        for _ in range(self._endpoint._redirects):
            response = await self._hop(request)
            following = response._raw.next_request
            if following is None:
                return response
            await response.finish()
            self._check_redirect(request, following)
            request = self._without_secrets(request, following)
        return await self._hop(request)

    def _built(self, method: str, url: str, content: bytes | None, headers: dict[str, str]) -> Any:
        endpoint, clocks = self._endpoint, self._clocks
        extensions: dict[str, Any] = {"trace": self._note_sent}
        if endpoint._connections is None:
            limits = (clocks.connect, None, clocks.write, None)
            return endpoint._client.build_request(
                method, url, content=content, headers=headers, timeout=limits, extensions=extensions
            )
        extensions["timeout"] = {"connect": clocks.connect, "read": None, "write": clocks.write, "pool": None}
        # The query may contain a key, and the library logs the URL of every request: it gets the URL without the
        # query, which `Connections` adds again.
        address, separator, _ = url.partition("?")
        if separator:
            extensions[QUERY] = endpoint._parsed(url).query
        target, body = endpoint._parsed(address), content or b""
        complete = {"host": target.netloc.decode(), **endpoint._client_headers, **headers}
        if body or method not in _WITHOUT_BODY:
            complete["content-length"] = str(len(body))
        # Not made by the client, which merges settings that this one does not have; it takes three times as long.
        return self._library.http.Request(
            method,
            target,
            headers=[(name.encode(), value.encode()) for name, value in complete.items()],
            stream=self._library.http.ByteStream(body),
            extensions=extensions,
        )

    async def _hop(self, request: Any) -> HttpResponse:
        self._request = request
        limit = self._clocks.first_byte
        raw: Any = None
        with trio.move_on_after(math.inf if limit is None else limit):
            raw = await self._deliver(request)
        if raw is None:
            raise ProviderTimeout(clock="first_byte", limit=limit, provider=self._endpoint.name)
        if self._attempt is not None:
            self._attempt.sent = True
            self._attempt.first_byte = trio.current_time()
        return HttpResponse(raw, url=partial(_shown, str(request.url)), errors=self._library.errors, judge=self._judge)

    async def _deliver(self, request: Any) -> Any:
        connections = self._endpoint._connections
        try:
            with protected_logs():
                if connections is not None and not self._endpoint._redirects:
                    # The client would add cookies and authentication, which no model server needs.
                    return await connections.handle_async_request(request)
                return await self._endpoint._client.send(request, stream=True, follow_redirects=False)
        except ProviderError as exc:
            exc.provider = exc.provider or self._endpoint.name
            self._by_proxy(exc)
            raise
        except self._library.errors as exc:
            raise self._judge(exc) from exc

    @property
    def _where(self) -> str:
        """The request, for errors. Computed only for an error: it takes a tenth of the time of sending the request."""
        return f"{self._request.method} {_shown(str(self._request.url))}"

    async def _note_sent(self, event: str, info: Mapping[str, Any]) -> None:
        # httpcore reports the start of each of its steps. The first one to a proxy is not yet the request.
        if self._attempt is not None and event.endswith(".send_request_headers.started"):
            self._attempt.sent = self._attempt.sent or info["request"].method != b"CONNECT"

    def _check_redirect(self, request: Any, following: Any) -> None:
        """Refuse a redirect to a URL that is not HTTP, and one that would send the request's body to another origin."""
        problem = ""
        if following.url.scheme not in {"http", "https"} or not following.url.host:
            problem = "it leads to what is no http: or https: address"
        elif following.method not in {"GET", "HEAD"} and _origin(request.url) != _origin(following.url):
            problem = "it leads to another origin, and the request has a body"
        if problem:
            text = f"{self._where}: the redirect is not followed: {problem}"
            raise TransportFailed(text, provider=self._endpoint.name, retryable=False)

    def _without_secrets(self, request: Any, following: Any) -> Any:
        following.extensions.pop(QUERY, None)
        # httpx itself removes only `Authorization` on redirects to another origin. A key may be in any header.
        if _origin(request.url) != _origin(following.url):
            for name in set(following.headers) - _HARMLESS:
                del following.headers[name]
        return following

    def _judge(self, exc: Exception) -> Exception:
        """Return the error of this package for an exception of the library: by its class, never by its text."""
        text = f"{self._where}: {cut_redacted(str(exc), 200) or type(exc).__name__}"
        for kind, clock, limit in (
            (self._library.connect_timeouts, "connect", self._clocks.connect),
            (self._library.write_timeouts, "write", self._clocks.write),
        ):
            if isinstance(exc, kind):
                return self._by_proxy(ProviderTimeout(clock=clock, limit=limit, provider=self._endpoint.name))
        retryable = False if isinstance(exc, self._library.own_faults) else None
        return self._by_proxy(TransportFailed(text, provider=self._endpoint.name, retryable=retryable))

    def _by_proxy(self, exc: ProviderError) -> ProviderError:
        """Add the proxy to the message of *exc*, if the request went through one: the fault may be there."""
        if self._endpoint._proxy is not None:
            exc.message = f"{exc.message} (through {self._endpoint._proxy})"
        return exc


def _checked_url(base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url)
        port = urlsplit(str(url)).port
    except (httpx.InvalidURL, TypeError, ValueError):
        raise NotConfigured("the base URL is not a URL") from None
    if url.userinfo:
        raise NotConfigured(f"the base URL of {url.host} holds credentials: they belong into headers")
    if url.scheme not in {"http", "https"} or not url.host or port == 0 or not _HOST.fullmatch(url.raw_host):
        raise NotConfigured(f"the base URL must be http:// or https:// and a host, got {_shown(base_url)!r}")
    return url


# A name, or an address of IPv4 or IPv6. Names are in ASCII (IDNA) here.
_HOST = re.compile(rb"[\w.:-]+", re.ASCII)


def _origin(url: Any) -> tuple[str, str, int | None]:
    # The library's URLs do not have the default port of their scheme.
    return url.scheme, url.host, url.port


# Headers with public values that are too common in text to be masked.
_PUBLIC = _HARMLESS | {
    "anthropic-beta",
    "anthropic-version",
    "http-referer",
    "openai-beta",
    "referer",
    "transfer-encoding",
    "x-title",
}


def _secret_headers(headers: Mapping[str, str]) -> Iterator[str]:
    return (value for name, value in headers.items() if name not in _PUBLIC)


def _shown(url: str) -> str:
    """Return *url* without the parts that may be secret: its account and its query."""
    return redact_address(url.partition("?")[0].partition("#")[0])
