"""The types of a turn: its request, its policy, its reply, and the protocols of the parts that it uses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeAlias, runtime_checkable

import attrs
from attrs.validators import ge, gt, optional

from clawft_trio.agent.answer_form import AnswerForm
from clawft_trio.agent.compaction import CompactionPolicy
from clawft_trio.agent.session_view import Compaction, SessionTail
from clawft_trio.attempts import AttemptRecord, Latency, Usage
from clawft_trio.auth import AuthContext
from clawft_trio.chat import Call, ChatRequest, ChatResponse, JsonObject, Message, StreamEvent, Text, ToolCall, new_id
from clawft_trio.checks import of_type, one_of
from clawft_trio.codec import without_surrogates
from clawft_trio.keys import storable_key
from clawft_trio.llm.model_options import NO_OPTIONS, ModelOptions
from clawft_trio.pipeline import RoutingDecision
from clawft_trio.tools import NestedTurn, ToolJournal, ToolResult

if TYPE_CHECKING:
    # Type checkers include typing_extensions, where `TypeVar` accepts a default on every Python version.
    from typing_extensions import TypeVar

    A_co = TypeVar("A_co", covariant=True, default=object)
else:
    from typing import TypeVar

    A_co = TypeVar("A_co", covariant=True)

# Not in the field itself, because type checkers would infer the validator's type from a default that is not None.
_POSITIVE: Any = optional(gt(0))


@attrs.frozen
class RoundStarted:
    """A new call of the model begins. A later `Reset` removes only content after this event."""

    #: number of the round, from 1
    number: int


@attrs.frozen
class ToolsAnswered:
    """The tool calls of a round have their results, in call order."""

    answers: tuple[ToolResult, ...]


AgentEvent: TypeAlias = StreamEvent | RoundStarted | ToolsAnswered
"""The events of a turn."""


@attrs.frozen(kw_only=True)
class TurnPolicy:
    """The limits of a turn, and the options of its requests to models."""

    #: largest number of rounds of tool calls; after them the model is called once more, for an answer without tools
    max_tool_iterations: int = attrs.field(default=20, validator=ge(1))
    #: tools with calls that start before the model's answer is complete: `read_only` ones, all `idempotent` ones, or
    #: none (`off`). If the answer is not used, such calls are cancelled and their results discarded
    eager: Literal["off", "read_only", "idempotent"] = attrs.field(
        default="read_only", validator=one_of("off", "read_only", "idempotent")
    )
    #: number of times that the model may correct a typed answer that does not fit
    max_answer_corrections: int = attrs.field(default=2, validator=ge(0))
    #: largest number of messages of the session that the model receives; the target's window mostly allows fewer. When
    #: there are more, the oldest turns are cut until half are left
    memory_window: int = attrs.field(default=500, validator=ge(0))
    #: when and how the session is shortened for the target's window
    compaction: CompactionPolicy = CompactionPolicy()
    #: requested lifetime of the provider's cache of the beginning of requests; `off` requests no caching
    prompt_cache: Literal["off", "5m", "1h"] = attrs.field(default="5m", validator=one_of("off", "5m", "1h"))
    #: the system prompt, unless `open_agent(instructions=)` or `ask(instructions=)` gives one
    instructions: str = ""
    #: seconds for the whole turn; None is no limit
    total: float | None = attrs.field(default=600.0, validator=_POSITIVE)
    #: limit on the output tokens of each answer; None: the model's limit
    max_tokens: int | None = attrs.field(default=None, validator=optional(ge(1)))
    #: sampling temperature; None: the model's default
    temperature: float | None = attrs.field(default=None, validator=optional(ge(0)))
    #: `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`: the nearest one that the model accepts is sent
    reasoning_effort: str | None = None
    #: limit on tokens of reasoning, for models that accept one; 0 switches reasoning off
    thinking_budget: int | None = attrs.field(default=None, validator=optional(ge(0)))
    #: length of answers: `low`, `medium`, `high`
    verbosity: str | None = None
    #: seed for sampling, for models that accept one
    seed: int | None = None
    #: copied into each request body as it is; overrides every other field
    extra: JsonObject = attrs.field(factory=dict, repr=False)

    @property
    def options(self) -> ModelOptions:
        """The options of requests, unless a target or a question overrides them."""
        return ModelOptions(
            reasoning_effort=self.reasoning_effort,
            thinking_budget=self.thinking_budget,
            verbosity=self.verbosity,
            temperature=self.temperature,
            seed=self.seed,
            extra=self.extra,
        )


def _encodable(message: Message) -> Message:
    """Replace lone surrogates, which no provider and no store accepts, by U+FFFD."""
    # The validator, which runs later, refuses values that are not messages.
    if _is_encodable(getattr(message, "text", "")):
        return message
    parts = [
        attrs.evolve(part, text=without_surrogates(part.text)) if isinstance(part, Text) else part
        for part in message.content
    ]
    return attrs.evolve(message, content=parts)


def _storable(session: str) -> str:
    # The validator, which runs later, checks the type.
    return storable_key(session) if type(session) is str else session


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@attrs.frozen(kw_only=True)
class TurnRequest:
    """The question of a turn, its sender and its session."""

    # Checked here, because the question is always stored, and has to be readable later.
    content: Message = attrs.field(validator=of_type(Message), converter=_encodable)
    auth: AuthContext
    #: the session of the turn
    session: str = attrs.field(validator=of_type(str), converter=_storable)
    turn_id: str = attrs.field(factory=new_id)
    #: `provider/model`, for senders with the permission to choose
    model: str = ""
    #: form of a typed answer; None: any text
    form: AnswerForm[Any] | None = None
    #: options of this turn's requests, which override the policy's and the target's
    options: ModelOptions = NO_OPTIONS
    #: the system prompt of this turn, instead of the agent's; empty: the agent's
    instructions: str = ""


Instructions: TypeAlias = str | Callable[[TurnRequest], Awaitable[str]]
"""The system prompt of an agent: text, or an async function that returns the text for a turn."""


@attrs.frozen(kw_only=True)
class Reply(Generic[A_co]):
    """The answer of a turn, with cost, times and tool results. `Reply[F]` has an *answer* of type `F`."""

    #: the text of the final answer
    text: str
    #: `stop`, `length`, `content_filter`, `aborted`, …
    finish_reason: str
    #: the provider of the final answer
    provider: str
    #: the model of the final answer
    model: str
    #: tokens of all rounds and of the turns of sub-agents; None when no provider reported any
    usage: Usage | None
    #: US dollars for all rounds and for the turns of sub-agents; None when a part has no price
    cost: Decimal | None
    #: times of the whole turn
    latency: Latency
    #: every attempt of every round
    attempts: tuple[AttemptRecord, ...]
    #: every tool call of every round, in call order
    tools: tuple[ToolResult, ...]
    #: the model's answer in each round
    rounds: tuple[ChatResponse, ...]
    #: the session of the turn
    session: str
    #: the id of the turn, in events, journal and ledger
    turn_id: str
    #: the routing decision, with its reason
    decision: RoutingDecision | None = None
    #: the value of a typed answer
    answer: A_co = attrs.field(default=None)  # None without a form
    #: turns of sub-agents, in the order in which they ended
    nested: tuple[NestedTurn, ...] = ()


class History(Protocol):
    """A store of conversations."""

    async def history(self, session: str, limit: int | None = None) -> tuple[Message, ...]:
        """Return the last *limit* messages of *session*, oldest first.

        Cancellation: nothing is changed.
        """
        ...

    async def append(self, session: str, messages: Sequence[Message], *, turn_id: str = "") -> None:
        """Add *messages* to *session*, all or none of them; earlier messages of *turn_id* are replaced.

        Cancellation: all are added or none.
        """
        ...


@runtime_checkable
class SessionStore(History, Protocol):
    """A history that also stores compactions and large results: `Sessions` and `MemorySessions`.

    With any other `History`, sessions are cut in every turn, by the same rule, and never summarized.
    """

    async def tail(self, session: str, limit: int) -> SessionTail:
        """Return the last messages of *session* since its cut, at most *limit*.

        Cancellation: nothing is changed.
        """
        ...

    async def compact(self, session: str, compaction: Compaction, *, version: int) -> bool:
        """Store *compaction*, unless another one than *version* is the newest; return whether it was stored.

        Cancellation: it is stored or not.
        """
        ...

    async def keep_result(self, session: str, reference: str, text: str) -> None:
        """Store a complete tool result.

        Cancellation: it is stored or not.
        """
        ...

    async def result(self, session: str, reference: str) -> str | None:
        """Return a complete tool result, or None.

        Cancellation: nothing is changed.
        """
        ...


class Models(Protocol):
    """Routes turns and answers rounds: a `Pipeline` or a `PipelineRegistry`."""

    async def route(self, request: ChatRequest, call: Call | None = None) -> RoutingDecision:
        """Choose the models that may answer a turn.

        Cancellation: the turn stays counted.
        """
        ...

    def input_limit(self, request: ChatRequest, decision: RoutingDecision) -> int:
        """Return the limit on *request*'s input tokens at the target that is tried first."""
        ...

    async def complete(self, request: ChatRequest, call: Call, decision: RoutingDecision) -> ChatResponse:
        """Answer one round.

        Cancellation: running attempts are cancelled and awaited.
        """
        ...


class TurnJournal(Protocol):
    """Records of a turn that survive a crash."""

    async def answers(self, turn_id: str) -> Sequence[ChatResponse]:
        """Return the answers of an earlier run, by round.

        Cancellation: nothing is changed.
        """
        ...

    async def answered(self, turn_id: str, number: int, response: ChatResponse) -> None:
        """Record the answer of round *number* (from 1).

        Cancellation: it is recorded or not.
        """
        ...

    def tools(self, turn_id: str, number: int) -> ToolJournal:
        """Return the journal for the tool calls of a round."""
        ...

    async def tool_answers(self, turn_id: str, number: int, calls: Sequence[ToolCall]) -> dict[str, ToolResult]:
        """Return the results of calls that ended, or that can never be known, by call id.

        Cancellation: nothing is changed.
        """
        ...
