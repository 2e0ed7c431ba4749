"""Composable, cancellable strategies: retry, failover, hedging, breakers, limits and timeouts."""

from clawft_trio.field_docs import document_fields as _document_fields
from clawft_trio.resilience.adaptive_limit import (
    AdaptiveLimit as AdaptiveLimit,
    AdaptiveLimitStatistics as AdaptiveLimitStatistics,
)
from clawft_trio.resilience.bulkhead import (
    Bulkhead as Bulkhead,
    BulkheadStatistics as BulkheadStatistics,
)
from clawft_trio.resilience.chain import resilient_chain as resilient_chain
from clawft_trio.resilience.circuit_breaker import (
    BreakerStatistics as BreakerStatistics,
    CircuitBreaker as CircuitBreaker,
)
from clawft_trio.resilience.failover import Failover as Failover
from clawft_trio.resilience.hedge import Hedge as Hedge
from clawft_trio.resilience.pacing import Cost as Cost
from clawft_trio.resilience.resilient import Resilient as Resilient
from clawft_trio.resilience.retry import Retry as Retry
from clawft_trio.resilience.retry_budget import (
    RetryBudget as RetryBudget,
    RetryBudgetStatistics as RetryBudgetStatistics,
)
from clawft_trio.resilience.statistics import ProviderStatistics as ProviderStatistics
from clawft_trio.resilience.strategy import (
    Attempt as Attempt,
    Composed as Composed,
    Policy as Policy,
    Strategy as Strategy,
    compose as compose,
)
from clawft_trio.resilience.timeout import Timeout as Timeout
from clawft_trio.resilience.visibility import (
    Hold as Hold,
    Live as Live,
    Preview as Preview,
)

__all__ = [
    "AdaptiveLimit",
    "AdaptiveLimitStatistics",
    "BreakerStatistics",
    "Bulkhead",
    "BulkheadStatistics",
    "CircuitBreaker",
    "Composed",
    "Cost",
    "Failover",
    "Hedge",
    "Hold",
    "Live",
    "Policy",
    "Preview",
    "ProviderStatistics",
    "Resilient",
    "Retry",
    "RetryBudget",
    "RetryBudgetStatistics",
    "Strategy",
    "Timeout",
    "compose",
    "resilient_chain",
]

_document_fields(__name__)
