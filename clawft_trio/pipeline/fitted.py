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
from clawft_trio.pipeline.windows import Windows
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

    tokens: int
    #: None: the target gave no reason
    error: ContextLengthExceeded | None


class Refusals:
    """The requests refused as too long during one round, by target."""

    def __init__(self) -> None:
        self._by_target: dict[str, list[_Refusal]] = {}
        self._new = False

    def add(self, target: Target, tokens: int, error: ContextLengthExceeded | None) -> None:
        """Record that *target* refused a request of *tokens*."""
        self._by_target.setdefault(target.name, []).append(_Refusal(tokens, error))
        self._new = True

    def take_new(self) -> bool:
        """Whether a refusal was added since the last call."""
        new, self._new = self._new, False
        return new

    def of(self, target: Target) -> list[_Refusal]:
        """Return the refusals of *target*, oldest first."""
        return self._by_target.get(target.name, [])

    def limits(self, target: Target) -> list[int]:
        """Return limits in estimated input tokens for the next request to *target*, in the order to try them.

        After the first refusal: less than the refused size, which gives half of it, because the assembler halves. After
        the second: half of the refused size, and if that is not possible, anything less than it.
        """
        refused = [refusal.tokens for refusal in self.of(target)]
        if not refused:
            return []
        return [refused[-1] - 1] if len(refused) == 1 else [refused[-1] // 2, refused[-1] - 1]


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
        target = self.stages.windows.applied(self.target)
        limits: list[int | None] = [*self.refusals.limits(target)] or [None]
        for limit in limits[:-1]:
            try:
                return await self._assembled_within(request, target, limit)
            except ContextLengthExceeded:
                continue
        return await self._assembled_within(request, target, limits[-1])

    async def _assembled_within(self, request: ChatRequest, target: Target, limit: int | None) -> AssembledContext:
        most = target.max_input_tokens
        if limit is not None and (most is None or limit < most):
            target = attrs.evolve(target, max_input_tokens=limit)
        return await self.stages.assembler.assemble(request, target, self.permissions)

    def _note_refusal(self, fitted: AssembledContext, exc: Exception, call: Call) -> ContextLengthExceeded | None:
        """Record a refusal of length. Return the error to raise if the target did not give length as the reason."""
        tokens, windows = fitted.token_estimate, self.stages.windows
        found = leaves(exc)
        stated = next((leaf for leaf in found if isinstance(leaf, ContextLengthExceeded)), None)
        if stated is not None:
            windows.refused(self.target, tokens, stated)
            self._refuse(tokens, stated, call)
            return None
        error = found[0] if len(found) == 1 else exc
        if not isinstance(error, Exception):
            return None
        if windows.means_too_long(error, self.target, tokens):
            inferred = _inferred(error, self.target, tokens)
            self._refuse(tokens, None, call)
            return inferred
        if windows.may_be_too_long(error, self.target, fitted):
            self._refuse(tokens, None, call)
        return None

    def _refuse(self, tokens: int, stated: ContextLengthExceeded | None, call: Call) -> None:
        if len(self.refusals.of(self.target)) < MAX_SHORTENED:
            call.observer(
                RequestShortened(
                    target=self.name,
                    tokens=tokens,
                    stated=stated is not None,
                    call_id=call.id,
                    turn_id=call.turn_id,
                )
            )
        self.refusals.add(self.target, tokens, stated)

    def _note_answer(self, fitted: AssembledContext, response: ChatResponse) -> None:
        windows = self.stages.windows
        for refusal in self.refusals.of(self.target):
            # The assumption is now confirmed: the same request was answered after it was shortened.
            windows.refused(self.target, refusal.tokens, refusal.error)
        windows.accepted(self.target, fitted.token_estimate)
        self.stages.caches.answered(fitted.request, self.target, response.usage, estimate=fitted.token_estimate)


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
