"""MCP servers over HTTP that the measure `mcp_http` compares: `python -m benchmarks.mcp_http_server KIND PORT`."""

from __future__ import annotations

import logging
import sys


def ours(port: int) -> None:
    import trio

    from clawft_trio.mcp import McpServer, serve_mcp_http
    from clawft_trio.tools import tool

    @tool(mode="read_only")
    async def echo(text: str) -> str:
        """Repeats a text."""
        return text

    trio.run(serve_mcp_http, McpServer([echo]), f"127.0.0.1:{port}")


def official(port: int, *, json_response: bool) -> None:
    import uvicorn
    from mcp.server import MCPServer

    server = MCPServer("echo", log_level="ERROR")

    @server.tool()
    async def echo(text: str) -> str:
        """Repeats a text."""
        return text

    logging.disable(logging.CRITICAL)
    app = server.streamable_http_app(json_response=json_response)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="critical", access_log=False)


if __name__ == "__main__":
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "clawft_trio":
        ours(port)
    else:
        official(port, json_response=kind == "mcp, JSON")
