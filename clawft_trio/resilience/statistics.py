"""The state of a chain, for people and dashboards."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import attrs

from clawft_trio.chat import Provider
from clawft_trio.resilience.adaptive_limit import AdaptiveLimitStatistics
from clawft_trio.resilience.bulkhead import BulkheadStatistics
from clawft_trio.resilience.circuit_breaker import BreakerStatistics
from clawft_trio.resilience.retry_budget import RetryBudgetStatistics
from clawft_trio.resilience.strategy import Composed, Strategy

_FIELDS: Mapping[type, str] = {
    BreakerStatistics: "breaker",
    BulkheadStatistics: "bulkhead",
    AdaptiveLimitStatistics: "limit",
}


@attrs.frozen(kw_only=True)
class ProviderStatistics:
    """State of a provider and its strategies; None for those it lacks. `chain.statistics()["openai/gpt-5"]`."""

    name: str
    breaker: BreakerStatistics | None = None
    bulkhead: BulkheadStatistics | None = None
    limit: AdaptiveLimitStatistics | None = None
    budget: RetryBudgetStatistics | None = None
    #: states of strategies with a state per key (`by`)
    by_key: tuple[Mapping[Hashable, Any], ...] = ()
    #: the states of the providers below, in order
    targets: tuple[ProviderStatistics, ...] = ()

    def __getitem__(self, name: str) -> ProviderStatistics:
        """Return the statistics of the provider called *name*, at any depth.

        Raises:
          KeyError: there is no such provider.
        """
        for found in self.walk():
            if found.name == name and found is not self:
                return found
        raise KeyError(name)

    def walk(self) -> Iterator[ProviderStatistics]:
        """Yield these statistics and all below, outermost first."""
        yield self
        for target in self.targets:
            yield from target.walk()


def statistics_of(provider: Provider) -> ProviderStatistics:
    """Return the statistics of *provider*; only its name when it has none."""
    statistics = getattr(provider, "statistics", None)
    seen = statistics() if callable(statistics) else None
    return seen if isinstance(seen, ProviderStatistics) else ProviderStatistics(name=provider.name)


def of_strategy(strategy: Strategy) -> dict[str, Any]:
    """Return the statistics of *strategy* and its layers, by the fields of `ProviderStatistics`."""
    found: dict[str, Any] = {}
    by_key: list[Mapping[Hashable, Any]] = []
    for layer in strategy.layers if isinstance(strategy, Composed) else (strategy,):
        statistics = getattr(layer, "statistics", None)
        seen = statistics() if callable(statistics) else None
        if isinstance(seen, Mapping):
            by_key.append(seen)
        elif type(seen) in _FIELDS:
            found.setdefault(_FIELDS[type(seen)], seen)
        for name, value in of_strategy(layer).items() if isinstance(layer, Composed) else ():
            found.setdefault(name, value)
    return {**found, "by_key": tuple(by_key)} if by_key else found
