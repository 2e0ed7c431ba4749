"""Every exception of this package.

ClawftError
├── ProviderError                  a model gave no answer that can be trusted
│   ├── RateLimited                too many requests; `retry_after` when the provider gave one
│   ├── QuotaExhausted             the account has no money or no allowance left
│   ├── ServerError                the provider failed (5xx, overloaded)
│   ├── AuthFailed                 the key is missing, wrong or revoked
│   ├── ModelNotFound              no such model, or no such address
│   ├── RequestRejected            the provider refused the request as invalid
│   │   ├── ContextLengthExceeded  the request exceeds the model's context window
│   │   └── ContentFiltered        refused because of its content
│   ├── TransportFailed            the connection could not be made or broke
│   ├── ProviderTimeout            a clock ran out; `clock` names it
│   ├── InvalidResponse            the response violates the protocol
│   │   ├── EventTooLarge          one event of the stream is larger than `limit` bytes
│   │   └── AnswerTooLarge         the whole answer is larger than `limit` characters
│   ├── EmptyAnswer                a success without text, tool call or refusal
│   ├── WrongAddress               no such API at this URL; the message names method and URL
│   ├── StreamTruncated            the stream ended without its terminal mark; `partial` holds what arrived
│   ├── CircuitOpen                not sent: the target's breaker is open; `retry_after` is the time of its probe
│   ├── BulkheadFull               not sent: too many calls wait for this target
│   ├── NotConfigured              a setting is missing on this side (a key, a base URL)
│   │   └── MissingKey             the key of a provider is not set
│   └── AllProvidersExhausted      every target failed; raised from a group of their errors
├── Refused                        not permitted
│   ├── PermissionDenied
│   │   └── ToolDenied             the sender may not use a tool of this name
│   ├── AddressRefused             the address policy forbids this address; `host`, `address`
│   ├── ClientLacksCapability      the MCP client of a tool did not declare this capability; `capabilities`
│   ├── RateLimitExceeded          too many turns of this sender; `retry_after`
│   └── BudgetExceeded             the call does not fit the budget; `retry_after`, `spent`, `limit`
├── ToolError                      a tool call has no result; the text is for the model
│   ├── UnknownTool
│   ├── InvalidArguments           `problems`, each with its place
│   ├── ToolFailed                 the tool function raised
│   ├── ToolTimeout
│   └── OutcomeUnknown             started before a crash; its effect is unknown
├── TurnError                      a turn ended without an answer for another reason than a model or tool
│   ├── TurnTimeout                not answered within its deadline
│   ├── TurnCancelled              stopped; `reason` holds the reason
│   └── TurnInterrupted            the process ended too often during the turn
├── BusError
│   ├── BusClosed                  the bus accepts and delivers no more messages
│   ├── BusFull                    refused by the overflow policy
│   └── SelfDeadlock               a consumer published to its own full bus
├── StoreError                     the store cannot be used; `path` names its file
│   ├── StoreCorrupt               damaged, or of another application; nothing was changed in it
│   ├── StoreTooNew                written by a later version of this package
│   ├── StoreBusy                  locked by other processes, or its server is unreachable
│   ├── StoreReadOnly              its file or its server is read-only
│   ├── LeaseLost                  another worker took over the session; nothing was written
│   └── StoreClosed                closed by this process
├── McpError
│   ├── PeerError                  the server answered with a JSON-RPC error: `code`, `data`
│   ├── PeerGone                   the connection ended; `exit_code` and `stderr` when it was a process
│   │   └── SessionLost            over HTTP: the server no longer knows the session
│   ├── CannotStart                its process could not be started
│   ├── AuthorizationFailed        the server requires authorization and there is none: `code`
│   ├── ServerDown                 not sent: the server keeps crashing; `retry_after` is the time of its next start
│   ├── RequestTimeout             no response within the deadline
│   └── ProtocolViolation          the server's response violates the protocol
├── InvalidData                    input from outside is invalid; `problems`, each with its place
│   ├── ConfigError
│   └── EmptyQuestion              the question has no text, image or file
├── InvalidAnswer                  a typed answer did not validate; `partial` is the last text
├── StreamEnded                    the response of a stream was read before its end
└── Unsupported                    not available on this platform

ConsumerLeft (BaseException)       control flow inside a call; never raised to the caller

Three fields of each error drive the strategies: `retryable` (the same target may succeed on a retry),
`curable_elsewhere` (another target may succeed) and `blames_target` (counts as a failure of the target's health).
No decision in this package depends on the text of an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import attrs

from clawft_trio.field_docs import document_fields

if TYPE_CHECKING:
    from clawft_trio.attempts import AttemptRecord
    from clawft_trio.chat import ChatResponse

MAX_BODY = 2048
"""Characters of a response body that an error keeps: enough for every real error object, too little for a page."""


class ClawftError(Exception):
    """Base class of every exception that this package raises."""

    #: the same target may succeed on a retry
    retryable: bool = False
    #: most retries after this error; None: the policy decides
    max_retries: int | None = None
    #: another target may succeed
    curable_elsewhere: bool = False
    #: breakers count it as a failure of the target
    blames_target: bool = False
    #: the target stopped responding: a retry would wait as long again
    silent: bool = False
    #: no request was sent to the target
    untried: bool = False
    #: seconds until a retry makes sense, where the other side gave them
    retry_after: float | None = None
    #: records of every attempt of the failed call
    attempts: tuple[AttemptRecord, ...] = ()


class ProviderError(ClawftError):
    """A model gave no answer that can be trusted.

    Args:
      message: what happened, for a person to read.
      provider: name of the provider.
      model: name of the model as that provider knows it.
      status: HTTP status, where there was one.
      code: the provider's own typed error code (`insufficient_quota`, `overloaded_error`).
      request_id: the provider's id of the request, for its support team.
      body: the response body, redacted and then cut to `MAX_BODY` characters.
      retryable: overrides the default of the class, where the provider states it (`x-should-retry`).
      retry_after: seconds to wait before a retry, as the provider stated.
      partial: the received part of the response.
    """

    curable_elsewhere: bool = True

    def __init__(
        self,
        message: str = "",
        *,
        provider: str = "",
        model: str = "",
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        body: str = "",
        retryable: bool | None = None,
        curable_elsewhere: bool | None = None,
        retry_after: float | None = None,
        partial: ChatResponse | None = None,
        attempts: Sequence[AttemptRecord] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.provider = provider
        self.model = model
        self.status = status
        self.code = code
        self.request_id = request_id
        self.body: str = body[:MAX_BODY]
        self.retry_after = retry_after
        self.partial = partial
        self.attempts: tuple[AttemptRecord, ...] = tuple(attempts)
        if retryable is not None:
            self.retryable = retryable
        if curable_elsewhere is not None:
            self.curable_elsewhere = curable_elsewhere

    @property
    def target(self) -> str:
        """`provider/model`, or as much of it as is known."""
        return "/".join(part for part in (self.provider, self.model) if part)

    def __str__(self) -> str:
        text = self.message or type(self).__name__
        target = f"{self.target}: " if self.target else ""
        marks = ", ".join(str(mark) for mark in (self.status, self.code) if mark)
        return f"{target}{text} ({marks})" if marks else f"{target}{text}"


class RateLimited(ProviderError):
    """Too many requests. `retry_after` is the time that the provider gave, if any."""

    retryable = True
    blames_target = True


class QuotaExhausted(ProviderError):
    """The account has no credit or allowance left. A retry does not help; another account may."""

    blames_target = True


class ServerError(ProviderError):
    """The provider failed: 5xx, overloaded, or an error event in the stream."""

    retryable = True
    blames_target = True


class AuthFailed(ProviderError):
    """The key is missing, wrong, revoked, or lacks the permission."""

    blames_target = True


class ModelNotFound(ProviderError):
    """The provider has no such model."""

    blames_target = True


class RequestRejected(ProviderError):
    """The provider refused the request as invalid."""


class ContextLengthExceeded(RequestRejected):
    """The request exceeds the model's context window. Another model may have a larger one.

    `window` is the window in tokens and `prompt_tokens` the length of the request, where the provider names them in
    typed fields; both count by the provider's own tokenizer.
    """

    window: int | None = None
    prompt_tokens: int | None = None


class ContentFiltered(RequestRejected):
    """The request was refused because of its content. By default no other target is tried."""

    curable_elsewhere = False


class TransportFailed(ProviderError):
    """The connection could not be made, or broke."""

    retryable = True
    blames_target = True


class ProviderTimeout(ProviderError):
    """A time limit was exceeded: `limit` seconds.

    `clock` names it: `connect`, `write`, `first_byte`, `first_content`, `gap`, `total`, `queue`.
    """

    retryable = True
    blames_target = True
    silent = True

    def __init__(
        self,
        message: str = "",
        *,
        clock: str = "total",
        limit: float | None = None,
        provider: str = "",
        model: str = "",
    ) -> None:
        super().__init__(message or _clock_in_words(clock, limit), provider=provider, model=model)
        self.clock = clock
        #: seconds that the clock allowed
        self.limit = limit


_CLOCKS: Mapping[str, str] = MappingProxyType(
    {
        "connect": "no connection",
        "write": "the server did not take the request",
        "first_byte": "no response headers",
        "first_content": "no content",
        "gap": "no further content",
        "total": "no whole answer",
        "queue": "no slot on this side",
    }
)


def _clock_in_words(clock: str, limit: float | None) -> str:
    words = _CLOCKS.get(clock, f"no {clock}")
    return f"{words} in time" if limit is None else f"{words} within {limit:g} s (`{clock}`)"


class InvalidResponse(ProviderError):
    """The response violates the protocol: HTML, broken JSON, no choices."""

    retryable = True
    blames_target = True


class EventTooLarge(InvalidResponse):
    """One event of the stream is larger than the limit. A retry would fail the same way."""

    retryable = False

    def __init__(self, *, limit: int, provider: str = "", model: str = "") -> None:
        super().__init__(
            f"an event of the stream is larger than max_event={limit} bytes", provider=provider, model=model
        )
        #: bytes that one event may have
        self.limit = limit


class AnswerTooLarge(InvalidResponse):
    """The answer is larger than the limit: text, reasoning, tool arguments and kept blocks together."""

    retryable = False

    def __init__(self, *, limit: int, provider: str = "", model: str = "", partial: ChatResponse | None = None) -> None:
        super().__init__(
            f"the answer is larger than max_answer={limit} characters", provider=provider, model=model, partial=partial
        )
        #: characters that an answer may have
        self.limit = limit


class EmptyAnswer(ProviderError):
    """The answer ended as a success without text, tool call or refusal; it may hold reasoning.

    One retry or another target may help. `ChatRequest.allow_empty` accepts such answers.
    """

    retryable = True
    max_retries: int | None = 1


class WrongAddress(ProviderError):
    """The server responds, but has no such API at this URL. The message names the method and the URL."""

    blames_target = True


class StreamTruncated(ProviderError):
    """The stream ended without the terminal mark of its protocol. `partial` holds what arrived."""

    retryable = True
    blames_target = True


class CircuitOpen(ProviderError):
    """Not sent: the target's circuit breaker is open. `retry_after`: seconds until its next probe.

    `retryable` when the target itself gave the time (`Retry-After`).
    """

    untried = True

    def __str__(self) -> str:
        when = "" if self.retry_after is None else f"; its next probe is in {self.retry_after:.3g} s"
        return f"{self.target or 'the target'}: {self.message or 'not asked because its circuit breaker is open'}{when}"


class BulkheadFull(ProviderError):
    """Not sent: the queue for this target is full, or this call waited too long in it."""

    untried = True


class NotConfigured(ProviderError):
    """A setting is missing on this side: a key, a base URL. The message names what to set."""


class MissingKey(NotConfigured):
    """The key of a provider is not set. The message names the variable to set."""


class AllProvidersExhausted(ProviderError):
    """Every target failed. Raised from an ExceptionGroup of the targets' errors; the message has one line for each.

    `retry_after` is the shortest time that a target gave; `retryable` is true when one of the errors is.
    """

    curable_elsewhere = False

    def __str__(self) -> str:
        return f"no target could answer: {self.message}" if self.message else "no target could answer"


class Refused(ClawftError):
    """The request is not permitted."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PermissionDenied(Refused):
    """The sender may not do this."""


class ToolDenied(PermissionDenied):
    """The sender may not use a tool of this name. The message does not reveal whether the tool exists."""


class AddressRefused(Refused):
    """The address policy forbids this address. `address` is empty when the host name decided."""

    def __init__(self, message: str, *, host: str, address: str = "") -> None:
        super().__init__(message)
        self.host = host
        self.address = address


class ClientLacksCapability(Refused):
    """A tool sent its MCP client a request without the client's capability; `capabilities` holds the missing one."""

    def __init__(self, message: str, *, capabilities: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.capabilities: Mapping[str, Any] = capabilities


class RateLimitExceeded(Refused):
    """Too many turns of the sender, or of all senders. `retry_after` is the time until the next one is accepted."""


class BudgetExceeded(Refused):
    """A budget does not have enough left for a call.

    `limit`, `spent`, `reserved` and `estimate` (of the call; None when it has no price) are in *unit*: US dollars
    (`usd`), `tokens` or `turns`. `retry_after` is the time until there is room, as far as that is known.
    """

    def __init__(
        self,
        message: str,
        *,
        spent: object = None,
        limit: object = None,
        reserved: object = None,
        estimate: object = None,
        unit: str = "usd",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.spent = spent
        self.limit = limit
        self.reserved = reserved
        self.estimate = estimate
        self.unit = unit


class ToolError(ClawftError):
    """A tool call has no result. The text is short and written for a model to act on."""

    def __init__(self, message: str, *, tool: str = "") -> None:
        super().__init__(message)
        self.tool = tool


class UnknownTool(ToolError):
    """There is no such tool, or the sender may not know of it."""


class InvalidArguments(ToolError):
    """The arguments do not fit the tool's schema. `problems` has a line for each, with its place."""

    def __init__(self, problems: Sequence[Problem], *, tool: str = "") -> None:
        super().__init__("; ".join(map(str, problems)), tool=tool)
        self.problems: tuple[Problem, ...] = tuple(problems)


class ToolFailed(ToolError):
    """The tool function raised."""


class ToolTimeout(ToolError):
    """The tool did not finish within its deadline."""


class OutcomeUnknown(ToolError):
    """The call was started before a crash and is not declared idempotent: its effect is unknown."""


class TurnError(ClawftError):
    """A turn ended without an answer for another reason than a model or tool."""


class TurnTimeout(TurnError):
    """A message was not answered within its deadline."""


class TurnCancelled(TurnError):
    """A turn was stopped, or not started. `reason` holds the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TurnInterrupted(TurnError):
    """The process ended during the turn more often than `LoopPolicy.max_resumes` allows."""


class BusError(ClawftError):
    """A message did not pass the bus."""


class BusClosed(BusError):
    """The bus accepts and delivers no more messages."""


class BusFull(BusError):
    """The queue is full and its overflow policy is `reject`."""


class SelfDeadlock(BusError):
    """A consumer published to the full bus of which it is the only consumer."""


class StoreError(ClawftError):
    """The store cannot be used. `path` names its file."""

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class StoreCorrupt(StoreError):
    """The file is damaged or belongs to another application. Nothing was changed in it."""


class StoreTooNew(StoreError):
    """The file was written by a later version of this package. Nothing was changed in it."""


class StoreBusy(StoreError):
    """Other processes kept the database locked for too long, or its server is unreachable."""

    retryable = True


class StoreReadOnly(StoreError):
    """The store cannot be written: its file or its server is read-only. Nothing was changed in it."""


class LeaseLost(StoreError):
    """Another worker took over the session. Nothing of the turn was written, and this worker sends no reply."""


class StoreClosed(StoreError):
    """The store was closed by this process."""


class McpError(ClawftError):
    """An error of or with an MCP server. `server` is its name in the config."""

    def __init__(self, message: str, *, server: str = "") -> None:
        super().__init__(message)
        self.server = server


class PeerError(McpError):
    """The server answered with a JSON-RPC error object, or over HTTP with an error status.

    Args:
      message: what the server wrote.
      code: the error code; the HTTP status where there was no error object.
      data: the error object's own.
      status: HTTP status, where there was one.
      body: the response's body, cut to `MAX_BODY` characters.
      headers: headers of the response for the next request: `www-authenticate`, `retry-after`.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int,
        data: object = None,
        server: str = "",
        status: int | None = None,
        body: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, server=server)
        self.code = code
        self.data = data
        self.status = status
        self.body: str = body[:MAX_BODY]
        self.headers: Mapping[str, str] = dict(headers or {})


class PeerGone(McpError):
    """The connection ended, or had already ended."""

    retryable = True
    blames_target = True

    def __init__(self, message: str, *, exit_code: int | None = None, stderr: str = "", server: str = "") -> None:
        super().__init__(message, server=server)
        self.exit_code = exit_code
        #: the end of the process's stderr, cut to `MAX_BODY` characters
        self.stderr: str = stderr[-MAX_BODY:]


class SessionLost(PeerGone):
    """Over HTTP: the server no longer knows the session. A supervised client opens a new one."""

    #: whether the request was refused or not sent, and so did not run. A supervised client sends it again in the new
    #: session
    refused: bool = False


class AuthorizationFailed(McpError):
    """The server requires authorization and there is none: refused, impossible, or the response was not trustworthy.

    `code` is the OAuth error code (`access_denied`, `invalid_grant`), where there was one. The message holds no secret.
    """

    def __init__(self, message: str, *, code: str = "", server: str = "") -> None:
        super().__init__(message, server=server)
        self.code = code


class CannotStart(McpError):
    """The server's process could not be started: no such command, or no permission. The message names it."""


class ServerDown(McpError):
    """Not sent: the server crashed too often. `retry_after` is the time until it is started again."""

    def __init__(self, message: str, *, retry_after: float | None = None, server: str = "") -> None:
        super().__init__(message, server=server)
        self.retry_after = retry_after


class RequestTimeout(McpError):
    """The server did not respond within the deadline. It was sent `notifications/cancelled`."""

    retryable = True
    blames_target = True


class ProtocolViolation(McpError):
    """The response to this call violates the protocol."""

    blames_target = True


@attrs.frozen
class Problem:
    """One problem of invalid input, with its place: `$.retry.max_retries: expected int ≥ 0, got "three"`."""

    #: a JSON path from `$`
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class InvalidData(ClawftError):
    """Input from outside is invalid. `problems` lists every problem with its place."""

    def __init__(self, problems: Sequence[Problem], *, source: str = "") -> None:
        where = f"{source}: " if source else ""
        super().__init__(where + "; ".join(map(str, problems)))
        self.problems: tuple[Problem, ...] = tuple(problems)
        #: the file, server or argument that it came from
        self.source = source


class ConfigError(InvalidData):
    """The configuration is invalid."""


class EmptyQuestion(InvalidData):
    """A question has no text, image or file: it is blank, or none of its attachments can be read."""


class InvalidAnswer(ClawftError):
    """A typed answer did not validate after all corrections. `partial` is the text of the last one."""

    def __init__(self, problems: Sequence[Problem], *, partial: str = "") -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems: tuple[Problem, ...] = tuple(problems)
        self.partial = partial


class AgentClosed(ClawftError):
    """The block of the agent was left, or is being left."""


class StreamEnded(ClawftError):
    """The response of a stream was read before the stream ended."""


class Unsupported(ClawftError):
    """Not available on this platform."""


class ConsumerLeft(BaseException):
    """The consumer of a call's events ended the call: it raised, or it returned False.

    A BaseException, so that no handler of provider failures catches it. Raised from `Call.emit` and unwrapped where the
    consumer was passed in (`llm.stream`).
    """

    def __init__(self, original: BaseException | None = None) -> None:
        super().__init__(original)
        #: what the consumer raised; None when it returned False
        self.original = original


document_fields(__name__)
