"""Six stages from a request to an answer: what is it, who may answer, what fits, who answers, was it good, what now."""

from clawft_trio.pipeline.assembler import (
    TokenBudgetAssembler as TokenBudgetAssembler,
)
from clawft_trio.pipeline.assembler import (
    mend as mend,
)
from clawft_trio.pipeline.assembler import (
    trim as trim,
)
from clawft_trio.pipeline.classifier import KeywordClassifier as KeywordClassifier
from clawft_trio.pipeline.latency import LatencyBoard as LatencyBoard
from clawft_trio.pipeline.learner import (
    LearnerStatistics as LearnerStatistics,
)
from clawft_trio.pipeline.learner import (
    NoLearner as NoLearner,
)
from clawft_trio.pipeline.learner import (
    Trajectory as Trajectory,
)
from clawft_trio.pipeline.learner import (
    TrajectoryLearner as TrajectoryLearner,
)
from clawft_trio.pipeline.permissions import (
    PermissionOverrides as PermissionOverrides,
)
from clawft_trio.pipeline.permissions import (
    PermissionResolver as PermissionResolver,
)
from clawft_trio.pipeline.permissions import (
    PermissionsPolicy as PermissionsPolicy,
)
from clawft_trio.pipeline.permissions import (
    SenderOverrides as SenderOverrides,
)
from clawft_trio.pipeline.pipeline import (
    Admission as Admission,
)
from clawft_trio.pipeline.pipeline import (
    Chain as Chain,
)
from clawft_trio.pipeline.pipeline import (
    Pipeline as Pipeline,
)
from clawft_trio.pipeline.pipeline import (
    PipelineRegistry as PipelineRegistry,
)
from clawft_trio.pipeline.rate_limit import (
    RateLimiter as RateLimiter,
)
from clawft_trio.pipeline.rate_limit import (
    RateLimiterStatistics as RateLimiterStatistics,
)
from clawft_trio.pipeline.rate_limit import (
    RateLimitPolicy as RateLimitPolicy,
)
from clawft_trio.pipeline.router import StaticRouter as StaticRouter
from clawft_trio.pipeline.routing_policy import (
    EscalationPolicy as EscalationPolicy,
)
from clawft_trio.pipeline.routing_policy import (
    ModelTier as ModelTier,
)
from clawft_trio.pipeline.routing_policy import (
    RoutingPolicy as RoutingPolicy,
)
from clawft_trio.pipeline.routing_policy import (
    SelectionStrategy as SelectionStrategy,
)
from clawft_trio.pipeline.scorer import FitnessScorer as FitnessScorer
from clawft_trio.pipeline.scorer import NoScorer as NoScorer
from clawft_trio.pipeline.selection import Selection as Selection
from clawft_trio.pipeline.stages import (
    Allowance as Allowance,
)
from clawft_trio.pipeline.stages import (
    AssembledContext as AssembledContext,
)
from clawft_trio.pipeline.stages import (
    Assembler as Assembler,
)
from clawft_trio.pipeline.stages import (
    Classifier as Classifier,
)
from clawft_trio.pipeline.stages import (
    CostTrackable as CostTrackable,
)
from clawft_trio.pipeline.stages import (
    EstimateCost as EstimateCost,
)
from clawft_trio.pipeline.stages import (
    Learner as Learner,
)
from clawft_trio.pipeline.stages import (
    QualityScore as QualityScore,
)
from clawft_trio.pipeline.stages import (
    RateLimitable as RateLimitable,
)
from clawft_trio.pipeline.stages import (
    ResponseOutcome as ResponseOutcome,
)
from clawft_trio.pipeline.stages import (
    Router as Router,
)
from clawft_trio.pipeline.stages import (
    RoutingDecision as RoutingDecision,
)
from clawft_trio.pipeline.stages import (
    Scorer as Scorer,
)
from clawft_trio.pipeline.stages import (
    Target as Target,
)
from clawft_trio.pipeline.stages import (
    TaskProfile as TaskProfile,
)
from clawft_trio.pipeline.stages import (
    TaskType as TaskType,
)
from clawft_trio.pipeline.stages import (
    Transport as Transport,
)
from clawft_trio.pipeline.stages import (
    estimate_by_tier as estimate_by_tier,
)
from clawft_trio.pipeline.targets import (
    OneProvider as OneProvider,
)
from clawft_trio.pipeline.targets import (
    Targets as Targets,
)
from clawft_trio.pipeline.targets import (
    TargetsStatistics as TargetsStatistics,
)
from clawft_trio.pipeline.targets import (
    open_targets as open_targets,
)
from clawft_trio.pipeline.tiered_router import TieredRouter as TieredRouter
from clawft_trio.pipeline.validation import routing_problems as routing_problems
