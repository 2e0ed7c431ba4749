"""A chain of providers with the usual strategies and tested defaults."""

from __future__ import annotations

import attrs

from clawft_trio.chat import Provider
from clawft_trio.resilience.bulkhead import Bulkhead
from clawft_trio.resilience.circuit_breaker import CircuitBreaker
from clawft_trio.resilience.failover import Failover, HedgeAfter
from clawft_trio.resilience.resilient import Resilient
from clawft_trio.resilience.retry import Retry
from clawft_trio.resilience.retry_budget import RetryBudget
from clawft_trio.resilience.strategy import Policy, compose
from clawft_trio.resilience.timeout import Timeout
from clawft_trio.resilience.visibility import Live


def resilient_chain(
    *providers: Provider,
    retry: Retry | None = None,
    breaker: CircuitBreaker | None = None,
    bulkhead: Bulkhead | None = None,
    delivery: Policy | None = None,
    first_content: float | None = 60.0,
    gap: float | None = 25.0,
    tool_gap: float | None = 180.0,
    total: float | None = 600.0,
    hedge_after: HedgeAfter = 10.0,
    budget: RetryBudget | None = None,
    windows: dict[str, int] | None = None,
) -> Resilient:
    """Make one provider of several, in order of preference.

    Each target gets, from the outside in: `Retry` (2 retries), `CircuitBreaker`, `Bulkhead` if given, and the clocks
    `first_content`, `gap` and `tool_gap`. `Failover` tries the targets in order and starts the next one concurrently if
    one is silent for `hedge_after` seconds. `total` limits the whole call. *budget* limits repeated requests to a
    target; without one the chain has its own `RetryBudget`. `statistics()` shows breakers, bulkheads and budget.

    `delivery` decides which content of an unfinished attempt is sent. `Hold` and `Preview` go around the whole chain,
    because a hedge has to detect content that its consumer does not receive yet. `Live` goes around each attempt,
    because it may make the attempt's error final.

    Times are seconds; None disables a clock.
    """
    shared = budget or RetryBudget()
    each = retry or Retry(max_retries=2)
    if each.budget is None:
        each = attrs.evolve(each, budget=shared)
    layers: list[Policy] = [each, breaker or CircuitBreaker()]
    if bulkhead is not None:
        layers.append(bulkhead)
    if isinstance(delivery, Live):
        layers.append(delivery)
    layers.append(Timeout(first_content=first_content, gap=gap, tool_gap=tool_gap))
    links = [Resilient(provider, compose(*layers)) for provider in providers]
    chain = Failover(*links, hedge_after=hedge_after, budget=shared, windows=windows, name="chain")
    around: list[Policy] = [Timeout(total=total)]
    if delivery is not None and not isinstance(delivery, Live):
        around.append(delivery)
    return Resilient(chain, compose(*around))
