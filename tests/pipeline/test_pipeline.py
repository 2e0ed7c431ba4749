"""The six stages together, end to end with scripted models."""

from __future__ import annotations

import attrs
import pytest
import trio

from clawft_trio.auth import ADMIN, USER, AuthContext
from clawft_trio.chat import Call, ChatRequest, ChatResponse, Message, TextDelta
from clawft_trio.errors import (
    AllProvidersExhausted,
    BudgetExceeded,
    ContextLengthExceeded,
    PermissionDenied,
    RateLimitExceeded,
    ServerError,
)
from clawft_trio.observe import Noted, Recorder, RoundEnded, Routed
from clawft_trio.pipeline import (
    Admission,
    Allowance,
    KeywordClassifier,
    OneProvider,
    Pipeline,
    PipelineRegistry,
    RateLimiter,
    ResponseOutcome,
    RoutingDecision,
    StaticRouter,
    Target,
    TaskProfile,
    TrajectoryLearner,
    open_targets,
)
from clawft_trio.testing import Fail, Finish, Say, ScriptedProvider, Wait

ANA = AuthContext(channel="telegram", sender_id="ana", permissions=USER)


def ask(text: str = "What do I wear in Oslo?", **kwargs) -> ChatRequest:
    return ChatRequest([Message.user(text)], **{"auth": ANA, **kwargs})


@attrs.define
class Watching:
    """A router that tells what it is told."""

    models: tuple[str, ...] = ("fake/one", "fake/two")
    outcomes: list[ResponseOutcome] = attrs.field(factory=list)

    async def route(self, request: ChatRequest, profile: TaskProfile, allowance: Allowance) -> RoutingDecision:
        return await StaticRouter(self.models).route(request, profile, allowance)

    def update(self, decision: RoutingDecision, outcome: ResponseOutcome) -> None:
        self.outcomes.append(outcome)


class ByModel:
    """A transport with one scripted provider per target."""

    def __init__(self, **providers: ScriptedProvider) -> None:
        self.providers = providers

    def reach(self, target: Target) -> ScriptedProvider:
        return self.providers[target.model]


def scripted(*scripts, model: str) -> ScriptedProvider:
    return ScriptedProvider(*scripts, name="fake", model=model)


async def test_a_request_is_answered_and_everybody_is_told() -> None:
    router, learner, seen = Watching(), TrajectoryLearner(), Recorder()
    shown: list[object] = []

    async def emit(event: object) -> None:
        shown.append(event)

    call = Call(emit=emit, id="c1", turn_id="t1", notify=seen)
    one = scripted([Say("A coat."), Finish()], model="one")
    pipeline = Pipeline(router=router, transport=ByModel(one=one), learner=learner)
    request = ask()
    decision = await pipeline.route(request, call)
    response = await pipeline.complete(request, call, decision)

    assert response.text == "A coat."
    assert shown == [TextDelta("A coat.")]
    assert decision.sender_id == "telegram:ana"
    (outcome,) = router.outcomes
    assert (outcome.success, outcome.ending, outcome.answered_by) == (True, "ok", "fake/one")
    assert outcome.quality is not None and outcome.quality.overall > 0.8
    (trajectory,) = learner.trajectories
    assert (trajectory.call_id, trajectory.sender_id, trajectory.ending) == ("c1", "telegram:ana", "ok")
    (routed,) = seen.of(Routed)
    assert (routed.targets, routed.turn_id) == (("fake/one", "fake/two"), "t1")
    (ended,) = seen.of(RoundEnded)
    assert (ended.ending, ended.sender) == ("ok", "telegram:ana")


async def test_the_second_target_answers_with_its_own_model_when_the_first_fails() -> None:
    router = Watching()
    one = scripted([Fail(ServerError("down"))], model="one")
    two = scripted([Say("A coat."), Finish()], model="two")
    pipeline = Pipeline(router=router, transport=ByModel(one=one, two=two))
    decision = await pipeline.route(ask())
    response = await pipeline.complete(ask(), Call(), decision)
    assert response.text == "A coat."
    assert two.requests[0].model == "two"
    (outcome,) = router.outcomes
    assert outcome.answered_by == "fake/two"
    assert [record.outcome for record in outcome.attempts] == ["failed", "ok"]


async def test_a_failure_is_reported_as_one() -> None:
    router, learner = Watching(), TrajectoryLearner()
    down = ByModel(
        one=scripted([Fail(ServerError("down"))], model="one"), two=scripted([Fail(ServerError("down"))], model="two")
    )
    pipeline = Pipeline(router=router, transport=down, learner=learner)
    with pytest.raises(AllProvidersExhausted):
        await pipeline.complete(ask(), Call(id="c"), await pipeline.route(ask()))
    (outcome,) = router.outcomes
    assert not outcome.success
    assert isinstance(outcome.error, AllProvidersExhausted)
    assert len(outcome.attempts) == 2
    assert learner.trajectories[0].error == "AllProvidersExhausted"
    assert learner.poor() == learner.trajectories


async def test_a_cancelled_round_is_nobodys_failure(autojump_clock: trio.testing.MockClock) -> None:
    router = Watching()
    pipeline = Pipeline(router=router, transport=ByModel(one=scripted([Wait(60), Finish()], model="one")))
    decision = await pipeline.route(ask())
    with trio.move_on_after(2):
        await pipeline.complete(ask(), Call(), decision)
    (outcome,) = router.outcomes
    assert (outcome.ending, outcome.error, outcome.latency_ms) == ("cancelled", None, 2000)


async def test_a_decision_is_of_no_use_to_somebody_else() -> None:
    pipeline = Pipeline(router=Watching(), transport=ByModel())
    decision = await pipeline.route(ask())
    bob = AuthContext(channel="telegram", sender_id="bob", permissions=ADMIN)
    with pytest.raises(PermissionDenied):
        await pipeline.complete(ask(auth=bob), Call(), decision)


async def test_every_round_has_the_rights_that_were_routed() -> None:
    one = scripted([Say("ok"), Finish()], model="one")
    pipeline = Pipeline(router=Watching(("fake/one",)), transport=ByModel(one=one))
    stranger = AuthContext(channel="telegram", sender_id="ana")
    decision = await pipeline.route(ask(auth=stranger))
    await pipeline.complete(ask(max_tokens=100_000), Call(), decision)
    assert one.requests[0].max_tokens == 1024
    assert one.requests[0].stream is False
