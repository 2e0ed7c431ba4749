"""The types of a turn: its request, its policy, its reply, and the protocols of what it needs."""

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
    # The checkers bring typing_extensions; `TypeVar` takes a default there on every Python.
    from typing_extensions import TypeVar

    A_co = TypeVar("A_co", covariant=True, default=object)
else:
    from typing import TypeVar

    A_co = TypeVar("A_co", covariant=True)

# Outside the field: there, the checkers take its type from the default, which is no None.
_POSITIVE: Any = optional(gt(0))


@attrs.frozen
class RoundStarted:
    """The model is asked again. What came before stands: a `Reset` reaches back to here and no further."""

    #: 1 is the first
    number: int


@attrs.frozen
class ToolsAnswered:
    """The tool calls of a round have their answers, in call order."""

    answers: tuple[ToolResult, ...]


AgentEvent: TypeAlias = StreamEvent | RoundStarted | ToolsAnswered
"""What is seen of a turn on its way."""


@attrs.frozen(kw_only=True)
class TurnPolicy:
    """The limits of a turn, and the options with which its models are asked."""

    #: rounds of tool calls; after them the model is asked once more, for an answer without tools
    max_tool_iterations: int = attrs.field(default=20, validator=ge(1))
    #: tools with calls that start while the model's answer is still streamed: `read_only` ones, all `idempotent` ones,
    #: or none (`off`). When the answer does not stand, such calls are cancelled and their results are not used
    eager: Literal["off", "read_only", "idempotent"] = attrs.field(
        default="read_only", validator=one_of("off", "read_only", "idempotent")
    )
    #: times that a typed answer which does not fit goes back to the model
    max_answer_corrections: int = attrs.field(default=2, validator=ge(0))
    #: messages of the session that the model is shown at most; the target's window mostly allows fewer. When they
    #: become more, the oldest turns are cut until half are left
    memory_window: int = attrs.field(default=500, validator=ge(0))
    #: when and how the session is made shorter for the target's window
    compaction: CompactionPolicy = CompactionPolicy()
    #: how long the provider is asked to keep the beginning of requests in its cache; `off` asks for nothing
    prompt_cache: Literal["off", "5m", "1h"] = attrs.field(default="5m", validator=one_of("off", "5m", "1h"))
    #: the system prompt, unless `open_agent(instructions=)` or `ask(instructions=)` gives one
    instructions: str = ""
    #: seconds for the whole turn; None leaves it to the caller
    total: float | None = attrs.field(default=600.0, validator=_POSITIVE)
    #: limit on the output tokens of each answer; None: the model's own
    max_tokens: int | None = attrs.field(default=None, validator=optional(ge(1)))
    #: None: the model's own
    temperature: float | None = attrs.field(default=None, validator=optional(ge(0)))
    #: `none`, `minimal`, `low`, `medium`, `high`, `xhigh`, `max`: the nearest one that the model takes is sent
    reasoning_effort: str | None = None
    #: tokens of reasoning, for models that take a limit; 0 switches it off
    thinking_budget: int | None = attrs.field(default=None, validator=optional(ge(0)))
    #: how long answers are: `low`, `medium`, `high`
    verbosity: str | None = None
    #: for models that take one
    seed: int | None = None
    #: put into each request body as it is, over everything else
    extra: JsonObject = attrs.field(factory=dict, repr=False)

    @property
    def options(self) -> ModelOptions:
        """How models are asked, unless a target or a question overrides it."""
        return ModelOptions(
            reasoning_effort=self.reasoning_effort,
            thinking_budget=self.thinking_budget,
            verbosity=self.verbosity,
            temperature=self.temperature,
            seed=self.seed,
            extra=self.extra,
        )


def _encodable(message: Message) -> Message:
    """*message* with U+FFFD for lone surrogates, which no provider and no store takes."""
    # What is no message is refused by the validator, which comes later.
    if _is_encodable(getattr(message, "text", "")):
        return message
    parts = [
        attrs.evolve(part, text=without_surrogates(part.text)) if isinstance(part, Text) else part
        for part in message.content
    ]
    return attrs.evolve(message, content=parts)


def _storable(session: str) -> str:
    # Its type is checked by the validator, which comes later.
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

    # Checked here, because what is asked is written down whatever becomes of it, and has to be readable again.
    content: Message = attrs.field(validator=of_type(Message), converter=_encodable)
    auth: AuthContext
    #: the conversation it belongs to
    session: str = attrs.field(validator=of_type(str), converter=_storable)
    turn_id: str = attrs.field(factory=new_id)
    #: `provider/model`, for senders with the permission to choose
    model: str = ""
    #: what the answer has to be; None: any text
    form: AnswerForm[Any] | None = None
    #: how models are asked in this turn, over the policy's and the target's
    options: ModelOptions = NO_OPTIONS
    #: the system prompt of this turn, instead of the agent's; empty: the agent's
    instructions: str = ""


Instructions: TypeAlias = str | Callable[[TurnRequest], Awaitable[str]]
"""The system prompt of an agent: text, or an async function that returns the text for a turn."""


@attrs.frozen(kw_only=True)
class Reply(Generic[A_co]):
    """The answer of a turn, and what it took. `Reply[F]` has an *answer* of type `F`."""

    #: the text of the final answer
    text: str
    #: `stop`, `length`, `content_filter`, `aborted`, …
    finish_reason: str
    #: the provider of the final answer
    provider: str
    #: the model that gave it
    model: str
    #: tokens of all rounds and of the turns below; None when no provider reported any
    usage: Usage | None
    #: US dollars for all rounds and for the turns below; None when a part of it has no price
    cost: Decimal | None
    #: of the whole turn
    latency: Latency
    #: every attempt of every round
    attempts: tuple[AttemptRecord, ...]
    #: every tool call of every round, in call order
    tools: tuple[ToolResult, ...]
    #: the model's answer in each round
    rounds: tuple[ChatResponse, ...]
    #: the conversation that it belongs to
    session: str
    #: the id of the turn, in events, journal and ledger
    turn_id: str
    #: why that provider and model
    decision: RoutingDecision | None = None
    #: the answer as a value, where a form was asked for
    answer: A_co = attrs.field(default=None)  # None without a form
    #: turns of sub-agents that it started, in the order in which they ended
    nested: tuple[NestedTurn, ...] = ()


class History(Protocol):
    """Where conversations are kept."""

    async def history(self, session: str, limit: int | None = None) -> tuple[Message, ...]:
        """The last *limit* messages of *session*, oldest first.

        Cancellation: nothing is changed.
        """
        ...

    async def append(self, session: str, messages: Sequence[Message], *, turn_id: str = "") -> None:
        """Add *messages* to *session*, all or none; what *turn_id* had added before is replaced.

        Cancellation: all or none.
        """
        ...


@runtime_checkable
class SessionStore(History, Protocol):
    """A history that can be cut for the models and keeps large results: `Sessions` and `MemorySessions`.

    With any other `History` sessions are cut anew in every turn, by the same rule, and never summarized.
    """

    async def tail(self, session: str, limit: int) -> SessionTail:
        """The messages of *session* since its cut, the last *limit* at most.

        Cancellation: nothing is changed.
        """
        ...

    async def compact(self, session: str, compaction: Compaction, *, version: int) -> bool:
        """Store *compaction*, unless another one than *version* is the newest; whether it was stored.

        Cancellation: it is stored, or not.
        """
        ...

    async def keep_result(self, session: str, reference: str, text: str) -> None:
        """Keep the whole of a tool result.

        Cancellation: it is kept, or not.
        """
        ...

    async def result(self, session: str, reference: str) -> str | None:
        """The whole of a tool result, if there is one.

        Cancellation: nothing is changed.
        """
        ...


class Models(Protocol):
    """Who routes and answers: a `Pipeline` or a `PipelineRegistry`."""

    async def route(self, request: ChatRequest, call: Call | None = None) -> RoutingDecision:
        """Decide which models may answer a turn.

        Cancellation: the turn stays counted.
        """
        ...

    def input_limit(self, request: ChatRequest, decision: RoutingDecision) -> int:
        """How many tokens of *request* may go to the target that is asked first."""
        ...

    async def complete(self, request: ChatRequest, call: Call, decision: RoutingDecision) -> ChatResponse:
        """Answer one round.

        Cancellation: what is running is cancelled and waited for.
        """
        ...


class TurnJournal(Protocol):
    """What has to survive a crash, and what did."""

    async def answers(self, turn_id: str) -> Sequence[ChatResponse]:
        """The answers of an earlier run, by round.

        Cancellation: nothing is changed.
        """
        ...

    async def answered(self, turn_id: str, number: int, response: ChatResponse) -> None:
        """Round *number* (from 1) has its answer.

        Cancellation: it is kept, or not.
        """
        ...

    def tools(self, turn_id: str, number: int) -> ToolJournal:
        """Where the tool calls of a round are kept."""
        ...

    async def tool_answers(self, turn_id: str, number: int, calls: Sequence[ToolCall]) -> dict[str, ToolResult]:
        """The answers to calls that were finished, or can never be known, by call id.

        Cancellation: nothing is changed.
        """
        ...
