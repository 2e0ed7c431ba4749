"""Runs the HTTP endpoint with hypercorn's trio worker (extra `server`)."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import attrs
import trio

from clawft_trio.errors import NotConfigured
from clawft_trio.mcp.server.http_app import open_mcp_app
from clawft_trio.mcp.server.options import HttpOptions, ServeOptions
from clawft_trio.mcp.server.server import McpServer
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.tools.registry import ToolRegistry

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@attrs.frozen(kw_only=True)
class Tls:
    """Files with the server's certificate chain and key in PEM."""

    certificate: str
    key: str


async def serve_mcp_http(
    server: McpServer | ToolRegistry,
    bind: str = "127.0.0.1:8000",
    *,
    options: ServeOptions | None = None,
    http: HttpOptions | None = None,
    tls: Tls | None = None,
    anonymous: bool = False,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve *server* over streamable HTTP until cancelled. `started` gets the endpoint's URL.

    Args:
      server: what is offered, as far as the request's sender may use it.
      bind: `host:port`; port 0 is any free one. Every host except loopback requires bearer tokens.
      options: the sender that tools run for, and limits.
      http: limits and checks of the endpoint.
      tls: serve HTTPS.
      anonymous: serve clients without tokens on hosts other than loopback, too, because a proxy in front checks them.

    Raises:
      NotConfigured: hypercorn is not installed, *bind* is invalid, or it is open to the network without a check of its
        clients.
      OSError: the address cannot be bound.

    Cancellation: running requests are cancelled and connections closed.
    """
    try:
        import hypercorn.trio  # noqa: PLC0415 - an extra
        from hypercorn.config import Config, Sockets  # noqa: PLC0415
    except ImportError as exc:
        raise NotConfigured("serving over HTTP needs hypercorn: pip install 'clawft-trio[server]'") from exc

    class BoundConfig(Config):
        """Listens on the sockets that are bound here: hypercorn's own leak when an address is in use."""

        def create_sockets(self) -> Sockets:
            return Sockets(bound, [], []) if self.ssl_enabled else Sockets([], bound, [])

    chosen = http or HttpOptions()
    host, port = _host_and_port(bind)
    if host not in LOOPBACK and chosen.bearer is None and not anonymous:
        raise NotConfigured(f"{bind} is open to the network: require bearer tokens (HttpOptions.bearer)")
    config = BoundConfig()
    config.accesslog = None
    config.errorlog = None
    config.graceful_timeout = 0.5
    config.keep_alive_timeout = 75.0
    config.keep_alive_max_requests = 1_000_000
    config.h11_max_incomplete_size = 64 * 1024
    config.include_server_header = False
    if tls is not None:
        config.certfile, config.keyfile = tls.certificate, tls.key
    with ExitStack() as stack:
        bound = [stack.enter_context(one) for one in await _bind(host, port)]
        async with open_mcp_app(server, options=options, http=chosen) as app, open_hidden_nursery() as nursery:
            addresses = await nursery.start(hypercorn.trio.serve, app, config)
            task_status.started(f"{addresses[0]}{chosen.path}")


def _host_and_port(bind: str) -> tuple[str, int]:
    host, colon, port = bind.rpartition(":")
    if not (colon and host and port.isascii() and port.isdecimal() and int(port) < 65_536):
        raise NotConfigured(f"{bind!r} is no address to listen on: write host:port")
    return host.lower(), int(port)


async def _bind(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen on every address of *host*; with port 0 on one of them.

    Raises:
      OSError: an address cannot be bound.
    """
    listeners = await trio.open_tcp_listeners(port, host=host.strip("[]"))
    kept = listeners[:1] if port == 0 else listeners
    for unused in listeners[len(kept) :]:
        unused.socket.close()
    return [socket.socket(fileno=listener.socket.detach()) for listener in kept]
