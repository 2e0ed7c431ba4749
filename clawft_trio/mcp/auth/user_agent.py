"""Login by a person: a protocol that opens a URL and returns the redirect, and its loopback implementation."""

from __future__ import annotations

import hmac
import webbrowser
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

import trio

from clawft_trio.mcp.auth.addresses import checked_address
from clawft_trio.nursery import open_hidden_nursery

_LONGEST_HEAD = 16 * 1024
"""Bytes of a browser's request that are read."""

_REQUEST_TOTAL = 10.0
"""Seconds in which a browser must have sent its request."""

_CONNECTIONS = 16
"""Largest number of concurrent connections; more wait in the kernel."""

_DONE = b"You are logged in. This window can be closed."
_OTHER = b"This is not the address that the login returns to."


class Redirect(Protocol):
    """A running login."""

    @property
    def uri(self) -> str:
        """The URL that the authorization server has to redirect the browser to."""
        ...

    async def visit(self, address: str) -> str:
        """Open *address* for the person, and return the complete URL that the browser was redirected to.

        Cancellation: the login is abandoned.
        """
        ...


class UserAgent(Protocol):
    """Opens URLs for a person and receives redirects."""

    def listen(self) -> AbstractAsyncContextManager[Redirect]:
        """Wait for a redirect during the block."""
        ...


class LoopbackUserAgent:
    """Opens a browser, and receives the redirect on a loopback port (RFC 8252, 7.3).

    Args:
      open_address: opens a URL for the person; runs in a thread. The default opens the web browser.
      port: the port to listen on; 0 is any free one. Set it if the authorization server accepts only one redirect URL.
      path: path of the redirect URL.
    """

    def __init__(
        self, open_address: Callable[[str], object] = webbrowser.open, *, port: int = 0, path: str = "/callback"
    ) -> None:
        self._open_address = open_address
        self._port = port
        self._path = path

    @asynccontextmanager
    async def listen(self) -> AsyncGenerator[Redirect, None]:
        """Listen for one redirect during the block.

        Raises:
          OSError: the port is in use.

        Cancellation: the port is released.
        """
        [listener] = await trio.open_tcp_listeners(self._port, host="127.0.0.1")
        async with listener:
            port = listener.socket.getsockname()[1]
            yield _LoopbackRedirect(f"http://127.0.0.1:{port}{self._path}", listener, self._open_address)


class _LoopbackRedirect:
    def __init__(self, uri: str, listener: trio.SocketListener, open_address: Callable[[str], object]) -> None:
        self.uri = uri
        self._listener = listener
        self._open_address = open_address
        self._received = ""

    async def visit(self, address: str) -> str:
        """Open *address* and wait for the redirect that carries its state.

        Cancellation: the listener is closed.
        """
        checked_address(address, "authorization endpoint")
        state = parse_qs(urlsplit(address).query).get("state", [""])[0]
        async with open_hidden_nursery() as nursery:
            serve = partial(self._serve, state, nursery.cancel_scope)
            nursery.start_soon(self._accept, serve)
            await trio.to_thread.run_sync(self._open_address, address)
        return self._received

    async def _accept(self, serve: Callable[[trio.SocketStream], Awaitable[None]]) -> None:
        slots = trio.Semaphore(_CONNECTIONS)
        async with trio.open_nursery() as nursery:

            async def one(stream: trio.SocketStream) -> None:
                try:
                    await serve(stream)
                finally:
                    slots.release()

            while True:
                await slots.acquire()
                nursery.start_soon(one, await self._listener.accept())

    async def _serve(self, state: str, login: trio.CancelScope, stream: trio.SocketStream) -> None:
        async with stream:
            try:
                with trio.move_on_after(_REQUEST_TOTAL):
                    target = _target(await _read_head(stream))
                    fits = self._fits(target, state)
                    await stream.send_all(_page(200 if fits else 404, _DONE if fits else _OTHER))
                    if fits:
                        url = urlsplit(self.uri)
                        self._received = f"{url.scheme}://{url.netloc}{target}"
                        login.cancel(reason="the redirect has come")
            except trio.BrokenResourceError:
                pass  # the browser disconnected; the person may try again

    def _fits(self, target: str, state: str) -> bool:
        """Return whether the request is the redirect: any page may send other requests to this port."""
        # Not by `urlsplit`, which takes `//[` for a host, and fails.
        path, _, query = target.partition("?")
        given = parse_qs(query).get("state", [""])
        matches = len(given) == 1 and hmac.compare_digest(given[0].encode(), state.encode())
        return path == urlsplit(self.uri).path and matches


async def _read_head(stream: trio.SocketStream) -> bytes:
    head = bytearray()
    while b"\r\n\r\n" not in head and len(head) < _LONGEST_HEAD:
        data = await stream.receive_some(4096)
        if not data:
            break
        head += data
    return bytes(head)


def _target(head: bytes) -> str:
    """Return the target of a GET request; empty when it is not a GET request."""
    parts = head.partition(b"\r\n")[0].split(b" ")
    if len(parts) != 3 or parts[0] != b"GET" or not parts[1].startswith(b"/") or not parts[1].isascii():
        return ""
    return parts[1].decode("ascii")


def _page(status: int, text: bytes) -> bytes:
    fields = (
        f"HTTP/1.1 {status} {'OK' if status == 200 else 'Not Found'}",
        "content-type: text/plain; charset=utf-8",
        f"content-length: {len(text)}",
        "connection: close",
        "cache-control: no-store",
        "referrer-policy: no-referrer",
    )
    return "\r\n".join(fields).encode() + b"\r\n\r\n" + text
