"""The events of all subpackages, one frozen record per kind.

Each event has the ids of its turn and call, and `at`, the `trio.current_time()` at which it happened. No event
contains a secret. Texts of people or models are in fields named `text` or in messages, so that an observer can leave
them out.
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
    """Base class of all events."""

    #: time of the event by `trio.current_time()`
    at: float = attrs.field(factory=trio.current_time)
    #: id of the model call; empty outside of one
    call_id: str = ""
    #: id of the turn; empty outside of one
    turn_id: str = ""


@attrs.frozen(kw_only=True)
class AttemptStarted(Event):
    """An attempt at *target* begins."""

    target: str
    #: options of the request that are set: `max_tokens`, `temperature`, `seed`, …
    options: Mapping[str, Any] = attrs.field(factory=dict)
    #: host and port of the HTTP server; empty and None when there is none
    server_address: str = ""
    server_port: int | None = None


@attrs.frozen(kw_only=True)
class AttemptEnded(Event):
    """An attempt has ended, with any outcome."""

    #: record of the attempt: target, outcome, times, usage, error
    record: AttemptRecord


@attrs.frozen(kw_only=True)
class RequestConformed(Event):
    """A request was changed so that its target accepts it. Reported once per call and target."""

    target: str
    #: changes by name, with their number
    changes: Mapping[str, int]


@attrs.frozen(kw_only=True)
class RetryScheduled(Event):
    """The same target will be tried again after `wait` seconds."""

    #: number of the retry, from 1
    retry: int
    wait: float
    error: BaseException


@attrs.frozen(kw_only=True)
class FailedOver(Event):
    """The call continues at the next target."""

    failed: str
    target: str
    error: BaseException | None = None


@attrs.frozen(kw_only=True)
class HedgeStarted(Event):
    """A second attempt starts in parallel with a slow one."""

    slow: str
    target: str


@attrs.frozen(kw_only=True)
class Retracted(Event):
    """The output that an attempt had shown was retracted."""

    characters: int
    cause: BaseException


@attrs.frozen(kw_only=True)
class BreakerChanged(Event):
    """A circuit breaker changed its state."""

    target: str
    state: Literal["closed", "open", "half_open"]
    #: seconds until the next probe; None unless the breaker is open
    retry_after: float | None = None


@attrs.frozen(kw_only=True)
class ToolStarted(Event):
    """A tool call begins to run; it has its locks and its approval."""

    tool: str
    tool_call_id: str
    #: seconds that it waited for a worker, its locks and its approval
    waited: float = 0.0


@attrs.frozen(kw_only=True)
class ToolEnded(Event):
    """A tool call has ended with a result."""

    #: name of the tool
    tool: str
    #: id of the tool call
    tool_call_id: str
    #: outcome of the tool call
    outcome: Literal["ok", "error", "timeout", "refused", "unknown", "invalid", "cancelled", "discarded"]
    #: duration in seconds
    duration: float
    #: the error; None unless the tool call failed
    error: BaseException | None = None


@attrs.frozen(kw_only=True)
class ToolProgress(Event):
    """A tool call reported its progress."""

    tool: str
    tool_call_id: str
    done: float
    #: value of `done` at the end; None when unknown
    total: float | None = None
    message: str = ""


@attrs.frozen(kw_only=True)
class LockWaited(Event):
    """A tool call waited for paths that other tool calls had locked."""

    tool_call_id: str
    paths: tuple[str, ...]
    waited: float


@attrs.frozen(kw_only=True)
class BusPressure(Event):
    """A queue of the bus has reached its warning level."""

    queue: str
    depth: int
    capacity: int


@attrs.frozen(kw_only=True)
class MessageDropped(Event):
    """A message was dropped by a policy; the event contains it."""

    queue: str
    policy: str
    message: InboundMessage | OutboundMessage


@attrs.frozen(kw_only=True)
class Undeliverable(Event):
    """A final reply could not be delivered to its channel in time; it is stored."""

    message: OutboundMessage
    error: BaseException | None = None


@attrs.frozen(kw_only=True)
class TurnStarted(Event):
    """A turn begins: the agent starts to answer a message."""

    session: str
    sender: str
    message_id: str


@attrs.frozen(kw_only=True)
class TurnEnded(Event):
    """A turn has ended: a message has its reply."""

    #: key of the session
    session: str
    #: id of the message that was answered
    message_id: str
    #: outcome of the turn
    outcome: Literal["ok", "error", "cancelled"]
    #: duration in seconds
    duration: float
    #: number of model calls
    rounds: int = 0
    #: the error; None unless the turn failed
    error: BaseException | None = None


@attrs.frozen(kw_only=True)
class ServerStarted(Event):
    """An MCP server has completed the handshake."""

    server: str
    protocol: str
    #: number of restarts before this start
    restarts: int = 0


@attrs.frozen(kw_only=True)
class ServerGone(Event):
    """The connection to an MCP server ended, or could not be opened."""

    server: str
    error: BaseException
    #: seconds until the server is restarted; None when it is not
    restart_in: float | None = None


@attrs.frozen(kw_only=True)
class ServerOutput(Event):
    """A line that an MCP server wrote to stderr, or to stdout between messages."""

    server: str
    text: str


@attrs.frozen(kw_only=True)
class ServerCalled(Event):
    """A request to an MCP server has ended, with any outcome."""

    server: str
    #: method of the request, for example `tools/call`
    method: str
    #: what was called or read: the tool's name on the server, or a URI
    target: str = ""
    #: id of the tool call that made the request; empty outside of one
    tool_call_id: str = ""
    outcome: Literal["ok", "error", "timeout", "cancelled"]
    duration: float
    error: BaseException | None = None


@attrs.frozen(kw_only=True)
class Routed(Event):
    """The targets that may answer a turn were chosen."""

    #: `provider/model` of each target, in the order of the attempts
    targets: tuple[str, ...]
    #: sender id, prefixed by its channel; empty outside of an agent
    sender: str
    task_type: str
    complexity: float
    tier: str
    reason: str


@attrs.frozen(kw_only=True)
class RequestShortened(Event):
    """A target refused a request as too long; a shorter one is sent."""

    target: str
    #: estimated input tokens of the refused request
    tokens: int
    #: whether the target gave length as the reason; otherwise it is inferred from sizes
    stated: bool


@attrs.frozen(kw_only=True)
class CacheBusted(Event):
    """A request differs from the previous one of its session before its end: the prompt cache is useless from there."""

    target: str
    #: offset of the first byte that differs, in the order tools, system, messages
    byte: int
    #: size of the previous request in bytes
    of: int
    #: part of the request that differs: `tools`, `system` or `messages`; `index` is the position in it, from 0
    part: str
    index: int


@attrs.frozen(kw_only=True)
class SessionCompacted(Event):
    """From now on models get a shorter history of a session. All messages are still stored."""

    session: str
    #: messages that were removed from the history; 0 when only tool results were cleared, or when the limit was the
    #: number of messages
    messages: int
    #: whether a summary replaces them
    summarized: bool


@attrs.frozen(kw_only=True)
class RoundEnded(Event):
    """A round of a turn has ended, with or without an answer."""

    ending: Literal["ok", "failed", "cancelled", "aborted"]
    sender: str
    #: `provider/model` of the target that answered; empty when none did
    answered_by: str
    latency: Latency
    #: tokens of the answer; None when the provider reported none
    input_tokens: int | None = None
    output_tokens: int | None = None
    #: US dollars; None when the round was not metered or has no price
    cost: Decimal | None = None
    error: BaseException | None = None


@attrs.frozen(kw_only=True)
class Charged(Event):
    """The charge for an attempt was recorded."""

    #: sender that pays, prefixed by its channel; empty outside of an agent
    sender: str
    target: str
    #: sub-agent that made the request; empty for the sender's main agent
    agent: str = ""
    input_tokens: int
    output_tokens: int
    #: US dollars; None when the attempt has no price
    cost: Decimal | None
    certainty: Certainty
    #: why there is no price, or why it is not exact
    note: str = ""


@attrs.frozen(kw_only=True)
class Noted(Event):
    """An observation that has no class of its own (a skipped skill, a stray line)."""

    #: the part of the program it is from: `agent`, `costs`, or one of your own
    component: str
    what: str
    details: dict[str, Any] = attrs.field(factory=dict)
