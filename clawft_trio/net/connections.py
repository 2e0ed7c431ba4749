"""The connection pool below httpx: one connection per request, reused where possible, without a queue.

httpcore's own pool loses the slot that it gives to a request that is being cancelled (encode/httpcore#1093), and it
keeps the socket of a request that was cancelled between the handshake and the first byte. Both come from sharing
connections: here no connection is shared or assigned to a waiting request. A request owns its connection until its
body is finished; the connection of a failed request is closed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import trio

from clawft_trio.net.network import SocketConnection
from clawft_trio.net.response import ChunkedBody, PlainBody, Release
from clawft_trio.nursery import cleanup_scope

# Seconds. Closing a socket sends nothing and waits for nothing; this bounds unexpected waits.
_GRACE = 1.0


QUERY = "clawft_trio.query"
"""The request extension with the query, which is kept out of the URL so that no log contains it."""


class Connections:
    """A transport with the interface of httpx's `AsyncBaseTransport` (and httpx2's).

    Args:
      http: the module httpx, or its replacement.
      core: the httpcore that belongs to it.
      open_connection: returns a new, unconnected connection to an origin.
      most_idle: largest number of idle connections; more are closed.
    """

    def __init__(self, http: Any, core: Any, open_connection: Callable[[Any], Any], *, most_idle: int) -> None:
        self._http = http
        self._core = core
        self._open = open_connection
        self._most_idle = most_idle
        self._idle: list[Any] = []
        self._busy: set[Any] = set()
        self._closed = False
        # httpx requires its own class.
        self._body = type("Body", (PlainBody, http.AsyncByteStream), {})
        self._chunked_body = type("ChunkedBody", (ChunkedBody, http.AsyncByteStream), {})

    def __repr__(self) -> str:
        return f"<Connections: {self.busy} busy, {self.idle} idle>"

    @property
    def busy(self) -> int:
        """Number of connections that a request owns, connected or not yet."""
        return len(self._busy)

    @property
    def idle(self) -> int:
        """Number of idle connections, kept for the next request."""
        return len(self._idle)

    async def handle_async_request(self, request: Any) -> Any:
        """Send *request* and return the response when its headers have arrived.

        Raises:
          Exception: an exception of httpcore or of the network.

        Cancellation: the connection is closed.
        """
        # httpx wraps every body in a generator, and a request that fails halfway leaves it to the garbage collector.
        body = await request.aread()
        query = request.extensions.get(QUERY, b"")
        sent = self._core.Request(
            method=request.method,
            url=self._core.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path + (b"?" + query if query else b""),
            ),
            headers=request.headers.raw,
            content=_Content(body),
            extensions=request.extensions,
        )
        await self._close_expired()
        connection = self._take(sent.url.origin)
        try:
            answer = await connection.handle_async_request(sent)
        except BaseException:
            with trio.move_on_after(_GRACE, shield=True):
                await self._close(connection)
            raise
        return self._http.Response(
            status_code=answer.status,
            headers=answer.headers,
            stream=self._body_of(sent, answer, partial(self._give_back, connection)),
            extensions=answer.extensions,
        )

    def _body_of(self, sent: Any, answer: Any, release: Release) -> Any:
        wire = answer.extensions.get("network_stream")
        if isinstance(wire, SocketConnection):
            wire.begin_body()
            if _is_chunked(sent, answer) and wire.at_body:
                return self._chunked_body(answer.stream, wire, release, self._core.RemoteProtocolError)
        return self._body(answer.stream, release)

    def _take(self, origin: Any) -> Any:
        if self._closed:
            raise trio.ClosedResourceError("the connections are closed")
        # The connection used last is the least likely to have been closed by its server.
        for connection in reversed(self._idle):
            if connection.can_handle_request(origin):
                self._idle.remove(connection)
                break
        else:
            connection = self._open(origin)
        self._busy.add(connection)
        return connection

    async def _close_expired(self) -> None:
        expired = [one for one in self._idle if one.has_expired() or not one.is_available()]
        if expired:
            self._idle = [one for one in self._idle if one not in expired]
        for connection in expired:
            await self._close(connection)

    async def _give_back(self, connection: Any) -> None:
        if connection.is_idle() and self.idle < self._most_idle and not self._closed:
            self._busy.discard(connection)
            self._idle.append(connection)
        else:
            await self._close(connection)

    async def _close(self, connection: Any) -> None:
        self._busy.discard(connection)
        with cleanup_scope(_GRACE):
            await connection.aclose()

    async def aclose(self) -> None:
        """Close all connections, including those of unfinished requests.

        Cancellation: all connections are closed nevertheless.
        """
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in [*idle, *self._busy]:
            await self._close(connection)
        await trio.lowlevel.checkpoint()


class _Content:
    """Body of a request: one chunk of bytes, or none."""

    def __init__(self, data: bytes) -> None:
        self._left = [data] if data else []

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


def _is_chunked(sent: Any, answer: Any) -> bool:
    """Return whether the response has a body with `chunked` as its only transfer coding."""
    codings = [value.lower() for name, value in answer.headers if name.lower() == b"transfer-encoding"]
    return codings == [b"chunked"] and sent.method != b"HEAD" and answer.status not in {204, 304}
