"""The six stages together, end to end with scripted models."""

from __future__ import annotations

from decimal import Decimal
from functools import partial

import attrs
import pytest
import trio

from clawft_trio.auth import ADMIN, USER, ZERO_TRUST, AuthContext, UserPermissions
from clawft_trio.chat import Call, ChatRequest, ChatResponse, Message, TextDelta
from clawft_trio.errors import (
    AllProvidersExhausted,
    BudgetExceeded,
    ContextLengthExceeded,
    NotConfigured,
    PermissionDenied,
    RateLimitExceeded,
    ServerError,
)
from clawft_trio.messages import InboundMessage
from clawft_trio.observe import Noted, Recorder, RoundEnded, Routed
from clawft_trio.pipeline import (
    Allowance,
    AssembledContext,
    NoLearner,
    NoScorer,
    OneProvider,
    PermissionResolver,
    PermissionsPolicy,
    Pipeline,
    PipelineRegistry,
    RateLimiter,
    ResponseOutcome,
    RoutingDecision,
    SenderOverrides,
    StaticRouter,
    Target,
    TaskProfile,
    TrajectoryLearner,
    TurnAdmission,
    open_targets,
)
from clawft_trio.resilience.failover import Failover
from clawft_trio.testing import Fail, Finish, Say, ScriptedProvider, Wait, cancel_everywhere

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

    call = Call(emit=emit, id="c1", turn_id="t1", observer=seen)
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


@attrs.define
class Purse:
    """A budget with so much left for everybody."""

    left: str
    asked: list[str] = attrs.field(factory=list)

    async def allowance(self, sender_id: str, permissions: UserPermissions) -> Allowance:
        self.asked.append(sender_id)
        return Allowance(left=Decimal(self.left), spent=Decimal(1), limit=Decimal(1), retry_after=60.0)


async def test_a_turn_counts_once_however_many_rounds_it_has() -> None:
    limiter, purse = RateLimiter(), Purse("10")
    one = scripted([Say("ok"), Finish()], model="one")
    pipeline = Pipeline(
        router=Watching(), transport=ByModel(one=one), admission=TurnAdmission(limiter=limiter, budget=purse)
    )
    decision = await pipeline.route(ask())
    for _ in range(20):
        await pipeline.complete(ask(), Call(), decision)
    assert limiter.statistics().admitted == 1
    assert purse.asked == ["telegram:ana"]


async def test_who_asks_too_often_is_refused_and_not_served_by_somebody_else() -> None:
    one = scripted([Say("ok"), Finish()], model="one")
    pipeline = Pipeline(router=Watching(), transport=ByModel(one=one), admission=TurnAdmission(limiter=RateLimiter()))
    for _ in range(USER.rate_limit):
        await pipeline.route(ask())
    with pytest.raises(RateLimitExceeded) as caught:
        await pipeline.route(ask())
    assert 0 < caught.value.retry_after <= 60
    assert one.calls == 0


async def test_requests_on_nobodys_behalf_share_one_count() -> None:
    pipeline = Pipeline(router=Watching(), transport=ByModel(), admission=TurnAdmission(limiter=RateLimiter()))
    for _ in range(ZERO_TRUST.rate_limit):
        await pipeline.route(ask(auth=None))
    with pytest.raises(RateLimitExceeded):
        await pipeline.route(ask(auth=None))


async def test_a_spent_budget_is_a_refusal_with_the_time_it_ends() -> None:
    pipeline = Pipeline(router=Watching(), transport=ByModel(), admission=TurnAdmission(budget=Purse("0")))
    with pytest.raises(BudgetExceeded) as caught:
        await pipeline.route(ask())
    assert (caught.value.retry_after, caught.value.limit) == (60.0, 1)


async def test_each_target_gets_the_request_as_it_fits_there() -> None:
    small = Target("fake", "one", max_context_tokens=2000)
    large = Target("fake", "two", max_context_tokens=100_000)
    one = scripted([Fail(ServerError("down"))], model="one")
    two = scripted([Say("ok"), Finish()], model="two")
    pipeline = Pipeline(router=StaticRouter([small, large]), transport=ByModel(one=one, two=two))
    request = attrs.evolve(ask(), messages=[Message.user("old " * 3000), Message.assistant("yes"), Message.user("new")])
    await pipeline.complete(request, Call(), await pipeline.route(request))
    assert [len(seen.messages) for provider in (one, two) for seen in provider.requests] == [1, 3]
    assert [seen.max_tokens for provider in (one, two) for seen in provider.requests] == [1000, 4096]


async def test_what_is_too_long_for_one_window_goes_to_a_larger_one_unsent() -> None:
    targets = [
        Target("fake", "one", max_context_tokens=2000),
        Target("fake", "smaller", max_context_tokens=1000),
        Target("fake", "two", max_context_tokens=100_000),
    ]
    two = scripted([Say("ok"), Finish()], model="two")
    pipeline = Pipeline(router=StaticRouter(targets), transport=ByModel(two=two))
    request = ask("long " * 4000)
    response = await pipeline.complete(request, Call(), await pipeline.route(request))
    assert (response.text, [record.target for record in response.attempts]) == ("ok", ["fake/two"])


async def test_what_is_too_long_for_its_sender_goes_to_nobody() -> None:
    pipeline = Pipeline(router=Watching(), transport=ByModel(one=scripted([Finish()], model="one")))
    request = ask("long " * 40_000)
    decision = await pipeline.route(request)
    with pytest.raises(ContextLengthExceeded):
        await pipeline.complete(request, Call(), decision)


async def test_a_target_that_cannot_be_built_costs_nothing_while_another_answers() -> None:
    class Half:
        def reach(self, target: Target) -> ScriptedProvider:
            if target.model == "one":
                raise NotConfigured("FAKE_API_KEY is not set", provider="fake", model="one")
            return scripted([Say("ok"), Finish()], model="two")

    pipeline = Pipeline(router=Watching(), transport=Half())
    response = await pipeline.complete(ask(), Call(), await pipeline.route(ask()))
    assert response.text == "ok"


class Broken:
    """A stage of a user's that always fails."""

    def score(self, request, response):
        raise ZeroDivisionError

    def record(self, request, decision, outcome, call):
        raise ZeroDivisionError

    def feedback(self, about, value):
        raise ZeroDivisionError

    async def route(self, request, profile, allowance):
        return await StaticRouter(["fake/one"]).route(request, profile, allowance)

    def update(self, decision, outcome):
        raise ZeroDivisionError


async def test_an_answer_is_not_lost_to_its_bookkeeping() -> None:
    seen = Recorder()
    one = scripted([Say("ok"), Finish()], model="one")
    pipeline = Pipeline(router=Broken(), transport=ByModel(one=one), scorer=Broken(), learner=Broken())
    response = await pipeline.complete(ask(), Call(observer=seen, id="c"), await pipeline.route(ask()))
    assert response.text == "ok"
    assert [event.what for event in seen.of(Noted)] == [
        "the scorer failed",
        "the router failed",
        "the learner failed",
    ]
    assert seen.of(RoundEnded)[0].ending == "ok"


async def test_nor_is_the_error_that_really_happened() -> None:
    one = scripted([Fail(ServerError("down"))], model="one")
    pipeline = Pipeline(router=Broken(), transport=ByModel(one=one), learner=Broken())
    with pytest.raises(ServerError):
        await pipeline.complete(ask(), Call(), await pipeline.route(ask()))


async def test_any_object_with_the_right_methods_is_a_stage() -> None:
    class Shouting:
        async def assemble(self, request, target, permissions):
            louder = [Message.user(m.text.upper()) for m in request.messages]
            return AssembledContext(request=attrs.evolve(request, messages=louder), token_estimate=1)

    class Always:
        def classify(self, request):
            return TaskProfile("creative", 0.75)

    provider = ScriptedProvider.saying("ok", name="fake")
    pipeline = Pipeline(
        router=StaticRouter(["fake/one"]),
        transport=OneProvider(provider),
        classifier=Always(),
        assembler=Shouting(),
        scorer=NoScorer(),
        learner=NoLearner(),
    )
    decision = await pipeline.route(ask("hello"))
    await pipeline.complete(ask("hello"), Call(), decision)
    assert decision.profile == TaskProfile("creative", 0.75)
    assert provider.requests[0].messages == (Message.user("HELLO"),)


async def test_the_answer_of_one_model_is_attributed_to_the_target_that_was_asked() -> None:
    """Providers answer with dated names of their models; the target is what was asked."""
    router = Watching(("fake/one",))

    class Dated:
        name = "fake"

        async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
            await trio.lowlevel.checkpoint()
            return ChatResponse(content="ok", provider="fake", model="one-2026-08-07")

    pipeline = Pipeline(router=router, transport=OneProvider(Dated()))
    response = await pipeline.complete(ask(), Call(), await pipeline.route(ask()))
    assert response.model == "one-2026-08-07"
    assert router.outcomes[0].answered_by == "fake/one"


async def test_each_task_type_may_have_a_pipeline_of_its_own() -> None:
    chat = scripted([Say("chatting"), Finish()], model="one")
    code = scripted([Say("coding"), Finish()], model="code")
    registry = PipelineRegistry(
        Pipeline(router=Watching(("fake/one",)), transport=ByModel(one=chat)),
        {"code_generation": Pipeline(router=Watching(("fake/code",)), transport=ByModel(code=code))},
    )
    for text, expected in (("hello", "chatting"), ("implement a function", "coding"), ("write a poem", "chatting")):
        request = ask(text)
        decision = await registry.route(request)
        assert (await registry.complete(request, Call(), decision)).text == expected


async def test_limits_are_not_escaped_by_asking_for_another_kind_of_task() -> None:
    limited = TurnAdmission(limiter=RateLimiter(), budget=Purse("10"))
    registry = PipelineRegistry(
        Pipeline(router=Watching(), transport=ByModel(), admission=limited),
        {"code_generation": Pipeline(router=Watching(), transport=ByModel())},
    )
    for _ in range(USER.rate_limit):
        await registry.route(ask("implement a function"))
    with pytest.raises(RateLimitExceeded):
        await registry.route(ask("implement a function"))
    assert len(limited.budget.asked) == USER.rate_limit


async def test_a_turn_stays_in_its_pipeline_whatever_its_later_rounds_look_like() -> None:
    code = scripted([Say("coding"), Finish()], model="code")
    registry = PipelineRegistry(
        Pipeline(router=Watching(("fake/one",)), transport=ByModel()),
        {"code_generation": Pipeline(router=Watching(("fake/code",)), transport=ByModel(code=code))},
    )
    decision = await registry.route(ask("implement a function"))
    assert (await registry.complete(ask("thanks"), Call(), decision)).text == "coding"


async def test_wherever_a_round_is_cancelled_it_is_told_once_and_nothing_is_left() -> None:
    providers: list[ScriptedProvider] = []
    router, learner = Watching(), TrajectoryLearner()
    begun = 0

    async def once() -> None:
        nonlocal begun
        one = scripted([Say("half"), Fail(ServerError("down"))], model="one")
        two = scripted([Say("a"), Wait(0), Say("b"), Finish()], model="two")
        providers[:] = [one, two]
        router.outcomes.clear()
        begun = 0
        pipeline = Pipeline(
            router=router, transport=ByModel(one=one, two=two), learner=learner, chain=partial(Failover, hedge_after=5)
        )
        decision = await pipeline.route(ask())
        begun = 1
        await pipeline.complete(ask(), Call(id="c"), decision)

    async def check() -> None:
        assert [provider.running for provider in providers] == [0] * len(providers)
        assert len(router.outcomes) == begun
        for outcome in router.outcomes:
            assert outcome.ending in {"ok", "cancelled"}

    assert await cancel_everywhere(once, check) > 10


async def test_a_whole_pipeline_over_open_targets() -> None:
    async with open_targets(lambda target: scripted([Say(target.model), Finish()], model=target.model)) as targets:
        pipeline = Pipeline(router=StaticRouter(["fake/one", "fake/two"]), transport=targets)
        response = await pipeline.complete(ask(), Call(), await pipeline.route(ask()))
        assert response.text == "one"
        assert targets.statistics().open == ("fake/one",)


async def test_a_messages_sender_arrives_in_the_request_the_decision_and_the_outcome() -> None:
    """The way of a sender id: message, permissions, request, decision, what is learnt and told."""
    message = InboundMessage(channel="telegram", sender_id="12345", chat_id="7", content="hello")
    resolver = PermissionResolver(PermissionsPolicy(users={"telegram:12345": SenderOverrides(level=1)}))
    learner, seen, purse = TrajectoryLearner(), Recorder(), Purse("10")
    one = scripted([Say("hi"), Finish()], model="one")
    pipeline = Pipeline(
        router=StaticRouter(["fake/one"]),
        transport=ByModel(one=one),
        learner=learner,
        admission=TurnAdmission(budget=purse),
    )
    request = ChatRequest([Message.user(message.content)], auth=resolver.resolve(message.channel, message.sender_id))
    call = Call(id="c", observer=seen)
    decision = await pipeline.route(request, call)
    await pipeline.complete(request, call, decision)
    told = [purse.asked[0], decision.sender_id, one.requests[0].sender_id, learner.trajectories[0].sender_id]
    told += [seen.of(Routed)[0].sender, seen.of(RoundEnded)[0].sender]
    assert told == ["telegram:12345"] * 6
