"""The runtime for LLM agents on trio whose answers must get through.

Everything here lives in a room of its own and is only named here. A name is looked up when it is first asked for:
`import clawft_trio` costs what trio and httpx cost, and a program that wants the strategies alone does not pay for the
multiplexer.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING
from warnings import warn

if TYPE_CHECKING:
    from clawft_trio.agent import (
        Agent as Agent,
        AgentEvent as AgentEvent,
        AgentLoop as AgentLoop,
        AnswerForm as AnswerForm,
        LoopPolicy as LoopPolicy,
        Reply as Reply,
        RoundStarted as RoundStarted,
        ToolsAnswered as ToolsAnswered,
        TurnPolicy as TurnPolicy,
        TurnStream as TurnStream,
        open_agent as open_agent,
        serve_agent as serve_agent,
        serve_sessions as serve_sessions,
        subagent as subagent,
    )
    from clawft_trio.attempts import (
        AttemptLog as AttemptLog,
        AttemptRecord as AttemptRecord,
        Latency as Latency,
        Usage as Usage,
        record_attempt as record_attempt,
    )
    from clawft_trio.auth import (
        AuthContext as AuthContext,
        UserPermissions as UserPermissions,
    )
    from clawft_trio.bus import (
        BusConfig as BusConfig,
        Channel as Channel,
        MessageBus as MessageBus,
        open_bus as open_bus,
        serve_channel as serve_channel,
    )
    from clawft_trio.chat import (
        Call as Call,
        ChatRequest as ChatRequest,
        ChatResponse as ChatResponse,
        Citation as Citation,
        Discarded as Discarded,
        Image as Image,
        Message as Message,
        Opaque as Opaque,
        Provider as Provider,
        ReasoningDelta as ReasoningDelta,
        Reset as Reset,
        StreamEvent as StreamEvent,
        Text as Text,
        TextDelta as TextDelta,
        ToolCall as ToolCall,
        ToolCallDelta as ToolCallDelta,
        ToolCallReady as ToolCallReady,
        ToolSpec as ToolSpec,
        UsageReport as UsageReport,
    )
    from clawft_trio.config import (
        Config as Config,
        load_config as load_config,
        parse_config as parse_config,
    )
    from clawft_trio.context import (
        ContextBuilder as ContextBuilder,
        Memory as Memory,
        Skills as Skills,
    )
    from clawft_trio.errors import (
        AllProvidersExhausted as AllProvidersExhausted,
        AnswerTooLarge as AnswerTooLarge,
        AuthFailed as AuthFailed,
        BudgetExceeded as BudgetExceeded,
        BulkheadFull as BulkheadFull,
        BusClosed as BusClosed,
        BusFull as BusFull,
        CircuitOpen as CircuitOpen,
        ClawftError as ClawftError,
        ConfigError as ConfigError,
        ContentFiltered as ContentFiltered,
        ContextLengthExceeded as ContextLengthExceeded,
        EmptyAnswer as EmptyAnswer,
        InvalidAnswer as InvalidAnswer,
        InvalidArguments as InvalidArguments,
        InvalidData as InvalidData,
        InvalidResponse as InvalidResponse,
        McpError as McpError,
        MissingKey as MissingKey,
        ModelNotFound as ModelNotFound,
        NotConfigured as NotConfigured,
        PeerError as PeerError,
        PeerGone as PeerGone,
        PermissionDenied as PermissionDenied,
        ProviderError as ProviderError,
        ProviderTimeout as ProviderTimeout,
        QuotaExhausted as QuotaExhausted,
        RateLimited as RateLimited,
        RateLimitExceeded as RateLimitExceeded,
        Refused as Refused,
        RequestRejected as RequestRejected,
        ServerError as ServerError,
        StreamTruncated as StreamTruncated,
        ToolError as ToolError,
        TransportFailed as TransportFailed,
        Unsupported as Unsupported,
        WrongAddress as WrongAddress,
    )
    from clawft_trio.files import (
        FileCache as FileCache,
    )
    from clawft_trio.llm import (
        Anthropic as Anthropic,
        OpenAICompatible as OpenAICompatible,
        OpenAIResponses as OpenAIResponses,
        StreamCallback as StreamCallback,
        complete as complete,
        open_stream as open_stream,
        provider_named as provider_named,
    )
    from clawft_trio.mcp import (
        HttpServer as HttpServer,
        McpClient as McpClient,
        StdioServer as StdioServer,
        StreamServer as StreamServer,
        ToolServer as ToolServer,
        connect_mcp as connect_mcp,
        open_mcp as open_mcp,
        open_toolset as open_toolset,
        serve_mcp as serve_mcp,
        wrap_mcp as wrap_mcp,
    )
    from clawft_trio.messages import (
        InboundMessage as InboundMessage,
        OutboundMessage as OutboundMessage,
    )
    from clawft_trio.net import (
        AddressPolicy as AddressPolicy,
        Clocks as Clocks,
        HttpEndpoint as HttpEndpoint,
        SSEDecoder as SSEDecoder,
    )
    from clawft_trio.observe import (
        Event as Event,
        Observer as Observer,
        Recorder as Recorder,
    )
    from clawft_trio.pipeline import (
        Pipeline as Pipeline,
        PipelineRegistry as PipelineRegistry,
        RoutingDecision as RoutingDecision,
        StaticRouter as StaticRouter,
        Target as Target,
        TieredRouter as TieredRouter,
    )
    from clawft_trio.resilience import (
        Attempt as Attempt,
        Bulkhead as Bulkhead,
        CircuitBreaker as CircuitBreaker,
        Failover as Failover,
        Hedge as Hedge,
        Hold as Hold,
        Live as Live,
        Policy as Policy,
        Preview as Preview,
        Resilient as Resilient,
        Retry as Retry,
        RetryBudget as RetryBudget,
        Strategy as Strategy,
        Timeout as Timeout,
        compose as compose,
        resilient_chain as resilient_chain,
    )
    from clawft_trio.store import (
        Store as Store,
        open_store as open_store,
    )
    from clawft_trio.tools import (
        PathLocks as PathLocks,
        Tool as Tool,
        ToolContext as ToolContext,
        ToolRegistry as ToolRegistry,
        ToolResult as ToolResult,
        tool as tool,
    )

_HOMES = {
    "agent": """
        Agent AgentEvent AgentLoop AnswerForm LoopPolicy Reply RoundStarted ToolsAnswered TurnPolicy TurnStream
        open_agent serve_agent serve_sessions subagent
    """,
    "attempts": "AttemptLog AttemptRecord Latency Usage record_attempt",
    "auth": "AuthContext UserPermissions",
    "bus": "BusConfig Channel MessageBus open_bus serve_channel",
    "chat": """
        Call ChatRequest ChatResponse Citation Discarded Image Message Opaque Provider ReasoningDelta Reset
        StreamEvent Text TextDelta ToolCall ToolCallDelta ToolCallReady ToolSpec UsageReport
    """,
    "config": "Config load_config parse_config",
    "context": "ContextBuilder Memory Skills",
    "errors": """
        AllProvidersExhausted AnswerTooLarge AuthFailed BudgetExceeded BulkheadFull BusClosed BusFull CircuitOpen
        ClawftError ConfigError ContentFiltered ContextLengthExceeded EmptyAnswer InvalidAnswer InvalidArguments
        InvalidData InvalidResponse McpError MissingKey ModelNotFound NotConfigured PeerError PeerGone PermissionDenied
        ProviderError ProviderTimeout QuotaExhausted RateLimitExceeded RateLimited Refused RequestRejected
        ServerError StreamTruncated ToolError TransportFailed Unsupported WrongAddress
    """,
    "files": "FileCache",
    "llm": "Anthropic OpenAICompatible OpenAIResponses StreamCallback complete open_stream provider_named",
    "mcp": """
        HttpServer McpClient StdioServer StreamServer ToolServer connect_mcp open_mcp open_toolset serve_mcp wrap_mcp
    """,
    "messages": "InboundMessage OutboundMessage",
    "net": "AddressPolicy Clocks HttpEndpoint SSEDecoder",
    "observe": "Event Observer Recorder",
    "pipeline": "Pipeline PipelineRegistry RoutingDecision StaticRouter Target TieredRouter",
    "resilience": """
        Attempt Bulkhead CircuitBreaker Failover Hedge Hold Live Policy Preview Resilient Retry RetryBudget
        Strategy Timeout compose resilient_chain
    """,
    "store": "Store open_store",
    "tools": "PathLocks Tool ToolResult ToolContext ToolRegistry tool",
}
_HOME_OF = {name: f"clawft_trio.{room}" for room, names in _HOMES.items() for name in names.split()}
_RENAMED = {"Answer": "TurnStream", "ToolAnswer": "ToolResult"}

if not TYPE_CHECKING:  # with it in sight, a checker would take any name for one of ours

    def __getattr__(name: str) -> object:
        if name == "__version__":
            return import_module("importlib.metadata").version("clawft-trio")
        if name in _RENAMED:
            warn(f"clawft_trio.{name} is now clawft_trio.{_RENAMED[name]}", DeprecationWarning, stacklevel=2)
            name = _RENAMED[name]
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
