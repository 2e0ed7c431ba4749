"""Frames over the pipes of a child process."""

from __future__ import annotations

from collections.abc import Callable

from clawft_trio.errors import CannotStart, McpError, PeerGone
from clawft_trio.mcp.jsonrpc import MAX_MESSAGE
from clawft_trio.mcp.multiplexer import Multiplexer
from clawft_trio.mcp.transports.process import StdioServer, open_server_process
from clawft_trio.mcp.transports.streams import EagerPipe, StreamTransport


class StdioTransport:
    """A `Transport` that starts a server's process, talks to it, and leaves nothing of it behind.

    Args:
      server: what to start.
      name: what it is called in errors and logs.
      limit: bytes that one message may have.
      on_line: is shown each line of its stderr; sync and cheap.
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

        The calls that wait fail before the process is ended, so that no call waits for the grace periods.

        Cancellation: the process is ended, within its graces.
        """
        try:
            async with open_server_process(self._server, name=self._name, on_line=self._on_line) as process:
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
