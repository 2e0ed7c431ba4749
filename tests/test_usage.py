"""Usage, latency and the attempt that decides: sums, impossible figures, and the exact limits."""

from __future__ import annotations

from decimal import Decimal

import pytest

from clawft_trio.attempts import AttemptRecord, Latency, Usage, deciding_attempt


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({}, ""),
        ({"input_tokens": 2**53}, ""),
        ({"input_tokens": 2**53 + 1}, "input_tokens"),
        ({"output_tokens": -1}, "output_tokens"),
        ({"input_tokens": 1.0}, "input_tokens"),
        ({"input_tokens": True}, "input_tokens"),
        ({"input_tokens": 5, "cached_tokens": 3, "cache_write_tokens": 2}, ""),
        ({"input_tokens": 5, "cached_tokens": 3, "cache_write_tokens": 3}, "input_tokens"),
        ({"input_tokens": 5, "input_audio_tokens": 5, "input_image_tokens": 5}, ""),
        ({"input_tokens": 5, "input_audio_tokens": 6}, "input_tokens"),
        ({"input_tokens": 5, "input_image_tokens": 6}, "input_tokens"),
        ({"input_tokens": 5, "cache_write_tokens": 2, "cache_write_1h_tokens": 2}, ""),
        ({"input_tokens": 5, "cache_write_tokens": 2, "cache_write_1h_tokens": 3}, "cache_write_tokens"),
        ({"output_tokens": 5, "reasoning_tokens": 5, "output_audio_tokens": 5, "output_image_tokens": 5}, ""),
        ({"output_tokens": 5, "reasoning_tokens": 6}, "output_tokens"),
        ({"output_tokens": 5, "output_audio_tokens": 6}, "output_tokens"),
        ({"output_tokens": 5, "output_image_tokens": 6}, "output_tokens"),
        ({"web_searches": -1}, "web_searches"),
        ({"cost": Decimal(0)}, ""),
        ({"cost": Decimal("-0.01")}, "cost"),
        ({"cost": Decimal("NaN")}, "cost"),
        ({"cost": 0.5}, "cost"),
    ],
    ids=str,
)
def test_figures_that_cannot_be_are_named(fields: dict[str, object], wrong: str) -> None:
    problem = Usage(**fields).problem()  # type: ignore[arg-type]
    assert problem.startswith(f"{wrong} is ") if wrong else problem == ""


def test_every_figure_of_two_usages_is_added() -> None:
    one = Usage(input_tokens=10, output_tokens=20, cached_tokens=3, reasoning_tokens=4, cache_write_tokens=5,
                cache_write_1h_tokens=1, web_searches=2, cost=Decimal("0.5"), service_tier="flex")  # fmt: skip
    two = one + one
    assert two == Usage(input_tokens=20, output_tokens=40, cached_tokens=6, reasoning_tokens=8, cache_write_tokens=10,
                        cache_write_1h_tokens=2, web_searches=4, cost=Decimal(1), service_tier="flex")  # fmt: skip
    assert (two.total_tokens, two.plain_tokens) == (60, 4)
    # A sum is as unknown as its parts.
    mixed = one + Usage(input_tokens=1, service_tier="priority")
    assert (mixed.cost, mixed.service_tier, mixed.input_tokens) == (None, "", 11)
    assert (Usage() + one).cost is None
    assert Usage(input_tokens=1, cached_tokens=2).plain_tokens == 0


@pytest.mark.parametrize(
    ("first_content", "total", "rate"), [(1.0, 3.0, 50.0), (None, 3.0, None), (3.0, 3.0, None), (0.0, 2.0, 50.0)]
)
def test_a_rate_is_that_after_the_first_content(first_content: float | None, total: float, rate: float | None) -> None:
    assert Latency(total=total, first_content=first_content).tokens_per_second(100) == rate


def attempt(name: str, outcome: str, first_content: float | None = None) -> AttemptRecord:
    latency = Latency(total=1.0, first_content=first_content)
    return AttemptRecord(target=name, outcome=outcome, started=0.0, latency=latency)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("records", "ending", "decides"),
    [
        ([], "ok", None),
        ([attempt("a", "failed"), attempt("b", "ok")], "ok", "b"),
        ([attempt("a", "ok"), attempt("b", "failed")], "ok", "a"),
        ([attempt("a", "ok", 0.5), attempt("b", "ok")], "ok", "a"),
        ([attempt("a", "ok"), attempt("b", "ok")], "ok", "b"),
        ([attempt("a", "failed"), attempt("b", "cancelled")], "failed", "a"),
        ([attempt("a", "failed"), attempt("b", "cancelled")], "cancelled", "b"),
        ([attempt("a", "failed", 0.5), attempt("b", "failed"), attempt("c", "cancelled")], "failed", "a"),
    ],
    ids=["none", "the answer", "before a failure", "with content", "the last", "a failure", "a cancellation", "shown"],
)
def test_the_last_attempt_that_ended_as_the_call_decides(
    records: list[AttemptRecord], ending: str, decides: str | None
) -> None:
    found = deciding_attempt(records, ending)  # type: ignore[arg-type]
    assert (None if found is None else found.target) == decides
