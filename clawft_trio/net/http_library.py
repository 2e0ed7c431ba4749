"""The HTTP library below an endpoint: httpx, or httpx2, its maintained successor, with its exceptions classified."""

from __future__ import annotations

import importlib
import ssl
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

import attrs
import trio

from clawft_trio.errors import NotConfigured
from clawft_trio.net.library_logs import protect_logs
from clawft_trio.net.network import Network
from clawft_trio.net.proxies import NamedProxy, proxy_pool

Library: TypeAlias = Literal["httpx", "httpx2"]


class HttpClient(Protocol):
    """The methods used of a client: `httpx.AsyncClient` and `httpx2.AsyncClient` have them."""

    def build_request(
        self, method: str, url: str, *, content: bytes | None, headers: Any, timeout: Any, extensions: Any
    ) -> Any:
        """Build a request."""
        ...

    async def send(self, request: Any, *, stream: bool, follow_redirects: bool) -> Any:
        """Send *request*, and return when the headers of the response have arrived.

        Cancellation: the connection is closed.
        """
        ...


@attrs.frozen(kw_only=True)
class HttpLibrary:
    """One of the two libraries, with the classification of its exceptions."""

    name: str
    http: Any
    core: Any
    #: exceptions that are failures of the transport
    errors: tuple[type[Exception], ...]
    connect_timeouts: tuple[type[Exception], ...]
    write_timeouts: tuple[type[Exception], ...]
    #: exceptions for requests that were invalid before they were sent
    own_faults: tuple[type[Exception], ...]


def load_library(name: str) -> HttpLibrary:
    # httpx2 is optional, and httpx imports its core only when needed: this does the same.
    try:
        http, core = map(importlib.import_module, (name, name.replace("httpx", "httpcore")))
    except ImportError as exc:
        raise NotConfigured(f"{name} is not installed: pip install clawft-trio[{name}]") from exc
    protect_logs(name)
    return HttpLibrary(
        name=name,
        http=http,
        core=core,
        errors=(
            http.HTTPError,
            http.InvalidURL,
            core.NetworkError,
            core.ProtocolError,
            core.ProxyError,
            core.TimeoutException,
            core.UnsupportedProtocol,
            trio.BrokenResourceError,
            trio.ClosedResourceError,
            OSError,
        ),
        connect_timeouts=(http.ConnectTimeout, core.ConnectTimeout),
        write_timeouts=(http.WriteTimeout, core.WriteTimeout),
        own_faults=(
            http.LocalProtocolError,
            http.UnsupportedProtocol,
            http.InvalidURL,
            core.LocalProtocolError,
            core.UnsupportedProtocol,
        ),
    )


def library_of(client: HttpClient) -> str:
    roots = [cls.__module__.partition(".")[0] for cls in type(client).__mro__]
    return "httpx2" if "httpx2" in roots else "httpx"


def connection_maker(
    library: HttpLibrary,
    tls: ssl.SSLContext | None,
    proxy: NamedProxy | None,
    network: Network,
    keep_alive: float,
) -> Callable[[Any], Any]:
    """Return the library's own function that creates connections. Its pool only creates them and never keeps any."""
    core = library.core
    settings: dict[str, Any] = {
        "ssl_context": tls,
        "keepalive_expiry": keep_alive,
        "network_backend": network,
    }
    if proxy is None:
        return core.AsyncConnectionPool(**settings).create_connection  # type: ignore[no-any-return]
    return proxy_pool(proxy, library.http, core, settings).create_connection  # type: ignore[no-any-return]
