"""What a family of servers is asked and how it answers, and the options that all providers over HTTP have."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol, TypeAlias, TypedDict

from clawft_trio.chat import ChatRequest
from clawft_trio.llm.conform import Rules, VendorRules
from clawft_trio.llm.response_builder import ResponseReader
from clawft_trio.net.addresses import AddressPolicy
from clawft_trio.net.http import Clocks, HttpClient, Library
from clawft_trio.retry_hints import Now

Sign: TypeAlias = Callable[[str, str, bytes], Mapping[str, str] | Awaitable[Mapping[str, str]]]
"""Signs a request: gets its method, URL and body, and returns headers that override all others."""

ApiKey: TypeAlias = str | Callable[[], str | Awaitable[str]] | None
"""A key, a callable that returns the current one, or None where none is needed."""


class HttpOptions(TypedDict, total=False):
    """Options of the connection to a provider, documented at `HttpEndpoint`."""

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
    """Options of every provider over HTTP, and those of its connection."""

    #: a key, a callable that returns the current one for each call, or None where none is needed
    api_key: ApiKey
    #: the model of requests that name none
    model: str
    #: more headers for every request
    headers: Mapping[str, str] | None
    #: the environment variable that an error about the key names
    key_variable: str
    #: after which the same request may be sent here again
    retryable_statuses: Iterable[int]
    #: characters that an answer may have, reasoning and tool arguments included; of one not streamed, bytes of its body
    max_answer: int
    #: calendar time, for a `Retry-After` that is a date
    now: Now
    #: signs each request: gets method, URL and body, and returns headers
    sign: Sign | None
    #: by model, where they differ from the clocks of the server
    model_clocks: Mapping[str, Clocks] | None


class Dialect(Protocol):
    """The requests and responses of a family of servers."""

    @property
    def vendor(self) -> VendorRules:
        """What the server's models accept."""
        ...

    def path(self, model: str) -> str:
        """The path of a request to *model*, below the base URL."""
        ...

    @property
    def listing(self) -> str:
        """The path at which the models are listed."""
        ...

    def headers(self, key: str) -> Mapping[str, str]:
        """The headers of a request; *key* may be empty."""
        ...

    def body(self, request: ChatRequest, model: str, rules: Rules) -> Mapping[str, Any]:
        """The body of a request that *rules* accept, ready for JSON."""
        ...

    def reading(self, request: ChatRequest, model: str) -> ResponseReader:
        """The reader of the answer."""
        ...
