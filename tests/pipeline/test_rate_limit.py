"""How often a sender may ask: windows, buckets, everybody's limit, and memory that stays bounded."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings, strategies as st

from clawft_trio.errors import RateLimitExceeded
from clawft_trio.pipeline import RateLimiter, RateLimitPolicy
from clawft_trio.testing.machine import in_mock_time

BOTH = pytest.mark.parametrize("strategy", ["sliding_window", "token_bucket"])


def admitted(limiter: RateLimiter, sender: str = "t:ana", limit: int = 3) -> float | None:
    """None when admitted, else when to come back."""
    try:
        limiter.admit(sender, limit)
    except RateLimitExceeded as exc:
        return exc.retry_after
    return None


@BOTH
async def test_a_limit_is_a_limit_and_says_when_to_come_back(strategy, autojump_clock) -> None:
    limiter = RateLimiter(RateLimitPolicy(window_seconds=60, strategy=strategy))
    assert [admitted(limiter) for _ in range(3)] == [None] * 3
    again = admitted(limiter)
    assert again == pytest.approx({"sliding_window": 60.0, "token_bucket": 20.0}[strategy])
    await trio.sleep(again)
    assert admitted(limiter) is None
    assert limiter.statistics().refused == 1


async def test_a_window_slides_and_does_not_start_anew(autojump_clock) -> None:
    limiter = RateLimiter(RateLimitPolicy(window_seconds=60))
    await trio.sleep(59)
    assert [admitted(limiter) for _ in range(3)] == [None] * 3
    await trio.sleep(2)  # a fixed window would have started anew
    assert admitted(limiter) == pytest.approx(58)


async def test_everybodys_limit_slides_too(autojump_clock) -> None:
    limiter = RateLimiter(RateLimitPolicy(global_rate_limit_rpm=2))
    await trio.sleep(59)
    assert [admitted(limiter, f"t:{n}") for n in range(2)] == [None, None]
    await trio.sleep(2)
    assert admitted(limiter, "t:3") == pytest.approx(58)


async def test_an_admin_without_a_limit_of_its_own_is_under_everybodys(autojump_clock) -> None:
    limiter = RateLimiter(RateLimitPolicy(global_rate_limit_rpm=2))
    assert [admitted(limiter, limit=0) for _ in range(3)] == [None, None, 60.0]


async def test_without_any_limit_anything_goes(autojump_clock) -> None:
    limiter = RateLimiter()
    assert [admitted(limiter, limit=0) for _ in range(1000)] == [None] * 1000
    assert limiter.statistics().tracked == 0


async def test_a_refused_sender_does_not_use_up_everybodys_limit(autojump_clock) -> None:
    limiter = RateLimiter(RateLimitPolicy(global_rate_limit_rpm=4))
    for _ in range(50):
        admitted(limiter, "t:greedy", 1)
    assert [admitted(limiter, f"t:{n}", 1) for n in range(4)] == [None, None, None, 60.0]


async def test_a_turn_refused_for_everybody_does_not_use_up_the_senders(autojump_clock) -> None:
    limiter = RateLimiter(RateLimitPolicy(global_rate_limit_rpm=1, window_seconds=600))
    assert admitted(limiter, "t:first", 1) is None
    assert admitted(limiter, "t:ana", 1) == 60
    await trio.sleep(60)
    assert admitted(limiter, "t:ana", 1) is None


async def test_who_comes_from_another_channel_is_somebody_else(autojump_clock) -> None:
    limiter = RateLimiter()
    assert admitted(limiter, "telegram:12345", 1) is None
    assert admitted(limiter, "discord:12345", 1) is None
    assert admitted(limiter, "discord:12345", 1) == 60


async def test_made_up_names_neither_fill_the_memory_nor_reset_a_count(autojump_clock) -> None:
    limiter = RateLimiter(RateLimitPolicy(max_tracked_senders=3))
    for _ in range(3):
        admitted(limiter, "t:ana")
    assert admitted(limiter, "t:ana") == 60
    for n in range(1000):
        admitted(limiter, f"t:{n}", 10)
    assert limiter.statistics().tracked == 3
    assert admitted(limiter, "t:ana") == 60
    assert limiter.statistics().admitted == 3 + 2 + 10  # two more tracked, ten in the shared count


async def test_the_idle_make_room(autojump_clock) -> None:
    limiter = RateLimiter(RateLimitPolicy(max_tracked_senders=2))
    admitted(limiter, "t:1")
    await trio.sleep(30)
    admitted(limiter, "t:2")
    await trio.sleep(31)
    admitted(limiter, "t:3", 1)
    assert limiter.statistics().tracked == 2
    assert admitted(limiter, "t:3", 1) == 60


async def test_a_large_limit_is_kept_in_few_entries_and_never_exceeded(autojump_clock) -> None:
    limiter = RateLimiter(RateLimitPolicy(window_seconds=64))
    for _ in range(1000):
        assert admitted(limiter, limit=1000) is None
        await trio.sleep(0.05)
    assert len(limiter._senders["t:ana"]._taken) <= 65
    again = admitted(limiter, limit=1000)
    assert 64 - 50 <= again <= 64 - 50 + 1
    await trio.sleep(again)
    assert admitted(limiter, limit=1000) is None


@given(st.lists(st.sampled_from([0.0, 0.003, 0.011, 0.1]), min_size=3, max_size=9))
@settings(deadline=None, max_examples=20)
@in_mock_time
async def test_rounding_forgets_nothing_too_early(pauses) -> None:
    limiter = RateLimiter(RateLimitPolicy(window_seconds=10))
    taken: list[float] = []
    for pause in pauses * 100:
        await trio.sleep(pause)
        if admitted(limiter, limit=100) is None:
            taken.append(trio.current_time())
    for last, first in zip(taken[100:], taken, strict=False):
        assert last - first > 10 - 1e-5


@BOTH
@pytest.mark.parametrize("limit", [-1, -60])
async def test_a_negative_limit_is_none_at_all(strategy, limit, autojump_clock) -> None:
    with pytest.raises(RateLimitExceeded) as caught:
        RateLimiter(RateLimitPolicy(strategy=strategy)).admit("t:ana", limit)
    assert caught.value.retry_after is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"window_seconds": 0},
        {"window_seconds": -1},
        {"strategy": "fixed_window"},
        {"global_rate_limit_rpm": -1},
        {"max_tracked_senders": 0},
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(wrong) -> None:
    with pytest.raises(ValueError):
        RateLimitPolicy(**wrong)


arrivals = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 1.0, 5.0, 9.9, 10.0]), st.sampled_from("ab")), max_size=60)


@given(arrivals, st.integers(1, 4), st.integers(0, 6))
@settings(deadline=None, max_examples=100)
@in_mock_time
async def test_no_stretch_of_a_window_has_more_than_the_limit(arrivals, limit, total) -> None:
    """Against a list of everything that was admitted: refused exactly when one more would be too many."""
    limiter = RateLimiter(RateLimitPolicy(window_seconds=10, global_rate_limit_rpm=total))
    taken: list[tuple[float, str]] = []
    for pause, sender in arrivals:
        await trio.sleep(pause)
        now = trio.current_time()
        own = [at for at, who in taken if who == sender and at + 10 > now + 1e-6]
        everybody = [at for at, _ in taken if at + 60 > now + 1e-6]
        expected = len(own) < limit and not (total and len(everybody) >= total)
        again = admitted(limiter, sender, limit)
        assert (again is None) is expected
        if again is None:
            taken.append((now, sender))
        else:
            # When to come back: not before the last of what is in the way has left.
            in_the_way = [own[-limit] + 10 - now] if len(own) >= limit else []
            in_the_way += [everybody[-total] + 60 - now] if total and len(everybody) >= total else []
            assert again == pytest.approx(max(in_the_way))


@given(arrivals, st.integers(1, 5))
@settings(deadline=None, max_examples=100)
@in_mock_time
async def test_a_bucket_holds_a_burst_and_refills_evenly(arrivals, limit) -> None:
    limiter = RateLimiter(RateLimitPolicy(window_seconds=10, strategy="token_bucket"))
    tokens, before = float(limit), 0.0
    for pause, _ in arrivals:
        await trio.sleep(pause)
        now = trio.current_time()
        tokens = min(limit, tokens + (now - before) * limit / 10)
        before = now
        again = admitted(limiter, "t:ana", limit)
        if again is None:
            tokens -= 1
            assert tokens > -1e-5
        else:
            assert again == pytest.approx((1 - tokens) * 10 / limit, abs=1e-5)


@given(st.floats(0.001, 1e6), st.integers(1, 200), st.sampled_from(["sliding_window", "token_bucket"]))
@settings(deadline=None, max_examples=100)
@in_mock_time
async def test_who_comes_back_exactly_then_is_admitted(window, limit, strategy) -> None:
    limiter = RateLimiter(RateLimitPolicy(window_seconds=window, strategy=strategy))
    await trio.sleep(window * 0.37)
    for _ in range(limit):
        assert admitted(limiter, "t:ana", limit) is None
        await trio.sleep(window / limit / 7)
    again = admitted(limiter, "t:ana", limit)
    if again is not None:
        await trio.sleep(again)
        assert admitted(limiter, "t:ana", limit) is None


async def test_whoever_asks_again_is_the_last_to_be_forgotten(autojump_clock) -> None:
    limiter = RateLimiter(RateLimitPolicy(window_seconds=60.0))
    limiter.admit("a:1", 5)
    await trio.sleep(1)
    limiter.admit("b:2", 5)
    await trio.sleep(49)
    limiter.admit("a:1", 5)
    await trio.sleep(11.5)
    # b is idle now, and a is not: kept in the order of their first turns, a would hide b.
    limiter.admit("c:3", 5)
    assert limiter.statistics().tracked == 2
