"""Entry points of the client: one server in a block, servers in a nursery, or a server over two streams."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeAlias

import attrs
import trio

from clawft_trio.mcp.client import McpClient
from clawft_trio.mcp.multiplexer import Transport
from clawft_trio.mcp.options import McpOptions
from clawft_trio.mcp.transports.http_server import HttpServer
from clawft_trio.mcp.transports.process import StdioServer
from clawft_trio.mcp.transports.session_check import PingSupport
from clawft_trio.mcp.transports.stdio import StdioTransport
from clawft_trio.mcp.transports.streamable_http import HttpTransport
from clawft_trio.mcp.transports.streams import ConnectingTransport, StreamServer, StreamTransport
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.observe import ServerOutput, fan_out
from clawft_trio.tracebacks import short_opening

Server: TypeAlias = StdioServer | HttpServer | StreamServer | Sequence[str] | str
"""A server to connect to: a command, or a full description."""


@short_opening
@asynccontextmanager
async def open_mcp(
    server: Server, *, name: str = "", options: McpOptions | None = None
) -> AsyncGenerator[McpClient, None]:
    """Start a server, perform the handshake, and keep the connection for the duration of the block.

    Args:
      server: a command (`["npx", "-y", "some-server"]`), a `StdioServer`, an `HttpServer` or a `StreamServer`.
      name: the server's name in errors, events and logs.
      options: options of the client.

    Raises:
      CannotStart: there is no such program.
      PeerGone: it exited before it answered; the error has its exit code and the end of its stderr.
      RequestTimeout: it did not answer in time.
      PeerError: it refused the handshake.
      ProtocolViolation: its answer violates the protocol, or has an unsupported revision.

    Cancellation: the server is stopped within its grace times; `finally` blocks inside the body can still call it.
    """
    async with _keep(make_client(server, name, options or McpOptions())) as client:
        yield client


async def connect_mcp(
    nursery: trio.Nursery, server: Server, *, name: str = "", options: McpOptions | None = None
) -> McpClient:
    """Start a server in the caller's nursery; close it with `aclose`, in any order, or cancel the nursery.

    Raises:
      McpError: as `open_mcp`.

    Cancellation: the server is stopped within its grace times.
    """
    client = make_client(server, name, options or McpOptions())
    await nursery.start(client.run_until_closed)
    return client


@asynccontextmanager
async def wrap_mcp(
    send: trio.abc.SendStream,
    receive: trio.abc.ReceiveStream,
    *,
    name: str = "",
    options: McpOptions | None = None,
) -> AsyncGenerator[McpClient, None]:
    """Connect to a server over the caller's streams; they are closed at the end, and there is no restart.

    Without *options* the client sends `initialize` first and uses 2026-07-28 if that is refused: a server that exits
    when it gets any other request first could not be restarted.

    Raises:
      McpError: as `open_mcp`.

    Cancellation: the streams are closed.
    """
    handshake_first = options is None
    options = options or McpOptions()
    transport = StreamTransport(send, receive, name=name, limit=options.max_message)
    client = McpClient(
        name, attrs.evolve(options, supervision=None), lambda: transport, handshake_first=handshake_first
    )
    async with _keep(client):
        yield client


@asynccontextmanager
async def _keep(client: McpClient) -> AsyncGenerator[McpClient, None]:
    async with open_hidden_nursery() as nursery:
        # Shielded: it is closed after the body, within the server's graces.
        await nursery.start(partial(client.run_until_closed, shielded=True))
        try:
            yield client
        finally:
            await client.aclose()


def make_client(server: Server, name: str, options: McpOptions) -> McpClient:
    """Return a client that does not run yet."""
    if isinstance(server, HttpServer):
        pings = None if options.supervision is None else PingSupport()
        return McpClient(
            name, options, lambda: HttpTransport(server, name=name, limit=options.max_message, pings=pings)
        )
    if isinstance(server, StreamServer):
        return McpClient(name, options, lambda: ConnectingTransport(server, name=name, limit=options.max_message))
    description = server if isinstance(server, StdioServer) else StdioServer(server)

    observer = fan_out([options.observer])

    def report_line(text: str) -> None:
        observer(ServerOutput(server=name, text=text))

    def transport() -> Transport:
        return StdioTransport(description, name=name, limit=options.max_message, on_line=report_line)

    return McpClient(name, options, transport)
