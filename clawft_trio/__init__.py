"""LLM agents on trio: failures of providers, tools and servers do not lose an answer.

The names that most programs need are listed here; each is defined in a subpackage, which has the others. A name is
imported when it is first used: `import clawft_trio` costs what trio and httpx cost, and a program that uses the
strategies alone does not load the MCP multiplexer.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING
from warnings import warn

if TYPE_CHECKING:
    from clawft_trio.agent import (
        Agent as Agent,
        Reply as Reply,
        TurnPolicy as TurnPolicy,
        open_agent as open_agent,
        serve_agent as serve_agent,
        subagent as subagent,
    )
    from clawft_trio.attempts import Usage as Usage
    from clawft_trio.auth import AuthContext as AuthContext
    from clawft_trio.bus import (
        BusConfig as BusConfig,
        open_bus as open_bus,
        serve_channel as serve_channel,
    )
    from clawft_trio.chat import (
        ChatRequest as ChatRequest,
        ChatResponse as ChatResponse,
        Image as Image,
        Message as Message,
        Provider as Provider,
        Reset as Reset,
        TextDelta as TextDelta,
        ToolCall as ToolCall,
    )
    from clawft_trio.config import (
        Config as Config,
        parse_config as parse_config,
    )
    from clawft_trio.context import (
        ContextBuilder as ContextBuilder,
        Memory as Memory,
        Skills as Skills,
    )
    from clawft_trio.errors import (
        AllProvidersExhausted as AllProvidersExhausted,
        BudgetExceeded as BudgetExceeded,
        CircuitOpen as CircuitOpen,
        ClawftError as ClawftError,
        ConfigError as ConfigError,
        InvalidAnswer as InvalidAnswer,
        InvalidArguments as InvalidArguments,
        ProviderError as ProviderError,
        ProviderTimeout as ProviderTimeout,
        RateLimited as RateLimited,
    )
    from clawft_trio.files import FileCache as FileCache
    from clawft_trio.llm import (
        Anthropic as Anthropic,
        OpenAICompatible as OpenAICompatible,
        OpenAIResponses as OpenAIResponses,
        complete as complete,
        open_stream as open_stream,
        provider_named as provider_named,
    )
    from clawft_trio.mcp import (
        HttpServer as HttpServer,
        StdioServer as StdioServer,
        open_mcp as open_mcp,
        open_toolset as open_toolset,
        serve_mcp as serve_mcp,
    )
    from clawft_trio.messages import (
        InboundMessage as InboundMessage,
        OutboundMessage as OutboundMessage,
    )
    from clawft_trio.observe import Recorder as Recorder
    from clawft_trio.pipeline import Target as Target
    from clawft_trio.resilience import (
        Bulkhead as Bulkhead,
        CircuitBreaker as CircuitBreaker,
        Failover as Failover,
        Hedge as Hedge,
        Resilient as Resilient,
        Retry as Retry,
        Timeout as Timeout,
        compose as compose,
        resilient_chain as resilient_chain,
    )
    from clawft_trio.store import open_store as open_store
    from clawft_trio.tools import (
        ToolContext as ToolContext,
        ToolRegistry as ToolRegistry,
        ToolResult as ToolResult,
        tool as tool,
    )

_HOMES = {
    "agent": "Agent Reply TurnPolicy open_agent serve_agent subagent",
    "attempts": "Usage",
    "auth": "AuthContext",
    "bus": "BusConfig open_bus serve_channel",
    "chat": "ChatRequest ChatResponse Image Message Provider Reset TextDelta ToolCall",
    "config": "Config parse_config",
    "context": "ContextBuilder Memory Skills",
    "errors": """
        AllProvidersExhausted BudgetExceeded CircuitOpen ClawftError ConfigError InvalidAnswer InvalidArguments
        ProviderError ProviderTimeout RateLimited
    """,
    "files": "FileCache",
    "llm": "Anthropic OpenAICompatible OpenAIResponses complete open_stream provider_named",
    "mcp": "HttpServer StdioServer open_mcp open_toolset serve_mcp",
    "messages": "InboundMessage OutboundMessage",
    "observe": "Recorder",
    "pipeline": "Target",
    "resilience": "Bulkhead CircuitBreaker Failover Hedge Resilient Retry Timeout compose resilient_chain",
    "store": "open_store",
    "tools": "ToolResult ToolContext ToolRegistry tool",
}
_HOME_OF = {name: f"clawft_trio.{package}" for package, names in _HOMES.items() for name in names.split()}

# Names that version 0.1 had here. Each is imported from its subpackage now; the old import warns until version 0.4.
_MOVED = {
    "agent": "AgentEvent AgentLoop AnswerForm LoopPolicy RoundStarted ToolsAnswered TurnStream serve_sessions",
    "attempts": "AttemptLog AttemptRecord Latency record_attempt",
    "auth": "UserPermissions",
    "bus": "Channel MessageBus",
    "chat": """
        Call Citation Discarded Opaque ReasoningDelta StreamEvent Text ToolCallDelta ToolCallReady ToolSpec
        UsageReport
    """,
    "config": "load_config",
    "errors": """
        AnswerTooLarge AuthFailed BulkheadFull BusClosed BusFull ContentFiltered ContextLengthExceeded EmptyAnswer
        InvalidData InvalidResponse McpError ModelNotFound NotConfigured PeerError PeerGone PermissionDenied
        QuotaExhausted RateLimitExceeded Refused RequestRejected ServerError StreamTruncated ToolError
        TransportFailed Unsupported WrongAddress
    """,
    "llm": "StreamCallback",
    "mcp": "McpClient McpServer StreamServer ToolServer connect_mcp serve_mcp_http wrap_mcp",
    "net": "AddressPolicy Clocks HttpEndpoint SSEDecoder",
    "observe": "Event Observer",
    "pipeline": "Pipeline PipelineRegistry RoutingDecision StaticRouter TieredRouter",
    "resilience": "Attempt Hold Live Policy Preview RetryBudget Strategy",
    "store": "Store",
    "tools": "PathLocks Tool",
}
_MOVED_TO = {name: f"clawft_trio.{package}" for package, names in _MOVED.items() for name in names.split()}
_RENAMED = {"Answer": "clawft_trio.agent.TurnStream", "ToolAnswer": "clawft_trio.tools.ToolResult"}

# For `from clawft_trio import *`, which loads everything that is named here.
__all__ = sorted(_HOME_OF)  # noqa: PLE0605

if not TYPE_CHECKING:  # a type checker that sees it accepts any name

    def __getattr__(name: str) -> object:
        if name == "__version__":
            return import_module("importlib.metadata").version("clawft-trio")
        if name in _HOME_OF:
            value = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
            return value
        place = _RENAMED.get(name) or (f"{_MOVED_TO[name]}.{name}" if name in _MOVED_TO else None)
        if place is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        warn(f"clawft_trio.{name} is now {place}", DeprecationWarning, stacklevel=2)
        module, _, new = place.rpartition(".")
        return getattr(import_module(module), new)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
