"""The wire format of MCP as frozen records: revisions 2024-11-05 to 2026-07-28.

Field names are snake case here and camel case there. What a later revision adds and nothing here reads is ignored, as
the protocol asks; what is there must have the right type.
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
    """What all records of the protocol share."""


T = TypeVar("T")

# What a server's tool or its caller put there: null is a value in it.
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
    """*raw* by *decoder*; where that fails, once more without members that are null: some peers write null for what
    they do not have.

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
        # A prompt's `arguments` are a list, and the protocol's.
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
    """An image, base64."""

    data: str
    mime_type: str
    annotations: JsonObject | None = None
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)

    @property
    def content(self) -> bytes:
        """The image itself.

        Raises:
          ValueError: it is not base64.
        """
        return base64.b64decode(self.data, validate=True)


class AudioContent(WireRecord, frozen=True, tag_field="type", tag="audio"):
    """A sound, base64."""

    data: str
    mime_type: str
    annotations: JsonObject | None = None
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


class ResourceLink(WireRecord, frozen=True, tag_field="type", tag="resource_link"):
    """The address of a resource that the client may read."""

    uri: str
    name: str = ""
    title: str | None = None
    description: str | None = None
    mime_type: str | None = None
    size: int | None = None
    annotations: JsonObject | None = None
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


class ResourceContents(WireRecord, frozen=True):
    """What a resource holds: `text`, or `blob` in base64."""

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
    """A block of a kind that only a later revision knows, as it came."""

    block: JsonObject


Content: TypeAlias = TextContent | ImageContent | AudioContent | ResourceLink | EmbeddedResource | UnknownContent

# --- the two sides --------------------------------------------------------------------------------------


class Icon(WireRecord, frozen=True):
    """An image for a user interface, by its address. It is a stranger's: nothing here fetches it."""

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
    """What a server offers; None where it does not."""

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
    """A server's half of the handshake."""

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
        """All its plain text, a line break between blocks."""
        return "\n".join(block.text for block in self.content if isinstance(block, TextContent))


class _LooseResult(WireRecord, frozen=True):
    content: tuple[Any, ...] = ()
    structured_content: Any = UNSET
    is_error: bool = False
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


def decode_tool_result(raw: Raw) -> CallToolResult:
    """The result of a tool call; blocks of unknown kinds, and those that do not fit their kind, are kept as they came.

    Raises:
      msgspec.DecodeError: it is none.
    """
    try:
        return _decode_result(raw)
    except msgspec.ValidationError:
        return tool_result_of(msgspec.json.decode(raw))


def tool_result_of(value: Any) -> CallToolResult:
    """The result of a tool call that *value*, decoded JSON, is.

    Raises:
      msgspec.ValidationError: it is none.
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
    """*block* as what it is: one that does not fit its kind is kept as it came, so that the others are not lost."""
    try:
        known: Content = msgspec.convert(_without_nulls(block), Content)
    except msgspec.ValidationError:
        return UnknownContent(block=block if isinstance(block, dict) else {"value": block})
    return known


_decode_result = msgspec.json.Decoder(CallToolResult).decode


# --- resources and prompts ------------------------------------------------------------------------------


class Resource(WireRecord, frozen=True):
    """Something that a server lets its client read."""

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
    """What a resource holds, in one or more parts."""

    contents: tuple[ResourceContents, ...]
    ttl_ms: float | None = None


class PromptArgument(WireRecord, frozen=True):
    """A blank of a prompt."""

    name: str
    title: str | None = None
    description: str | None = None
    required: bool = False


class Prompt(WireRecord, frozen=True):
    """A prompt with blanks."""

    name: str
    title: str | None = None
    description: str | None = None
    arguments: tuple[PromptArgument, ...] | None = None
    icons: tuple[Icon, ...] = ()
    meta: JsonObject | None = msgspec.field(name="_meta", default=None)


class PromptMessage(WireRecord, frozen=True):
    """One message of a filled-in prompt."""

    role: Literal["user", "assistant"]
    content: Content


class GetPromptResult(WireRecord, frozen=True):
    """A prompt, filled in."""

    messages: tuple[PromptMessage, ...]
    description: str | None = None


class _LooseMessage(WireRecord, frozen=True):
    role: Literal["user", "assistant"]
    content: Any


class _LoosePrompt(WireRecord, frozen=True):
    messages: tuple[_LooseMessage, ...]
    description: str | None = None


def decode_prompt_result(raw: Raw) -> GetPromptResult:
    """A filled-in prompt; blocks of unknown kinds are kept as they came.

    Raises:
      msgspec.DecodeError: it is none.
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
    """What may follow what was typed."""

    values: tuple[str, ...] = ()
    total: int | None = None
    has_more: bool = False


class CompleteResult(WireRecord, frozen=True):
    """The answer to `completion/complete`."""

    completion: Completion


class EmptyResult(WireRecord, frozen=True):
    """An empty result: the request was done."""


# --- what a server asks of its client -------------------------------------------------------------------


class Root(WireRecord, frozen=True):
    """A folder that the server may work in."""

    uri: str
    name: str | None = None


class SamplingMessage(WireRecord, frozen=True):
    """One message of a request for sampling. Its content is one block, or since 2025-11-25 several."""

    role: Literal["user", "assistant"]
    content: Any


class ModelPreferences(WireRecord, frozen=True):
    """What the server would like the model to be."""

    hints: tuple[JsonObject, ...] = ()
    cost_priority: float | None = None
    speed_priority: float | None = None
    intelligence_priority: float | None = None


class CreateMessageParams(WireRecord, frozen=True):
    """A server asks for a model's answer."""

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
    """A server asks the person: a form (`requested_schema`), or since 2025-11-25 a page to visit (`url`)."""

    message: str = ""
    mode: str = "form"
    requested_schema: JsonObject | None = None
    url: str | None = None
    elicitation_id: str | None = None


class ElicitResult(WireRecord, frozen=True, omit_defaults=False):
    """What the person did."""

    action: Literal["accept", "decline", "cancel"]
    content: dict[str, Any] | UnsetType = UNSET


class LogMessage(WireRecord, frozen=True):
    """`notifications/message`."""

    level: str
    data: Any = None
    logger: str | None = None


LogLevel: TypeAlias = Literal["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]
