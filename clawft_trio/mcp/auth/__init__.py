"""OAuth 2.1 for MCP servers over HTTP that require a login."""

from clawft_trio.mcp.auth.oauth import OAuth as OAuth
from clawft_trio.mcp.auth.records import Credentials as Credentials, OAuthClient as OAuthClient, Token as Token
from clawft_trio.mcp.auth.store import (
    FileTokenStore as FileTokenStore,
    MemoryTokenStore as MemoryTokenStore,
    TokenStore as TokenStore,
)
from clawft_trio.mcp.auth.user_agent import (
    LoopbackUserAgent as LoopbackUserAgent,
    Redirect as Redirect,
    UserAgent as UserAgent,
)
