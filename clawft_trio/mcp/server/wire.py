"""The parameters of clients' requests that a server reads."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from clawft_trio.errors import PeerError
from clawft_trio.mcp.jsonrpc import INVALID_PARAMS
from clawft_trio.mcp.stateless import CLIENT_CAPABILITIES, LOG_LEVEL
from clawft_trio.mcp.types import PROTOCOL_VERSION, WireRecord, decode_without_nulls

P = TypeVar("P")


class ListParams(WireRecord, frozen=True, kw_only=True):
    """Parameters of a request for a page of a list."""

    cursor: str | None = None


class InputParams(WireRecord, frozen=True, kw_only=True):
    """Parameters of requests to which a tool, prompt or resource may respond with questions."""

    meta: dict[str, Any] = msgspec.field(name="_meta", default_factory=dict)
    input_responses: dict[str, dict[str, Any]] | None = None
    request_state: str | None = None


class TraceParams(WireRecord, frozen=True, kw_only=True):
    """The `_meta` of a request that may name a trace."""

    meta: dict[str, Any] = msgspec.field(name="_meta", default_factory=dict)


class CallParams(InputParams, frozen=True, kw_only=True):
    """Parameters of `tools/call`."""

    name: str
    arguments: Raw = Raw(b"{}")
    #: task settings, to run it as a task (2025-11-25)
    task: dict[str, Any] | None = None


class TaskParams(WireRecord, frozen=True, kw_only=True):
    """Parameters of `tasks/get`, `tasks/result`, `tasks/cancel`."""

    task_id: str


class UriParams(InputParams, frozen=True, kw_only=True):
    """Parameters of `resources/read`, `resources/subscribe`, `resources/unsubscribe`."""

    uri: str


class PromptParams(InputParams, frozen=True, kw_only=True):
    """Parameters of `prompts/get`."""

    name: str
    arguments: dict[str, str] = msgspec.field(default_factory=dict)


class InitializeParams(WireRecord, frozen=True, kw_only=True):
    """Parameters of `initialize`."""

    protocol_version: str = ""
    capabilities: dict[str, Any] = msgspec.field(default_factory=dict)


class LevelParams(WireRecord, frozen=True, kw_only=True):
    """Parameters of `logging/setLevel`."""

    level: Any


class CompletionRef(WireRecord, frozen=True, kw_only=True):
    """The prompt or resource whose argument is completed."""

    type: str
    name: str = ""
    uri: str = ""


class CompletionArgument(WireRecord, frozen=True, kw_only=True):
    """The argument and the text that was typed."""

    name: str
    value: str


class CompletionContext(WireRecord, frozen=True, kw_only=True):
    """The arguments that are already known."""

    arguments: dict[str, str] = msgspec.field(default_factory=dict)


class CompleteParams(WireRecord, frozen=True, kw_only=True):
    """Parameters of `completion/complete`."""

    ref: CompletionRef
    argument: CompletionArgument
    context: CompletionContext = CompletionContext()


class NotificationFilter(WireRecord, frozen=True, kw_only=True):
    """The notifications that a `subscriptions/listen` request asks for."""

    tools_list_changed: bool = False
    prompts_list_changed: bool = False
    resources_list_changed: bool = False
    resource_subscriptions: tuple[str, ...] = ()


class ListenParams(WireRecord, frozen=True, kw_only=True):
    """Parameters of `subscriptions/listen`."""

    notifications: NotificationFilter = NotificationFilter()


class RequestMeta(msgspec.Struct, frozen=True):
    """The `_meta` of a request of 2026-07-28."""

    protocol_version: str | UnsetType = msgspec.field(name=PROTOCOL_VERSION, default=UNSET)
    client_capabilities: dict[str, Any] | UnsetType = msgspec.field(name=CLIENT_CAPABILITIES, default=UNSET)
    log_level: str | UnsetType = msgspec.field(name=LOG_LEVEL, default=UNSET)


class MetaParams(msgspec.Struct, frozen=True):
    """The `_meta` of any request."""

    meta: RequestMeta | None = msgspec.field(name="_meta", default=None)


_decoders: dict[type, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind)
    for kind in (
        ListParams,
        CallParams,
        TaskParams,
        TraceParams,
        UriParams,
        PromptParams,
        InitializeParams,
        LevelParams,
        CompleteParams,
        ListenParams,
        MetaParams,
    )
}


def decode_params(params: Raw, kind: type[P]) -> P:
    """Decode *params* as *kind*; missing parameters are an empty object, and null members count as missing.

    Raises:
      PeerError: they do not fit.
    """
    try:
        given = b"{}" if not params or bytes(params) == b"null" else params
        found: P = decode_without_nulls(given, _decoders[kind])
    except (ValueError, RecursionError) as exc:
        raise PeerError(str(exc)[:200], code=INVALID_PARAMS) from exc
    return found
