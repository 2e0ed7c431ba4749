"""Every exception of this package.

ClawftError
├── ProviderError                  a model gave no answer that can be trusted
│   ├── RateLimited                too many requests; `retry_after` when the provider said
│   ├── QuotaExhausted             the account has no money or no allowance left
│   ├── ServerError                the provider failed (5xx, overloaded)
│   ├── AuthFailed                 the key is missing there, wrong or revoked
│   ├── ModelNotFound              no such model, or no such address
│   ├── RequestRejected            the provider finds the request wrong
│   │   ├── ContextLengthExceeded  too long for this model's window
│   │   └── ContentFiltered        refused for what it says
│   ├── TransportFailed            the connection could not be made or broke
│   ├── ProviderTimeout            one of the clocks ran out; `clock` says which
│   ├── InvalidResponse            what came back is not the protocol
│   │   ├── EventTooLarge          one event of the stream is larger than `limit` bytes
│   │   └── AnswerTooLarge         the whole answer is larger than `limit` characters
│   ├── EmptyAnswer                a success without text, tool call or refusal
│   ├── WrongAddress               there is no such API at this URL; the message names method and URL
│   ├── StreamTruncated            the stream ended without its terminal mark; `partial` is attached
│   ├── CircuitOpen                not tried: this target has been failing; `retry_after` is its next probe
│   ├── BulkheadFull               not tried: too many calls are waiting for this target
│   ├── NotConfigured              something is missing on this side (a key, a base URL)
│   │   └── MissingKey             the key of a provider is not set
│   └── AllProvidersExhausted      nobody could; raised from a group of every attempt's error
├── Refused                        not done, because it may not be
│   ├── PermissionDenied
│   │   └── ToolDenied             a tool that there may be or not
│   ├── AddressRefused             this address may not be reached; `host`, `address`
│   ├── ClientLacksCapability      the MCP client of a tool cannot be asked for this; `capabilities`
│   ├── RateLimitExceeded          this sender asks too often; `retry_after`
│   └── BudgetExceeded             this sender's money is spent; `retry_after`, `spent`, `limit`
├── ToolError                      a tool call has no result; its text is written for a model to act on
│   ├── UnknownTool
│   ├── InvalidArguments           `problems`, each with its place
│   ├── ToolFailed                 it raised
│   ├── ToolTimeout
│   └── OutcomeUnknown             started before a crash; whether it acted cannot be known
├── TurnError                      a message has no answer, and no model or tool is to blame
│   ├── TurnTimeout                not answered in its time
│   ├── TurnCancelled              somebody stopped it; `reason` says who and why
│   └── TurnInterrupted            the process ended too often in the middle of it
├── BusError
│   ├── BusClosed                  nothing more goes in, or nothing more will come out
│   ├── BusFull                    refused by the overflow policy
│   └── SelfDeadlock               a consumer published to its own full bus
├── StoreError                     the file on disk cannot be used; `path` says which
│   ├── StoreCorrupt               it is damaged, or somebody else's; nothing was changed in it
│   ├── StoreTooNew                a later version of this package has written it
│   ├── StoreBusy                  other processes kept it locked, or its server is away
│   ├── StoreReadOnly              its file or its server cannot be written
│   ├── LeaseLost                  another worker has taken the session over; nothing was written
│   └── StoreClosed                it was closed here
├── McpError
│   ├── PeerError                  the server answered with a JSON-RPC error: `code`, `data`
│   ├── PeerGone                   the connection ended; `exit_code` and `stderr` when it was a process
│   │   └── SessionLost            over HTTP: the server does not know the session any more
│   ├── CannotStart                its process could not be started at all
│   ├── AuthorizationFailed        the server wants a login and there is none: `code`
│   ├── ServerDown                 not tried: it keeps dying; `retry_after` is its next probe
│   ├── RequestTimeout             no answer in time
│   └── ProtocolViolation          the server's answer is not the protocol
├── InvalidData                    input from outside does not fit; `problems`, each with its place
│   └── ConfigError
├── InvalidAnswer                  a typed answer did not validate; `partial` is the last text
├── StreamEnded                    the response of a stream was asked for before there was one
└── Unsupported                    this platform cannot do it

ConsumerLeft (BaseException)       control flow inside a call; never leaves it

Each error answers three different questions with a field: may the same target be asked again (`retryable`), may
another one be asked (`curable_elsewhere`), and does it speak against the target's health (`blames_target`).
Nothing in this package decides anything by an error's text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from clawft_trio.attempts import AttemptRecord
    from clawft_trio.chat import ChatResponse

MAX_BODY = 2048
"""Characters of a response body that an error keeps: enough for every real error object, too little for a page."""


class ClawftError(Exception):
    """The root: everything that this package raises on purpose."""

    #: the same again may succeed
    retryable: bool = False
    #: how often at most it is worth trying again after this error; None leaves it to the policy
    max_retries: int | None = None
    #: another target may succeed
    curable_elsewhere: bool = False
    #: says something about the target's health: breakers and cooldowns count it
    blames_target: bool = False
    #: the target fell silent: asking it again means waiting as long again
    silent: bool = False
    #: the target was not asked at all
    untried: bool = False
    #: seconds until trying again makes sense, where somebody said
    retry_after: float | None = None
    #: every attempt of the call that failed
    attempts: tuple[AttemptRecord, ...] = ()


# --- models -------------------------------------------------------------------------------------------


class ProviderError(ClawftError):
    """A model gave no answer that can be trusted.

    Args:
      message: what happened, for people.
      provider: name of the provider.
      model: name of the model as that provider knows it.
      status: HTTP status, where there was one.
      code: the provider's own typed error code (`insufficient_quota`, `overloaded_error`).
      request_id: the provider's id of the request, for its support.
      body: what the provider sent, cut to `MAX_BODY` characters; secrets are already gone.
      retryable: overrides the class's word, when the provider says otherwise (`x-should-retry`).
      retry_after: seconds until the provider wants to be asked again.
      partial: what had been received.
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
        said = self.message or type(self).__name__
        who = f"{self.target}: " if self.target else ""
        marks = ", ".join(str(mark) for mark in (self.status, self.code) if mark)
        return f"{who}{said} ({marks})" if marks else f"{who}{said}"


class RateLimited(ProviderError):
    """Too many requests. `retry_after` is what the provider said, if it did."""

    retryable = True
    blames_target = True


class QuotaExhausted(ProviderError):
    """The account has no money or no allowance left: waiting does not help, another account may."""

    blames_target = True


class ServerError(ProviderError):
    """The provider failed: 5xx, overloaded, or an error event of its own."""

    retryable = True
    blames_target = True


class AuthFailed(ProviderError):
    """The key is missing there, wrong, revoked, or not allowed to do this."""

    blames_target = True


class ModelNotFound(ProviderError):
    """The provider has no such model, or there is nothing at this address."""

    blames_target = True


class RequestRejected(ProviderError):
    """The provider finds the request wrong."""


class ContextLengthExceeded(RequestRejected):
    """The request is too long for the model's window. Another model's may be larger.

    `window` is the window in tokens and `prompt_tokens` the length of the request, where the provider names them in
    typed fields; both count by the provider's own tokenizer.
    """

    window: int | None = None
    prompt_tokens: int | None = None


class ContentFiltered(RequestRejected):
    """Refused for what it says. By default nobody else is asked, because that would be evasion."""

    curable_elsewhere = False


class TransportFailed(ProviderError):
    """The connection could not be made, or broke."""

    retryable = True
    blames_target = True


class ProviderTimeout(ProviderError):
    """A clock ran out.

    `clock` says which: `connect`, `write`, `first_byte`, `first_content`, `gap`, `total`, `queue`.
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
    return f"{words} in time" if limit is None else f"{words} within {limit:g} s"


class InvalidResponse(ProviderError):
    """What came back is not the protocol: HTML, broken JSON, no choices."""

    retryable = True
    blames_target = True


class EventTooLarge(InvalidResponse):
    """One event of the stream is larger than was allowed. It would be so again."""

    retryable = False

    def __init__(self, *, limit: int, provider: str = "", model: str = "") -> None:
        super().__init__(
            f"an event of the stream is larger than max_event={limit} bytes", provider=provider, model=model
        )
        #: bytes that one event may have
        self.limit = limit


class AnswerTooLarge(InvalidResponse):
    """The answer is larger than was allowed: text, reasoning, tool arguments and kept blocks together."""

    retryable = False

    def __init__(self, *, limit: int, provider: str = "", model: str = "", partial: ChatResponse | None = None) -> None:
        super().__init__(
            f"the answer is larger than max_answer={limit} characters", provider=provider, model=model, partial=partial
        )
        #: characters that an answer may have
        self.limit = limit


class EmptyAnswer(ProviderError):
    """The answer ended as a success and holds no text, no tool call and no refusal; at most reasoning.

    Asking once more may help, as may another target. `ChatRequest.allow_empty` accepts such answers.
    """

    retryable = True
    max_retries = 1


class WrongAddress(ProviderError):
    """The server answers, but has no such API at this URL. The message names the method and the URL."""

    blames_target = True


class StreamTruncated(ProviderError):
    """The stream ended without the terminal mark of its protocol. `partial` holds what had come."""

    retryable = True
    blames_target = True


class CircuitOpen(ProviderError):
    """Not tried: this target has been failing, or asked to be left alone. `retry_after`: seconds until its next probe.

    `retryable` when the target itself stated the time (`Retry-After`): it is worth waiting for.
    """

    untried = True

    def __str__(self) -> str:
        when = "" if self.retry_after is None else f"; its next probe is in {self.retry_after:.3g} s"
        return f"{self.target or 'the target'}: {self.message or 'not asked, for its circuit is open'}{when}"


class BulkheadFull(ProviderError):
    """Not tried: as many calls as may wait for this target are already waiting, or this one waited too long."""

    untried = True


class NotConfigured(ProviderError):
    """Something is missing on this side: a key, a base URL. The message names what to set."""


class MissingKey(NotConfigured):
    """The key of a provider is not set. The message names the variable to set."""


class AllProvidersExhausted(ProviderError):
    """No target could answer. Raised from an ExceptionGroup of every target's error; the message has each one's own.

    `retry_after` is the time until the first of them is worth asking again, where one stated it; `retryable`, whether
    one of them may succeed when asked again.
    """

    curable_elsewhere = False

    def __str__(self) -> str:
        return f"no target could answer: {self.message}" if self.message else "no target could answer"


# --- admission -----------------------------------------------------------------------------------------


class Refused(ClawftError):
    """Not done, because it may not be."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PermissionDenied(Refused):
    """The sender may not do this."""


class ToolDenied(PermissionDenied):
    """The sender may not use a tool of this name, and is not told whether there is one."""


class AddressRefused(Refused):
    """The address policy does not let this be reached. `address` is empty when the name alone was enough."""

    def __init__(self, message: str, *, host: str, address: str = "") -> None:
        super().__init__(message)
        self.host = host
        self.address = address


class ClientLacksCapability(Refused):
    """A tool asked its MCP client for what the client did not declare; `capabilities` holds what is missing."""

    def __init__(self, message: str, *, capabilities: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.capabilities: Mapping[str, Any] = capabilities


class RateLimitExceeded(Refused):
    """The sender, or everybody together, asks too often. `retry_after` says when to come back."""


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


# --- tools ---------------------------------------------------------------------------------------------


class ToolError(ClawftError):
    """A tool call has no result. The text is short and written for a model to act on."""

    def __init__(self, message: str, *, tool: str = "") -> None:
        super().__init__(message)
        self.tool = tool


class UnknownTool(ToolError):
    """There is no such tool, or the sender is not allowed to know."""


class InvalidArguments(ToolError):
    """The arguments do not fit the tool's schema. `problems` has a line for each, with its place."""

    def __init__(self, problems: Sequence[Problem], *, tool: str = "") -> None:
        super().__init__("; ".join(map(str, problems)), tool=tool)
        self.problems: tuple[Problem, ...] = tuple(problems)


class ToolFailed(ToolError):
    """The tool raised."""


class ToolTimeout(ToolError):
    """The tool did not finish in its time."""


class OutcomeUnknown(ToolError):
    """The call was started before a crash and is not declared idempotent: nobody can know whether it acted."""


# --- turns ---------------------------------------------------------------------------------------------


class TurnError(ClawftError):
    """A message has no answer, and no model or tool is to blame."""


class TurnTimeout(TurnError):
    """A message was not answered in its time."""


class TurnCancelled(TurnError):
    """A turn was stopped, or never begun. `reason` says who and why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TurnInterrupted(TurnError):
    """The process ended in the middle of a turn more often than is worth trying again."""


# --- bus -----------------------------------------------------------------------------------------------


class BusError(ClawftError):
    """A message did not go through the bus."""


class BusClosed(BusError):
    """Nothing more goes in, or nothing more will come out."""


class BusFull(BusError):
    """Refused: the queue is full and its policy is to say so."""


class SelfDeadlock(BusError):
    """A consumer published to the full bus that only it could have emptied."""


# --- store ---------------------------------------------------------------------------------------------


class StoreError(ClawftError):
    """The file on disk cannot be used. `path` says which file."""

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class StoreCorrupt(StoreError):
    """The file is damaged or belongs to another application. Nothing was changed in it."""


class StoreTooNew(StoreError):
    """A later version of this package has written the file. Nothing was changed in it."""


class StoreBusy(StoreError):
    """Other processes kept the database locked for too long, or its server is away."""

    retryable = True


class StoreReadOnly(StoreError):
    """The store cannot be written: its file or its server is read-only. Nothing was changed in it."""


class LeaseLost(StoreError):
    """Another worker has taken the session over. Nothing of the turn was written; it has no reply from here."""


class StoreClosed(StoreError):
    """The store was closed by this process."""


# --- MCP -----------------------------------------------------------------------------------------------


class McpError(ClawftError):
    """Something went wrong with an MCP server. `server` is its name in the config."""

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
      headers: of the response, those that say what to do: `www-authenticate`, `retry-after`.
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
        #: the last words of the process, cut to `MAX_BODY` characters
        self.stderr: str = stderr[-MAX_BODY:]


class SessionLost(PeerGone):
    """Over HTTP: the server does not know the session any more. A supervised client makes a new one."""


class AuthorizationFailed(McpError):
    """A server wants a login and there is none: refused, not possible, or what came back was not to be trusted.

    `code` is the OAuth error code (`access_denied`, `invalid_grant`), where there was one. The message holds no secret.
    """

    def __init__(self, message: str, *, code: str = "", server: str = "") -> None:
        super().__init__(message, server=server)
        self.code = code


class CannotStart(McpError):
    """The server's process could not be started: no such command, or not allowed. The message names it."""


class ServerDown(McpError):
    """Not tried: the server died too often in too short a time. `retry_after` is the time until its next probe."""

    def __init__(self, message: str, *, retry_after: float | None = None, server: str = "") -> None:
        super().__init__(message, server=server)
        self.retry_after = retry_after


class RequestTimeout(McpError):
    """The server did not answer in time. It was told that nobody waits any more."""

    retryable = True
    blames_target = True


class ProtocolViolation(McpError):
    """The server's answer is addressed to this call and is not the protocol."""

    blames_target = True


# --- data from outside -----------------------------------------------------------------------------------


@attrs.frozen
class Problem:
    """What is wrong, and where: `$.retry.max_retries: expected int ≥ 0, got "three"`."""

    #: a JSON path from `$`
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class InvalidData(ClawftError):
    """Input from outside does not fit. `problems` lists everything that is wrong with it."""

    def __init__(self, problems: Sequence[Problem], *, source: str = "") -> None:
        where = f"{source}: " if source else ""
        super().__init__(where + "; ".join(map(str, problems)))
        self.problems: tuple[Problem, ...] = tuple(problems)
        #: the file, server or argument that it came from
        self.source = source


class ConfigError(InvalidData):
    """The configuration does not fit."""


class InvalidAnswer(ClawftError):
    """A typed answer did not validate, and the model could not mend it. `partial` is its last attempt."""

    def __init__(self, problems: Sequence[Problem], *, partial: str = "") -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems: tuple[Problem, ...] = tuple(problems)
        self.partial = partial


class StreamEnded(ClawftError):
    """The response of a stream was asked for, and there is none: the loop has not ended."""


class Unsupported(ClawftError):
    """This platform cannot do it."""


# --- control flow -------------------------------------------------------------------------------------


class ConsumerLeft(BaseException):
    """The consumer of a call's events is gone: it raised, or it said that it had heard enough.

    Not an error of the call, so not an Exception: nothing that handles a provider's failure can take it for one.
    Raised out of `Call.emit`, unwrapped where the consumer was handed in (`llm.stream`).
    """

    def __init__(self, original: BaseException | None = None) -> None:
        super().__init__(original)
        #: what the consumer raised; None when it returned False
        self.original = original
