"""Events of all subpackages, one frozen record each.

Each carries the ids that tie it to its turn and call, and `at`, the `trio.current_time()` at which it happened.
No event holds a secret; those with texts of people or models name them `text` or hold a message, so that an
observer that must not repeat it knows what to leave out.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

import attrs
import trio

from clawft_trio.attempts import AttemptRecord, Certainty, Latency
from clawft_trio.messages import InboundMessage, OutboundMessage


@attrs.frozen(kw_only=True)
class Event:
    """The root of all events."""

    #: `trio.current_time()`
    at: float = attrs.field(factory=trio.current_time)
    #: the model call; empty outside of one
    call_id: str = ""
    #: the turn; empty outside of one
    turn_id: str = ""


# --- model calls ---------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class AttemptStarted(Event):
    """An attempt at *target* begins."""

    target: str
    #: how the model is asked, without what is left to the provider: `max_tokens`, `temperature`, `seed`, …
    options: Mapping[str, Any] = attrs.field(factory=dict)
    #: of the HTTP server that is asked; empty where there is none
    server_address: str = ""
    server_port: int | None = None


@attrs.frozen(kw_only=True)
class AttemptEnded(Event):
    """An attempt has ended, however it did."""

    #: target, outcome, times, usage, error
    record: AttemptRecord


@attrs.frozen(kw_only=True)
class RequestConformed(Event):
    """A request was changed so that its target accepts it. Once per call and target."""

    target: str
    #: what was changed, and how often
    changes: Mapping[str, int]


@attrs.frozen(kw_only=True)
class RetryScheduled(Event):
    """The same target will be tried again after `wait` seconds."""

    #: 1 is the first retry
    retry: int
    wait: float
    error: BaseException


@attrs.frozen(kw_only=True)
class FailedOver(Event):
    """The next target takes over."""

    failed: str
    target: str
    error: BaseException | None = None


@attrs.frozen(kw_only=True)
class HedgeStarted(Event):
    """A second attempt starts beside a slow one."""

    slow: str
    target: str


@attrs.frozen(kw_only=True)
class Retracted(Event):
    """What an attempt had shown was taken back."""

    characters: int
    cause: BaseException


@attrs.frozen(kw_only=True)
class BreakerChanged(Event):
    """A circuit breaker changed its state."""

    target: str
    state: Literal["closed", "open", "half_open"]
    #: seconds until the next probe, when open
    retry_after: float | None = None


# --- tools -----------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class ToolStarted(Event):
    """A tool call begins to run; it holds its locks and its approval."""

    tool: str
    tool_call_id: str
    #: seconds it waited for a worker, its locks and its approval
    waited: float = 0.0


@attrs.frozen(kw_only=True)
class ToolEnded(Event):
    """A tool call has its answer."""

    #: the name of the tool
    tool: str
    #: the id of the call
    tool_call_id: str
    #: what became of it
    outcome: Literal["ok", "error", "timeout", "refused", "unknown", "invalid", "cancelled", "discarded"]
    #: seconds
    duration: float
    #: why it failed
    error: BaseException | None = None


@attrs.frozen(kw_only=True)
class ToolProgress(Event):
    """A tool call reported its progress."""

    tool: str
    tool_call_id: str
    done: float
    #: what `done` counts up to, where that is known
    total: float | None = None
    message: str = ""


@attrs.frozen(kw_only=True)
class LockWaited(Event):
    """A tool call waited for paths that others held."""

    tool_call_id: str
    paths: tuple[str, ...]
    waited: float


# --- bus and turns -----------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class BusPressure(Event):
    """A queue of the bus has reached its warning level."""

    queue: str
    depth: int
    capacity: int


@attrs.frozen(kw_only=True)
class MessageDropped(Event):
    """A message was dropped by a policy; here it is."""

    queue: str
    policy: str
    message: InboundMessage | OutboundMessage


@attrs.frozen(kw_only=True)
class Undeliverable(Event):
    """A final reply could not be handed to its channel in time; it is stored."""

    message: OutboundMessage
    error: BaseException | None = None


@attrs.frozen(kw_only=True)
class TurnStarted(Event):
    """A message is being answered."""

    session: str
    sender: str
    message_id: str


@attrs.frozen(kw_only=True)
class TurnEnded(Event):
    """A message has its reply."""

    #: the conversation
    session: str
    #: the message that was answered
    message_id: str
    #: what became of it
    outcome: Literal["ok", "error", "cancelled"]
    #: seconds
    duration: float
    #: model calls
    rounds: int = 0
    #: why it failed
    error: BaseException | None = None


# --- MCP servers -------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class ServerStarted(Event):
    """An MCP server has answered the handshake."""

    server: str
    protocol: str
    #: how often it has been started again before
    restarts: int = 0


@attrs.frozen(kw_only=True)
class ServerGone(Event):
    """An MCP server's connection ended, or could not be made."""

    server: str
    error: BaseException
    #: seconds until it is started again; None when it is not
    restart_in: float | None = None


@attrs.frozen(kw_only=True)
class ServerOutput(Event):
    """A line that an MCP server wrote to its stderr, or to its stdout between messages."""

    server: str
    text: str


@attrs.frozen(kw_only=True)
class ServerCalled(Event):
    """A request to an MCP server has ended, however it did."""

    server: str
    #: `tools/call` and the like
    method: str
    #: what was called or read: a tool's own name there, an address
    target: str = ""
    #: the tool call it was made for; empty outside one
    tool_call_id: str = ""
    outcome: Literal["ok", "error", "timeout", "cancelled"]
    duration: float
    error: BaseException | None = None


# --- routing -----------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Routed(Event):
    """It is decided who may answer a turn."""

    #: `provider/model`, in the order in which they are tried
    targets: tuple[str, ...]
    #: namespaced by channel; empty outside an agent
    sender: str
    task_type: str
    complexity: float
    tier: str
    reason: str


@attrs.frozen(kw_only=True)
class RequestShortened(Event):
    """A target refused a request as too long; a shorter one is sent."""

    target: str
    #: estimated input tokens of what was refused
    tokens: int
    #: whether the target gave length as the reason; else it is inferred from sizes
    stated: bool


@attrs.frozen(kw_only=True)
class CacheBusted(Event):
    """A request does not begin like the one before it in its session: the prompt cache is of no use from there on."""

    target: str
    #: offset of the first byte that differs, in the order tools, system, messages
    byte: int
    #: bytes of the request before
    of: int
    #: `tools`, `system` or `messages`, and which of them, from 0
    part: str
    index: int


@attrs.frozen(kw_only=True)
class SessionCompacted(Event):
    """Models are shown less of a session from now on. All of it is still stored."""

    session: str
    #: messages that left the window; 0 when tool results were cleared only, or the number of messages was the limit
    messages: int
    #: whether a summary stands in their place
    summarized: bool


@attrs.frozen(kw_only=True)
class RoundEnded(Event):
    """A round of a turn has its answer, or has none."""

    ending: Literal["ok", "failed", "cancelled", "aborted"]
    sender: str
    #: `provider/model`; empty when none did
    answered_by: str
    latency: Latency
    #: None when the provider reported none
    input_tokens: int | None = None
    output_tokens: int | None = None
    #: US dollars; None when it was not metered or has no price
    cost: Decimal | None = None
    error: BaseException | None = None


@attrs.frozen(kw_only=True)
class Charged(Event):
    """An attempt was settled."""

    #: who pays, namespaced by channel; empty outside an agent
    sender: str
    target: str
    #: the sub-agent that asked; empty for the sender's own
    agent: str = ""
    input_tokens: int
    output_tokens: int
    #: US dollars; None when it has no price
    cost: Decimal | None
    certainty: Certainty
    #: why it has no price, or why it is not exact
    note: str = ""


# --- everything else ---------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Noted(Event):
    """An observation that has no class of its own (a skipped skill, a stray line)."""

    #: the part of the program it is from: `agent`, `costs`, or one of your own
    component: str
    what: str
    details: dict[str, Any] = attrs.field(factory=dict)
