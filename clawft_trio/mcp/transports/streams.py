"""Frames over a pair of byte streams: one task reads, one writes."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

import attrs
import trio

from clawft_trio.errors import McpError, PeerGone
from clawft_trio.mcp.jsonrpc import MAX_MESSAGE, JsonRpcReader
from clawft_trio.mcp.multiplexer import Multiplexer
from clawft_trio.nursery import open_hidden_nursery

CHUNK = 65_536
"""Bytes of one read: the capacity of a Linux pipe."""

LAST_WORDS = 0.25
"""Seconds in which a peer that stopped reading may still send."""


# Streams that are not trio's raise the exceptions of their system.
_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class StreamTransport:
    """A `Transport` over any two trio streams. It closes both when it ends.

    Args:
      send: the stream that the peer reads.
      receive: the stream that the peer writes.
      name: name of the peer, for errors.
      limit: largest message in bytes.
    """

    def __init__(
        self,
        send: trio.abc.SendStream,
        receive: trio.abc.ReceiveStream,
        *,
        name: str = "",
        limit: int = MAX_MESSAGE,
    ) -> None:
        self._send = send
        self._receive = receive
        self._name = name
        self._limit = limit

    async def run(self, mux: Multiplexer) -> McpError:
        """Move frames until the peer closes its end, breaks, or stops reading.

        Cancellation: stops at once; a frame that was being written may be cut.
        """
        async with self._send, self._receive:
            await self.pump(mux)
        return PeerGone("the connection was closed by the other side", server=self._name)

    async def pump(self, mux: Multiplexer, also: Callable[[], Awaitable[object]] = trio.sleep_forever) -> None:
        """Move frames until the peer closes its end, breaks or stops reading, or *also* returns.

        Cancellation: stops at once; a frame that was being written may be cut.
        """
        async with open_hidden_nursery() as nursery:
            nursery.start_soon(self._write, mux, nursery.cancel_scope)
            nursery.start_soon(_end_with, also, nursery.cancel_scope)
            await self._read(mux)
            nursery.cancel_scope.cancel(reason="the peer closed its end")

    async def _read(self, mux: Multiplexer) -> None:
        reader = JsonRpcReader(limit=self._limit)
        deliver = mux.deliver
        try:
            while data := await self._receive.receive_some(CHUNK):
                mux.last_received = trio.current_time()
                for message in reader.feed(bytes(data)):
                    deliver(message)
                if mux.congested:
                    await mux.wait_relieved()
        except _BROKEN:
            pass
        for message in reader.end():
            deliver(message)

    async def _write(self, mux: Multiplexer, connection: trio.CancelScope) -> None:
        try:
            while True:
                frames = await mux.outgoing.take()
                await self._send.send_all(b"".join([frame.line for frame in frames]))
        except _BROKEN:
            # Its last messages may still arrive. If it continues without reading, the connection ends here.
            await trio.sleep(LAST_WORDS)
            connection.cancel(reason="the peer has stopped reading")


async def _end_with(wait: Callable[[], Awaitable[object]], connection: trio.CancelScope) -> None:
    await wait()
    connection.cancel(reason="the peer is gone")


@attrs.frozen
class StreamServer:
    """A server behind the caller's byte streams: a socket, a pair of pipes, memory in a test.

        StreamServer(connect)       # async def connect() -> (stream it reads, stream it writes)

    `connect` is called for each start; both streams are closed at its end. An exception of it means that the server
    cannot be reached now, and is the cause of the `PeerGone` that is raised.
    """

    connect: Callable[[], Awaitable[tuple[trio.abc.SendStream, trio.abc.ReceiveStream]]]


class ConnectingTransport:
    """A `Transport` to a `StreamServer`."""

    def __init__(self, server: StreamServer, *, name: str, limit: int) -> None:
        self._server = server
        self._name = name
        self._limit = limit

    async def run(self, mux: Multiplexer) -> McpError:
        """Connect, and move frames until the connection has ended.

        Cancellation: stops at once; a frame that was being written may be cut.
        """
        try:
            send, receive = await self._server.connect()
        except Exception as exc:  # noqa: BLE001 - foreign code: whatever it raises, there is no server now
            gone = PeerGone(f"it cannot be reached: {type(exc).__name__}: {exc}", server=self._name)
            gone.__cause__ = exc
            return gone
        return await StreamTransport(send, receive, name=self._name, limit=self._limit).run(mux)


class EagerPipe(trio.abc.SendStream):
    """The write end of a pipe that writes at once what fits, instead of after a pass of the event loop.

    Only for a writer that waits between its writes: with trio's own stream each call of an otherwise idle client needs
    one more pass of the event loop.
    """

    def __init__(self, pipe: trio.lowlevel.FdStream) -> None:
        self._pipe = pipe

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of *data*.

        Raises:
          trio.BrokenResourceError: the reader has closed its end.

        Cancellation: a part may have been written.
        """
        try:
            written = os.write(self._pipe.fileno(), data)
        except BlockingIOError:
            written = 0
        except OSError as exc:
            raise trio.BrokenResourceError from exc
        if written < len(data):
            await self._pipe.send_all(memoryview(data)[written:])

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until some of the next write fits.

        Cancellation: nothing has changed.
        """
        await self._pipe.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the pipe.

        Cancellation: it is closed nevertheless.
        """
        await self._pipe.aclose()
