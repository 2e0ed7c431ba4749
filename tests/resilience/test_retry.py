from __future__ import annotations

import random

import pytest
import trio
from hypothesis import given, settings, strategies as st

from clawft_trio.chat import Call, ChatRequest, Message
from clawft_trio.errors import AuthFailed, CircuitOpen, ProviderTimeout, RateLimited, ServerError
from clawft_trio.observe import Recorder, RetryScheduled
from clawft_trio.resilience import Resilient, Retry, RetryBudget
from clawft_trio.testing.machine import in_mock_time
from clawft_trio.testing.screen import Screen
from clawft_trio.testing.script import Fail, Finish, Say
from clawft_trio.testing.scripted import ScriptedProvider

REQUEST = ChatRequest([Message.user("hello")])


def failing(*errors: Exception) -> ScriptedProvider:
    return ScriptedProvider(*([Fail(error)] for error in errors), [Say("hello"), Finish()])


def highest(low: float, high: float) -> float:
    return high


async def ask(provider: ScriptedProvider, retry: Retry, call: Call | None = None) -> float:
    """Ask once; return the seconds it took."""
    started = trio.current_time()
    await Resilient(provider, retry).complete(REQUEST, call or Call())
    return trio.current_time() - started


async def test_waits_double_up_to_the_longest(autojump_clock: trio.testing.MockClock) -> None:
    seen = Recorder()
    provider = failing(*(ServerError("down") for _ in range(5)))
    retry = Retry(max_retries=5, first_wait=0.5, longest_wait=4.0, uniform=highest)
    took = await ask(provider, retry, Call(observer=seen))
    assert [event.wait for event in seen.of(RetryScheduled)] == [0.5, 1.0, 2.0, 4.0, 4.0]
    assert took == 11.5


@pytest.mark.parametrize(
    ("jitter", "ranges"),
    [
        (0.0, []),
        (0.5, [(0.25, 0.5), (0.5, 1.0), (1.0, 2.0)]),
        (1.0, [(0.0, 0.5), (0.0, 1.0), (0.0, 2.0)]),
    ],
)
def test_chance_decides_about_the_share_of_a_wait_that_jitter_names(
    jitter: float, ranges: list[tuple[float, float]]
) -> None:
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return low

    retry = Retry(jitter=jitter, uniform=uniform)
    assert [retry.wait_before(n) for n in (1, 2, 3)] == ([low for low, _ in ranges] or [0.5, 1.0, 2.0])
    assert drawn == ranges


@given(st.integers(1, 6), st.randoms(), st.randoms())
def test_by_default_each_wait_is_longer_than_any_before_it(
    retry: int, chance: random.Random, other: random.Random
) -> None:
    # Up to `longest_wait`, which the seventh retry reaches. A server sees that a client backs off.
    before = Retry(uniform=chance.uniform).wait_before(retry)
    assert before >= 0.35
    assert Retry(uniform=other.uniform).wait_before(retry + 1) >= min(1.3 * before, 21.0)


@given(st.integers(1, 10**9), st.floats(0, 1), st.randoms())
def test_no_wait_is_longer_than_the_longest(retry: int, jitter: float, chance: random.Random) -> None:
    policy = Retry(jitter=jitter, uniform=chance.uniform)
    assert 0.0 <= policy.wait_before(retry) <= policy.longest_wait


async def test_the_servers_wait_is_kept_to_the_second(autojump_clock: trio.testing.MockClock) -> None:
    assert await ask(failing(RateLimited("slow down", retry_after=2.0)), Retry()) == 2.0


async def test_a_retry_after_of_zero_means_no_wait(autojump_clock: trio.testing.MockClock) -> None:
    assert await ask(failing(RateLimited("slow down", retry_after=0.0)), Retry()) == 0.0


async def test_a_wait_beyond_the_cap_is_raised_at_once_with_its_time(autojump_clock: trio.testing.MockClock) -> None:
    provider = failing(RateLimited("slow down", retry_after=61.0))
    with pytest.raises(RateLimited) as caught:
        await ask(provider, Retry())
    assert caught.value.retry_after == 61.0
    assert trio.current_time() == 0.0
    assert len(caught.value.attempts) == 1


async def test_with_another_target_at_hand_the_cap_is_five_seconds(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(RateLimited):
        await ask(failing(RateLimited("slow down", retry_after=5.1)), Retry(), Call(elsewhere=True))
    assert await ask(failing(RateLimited("slow down", retry_after=5.0)), Retry(), Call(elsewhere=True)) == 5.0


async def test_a_silent_target_is_asked_again_only_when_there_is_no_other(
    autojump_clock: trio.testing.MockClock,
) -> None:
    await ask(failing(ProviderTimeout(clock="first_content", limit=1.0)), Retry())
    with pytest.raises(ProviderTimeout):
        await ask(failing(ProviderTimeout(clock="first_content", limit=1.0)), Retry(), Call(elsewhere=True))


async def test_what_the_error_calls_final_is_final() -> None:
    provider = failing(AuthFailed("revoked"))
    with pytest.raises(AuthFailed):
        await ask(provider, Retry())
    assert provider.calls == 1


async def test_the_providers_word_overrides_the_classs() -> None:
    provider = failing(ServerError("down", retryable=False))
    with pytest.raises(ServerError):
        await ask(provider, Retry())
    assert provider.calls == 1


async def test_after_the_last_retry_the_last_error_is_raised(autojump_clock: trio.testing.MockClock) -> None:
    provider = failing(*(ServerError(str(number)) for number in range(9)))
    with pytest.raises(ServerError) as caught:
        await ask(provider, Retry(max_retries=3))
    assert provider.calls == 4
    assert [record.error.message for record in caught.value.attempts] == ["0", "1", "2", "3"]


async def test_no_retry_starts_after_the_total(autojump_clock: trio.testing.MockClock) -> None:
    provider = failing(*(ServerError("down") for _ in range(9)))
    with pytest.raises(ServerError):
        await ask(provider, Retry(max_retries=9, total=3.0, uniform=highest))
    # 0.5 + 1.0 fit, and 2.0 more do not.
    assert (provider.calls, trio.current_time()) == (3, 1.5)


async def test_what_was_shown_is_taken_back_before_the_wait(autojump_clock: trio.testing.MockClock) -> None:
    provider = ScriptedProvider([Say("bad"), Fail(ServerError("down"))], [Say("good"), Finish()])
    screen = Screen()
    times: list[float] = []

    async def emit(event: object) -> None:
        times.append(trio.current_time())
        await screen.emit(event)

    response = await Resilient(provider, Retry(uniform=highest)).complete(REQUEST, Call(emit=emit))
    screen.check(response)
    assert [reset.discarded.text for reset in screen.resets] == ["bad"]
    assert times == [0.0, 0.0, 0.5]  # said, taken back at once, said again


async def test_nothing_is_taken_back_where_nothing_was_shown(autojump_clock: trio.testing.MockClock) -> None:
    screen = Screen()
    await Resilient(failing(ServerError("down")), Retry()).complete(REQUEST, Call(emit=screen.emit))
    assert screen.resets == []


async def test_errors_out_of_a_nursery_are_judged_one_by_one(autojump_clock: trio.testing.MockClock) -> None:
    calls = 0

    async def fetch(errors: list[Exception]) -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            async with trio.open_nursery():
                raise errors[0] if len(errors) == 1 else ExceptionGroup("both", errors)
        return "done"

    assert await Retry()(fetch, [ServerError("down")]) == "done"
    calls = 0
    with pytest.raises(ExceptionGroup):
        await Retry()(fetch, [ServerError("down"), AuthFailed("revoked")])


async def test_a_keyboard_interrupt_in_a_group_is_not_retried() -> None:
    calls = 0

    async def interrupted() -> None:
        nonlocal calls
        calls += 1
        raise BaseExceptionGroup("out of a nursery", [ServerError("down"), KeyboardInterrupt()])

    with pytest.raises(BaseExceptionGroup):
        await Retry()(interrupted)()
    assert calls == 1


async def test_any_function_can_be_retried_on_any_exception(autojump_clock: trio.testing.MockClock) -> None:
    calls = 0

    @Retry(on=OSError, max_retries=2)
    async def flaky(number: int, *, factor: int = 1) -> int:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise ConnectionResetError
        return number * factor

    assert await flaky(2, factor=3) == 6
    assert calls == 3
    assert flaky.__name__ == "flaky"
    calls = 0
    with pytest.raises(ConnectionResetError):
        await Retry(on=lambda exc: isinstance(exc, ValueError))(flaky.__wrapped__, 1)


async def test_cancelled_in_its_wait_it_holds_nothing_and_tries_no_more(autojump_clock: trio.testing.MockClock) -> None:
    provider = failing(ServerError("down"))
    with trio.move_on_after(0.25) as scope:
        await ask(provider, Retry(uniform=highest))
    assert scope.cancelled_caught
    assert (provider.calls, provider.running) == (1, 0)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(0, 5), st.floats(0, 20), st.floats(0, 2), st.floats(0, 20))
@in_mock_time
async def test_extra_requests_stay_within_the_budgets_formula(
    callers: int, retries: int, capacity: float, ratio: float, per_second: float
) -> None:
    budget = RetryBudget(capacity=capacity, ratio=ratio, per_second=per_second)
    down = ScriptedProvider([Fail(lambda: ServerError("down"))])
    provider = Resilient(down, Retry(max_retries=retries, budget=budget))

    async def call() -> None:
        with pytest.raises(ServerError):
            await provider.complete(REQUEST, Call())

    async with trio.open_nursery() as nursery:
        for _ in range(callers):
            nursery.start_soon(call)
    extra = down.calls - callers
    assert extra <= capacity + ratio * callers + per_second * trio.current_time() + 1e-9
    now = budget.statistics()
    assert (now.calls, now.spent) == (callers, extra)


async def test_a_thousand_callers_in_a_total_outage_stay_within_the_budget(
    autojump_clock: trio.testing.MockClock,
) -> None:
    budget = RetryBudget()
    down = ScriptedProvider([Fail(lambda: ServerError("down"))])
    provider = Resilient(down, Retry(max_retries=3, budget=budget))

    async def call() -> None:
        with pytest.raises(ServerError):
            await provider.complete(REQUEST, Call())

    async with trio.open_nursery() as nursery:
        for _ in range(1000):
            nursery.start_soon(call)
    assert down.calls - 1000 <= 100 + 0.2 * 1000 + 10 * trio.current_time()
    assert budget.statistics().refused > 0


def test_nonsense_is_refused_where_it_is_made() -> None:
    for wrong in ({"max_retries": -1}, {"first_wait": -1.0}, {"jitter": 1.5}, {"total": 0.0}):
        with pytest.raises(ValueError):
            Retry(**wrong)
    with pytest.raises(ValueError):
        RetryBudget(ratio=-0.1)


@pytest.mark.parametrize(("total", "attempts"), [(0.999, [0.0]), (1.0, [0.0, 1.0]), (3.0, [0.0, 1.0, 3.0])])
async def test_a_retry_is_made_when_its_wait_ends_exactly_at_the_total(
    autojump_clock: trio.testing.MockClock, total: float, attempts: list[float]
) -> None:
    began: list[float] = []

    @Retry(on=OSError, max_retries=9, first_wait=1.0, multiplier=2.0, jitter=0, total=total)
    async def fail() -> None:
        began.append(trio.current_time())
        raise OSError

    with pytest.raises(OSError):
        await fail()
    assert began == attempts


async def test_waits_for_a_target_that_stated_its_time_are_no_retries_and_bounded_together(
    autojump_clock: trio.testing.MockClock,
) -> None:
    held = [CircuitOpen("open", retry_after=4.0, retryable=True) for _ in range(3)]
    assert await ask(failing(*held[:2]), Retry(max_retries=1, longest_retry_after=10.0)) == 8.0
    started = trio.current_time()
    with pytest.raises(CircuitOpen):
        await ask(failing(*held), Retry(max_retries=1, longest_retry_after=10.0))
    assert trio.current_time() - started == 8.0
    # A failure of its own after them is the first retry.
    seen = Recorder()
    await ask(failing(held[0], ServerError("down")), Retry(first_wait=2.0, uniform=highest), Call(observer=seen))
    assert [(event.retry, event.wait) for event in seen.of(RetryScheduled)] == [(0, 4.0), (1, 2.0)]


async def test_a_target_that_stated_no_time_is_asked_again_as_often_as_one_that_failed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    provider = failing(*(CircuitOpen("open", retryable=True) for _ in range(9)))
    with pytest.raises(CircuitOpen):
        await ask(provider, Retry(max_retries=2, first_wait=0.0))
    assert provider.calls == 3


@pytest.mark.parametrize(
    ("on", "retried"),
    [
        (None, [True, False, False]),
        (AuthFailed, [False, True, False]),
        ((AuthFailed, ValueError), [False, True, True]),
        (lambda exc: isinstance(exc, ValueError), [False, False, True]),
    ],
)
def test_what_is_retried_can_be_named_in_three_ways(on: object, retried: list[bool]) -> None:
    errors = [ServerError("down"), AuthFailed("no"), ValueError("odd")]
    assert [Retry(on=on).may_retry(exc, Call()) for exc in errors] == retried
    # Of a group each one.
    assert Retry(on=on).may_retry(ExceptionGroup("all", errors), Call()) is all(retried)
