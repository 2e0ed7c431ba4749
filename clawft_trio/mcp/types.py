"""The wire format of MCP as frozen records: revisions 2024-11-05 to 2026-07-28.

Field names are snake case here and camel case on the wire. Fields of later revisions that nothing here reads are
ignored, as the protocol requires; a field that is present must have the right type.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

JsonObject: TypeAlias = Mapping[str, Any]

HANDSHAKE_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Revisions that begin with `initialize`, oldest first."""

LATEST_HANDSHAKE = HANDSHAKE_VERSIONS[-1]

STATELESS_VERSION = "2026-07-28"
"""The revision without a handshake: every request carries the version and the client's capabilities."""


PROTOCOL_VERSION = "io.modelcontextprotocol/protocolVersion"
"""The member of `_meta` that names the revision of a request."""


class WireRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base class of all records of the protocol."""


T = TypeVar("T")

# Members whose content belongs to a tool or its caller: in it null is a value.
_FOREIGN = frozenset(
    (
        "structuredContent",
        "arguments",
        "input",
        "inputResponses",
        "inputSchema",
        "outputSchema",
        "requestedSchema",
        "_meta",
    )
)


def decode_without_nulls(raw: bytes | Raw, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode *raw*; if that fails, decode it without null members, because some peers send null for missing fields.

    Raises:
      msgspec.DecodeError: it does not fit.
    """
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError:
        return decoder.decode(msgspec.json.encode(_without_nulls(msgspec.json.decode(raw))))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nulls(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        # A prompt's `arguments` are a list that belongs to the protocol.
        key: member if key in _FOREIGN and isinstance(member, dict) else _without_nulls(member)
        for key, member in value.items()
        if member is not None
    }


# --- content --------------------------------------------------------------------------------------------


class TextContent(WireRecord, frozen=True, tag_field="type", tag="text"):
    """Plain text."""

    text: str
    annotations: JsonObject | None = None
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


class ImageContent(WireRecord, frozen=True, tag_field="type", tag="image"):
    """An image in base64."""

    data: str
    mime_type: str
    annotations: JsonObject | None = None
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)

    @property
    def content(self) -> bytes:
        """The decoded image.

        Raises:
          ValueError: it is not base64.
        """
        return base64.b64decode(self.data, validate=True)


class AudioContent(WireRecord, frozen=True, tag_field="type", tag="audio"):
    """A sound in base64."""

    data: str
    mime_type: str
    annotations: JsonObject | None = None
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


class ResourceLink(WireRecord, frozen=True, tag_field="type", tag="resource_link"):
    """The URI of a resource that the client may read."""

    uri: str
    name: str = ""
    title: str | None = None
    description: str | None = None
    mime_type: str | None = None
    size: int | None = None
    annotations: JsonObject | None = None
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


class ResourceContents(WireRecord, frozen=True):
    """Content of a resource: `text`, or `blob` in base64."""

    uri: str
    mime_type: str | None = None
    text: str | None = None
    blob: str | None = None
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


class EmbeddedResource(WireRecord, frozen=True, tag_field="type", tag="resource"):
    """A resource inside a result."""

    resource: ResourceContents
    annotations: JsonObject | None = None
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


class UnknownContent(WireRecord, frozen=True, tag_field="type", tag="unknown"):
    """A block of a kind that only a later revision defines, unchanged."""

    block: JsonObject


Content: TypeAlias = TextContent | ImageContent | AudioContent | ResourceLink | EmbeddedResource | UnknownContent

# --- the two sides --------------------------------------------------------------------------------------


class Icon(WireRecord, frozen=True):
    """An image for a user interface, by its URL. It is untrusted: nothing here fetches it."""

    src: str = ""
    mime_type: str | None = None
    sizes: Any = None
    theme: str | None = None


class Implementation(WireRecord, frozen=True):
    """Name and version of a client or server."""

    name: str = ""
    version: str = ""
    title: str | None = None
    description: str | None = None
    website_url: str | None = None
    icons: tuple[Icon, ...] = ()


class Capabilities(WireRecord, frozen=True):
    """The features that a server offers; None for a feature that it does not offer."""

    tools: JsonObject | None = None
    resources: JsonObject | None = None
    prompts: JsonObject | None = None
    completions: JsonObject | None = None
    logging: JsonObject | None = None
    experimental: JsonObject | None = None
    #: requests that may be run as tasks (2025-11-25)
    tasks: JsonObject | None = None
    extensions: JsonObject | None = None


class InitializeResult(WireRecord, frozen=True):
    """A server's part of the `initialize` handshake."""

    protocol_version: str
    capabilities: Capabilities = Capabilities()
    server_info: Implementation = Implementation()
    instructions: str | None = None


class DiscoverResult(WireRecord, frozen=True):
    """The description of a server of revision 2026-07-28."""

    supported_versions: tuple[str, ...]
    capabilities: Capabilities = Capabilities()
    instructions: str | None = None
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


# --- tools ----------------------------------------------------------------------------------------------


class ToolAnnotations(WireRecord, frozen=True):
    """Hints of a server about its tool. They are not trusted."""

    title: str | None = None
    read_only_hint: bool | None = None
    destructive_hint: bool | None = None
    idempotent_hint: bool | None = None
    open_world_hint: bool | None = None


class ToolDefinition(WireRecord, frozen=True):
    """A tool as its server describes it."""

    name: str
    input_schema: JsonObject = msgspec.field(default_factory=lambda: {"type": "object"})
    title: str | None = None
    description: str | None = None
    output_schema: JsonObject | None = None
    annotations: ToolAnnotations | None = None
    #: how it may be run as a task (2025-11-25): `taskSupport` is `required`, `optional` or `forbidden`
    execution: JsonObject | None = None
    icons: tuple[Icon, ...] = ()
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


class CallToolResult(WireRecord, frozen=True):
    """The result of a tool call. `is_error`: the tool failed; the content then has the reason."""

    content: tuple[Content, ...] = ()
    structured_content: Any = UNSET
    is_error: bool = False
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)

    @property
    def text(self) -> str:
        """All its plain text, with a line break between blocks."""
        return "\n".join(block.text for block in self.content if isinstance(block, TextContent))


class _LooseResult(WireRecord, frozen=True):
    content: tuple[Any, ...] = ()
    structured_content: Any = UNSET
    is_error: bool = False
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


def decode_tool_result(raw: Raw) -> CallToolResult:
    """Decode the result of a tool call; blocks of unknown kinds, and those that do not fit their kind, stay unchanged.

    Raises:
      msgspec.DecodeError: it is not a tool result.
    """
    try:
        return _decode_result(raw)
    except msgspec.ValidationError:
        return tool_result_of(msgspec.json.decode(raw))


def tool_result_of(value: Any) -> CallToolResult:
    """Convert *value*, decoded JSON, to the result of a tool call.

    Raises:
      msgspec.ValidationError: it is not a tool result.
    """
    if isinstance(value, dict):
        value = {key: member for key, member in value.items() if member is not None or key == "structuredContent"}
    loose = msgspec.convert(value, _LooseResult)
    return CallToolResult(
        content=tuple(map(content_of, loose.content)),
        structured_content=loose.structured_content,
        is_error=loose.is_error,
        meta=loose.meta,
    )


def content_of(block: Any) -> Content:
    """Convert *block*; a block that does not fit its kind stays unchanged, so that the others are not lost."""
    try:
        known: Content = msgspec.convert(_without_nulls(block), Content)
    except msgspec.ValidationError:
        return UnknownContent(block=block if isinstance(block, dict) else {"value": block})
    return known


_decode_result = msgspec.json.Decoder(CallToolResult).decode


# --- resources and prompts ------------------------------------------------------------------------------


class Resource(WireRecord, frozen=True):
    """A resource that a client may read."""

    uri: str
    name: str = ""
    title: str | None = None
    description: str | None = None
    mime_type: str | None = None
    size: int | None = None
    annotations: JsonObject | None = None
    icons: tuple[Icon, ...] = ()
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


class ResourceTemplate(WireRecord, frozen=True):
    """A family of resources: an RFC 6570 template of their URIs."""

    uri_template: str
    name: str = ""
    title: str | None = None
    description: str | None = None
    mime_type: str | None = None
    annotations: JsonObject | None = None
    icons: tuple[Icon, ...] = ()
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


class ReadResourceResult(WireRecord, frozen=True):
    """Content of a resource, in one or more parts."""

    contents: tuple[ResourceContents, ...]
    ttl_ms: float | None = None


class PromptArgument(WireRecord, frozen=True):
    """A parameter of a prompt."""

    name: str
    title: str | None = None
    description: str | None = None
    required: bool = False


class Prompt(WireRecord, frozen=True):
    """A prompt with parameters."""

    name: str
    title: str | None = None
    description: str | None = None
    arguments: tuple[PromptArgument, ...] | None = None
    icons: tuple[Icon, ...] = ()
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


class PromptMessage(WireRecord, frozen=True):
    """One message of a prompt whose parameters are filled in."""

    role: Literal["user", "assistant"]
    content: Content


class GetPromptResult(WireRecord, frozen=True):
    """A prompt whose parameters are filled in."""

    messages: tuple[PromptMessage, ...]
    description: str | None = None


class _LooseMessage(WireRecord, frozen=True):
    role: Literal["user", "assistant"]
    content: Any


class _LoosePrompt(WireRecord, frozen=True):
    messages: tuple[_LooseMessage, ...]
    description: str | None = None


def decode_prompt_result(raw: Raw) -> GetPromptResult:
    """Decode a filled-in prompt; blocks of unknown kinds stay unchanged.

    Raises:
      msgspec.DecodeError: it is not a prompt.
    """
    try:
        return _decode_prompt(raw)
    except msgspec.ValidationError:
        loose = decode_without_nulls(raw, _loose_prompt)
        messages = tuple(PromptMessage(role=one.role, content=content_of(one.content)) for one in loose.messages)
        return GetPromptResult(messages=messages, description=loose.description)


_decode_prompt = msgspec.json.Decoder(GetPromptResult).decode
_loose_prompt = msgspec.json.Decoder(_LoosePrompt)


class Completion(WireRecord, frozen=True):
    """Suggestions for the rest of an input."""

    values: tuple[str, ...] = ()
    total: int | None = None
    has_more: bool = False


class CompleteResult(WireRecord, frozen=True):
    """The result of `completion/complete`."""

    completion: Completion


class EmptyResult(WireRecord, frozen=True):
    """An empty result: the request succeeded."""


# --- what a server asks of its client -------------------------------------------------------------------


class Root(WireRecord, frozen=True):
    """A folder that the server may use."""

    uri: str
    name: str | None = None


class SamplingMessage(WireRecord, frozen=True):
    """One message of a sampling request. Its content is one block, or since 2025-11-25 several."""

    role: Literal["user", "assistant"]
    content: Any


class ModelPreferences(WireRecord, frozen=True):
    """The server's preferences for the model."""

    hints: tuple[JsonObject, ...] = ()
    cost_priority: float | None = None
    speed_priority: float | None = None
    intelligence_priority: float | None = None


class CreateMessageParams(WireRecord, frozen=True):
    """A server's request for a model's answer."""

    messages: tuple[SamplingMessage, ...]
    max_tokens: int = 1024
    system_prompt: str | None = None
    temperature: float | None = None
    stop_sequences: tuple[str, ...] = ()
    model_preferences: ModelPreferences | None = None
    include_context: str | None = None
    tools: tuple[ToolDefinition, ...] = ()
    tool_choice: JsonObject | None = None
    metadata: Any = None


class ElicitParams(WireRecord, frozen=True):
    """A server's question to the person: a form (`requested_schema`), or since 2025-11-25 a page to visit (`url`)."""

    message: str = ""
    mode: str = "form"
    requested_schema: JsonObject | None = None
    url: str | None = None
    elicitation_id: str | None = None


class ElicitResult(WireRecord, frozen=True, omit_defaults=False):
    """The person's response."""

    action: Literal["accept", "decline", "cancel"]
    content: dict[str, Any] | UnsetType = UNSET


class LogMessage(WireRecord, frozen=True):
    """Parameters of `notifications/message`."""

    level: str
    data: Any = None
    logger: str | None = None


LogLevel: TypeAlias = Literal["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]
