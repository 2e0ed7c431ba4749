"""A client and a scripted server, joined by memory."""

from __future__ import annotations

from contextlib import asynccontextmanager

from trio.testing import memory_stream_pair

from clawft_trio.mcp.connect import wrap_mcp
from clawft_trio.mcp.options import McpOptions
from clawft_trio.nursery import open_hidden_nursery
from clawft_trio.testing.mcp_server import ScriptedMcpServer

DEFAULT = McpOptions()


@asynccontextmanager
async def wired(server=None, *, options=DEFAULT, hold=("tools/call",), **kwargs):
    """Yields a client and the server that it talks to."""
    server = server or ScriptedMcpServer(hold=hold, **kwargs)
    near, far = memory_stream_pair()
    async with open_hidden_nursery() as nursery:
        nursery.start_soon(server.run, far, far)
        try:
            async with wrap_mcp(near, near, name="wired", options=options) as client:
                yield client, server
        finally:
            nursery.cancel_scope.cancel(reason="the test is over")


def cancelled_ids(server):
    """What the client said that it does not wait for any more."""
    return [m["params"]["requestId"] for m in server.received if m.get("method") == "notifications/cancelled"]
