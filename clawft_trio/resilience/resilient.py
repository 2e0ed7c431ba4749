"""A provider under a policy, as a provider."""

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
    """A provider that runs another one under a policy; it holds the state of the policy's breakers and bulkheads.

    Args:
      provider: anything with `name` and `complete`.
      policy: a policy, or several composed by `compose`.
      model: name of the model, which every request gets; None keeps the request's model.

    Raises:
      TypeError: *policy* is not a policy.
    """

    keeps_records = True

    def __init__(self, provider: Provider, policy: Policy, *, model: str | None = None) -> None:
        if isinstance(policy, type) or not callable(getattr(policy, "bind", None)):
            given = f"the class {policy.__name__}" if isinstance(policy, type) else f"a {type(policy).__name__}"
            raise TypeError(
                f"Resilient takes a policy, not {given}; compose(…) makes one of strategies: "
                "Resilient(provider, compose(Retry(), Timeout(total=30)))"
            )
        self.provider: Provider = recorded(provider, refuse_empty=True)
        self.policy = policy
        self.model = model
        self.strategy: Strategy = policy.bind(self.name)

    def __repr__(self) -> str:
        return f"<Resilient {self.name}>"

    @property
    def name(self) -> str:
        """Name of the provider, with the model if one is set."""
        return self.provider.name if self.model is None else f"{self.provider.name}/{self.model}"

    def statistics(self) -> ProviderStatistics:
        """Return the state of the strategies here and below: breaker, bulkhead, limit and budget."""
        below, own = statistics_of(self.provider), of_strategy(self.strategy)
        return attrs.evolve(below, name=self.name, **own)

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Answer *request* under the policy.

        Raises:
          ClawftError: the policy could not cure the error; `attempts` has the record of every attempt.

        Cancellation: the running attempt is cancelled and awaited; its record is in `call.log`.
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
