"""A target of a routing decision as a provider: fits each request to the target, and shortens it after a refusal."""

from __future__ import annotations

from typing import Protocol

import attrs

from clawft_trio.auth import UserPermissions
from clawft_trio.chat import Call, ChatRequest, ChatResponse
from clawft_trio.errors import ContextLengthExceeded
from clawft_trio.nursery import leaves
from clawft_trio.observe.events import CacheBusted, RequestShortened
from clawft_trio.observe.recorded import recorded
from clawft_trio.pipeline.prompt_cache import PromptCaches
from clawft_trio.pipeline.stages import AssembledContext, Assembler, ModelTransport
from clawft_trio.pipeline.windows import LEAST_OUTPUT, Windows
from clawft_trio.target import Target

MAX_SHORTENED = 2
"""Number of times that a round is repeated with a shorter request, after refusals of length."""


class FittingStages(Protocol):
    """The stages of a pipeline that a `Fitted` uses."""

    @property
    def assembler(self) -> Assembler: ...
    @property
    def transport(self) -> ModelTransport: ...
    @property
    def windows(self) -> Windows: ...
    @property
    def caches(self) -> PromptCaches: ...


@attrs.frozen
class _Refusal:
    """A request that a target refused as too long."""

    sent: AssembledContext
    #: None: the target gave no reason
    error: ContextLengthExceeded | None
    #: whether to retry with less output before less input: the output is the larger part, and the window is not known
    output_first: bool

    @property
    def tokens(self) -> int:
        return self.sent.token_estimate

    @property
    def output(self) -> int:
        return self.sent.request.max_tokens or 0


@attrs.frozen
class _Limit:
    """Limits on the next request in estimated tokens; None: as much as fits."""

    input: int | None = None
    output: int | None = None


class Refusals:
    """The requests refused as too long during one round, by target."""

    def __init__(self) -> None:
        self._by_target: dict[str, list[_Refusal]] = {}
        self._new = False

    def add(
        self, target: Target, sent: AssembledContext, error: ContextLengthExceeded | None, *, output_first: bool
    ) -> bool:
        """Record that *target* refused *sent*; return False if it is a retry of the previous refused request."""
        refused = self._by_target.setdefault(target.name, [])
        self._new = True
        new = _Refusal(sent, error, output_first)
        if refused and (refused[-1].tokens, refused[-1].output) == (new.tokens, new.output):
            return False
        refused.append(new)
        return True

    def take_new(self) -> bool:
        """Whether a refusal was added since the last call."""
        new, self._new = self._new, False
        return new

    def of(self, target: Target) -> list[_Refusal]:
        """Return the refusals of *target*, oldest first."""
        return self._by_target.get(target.name, [])

    def limits(self, target: Target) -> list[_Limit]:
        """Return limits on the next request to *target*, in the order to try them.

        After the first refusal: less than the refused input, which gives half of it, because the assembler halves.
        After the second: half of the refused input with a quarter of the output, and if that is not possible, any
        smaller input. If no smaller input is possible: a quarter of the output, because many servers count it, too.
        """
        refused = self.of(target)
        if not refused:
            return [_Limit()]
        last = refused[-1]
        less = max(LEAST_OUTPUT, last.output // 4)
        if len(refused) == 1 and last.output_first:
            return [_Limit(output=less)]
        shorter = [_Limit(last.tokens - 1)]
        if len(refused) > 1:
            shorter = [_Limit(last.tokens // 2, less), _Limit(last.tokens - 1, less)]
        return [*shorter, _Limit(output=less)] if less < last.output else shorter


@attrs.frozen
class Fitted:
    """A target's provider that fits each request to the target."""

    keeps_records = True

    stages: FittingStages
    target: Target
    permissions: UserPermissions
    refusals: Refusals

    @property
    def name(self) -> str:
        """The name `provider/model`."""
        return self.target.name

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        """Assemble *request* for the target and send it.

        Raises:
          ContextLengthExceeded: the part that must be kept does not fit, or the target refused the request as too long.
          ProviderError: as the target raises it.

        Cancellation: as for the target.
        """
        fitted = await self._assembled(request)
        bust = self.stages.caches.sent(fitted.request, self.target)
        if bust is not None:
            call.observer(
                CacheBusted(
                    target=self.name,
                    byte=bust.byte,
                    of=bust.of,
                    part=bust.part,
                    index=bust.index,
                    call_id=call.id,
                    turn_id=call.turn_id,
                )
            )
        try:
            # Only now, so that a target that cannot be built costs nothing while others answer.
            provider = recorded(self.stages.transport.reach(self.target))
            own = call.replaced(input_tokens=fitted.token_estimate)
            response = await provider.complete(fitted.request, own)
        except Exception as exc:
            inferred = self._note_refusal(fitted, exc, call)
            if inferred is not None:
                raise inferred from exc
            raise
        self._note_answer(fitted, response)
        return response

    async def _assembled(self, request: ChatRequest) -> AssembledContext:
        windows = self.stages.windows
        target = windows.applied(self.target)
        request = _allowing(request, windows.output_limit(target))
        *limits, last = self.refusals.limits(target)
        for limit in limits:
            try:
                return await self._assembled_within(request, target, limit)
            except ContextLengthExceeded:
                continue
        return await self._assembled_within(request, target, last)

    async def _assembled_within(self, request: ChatRequest, target: Target, limit: _Limit) -> AssembledContext:
        most = target.max_input_tokens
        if limit.output is not None and limit.input is None:
            # Without the learnt limit on input, because the allowed output may have been the reason of the refusal.
            target = attrs.evolve(target, max_input_tokens=None)
        elif limit.input is not None and (most is None or limit.input < most):
            target = attrs.evolve(target, max_input_tokens=limit.input)
        return await self.stages.assembler.assemble(_allowing(request, limit.output), target, self.permissions)

    def _note_refusal(self, fitted: AssembledContext, exc: Exception, call: Call) -> ContextLengthExceeded | None:
        """Record a refusal of length. Return the error to raise if the target did not give length as the reason."""
        tokens, windows = fitted.token_estimate, self.stages.windows
        output = fitted.request.max_tokens or 0
        found = leaves(exc)
        stated = next((leaf for leaf in found if isinstance(leaf, ContextLengthExceeded)), None)
        if stated is not None:
            windows.refused(self.target, tokens, stated)
            output_first = stated.window is None and self._allows_too_much(fitted)
            self._refuse(fitted, stated, call, output_first=output_first)
            return None
        error = found[0] if len(found) == 1 else exc
        if not isinstance(error, Exception):
            return None
        if windows.means_too_long(error, self.target, tokens, output):
            inferred = _inferred(error, self.target, tokens)
            self._refuse(fitted, None, call)
            return inferred
        if windows.may_be_too_long(error, self.target, fitted):
            self._refuse(fitted, None, call, output_first=self._allows_too_much(fitted))
        return None

    def _allows_too_much(self, fitted: AssembledContext) -> bool:
        windows = self.stages.windows
        unknown = windows.applied(self.target).max_context_tokens is None
        return unknown and windows.allows_too_much(self.target, fitted)

    def _refuse(
        self,
        fitted: AssembledContext,
        stated: ContextLengthExceeded | None,
        call: Call,
        *,
        output_first: bool = False,
    ) -> None:
        new = self.refusals.add(self.target, fitted, stated, output_first=output_first)
        if new and len(self.refusals.of(self.target)) <= MAX_SHORTENED:
            call.observer(
                RequestShortened(
                    target=self.name,
                    tokens=fitted.token_estimate,
                    stated=stated is not None,
                    call_id=call.id,
                    turn_id=call.turn_id,
                )
            )

    def _note_answer(self, fitted: AssembledContext, response: ChatResponse) -> None:
        windows = self.stages.windows
        tokens, output = fitted.token_estimate, fitted.request.max_tokens or 0
        for refusal in self.refusals.of(self.target):
            # The assumption is now confirmed: the same request was answered after it was shortened.
            if tokens < refusal.tokens:
                windows.refused(self.target, refusal.tokens, refusal.error)
            elif output < refusal.output:
                windows.refused_output(self.target, output)
        windows.accepted(self.target, tokens, output)
        self.stages.caches.answered(fitted.request, self.target, response.usage, estimate=fitted.token_estimate)


def _allowing(request: ChatRequest, output: int | None) -> ChatRequest:
    """Limit the output of *request* to *output* tokens."""
    if output is None or (request.max_tokens is not None and request.max_tokens <= output):
        return request
    return attrs.evolve(request, max_tokens=output)


def _inferred(error: Exception, target: Target, tokens: int) -> ContextLengthExceeded:
    return ContextLengthExceeded(
        f"refused without a reason at about {tokens} tokens, near the window of the model or over it",
        provider=target.provider,
        model=target.model,
        status=getattr(error, "status", None),
        code=getattr(error, "code", None),
        request_id=getattr(error, "request_id", None),
        body=getattr(error, "body", ""),
        attempts=getattr(error, "attempts", ()),
    )
