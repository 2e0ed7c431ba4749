"""What the six stages of the pipeline say to each other, and the protocols that make each replaceable.

    classifier ─► router ─► assembler ─► transport ─► scorer ─► learner
    what is it?   who may    what fits    a Provider   was it    what was
                  answer?    there?                    good?     learnt?

The first two run once per turn and end in a `RoutingDecision`; the others run once per round, under that decision.
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

# --- what is asked -----------------------------------------------------------------------------------


@attrs.frozen
class TaskProfile:
    """What kind of task a request is."""

    task_type: TaskType = "unknown"
    #: from 0 (a greeting) to 1 (the hardest there is)
    complexity: float = attrs.field(default=0.0, validator=and_(ge(0.0), le(1.0)))
    #: the words that decided it, in the order in which they were found
    keywords: tuple[str, ...] = ()


# --- who may answer ----------------------------------------------------------------------------------


@attrs.frozen
class RoutingDecision:
    """The targets that may answer a turn, their order, and the account that pays. Made once per turn, good for all its
    rounds.
    """

    #: at least one, in the order in which they are to be tried; every one is permitted
    targets: tuple[Target, ...] = attrs.field(validator=min_len(1))
    #: the sender that the answer is charged to, as `channel:sender`; None outside an agent
    sender_id: str | None = attrs.field(default=None, kw_only=True)
    #: the rights that the decision was made with: every round has these and no others
    permissions: UserPermissions = attrs.field(default=ZERO_TRUST, kw_only=True)
    profile: TaskProfile = attrs.field(factory=TaskProfile, kw_only=True)
    #: for people
    reason: str = attrs.field(default="", kw_only=True)
    #: the tier of the first target; empty without tiers
    tier: str = attrs.field(default="", kw_only=True)
    #: a tier above the sender's own was chosen
    escalated: bool = attrs.field(default=False, kw_only=True)
    #: money ruled out what would have been chosen
    budget_constrained: bool = attrs.field(default=False, kw_only=True)
    #: upper estimate of one round at the first target, US dollars; None when it has no price
    cost_estimate: Decimal | None = attrs.field(default=None, kw_only=True)

    @property
    def provider(self) -> str:
        """The provider that is asked first."""
        return self.targets[0].provider

    @property
    def model(self) -> str:
        """The model that is asked first."""
        return self.targets[0].model


# --- what became of it -------------------------------------------------------------------------------


@attrs.frozen
class QualityScore:
    """How good an answer looks, each from 0 to 1."""

    overall: float
    relevance: float = attrs.field(default=1.0, kw_only=True)
    coherence: float = attrs.field(default=1.0, kw_only=True)


RoundEnding = Literal["ok", "failed", "cancelled", "aborted"]
"""As of an attempt: `aborted` is an answer that its consumer stopped, `cancelled` is no failure of a target."""


@attrs.frozen(kw_only=True)
class ResponseOutcome:
    """What became of one round: always there, always measured, whether or not there was an answer.

    The parts of `latency` belong to the attempt that answered, or else to the last that failed, and count from the
    start of the round.
    """

    ending: RoundEnding
    latency: Latency
    #: seconds in which the answer waited for its consumer; part of `latency.total`, not of the model's work
    consumer_time: float = 0.0
    #: the target that answered, `provider/model`; empty when none did
    answered_by: str = ""
    quality: QualityScore | None = None
    #: of the answer; without one, of the attempt that `latency` belongs to, as far as it reported
    usage: Usage | None = None
    #: US dollars; None when it was not metered or has no price
    cost: Decimal | None = None
    error: BaseException | None = attrs.field(default=None, eq=False)
    attempts: tuple[AttemptRecord, ...] = ()

    @property
    def success(self) -> bool:
        """Whether there is an answer, whole or as much of it as was wanted."""
        return self.ending in {"ok", "aborted"}

    @property
    def latency_ms(self) -> float:
        """The whole round in milliseconds."""
        return self.latency.total * 1000

    @property
    def tokens_per_second(self) -> float | None:
        """Output rate of the model: the consumer's own time is left out. None when it cannot be known."""
        if self.usage is None:
            return None
        own = attrs.evolve(self.latency, total=self.latency.total - self.consumer_time)
        return own.tokens_per_second(self.usage.output_tokens)


@attrs.frozen(kw_only=True)
class AssembledContext:
    """A request as one target is going to get it."""

    request: ChatRequest
    #: estimated input tokens, tools included
    token_estimate: int
    #: messages that were left out
    dropped: int = 0
    #: tool results that were shortened
    shortened: int = 0

    @property
    def truncated(self) -> bool:
        """Whether anything of the conversation is missing."""
        return bool(self.dropped or self.shortened)


class EstimateCost(Protocol):
    """What a call may cost at most."""

    def __call__(self, target: Target, input_tokens: int, output_tokens: int, /) -> Decimal | None:
        """US dollars; None when *target* has no known price."""
        ...


def estimate_by_tier(target: Target, input_tokens: int, output_tokens: int, /) -> Decimal | None:
    """The tier's price of a thousand tokens."""
    rate = target.cost_per_1k_tokens
    return None if rate is None else rate * (input_tokens + output_tokens) / 1000


# --- the stages --------------------------------------------------------------------------------------


class Classifier(Protocol):
    """Stage 1: what kind of task is it?"""

    def classify(self, request: ChatRequest) -> TaskProfile:
        """Judge *request*. Cheap, synchronous, and never raises."""
        ...


class Router(Protocol):
    """Stage 2: who may answer, in which order?"""

    async def route(self, request: ChatRequest, profile: TaskProfile, allowance: Allowance) -> RoutingDecision:
        """Choose the targets for a turn.

        Raises:
          Refused: no target may answer this sender.
          NotConfigured: what was asked for is not there.

        Cancellation: nothing is kept.
        """
        ...

    def update(self, decision: RoutingDecision, outcome: ResponseOutcome) -> None:
        """Learn from what became of a round. Called after every round, whatever became of it."""
        ...


class Assembler(Protocol):
    """Stage 3: what of the conversation does the routed model get?"""

    async def assemble(self, request: ChatRequest, target: Target, permissions: UserPermissions) -> AssembledContext:
        """Make *request* fit *target* and the sender's limits.

        Raises:
          ContextLengthExceeded: what must not be left out does not fit.

        Cancellation: nothing is kept.
        """
        ...


class ModelTransport(Protocol):
    """Stage 4: how is a target reached?"""

    def reach(self, target: Target) -> Provider:
        """The provider that answers for *target*: the same one every time.

        Raises:
          NotConfigured: there is no way to reach it.
        """
        ...


class Scorer(Protocol):
    """Stage 5: how good is the answer?"""

    def score(self, request: ChatRequest, response: ChatResponse) -> QualityScore:
        """Judge *response*. Cheap and synchronous."""
        ...


class Learner(Protocol):
    """Stage 6: what can be learnt from it?"""

    def record(self, request: ChatRequest, decision: RoutingDecision, outcome: ResponseOutcome, call: Call) -> None:
        """Remember a round, good or bad. Cheap, synchronous, and bounded in what it keeps."""
        ...

    def feedback(self, about: str, value: float) -> int:
        """Record feedback on a call or a whole turn, by its id, from -1 to 1.

        Returns:
          How many rounds of it are remembered; 0 when it is forgotten.
        """
        ...


# --- admission ---------------------------------------------------------------------------------------


class RateLimitable(Protocol):
    """A limit on the turns of a sender."""

    def admit(self, sender_id: str, limit: int) -> None:
        """Count one turn of *sender_id*; *limit* of 0 is unlimited, but for the limit of all senders.

        Raises:
          RateLimitExceeded: too many; nothing was counted.
        """
        ...


class CostTrackable(Protocol):
    """A record of what has been spent and reserved.

    Routing only asks. Money is reserved and settled around each attempt, by whatever `Targets` wraps around it.
    """

    async def allowance(self, sender_id: str, permissions: UserPermissions) -> Allowance:
        """What *sender_id* may still spend, after reservations: the tightest of its own and the global limits.

        Cancellation: nothing is kept.
        """
        ...
