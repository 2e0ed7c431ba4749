"""The static router: the same models for every permitted sender.

Both routers return the ordered list of targets that Failover tries. Every target of it is permitted to the sender and
known to the configuration; if none is left, the request is refused and never sent to another target.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import attrs
import trio

from clawft_trio.chat import ChatRequest
from clawft_trio.costs import Allowance
from clawft_trio.errors import PermissionDenied
from clawft_trio.pipeline.routing_policy import SelectionStrategy
from clawft_trio.pipeline.selection import Costs, Known, Ordering, Selection, decide, overriding, permissions_of, unique
from clawft_trio.pipeline.stages import ResponseOutcome, RoutingDecision, TaskProfile
from clawft_trio.target import Target


class StaticRouter:
    """The same models for every permitted sender.

    If the request names a model and the sender may choose, only that model is tried.

    Args:
      models: `provider/model`, in the order in which they are tried.
      providers: names of the providers that are configured; by default those of *models*.
      strategy: how the models are ordered.
      selection: cost estimates, shuffling and latencies.

    Raises:
      NotConfigured: a model's provider is not configured.
      InvalidData: a model's name is not `provider/model`.
    """

    def __init__(
        self,
        models: Iterable[str | Target],
        *,
        providers: Collection[str] | None = None,
        strategy: SelectionStrategy = "preference_order",
        selection: Selection | None = None,
    ) -> None:
        targets = [model if isinstance(model, Target) else Target.parse(model) for model in models]
        self._targets = unique(targets)
        self._known = Known(self._targets, providers)
        self._selection = selection or Selection()
        self._ordering = Ordering(strategy, self._selection)

    async def route(self, request: ChatRequest, profile: TaskProfile, allowance: Allowance) -> RoutingDecision:
        """Return the models in order, without those that the sender may not use or cannot pay.

        Raises:
          PermissionDenied: no model is permitted.
          BudgetExceeded: no model fits the budget.
          NotConfigured: the request names an unknown provider.

        Cancellation: nothing is kept.
        """
        await trio.lowlevel.checkpoint()
        permissions = permissions_of(request)
        costs = Costs(request, allowance, self._selection.estimate)
        chosen = overriding(request, self._known, permissions)
        candidates = [chosen] if chosen else [t for t in self._targets if permissions.may_use_model(t.name)]
        if not candidates:
            raise PermissionDenied("this sender may use none of the configured models")
        affordable = [target for target in candidates if costs.affords(target)]
        if not affordable:
            raise costs.refusal(candidates)
        ordered = self._ordering.ordered(affordable, costs, advance=True)
        decision = decide(request, profile, ordered, costs, "chosen by the request" if chosen else "static")
        return attrs.evolve(decision, budget_constrained=len(affordable) < len(candidates))

    def update(self, decision: RoutingDecision, outcome: ResponseOutcome) -> None:
        """Record the latencies of the targets."""
        self._selection.latencies.note(outcome)
