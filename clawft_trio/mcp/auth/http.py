"""Small HTTP requests to authorization servers: bounded in time and size, without redirects."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import urlencode, urlsplit

import attrs
import msgspec
import trio

from clawft_trio.errors import AddressRefused, AuthorizationFailed, ProviderError
from clawft_trio.mcp.auth.addresses import checked_address, is_address, origin
from clawft_trio.mcp.types import decode_without_nulls
from clawft_trio.net import AddressPolicy, Clocks, HttpEndpoint
from clawft_trio.net.addresses import policy_near
from clawft_trio.net.proxies import environment_proxy

T = TypeVar("T")

MAX_DOCUMENT = 256 * 1024
"""Largest metadata document or token response in bytes."""

REQUEST_TOTAL = 20.0
"""Seconds that one request may take."""

_CLOCKS = Clocks(connect=10.0, write=10.0, first_byte=REQUEST_TOTAL)


def _temporary(message: str) -> AuthorizationFailed:
    error = AuthorizationFailed(message)
    error.retryable = True
    return error


@attrs.frozen
class Answer:
    """A response: its status and its body."""

    status: int
    body: bytes = attrs.field(repr=False)

    def decode(self, kind: type[T], what: str) -> T:
        """Decode the body as JSON of the type *kind*; null members count as missing.

        Raises:
          AuthorizationFailed: it is something else.
        """
        try:
            return decode_without_nulls(self.body, msgspec.json.Decoder(kind))
        except (ValueError, RecursionError) as exc:
            # The message of a decode error contains names and types, never values.
            raise AuthorizationFailed(f"the {what} cannot be read: {str(exc)[:200]}") from None


class _Target(NamedTuple):
    """The part of a URL that selects a proxy."""

    scheme: str
    host: str


class OAuthHttp:
    """The connections to authorization servers of one client. Use it as `async with`.

    Args:
      name: name of the MCP server, in errors.
      verify: whether certificates are checked, or the SSL context for it.
      proxy: URL of a proxy.
      policy: which addresses may be reached, because a hostile server may name addresses near this machine. None:
        public addresses, and special ones of the same kind as the MCP server's; through a proxy, those that it allows.
      peers: returns the addresses at which the MCP server was reached; None: without a policy, all may be reached.
    """

    def __init__(
        self,
        name: str,
        *,
        verify: bool | ssl.SSLContext = True,
        proxy: str | None = None,
        policy: AddressPolicy | None = None,
        peers: Callable[[], Iterable[str]] | None = None,
    ) -> None:
        self._settings: dict[str, Any] = {"name": name, "verify": verify, "proxy": proxy}
        self._policy = policy
        self._peers = peers
        self._endpoints: dict[str, HttpEndpoint] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def get(self, address: str, what: str) -> Answer:
        """Fetch a document.

        Raises:
          AuthorizationFailed: it cannot be fetched.

        Cancellation: the connection is closed.
        """
        return await self._send("GET", address, what, None, {"accept": "application/json"})

    async def post_form(
        self, address: str, what: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Post a form.

        Raises:
          AuthorizationFailed: there is no response.

        Cancellation: the connection is closed; it is unknown whether the server acted.
        """
        kind = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        return await self._send("POST", address, what, urlencode(form).encode(), {**kind, **(headers or {})})

    async def post_json(self, address: str, what: str, document: object) -> Answer:
        """Post a JSON document.

        Raises:
          AuthorizationFailed: there is no response.

        Cancellation: the connection is closed; it is unknown whether the server acted.
        """
        kind = {"content-type": "application/json", "accept": "application/json"}
        return await self._send("POST", address, what, msgspec.json.encode(document), kind)

    async def _send(
        self, method: str, address: str, what: str, content: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        checked_address(address, what)
        url = urlsplit(address)
        endpoint = await self._endpoint(origin(address))
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        try:
            with trio.fail_after(REQUEST_TOTAL):
                async with endpoint.request(method, path, content=content, headers=headers) as response:
                    accepted = 200 <= response.status < 300
                    reading = response.read if accepted else response.read_refusal
                    return Answer(response.status, await reading(limit=MAX_DOCUMENT))
        except trio.TooSlowError:
            raise _temporary(f"the {what} did not come within {REQUEST_TOTAL:g} s") from None
        except AddressRefused as exc:
            raise AuthorizationFailed(f"the {what} is at an address that is not reached from here: {exc}") from None
        except ProviderError as exc:
            raise _temporary(f"the {what} cannot be had: {exc.message}") from None

    def check_visit(self, address: str, what: str) -> None:
        """Check a URL before a person's browser opens it: it must not have an IP address that the policy refuses.

        Raises:
          AuthorizationFailed: it has.
        """
        checked_address(address, what)
        host = urlsplit(address).hostname or ""
        policy = self._policy_for(origin(address))
        try:
            if policy is not None and (host == "localhost" or is_address(host)):
                policy.check_address(host, "127.0.0.1" if host == "localhost" else host)
        except AddressRefused as exc:
            raise AuthorizationFailed(f"the {what} is at an address that is not opened: {exc}") from None

    def _policy_for(self, base: str) -> AddressPolicy | None:
        if self._policy is not None or self._peers is None:
            return self._policy
        url = urlsplit(base)
        proxied = self._settings["proxy"] is not None or environment_proxy(_Target(url.scheme, url.netloc)) is not None
        return None if proxied else policy_near(self._peers())

    async def _endpoint(self, base: str) -> HttpEndpoint:
        if base not in self._endpoints:
            policy = self._policy_for(base)
            self._endpoints[base] = await self._stack.enter_async_context(
                HttpEndpoint(base, clocks=_CLOCKS, connections=4, policy=policy, **self._settings)
            )
        return self._endpoints[base]
