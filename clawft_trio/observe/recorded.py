"""Adds records of attempts to providers that do not keep them; every wrapper of a provider uses this module."""

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
    """Return *provider* itself when it records each attempt (`keeps_records`), else a wrapper that does.

    Every wrapper of a provider calls this once, when it is created. Wrappers that can retry or fail over set
    *refuse_empty*: an answer without text, call or refusal then becomes the error `EmptyAnswer`. Providers that keep
    records raise it themselves.
    """
    return provider if getattr(provider, "keeps_records", False) else Recorded(provider, refuse_empty=refuse_empty)


def request_options(request: ChatRequest) -> dict[str, Any]:
    """Return the options of *request* that are set, for the events of an attempt."""
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
    """Store the ids and finish reason of the answer in *attempt*."""
    attempt.response_id, attempt.response_model = response.id, response.model
    attempt.finish_reason = response.raw_finish_reason or response.finish_reason


class Recorded:
    """Wraps a provider that keeps no records, and keeps one record per call."""

    keeps_records = True

    def __init__(self, provider: Provider, *, refuse_empty: bool = False) -> None:
        self._provider = provider
        self._refuse_empty = refuse_empty

    def __repr__(self) -> str:
        return repr(self._provider)

    @property
    def name(self) -> str:
        """Name of the wrapped provider."""
        return self._provider.name

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Call the provider and add the attempt to `call.log`.

        Raises:
          Exception: raised by the provider. When its nursery raises a group that has only a cancellation, or that the
            consumer stopped, and nothing else of importance, that exception is raised without the group.

        Cancellation: as for the provider.
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
                # It is unknown whether a request was sent. "Not sent" would claim that it cost nothing.
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
        # A target of a chain already has its model in its name.
        name = self._provider.name
        has_model = not request.model or name.endswith(f"/{request.model}")
        return name if has_model else f"{name}/{request.model}"


def _merged(own: tuple[AttemptRecord, ...], spare: AttemptRecord) -> tuple[AttemptRecord, ...]:
    """Return the records that a user's wrapper around a recording provider has made, or else *spare*."""
    if not own:
        return (spare,)
    if isinstance(spare.error, EmptyAnswer) and own[-1].outcome == "ok":
        return (*own[:-1], attrs.evolve(own[-1], outcome="failed", error=spare.error))
    return own


def _raise_bare(group: BaseExceptionGroup[BaseException]) -> None:
    """Raise the exception that a provider's own nursery must not hide: `ConsumerLeft`, or a mere cancellation."""
    found = leaves(group)
    if all(isinstance(leaf, trio.Cancelled) for leaf in found) or group.subgroup((KeyboardInterrupt, SystemExit)):
        raise_one(group)
    for leaf in found:
        if isinstance(leaf, ConsumerLeft):
            raise leaf
