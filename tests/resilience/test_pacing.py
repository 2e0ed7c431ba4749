"""The rates of an adaptive limit as numbers: what an attempt costs, a stated limit, and a measured rate."""

from __future__ import annotations

import pytest

from clawft_trio.resilience.pacing import Cost, Pace, Window, period_of
from clawft_trio.retry_hints import RateLimit


@pytest.mark.parametrize(
    ("kind", "amount"),
    [
        ("", 1.0),
        ("requests", 1.0),
        ("requests-day", 1.0),
        ("tokens", 12.0),
        ("input-tokens", 10.0),
        ("tokens-prompt", 10.0),
        ("output-tokens", 2.0),
        ("tokens-generated", 2.0),
    ],
)
def test_an_attempt_uses_a_request_or_the_tokens_of_the_limits_kind(kind: str, amount: float) -> None:
    assert Cost.counts(kind)
    assert Cost(input_tokens=10, output_tokens=2).of(kind) == amount


def test_limits_of_other_kinds_are_not_counted() -> None:
    assert not Cost.counts("concurrent-images")


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [
        ("requests", 60.0),
        ("tokens-second", 1.0),
        ("tokens-minute", 60.0),
        ("tokens-5-minute", 300.0),
        ("tokens-hour", 3600.0),
        ("requests-day", 86_400.0),
        ("requests-month", 2_592_000.0),
    ],
)
def test_the_period_of_a_limit_is_in_its_name_or_a_minute(kind: str, seconds: float) -> None:
    assert period_of(kind) == seconds


def stated(limit: int | None, remaining: int | None, resets_after: float | None = None) -> RateLimit:
    return RateLimit(kind="requests", limit=limit, remaining=remaining, resets_after=resets_after)


def test_a_used_part_is_refilled_until_the_reset_and_never_over_the_limit() -> None:
    window = Window()
    window.update(stated(100, 40, resets_after=30.0), number=1, now=1000.0)
    assert (window.rate, window.available(1000.0), window.available(1010.0)) == (2.0, 40.0, 60.0)
    assert window.available(1100.0) == 100.0
    assert window.time_to(50.0, 1000.0) == 5.0
    assert window.time_to(40.0, 1000.0) == 0.0
    # More than the whole limit: as soon as the limit is full.
    assert window.time_to(500.0, 1000.0) == 30.0


@pytest.mark.parametrize(
    ("remaining", "resets_after", "rate"),
    [(40, None, 100 / 60), (40, 0.0, 100 / 60), (100, 30.0, 100 / 60), (99, 4.0, 0.25)],
)
def test_without_a_time_or_a_use_the_limit_is_refilled_in_its_period(
    remaining: int, resets_after: float | None, rate: float
) -> None:
    window = Window()
    window.update(stated(100, remaining, resets_after), number=1, now=0.0)
    assert window.rate == rate


def test_later_attempts_are_subtracted_from_an_answer_and_earlier_ones_are_in_it() -> None:
    window = Window()
    window.update(stated(100, 50, resets_after=50.0), number=1, now=0.0)
    for number in (2, 3, 4):
        window.reserve(number, 10.0, now=0.0)
    assert window.available(0.0) == 20.0
    window.update(stated(100, 30, resets_after=70.0), number=3, now=0.0)
    assert window.available(0.0) == 20.0
    # An answer to an older attempt says nothing new, nor one without numbers.
    for limit, number in ((stated(100, 99), 2), (stated(None, 99), 5), (stated(100, None), 5)):
        window.update(limit, number, now=0.0)
        assert window.available(0.0) == 20.0
    window.update(stated(100, 33, resets_after=67.0), number=3, now=0.0)
    assert window.available(0.0) == 23.0


def test_what_an_attempt_did_not_use_is_given_back_up_to_the_limit() -> None:
    window = Window()
    window.update(stated(100, 50, resets_after=50.0), number=1, now=0.0)
    window.reserve(2, 20.0, now=10.0)
    assert window.available(10.0) == 40.0
    window.settle(5.0, now=11.0)
    assert window.available(11.0) == 46.0
    window.settle(-6.0, now=11.0)
    assert window.available(11.0) == 40.0
    window.settle(500.0, now=11.0)
    assert window.available(11.0) == 100.0


def test_attempts_start_one_interval_apart_and_a_break_saves_up_nothing() -> None:
    pace = Pace(10.0, 0.7, 60.0)
    assert pace.time_to_start(0.0) == 0.0
    pace.note_start(0.0, saturated=False)
    pace.note_start(0.0, saturated=False)
    assert pace.time_to_start(0.0) == pytest.approx(0.2)
    assert pace.time_to_start(0.15) == pytest.approx(0.05)
    # Below the resolution of the clock there is nothing left to wait for.
    assert pace.time_to_start(0.2 - 1e-10) == 0.0
    pace.note_start(5.0, saturated=False)
    assert pace.time_to_start(5.0) == pytest.approx(0.1, abs=0.002)


def test_the_rate_doubles_in_two_seconds_while_others_wait() -> None:
    pace = Pace(10.0, 0.7, 60.0)
    pace.note_start(0.0, saturated=True)
    assert pace.rate(0.0) == 10.0
    pace.note_start(1.0, saturated=True)
    pace.note_start(2.0, saturated=True)
    assert pace.rate(2.0) == pytest.approx(20.0)
    pace.note_start(3.0, saturated=False)
    assert pace.rate(3.0) == pytest.approx(20.0)
    # A long break counts as one second.
    pace.note_start(9.0, saturated=True)
    assert pace.rate(9.0) == pytest.approx(20.0 * 2**0.5)


def used(rate: float, *, refused: int = 0) -> Pace:
    """A pace with a start each half second from 0 to 9.5, of which the last *refused* were refused at once."""
    pace = Pace(rate, 0.7, 60.0)
    starts = [0.5 * number for number in range(20)]
    for start in starts:
        pace.note_start(start, saturated=False)
    for start in starts[20 - refused :]:
        pace.note_refusal(start, start)
    return pace


@pytest.mark.parametrize(("share", "is_used"), [(0.19, True), (0.2, True), (0.21, False)])
def test_a_share_of_the_rate_is_used_by_the_starts_of_the_last_ten_seconds(share: float, is_used: bool) -> None:
    assert used(10.0).is_used(9.9, share) is is_used
    assert used(10.0).is_used(15.0, share / 2) is (share < 0.19)


@pytest.mark.parametrize(
    ("rate", "refused", "cut"),
    [
        (10.0, 0, 5.0 * 0.98),  # 1.9 a second were accepted; one cut halves the rate at most
        (2.0, 0, 1.9 * 0.98),
        (1.5, 0, 1.5 * 0.98),  # no more than the old rate
        (2.0, 5, 1.4 * 0.98),
        (2.0, 15, 1.0 * 0.98),
    ],
)
def test_the_first_cut_takes_the_accepted_rate_and_halves_at_most(rate: float, refused: int, cut: float) -> None:
    pace = used(rate, refused=refused)
    assert pace.cut(10.0) == pytest.approx(cut)
    # It begins with a part of it, and returns to it along a cube in three seconds.
    assert pace.rate(10.0) == pytest.approx(cut * 0.7)
    assert pace.rate(11.5) == pytest.approx(cut * (1 - 0.3 / 8))
    assert pace.rate(13.0) == pytest.approx(cut)
    assert pace.time_to_start(10.0) >= 1 / cut - 1e-9


def test_while_nothing_is_accepted_the_rate_is_halved_down_to_a_probe_every_five_seconds() -> None:
    pace = used(2.0)
    pace.cut(10.0)
    rates = []
    for moment in (14.0, 24.0, 34.0, 44.0, 54.0):
        pace.note_start(moment, saturated=True)
        pace.note_refusal(moment, moment)
        rates.append(pace.cut(moment))
    assert rates == pytest.approx([0.931, 0.4655, 0.23275, 0.2, 0.2])


def test_a_rate_below_the_probes_is_not_raised_by_a_cut() -> None:
    pace = Pace(0.1, 0.7, 60.0)
    pace.note_start(0.0, saturated=False)
    first = pace.cut(1.0)
    assert first < 0.1
    assert pace.cut(2.0) == first


def test_after_the_first_answer_the_rate_doubles_up_to_the_measured_one() -> None:
    pace = used(2.0)
    measured = pace.cut(10.0)
    pace.note_start(14.0, saturated=True)
    pace.note_refusal(14.0, 14.0)
    halved = pace.cut(14.0)
    # Not by an answer to an attempt from before the cut.
    pace.note_answer(13.9)
    pace.note_start(18.0, saturated=True)
    assert pace.rate(18.0) == halved
    pace.note_answer(14.0)
    pace.note_start(19.0, saturated=True)
    assert pace.rate(19.0) == pytest.approx(halved * 2**0.5)
    pace.note_start(21.5, saturated=True)
    assert pace.rate(21.5) == pytest.approx(measured)


def test_after_the_cool_down_the_rate_grows_by_half_a_percent_a_second() -> None:
    pace = used(2.0)
    measured = pace.cut(10.0)
    for moment in (69.0, 69.9):
        pace.note_start(moment, saturated=True)
    assert pace.rate(69.9) == measured
    pace.note_start(70.4, saturated=True)
    assert pace.rate(70.4) == pytest.approx(measured * 1.0025)
    pace.note_start(75.0, saturated=True)
    assert pace.rate(75.0) == pytest.approx(measured * 1.0025 * 1.005)


def test_the_first_cut_measures_the_last_ten_seconds_at_any_time() -> None:
    pace = Pace(2.0, 0.7, 60.0)
    for number in range(40):
        pace.note_start(100.0 + 0.5 * number, saturated=False)
    assert pace.cut(120.0) == pytest.approx(1.9 * 0.98)


@pytest.mark.parametrize(("now", "measured"), [(19.5, False), (19.7, True)])
def test_an_attempt_counts_as_accepted_after_twice_the_time_that_refusals_take(now: float, measured: bool) -> None:
    pace = used(2.0)
    before = pace.cut(10.0)
    for start in (11.0, 12.0, 16.0):
        pace.note_start(start, saturated=False)
    # Each takes five seconds: an average of 1.8 s, with the last weighing a fifth.
    pace.note_refusal(11.0, 16.0)
    pace.note_refusal(12.0, 17.0)
    assert pace.cut(now) == pytest.approx(before * 0.5 * (0.98 if measured else 1.0))
    assert pace.cut(now + 1.0) == pytest.approx(before * 0.25 * (0.98 if measured else 1.0))


def test_a_rate_grows_slowly_again_from_the_end_of_the_cool_down_on() -> None:
    pace = used(2.0)
    measured = pace.cut(10.0)
    for moment, factor in ((69.0, 1.0), (70.0, 1.005), (70.5, 1.005 * 1.0025)):
        pace.note_start(moment, saturated=True)
        assert pace.rate(moment) == pytest.approx(measured * factor)
