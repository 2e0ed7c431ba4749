"""The vocabulary of a model call: what is asked, what comes back, and what is seen on the way.

Everything here is a frozen value. `Provider` is the one thing that everything which answers implements.
"""

from __future__ import annotations

import operator
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, Protocol, TypeAlias

import attrs

from clawft_trio.asked_targets import AskedTargets
from clawft_trio.attempts import AttemptLog, AttemptRecord, Latency, Usage
from clawft_trio.auth import AuthContext
from clawft_trio.field_docs import document_fields
from clawft_trio.retry_hints import RateLimit

JsonObject: TypeAlias = Mapping[str, Any]
"""A JSON object, decoded. Receivers do not change it."""

Role = Literal["system", "user", "assistant", "tool"]


# --- messages ---------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Citation:
    """A source that a provider gives for a piece of text."""

    #: the wire dialect of `raw` (`anthropic`, `openai`, `responses`); only that dialect gets it back
    dialect: str
    url: str = ""
    title: str = ""
    #: the passage of the source that supports the text
    quote: str = ""
    #: the whole object as the provider sent it, positions and document ids included
    raw: JsonObject = attrs.field(factory=dict, repr=False)


@attrs.frozen
class Text:
    """Plain text, with the sources that the provider gave for it."""

    text: str
    citations: tuple[Citation, ...] = attrs.field(default=(), kw_only=True)


@attrs.frozen(kw_only=True)
class Image:
    """An image, by address or by content."""

    #: an `https:` address, or empty when `data` is given
    url: str = ""
    data: bytes = attrs.field(default=b"", repr=False)
    media_type: str = "image/png"


@attrs.frozen(kw_only=True)
class File:
    """A document or a recording, by address or by content: PDF, audio."""

    #: an `https:` address, or empty when `data` is given
    url: str = ""
    data: bytes = attrs.field(default=b"", repr=False)
    media_type: str = "application/pdf"
    #: the name of the file, shown to the model
    name: str = ""


@attrs.frozen
class Opaque:
    """A block that only its own provider understands: kept, never read, sent back unchanged.

    Reasoning with a signature is the usual case: a provider refuses the next turn when it is missing beside
    the tool calls it led to.
    """

    #: the wire dialect that made it (`anthropic`, `openai`); other dialects leave it out
    dialect: str
    block: JsonObject = attrs.field(repr=False)


Part: TypeAlias = Text | Image | File | Opaque


def _parts(content: str | Text | Image | File | Opaque | tuple[Part, ...] | list[Part]) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Text(content),) if content else ()
    if isinstance(content, Text | Image | File | Opaque):
        return (content,)
    return tuple(content)


@attrs.frozen(kw_only=True)
class ToolCall:
    """A tool that the model wants called."""

    id: str
    name: str
    #: JSON text exactly as the model wrote it; the executor of the call parses it, strictly
    arguments: str = "{}"


@attrs.frozen
class Message:
    """One message of a conversation."""

    role: Role
    content: tuple[Part, ...] = attrs.field(default=(), converter=_parts)
    tool_calls: tuple[ToolCall, ...] = attrs.field(default=(), kw_only=True)
    #: for role `tool`: the call this answers
    tool_call_id: str | None = attrs.field(default=None, kw_only=True)
    #: for role `assistant`: the `provider/model` that wrote it: its reasoning goes back to no other. Empty: not known
    origin: str = attrs.field(default="", kw_only=True, eq=False)
    #: for role `assistant`: the model refused. The turn stays in the session and is left out of later requests
    refused: bool = attrs.field(default=False, kw_only=True, eq=False)
    # Its estimated tokens, once they were counted (`pipeline.tokens`): a long history is counted in every round.
    _tokens: int | None = attrs.field(default=None, init=False, eq=False, repr=False)

    @property
    def text(self) -> str:
        """All its plain text."""
        return "".join(part.text for part in self.content if isinstance(part, Text))

    @classmethod
    def system(cls, text: str) -> Message:
        """A message of the operator."""
        return cls("system", text)

    @classmethod
    def user(cls, *content: str | Part) -> Message:
        """A message of the user."""
        return cls("user", tuple(part for some in content for part in _parts(some)))

    @classmethod
    def assistant(cls, text: str = "", *, tool_calls: tuple[ToolCall, ...] = ()) -> Message:
        """A message of the model."""
        return cls("assistant", _parts(text), tool_calls=tool_calls)

    @classmethod
    def tool(cls, text: str, *, tool_call_id: str) -> Message:
        """What a tool answered."""
        return cls("tool", _parts(text), tool_call_id=tool_call_id)


# --- request and response -----------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class ToolSpec:
    """A tool as it is offered to a model."""

    name: str
    description: str = ""
    #: JSON Schema of the arguments, an object schema
    parameters: JsonObject = attrs.field(factory=lambda: {"type": "object", "properties": {}})
    # Its estimated tokens, once they were counted (`pipeline.tokens`).
    _tokens: int | None = attrs.field(default=None, init=False, eq=False, repr=False)


def _messages(messages: Iterable[Message]) -> tuple[Message, ...]:
    given: object = messages
    if isinstance(given, str):
        raise TypeError(f"messages are a list: ChatRequest([Message.user({given[:40]!r})])")
    kept: tuple[Any, ...] = tuple(messages)
    for message in kept:
        if not isinstance(message, Message):
            raise TypeError(f"messages are `Message`s, as `Message.user(text)` makes: {message!r:.200}")
    return kept


def _tools(tools: Iterable[ToolSpec]) -> tuple[ToolSpec, ...]:
    return tuple(tools)


def _stops(stops: Iterable[str]) -> tuple[str, ...]:
    return tuple(stops)


@attrs.frozen(kw_only=True)
class PromptCache:
    """How a provider is asked to cache the beginning of a request."""

    #: the same for all requests that begin alike (OpenAI's `prompt_cache_key`, at most 64 characters); empty: none
    key: str = ""
    #: how long an entry lives after its last use, where the provider lets the caller choose (Anthropic)
    lifetime: Literal["5m", "1h"] = "5m"


@attrs.frozen
class ChatRequest:
    """A request to a model: the conversation, the tools and the options."""

    #: the conversation, system messages first
    messages: tuple[Message, ...] = attrs.field(converter=_messages)
    #: model name as the provider knows it; a target of a chain puts in its own
    model: str = attrs.field(default="", kw_only=True)
    #: what the model may call
    tools: tuple[ToolSpec, ...] = attrs.field(default=(), converter=_tools, kw_only=True)
    #: `auto`, `none`, `required` or the name of a tool
    tool_choice: str = attrs.field(default="auto", kw_only=True)
    #: limit on output tokens; None leaves it to the provider
    max_tokens: int | None = attrs.field(
        default=None, kw_only=True, validator=attrs.validators.optional(attrs.validators.ge(1))
    )
    #: None leaves it to the provider
    temperature: float | None = attrs.field(default=None, kw_only=True)
    #: texts at which the answer ends
    stop: tuple[str, ...] = attrs.field(default=(), converter=_stops, kw_only=True)
    #: how much the model is to reason: `none`, `minimal`, `low`, `medium`, `high`, `xhigh`; None leaves it to the model
    reasoning_effort: str | None = attrs.field(default=None, kw_only=True)
    #: limit on tokens of reasoning, for models that take one; None leaves it to the model
    thinking_budget: int | None = attrs.field(
        default=None, kw_only=True, validator=attrs.validators.optional(attrs.validators.ge(0))
    )
    #: how long the answer is to be: `low`, `medium`, `high`
    verbosity: str | None = attrs.field(default=None, kw_only=True)
    #: for answers that can be repeated, as far as the provider promises it
    seed: int | None = attrs.field(default=None, kw_only=True)
    #: JSON Schema that the answer's text must satisfy, where the provider can promise it
    response_schema: JsonObject | None = attrs.field(default=None, kw_only=True)
    #: ask the wire for a stream; either way `Call.emit` reports what is seen
    stream: bool = attrs.field(default=True, kw_only=True)
    #: accept an answer without text, call or refusal; otherwise it is the error `EmptyAnswer`
    allow_empty: bool = attrs.field(default=False, kw_only=True)
    #: marks for the provider's prompt cache; None writes none
    cache: PromptCache | None = attrs.field(default=None, kw_only=True)
    #: put into the request body as it is, over everything else
    extra: JsonObject = attrs.field(factory=dict, repr=False, kw_only=True)
    #: the sender's identity and permissions; None outside an agent
    auth: AuthContext | None = attrs.field(default=None, kw_only=True)

    @property
    def sender_id(self) -> str | None:
        """Whom the answer is charged to, namespaced by channel; None outside an agent."""
        return None if self.auth is None else self.auth.identity


FinishReason: TypeAlias = str
"""`stop`, `length`, `tool_calls`, `content_filter` (filtered or refused), `pause_turn` (the provider waits to be
asked to go on), `aborted` (the consumer stopped it) or `incomplete` (of a partial answer)."""

CALLS_MAY_RUN = frozenset({"stop", "tool_calls"})
"""The finish reasons after which tool calls are whole and meant. After any other, no call may be executed."""

_REASONING_BLOCKS = frozenset({"thinking", "redacted_thinking", "reasoning"})


@attrs.frozen(kw_only=True)
class ChatResponse:
    """A whole answer, from one attempt at one model."""

    #: the parts of the answer; `text` is all plain text
    content: tuple[Part, ...] = attrs.field(default=(), converter=_parts)
    #: what the model wants called
    tool_calls: tuple[ToolCall, ...] = ()
    #: `stop`, `length`, `tool_calls`, `content_filter`, `aborted`
    finish_reason: FinishReason = "stop"
    #: who answered
    provider: str = ""
    #: the model that answered, as the provider names it
    model: str = ""
    #: the provider's id of the answer
    id: str = ""
    #: None when the provider reported none
    usage: Usage | None = None
    #: the reasoning text, where the model shows it
    reasoning: str = ""
    #: times of the deciding attempt
    latency: Latency = attrs.field(factory=Latency)
    #: every attempt that the logical call took, this one included
    attempts: tuple[AttemptRecord, ...] = ()
    #: in US dollars; None when it was not metered or has no known price
    cost: Decimal | None = None
    #: the text in which the model refused, where the dialect marks it; it is part of `text`, too
    refusal: str = ""
    #: the provider's own finish reason, for example `end_turn` or `MAX_TOKENS`
    raw_finish_reason: str = ""
    #: the service tier that the provider billed (`default`, `flex`, `priority`); empty when it names none
    service_tier: str = ""
    #: what the provider sent and no other field holds, as it came: `usage`, `system_fingerprint`, `container`, …
    provider_details: JsonObject = attrs.field(factory=dict, repr=False)
    #: the `provider/model` that was asked; `model` is what the provider calls it
    origin: str = ""

    @property
    def text(self) -> str:
        """All its plain text."""
        return "".join(part.text for part in self.content if isinstance(part, Text))

    @property
    def citations(self) -> tuple[Citation, ...]:
        """The sources of all its text, in order."""
        return tuple(citation for part in self.content if isinstance(part, Text) for citation in part.citations)

    @property
    def is_empty(self) -> bool:
        """Whether an answer that ended as a success holds nothing but, at most, reasoning."""
        if self.finish_reason not in CALLS_MAY_RUN or self.tool_calls or self.refusal or self.text.strip():
            return False
        return not any(isinstance(part, Image) or _is_substance(part) for part in self.content)

    @property
    def message(self) -> Message:
        """The answer as the next turn's history needs it."""
        return Message(
            "assistant",
            self.content,
            tool_calls=self.tool_calls,
            origin=self.origin,
            refused=self.finish_reason == "content_filter",
        )


def with_attempts(response: ChatResponse, attempts: tuple[AttemptRecord, ...]) -> ChatResponse:
    """*response* with *attempts*; itself where it has these already, as with a call of one attempt."""
    same = len(response.attempts) == len(attempts) and all(map(operator.is_, response.attempts, attempts))
    return response if same else attrs.evolve(response, attempts=attempts)


def _is_substance(part: Part) -> bool:
    """Whether *part* is a block of an answer that is more than reasoning, such as a generated image."""
    if not isinstance(part, Opaque) or ":" in part.dialect:
        return False
    kind = part.block.get("type")
    return kind not in _REASONING_BLOCKS and kind != "message"


# --- what is seen on the way -------------------------------------------------------------------------


@attrs.frozen
class TextDelta:
    """The next piece of the answer's text."""

    text: str


@attrs.frozen
class ReasoningDelta:
    """More of what the model thinks aloud."""

    text: str


@attrs.frozen
class ToolCallDelta:
    """A fragment of a tool call: to show, never to execute."""

    #: which call of this answer, from 0, whatever the wire called it
    index: int
    id: str = ""
    #: the name as far as it is known; a later one that is not empty replaces it
    name: str = ""
    #: the next piece of the arguments' JSON text
    arguments: str = ""


@attrs.frozen
class ToolCallSealed:
    """A tool call with complete arguments, a JSON object, while the rest of the answer is still to come.

    The answer may yet fail, be cut or be filtered. `ToolCallReady` follows when it ends well.
    """

    call: ToolCall


@attrs.frozen
class ToolCallReady:
    """A tool call of an answer that has ended well; its arguments are a JSON object."""

    call: ToolCall


@attrs.frozen
class UsageReport:
    """Tokens so far; a later report replaces an earlier one."""

    usage: Usage


@attrs.frozen
class Discarded:
    """What a consumer was shown and has to forget."""

    text: str = ""
    reasoning: str = attrs.field(default="", kw_only=True)
    tool_calls: tuple[ToolCall, ...] = attrs.field(default=(), kw_only=True)


@attrs.frozen
class Reset:
    """Remove everything shown since the last reset: another attempt starts from the beginning."""

    discarded: Discarded
    #: why its attempt was given up
    cause: BaseException


StreamEvent: TypeAlias = (
    TextDelta | ReasoningDelta | ToolCallDelta | ToolCallSealed | ToolCallReady | UsageReport | Reset
)

CONTENT = (TextDelta, ReasoningDelta, ToolCallDelta, ToolCallSealed, ToolCallReady)
"""The events that commit: once one was shown, the attempt has to be retracted before another may speak."""


def is_content(event: StreamEvent) -> bool:
    """Whether *event* shows content: text, reasoning or a tool call. A delta without text shows only life."""
    if isinstance(event, TextDelta | ReasoningDelta):
        return bool(event.text)
    return isinstance(event, ToolCallDelta | ToolCallSealed | ToolCallReady)


Emit: TypeAlias = Callable[[StreamEvent], Awaitable[None]]


class GrowingText:
    """Text that comes in thousands of pieces.

    It takes a byte per character of ASCII, where a `StringIO` takes four, and large pieces are kept without a copy.
    """

    __slots__ = ("_size", "_small", "_whole")

    def __init__(self) -> None:
        self._size = 0
        self._whole: list[str] = []
        #: pieces that are joined when there are `_MOST_SMALL`, since an object takes 50 bytes
        self._small: list[str] = []

    def write(self, piece: str) -> None:
        """Append *piece*."""
        self._size += len(piece)
        small = self._small
        small.append(piece)
        if len(small) >= _MOST_SMALL or len(piece) >= _LARGE:
            self._join()

    def tell(self) -> int:
        """The number of characters."""
        return self._size

    def getvalue(self) -> str:
        """All of it, joined once."""
        if self._small:
            self._join()
        if len(self._whole) > 1:
            self._whole = ["".join(self._whole)]
        return self._whole[0] if self._whole else ""

    def _join(self) -> None:
        small, self._small = self._small, []
        self._whole.append(small[0] if len(small) == 1 else "".join(small))


_MOST_SMALL = 256
_LARGE = 1024


async def ignore(event: StreamEvent) -> None:
    """Discard the event. Never blocks and, on purpose, never checkpoints.

    Cancellation: there is nothing to cancel.
    """


def unobserved(event: object) -> None:
    """Discard *event*."""


LifeSign = Literal["waiting", "admitted", "alive", "thinking"]
"""What an attempt reports between events, for clocks: `waiting` on this side, for a slot or a connection; `admitted`
when that wait is over; `alive` when the target sent something that shows it at work; `thinking` when it began, or goes
on, to do what may take long without output."""


def unwatched(sign: LifeSign, quiet_for: float) -> None:
    """Ignore the signs of an attempt: no clock runs."""


@attrs.frozen
class Invocation:
    """The call of a plain function under a policy."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


def new_id() -> str:
    """A fresh id for a call, a turn or a message."""
    return uuid.uuid4().hex


# With a `__dict__`, which `replaced` copies at once.
@attrs.frozen(kw_only=True, slots=False)
class Call:
    """What travels down with one logical call.

    A layer that must see what passes hands down `call.showing(its_own)`.
    """

    #: shows one event to the consumer; does not checkpoint, and waits only while the consumer does. It raises
    #: `ConsumerLeft` and nothing else: `llm.complete` and `open_stream` see to it, and who makes one has to
    emit: Emit = ignore
    #: gets the record of each attempt as it ends
    log: AttemptLog = attrs.field(factory=AttemptLog)
    id: str = ""
    turn_id: str = ""
    #: gets the frozen records of `observe.events`; sync, cheap, and never raises
    observer: Callable[[Any], None] = unobserved
    #: another target stands by: no point in waiting long for this one
    elsewhere: bool = False
    #: seconds after which the other target is asked beside a silent one; None: never, or not known
    elsewhere_after: float | None = None
    #: what the logical call has asked, for its retry budgets; the outermost strategy that may ask again makes it
    asked: AskedTargets | None = None
    #: the target for which this request is entered in the retry budget already
    budgeted: str = ""
    #: an answer comes whole, at its end: silence until then means nothing
    unary: bool = False
    #: gets the signs of the running attempt, each with the seconds for which the target may be quiet from now on
    pulse: Callable[[LifeSign, float], None] = unwatched
    #: gets the rate limits that a target states with its answers
    limits: Callable[[Sequence[RateLimit]], None] = unobserved
    #: the function call that runs under a policy; for a provider, its `complete` with the request
    invocation: Invocation | None = None
    #: estimated input tokens of the request, where they were counted already
    input_tokens: int | None = None

    def replaced(self, **changes: Any) -> Call:
        """This call with *changes*, by field. As `attrs.evolve`, at a fifth of its cost."""
        call = object.__new__(Call)
        call.__dict__.update(self.__dict__, **changes)
        return call

    def showing(self, emit: Emit) -> Call:
        """This call with another `emit`."""
        return self.replaced(emit=emit)


class Provider(Protocol):
    """Anything that can answer a `ChatRequest`: a model, or a wrapper around another provider."""

    @property
    def name(self) -> str:
        """What it is called in logs and errors: `openai`, or `provider/model` for a target."""
        ...

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Answer *request*, telling `call.emit` what is seen as it comes.

        The response is what the events since the last `Reset` add up to.

        Raises:
          ProviderError: there is no answer, or no evidence that it is whole.

        Cancellation: the connection is closed and nothing is left behind.
        """
        ...


document_fields(__name__)
