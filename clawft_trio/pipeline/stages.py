"""Data types between the six stages of the pipeline, and a protocol for each stage.

    classifier ─► router ─► assembler ─► transport ─► scorer ─► learner
    task type      targets    request    a Provider   quality    record of
                              to send                            the round

The first two run once per turn and make a `RoutingDecision`; the others run once per round, with that decision.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, Protocol, get_args

import attrs
from attrs.validators import and_, ge, le, min_len

from clawft_trio.attempts import AttemptRecord, Latency, Usage
from clawft_trio.auth import ZERO_TRUST, UserPermissions
from clawft_trio.chat import Call, ChatRequest, ChatResponse, Provider
from clawft_trio.costs import Allowance
from clawft_trio.target import Target

TaskType = Literal["chat", "code_generation", "code_review", "research", "creative", "analysis", "tool_use", "unknown"]
TASK_TYPES: tuple[TaskType, ...] = get_args(TaskType)


@attrs.frozen
class TaskProfile:
    """The type and complexity of a request's task."""

    task_type: TaskType = "unknown"
    #: from 0 (a greeting) to 1 (the most complex)
    complexity: float = attrs.field(default=0.0, validator=and_(ge(0.0), le(1.0)))
    #: the words that decided the type, in the order in which they were found
    keywords: tuple[str, ...] = ()


@attrs.frozen
class RoutingDecision:
    """The targets that may answer a turn, in order, and the account that pays; made once per turn."""

    #: at least one, in the order in which they are tried; all are permitted
    targets: tuple[Target, ...] = attrs.field(validator=min_len(1))
    #: the sender that the answer is charged to, as `channel:sender`; None outside an agent
    sender_id: str | None = attrs.field(default=None, kw_only=True)
    #: the permissions that the decision was made with, which apply to every round
    permissions: UserPermissions = attrs.field(default=ZERO_TRUST, kw_only=True)
    profile: TaskProfile = attrs.field(factory=TaskProfile, kw_only=True)
    #: the reason for the choice, for people
    reason: str = attrs.field(default="", kw_only=True)
    #: the tier of the first target; empty without tiers
    tier: str = attrs.field(default="", kw_only=True)
    #: whether a tier above the sender's own was chosen
    escalated: bool = attrs.field(default=False, kw_only=True)
    #: whether the budget excluded the first choice
    budget_constrained: bool = attrs.field(default=False, kw_only=True)
    #: upper estimate of one round at the first target, US dollars; None when it has no price
    cost_estimate: Decimal | None = attrs.field(default=None, kw_only=True)

    @property
    def provider(self) -> str:
        """The provider that is tried first."""
        return self.targets[0].provider

    @property
    def model(self) -> str:
        """The model that is tried first."""
        return self.targets[0].model


@attrs.frozen
class QualityScore:
    """Quality scores of an answer, each from 0 to 1."""

    overall: float
    relevance: float = attrs.field(default=1.0, kw_only=True)
    coherence: float = attrs.field(default=1.0, kw_only=True)


RoundEnding = Literal["ok", "failed", "cancelled", "aborted"]
"""As for an attempt: `aborted` is an answer that its consumer stopped, `cancelled` is no failure of a target."""


@attrs.frozen(kw_only=True)
class ResponseOutcome:
    """The outcome and the times of one round, whether or not there was an answer.

    The times of `latency` are those of the attempt that answered, or else of the last that failed, and count from the
    start of the round.
    """

    ending: RoundEnding
    latency: Latency
    #: seconds in which the answer waited for its consumer; part of `latency.total`
    consumer_time: float = 0.0
    #: the target that answered, `provider/model`; empty when none did
    answered_by: str = ""
    quality: QualityScore | None = None
    #: usage of the answer; without an answer, of the attempt that `latency` describes, if it reported any
    usage: Usage | None = None
    #: US dollars; None when it was not metered or has no price
    cost: Decimal | None = None
    error: BaseException | None = attrs.field(default=None, eq=False)
    attempts: tuple[AttemptRecord, ...] = ()

    @property
    def success(self) -> bool:
        """Whether there is an answer, complete or stopped by its consumer."""
        return self.ending in {"ok", "aborted"}

    @property
    def latency_ms(self) -> float:
        """Duration of the round in milliseconds."""
        return self.latency.total * 1000

    @property
    def tokens_per_second(self) -> float | None:
        """Output rate of the model, without the consumer's time. None when it is not known."""
        if self.usage is None:
            return None
        own = attrs.evolve(self.latency, total=self.latency.total - self.consumer_time)
        return own.tokens_per_second(self.usage.output_tokens)


@attrs.frozen(kw_only=True)
class AssembledContext:
    """A request that is ready for one target."""

    request: ChatRequest
    #: estimated input tokens, tools included
    token_estimate: int
    #: number of messages left out
    dropped: int = 0
    #: number of tool results that were shortened
    shortened: int = 0

    @property
    def truncated(self) -> bool:
        """Whether a part of the conversation is missing."""
        return bool(self.dropped or self.shortened)


class EstimateCost(Protocol):
    """A function that estimates the highest cost of a call."""

    def __call__(self, target: Target, input_tokens: int, output_tokens: int, /) -> Decimal | None:
        """Return US dollars; None when *target* has no known price."""
        ...


def estimate_by_tier(target: Target, input_tokens: int, output_tokens: int, /) -> Decimal | None:
    """Estimate by the tier's price of 1 000 tokens."""
    rate = target.cost_per_1k_tokens
    return None if rate is None else rate * (input_tokens + output_tokens) / 1000


class Classifier(Protocol):
    """Stage 1: determines the type and complexity of the task."""

    def classify(self, request: ChatRequest) -> TaskProfile:
        """Classify *request*. Fast, synchronous, and never raises."""
        ...


class Router(Protocol):
    """Stage 2: chooses the targets and their order."""

    async def route(self, request: ChatRequest, profile: TaskProfile, allowance: Allowance) -> RoutingDecision:
        """Choose the targets for a turn.

        Raises:
          Refused: no target may answer this sender.
          NotConfigured: the request names an unknown provider.

        Cancellation: nothing is kept.
        """
        ...

    def update(self, decision: RoutingDecision, outcome: ResponseOutcome) -> None:
        """Record the outcome of a round. Called after every round, also after a failed one."""
        ...


class Assembler(Protocol):
    """Stage 3: selects the part of the conversation that is sent to a target."""

    async def assemble(self, request: ChatRequest, target: Target, permissions: UserPermissions) -> AssembledContext:
        """Fit *request* to *target* and to the sender's limits.

        Raises:
          ContextLengthExceeded: the part that must be kept does not fit.

        Cancellation: nothing is kept.
        """
        ...


class ModelTransport(Protocol):
    """Stage 4: finds the provider of a target."""

    def reach(self, target: Target) -> Provider:
        """Return the provider for *target*: the same object every time.

        Raises:
          NotConfigured: there is no provider for it.
        """
        ...


class Scorer(Protocol):
    """Stage 5: scores the answer."""

    def score(self, request: ChatRequest, response: ChatResponse) -> QualityScore:
        """Score *response*. Fast and synchronous."""
        ...


class Learner(Protocol):
    """Stage 6: stores rounds and feedback."""

    def record(self, request: ChatRequest, decision: RoutingDecision, outcome: ResponseOutcome, call: Call) -> None:
        """Store a round, good or bad. Fast, synchronous, and with bounded memory."""
        ...

    def feedback(self, about: str, value: float) -> int:
        """Record feedback on a call or a whole turn, by its id, from -1 to 1.

        Returns:
          The number of its rounds that are stored; 0 when none is.
        """
        ...


class RateLimitable(Protocol):
    """A limit on the turns of a sender."""

    def admit(self, sender_id: str, limit: int) -> None:
        """Count one turn of *sender_id*; a *limit* of 0 is unlimited, except for the limit of all senders.

        Raises:
          RateLimitExceeded: too many turns; nothing was counted.
        """
        ...


class CostTrackable(Protocol):
    """A source of the amounts spent and reserved.

    Routing only reads it. The wrapper of each target (see `Targets`) reserves and settles the cost of attempts.
    """

    async def allowance(self, sender_id: str, permissions: UserPermissions) -> Allowance:
        """Return what *sender_id* may still spend, after reservations: the tightest of its own and the global limits.

        Cancellation: nothing is kept.
        """
        ...
