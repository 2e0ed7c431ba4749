"""Serves a host that started this process, or that is at the other end of any two byte streams."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from typing import Any, TypeAlias, TypeGuard

import msgspec
import trio
from msgspec import UNSET

from clawft_trio.errors import McpError, PeerError, PeerGone, Unsupported
from clawft_trio.mcp.incoming import IncomingRequest
from clawft_trio.mcp.jsonrpc import (
    INVALID_REQUEST,
    PARSE_ERROR,
    Envelope,
    JsonRpcMessage,
    LineSplitter,
    Malformed,
    encode_error,
    encode_notification,
    encode_result,
    parse,
)
from clawft_trio.mcp.messages import CallOptions
from clawft_trio.mcp.multiplexer import Multiplexer
from clawft_trio.mcp.server.answerer import Answerer
from clawft_trio.mcp.server.caller import Peer
from clawft_trio.mcp.server.changes import Change
from clawft_trio.mcp.server.options import ServeOptions
from clawft_trio.mcp.server.requests import ServerRequest
from clawft_trio.mcp.server.server import McpServer
from clawft_trio.mcp.server.stateless import Subscription, declares_version, read_meta, stateless_peer
from clawft_trio.mcp.server.tasks import TaskTable
from clawft_trio.mcp.transports.streams import CHUNK
from clawft_trio.mcp.types import JsonObject
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.tools.registry import ToolRegistry

Streams: TypeAlias = tuple[trio.abc.SendStream, trio.abc.ReceiveStream]

MAX_LISTENS = 16
"""Largest number of `subscriptions/listen` requests of one connection. Each counts as a concurrent request."""

LAST_READ = 0.25
"""Seconds in which a host that has stopped reading may still send."""

_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


async def serve_mcp(
    server: McpServer | ToolRegistry,
    streams: Streams | None = None,
    *,
    options: ServeOptions | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Offer *server* to an MCP host over stdio, until the host closes its end.

    Requests are answered concurrently and can be cancelled; progress and log messages of tools are sent to the host.
    Hosts of every revision are served: those with a handshake, and those of 2026-07-28 without. After the end of input,
    requests that were read are still answered, for at most `options.drain` seconds.

    Args:
      server: what is offered, as far as `options.auth` may use it.
      streams: the stream that the host reads and the one that it writes; None: this process's stdout and stdin. Other
        output to stdout then goes to stderr.
      options: options of the server.

    Raises:
      Unsupported: this platform cannot wait for stdin.

    Cancellation: running tools are cancelled and awaited; their requests get no response.
    """
    offered = McpServer(server) if isinstance(server, ToolRegistry) else server
    connection = _Connection(offered, options or ServeOptions())
    async with _standard_streams() if streams is None else nullcontext(streams) as chosen:
        task_status.started()
        with offered.watching(connection.note_change):
            await connection.run(chosen)


class _Connection:
    """The connection to one host."""

    def __init__(self, server: McpServer, options: ServeOptions) -> None:
        self._answerer = Answerer(server, options)
        self._options = options
        self._peer = Peer(auth=options.auth)
        self._mux = Multiplexer(name="host", serve=self._answer, patient=True, on_malformed=self._refuse)
        self._channel = _StreamChannel(self._mux)
        #: changes that the host of a handshake revision has not been notified of yet
        self._changes: dict[Change, None] = {}
        self._changed = trio.lowlevel.ParkingLot()
        self._subscriptions: set[_Listener] = set()

    async def run(self, streams: Streams) -> McpError:
        transport = _HostTransport(
            *streams, connection=self, limit=self._options.max_message, drain=self._options.drain
        )
        async with open_hidden_nursery() as nursery:
            nursery.start_soon(self._report_changes)
            if self._options.tasks is not None:
                self._peer.tasks = TaskTable(self._options.tasks, nursery, self._channel)
            ended = await self._mux.run(transport)
            nursery.cancel_scope.cancel(reason="the host is gone")
        return ended

    def deliver(self, message: JsonRpcMessage) -> None:
        """Route one message. A handshake takes effect at once, for requests that follow immediately, and no earlier."""
        if self._belongs_to_handshake(message):
            self._mux.send_answer_nowait(self._initialized(message))
        elif isinstance(message, Envelope) and message.method is UNSET and not (message.result or message.error):
            # Neither a request nor a response.
            key = message.id if isinstance(message.id, int | str) else None
            self._mux.send_answer_nowait(encode_error(key, INVALID_REQUEST, "no method, no result and no error"))
        else:
            self._mux.deliver(message)

    def _belongs_to_handshake(self, message: JsonRpcMessage) -> TypeGuard[Envelope]:
        """Return whether *message* is `initialize`, or a request that needs it and came earlier."""
        if not (isinstance(message, Envelope) and message.method and isinstance(message.id, int | str)):
            return False
        is_early = not self._peer.initialized and message.method != "ping"
        return (message.method == "initialize" or is_early) and not declares_version(message.params)

    def _initialized(self, message: Envelope) -> bytes:
        key: Any = message.id
        try:
            if message.method != "initialize":
                raise PeerError("not initialized", code=INVALID_REQUEST)
            return encode_result(key, self._answerer.initialize(self._peer, message.params))
        except PeerError as exc:
            return encode_error(key, exc.code, str(exc))

    def _refuse(self, message: Malformed) -> None:
        # An invalid response gets no error response; an invalid request or an unreadable line does.
        if message.id is None or message.has_method:
            code = PARSE_ERROR if message.syntax else INVALID_REQUEST
            self._mux.send_answer_nowait(encode_error(message.id, code, message.reason[:200]))

    async def _answer(self, incoming: IncomingRequest) -> Any:
        peer = self._peer
        if declares_version(incoming.params):
            peer = stateless_peer(read_meta(incoming.params), self._options.auth)
            if incoming.method == "subscriptions/listen":
                return await self._listen(incoming)
        return await self._answerer.answer(
            ServerRequest(
                id=incoming.id,
                method=incoming.method,
                params=incoming.params,
                peer=peer,
                auth=peer.auth,
                channel=self._channel,
            )
        )

    def note_change(self, change: Change) -> None:
        """Queue the notifications of a change for the listeners and clients that requested them."""
        for listener in self._subscriptions:
            listener.note(change)
        if self._peer.initialized and (change.kind != "resource" or change.uri in self._peer.subscriptions):
            self._changes[change] = None
            self._changed.unpark_all()

    async def _report_changes(self) -> None:
        while True:
            while not self._changes:
                await self._changed.park()
            change = next(iter(self._changes))
            del self._changes[change]
            params = {"uri": change.uri} if change.kind == "resource" else {}
            await self._mux.send_answer(encode_notification(change.method, params))

    async def _listen(self, incoming: IncomingRequest) -> JsonObject:
        if len(self._subscriptions) >= MAX_LISTENS:
            raise PeerError(f"more than {MAX_LISTENS} subscriptions at once", code=INVALID_REQUEST)
        uris, level = self._options.max_subscriptions, self._options.auth.permissions.level
        is_hidden = partial(self._answerer.server.is_hidden, level=level)
        subscription = Subscription(incoming.id, incoming.params, max_uris=uris, is_hidden=is_hidden)
        listener = _Listener(subscription, self._mux)
        self._subscriptions.add(listener)
        try:
            await listener.run()
        finally:
            self._subscriptions.discard(listener)
        return listener.subscription.result

    def end_of_input(self) -> None:
        """Handle the end of input: requests that wait for a response of the host fail, and subscriptions end."""
        self._channel.close()
        for listener in self._subscriptions:
            listener.end()


class _Listener:
    """One open subscription of a host of 2026-07-28."""

    def __init__(self, subscription: Subscription, mux: Multiplexer) -> None:
        self.subscription = subscription
        self._mux = mux
        self._changes: dict[Change, None] = {}
        self._wake = trio.lowlevel.ParkingLot()
        self._ended = False

    def note(self, change: Change) -> None:
        if self.subscription.filter.wants(change):
            self._changes[change] = None
            self._wake.unpark_all()

    def end(self) -> None:
        self._ended = True
        self._wake.unpark_all()

    async def run(self) -> None:
        acknowledged = "notifications/subscriptions/acknowledged"
        await self._mux.send_answer(encode_notification(acknowledged, self.subscription.acknowledgment))
        while not self._ended:
            if not self._changes:
                await self._wake.park()
                continue
            change = next(iter(self._changes))
            del self._changes[change]
            await self._mux.send_answer(encode_notification(change.method, self.subscription.params_of(change)))


class _StreamChannel:
    """Carries the messages of any request: all share the one pipe."""

    def __init__(self, mux: Multiplexer) -> None:
        self._mux = mux
        self._waiting: set[trio.CancelScope] = set()
        self._closed = False

    def notify(self, method: str, params: JsonObject) -> None:
        with suppress(trio.WouldBlock):
            self._mux.notify_nowait(method, params)

    async def request(self, method: str, params: JsonObject, *, total: float) -> JsonObject:
        scope = trio.CancelScope()
        self._waiting.add(scope)
        try:
            if not self._closed:
                with scope:
                    return await self._mux.call(method, params, decode=_decode_object, options=CallOptions(total=total))
        finally:
            self._waiting.discard(scope)
        await trio.lowlevel.checkpoint()
        raise PeerGone("the host has closed its end", server="host")

    def release(self) -> None:
        """Do nothing: the pipe is shared."""

    def close(self) -> None:
        self._closed = True
        for scope in self._waiting:
            scope.cancel(reason="the host has closed its end")


_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


class _HostTransport:
    """Moves messages over two streams until the host has closed its end and every request that was read is answered."""

    def __init__(
        self,
        send: trio.abc.SendStream,
        receive: trio.abc.ReceiveStream,
        *,
        connection: _Connection,
        limit: int,
        drain: float,
    ) -> None:
        self._send = send
        self._receive = receive
        self._connection = connection
        self._lines = LineSplitter(limit)
        self._drain = drain
        self._writing = False
        self._written = trio.lowlevel.ParkingLot()

    async def run(self, mux: Multiplexer) -> McpError:
        """Move messages until the host has disconnected.

        Cancellation: stops at once; a message that was being written may be cut.
        """
        async with self._send, self._receive, open_hidden_nursery() as nursery:
            nursery.start_soon(self._write, mux, nursery.cancel_scope)
            await self._read(mux)
            self._connection.end_of_input()
            with trio.move_on_after(self._drain):
                await mux.wait_served()
                while self._writing or mux.statistics().outgoing:
                    await self._written.park()
            nursery.cancel_scope.cancel(reason="the host is gone")
        return PeerGone("the connection was closed by the other side", server="host")

    async def _read(self, mux: Multiplexer) -> None:
        deliver = self._connection.deliver
        try:
            while data := await self._receive.receive_some(CHUNK):
                mux.last_received = trio.current_time()
                for message in _messages(self._lines.feed(bytes(data))):
                    deliver(message)
                if mux.congested:
                    await mux.wait_relieved()
        except _BROKEN:
            pass
        for message in _messages([self._lines.end()]):
            deliver(message)

    async def _write(self, mux: Multiplexer, connection: trio.CancelScope) -> None:
        try:
            while True:
                frames = await mux.outgoing.take()
                self._writing = True
                await self._send.send_all(b"".join([frame.line for frame in frames]))
                self._writing = False
                self._written.unpark_all()
        except _BROKEN:
            # Its last messages may still arrive. If it continues without reading, the connection ends here.
            await trio.sleep(LAST_READ)
            connection.cancel(reason="the host has stopped reading")


def _messages(lines: Iterable[bytes | Malformed]) -> Iterable[JsonRpcMessage]:
    for line in lines:
        if isinstance(line, Malformed):
            yield line
            continue
        messages = parse(line)
        # The envelope keeps parts of the line undecoded; this checks for all of them that they are text.
        if not line.isascii() and not _is_utf8(line):
            first = messages[0] if messages else None
            key = first.id if isinstance(first, Envelope | Malformed) else None
            known = key if isinstance(key, int | str) else None
            yield Malformed(reason="not UTF-8", id=known, has_method=True, syntax=True)
        else:
            yield from messages


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


@asynccontextmanager
async def _standard_streams() -> AsyncGenerator[Streams, None]:
    """Reserve stdout and stdin for the protocol: prints go to stderr, and nothing else reads the input."""
    if not hasattr(trio.lowlevel, "FdStream"):
        raise Unsupported("serving over stdio needs POSIX pipes")
    import fcntl  # noqa: PLC0415 - not on Windows, where everything still has to import

    kept_in, kept_out = os.dup(0), os.dup(1)
    flags = [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in (kept_in, kept_out)]
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    try:
        yield trio.lowlevel.FdStream(os.dup(kept_out)), trio.lowlevel.FdStream(os.dup(kept_in))
    finally:
        # Printed text may still be in buffers, which must be flushed while descriptor 1 is stderr.
        _flush_output()
        for fd, kept, mode in ((0, kept_in, flags[0]), (1, kept_out, flags[1])):
            # Non-blocking mode belongs to the pipe, not to our descriptor: it is restored for others that share the
            # pipe.
            fcntl.fcntl(kept, fcntl.F_SETFL, mode)
            os.dup2(kept, fd)
            os.close(kept)


def _flush_output() -> None:
    for stream in {id(one): one for one in (sys.stdout, sys.__stdout__) if one is not None}.values():
        with suppress(OSError, ValueError):
            stream.flush()
    # Extensions written in C have separate buffers.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).fflush(None)
