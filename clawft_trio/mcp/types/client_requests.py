"""What a server requests of its client: roots, sampling, elicitation; and its log messages."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import UNSET, UnsetType

from clawft_trio.mcp.types.tools import ToolDefinition
from clawft_trio.mcp.types.wire import JsonObject, WireRecord


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
