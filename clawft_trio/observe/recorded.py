"""Records of attempts for providers that keep none: the one place below everything that wraps a provider."""

from __future__ import annotations

from typing import Any

import attrs
import trio

from clawft_trio.attempts import AttemptInProgress, AttemptLog, AttemptRecord, record_attempt
from clawft_trio.chat import Call, ChatRequest, ChatResponse, Provider
from clawft_trio.errors import ConsumerLeft, EmptyAnswer
from clawft_trio.nursery import leaves, raise_one
from clawft_trio.observe.events import AttemptEnded, AttemptStarted


def recorded(provider: Provider, *, refuse_empty: bool = False) -> Provider:
    """*provider* itself when it keeps a record of each attempt (`keeps_records`), else with records kept around it.

    Everything that wraps a provider asks for this once, when it is made. What can try again or elsewhere asks for
    *refuse_empty*: an answer without text, call or refusal is then the error `EmptyAnswer`. Providers that keep records
    raise that themselves.
    """
    return provider if getattr(provider, "keeps_records", False) else Recorded(provider, refuse_empty=refuse_empty)


def request_options(request: ChatRequest) -> dict[str, Any]:
    """How *request* asks its model, for the events of an attempt; without what it leaves to the provider."""
    given: dict[str, Any] = {
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
        "stop": list(request.stop) or None,
        "reasoning_effort": request.reasoning_effort,
        "stream": request.stream,
        "json": True if request.response_schema is not None else None,
    }
    more = {name: request.extra[name] for name in _SAMPLING if isinstance(request.extra.get(name), int | float)}
    return {name: value for name, value in given.items() if value is not None} | more


_SAMPLING = ("top_p", "top_k", "frequency_penalty", "presence_penalty", "n")


def note_response(attempt: AttemptInProgress, response: ChatResponse) -> None:
    """Enter in *attempt* which answer it got."""
    attempt.response_id, attempt.response_model = response.id, response.model
    attempt.finish_reason = response.raw_finish_reason or response.finish_reason


class Recorded:
    """A provider that keeps no records, with one record per call kept for it."""

    keeps_records = True

    def __init__(self, provider: Provider, *, refuse_empty: bool = False) -> None:
        self._provider = provider
        self._refuse_empty = refuse_empty

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
        own, spare = AttemptLog(), AttemptLog()
        target = self._target(request)
        options = request_options(request)
        call.observer(AttemptStarted(target=target, options=options, call_id=call.id, turn_id=call.turn_id))
        try:
            with record_attempt(spare, target) as attempt:
                # Whether a request left is not known. "Not sent" would claim that it cost nothing.
                attempt.sent = True
                response = await self._provider.complete(request, call.replaced(log=own))
                note_response(attempt, response)
                attempt.usage = response.usage
                attempt.certainty = None if response.usage is None else "exact"
                if self._refuse_empty and response.is_empty and not request.allow_empty:
                    raise EmptyAnswer(
                        "the answer has no text and no tool call", provider=response.provider, partial=response
                    )
        finally:
            records = _merged(own.records, spare.records[0])
            for record in records:
                call.log.add(record)
            call.observer(AttemptEnded(record=records[-1], call_id=call.id, turn_id=call.turn_id))
        return response

    def _target(self, request: ChatRequest) -> str:
        # A target of a chain has its model in its name already.
        name = self._provider.name
        has_model = not request.model or name.endswith(f"/{request.model}")
        return name if has_model else f"{name}/{request.model}"


def _merged(own: tuple[AttemptRecord, ...], spare: AttemptRecord) -> tuple[AttemptRecord, ...]:
    """The records that a wrapper of the user's around a provider with records has made, or else *spare*."""
    if not own:
        return (spare,)
    if isinstance(spare.error, EmptyAnswer) and own[-1].outcome == "ok":
        return (*own[:-1], attrs.evolve(own[-1], outcome="failed", error=spare.error))
    return own


def _raise_bare(group: BaseExceptionGroup[BaseException]) -> None:
    """Raise what a provider's own nursery must not hide: the consumer's leaving, or a cancellation and nothing else."""
    found = leaves(group)
    if all(isinstance(leaf, trio.Cancelled) for leaf in found) or group.subgroup((KeyboardInterrupt, SystemExit)):
        raise_one(group)
    for leaf in found:
        if isinstance(leaf, ConsumerLeft):
            raise leaf
