"""Frames over the pipes of a child process."""

from __future__ import annotations

from collections.abc import Callable

from clawft_trio.errors import CannotStart, McpError, PeerGone
from clawft_trio.mcp.jsonrpc import MAX_MESSAGE
from clawft_trio.mcp.multiplexer import Multiplexer
from clawft_trio.mcp.transports.process import StdioServer, open_server_process
from clawft_trio.mcp.transports.streams import EagerPipe, StreamTransport


class StdioTransport:
    """A `Transport` that starts a server's process, exchanges frames with it, and stops it completely.

    Args:
      server: the server to start.
      name: its name in errors and logs.
      limit: largest message in bytes.
      on_line: called with each line of its stderr; sync and cheap.
    """

    def __init__(
        self,
        server: StdioServer,
        *,
        name: str = "",
        limit: int = MAX_MESSAGE,
        on_line: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._server = server
        self._name = name
        self._limit = limit
        self._on_line = on_line

    async def run(self, mux: Multiplexer) -> McpError:
        """Start the process and move frames until it has exited, closed its stdout or stopped reading.

        Pending calls fail before the process is stopped, so that no call waits for the grace periods.

        Cancellation: the process is stopped, within its grace times.
        """
        try:
            async with open_server_process(self._server, name=self._name, on_line=self._on_line) as process:
                mux.redact = process.redact
                pipes = StreamTransport(EagerPipe(process.stdin), process.stdout, name=self._name, limit=self._limit)
                try:
                    await pipes.pump(mux, process.wait_gone)
                    why = await process.exit_error()
                    mux.end(why)
                finally:
                    mux.end(PeerGone("the connection was closed here", server=self._name))
        except CannotStart as exc:
            return exc
        return why
