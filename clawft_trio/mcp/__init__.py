"""MCP: many concurrent calls to servers that may hang, flood or exit, and our own tools for other hosts."""

from clawft_trio.field_docs import document_fields as _document_fields
from clawft_trio.mcp.auth import (
    Credentials as Credentials,
    FileTokenStore as FileTokenStore,
    LoopbackUserAgent as LoopbackUserAgent,
    MemoryTokenStore as MemoryTokenStore,
    OAuth as OAuth,
    OAuthClient as OAuthClient,
    Redirect as Redirect,
    Token as Token,
    TokenStore as TokenStore,
    UserAgent as UserAgent,
)
from clawft_trio.mcp.client import McpClient as McpClient
from clawft_trio.mcp.connect import (
    Server as Server,
    connect_mcp as connect_mcp,
    open_mcp as open_mcp,
    wrap_mcp as wrap_mcp,
)
from clawft_trio.mcp.handshake import Agreement as Agreement
from clawft_trio.mcp.host import Host as Host
from clawft_trio.mcp.messages import CallOptions as CallOptions, Progress as Progress
from clawft_trio.mcp.multiplexer import (
    Multiplexer as Multiplexer,
    MultiplexerStatistics as MultiplexerStatistics,
)
from clawft_trio.mcp.options import McpOptions as McpOptions
from clawft_trio.mcp.sampling import SamplingPolicy as SamplingPolicy, sample_with as sample_with
from clawft_trio.mcp.server import (
    Bearer as Bearer,
    HttpOptions as HttpOptions,
    McpApp as McpApp,
    McpServer as McpServer,
    ServedPrompt as ServedPrompt,
    ServedResource as ServedResource,
    ServeOptions as ServeOptions,
    TaskOptions as TaskOptions,
    Tls as Tls,
    VerifiedToken as VerifiedToken,
    Verify as Verify,
    open_mcp_app as open_mcp_app,
    serve_mcp as serve_mcp,
    serve_mcp_http as serve_mcp_http,
)
from clawft_trio.mcp.supervision import Supervision as Supervision
from clawft_trio.mcp.tasks import Task as Task, call_tool_as_task as call_tool_as_task
from clawft_trio.mcp.toolset import (
    ToolServer as ToolServer,
    Toolset as Toolset,
    Withheld as Withheld,
    open_toolset as open_toolset,
)
from clawft_trio.mcp.transports.http_server import HttpServer as HttpServer
from clawft_trio.mcp.transports.process import StdioServer as StdioServer
from clawft_trio.mcp.transports.streams import StreamServer as StreamServer

__all__ = [
    "Agreement",
    "Bearer",
    "CallOptions",
    "Credentials",
    "FileTokenStore",
    "Host",
    "HttpOptions",
    "HttpServer",
    "LoopbackUserAgent",
    "McpApp",
    "McpClient",
    "McpOptions",
    "McpServer",
    "MemoryTokenStore",
    "Multiplexer",
    "MultiplexerStatistics",
    "OAuth",
    "OAuthClient",
    "Progress",
    "Redirect",
    "SamplingPolicy",
    "ServeOptions",
    "ServedPrompt",
    "ServedResource",
    "StdioServer",
    "StreamServer",
    "Supervision",
    "Task",
    "TaskOptions",
    "Tls",
    "Token",
    "TokenStore",
    "ToolServer",
    "Toolset",
    "UserAgent",
    "VerifiedToken",
    "Withheld",
    "call_tool_as_task",
    "connect_mcp",
    "open_mcp",
    "open_mcp_app",
    "open_toolset",
    "sample_with",
    "serve_mcp",
    "serve_mcp_http",
    "wrap_mcp",
]

_document_fields(__name__)
