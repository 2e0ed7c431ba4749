"""Routing, assembly and rating of requests in six stages, each replaceable."""

from typing import TYPE_CHECKING

from clawft_trio.costs import Allowance as Allowance
from clawft_trio.deprecation import renamed
from clawft_trio.field_docs import document_fields as _document_fields
from clawft_trio.pipeline.assembler import (
    TokenBudgetAssembler as TokenBudgetAssembler,
    Trimmed as Trimmed,
    trim as trim,
)
from clawft_trio.pipeline.classifier import KeywordClassifier as KeywordClassifier
from clawft_trio.pipeline.latency import LatencyBoard as LatencyBoard
from clawft_trio.pipeline.learner import (
    LearnerStatistics as LearnerStatistics,
    NoLearner as NoLearner,
    Trajectory as Trajectory,
    TrajectoryLearner as TrajectoryLearner,
)
from clawft_trio.pipeline.permissions import (
    PermissionOverrides as PermissionOverrides,
    PermissionResolver as PermissionResolver,
    PermissionsPolicy as PermissionsPolicy,
    SenderOverrides as SenderOverrides,
)
from clawft_trio.pipeline.pipeline import (
    Chain as Chain,
    Pipeline as Pipeline,
    PipelineRegistry as PipelineRegistry,
    TurnAdmission as TurnAdmission,
)
from clawft_trio.pipeline.prompt_cache import (
    CacheBust as CacheBust,
    PromptCaches as PromptCaches,
    PromptCacheStatistics as PromptCacheStatistics,
)
from clawft_trio.pipeline.rate_limit import (
    RateLimiter as RateLimiter,
    RateLimiterStatistics as RateLimiterStatistics,
    RateLimitPolicy as RateLimitPolicy,
)
from clawft_trio.pipeline.router import StaticRouter as StaticRouter
from clawft_trio.pipeline.routing_policy import (
    EscalationPolicy as EscalationPolicy,
    ModelTier as ModelTier,
    RoutingPolicy as RoutingPolicy,
    SelectionStrategy as SelectionStrategy,
)
from clawft_trio.pipeline.scorer import FitnessScorer as FitnessScorer, NoScorer as NoScorer
from clawft_trio.pipeline.selection import Selection as Selection
from clawft_trio.pipeline.stages import (
    AssembledContext as AssembledContext,
    Assembler as Assembler,
    Classifier as Classifier,
    CostTrackable as CostTrackable,
    EstimateCost as EstimateCost,
    Learner as Learner,
    ModelTransport as ModelTransport,
    QualityScore as QualityScore,
    RateLimitable as RateLimitable,
    ResponseOutcome as ResponseOutcome,
    Router as Router,
    RoutingDecision as RoutingDecision,
    Scorer as Scorer,
    TaskProfile as TaskProfile,
    TaskType as TaskType,
    estimate_by_tier as estimate_by_tier,
)
from clawft_trio.pipeline.targets import (
    OneProvider as OneProvider,
    Targets as Targets,
    TargetsStatistics as TargetsStatistics,
    open_targets as open_targets,
)
from clawft_trio.pipeline.tiered_router import TieredRouter as TieredRouter
from clawft_trio.pipeline.validation import routing_problems as routing_problems
from clawft_trio.pipeline.windows import (
    MODEL_WINDOWS as MODEL_WINDOWS,
    WindowOf as WindowOf,
    Windows as Windows,
    by_pattern as by_pattern,
    input_window as input_window,
)
from clawft_trio.target import Target as Target

if not TYPE_CHECKING:
    __getattr__ = renamed(__name__, {"Admission": "TurnAdmission", "Transport": "ModelTransport"})

__all__ = [
    "Allowance",
    "AssembledContext",
    "Assembler",
    "CacheBust",
    "Chain",
    "Classifier",
    "CostTrackable",
    "EscalationPolicy",
    "EstimateCost",
    "FitnessScorer",
    "KeywordClassifier",
    "LatencyBoard",
    "Learner",
    "LearnerStatistics",
    "ModelTier",
    "ModelTransport",
    "NoLearner",
    "NoScorer",
    "OneProvider",
    "PermissionOverrides",
    "PermissionResolver",
    "PermissionsPolicy",
    "Pipeline",
    "PipelineRegistry",
    "PromptCacheStatistics",
    "PromptCaches",
    "QualityScore",
    "RateLimitPolicy",
    "RateLimitable",
    "RateLimiter",
    "RateLimiterStatistics",
    "ResponseOutcome",
    "Router",
    "RoutingDecision",
    "RoutingPolicy",
    "Scorer",
    "Selection",
    "SenderOverrides",
    "StaticRouter",
    "Target",
    "Targets",
    "TargetsStatistics",
    "TaskProfile",
    "TieredRouter",
    "TokenBudgetAssembler",
    "Trajectory",
    "TrajectoryLearner",
    "Trimmed",
    "TurnAdmission",
    "Windows",
    "by_pattern",
    "estimate_by_tier",
    "input_window",
    "open_targets",
    "renamed",
    "routing_problems",
    "trim",
]

_document_fields(__name__)
