"""Any object with the right methods is a stage. Read by the type checkers, never run."""

from __future__ import annotations

from decimal import Decimal
from functools import partial

from clawft_trio.auth import UserPermissions
from clawft_trio.chat import Call, ChatRequest, ChatResponse, Provider
from clawft_trio.costs import CostTracker, Metered
from clawft_trio.pipeline import (
    Allowance,
    AssembledContext,
    Assembler,
    Chain,
    Classifier,
    CostTrackable,
    EstimateCost,
    FitnessScorer,
    KeywordClassifier,
    Learner,
    ModelTransport,
    NoLearner,
    NoScorer,
    OneProvider,
    Pipeline,
    QualityScore,
    RateLimitable,
    RateLimiter,
    ResponseOutcome,
    Router,
    RoutingDecision,
    Scorer,
    Selection,
    StaticRouter,
    Target,
    Targets,
    TaskProfile,
    TieredRouter,
    TokenBudgetAssembler,
    TrajectoryLearner,
    TurnAdmission,
    estimate_by_tier,
)
from clawft_trio.pipeline.tokens import request_tokens
from clawft_trio.resilience import Failover


class Mine:
    """Every stage at once."""

    def classify(self, request: ChatRequest) -> TaskProfile:
        return TaskProfile("creative", 0.5)

    async def route(self, request: ChatRequest, profile: TaskProfile, allowance: Allowance) -> RoutingDecision:
        return RoutingDecision((Target("mine", "model"),), sender_id=request.sender_id)

    def update(self, decision: RoutingDecision, outcome: ResponseOutcome) -> None: ...

    async def assemble(self, request: ChatRequest, target: Target, permissions: UserPermissions) -> AssembledContext:
        return AssembledContext(request=request, token_estimate=0)

    def reach(self, target: Target) -> Provider:
        raise NotImplementedError

    def score(self, request: ChatRequest, response: ChatResponse) -> QualityScore:
        return QualityScore(0.5)

    def record(self, request: ChatRequest, decision: RoutingDecision, outcome: ResponseOutcome, call: Call) -> None: ...

    def feedback(self, about: str, value: float) -> int:
        return 0

    def admit(self, sender_id: str, limit: int) -> None: ...

    async def allowance(self, sender_id: str, permissions: UserPermissions) -> Allowance:
        return Allowance(left=Decimal(1))

    def __call__(self, target: Target, input_tokens: int, output_tokens: int, /) -> Decimal | None:
        return None


def a_pipeline_of_ones_own(mine: Mine) -> Pipeline:
    return Pipeline(
        classifier=mine,
        router=mine,
        assembler=mine,
        transport=mine,
        scorer=mine,
        learner=mine,
        admission=TurnAdmission(limiter=mine, budget=mine),
        chain=partial(Failover, hedge_after=5.0),
    )


def ours(
    router: StaticRouter, tiered: TieredRouter, targets: Targets, one: OneProvider
) -> tuple[Classifier, list[Router], Assembler, list[ModelTransport], list[Scorer], list[Learner], Chain]:
    return (
        KeywordClassifier(),
        [router, tiered],
        TokenBudgetAssembler(),
        [targets, one],
        [FitnessScorer(), NoScorer()],
        [TrajectoryLearner(), NoLearner()],
        Failover,
    )


def admitting(limiter: RateLimiter, tracker: CostTracker, mine: Mine) -> tuple[RateLimitable, list[CostTrackable]]:
    return limiter, [tracker, mine]


def choosing(tracker: CostTracker, mine: Mine) -> tuple[list[EstimateCost], Selection]:
    selection = Selection(estimate=tracker.estimate, shuffle=lambda targets: targets.reverse())
    return [estimate_by_tier, tracker.estimate, mine], selection


def around(provider: Provider, target: Target, tracker: CostTracker) -> Provider:
    return Metered(provider, tracker, target, tokens=request_tokens)
