"""The network layer below an HTTP library: resolves, checks, connects and encrypts.

It has the interface of httpcore's `AsyncNetworkBackend` (and httpcore2's), for three reasons. Their own backends leave
the socket open when a TLS handshake is cancelled, because they clean up after `Exception` only. They have no policy for
addresses. And they set a deadline around every read, which costs more than the read.
"""

from __future__ import annotations

import math
import os
import re
import socket
import ssl
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from typing import Any

import trio

from clawft_trio.errors import ProviderTimeout, TransportFailed
from clawft_trio.net.addresses import AddressPolicy

# Bytes written under one time limit: a slow peer that reads at all accepts this many in time.
_PIECE = 64 * 1024

# End of a head, as h11 reads it: a line may end in a bare LF.
_END_OF_HEAD = re.compile(rb"\n\r?\n")


_LONGEST_NAME = 255
"""Characters of a host's name in errors; names in the DNS are not longer."""


class SocketConnection:
    """One connection to a peer, with the interface of httpcore's `AsyncNetworkStream`."""

    def __init__(self, stream: trio.abc.Stream, *, connect_by: float, network: Network) -> None:
        self._stream = stream
        self._connect_by = connect_by
        self._network = network
        # Received bytes that were not read yet: those after a head.
        self._pending = b""
        # Last bytes of a response head that has not ended yet; None when no head is expected.
        self._head_tail: bytes | None = None
        #: whether the last head was read to its last byte and no further
        self.at_body: bool = False

    def __repr__(self) -> str:
        return f"<Wire over {self._stream!r}>"

    def read(
        self,
        max_bytes: int,
        timeout: float | None = None,
    ) -> Awaitable[bytes]:
        """Receive some bytes; empty at the end. The bytes after a response head are never returned together with it.

        Raises:
          trio.BrokenResourceError: the connection broke.

        Cancellation: nothing was read.
        """
        return self._receive(max_bytes)

    async def _receive(self, max_bytes: int) -> bytes:
        data, self._pending = self._pending, b""
        if not data:
            data = bytes(await self._stream.receive_some(max_bytes))
        return data if self._head_tail is None else self._until_body(data)

    def _until_body(self, data: bytes) -> bytes:
        assert self._head_tail is not None
        seen = self._head_tail + data
        end = _END_OF_HEAD.search(seen)
        self.at_body = end is not None
        if end is None:
            self._head_tail = seen[-2:]
            return data
        # Another head may follow: a 100 or a 103 comes before the final response.
        cut = end.end() - len(self._head_tail)
        self._head_tail = b""
        self._pending = data[cut:]
        return data[:cut]

    def begin_body(self) -> None:
        """Declare that the response head was read: the following bytes are its body, in any pieces."""
        self._head_tail = None

    def replay(self, data: bytes) -> None:
        """Return *data* from the next read, as if it had been received."""
        self._pending = data

    def write(self, buffer: bytes, timeout: float | None = None) -> Awaitable[None]:
        """Send all of *buffer*. The longest time without progress is *timeout* seconds.

        Raises:
          ProviderTimeout: there was no progress for longer (`clock="write"`).
          Exception: the connection broke; the class is `Network.write_broke`.

        Cancellation: a part may have been sent; the stream cannot be used any more.
        """
        # Some proxies use other protocols, whose responses have no head.
        if self._head_tail is None and b" HTTP/1.1\r\n" in buffer:
            self._head_tail = b""
        return self._send(memoryview(buffer), math.inf if timeout is None else timeout)

    async def _send(self, view: memoryview, stall: float) -> None:
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
        """Close the connection at once, without a TLS close alert.

        Cancellation: the connection is closed nevertheless.
        """
        await trio.aclose_forcefully(self._stream)

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> Awaitable[SocketConnection]:
        """Start TLS, within the rest of the connection's time limit.

        Raises:
          ProviderTimeout: the connection was not ready in time (`clock="connect"`).
          TransportFailed: the peer has no TLS, or its certificate is not valid.

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
            # Also on cancellation: this function owns the socket that it was given.
            await self.aclose()
            raise
        return SocketConnection(secured, connect_by=self._connect_by, network=self._network)

    def get_extra_info(self, info: str) -> Any:
        """Return what httpcore queries: the TLS object, the socket, whether bytes can be read."""
        if info == "ssl_object":
            # An `SSLStream` forwards the methods of an SSLObject.
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
    if isinstance(cause, ssl.SSLError) and cause.reason in _NOT_TLS:
        advice = "the server does not speak TLS; is its address http:// in place of https://?"
        return TransportFailed(f"no TLS with the server: {advice} ({cause.reason})", retryable=False)
    return TransportFailed(f"no TLS with the server: {cause or exc}")


_NOT_TLS = frozenset(
    {"WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNEXPECTED_MESSAGE"}
)
"""OpenSSL's reasons for bytes that are not TLS. A second attempt would fail in the same way."""


class Network:
    """Opens connections, with the interface of httpcore's `AsyncNetworkBackend`.

    Args:
      policy: which addresses may be reached; None is all.
      write_broke: the class to raise when a write fails. httpcore still reads the response after its own
        `WriteError`: servers refuse a body by responding and closing.
    """

    def __init__(self, *, policy: AddressPolicy | None = None, write_broke: type[Exception] = TransportFailed) -> None:
        self._policy = policy
        self.write_broke = write_broke
        #: addresses that were connected to
        self.peers: set[str] = set()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> Awaitable[SocketConnection]:
        """Connect to *host*; a TLS handshake after it has the rest of *timeout*.

        Raises:
          AddressRefused: the policy forbids the address.
          ProviderTimeout: not connected in time (`clock="connect"`).
          TransportFailed: there is no such host, or it refuses connections.

        Cancellation: no socket is left open.
        """
        # Part of the interface, but `HttpEndpoint` configures neither.
        assert local_address is None
        assert socket_options is None
        return self._connect_in_time(host, port, timeout)

    async def _connect_in_time(self, host: str, port: int, limit: float | None) -> SocketConnection:
        connect_by = math.inf if limit is None else trio.current_time() + limit
        with trio.move_on_at(connect_by):
            stream = await self._connect(host, port, connect_by)
            self._note_peer(stream)
            return SocketConnection(stream, connect_by=connect_by, network=self)
        raise ProviderTimeout(clock="connect", limit=limit)

    def _note_peer(self, stream: trio.SocketStream) -> None:
        # A peer that has already disconnected has no address.
        with suppress(OSError):
            self.peers.add(str(stream.socket.getpeername()[0]))

    async def _connect(self, host: str, port: int, connect_by: float) -> trio.SocketStream:
        try:
            if self._policy is None:
                return await trio.open_tcp_stream(host, port)
            return await self._connect_checked(self._policy, host, port, connect_by)
        except OSError as exc:
            # trio raises "all attempts to connect failed" from a group with the error of each attempt; the first has
            # the cause.
            cause = _first_cause(exc)
            raise TransportFailed(f"no connection to {host[:_LONGEST_NAME]}:{port}: {_reason(cause)}") from cause
        except (UnicodeError, OverflowError) as exc:
            # A label of more than 63 characters, a port above 65535.
            raise TransportFailed(f"no connection to {host[:_LONGEST_NAME]}:{port}: no address: {exc}") from exc

    async def _connect_checked(
        self, policy: AddressPolicy, host: str, port: int, connect_by: float
    ) -> trio.SocketStream:
        policy.check_host(host)
        found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        for address in addresses:
            # One forbidden address among allowed ones may be an attack: all are refused.
            policy.check_address(host, address)
        failure: OSError | None = None
        for tried, address in enumerate(addresses):
            # An address that does not respond must not use up the time of the others.
            share = (connect_by - trio.current_time()) / (len(addresses) - tried)
            try:
                with trio.move_on_after(max(share, 0.0)):
                    return await trio.open_tcp_stream(address, port)
            except OSError as exc:
                failure = exc
        raise failure or TimeoutError("no address answered")


def _first_cause(exc: OSError) -> BaseException:
    cause: BaseException = exc.__cause__ or exc
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return cause


def _reason(cause: BaseException) -> str:
    # trio's text for a refused connection repeats the address before the reason.
    number = cause.errno if isinstance(cause, OSError) and not isinstance(cause, socket.gaierror) else None
    return os.strerror(number) if number else str(getattr(cause, "strerror", None) or cause)
