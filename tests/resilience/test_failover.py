from __future__ import annotations

import attrs
import pytest
import trio

from clawft_trio.chat import Call, ChatRequest, ChatResponse, Message, TextDelta, Usage, UsageReport
from clawft_trio.errors import (
    AllProvidersExhausted,
    AuthFailed,
    CircuitOpen,
    ContentFiltered,
    ContextLengthExceeded,
    ModelNotFound,
    RateLimited,
    ServerError,
)
from clawft_trio.observe import FailedOver, HedgeStarted, Recorder
from clawft_trio.resilience import (
    CircuitBreaker,
    Failover,
    Hedge,
    Hold,
    Resilient,
    Retry,
    RetryBudget,
    compose,
    resilient_chain,
)
from clawft_trio.testing.screen import Screen
from clawft_trio.testing.script import Fail, Finish, Hang, Report, Say, Wait
from clawft_trio.testing.scripted import ScriptedProvider

REQUEST = ChatRequest([Message.user("hello")])


def down(name: str, error: Exception | None = None) -> ScriptedProvider:
    return ScriptedProvider([Fail(error or ServerError("down", provider=name))], name=name)


def well(name: str, text: str = "hello") -> ScriptedProvider:
    return ScriptedProvider.saying(text, name=name)


async def ask(provider: object, **kwargs: object) -> tuple[ChatResponse, Screen, float]:
    screen, started = Screen(), trio.current_time()
    response = await provider.complete(REQUEST, Call(emit=screen.emit, **kwargs))
    screen.check(response)
    return response, screen, trio.current_time() - started


async def test_the_first_that_answers_answers(autojump_clock: trio.testing.MockClock) -> None:
    a, b, c = down("a"), well("b"), well("c")
    response, _, took = await ask(Failover(a, b, c))
    assert (response.provider, took, a.calls, b.calls, c.calls) == ("b", 0.0, 1, 1, 0)
    assert [(record.target, record.outcome) for record in response.attempts] == [("a", "failed"), ("b", "ok")]


async def test_what_the_first_had_shown_is_taken_back(autojump_clock: trio.testing.MockClock) -> None:
    a = ScriptedProvider([Say("one "), Say("two"), Fail(ServerError("down"))], name="a")
    seen = Recorder()
    response, screen, _ = await ask(Failover(a, well("b")), observer=seen)
    assert [reset.discarded.text for reset in screen.resets] == ["one two"]
    assert response.text == "hello"
    assert [(event.failed, event.target) for event in seen.of(FailedOver)] == [("a", "b")]


@pytest.mark.parametrize("deltas", [3, 300, 30_000])
async def test_after_any_number_of_deltas_exactly_the_seconds_text_remains(deltas: int) -> None:
    a = ScriptedProvider([*(Say("x") for _ in range(deltas)), Fail(ServerError("down"))], name="a")
    response, screen, _ = await ask(Failover(a, well("b")))
    assert response.text == "hello"
    assert len(screen.resets[0].discarded.text) == deltas


async def test_when_nobody_can_every_error_is_in_the_cause() -> None:
    errors = [ServerError("down", retry_after=9.0), RateLimited("slow", retry_after=4.0), AuthFailed("revoked")]
    chain = Failover(*(down(name, error) for name, error in zip("abc", errors, strict=True)))
    with pytest.raises(AllProvidersExhausted) as caught:
        await ask(chain)
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    assert [type(exc) for exc in caught.value.__cause__.exceptions] == [ServerError, RateLimited, AuthFailed]
    assert caught.value.retry_after == 4.0
    assert len(caught.value.attempts) == 3


async def test_a_single_target_raises_its_own_error() -> None:
    with pytest.raises(AuthFailed):
        await ask(Failover(down("a", AuthFailed("revoked"))))


async def test_what_nobody_else_can_cure_is_raised_at_once() -> None:
    b = well("b")
    with pytest.raises(ContentFiltered):
        await ask(Failover(down("a", ContentFiltered("no")), b))
    assert b.calls == 0


async def test_what_is_not_an_error_of_a_model_is_not_failed_over() -> None:
    b = well("b")
    with pytest.raises(ZeroDivisionError):
        await ask(Failover(down("a", ZeroDivisionError()), b))
    assert b.calls == 0


async def test_a_request_too_long_is_not_sent_where_the_window_is_known_to_be_no_larger() -> None:
    a, b, c, d = down("a", ContextLengthExceeded("long")), well("b"), well("c"), well("d")
    chain = Failover(a, b, c, d, windows={"a": 8000, "b": 8000, "c": 32_000})
    response, _, _ = await ask(chain)
    assert (response.provider, b.calls) == ("c", 0)
    unknown = Failover(a, d, windows={"a": 8000})
    assert (await ask(unknown))[0].provider == "d"
    with pytest.raises(AllProvidersExhausted):
        await ask(Failover(a, b, windows={"a": 8000, "b": 4000}))


async def test_an_open_circuit_costs_nothing(autojump_clock: trio.testing.MockClock) -> None:
    a = down("a")
    broken = Resilient(a, CircuitBreaker(minimum_calls=1, open_for=10))
    chain = Failover(broken, well("b"), budget=RetryBudget(capacity=1, ratio=0, per_second=0))
    for _ in range(5):
        assert (await ask(chain))[0].provider == "b"
    assert a.calls == 1  # and only the one real failure took from the budget


async def test_all_open_the_first_probe_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    back_soon = ScriptedProvider([Fail(ServerError("down"))], [Say("back"), Finish()], name="b")
    chain = Failover(
        Resilient(down("a"), CircuitBreaker(minimum_calls=1, open_for=20)),
        Resilient(back_soon, CircuitBreaker(minimum_calls=1, open_for=8)),
    )
    with pytest.raises(AllProvidersExhausted):
        await ask(chain)
    response, _, took = await ask(chain)
    assert (response.provider, took) == ("b", 8.0)


async def test_all_open_and_no_time_it_says_when(autojump_clock: trio.testing.MockClock) -> None:
    chain = Failover(
        Resilient(down("a"), CircuitBreaker(minimum_calls=1, open_for=20)),
        Resilient(down("b"), CircuitBreaker(minimum_calls=1, open_for=8)),
    )
    for deadline in (1000.0, 5.0):
        started = trio.current_time()
        with trio.fail_after(deadline), pytest.raises(AllProvidersExhausted) as caught:
            await ask(chain)
        assert trio.current_time() == started
    assert caught.value.retry_after == 8.0
    assert all(isinstance(exc, CircuitOpen) for exc in caught.value.__cause__.exceptions)


async def test_a_chain_that_waits_for_probes_gives_up_in_the_end(autojump_clock: trio.testing.MockClock) -> None:
    chain = Failover(Resilient(down("a"), CircuitBreaker(minimum_calls=1, open_for=20)), longest_wait=19.0)
    with pytest.raises(ServerError):
        await ask(chain)
    with pytest.raises(CircuitOpen):
        await ask(chain)
    assert trio.current_time() == 0.0


async def test_a_target_that_the_call_has_not_asked_needs_no_budget(autojump_clock: trio.testing.MockClock) -> None:
    budget = RetryBudget(capacity=0, ratio=0, per_second=0)
    assert (await ask(Failover(down("a"), down("b"), well("c"), budget=budget)))[0].provider == "c"
    assert (budget.statistics().spent, budget.statistics("c").calls) == (0, 1)


async def test_the_next_starts_beside_a_slow_one_and_the_first_content_wins(
    autojump_clock: trio.testing.MockClock,
) -> None:
    slow = ScriptedProvider([Wait(30), Say("slow"), Finish()], name="a")
    quick = ScriptedProvider([Wait(1), Say("quick"), Finish()], name="b")
    seen = Recorder()
    response, screen, took = await ask(Failover(slow, quick, hedge_after=10), observer=seen)
    assert (response.text, took, screen.resets) == ("quick", 11.0, [])
    # In the same tick, so in either order.
    ended = {(record.target, record.outcome, record.why) for record in response.attempts}
    assert ended == {("a", "cancelled", "hedge lost"), ("b", "ok", "")}
    assert [(event.slow, event.target) for event in seen.of(HedgeStarted)] == [("a", "b")]
    assert slow.running == 0


async def test_a_slow_one_that_speaks_first_after_all_wins(autojump_clock: trio.testing.MockClock) -> None:
    slow = ScriptedProvider([Wait(11), Say("slow"), Finish()], name="a")
    other = ScriptedProvider([Wait(5), Say("other"), Finish()], name="b")
    response, _, took = await ask(Failover(slow, other, hedge_after=10))
    assert (response.text, took, other.running) == ("slow", 11.0, 0)


async def test_a_quick_one_is_not_hedged(autojump_clock: trio.testing.MockClock) -> None:
    b = well("b")
    response, _, took = await ask(
        Failover(ScriptedProvider([Say("a"), Wait(60), Finish()], name="a"), b, hedge_after=10)
    )
    assert (response.text, took, b.calls) == ("a", 60.0, 0)


async def test_a_failure_before_the_hedge_moves_on_at_once(autojump_clock: trio.testing.MockClock) -> None:
    response, _, took = await ask(Failover(down("a"), well("b"), hedge_after=10))
    assert (response.provider, took) == ("b", 0.0)


async def test_a_winner_that_breaks_is_taken_back_and_the_rest_goes_on(autojump_clock: trio.testing.MockClock) -> None:
    slow = ScriptedProvider([Hang()], name="a")
    breaks = ScriptedProvider([Say("half"), Wait(1), Fail(ServerError("down"))], name="b")
    response, screen, took = await ask(Failover(slow, breaks, well("c"), hedge_after=10))
    assert (response.provider, took) == ("c", 11.0)
    assert [reset.discarded.text for reset in screen.resets] == ["half"]


async def test_everybody_slow_everybody_is_asked(autojump_clock: trio.testing.MockClock) -> None:
    providers = [ScriptedProvider([Wait(25), Say(name), Finish()], name=name) for name in "abc"]
    response, _, took = await ask(Failover(*providers, hedge_after=10))
    assert (response.text, took) == ("a", 25.0)
    assert [provider.calls for provider in providers] == [1, 1, 1]


async def test_usage_before_content_decides_nothing_and_is_told_of_the_winner_only(
    autojump_clock: trio.testing.MockClock,
) -> None:
    a = ScriptedProvider([Report(Usage(input_tokens=1)), Wait(30), Say("a"), Finish()], name="a")
    b = ScriptedProvider([Report(Usage(input_tokens=2)), Wait(1), Say("b"), Finish()], name="b")
    events: list[object] = []

    async def emit(event: object) -> None:
        events.append(event)

    await Failover(a, b, hedge_after=10).complete(REQUEST, Call(emit=emit))
    assert events[:2] == [UsageReport(Usage(input_tokens=2)), TextDelta("b")]
    assert UsageReport(Usage(input_tokens=1)) not in events


async def test_after_the_winners_first_word_nothing_of_a_loser_is_shown(autojump_clock: trio.testing.MockClock) -> None:
    class Stubborn:
        """Talks on without ever reaching a checkpoint at which it could be cancelled."""

        name = "stubborn"

        async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
            await trio.sleep(12)
            for _ in range(3):
                await call.emit(TextDelta("noise"))
            return ChatResponse(content="noise" * 3)

    quick = ScriptedProvider([Wait(2), Say("quick"), Finish()], name="b")
    response, screen, _ = await ask(Failover(Stubborn(), quick, hedge_after=10))
    # Both speak at 12 s, in either order: one of them is shown, whole, and the other not at all.
    assert screen.text == response.text
    assert screen.text in {"quick", "noisenoisenoise"}


async def test_a_hedge_takes_from_the_budget(autojump_clock: trio.testing.MockClock) -> None:
    slow = ScriptedProvider([Wait(20), Say("slow"), Finish()], name="a")
    b = well("b")
    response, _, took = await ask(
        Failover(slow, b, hedge_after=10, budget=RetryBudget(capacity=0, ratio=0, per_second=0))
    )
    assert (response.text, took, b.calls) == ("slow", 20.0, 0)


async def test_a_hedge_that_cannot_be_paid_leaves_its_target_for_later(autojump_clock: trio.testing.MockClock) -> None:
    slow = ScriptedProvider([Wait(20), Fail(ServerError("down"))], name="a")
    budget = RetryBudget(capacity=1, ratio=0, per_second=0.06)
    assert budget.withdraw("a")
    response, _, took = await ask(Failover(slow, well("b"), hedge_after=10, budget=budget))
    assert (response.provider, took) == ("b", 20.0)


async def test_the_same_target_can_be_hedged(autojump_clock: trio.testing.MockClock) -> None:
    sometimes = ScriptedProvider([Wait(60), Say("late"), Finish()], [Wait(1), Say("soon"), Finish()])
    response, _, took = await ask(Resilient(sometimes, Hedge(after=2.0)))
    assert (response.text, took, sometimes.calls, sometimes.running) == ("soon", 3.0, 2, 0)


async def test_when_all_hedges_fail_the_last_error_is_raised(autojump_clock: trio.testing.MockClock) -> None:
    failing = ScriptedProvider([Wait(5), Fail(ServerError("first"))], [Wait(1), Fail(ServerError("second"))])
    with pytest.raises(ServerError) as caught:
        await ask(Resilient(failing, Hedge(after=2.0)))
    assert (caught.value.message, trio.current_time()) == ("first", 5.0)


async def test_a_hedged_function_needs_no_stream(autojump_clock: trio.testing.MockClock) -> None:
    waits = iter([60.0, 1.0])

    @Hedge(after=2.0)
    async def fetch() -> float:
        wait = next(waits)
        await trio.sleep(wait)
        return wait

    assert await fetch() == 1.0
    assert trio.current_time() == 3.0


async def test_the_chain_has_a_total(autojump_clock: trio.testing.MockClock) -> None:
    hang = ScriptedProvider([Hang()])
    with pytest.raises(Exception) as caught:
        await ask(resilient_chain(hang, first_content=None, gap=None, total=30.0))
    assert caught.value.clock == "total"
    assert trio.current_time() == 30.0


async def test_one_policy_serves_several_targets_each_with_a_breaker_of_its_own(
    autojump_clock: trio.testing.MockClock,
) -> None:
    policy = compose(Retry(max_retries=0), CircuitBreaker(minimum_calls=1))
    a, b = Resilient(down("a"), policy), Resilient(well("b"), policy)
    with pytest.raises(ServerError):
        await ask(a)
    with pytest.raises(CircuitOpen):
        await ask(a)
    assert (await ask(b))[0].provider == "b"


async def test_a_target_answers_under_its_own_model_name() -> None:
    a, b = down("a"), well("b")
    chain = Failover(Resilient(a, Retry(max_retries=0), model="large"), Resilient(b, Retry(), model="small"))
    response, _, _ = await ask(chain)
    assert [a.requests[0].model, b.requests[0].model] == ["large", "small"]
    assert [record.target for record in response.attempts] == ["a/large", "b/small"]


async def test_a_provider_that_keeps_no_record_gets_one() -> None:
    class Plain:
        name = "plain"

        async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
            await trio.lowlevel.checkpoint()
            return ChatResponse(content="hello")

    call = Call()
    response = await Failover(Resilient(Plain(), Retry())).complete(REQUEST, call)
    assert [(record.target, record.outcome) for record in response.attempts] == [("plain", "ok")]


async def test_a_held_answer_is_not_taken_for_silence(autojump_clock: trio.testing.MockClock) -> None:
    long = ScriptedProvider([*(step for _ in range(20) for step in (Say("word "), Wait(2))), Finish()], name="a")
    b = well("b")
    response, screen, took = await ask(resilient_chain(long, b, delivery=Hold()))
    assert (response.provider, took, b.calls, screen.resets) == ("a", 40.0, 0, [])
    broken = ScriptedProvider([Say("half"), Fail(ServerError("down", retryable=False))], name="c")
    response, screen, _ = await ask(resilient_chain(broken, b, delivery=Hold()))
    assert (response.provider, screen.resets) == ("b", [])


def test_the_silence_before_a_hedge_is_one_number_or_a_targets_own() -> None:
    def chosen(hedge_after: object) -> list[float | None]:
        chain = Failover(well("a"), well("b"), hedge_after=hedge_after, name="mine")
        assert chain.name == "mine"
        return [chain.hedge_after_of(name) for name in ("a", "b")]

    assert chosen(None) == [None, None]
    assert chosen(3.0) == [3.0, 3.0]
    assert chosen({"a": 2.0}) == [2.0, None]
    assert chosen({"a": 2.0}.get) == [2.0, None]
    assert chosen(lambda name: 1.0 if name == "b" else 5.0) == [5.0, 1.0]


async def test_an_empty_answer_of_any_provider_is_answered_by_the_next() -> None:
    class Empty:
        name = "a"

        async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
            return ChatResponse(content="")

    assert (await ask(Failover(Empty(), well("b"))))[0].provider == "b"


async def test_a_chain_may_be_a_target_of_a_chain() -> None:
    inner = Failover(down("a"), down("b"))
    response, _, _ = await ask(Failover(inner, well("c")))
    assert response.provider == "c"
    assert [record.outcome for record in response.attempts] == ["failed", "failed", "ok"]


@pytest.mark.parametrize(("stream", "answers", "asked"), [(True, "soon", 1), (False, "late", 0)])
async def test_an_answer_that_comes_whole_is_not_hedged(
    stream: bool, answers: str, asked: int, autojump_clock: trio.testing.MockClock
) -> None:
    slow, backup = ScriptedProvider([Wait(20), Say("late"), Finish()], name="a"), well("b", "soon")
    chain = Failover(slow, backup, hedge_after=1.0)
    response = await chain.complete(attrs.evolve(REQUEST, stream=stream), Call())
    assert (response.text, backup.calls) == (answers, asked)


async def test_in_a_race_what_nobody_else_can_cure_stops_further_starts(
    autojump_clock: trio.testing.MockClock,
) -> None:
    refused = ScriptedProvider([Wait(5), Fail(ContentFiltered("no"))], name="a")
    other, third = ScriptedProvider([Wait(8), Fail(ServerError("down"))], name="b"), well("c")
    with pytest.raises(ContentFiltered):
        await ask(Failover(refused, other, third, hedge_after=4.0))
    # The race that had begun goes on to its end.
    assert (trio.current_time(), other.calls, third.calls) == (12.0, 1, 0)


@pytest.mark.parametrize("outer", [False, True])
async def test_each_target_knows_whether_another_is_available(outer: bool) -> None:
    seen: list[tuple[str, bool, float | None]] = []

    class Asked:
        def __init__(self, name: str) -> None:
            self.name = name

        async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
            seen.append((self.name, call.elsewhere, call.elsewhere_after))
            raise ServerError("down")

    with pytest.raises(AllProvidersExhausted):
        chain = Failover(Asked("a"), Asked("b"), hedge_after={"a": 3.0, "b": 4.0})
        await chain.complete(REQUEST, Call(elsewhere=outer, elsewhere_after=9.0))
    assert seen == [("a", True, 3.0), ("b", outer, 9.0)]


async def test_after_a_probe_only_targets_that_may_be_well_are_asked_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    opening = [Fail(CircuitOpen("open", retry_after=5.0))]
    first = ScriptedProvider(opening, opening, [Say("back"), Finish()], name="a")
    missing, busy = down("b", ModelNotFound("none")), down("c")
    response, _, took = await ask(Failover(first, missing, busy))
    assert (response.text, took) == ("back", 10.0)
    assert (first.calls, missing.calls, busy.calls) == (3, 1, 2)


async def test_a_target_that_a_race_cancelled_is_asked_again_when_its_winner_fails(
    autojump_clock: trio.testing.MockClock,
) -> None:
    slow = ScriptedProvider([Hang()], [Say("back"), Finish()], name="a")
    breaks = ScriptedProvider([Say("bad"), Fail(ServerError("down"))], name="b")
    response, screen, _ = await ask(Failover(slow, breaks, hedge_after=1.0))
    assert (response.text, slow.calls, breaks.calls, len(screen.resets)) == ("back", 2, 1, 1)


async def test_without_a_token_no_target_is_asked_twice(autojump_clock: trio.testing.MockClock) -> None:
    opening = ScriptedProvider([Fail(CircuitOpen("open", retry_after=5.0))], name="a")
    failing = down("b")
    with pytest.raises(AllProvidersExhausted):
        await ask(Failover(opening, failing, budget=RetryBudget(capacity=0, ratio=0, per_second=0), longest_wait=8.0))
    assert failing.calls == 1


@pytest.mark.parametrize(("own", "shared", "retried"), [(None, 0, False), (None, 5, True), (5, 0, True), (0, 5, False)])
async def test_retries_of_a_chain_take_from_their_own_budget_or_else_from_the_chains(
    own: int | None, shared: int, retried: bool, autojump_clock: trio.testing.MockClock
) -> None:
    def holding(capacity: int) -> RetryBudget:
        return RetryBudget(capacity=capacity, ratio=0, per_second=0)

    model = ScriptedProvider([Fail(ServerError("down"))], [Say("back"), Finish()])
    retry = Retry(first_wait=0.0, budget=None if own is None else holding(own))
    chain = resilient_chain(model, retry=retry, budget=holding(shared))
    if retried:
        assert (await ask(chain))[0].text == "back"
    else:
        with pytest.raises(ServerError):
            await ask(chain)
    assert model.calls == 1 + retried
