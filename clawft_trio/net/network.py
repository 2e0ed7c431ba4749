"""Sockets for an HTTP library: resolved, checked, connected and encrypted by us.

Shaped as httpcore's `AsyncNetworkBackend` (and httpcore2's), for three reasons. Theirs leave the socket open when a
TLS handshake is cancelled, because they clean up after `Exception` only. They ask nobody which addresses may be
reached. And they set a deadline around every read, which costs more than the read.
"""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import Awaitable, Iterable
from typing import Any

import trio

from clawft_trio.errors import ProviderTimeout, TransportFailed
from clawft_trio.net.addresses import AddressPolicy

# Bytes written under one clock: a slow peer that reads at all is through with these in time.
_PIECE = 64 * 1024

# Where a head ends, as h11 reads it: a line may end in a bare LF.
_END_OF_HEAD = re.compile(rb"\n\r?\n")


class SocketConnection:
    """One connection to a peer, in the shape of httpcore's `AsyncNetworkStream`."""

    def __init__(self, stream: trio.abc.Stream, *, connect_by: float, network: Network) -> None:
        self._stream = stream
        self._connect_by = connect_by
        self._network = network
        # Bytes that were received and not read: what follows a head.
        self._pending = b""
        # The last bytes of an answer's head that has not ended yet; None when no head is expected.
        self._head_tail: bytes | None = None
        #: whether the last head was read to its last byte and no further
        self.at_body: bool = False

    def __repr__(self) -> str:
        return f"<Wire over {self._stream!r}>"

    def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ARG002 how long to wait for an answer is the caller's to say
    ) -> Awaitable[bytes]:
        """Receive some bytes; none at the end. What follows an answer's head is not read together with it.

        Raises:
          trio.BrokenResourceError: the connection broke.

        Cancellation: nothing was read.
        """
        return self._receive(max_bytes)

    async def _receive(self, max_bytes: int) -> bytes:
        data, self._pending = self._pending, b""
        if not data:
            data = bytes(await self._stream.receive_some(max_bytes))
        return data if self._head_tail is None else self._until_body(data)  # noqa: ASYNC910 - it was received before

    def _until_body(self, data: bytes) -> bytes:
        assert self._head_tail is not None
        seen = self._head_tail + data
        end = _END_OF_HEAD.search(seen)
        self.at_body = end is not None
        if end is None:
            self._head_tail = seen[-2:]
            return data
        # Another head may follow: a 100 or a 103 comes before the answer.
        cut = end.end() - len(self._head_tail)
        self._head_tail = b""
        self._pending = data[cut:]
        return data[:cut]

    def begin_body(self) -> None:
        """The answer's head was read: what follows is its body, in any pieces."""
        self._head_tail = None

    def replay(self, data: bytes) -> None:
        """Have *data* read next, as if it had been received."""
        self._pending = data

    def write(self, buffer: bytes, timeout: float | None = None) -> Awaitable[None]:
        """Send all of *buffer*. The peer may stand still for *timeout* seconds at a time.

        Raises:
          ProviderTimeout: it stood still for longer (`clock="write"`).
          Exception: the connection broke; the class is `Network.write_broke`.

        Cancellation: part of it may have been sent; the stream is of no use any more.
        """
        # Proxies are spoken to in other protocols, too, whose answers have no head.
        if self._head_tail is None and b" HTTP/1.1\r\n" in buffer:
            self._head_tail = b""
        return self._send(memoryview(buffer), math.inf if timeout is None else timeout)

    async def _send(self, view: memoryview, stall: float) -> None:  # noqa: ASYNC910 - waits if there is anything
        for start in range(0, len(view), _PIECE):
            with trio.move_on_after(stall) as clock:
                await self._send_piece(view[start : start + _PIECE])
            if clock.cancelled_caught:
                raise ProviderTimeout(clock="write", limit=stall)

    async def _send_piece(self, piece: memoryview) -> None:
        try:
            await self._stream.send_all(piece)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise self._network.write_broke("the connection broke while the request was sent") from exc

    async def aclose(self) -> None:
        """Close it at once; a TLS peer is not told.

        Cancellation: it is closed nevertheless.
        """
        await trio.aclose_forcefully(self._stream)

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> Awaitable[SocketConnection]:
        """Encrypt from here on. The clock is the one that the connection was started with.

        Raises:
          ProviderTimeout: the connection was not ready in time (`clock="connect"`).
          TransportFailed: the peer speaks no TLS, or its certificate is not good.

        Cancellation: the connection is closed.
        """
        secured = trio.SSLStream(
            self._stream, ssl_context, server_hostname=server_hostname, https_compatible=True, server_side=False
        )
        return self._shake_hands(secured, timeout)

    async def _shake_hands(self, secured: trio.SSLStream[trio.abc.Stream], limit: float | None) -> SocketConnection:
        try:
            with trio.move_on_at(self._connect_by) as clock:
                await secured.do_handshake()
            if clock.cancelled_caught:
                raise ProviderTimeout(clock="connect", limit=limit)
        except trio.BrokenResourceError as exc:
            await self.aclose()
            raise _tls_failure(exc) from exc
        except BaseException:
            # Also a cancellation: what was handed to us is nobody else's to close.
            await self.aclose()
            raise
        return SocketConnection(secured, connect_by=self._connect_by, network=self._network)

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks about: the TLS object, the socket, whether something is waiting to be read."""
        if info == "ssl_object":
            # It forwards everything that an SSLObject can be asked.
            return self._stream if isinstance(self._stream, trio.SSLStream) else None
        sock = _socket_of(self._stream)
        if sock is None:
            return None
        if info == "is_readable":
            return bool(self._pending) or sock.is_readable()
        if info == "socket":
            return sock
        if info == "server_addr":
            return sock.getpeername()
        return sock.getsockname() if info == "client_addr" else None


def _socket_of(stream: trio.abc.Stream) -> Any:
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    return stream.socket if isinstance(stream, trio.SocketStream) else None


def _tls_failure(exc: BaseException) -> TransportFailed:
    cause = exc.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return TransportFailed(f"the server's certificate is not good: {cause.verify_message}", retryable=False)
    return TransportFailed(f"no TLS with the server: {cause or exc}")


class Network:
    """Makes connections, in the shape of httpcore's `AsyncNetworkBackend`.

    Args:
      policy: which addresses may be reached; None is all of them.
      write_broke: the class to raise when a write fails. httpcore goes on to read the answer when it is its own
        `WriteError`: servers refuse a body by answering and closing.
    """

    def __init__(self, *, policy: AddressPolicy | None = None, write_broke: type[Exception] = TransportFailed) -> None:
        self._policy = policy
        self.write_broke = write_broke

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> Awaitable[SocketConnection]:
        """Connect to *host*, and give TLS, should it follow, what is left of *timeout*.

        Raises:
          AddressRefused: the policy does not let it be reached.
          ProviderTimeout: not connected in time (`clock="connect"`).
          TransportFailed: no such host, or nobody listens there.

        Cancellation: no socket is left.
        """
        if local_address is not None or socket_options is not None:
            raise NotImplementedError("nothing in this package asks for a local address or socket options")
        return self._connect_in_time(host, port, timeout)

    async def _connect_in_time(self, host: str, port: int, limit: float | None) -> SocketConnection:
        connect_by = math.inf if limit is None else trio.current_time() + limit
        with trio.move_on_at(connect_by):
            return SocketConnection(await self._connect(host, port, connect_by), connect_by=connect_by, network=self)
        raise ProviderTimeout(clock="connect", limit=limit)

    async def _connect(self, host: str, port: int, connect_by: float) -> trio.SocketStream:
        try:
            if self._policy is None:
                return await trio.open_tcp_stream(host, port)
            return await self._connect_checked(self._policy, host, port, connect_by)
        except OSError as exc:
            raise TransportFailed(f"no connection to {host}:{port}: {_reason(exc)}") from exc

    async def _connect_checked(
        self, policy: AddressPolicy, host: str, port: int, connect_by: float
    ) -> trio.SocketStream:
        policy.check_host(host)
        found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        for address in addresses:
            # One bad address among good ones is an attempt at something.
            policy.check_address(host, address)
        failure: OSError | None = None
        for tried, address in enumerate(addresses):
            # An address that is not answered must not use up the time of the others.
            share = (connect_by - trio.current_time()) / (len(addresses) - tried)
            try:
                with trio.move_on_after(max(share, 0.0)):
                    return await trio.open_tcp_stream(address, port)
            except OSError as exc:
                failure = exc
        raise failure or TimeoutError("no address answered")


def _reason(exc: OSError) -> str:
    # trio says "all attempts to connect failed" and keeps each attempt's own error in a group below.
    cause: BaseException = exc.__cause__ or exc
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
