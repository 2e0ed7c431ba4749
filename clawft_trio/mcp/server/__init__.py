"""An MCP server: tools, resources and prompts of this process for other hosts, over stdio and HTTP."""

from clawft_trio.mcp.server.http_app import McpApp as McpApp, open_mcp_app as open_mcp_app
from clawft_trio.mcp.server.http_serve import Tls as Tls, serve_mcp_http as serve_mcp_http
from clawft_trio.mcp.server.options import (
    Bearer as Bearer,
    HttpOptions as HttpOptions,
    ServeOptions as ServeOptions,
    TaskOptions as TaskOptions,
    VerifiedToken as VerifiedToken,
    Verify as Verify,
)
from clawft_trio.mcp.server.prompts import ServedPrompt as ServedPrompt
from clawft_trio.mcp.server.resources import ServedResource as ServedResource
from clawft_trio.mcp.server.server import McpServer as McpServer
from clawft_trio.mcp.server.stdio import serve_mcp as serve_mcp
