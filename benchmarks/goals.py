"""The goals of the benchmarks, and whether the data shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import attrs

from benchmarks.bench import Bench, Goal
from benchmarks.results import BenchResult, Results, Spread, ratio

Verdict = Literal["met", "not met", "not measured"]


@attrs.frozen(kw_only=True)
class Judged:
    """A goal beside what was measured."""

    bench: str
    goal: Goal
    measured: Spread | None
    verdict: Verdict

    @property
    def wanted(self) -> str:
        goal = self.goal
        if goal.at_most is not None:
            return f"≤ {goal.at_most:.3g} {goal.unit}"
        return f"≥ {goal.at_least:.3g} {goal.unit}"


def judge(goal: Goal, result: BenchResult | None) -> tuple[Spread | None, Verdict]:
    """The measured figure or ratio, and whether it is within the goal."""
    measured = None if result is None else _measured(goal, result)
    if measured is None:
        return None, "not measured"
    high_enough = goal.at_least is None or measured.median >= goal.at_least
    low_enough = goal.at_most is None or measured.median <= goal.at_most
    return measured, "met" if high_enough and low_enough else "not met"


def judge_all(benches: Mapping[str, Bench], results: Results) -> Iterator[Judged]:
    """Every goal of *benches*, in their order."""
    found = [(name, goal) for name, bench in benches.items() for goal in bench.goals]
    for name, goal in found:
        measured, verdict = judge(goal, results.benches.get(name))
        yield Judged(bench=name, goal=goal, measured=measured, verdict=verdict)


def _measured(goal: Goal, result: BenchResult) -> Spread | None:
    of = _values(result, goal.of, goal.figure)
    if goal.to is None:
        return Spread.of(of) if of else None
    to = _values(result, goal.to, goal.to_figure or goal.figure)
    return ratio(of, to) if of and to else None


def _values(result: BenchResult, case: str, figure: str) -> list[float]:
    return result.cases[case].figures.get(figure, []) if case in result.cases else []
