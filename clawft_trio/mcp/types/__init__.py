"""The wire format of MCP as frozen records: revisions 2024-11-05 to 2026-07-28.

Field names are snake case here and camel case on the wire. Fields of later revisions that nothing here reads are
ignored, as the protocol requires; a field that is present must have the right type.
"""

from clawft_trio.mcp.types.client_requests import (
    CreateMessageParams as CreateMessageParams,
    ElicitParams as ElicitParams,
    ElicitResult as ElicitResult,
    LogLevel as LogLevel,
    LogMessage as LogMessage,
    ModelPreferences as ModelPreferences,
    Root as Root,
    SamplingMessage as SamplingMessage,
)
from clawft_trio.mcp.types.content import (
    AudioContent as AudioContent,
    Content as Content,
    EmbeddedResource as EmbeddedResource,
    ImageContent as ImageContent,
    ResourceContents as ResourceContents,
    ResourceLink as ResourceLink,
    TextContent as TextContent,
    UnknownContent as UnknownContent,
    content_of as content_of,
)
from clawft_trio.mcp.types.handshake import (
    Capabilities as Capabilities,
    DiscoverResult as DiscoverResult,
    Icon as Icon,
    Implementation as Implementation,
    InitializeResult as InitializeResult,
)
from clawft_trio.mcp.types.prompts import (
    CompleteResult as CompleteResult,
    Completion as Completion,
    GetPromptResult as GetPromptResult,
    Prompt as Prompt,
    PromptArgument as PromptArgument,
    PromptMessage as PromptMessage,
    decode_prompt_result as decode_prompt_result,
)
from clawft_trio.mcp.types.resources import (
    ReadResourceResult as ReadResourceResult,
    Resource as Resource,
    ResourceTemplate as ResourceTemplate,
)
from clawft_trio.mcp.types.tools import (
    CallToolResult as CallToolResult,
    ToolAnnotations as ToolAnnotations,
    ToolDefinition as ToolDefinition,
    decode_tool_result as decode_tool_result,
    tool_result_of as tool_result_of,
)
from clawft_trio.mcp.types.wire import (
    HANDSHAKE_VERSIONS as HANDSHAKE_VERSIONS,
    LATEST_HANDSHAKE as LATEST_HANDSHAKE,
    PROTOCOL_VERSION as PROTOCOL_VERSION,
    STATELESS_VERSION as STATELESS_VERSION,
    EmptyResult as EmptyResult,
    JsonObject as JsonObject,
    WireRecord as WireRecord,
    decode_without_nulls as decode_without_nulls,
)
