"""How long a round took: exact under a mock clock, on success and failure, whatever strategies were at work."""

from __future__ import annotations

from functools import partial

import attrs
import pytest
import trio
from hypothesis import given, settings, strategies as st

from clawft_trio.attempts import Latency, Usage, record_attempt
from clawft_trio.auth import USER, AuthContext
from clawft_trio.chat import Call, ChatRequest, ChatResponse, Message
from clawft_trio.errors import AllProvidersExhausted, ConsumerLeft, ServerError
from clawft_trio.pipeline import Pipeline, ResponseOutcome, StaticRouter, Target
from clawft_trio.resilience.failover import Failover
from clawft_trio.resilience.resilient import Resilient
from clawft_trio.resilience.retry import Retry
from clawft_trio.resilience.strategy import compose
from clawft_trio.testing import Fail, Finish, Hang, Say, ScriptedProvider, Wait
from clawft_trio.testing.machine import in_mock_time
from clawft_trio.testing.script import CallTool, Report, Think

REQUEST = ChatRequest([Message.user("hi")], auth=AuthContext(channel="telegram", sender_id="ana", permissions=USER))
USAGE = Usage(input_tokens=10, output_tokens=30)
DOWN = Fail(ServerError("down"))


class Noting(StaticRouter):
    """A static router that keeps what it is told."""

    def __init__(self, *models: str) -> None:
        super().__init__(models)
        self.outcomes: list[ResponseOutcome] = []

    def update(self, decision, outcome) -> None:
        self.outcomes.append(outcome)
        super().update(decision, outcome)


@attrs.define
class Outcome:
    """What came of a round: for its caller and for the router."""

    told: ResponseOutcome
    response: ChatResponse | None = None
    error: BaseException | None = None


async def play(*scripts, wrap=None, chain=Failover, emit=None, start: float = 7.0) -> Outcome:
    """One round with a scripted target per argument; each argument is the scripts of its attempts."""
    await trio.sleep(start)  # whatever the clock says at the start must not matter
    names = [f"fake/{n}" for n in range(len(scripts))]
    providers = {str(n): ScriptedProvider(*attempts, name="fake", model=str(n)) for n, attempts in enumerate(scripts)}

    class ByModel:
        def reach(self, target: Target):
            provider = providers[target.model]
            return wrap(provider) if wrap else provider

    router = Noting(*names)
    pipeline = Pipeline(router=router, transport=ByModel(), chain=chain)
    decision = await pipeline.route(REQUEST)
    call = Call() if emit is None else Call(emit=emit)
    response = error = None
    try:
        with trio.move_on_after(1000):
            response = await pipeline.complete(REQUEST, call, decision)
    except (Exception, ConsumerLeft) as exc:
        error = exc
    (told,) = router.outcomes
    return Outcome(told, response, error)


def retrying(provider) -> Resilient:
    return Resilient(provider, compose(Retry(max_retries=2, first_wait=10, uniform=lambda low, high: high)))


async def test_an_answer(autojump_clock) -> None:
    outcome = await play([[Wait(2), Say("Hel"), Wait(3), Say("lo."), Wait(1), Finish(usage=USAGE)]])
    assert outcome.response.latency == outcome.told.latency
    assert outcome.told.latency == Latency(total=6.0, first_byte=2.0, first_content=2.0)
    assert (outcome.told.latency_ms, outcome.told.success, outcome.told.answered_by) == (6000.0, True, "fake/0")
    assert outcome.told.tokens_per_second == 30 / 4
    assert [record.latency for record in outcome.told.attempts] == [outcome.told.latency]


@pytest.mark.parametrize("first", [Say("x"), Think("hm"), CallTool("look")], ids=["text", "reasoning", "tool call"])
async def test_first_content_is_the_first_of_anything(first, autojump_clock) -> None:
    outcome = await play([[Wait(2), first, Wait(3), Finish()]])
    assert outcome.told.latency.first_content == 2.0


async def test_an_answer_at_once_took_no_time_and_has_no_rate(autojump_clock) -> None:
    outcome = await play([[Say("x"), Finish(usage=USAGE)]])
    assert outcome.told.latency == Latency(total=0.0, first_byte=0.0, first_content=0.0)
    assert outcome.told.tokens_per_second is None


async def test_a_failure_is_measured_like_a_success(autojump_clock) -> None:
    outcome = await play([[Wait(4), DOWN]])
    assert isinstance(outcome.error, ServerError)
    assert (outcome.told.success, outcome.told.ending, outcome.told.error) == (False, "failed", outcome.error)
    assert outcome.told.latency == Latency(total=4.0)
    assert (outcome.told.answered_by, outcome.told.latency_ms) == ("", 4000.0)


async def test_a_failure_after_content_says_when_that_was(autojump_clock) -> None:
    outcome = await play([[Wait(1), Say("x"), Wait(4), DOWN]])
    assert outcome.told.latency == Latency(total=5.0, first_byte=1.0, first_content=1.0)


async def test_what_a_failed_attempt_had_used_is_told(autojump_clock) -> None:
    outcome = await play([[Say("x"), Report(USAGE), Wait(1), DOWN]])
    assert (outcome.told.success, outcome.told.usage, outcome.told.cost) == (False, USAGE, None)


async def test_retries_and_their_waits_are_part_of_the_round_and_not_of_an_attempt(autojump_clock) -> None:
    outcome = await play(
        [[Wait(1), Say("x"), DOWN], [Wait(2), DOWN], [Wait(3), Say("y"), Wait(4), Finish()]], wrap=retrying
    )
    # 1, wait 10, 2, wait 20, 3 to the first content that stayed, 4
    assert outcome.told.latency == Latency(total=40.0, first_byte=36.0, first_content=36.0)
    assert [record.latency.total for record in outcome.told.attempts] == [1.0, 2.0, 7.0]
    assert [record.outcome for record in outcome.told.attempts] == ["failed", "failed", "ok"]


async def test_failover_is_measured_from_the_start_and_attributed_to_who_answered(autojump_clock) -> None:
    outcome = await play(
        [[Wait(1), Say("half"), Wait(1), DOWN]],
        [[Wait(3), Say("whole"), Wait(2), Finish(usage=USAGE)]],
    )
    assert outcome.told.latency == Latency(total=7.0, first_byte=5.0, first_content=5.0)
    assert outcome.told.answered_by == "fake/1"
    assert outcome.told.tokens_per_second == 30 / 2
    assert [(r.target, r.latency.total) for r in outcome.told.attempts] == [("fake/0", 2.0), ("fake/1", 5.0)]


async def test_nobody_answering_is_measured_to_the_last(autojump_clock) -> None:
    outcome = await play([[Wait(1), DOWN]], [[Wait(3), DOWN]])
    assert isinstance(outcome.error, AllProvidersExhausted)
    assert outcome.told.latency == Latency(total=4.0)
    assert len(outcome.told.attempts) == 2


async def test_a_hedge_is_measured_from_the_start_and_attributed_to_its_winner(autojump_clock) -> None:
    outcome = await play(
        [[Wait(60), Say("slow"), Finish()]],
        [[Wait(2), Say("fast"), Wait(1), Finish()]],
        chain=partial(Failover, hedge_after=5),
    )
    assert outcome.response.text == "fast"
    assert outcome.told.latency == Latency(total=8.0, first_byte=7.0, first_content=7.0)
    assert outcome.told.answered_by == "fake/1"
    by_target = {record.target: record for record in outcome.told.attempts}
    assert (by_target["fake/0"].outcome, by_target["fake/0"].latency.total) == ("cancelled", 7.0)
    assert (by_target["fake/1"].outcome, by_target["fake/1"].latency.total) == ("ok", 3.0)


async def test_the_slow_one_may_win_its_hedge(autojump_clock) -> None:
    outcome = await play([[Wait(6), Say("slow"), Finish()]], [[Hang()]], chain=partial(Failover, hedge_after=5))
    assert outcome.told.latency == Latency(total=6.0, first_byte=6.0, first_content=6.0)
    assert outcome.told.answered_by == "fake/0"


async def test_the_consumers_time_is_told_apart_from_the_models(autojump_clock) -> None:
    async def slow(event: object) -> None:
        await trio.sleep(10)

    outcome = await play([[Wait(2), Say("a"), Wait(1), Say("b"), Wait(1), Finish(usage=USAGE)]], emit=slow)
    assert outcome.told.latency.first_content == 2.0
    shown = 3  # two deltas and the usage report
    assert outcome.told.consumer_time == 10.0 * shown
    assert outcome.told.latency.total == 4.0 + 10.0 * shown
    assert outcome.told.tokens_per_second == 30 / 2


async def test_a_consumer_that_left_is_not_the_models_failure(autojump_clock) -> None:
    async def leave(event: object) -> None:
        raise ConsumerLeft(ValueError("no"))

    outcome = await play([[Wait(2), Say("a"), Finish()]], emit=leave)
    assert isinstance(outcome.error, ConsumerLeft)
    assert (outcome.told.ending, outcome.told.error, outcome.told.answered_by) == ("aborted", None, "fake/0")
    assert outcome.told.latency.total == 2.0


async def test_a_callers_deadline_is_measured_and_is_no_failure(autojump_clock) -> None:
    outcome = await play([[Wait(1), Say("a"), Hang()]])
    assert (outcome.told.ending, outcome.told.success) == ("cancelled", False)
    assert outcome.told.latency == Latency(total=1000.0, first_byte=1.0, first_content=1.0)


class Queueing:
    """A provider that waits for admission and for headers, and says so in its record."""

    name = "fake"
    keeps_records = True

    async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
        with record_attempt(call.log, f"fake/{request.model}") as attempt:
            await trio.sleep(3)
            attempt.admitted = trio.current_time()
            await trio.sleep(1)
            attempt.first_byte = trio.current_time()
            await trio.sleep(1)
        return ChatResponse(content="hi", provider="fake", model=request.model)


async def test_queueing_and_the_first_byte_come_from_the_attempt_that_answered(autojump_clock) -> None:
    class Reach:
        def reach(self, target: Target):
            return Queueing() if target.model == "1" else ScriptedProvider([Wait(2), DOWN], name="fake", model="0")

    router = Noting("fake/0", "fake/1")
    pipeline = Pipeline(router=router, transport=Reach())
    await pipeline.complete(REQUEST, Call(), await pipeline.route(REQUEST))
    assert router.outcomes[0].latency == Latency(total=7.0, queued=3.0, first_byte=6.0)


async def test_rounds_of_one_call_log_are_measured_apart(autojump_clock) -> None:
    router = Noting("fake/0")
    provider = ScriptedProvider([Wait(2), Say("a"), Finish()], [Wait(5), Say("b"), Finish()], name="fake")

    class Reach:
        def reach(self, target: Target):
            return provider

    pipeline = Pipeline(router=router, transport=Reach())
    call = Call()
    decision = await pipeline.route(REQUEST)
    for _ in range(2):
        await pipeline.complete(REQUEST, call, decision)
    assert [outcome.latency_ms for outcome in router.outcomes] == [2000, 5000]
    assert [len(outcome.attempts) for outcome in router.outcomes] == [1, 1]
    assert len(call.log.records) == 2


steps = st.one_of(
    st.floats(0.25, 8).map(lambda seconds: Wait(round(seconds * 4) / 4)), st.just(Say("x")), st.just(DOWN)
)
scripts = st.lists(st.lists(steps, max_size=5).map(lambda some: [*some, Finish()]), min_size=1, max_size=3)


@given(st.lists(scripts, min_size=1, max_size=3), st.booleans(), st.none() | st.sampled_from([1.0, 3.0]))
@settings(deadline=None, max_examples=150)
@in_mock_time
async def test_any_round_is_measured_to_the_tick_and_told_truly(targets, retried, hedge_after) -> None:
    outcome = await play(*targets, wrap=retrying if retried else None, chain=partial(Failover, hedge_after=hedge_after))
    told = outcome.told
    assert told.latency.total == trio.current_time() - 7.0
    assert told.success is (outcome.response is not None)
    assert (told.error is None) is told.success
    assert bool(told.answered_by) is told.success
    if outcome.response is not None:
        assert outcome.response.latency == told.latency
        assert outcome.response.attempts == told.attempts
        assert outcome.response.text == "" or told.latency.first_content is not None
    # Every attempt is on record and lies within the round.
    for record in told.attempts:
        assert 7.0 <= record.started <= record.started + record.latency.total <= trio.current_time()
