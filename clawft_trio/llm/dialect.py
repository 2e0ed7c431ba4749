"""The `Dialect` protocol: the requests and answers of a family of servers; and the options of all HTTP providers."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol, TypeAlias, TypedDict

from clawft_trio.chat import ChatRequest
from clawft_trio.llm.conform import Rules, VendorRules
from clawft_trio.llm.response_builder import ResponseReader
from clawft_trio.net.addresses import AddressPolicy
from clawft_trio.net.http import Clocks
from clawft_trio.net.http_library import HttpClient, Library
from clawft_trio.retry_hints import Now

Sign: TypeAlias = Callable[[str, str, bytes], Mapping[str, str] | Awaitable[Mapping[str, str]]]
"""A callable that signs a request: it gets method, URL and body, and returns headers that override all others."""

ApiKey: TypeAlias = str | Callable[[], str | Awaitable[str]] | None
"""A key, a callable that returns the current key, or None when no key is needed."""


class HttpOptions(TypedDict, total=False):
    """Options of the connection to a provider; `HttpEndpoint` documents them."""

    connections: int
    max_queue: int | None
    clocks: Clocks
    keep_alive: float
    verify: bool | ssl.SSLContext
    proxy: str | None
    trust_env: bool
    policy: AddressPolicy | None
    library: Library
    client: HttpClient | None


class ProviderOptions(HttpOptions, total=False):
    """Options of every HTTP provider, including those of its connection."""

    #: a key, a callable that returns the current key for each call, or None when no key is needed
    api_key: ApiKey
    #: model of requests that name none
    model: str
    #: additional headers of every request
    headers: Mapping[str, str] | None
    #: environment variable that an error about the key names
    key_variable: str
    #: statuses after which the same request may be sent to this provider again
    retryable_statuses: Iterable[int]
    #: largest answer in characters, reasoning and tool arguments included; if not streamed, in bytes of the body
    max_answer: int
    #: current calendar time, to interpret a `Retry-After` that is a date
    now: Now
    #: signs each request: gets method, URL and body, and returns headers
    sign: Sign | None
    #: clocks by model, for models whose clocks differ from those of the server
    model_clocks: Mapping[str, Clocks] | None


class Dialect(Protocol):
    """The requests and answers of a family of servers."""

    @property
    def vendor(self) -> VendorRules:
        """What the server's models accept."""
        ...

    def path(self, model: str) -> str:
        """Return the path of a request to *model*, relative to the base URL."""
        ...

    @property
    def listing(self) -> str:
        """Path that lists the models, relative to the base URL."""
        ...

    def headers(self, key: str) -> Mapping[str, str]:
        """Return the headers of a request; *key* may be empty."""
        ...

    def body(self, request: ChatRequest, model: str, rules: Rules) -> Mapping[str, Any]:
        """Return the body of a request that *rules* accept, ready to encode as JSON."""
        ...

    def reading(self, request: ChatRequest, model: str) -> ResponseReader:
        """Return a new reader for the answer."""
        ...
