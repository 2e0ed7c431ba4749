"""A provider under a policy is a provider again."""

from __future__ import annotations

from functools import partial

import attrs
import trio

from clawft_trio.attempts import AttemptLog, record_attempt
from clawft_trio.chat import Call, ChatRequest, ChatResponse, Provider
from clawft_trio.errors import ClawftError, ConsumerLeft
from clawft_trio.nursery import leaves, raise_one
from clawft_trio.observe.events import AttemptEnded, AttemptStarted
from clawft_trio.resilience.strategy import Policy, Strategy


class Resilient:
    """*provider* under *policy*, bound to each other: the state of breakers and bulkheads belongs to this object.

    Args:
      provider: anything with `name` and `complete`.
      policy: a policy, or several put together by `compose`.
      model: the name under which this target answers; every request gets it. None leaves the request's own.
    """

    keeps_records = True

    def __init__(self, provider: Provider, policy: Policy, *, model: str | None = None) -> None:
        self.provider = provider
        self.policy = policy
        self.model = model
        self.strategy: Strategy = policy.bind(self.name)

    def __repr__(self) -> str:
        return f"<Resilient {self.name}>"

    @property
    def name(self) -> str:
        """The provider's, with the model if this target has one of its own."""
        return self.provider.name if self.model is None else f"{self.provider.name}/{self.model}"

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Answer *request* under the policy.

        Raises:
          ClawftError: what is left when the policy has done what it could; `attempts` tells what that was.

        Cancellation: the running attempt is cancelled and waited for; it is on record in `call.log`.
        """
        if self.model is not None:
            request = attrs.evolve(request, model=self.model)
        try:
            response = await self.strategy.run(partial(witnessed, self.provider, request), call)
        except ClawftError as exc:
            exc.attempts = call.log.records
            raise
        return attrs.evolve(response, attempts=call.log.records)


async def witnessed(provider: Provider, request: ChatRequest, call: Call) -> ChatResponse:
    """Ask *provider*; where it keeps no record of its attempt, keep one for it.

    Raises:
      Exception: the provider's.

    Cancellation: the provider's.
    """
    try:
        if getattr(provider, "keeps_records", False):
            return await provider.complete(request, call)
        return await _recorded(provider, request, call)
    except BaseExceptionGroup as group:
        _raise_bare(group)
        raise


def _raise_bare(group: BaseExceptionGroup[BaseException]) -> None:
    """Raise what a provider's own nursery must not hide: the consumer's leaving, or a cancellation and nothing else."""
    found = leaves(group)
    if all(isinstance(leaf, trio.Cancelled) for leaf in found) or group.subgroup((KeyboardInterrupt, SystemExit)):
        raise_one(group)
    for leaf in found:
        if isinstance(leaf, ConsumerLeft):
            raise leaf


async def _recorded(provider: Provider, request: ChatRequest, call: Call) -> ChatResponse:
    own = call.log.branch()
    spare = AttemptLog()
    # A target of a chain has its model in its name already.
    has_model = not request.model or provider.name.endswith(f"/{request.model}")
    target = provider.name if has_model else f"{provider.name}/{request.model}"
    call.notify(AttemptStarted(target=target, call_id=call.id, turn_id=call.turn_id))
    try:
        with record_attempt(spare, target) as attempt:
            # It does not say when, or whether: to call it unsent would be to say that it cost nothing.
            attempt.sent = True
            response = await provider.complete(request, attrs.evolve(call, log=own))
            attempt.usage = response.usage
            attempt.certainty = None if response.usage is None else "exact"
    finally:
        if not own.records:
            own.add(spare.records[0])
        call.notify(AttemptEnded(record=own.records[-1], call_id=call.id, turn_id=call.turn_id))
    return response
