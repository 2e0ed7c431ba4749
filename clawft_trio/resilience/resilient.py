"""A provider under a policy is a provider again."""

from __future__ import annotations

from functools import partial

import attrs

from clawft_trio.chat import Call, ChatRequest, ChatResponse, Invocation, Provider, with_attempts
from clawft_trio.errors import ClawftError
from clawft_trio.observe.recorded import recorded
from clawft_trio.resilience.statistics import ProviderStatistics, of_strategy, statistics_of
from clawft_trio.resilience.strategy import Policy, Strategy, within
from clawft_trio.tracebacks import shorten_traceback


class Resilient:
    """*provider* under *policy*, bound to each other: the state of breakers and bulkheads belongs to this object.

    Args:
      provider: anything with `name` and `complete`.
      policy: a policy, or several put together by `compose`.
      model: the name under which this target answers; every request gets it. None leaves the request's own.
    """

    keeps_records = True

    def __init__(self, provider: Provider, policy: Policy, *, model: str | None = None) -> None:
        self.provider: Provider = recorded(provider, refuse_empty=True)
        self.policy = policy
        self.model = model
        self.strategy: Strategy = policy.bind(self.name)

    def __repr__(self) -> str:
        return f"<Resilient {self.name}>"

    @property
    def name(self) -> str:
        """The provider's, with the model if this target has one of its own."""
        return self.provider.name if self.model is None else f"{self.provider.name}/{self.model}"

    def statistics(self) -> ProviderStatistics:
        """The state of the strategies, and of what is below: breaker, bulkhead, limit and budget."""
        below, own = statistics_of(self.provider), of_strategy(self.strategy)
        return attrs.evolve(below, name=self.name, **own)

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Answer *request* under the policy.

        Raises:
          ClawftError: what is left when the policy has done what it could; `attempts` holds what was tried.

        Cancellation: the running attempt is cancelled and waited for; it is on record in `call.log`.
        """
        if self.model is not None:
            request = attrs.evolve(request, model=self.model)
        unary = call.unary or not request.stream
        call = call.replaced(unary=unary, invocation=Invocation(self.name, (request,), {}))
        try:
            response = await within(self.strategy, partial(self.provider.complete, request))(call)
        except Exception as exc:
            if isinstance(exc, ClawftError):
                exc.attempts = call.log.records
            shorten_traceback(exc)
            raise
        return with_attempts(response, call.log.records)
