"""A hedge never makes a result worse, and extra requests are entered once."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio

from clawft_trio.chat import (
    Call,
    ChatRequest,
    ChatResponse,
    LifeSign,
    Message,
    StreamEvent,
    TextDelta,
    Usage,
    UsageReport,
)
from clawft_trio.errors import (
    AllProvidersExhausted,
    BulkheadFull,
    CircuitOpen,
    ContentFiltered,
    NotConfigured,
    ProviderTimeout,
    RateLimited,
    ServerError,
)
from clawft_trio.llm.stream import complete
from clawft_trio.resilience import (
    AdaptiveLimit,
    Bulkhead,
    CircuitBreaker,
    Failover,
    Hedge,
    Resilient,
    Retry,
    RetryBudget,
    compose,
    resilient_chain,
)
from clawft_trio.testing import Screen
from clawft_trio.testing.script import Fail, Finish, Hang, Say, Wait
from clawft_trio.testing.scripted import ScriptedProvider
from clawft_trio.testing.sweep import cancel_everywhere

REQUEST = ChatRequest([Message.user("hello")])
PRIMARY = [Wait(12.0), Say("primary"), Finish()]


@pytest.mark.parametrize(
    "error",
    [ContentFiltered("no"), RuntimeError("bug"), ConnectionError("key"), NotConfigured("no key"), ServerError("down")],
)
@pytest.mark.parametrize("after", [0.0, 1.0])
async def test_a_failing_hedge_leaves_the_primary_to_answer(
    error: Exception, after: float, autojump_clock: trio.testing.MockClock
) -> None:
    hedge = ScriptedProvider([Wait(after), Fail(error)], name="b")
    response = await resilient_chain(ScriptedProvider(PRIMARY, name="a"), hedge).complete(REQUEST, Call())
    assert (response.text, trio.current_time()) == ("primary", 12.0)
    assert hedge.calls >= 1


@pytest.mark.parametrize("error", [RuntimeError("bug"), ServerError("down", retryable=False), ConnectionError("key")])
async def test_a_hedge_that_fails_at_once_lets_the_next_start_at_once(
    error: Exception, autojump_clock: trio.testing.MockClock
) -> None:
    chain = Failover(
        ScriptedProvider([Hang()], name="a"),
        ScriptedProvider([Fail(error)], name="b"),
        ScriptedProvider.saying("third", name="c"),
        hedge_after=10.0,
    )
    if isinstance(error, RuntimeError):
        # It denies that another may help: no further target is asked, and the primary goes on.
        with trio.move_on_after(100.0) as scope:
            await chain.complete(REQUEST, Call())
        assert scope.cancelled_caught
        return
    assert (await chain.complete(REQUEST, Call())).text == "third"
    assert trio.current_time() == 10.0


async def test_a_hedge_and_its_inner_retries_enter_each_request_once(autojump_clock: trio.testing.MockClock) -> None:
    budget = RetryBudget(capacity=10.0, ratio=0.5, per_second=0.0)
    again = Retry(max_retries=1, first_wait=0.0, budget=budget)
    leaf = ScriptedProvider([Wait(3.0), Fail(ServerError("down"))], [Wait(3.0), Fail(ServerError("down"))], PRIMARY)
    model = Resilient(leaf, compose(again, Hedge(after=1.0, budget=budget), again))
    await model.complete(REQUEST, Call())
    seen = budget.statistics("scripted")
    assert (seen.calls, seen.spent) == (1, leaf.calls - 1)


async def test_targets_have_hedge_clocks_of_their_own(autojump_clock: trio.testing.MockClock) -> None:
    for hedge_after in ({"a": 3.0}, {"a": 3.0}.get):
        began = trio.current_time()
        chain = Failover(
            ScriptedProvider([Hang()], name="a"), ScriptedProvider.saying("b", name="b"), hedge_after=hedge_after
        )
        assert (await chain.complete(REQUEST, Call())).text == "b"
        assert trio.current_time() - began == 3.0


async def test_a_retry_around_a_failover_asks_again_what_a_leaf_calls_retryable(
    autojump_clock: trio.testing.MockClock,
) -> None:
    a = ScriptedProvider([Fail(NotConfigured("no key"))], name="a")
    b = ScriptedProvider([Fail(ServerError("down"))], [Say("b"), Finish()], name="b")
    assert (await Resilient(Failover(a, b), Retry()).complete(REQUEST, Call())).text == "b"
    lasting = Failover(a, ScriptedProvider([Fail(NotConfigured("no key"))], name="c"))
    with pytest.raises(AllProvidersExhausted) as caught:
        await Resilient(lasting, Retry()).complete(REQUEST, Call())
    assert (caught.value.retryable, a.calls) == (False, 3)


async def test_a_chain_of_chains_goes_on_to_the_next(autojump_clock: trio.testing.MockClock) -> None:
    down = ScriptedProvider([Fail(ServerError("down"))], name="a")
    chain = Failover(Failover(down, down), ScriptedProvider.saying("c", name="c"))
    assert (await chain.complete(REQUEST, Call())).text == "c"


async def test_the_statistics_of_a_chain_show_breakers_slots_limits_and_budget(
    autojump_clock: trio.testing.MockClock,
) -> None:
    a = ScriptedProvider([Fail(ServerError("down", retryable=False))], name="a")
    chain = resilient_chain(
        a,
        Resilient(ScriptedProvider.saying("b", name="b"), AdaptiveLimit()),
        breaker=CircuitBreaker(minimum_calls=1),
        bulkhead=Bulkhead(max_concurrent=3),
    )
    await chain.complete(REQUEST, Call())
    seen = chain.statistics()
    assert seen["a"].breaker is not None
    assert (seen["a"].breaker.state, seen["a"].breaker.failures, seen["b"].breaker.state) == ("open", 1, "closed")
    assert seen["b"].limit is not None
    assert (seen["b"].limit.running, seen["a"].bulkhead.running) == (0, 0)
    assert (seen["a"].budget.calls, seen["b"].budget.calls, seen["b"].budget.spent) == (1, 1, 0)
    with pytest.raises(KeyError):
        seen["c"]


@pytest.mark.parametrize("returned", [5, None, True, "text", 0])
async def test_any_return_value_of_a_callback_but_false_goes_on(returned: object) -> None:
    response = await complete(ScriptedProvider([Say("a"), Say("b"), Finish()]), REQUEST, lambda _: returned)
    assert (response.text, response.finish_reason) == ("ab", "stop")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            CircuitOpen(provider="p", model="m", retry_after=8.0),
            "p/m: not asked because its circuit breaker is open; its next probe is in 8 s",
        ),
        (ProviderTimeout(clock="gap", limit=25.0, provider="p"), "p: no further content within 25 s (`gap`)"),
        (ProviderTimeout(clock="first_byte", limit=30.0), "no response headers within 30 s (`first_byte`)"),
        (ProviderTimeout(clock="total"), "no whole answer in time"),
        (AllProvidersExhausted("a: down; b: full"), "no target could answer: a: down; b: full"),
    ],
)
def test_the_text_of_an_error_states_what_its_fields_know(error: Exception, text: str) -> None:
    assert str(error) == text


async def test_an_exhausted_chain_names_each_targets_own_message() -> None:
    chain = Failover(
        ScriptedProvider([Fail(ServerError("overloaded", status=503))], name="a"),
        ScriptedProvider([Fail(RateLimited("slow down"))], name="b"),
    )
    with pytest.raises(AllProvidersExhausted) as caught:
        await chain.complete(REQUEST, Call())
    assert str(caught.value) == "no target could answer: a: overloaded (503); b: slow down"


async def test_a_full_bulkhead_of_the_last_target_is_no_lost_call(autojump_clock: trio.testing.MockClock) -> None:
    class Full:
        name = "full"
        calls = 0

        async def complete(self, request: ChatRequest, call: Call) -> ChatResponse:
            self.calls += 1
            if trio.current_time() < 5.0:
                raise BulkheadFull("busy", retry_after=5.0)
            return ChatResponse(content="ok")

    full = Full()
    assert (await Failover(full, full).complete(REQUEST, Call())).text == "ok"
    assert trio.current_time() == 5.0


SLOW_THEN_BROKEN_THEN_WELL = (
    [Wait(3.0), Say("first"), Finish()],
    [Say("Wear san"), Fail(ServerError("broke"))],
    [Say("again"), Finish()],
)


async def test_a_hedge_that_wins_and_breaks_is_taken_back_and_the_first_attempt_made_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    model = ScriptedProvider(*SLOW_THEN_BROKEN_THEN_WELL, name="a")
    screen = Screen()
    response = await complete(Resilient(model, Hedge(after=1.0)), REQUEST, screen)
    screen.check(response)
    assert (response.text, model.calls) == ("again", 3)
    assert sorted(record.outcome for record in response.attempts) == ["cancelled", "failed", "ok"]


async def test_a_loser_that_the_budget_cannot_ask_again_waits_and_answers_when_the_winner_breaks(
    autojump_clock: trio.testing.MockClock,
) -> None:
    first = [Wait(3.0), Say("first"), Finish()]
    breaks = [Say("Wear"), Wait(5.0), Say(" san"), Fail(ServerError("broke"))]
    model = ScriptedProvider(first, breaks, name="a")
    budget = RetryBudget(capacity=1.0, ratio=0.0, per_second=0.0)
    screen = Screen()
    response = await complete(Resilient(model, Hedge(after=1.0, budget=budget)), REQUEST, screen)
    screen.check(response)
    assert (response.text, trio.current_time()) == ("first", 6.0)
    assert (model.calls, budget.statistics("a").spent) == (2, 1)
    assert sorted(record.outcome for record in response.attempts) == ["failed", "ok"]


async def test_the_token_for_a_loser_is_given_back_when_the_winner_succeeds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    model = ScriptedProvider([Hang()], [Say("second"), Finish()], name="a")
    budget = RetryBudget(capacity=2.0, ratio=0.0, per_second=0.0)
    response = await complete(Resilient(model, Hedge(after=1.0, budget=budget)), REQUEST)
    assert sorted(record.outcome for record in response.attempts) == ["cancelled", "ok"]
    assert (budget.statistics("a").spent, budget.statistics("a").balance) == (1, 1.0)


async def test_a_waiting_loser_ends_with_the_winner(autojump_clock: trio.testing.MockClock) -> None:
    slow = [Wait(2.0), Say("first"), Wait(50.0), Finish()]
    model = ScriptedProvider(slow, [Say("sec"), Wait(9.0), Say("ond"), Finish()], name="a")
    budget = RetryBudget(capacity=1.0, ratio=0.0, per_second=0.0)
    response = await complete(Resilient(model, Hedge(after=1.0, budget=budget)), REQUEST)
    assert (response.text, trio.current_time()) == ("second", 10.0)
    assert sorted(record.outcome for record in response.attempts) == ["cancelled", "ok"]


async def test_a_hedge_that_replaced_a_failed_one_and_lost_is_asked_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The target *c* was never the slow one beside which another was started, so nothing was paid for it then."""
    a = ScriptedProvider([Wait(3.0), Say("br"), Fail(ServerError("broke"))], name="a")
    b = ScriptedProvider([Wait(0.5), Fail(ServerError("down"))], name="b")
    c = ScriptedProvider([Wait(5.0), Say("c"), Finish()], name="c")
    budget = RetryBudget(capacity=1.0, ratio=0.0, per_second=0.0)
    for _ in range(2):
        response = await complete(Failover(a, b, c, hedge_after=1.0, budget=budget), REQUEST)
        assert (response.text, response.provider) == ("c", "c")


async def test_a_waiting_loser_goes_on_when_the_winner_moves_to_the_slot_that_it_holds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A hedge around a chain: the loser waits with the only slot of *b*, and the winner, which broke, needs it."""
    breaks = [Wait(4.0), Say("br"), Wait(3.0), Fail(ServerError("broke"))]
    a = ScriptedProvider([Wait(3.0), Fail(ServerError("down"))], breaks, name="a")
    b = ScriptedProvider([Wait(3.0), Say("b"), Finish()], name="b")
    budget = RetryBudget(capacity=1.0, ratio=0.0, per_second=0.0)
    assert budget.withdraw("b")
    slot = Bulkhead(max_concurrent=1)
    chain = Failover(a, Resilient(b, slot), budget=budget)
    screen = Screen()
    response = await complete(Resilient(chain, Hedge(after=1.0, budget=budget)), REQUEST, screen)
    screen.check(response)
    assert (response.text, trio.current_time(), b.calls) == ("b", 8.0, 1)


async def test_a_race_with_a_waiting_loser_can_be_cancelled_anywhere(autojump_clock: trio.testing.MockClock) -> None:
    models: list[ScriptedProvider] = []

    async def operation() -> None:
        first = [Wait(3.0), Say("first"), Finish()]
        models.append(ScriptedProvider(first, [Say("br"), Wait(5.0), Fail(ServerError("broke"))], name="a"))
        budget = RetryBudget(capacity=1.0, ratio=0.0, per_second=0.0)
        response = await complete(Resilient(models[-1], Hedge(after=1.0, budget=budget)), REQUEST)
        assert response.text == "first"

    async def check() -> None:
        assert all(model.running == 0 for model in models)

    assert await cancel_everywhere(operation, check) > 5


async def test_no_attempt_starts_in_the_moment_in_which_another_wins(autojump_clock: trio.testing.MockClock) -> None:
    """The hedge is due when the first content comes; an attempt that started behind the winner would wait for ever."""
    for _ in range(20):
        breaks = [Wait(1.0), Say("br"), Wait(1.0), Fail(ServerError("broke"))]
        model = ScriptedProvider(breaks, *[[Wait(1.0), Say("ok"), Finish()]] * 2, name="a")
        with trio.fail_after(100.0), suppress(ServerError):
            assert (await complete(Resilient(model, Hedge(after=1.0)), REQUEST)).text == "ok"


@pytest.mark.parametrize(
    ("signs", "starts"),
    [
        ([], 2.0),
        ([(1.0, "alive", 0.0)], 3.0),
        ([(1.0, "alive", 0.0), (2.5, "alive", 0.0)], 4.5),
        ([(1.0, "thinking", 5.0)], 6.0),
        ([(1.0, "thinking", 0.5)], 3.0),
        ([(1.0, "thinking", 0.0)], 2.0),
        ([(1.0, "waiting", 9.0)], 2.0),
        ([(1.0, "admitted", 5.0)], 6.0),
        ([(1.0, "thinking", 5.0), (2.0, "alive", 0.0)], 6.0),
        ([(1.0, "thinking", 5.0), (2.0, "thinking", 1.0)], 6.0),
    ],
)
async def test_a_hedge_starts_when_the_attempt_was_silent_for_longer_than_it_said(
    signs: list[tuple[float, LifeSign, float]], starts: float, autojump_clock: trio.testing.MockClock
) -> None:
    started: list[float] = []

    async def attempt(call: Call) -> str:
        started.append(trio.current_time())
        if len(started) == 1:
            for at, sign, quiet_for in signs:
                await trio.sleep_until(at)
                call.pulse(sign, quiet_for)
            await trio.sleep_forever()
        return "second"

    assert await Hedge(after=2.0).run(attempt, Call()) == "second"
    assert started == [0.0, starts]


async def test_the_signs_of_a_race_are_those_of_its_running_attempts_and_then_of_the_winner(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen: list[tuple[float, LifeSign]] = []
    calls = 0

    async def attempt(call: Call) -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            signs: list[tuple[float, LifeSign]] = [(1.0, "waiting"), (3.0, "waiting"), (4.0, "alive"), (6.0, "alive")]
            for at, sign in signs:
                await trio.sleep_until(at)
                call.pulse(sign, 0.0)
            await trio.sleep_forever()
        await trio.sleep_until(5.0)
        await call.emit(TextDelta("second"))
        await trio.sleep_until(7.0)
        call.pulse("thinking", 1.0)
        call.pulse("waiting", 1.0)
        return "second"

    # The budget has a token for the second attempt and none to ask the first again, which therefore runs on.
    budget = RetryBudget(capacity=1.0, ratio=0.0, per_second=0.0)
    call = Call(pulse=lambda sign, _: seen.append((trio.current_time(), sign)))
    assert await Hedge(after=2.0, budget=budget).run(attempt, call) == "second"
    assert seen == [(1.0, "waiting"), (4.0, "alive"), (7.0, "thinking"), (7.0, "waiting")]


async def test_a_winner_without_content_shows_its_last_report_of_usage(autojump_clock: trio.testing.MockClock) -> None:
    shown: list[StreamEvent] = []

    async def emit(event: StreamEvent) -> None:
        shown.append(event)

    async def attempt(call: Call) -> str:
        await call.emit(UsageReport(Usage(input_tokens=1)))
        await call.emit(UsageReport(Usage(input_tokens=1, output_tokens=2)))
        return "empty"

    assert await Hedge(after=2.0).run(attempt, Call(emit=emit)) == "empty"
    assert shown == [UsageReport(Usage(input_tokens=1, output_tokens=2))]


async def test_an_attempt_that_is_made_again_after_a_race_costs_a_token(autojump_clock: trio.testing.MockClock) -> None:
    model = ScriptedProvider(*SLOW_THEN_BROKEN_THEN_WELL, name="a")
    budget = RetryBudget(capacity=5.0, ratio=0.0, per_second=0.0)
    response = await complete(Resilient(model, Hedge(after=1.0, budget=budget)), REQUEST)
    assert (response.text, model.calls, budget.statistics("a").spent) == ("again", 3, 2)
