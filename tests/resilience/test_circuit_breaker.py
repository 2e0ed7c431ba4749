from __future__ import annotations

import pytest
import trio
from hypothesis import settings, strategies as st
from hypothesis.stateful import invariant, rule

from clawft_trio.chat import Call
from clawft_trio.errors import CircuitOpen, RateLimited, RequestRejected, ServerError
from clawft_trio.observe import BreakerChanged, Recorder
from clawft_trio.resilience import CircuitBreaker, Retry, compose
from clawft_trio.resilience.circuit_breaker import BoundBreaker
from clawft_trio.testing.machine import TrioMachine


async def succeed(call: Call) -> str:
    return "ok"


async def swallow(breaker: BoundBreaker, attempt: object) -> None:
    with pytest.raises(ServerError):
        await breaker.run(attempt, Call())  # type: ignore[arg-type]


async def fail(call: Call) -> str:
    raise ServerError("down")


async def trip(breaker: BoundBreaker, times: int = 2, error: Exception | None = None) -> None:
    async def attempt(call: Call) -> str:
        raise error or ServerError("down")

    for _ in range(times):
        with pytest.raises(type(error or ServerError())):
            await breaker.run(attempt, Call())


def breaker(**settings: object) -> BoundBreaker:
    return CircuitBreaker(**{"minimum_calls": 2, "open_for": 10.0, "longest_open": 30.0, **settings}).bind("x/y")


async def test_it_opens_at_the_ratio_and_not_before(autojump_clock: trio.testing.MockClock) -> None:
    b = breaker(minimum_calls=4, failure_ratio=0.5)
    await b.run(succeed, Call())
    await b.run(succeed, Call())
    await trip(b, 1)
    assert b.state == "closed"
    await trip(b, 1)
    assert b.state == "open"


async def test_open_it_does_not_try_and_says_when_it_will(autojump_clock: trio.testing.MockClock) -> None:
    b = breaker()
    await trip(b)
    await trio.sleep(4)
    with pytest.raises(CircuitOpen) as caught:
        await b.run(succeed, Call())
    assert caught.value.retry_after == 6.0
    assert not caught.value.retryable
    assert caught.value.curable_elsewhere


async def test_a_good_probe_closes_it_with_a_clean_window(autojump_clock: trio.testing.MockClock) -> None:
    b = breaker()
    await trip(b)
    await trio.sleep(10)
    assert b.state == "half_open"
    assert await b.run(succeed, Call()) == "ok"
    assert (b.state, b.statistics().calls) == ("closed", 0)


async def test_a_bad_probe_opens_it_for_twice_as_long_up_to_the_longest(autojump_clock: trio.testing.MockClock) -> None:
    b = breaker()
    await trip(b)
    assert b.statistics().opened == 1
    for opened, expected in enumerate((20.0, 30.0, 30.0), 2):
        await trio.sleep_until(trio.current_time() + (b.statistics().retry_after or 0.0))
        await trip(b, 1)
        assert (b.statistics().retry_after, b.statistics().opened) == (expected, opened)


async def test_one_probe_at_a_time(autojump_clock: trio.testing.MockClock) -> None:
    b = breaker()
    await trip(b)
    await trio.sleep(10)

    async def slow(call: Call) -> str:
        await trio.sleep(5)
        return "ok"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(b.run, slow, Call())
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(CircuitOpen) as caught:
            await b.run(succeed, Call())
        assert caught.value.retry_after == 1.0
    assert b.state == "closed"


async def test_a_cancelled_probe_leaves_its_place_to_the_next(autojump_clock: trio.testing.MockClock) -> None:
    b = breaker()
    await trip(b)
    await trio.sleep(10)

    async def hang(call: Call) -> str:
        await trio.sleep_forever()
        return ""

    with trio.move_on_after(1):
        await b.run(hang, Call())
    assert b.state == "half_open"
    assert await b.run(succeed, Call()) == "ok"


async def test_cancellation_is_nobodys_failure(autojump_clock: trio.testing.MockClock) -> None:
    b = breaker()

    async def hang(call: Call) -> str:
        await trio.sleep_forever()
        return ""

    for _ in range(5):
        with trio.move_on_after(1):
            await b.run(hang, Call())
    assert (b.state, b.statistics().calls) == ("closed", 0)


async def test_a_wrong_request_says_nothing_about_the_target(autojump_clock: trio.testing.MockClock) -> None:
    b = breaker()
    await trip(b, 5, RequestRejected("bad"))
    assert (b.state, b.statistics().calls) == ("closed", 0)


async def test_outcomes_leave_the_window(autojump_clock: trio.testing.MockClock) -> None:
    b = breaker(window=60.0)
    await trip(b, 1)
    await trio.sleep(60)
    await trip(b, 1)
    assert (b.state, b.statistics().failures) == ("closed", 1)


async def test_the_targets_own_time_is_kept_if_it_is_longer(autojump_clock: trio.testing.MockClock) -> None:
    b = breaker()
    await trip(b, 1)
    await trip(b, 1, RateLimited("later", retry_after=45.0))
    assert b.statistics().retry_after == 45.0


async def test_a_retry_after_holds_for_the_target_at_once(autojump_clock: trio.testing.MockClock) -> None:
    b = breaker(minimum_calls=100)
    await trip(b, 1, RateLimited("later", retry_after=2.0))
    with pytest.raises(CircuitOpen) as caught:
        await b.run(succeed, Call())
    assert (caught.value.retry_after, caught.value.retryable) == (2.0, True)
    await trio.sleep(2.0)
    assert await b.run(succeed, Call()) == "ok"
    assert b.state == "closed"


@pytest.mark.parametrize(
    ("first", "probe", "opened_for"),
    [
        # Held by a Retry-After: another one holds for its own time, a plain failure opens the circuit.
        (RateLimited("later", retry_after=2.0), RateLimited("later", retry_after=3.0), 3.0),
        (RateLimited("later", retry_after=2.0), ServerError("down"), 10.0),
        # Opened by failures: the time doubles, and a Retry-After can only lengthen it.
        (ServerError("down"), ServerError("down"), 20.0),
        (ServerError("down"), RateLimited("later", retry_after=3.0), 20.0),
        (ServerError("down"), RateLimited("later", retry_after=25.0), 25.0),
    ],
)
async def test_how_long_the_circuit_is_open_after_a_bad_probe(
    autojump_clock: trio.testing.MockClock, first: Exception, probe: Exception, opened_for: float
) -> None:
    b = breaker(minimum_calls=1 if isinstance(first, ServerError) else 9)
    await trip(b, 1, first)
    assert b.state == "open"
    await trio.sleep(b.statistics().retry_after or 0.0)
    assert b.state == "half_open"
    await trip(b, 1, probe)
    assert (b.state, b.statistics().retry_after) == ("open", opened_for)


async def test_no_server_closes_a_target_for_years(autojump_clock: trio.testing.MockClock) -> None:
    b = breaker(minimum_calls=100)
    await trip(b, 1, RateLimited("later", retry_after=1e9))
    assert b.statistics().retry_after == 3600.0


async def test_with_30_s_asked_a_call_a_second_asks_once(autojump_clock: trio.testing.MockClock) -> None:
    asked: list[float] = []

    async def attempt(call: Call) -> str:
        asked.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if trio.current_time() < 30:
            raise RateLimited("later", retry_after=30.0)
        return "ok"

    strategy = compose(Retry(), CircuitBreaker()).bind("x/y")
    answers: list[str] = []

    async def one(start: float) -> None:
        await trio.sleep(start)
        answers.append(await strategy.run(attempt, Call()))

    async with trio.open_nursery() as nursery:
        for second in range(20):
            nursery.start_soon(one, float(second))
    assert [time for time in asked if time < 30] == [0.0]
    assert answers == ["ok"] * 20
    # One probe first; the others when it has succeeded.
    assert asked[1] == 30.0
    assert trio.current_time() <= 31.0


async def test_what_began_before_the_probe_closed_it_does_not_count(autojump_clock: trio.testing.MockClock) -> None:
    b = breaker(minimum_calls=2, open_for=5.0)

    async def slow(call: Call) -> str:
        await trio.sleep(20.0)
        raise ServerError("down")

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(swallow, b, slow)
        await trio.sleep(1.0)
        await trip(b, 2)
        await trio.sleep(5.0)
        assert await b.run(succeed, Call()) == "ok"
        assert b.state == "closed"
    assert (b.state, b.statistics().failures) == ("closed", 0)


async def test_results_can_be_failures(autojump_clock: trio.testing.MockClock) -> None:
    b = breaker(is_failure=lambda result: result == "ok")
    for _ in range(2):
        assert await b.run(succeed, Call()) == "ok"
    assert b.state == "open"


async def test_every_change_is_told(autojump_clock: trio.testing.MockClock) -> None:
    seen = Recorder()
    b = breaker()
    for _ in range(2):
        with pytest.raises(ServerError):
            await b.run(fail, Call(observer=seen))
    await trio.sleep(10)
    await b.run(succeed, Call(observer=seen))
    assert [(e.state, e.target, e.retry_after) for e in seen.of(BreakerChanged)] == [
        ("open", "x/y", 10.0),
        ("half_open", "x/y", None),
        ("closed", "x/y", None),
    ]


async def test_used_directly_a_policy_remembers_for_itself(autojump_clock: trio.testing.MockClock) -> None:
    policy = CircuitBreaker(minimum_calls=2)

    async def plain(ok: bool) -> str:
        if not ok:
            raise OSError
        return "ok"

    for _ in range(2):
        with pytest.raises(OSError):
            await policy(plain, False)
    with pytest.raises(CircuitOpen):
        await policy(plain, True)
    assert await policy.bind("another").run(succeed, Call()) == "ok"


class BreakerMachine(TrioMachine):
    """Any order of successes, failures, cancellations and time, against a model with exact arithmetic."""

    WINDOW, OPEN_FOR, LONGEST, MINIMUM, RATIO = 20.0, 4.0, 10.0, 3, 0.5

    def __init__(self) -> None:
        super().__init__()
        policy = CircuitBreaker(
            window=self.WINDOW,
            open_for=self.OPEN_FOR,
            longest_open=self.LONGEST,
            minimum_calls=self.MINIMUM,
            failure_ratio=self.RATIO,
        )
        self.breaker = policy.bind("x")
        self.now = 0.0
        self.outcomes: list[tuple[float, bool]] = []
        self.probe_at: float | None = None
        self.open_for = self.OPEN_FOR
        self.tried = 0

    @rule(failed=st.booleans(), cancelled=st.booleans())
    def call(self, failed: bool, cancelled: bool) -> None:
        refused = self.probe_at is not None and self.now < self.probe_at
        before = self.tried

        async def attempt(call: Call) -> None:
            self.tried += 1
            if cancelled:
                await trio.sleep_forever()
            if failed:
                raise ServerError("down")

        async def step() -> str:
            with trio.CancelScope() as scope:
                if cancelled:
                    scope.cancel(reason="rule")
                try:
                    await self.breaker.run(attempt, Call())
                except CircuitOpen:
                    return "refused"
                except ServerError:
                    return "failed"
            return "cancelled" if scope.cancelled_caught else "ok"

        result = self.run(step)
        assert (result == "refused") == refused
        assert self.tried - before == (not refused)
        if not refused and result != "cancelled":
            self._model(failed=result == "failed")

    def _model(self, *, failed: bool) -> None:
        if self.probe_at is not None:
            if failed:
                self.open_for = min(self.open_for * 2, self.LONGEST)
                self.probe_at = self.now + self.open_for
            else:
                self.probe_at, self.open_for, self.outcomes = None, self.OPEN_FOR, []
            return
        self.outcomes = [o for o in [*self.outcomes, (self.now, failed)] if o[0] > self.now - self.WINDOW]
        failures = sum(bad for _, bad in self.outcomes)
        if failed and len(self.outcomes) >= self.MINIMUM and failures / len(self.outcomes) >= self.RATIO:
            self.probe_at = self.now + self.open_for

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0, 9.0, 25.0]))
    def pass_time(self, seconds: float) -> None:
        self.advance(seconds)
        self.now += seconds

    @invariant()
    def state_is_the_models(self) -> None:
        async def state() -> str:
            return self.breaker.state

        expected = "closed" if self.probe_at is None else "half_open" if self.now >= self.probe_at else "open"
        assert self.run(state) == expected


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
