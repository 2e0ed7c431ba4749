"""Servers on loopback that send exactly what a test gives them."""

from __future__ import annotations

import functools
import os
import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio

Talk = Callable[["Conversation"], Awaitable[None]]


class Conversation:
    """One connection, as the server sees it."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.buffer = b""

    async def request(self) -> tuple[bytes, bytes] | None:
        """The next request's head and body; None when there is none."""
        while b"\r\n\r\n" not in self.buffer:
            if not await self._more():
                return None
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        while len(self.buffer) < length:
            if not await self._more():
                return None
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return head, body

    async def _more(self) -> bool:
        data = await self.stream.receive_some(1 << 20)
        self.buffer += data
        return bool(data)

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    def reset(self) -> None:
        """Close with a TCP reset."""
        sock = self.stream.socket
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()


class Server:
    def __init__(self, url: str) -> None:
        self.url = url
        self.open = 0
        self.accepted = 0

    async def wait_open(self, count: int) -> None:
        """Until exactly *count* connections are open, as far as this side knows."""
        with trio.fail_after(10):
            while self.open != count:
                await trio.sleep(0.001)


@asynccontextmanager
async def open_server(
    talk: Talk, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncGenerator[Server, None]:
    server = Server("")

    async def serve(tcp: trio.SocketStream) -> None:
        server.open += 1
        server.accepted += 1
        stream: Any = tcp if tls is None else trio.SSLStream(tcp, tls, server_side=True, https_compatible=True)
        try:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await talk(Conversation(stream))
        finally:
            server.open -= 1
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(functools.partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        server.url = f"{'http' if tls is None else 'https'}://{host}:{port}"
        yield server
        nursery.cancel_scope.cancel(reason="the test is over")


def response(body: bytes = b"", *, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}content-length: {len(body)}\r\n\r\n".encode() + body


def answering(raw: bytes) -> Talk:
    """Answer every request with *raw*."""

    async def talk(peer: Conversation) -> None:
        while await peer.request() is not None:
            await peer.send(raw)

    return talk


CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def streaming(pieces: list[bytes], *, end: bool = True) -> Talk:
    """Answer with *pieces* as chunks of a stream, and hang when it is not to end."""

    async def talk(peer: Conversation) -> None:
        while await peer.request() is not None:
            await peer.send(CHUNKED)
            for piece in pieces:
                await peer.send(chunk(piece))
            if not end:
                await hear_nothing(peer)
                return
            await peer.send(b"0\r\n\r\n")

    return talk


async def hear_nothing(peer: Conversation) -> None:
    """Say nothing until the other side is gone."""
    while await peer.stream.receive_some(1 << 20):
        pass


def open_sockets() -> int:
    """How many file descriptors of this process are sockets."""
    found = 0
    for fd in os.listdir("/dev/fd"):  # noqa: PTH208 the open directory is one itself
        with suppress(OSError):
            found += os.path.realpath(f"/dev/fd/{fd}").count("socket:")
    return found
