"""The six stages as one object: `route` is called once per turn, `complete` once per round."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

import attrs
import trio

from clawft_trio.attempts import AttemptRecord, deciding_attempt
from clawft_trio.auth import ZERO_TRUST
from clawft_trio.chat import Call, ChatRequest, ChatResponse, Provider
from clawft_trio.costs import Allowance
from clawft_trio.errors import ClawftError, ConsumerLeft, ContextLengthExceeded, PermissionDenied, Refused
from clawft_trio.observe.events import Noted, RoundEnded, Routed
from clawft_trio.pipeline.assembler import TokenBudgetAssembler, input_limit
from clawft_trio.pipeline.classifier import KeywordClassifier
from clawft_trio.pipeline.fitted import MAX_SHORTENED, Fitted, Refusals
from clawft_trio.pipeline.latency import Stopwatch
from clawft_trio.pipeline.learner import NoLearner
from clawft_trio.pipeline.prompt_cache import PromptCaches
from clawft_trio.pipeline.scorer import FitnessScorer
from clawft_trio.pipeline.stages import (
    Assembler,
    Classifier,
    CostTrackable,
    Learner,
    ModelTransport,
    QualityScore,
    RateLimitable,
    ResponseOutcome,
    RoundEnding,
    Router,
    RoutingDecision,
    Scorer,
    TaskProfile,
    TaskType,
)
from clawft_trio.pipeline.windows import Windows
from clawft_trio.replacing import replaced
from clawft_trio.resilience.failover import Failover
from clawft_trio.resilience.visibility import shown_of
from clawft_trio.target import Target

_log = logging.getLogger("clawft_trio.pipeline")


class Chain(Protocol):
    """A function that makes one provider of several: `Failover`, or a `partial` of it."""

    def __call__(self, *providers: Provider, windows: dict[str, int]) -> Provider:
        """Return a provider that tries *providers* in order; *windows* in tokens by name, where they are known."""
        ...


@attrs.frozen(kw_only=True)
class TurnAdmission:
    """Admission of turns by rate and budget, before any target is chosen."""

    limiter: RateLimitable | None = None
    budget: CostTrackable | None = None

    async def admit(self, request: ChatRequest) -> Allowance:
        """Count the turn and return what its sender may spend.

        Raises:
          RateLimitExceeded: too many turns.
          StoreError: the budget cannot be read, so no turn is admitted.

        Cancellation: the turn stays counted.
        """
        await trio.lowlevel.checkpoint()
        permissions = ZERO_TRUST if request.auth is None else request.auth.permissions
        sender = request.sender_id or ""
        if self.limiter is not None:
            self.limiter.admit(sender, permissions.rate_limit)
        return Allowance() if self.budget is None else await self.budget.allowance(sender, permissions)


@attrs.frozen(kw_only=True)
class Pipeline:
    """Six stages, each replaceable by any object with the right methods.

    The pipeline has no state: counters, averages and connections are in the stages.
    """

    router: Router
    transport: ModelTransport
    classifier: Classifier = attrs.field(factory=KeywordClassifier)
    assembler: Assembler = attrs.field(factory=TokenBudgetAssembler)
    scorer: Scorer = attrs.field(factory=FitnessScorer)
    learner: Learner = attrs.field(factory=NoLearner)
    admission: TurnAdmission = attrs.field(factory=TurnAdmission)
    chain: Chain = Failover
    windows: Windows = attrs.field(factory=Windows)
    caches: PromptCaches = attrs.field(factory=PromptCaches)

    async def route(
        self, request: ChatRequest, call: Call | None = None, *, profile: TaskProfile | None = None
    ) -> RoutingDecision:
        """Choose the targets of a turn. Call it once per turn, because it counts against the sender's rate.

        Args:
          request: with `auth` set; without it, the request has the fewest permissions.
          call: gives the observer.
          profile: the classified task, where it is already known.

        Raises:
          Refused: by rate, budget or permission; `retry_after` is the time until a retry may succeed, if it can.
          NotConfigured: the request names an unknown provider.
          StoreError: the sender's budget cannot be read.

        Cancellation: the turn stays counted.
        """
        allowance = await self.admission.admit(request)
        if profile is None:
            profile = self.classifier.classify(request)
        decision = await self.router.route(request, profile, allowance)
        if call is not None:
            call.observer(_routed(decision, call))
        return decision

    async def complete(self, request: ChatRequest, call: Call, decision: RoutingDecision) -> ChatResponse:
        """Answer one round by the first target of *decision* that can.

        The request is assembled for each target that it is sent to. Router and learner get the outcome of every round,
        with cost and times; an error in them or in the scorer does not fail the answer.

        Returns:
          The answer, with the latency of the round and all its attempts.

        Raises:
          ProviderError: no target could answer.
          PermissionDenied: the decision was made for another sender.

        Cancellation: running attempts are cancelled and awaited; the round counts as cancelled, not as failed.
        """
        _check_sender(request, decision)
        round_ = _Round(self, request, call, decision)
        try:
            response = await self._answer(request, round_.call, decision)
        except ConsumerLeft:
            round_.ended("aborted")
            raise
        except Exception as exc:
            round_.ended("failed", error=exc)
            raise
        except BaseException:
            round_.ended("cancelled")
            raise
        return round_.answered(response)

    def input_limit(self, request: ChatRequest, decision: RoutingDecision) -> int:
        """Return the limit on *request*'s input tokens at the target that is tried first."""
        target = self.windows.applied(self.caches.ordered(request, decision)[0])
        return input_limit(request, target, decision.permissions)

    async def _answer(self, request: ChatRequest, call: Call, decision: RoutingDecision) -> ChatResponse:
        """Try the targets in order. If one has refused the request as too long and none answers, try again with a
        shorter request, at most `MAX_SHORTENED` times.
        """
        refusals = Refusals()
        refused: ClawftError | None = None
        for _ in range(1 + MAX_SHORTENED):
            try:
                return await self._provider(request, decision, refusals).complete(request, call)
            except ClawftError as exc:
                new = refusals.take_new() and not isinstance(exc, Refused)
                if not new and (refused is None or not isinstance(exc, ContextLengthExceeded)):
                    raise
                if not new:
                    # No shorter request could be sent, so the refusal of the longer one is the result.
                    break
                refused = exc
        assert refused is not None
        raise refused

    def _provider(self, request: ChatRequest, decision: RoutingDecision, refusals: Refusals) -> Provider:
        targets = [self.windows.applied(target) for target in self.caches.ordered(request, decision)]
        windows = {target.name: window for target in targets if (window := _window(target)) is not None}
        return self.chain(
            *(Fitted(self, target, decision.permissions, refusals) for target in targets), windows=windows
        )


def _window(target: Target) -> int | None:
    limits = [tokens for tokens in (target.max_context_tokens, target.max_input_tokens) if tokens is not None]
    return min(limits, default=None)


class PipelineRegistry:
    """Pipelines by task type.

    The default pipeline admits and classifies every turn, and answers the types without a pipeline. All pipelines share
    its admission: another type of task must not bypass the limits.
    """

    def __init__(self, default: Pipeline, special: Mapping[TaskType, Pipeline] | None = None) -> None:
        self._default = default
        self._special = {
            task_type: attrs.evolve(
                pipeline, admission=default.admission, windows=default.windows, caches=default.caches
            )
            for task_type, pipeline in (special or {}).items()
        }

    def for_task(self, task_type: TaskType) -> Pipeline:
        """Return the pipeline for tasks of *task_type*."""
        return self._special.get(task_type, self._default)

    async def route(self, request: ChatRequest, call: Call | None = None) -> RoutingDecision:
        """Classify the task, and choose the targets with the pipeline for its type.

        Raises:
          Refused: by rate, budget or permission.
          NotConfigured: the request names an unknown provider.
          StoreError: the sender's budget cannot be read.

        Cancellation: the turn stays counted.
        """
        profile = self._default.classifier.classify(request)
        return await self.for_task(profile.task_type).route(request, call, profile=profile)

    def input_limit(self, request: ChatRequest, decision: RoutingDecision) -> int:
        """Return the limit on *request*'s input tokens at the target that is tried first."""
        return self.for_task(decision.profile.task_type).input_limit(request, decision)

    async def complete(self, request: ChatRequest, call: Call, decision: RoutingDecision) -> ChatResponse:
        """Answer one round with the pipeline that made *decision*.

        Raises:
          ProviderError: no target could answer.
          PermissionDenied: the decision was made for another sender.

        Cancellation: as for `Pipeline.complete`.
        """
        return await self.for_task(decision.profile.task_type).complete(request, call, decision)


def _check_sender(request: ChatRequest, decision: RoutingDecision) -> None:
    if request.sender_id != decision.sender_id:
        raise PermissionDenied(f"routed for {decision.sender_id}, used by {request.sender_id}")


class _Round:
    """One round: measures it and reports its outcome."""

    def __init__(self, pipeline: Pipeline, request: ChatRequest, call: Call, decision: RoutingDecision) -> None:
        self._pipeline = pipeline
        self._request = request
        self._decision = decision
        # The stopwatch comes after the record of the text, so that the strategies below use the same record.
        shown = shown_of(call)
        self._watch = Stopwatch(shown.to)
        shown.to = self._watch.emit
        self._log = call.log.branch()
        self.call = call.replaced(emit=shown, log=self._log)

    def answered(self, response: ChatResponse) -> ChatResponse:
        """Report the answer; return it with the round's latency and attempts."""
        quality = self._contained("scorer", lambda: self._pipeline.scorer.score(self._request, response))
        ending: RoundEnding = "aborted" if response.finish_reason == "aborted" else "ok"
        outcome = self.ended(ending, response=response, quality=quality)
        return replaced(response, latency=outcome.latency, attempts=outcome.attempts)

    def ended(
        self,
        ending: RoundEnding,
        *,
        response: ChatResponse | None = None,
        quality: QualityScore | None = None,
        error: BaseException | None = None,
    ) -> ResponseOutcome:
        """Report the end of the round to router, learner and observers."""
        records = self._log.records
        deciding = deciding_attempt(records, ending)
        reported = deciding if response is None else response
        outcome = ResponseOutcome(
            ending=ending,
            latency=self._watch.read(deciding),
            consumer_time=self._watch.consumer_time,
            answered_by=self._answered_by(ending, response, deciding),
            quality=quality,
            usage=None if reported is None else reported.usage,
            cost=None if response is None else response.cost,
            error=error,
            attempts=records,
        )
        self._report(outcome)
        return outcome

    def _answered_by(self, ending: RoundEnding, response: ChatResponse | None, deciding: AttemptRecord | None) -> str:
        if ending not in {"ok", "aborted"}:
            return ""
        # The model that a provider reports is often a dated name of the requested one.
        if deciding is not None and deciding.target in {target.name for target in self._decision.targets}:
            return deciding.target
        return "" if response is None else f"{response.provider}/{response.model}"

    def _report(self, outcome: ResponseOutcome) -> None:
        pipeline, decision, call = self._pipeline, self._decision, self.call
        self._contained("router", lambda: pipeline.router.update(decision, outcome))
        self._contained("learner", lambda: pipeline.learner.record(self._request, decision, outcome, call))
        call.observer(_round_ended(decision, outcome, call))

    def _contained(self, stage: str, work: Callable[[], QualityScore | None]) -> QualityScore | None:
        """Call *work*; report an error in it without failing the answer."""
        try:
            return work()
        except Exception as exc:  # noqa: BLE001 - the user's stage may raise anything, and the answer has been paid for
            _log.exception("the %s failed", stage)
            self.call.observer(
                Noted(
                    component="pipeline",
                    what=f"the {stage} failed",
                    details={"error": exc},
                    call_id=self.call.id,
                    turn_id=self.call.turn_id,
                )
            )
            return None


def _routed(decision: RoutingDecision, call: Call) -> Routed:
    return Routed(
        targets=tuple(target.name for target in decision.targets),
        sender=decision.sender_id or "",
        task_type=decision.profile.task_type,
        complexity=decision.profile.complexity,
        tier=decision.tier,
        reason=decision.reason,
        call_id=call.id,
        turn_id=call.turn_id,
    )


def _round_ended(decision: RoutingDecision, outcome: ResponseOutcome, call: Call) -> RoundEnded:
    usage = outcome.usage
    return RoundEnded(
        ending=outcome.ending,
        sender=decision.sender_id or "",
        answered_by=outcome.answered_by,
        latency=outcome.latency,
        input_tokens=None if usage is None else usage.input_tokens,
        output_tokens=None if usage is None else usage.output_tokens,
        cost=outcome.cost,
        error=outcome.error,
        call_id=call.id,
        turn_id=call.turn_id,
    )
