"""LLM agents on trio whose answers arrive despite failures of providers, tools and servers.

The names that most programs need are listed here; the subpackages define them, and have the others. A name is
imported when it is first used: `import clawft_trio` costs what trio and httpx cost, and a program that uses only the
strategies does not load the MCP multiplexer.

The names:

  Agent                  A running agent
  AllProvidersExhausted  Every target failed
  Anthropic              A provider that sends `POST {base_url}/messages`, streamed or not
  AuthContext            Identity and permissions of the sender of a request
  BudgetExceeded         A budget does not have enough left for a call
  Bulkhead               Limit concurrent attempts to `max_concurrent`, waiting calls to `queue`, and their wait ...
  BusConfig              Sizes and overflow policies of the bus
  ChatRequest            A request to a model: the conversation, the tools and the options
  ChatResponse           A whole answer, from one attempt at one model
  CircuitBreaker         Stop requests to a target when too many attempts fail, and probe it later
  CircuitOpen            Not sent: the target's circuit breaker is open
  ClawftError            Base class of every exception that this package raises
  Config                 A complete config.json
  ConfigError            The configuration is invalid
  ContextBuilder         Builds the system prompt from the files of a workspace
  Failover               Several targets in order of preference, as one: the result is that of the first one ...
  FileCache              A bounded cache of text files and folder listings
  Hedge                  Start the same attempt again, concurrently, if one has had no content for `after` seconds
  HttpServer             An MCP server over streamable HTTP
  Image                  An image, by address or by content
  InboundMessage         A message of a sender, received through a channel
  InvalidAnswer          A typed answer did not validate after all corrections
  InvalidArguments       The arguments do not fit the tool's schema
  Memory                 A file of notes below the workspace, read through the cache and changed only by appending
  Message                One message of a conversation
  OpenAICompatible       A provider that sends `POST {base_url}/chat/completions`, streamed or not
  OpenAIResponses        A provider that sends `POST {base_url}/responses`, streamed or not
  OutboundMessage        A message to a chat: a piece of an answer, a request to remove all pieces, or the one ...
  Provider               Anything that can answer a `ChatRequest`: a model, or a wrapper around another provider
  ProviderError          A model gave no answer that can be trusted
  ProviderTimeout        A time limit was exceeded: `limit` seconds
  RateLimited            Too many requests
  Recorder               An observer that keeps the last *limit* events: for tests, and to inspect after a failure
  Reply                  The answer of a turn, with cost, times and tool results
  Reset                  Remove all content since the last reset: another attempt starts from the beginning
  Resilient              A provider that runs another one under a policy; it holds the state of the policy's ...
  Retry                  Retry an attempt after an error that a retry may cure
  Skills                 The skills of up to three levels; a skill hides a skill of the same name on a later level
  StdioServer            How an MCP server is started as a child process and stopped
  Target                 One model at one provider, with what routing knows about it
  TextDelta              The next piece of the answer's text
  Timeout                Cancel an attempt that takes too long, by several clocks in seconds; None is no limit
  ToolCall               The model's request to call a tool
  ToolContext            The sender, session and workspace that a tool runs for
  ToolRegistry           Tools by name, with the locks and the threads that their calls share
  ToolResult             The result of a tool call
  TurnPolicy             The limits of a turn, and the options of its requests to models
  Usage                  Tokens of one answer as its provider counts them, with the charge that the provider states
  complete               Call *provider* once and return its complete answer
  compose                Compose strategies, the outermost first
  open_agent             Open everything an agent needs, for the duration of the block
  open_bus               Open a bus for the duration of the block; at its end it is closed, and undelivered ...
  open_mcp               Start a server, perform the handshake, and keep the connection for the duration of the ...
  open_store             Open the store at *path*, or a new one in memory, and bring its schema up to date
  open_stream            Call *provider* and iterate over the events of its answer as they arrive
  open_toolset           Start *servers* concurrently and offer their tools in *registry* as `server__tool` for ...
  parse_config           Read a configuration from the JSON text *data*
  provider_named         Return the provider called *name*, to be used in an `async with`
  resilient_chain        Make one provider of several, in order of preference
  serve_agent            Open an agent in the caller's nursery, and serve it until cancelled
  serve_channel          Carry messages between *channel* and *bus*, in order, until the bus is closed and empty
  serve_mcp              Offer *server* to an MCP host over stdio, until the host closes its end
  subagent               Describe a sub-agent, for the tools of `open_agent`
  tool                   Make a tool of a sync or async function: `@tool`, `@tool(total=10.0, reads="path")`, or ...
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

# For `from clawft_trio import *`, which imports every name of the list.
__all__ = sorted(_HOME_OF)  # noqa: PLE0605

if not TYPE_CHECKING:  # a type checker that sees `__getattr__` accepts any name

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
