"""Composable, cancellable strategies: retry, failover, hedging and the rest."""

from clawft_trio.resilience.bulkhead import (
    Bulkhead as Bulkhead,
)
from clawft_trio.resilience.bulkhead import (
    BulkheadStatistics as BulkheadStatistics,
)
from clawft_trio.resilience.chain import resilient_chain as resilient_chain
from clawft_trio.resilience.circuit_breaker import (
    BreakerStatistics as BreakerStatistics,
)
from clawft_trio.resilience.circuit_breaker import (
    CircuitBreaker as CircuitBreaker,
)
from clawft_trio.resilience.delivery import (
    Hold as Hold,
)
from clawft_trio.resilience.delivery import (
    Live as Live,
)
from clawft_trio.resilience.delivery import (
    Preview as Preview,
)
from clawft_trio.resilience.failover import Failover as Failover
from clawft_trio.resilience.hedge import Hedge as Hedge
from clawft_trio.resilience.resilient import Resilient as Resilient
from clawft_trio.resilience.retry import Retry as Retry
from clawft_trio.resilience.retry_budget import (
    RetryBudget as RetryBudget,
)
from clawft_trio.resilience.retry_budget import (
    RetryBudgetStatistics as RetryBudgetStatistics,
)
from clawft_trio.resilience.strategy import (
    Attempt as Attempt,
)
from clawft_trio.resilience.strategy import (
    Composed as Composed,
)
from clawft_trio.resilience.strategy import (
    Policy as Policy,
)
from clawft_trio.resilience.strategy import (
    Strategy as Strategy,
)
from clawft_trio.resilience.strategy import (
    compose as compose,
)
from clawft_trio.resilience.timeout import Timeout as Timeout
