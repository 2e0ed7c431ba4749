"""Records of attempts for providers that keep none: the one place below everything that wraps a provider."""

from __future__ import annotations

import attrs
import trio

from clawft_trio.attempts import AttemptLog, record_attempt
from clawft_trio.chat import Call, ChatRequest, ChatResponse, Provider
from clawft_trio.errors import ConsumerLeft
from clawft_trio.nursery import leaves, raise_one
from clawft_trio.observe.events import AttemptEnded, AttemptStarted


def recorded(provider: Provider) -> Provider:
    """*provider* itself when it keeps a record of each attempt (`keeps_records`), else with records kept around it.

    Everything that wraps a provider asks for this once, when it is made.
    """
    return provider if getattr(provider, "keeps_records", False) else Recorded(provider)


class Recorded:
    """A provider that keeps no records, with one record per call kept for it."""

    keeps_records = True

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def __repr__(self) -> str:
        return repr(self._provider)

    @property
    def name(self) -> str:
        """The provider's."""
        return self._provider.name

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Ask the provider and enter the attempt in `call.log`.

        Raises:
          Exception: the provider's. Where its nursery groups a cancellation, or the consumer's leaving, with
            nothing else of importance, that comes out bare.

        Cancellation: the provider's.
        """
        try:
            return await self._complete(request, call)
        except BaseExceptionGroup as group:
            _raise_bare(group)
            raise

    async def _complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        own = call.log.branch()
        spare = AttemptLog()
        target = self._target(request)
        call.notify(AttemptStarted(target=target, call_id=call.id, turn_id=call.turn_id))
        try:
            with record_attempt(spare, target) as attempt:
                # Whether a request left is not known. "Not sent" would claim that it cost nothing.
                attempt.sent = True
                response = await self._provider.complete(request, attrs.evolve(call, log=own))
                attempt.usage = response.usage
                attempt.certainty = None if response.usage is None else "exact"
        finally:
            # A wrapper of the user's around a provider that keeps records has them already.
            if not own.records:
                own.add(spare.records[0])
            call.notify(AttemptEnded(record=own.records[-1], call_id=call.id, turn_id=call.turn_id))
        return response

    def _target(self, request: ChatRequest) -> str:
        # A target of a chain has its model in its name already.
        name = self._provider.name
        has_model = not request.model or name.endswith(f"/{request.model}")
        return name if has_model else f"{name}/{request.model}"


def _raise_bare(group: BaseExceptionGroup[BaseException]) -> None:
    """Raise what a provider's own nursery must not hide: the consumer's leaving, or a cancellation and nothing else."""
    found = leaves(group)
    if all(isinstance(leaf, trio.Cancelled) for leaf in found) or group.subgroup((KeyboardInterrupt, SystemExit)):
        raise_one(group)
    for leaf in found:
        if isinstance(leaf, ConsumerLeft):
            raise leaf
