"""The benchmarks still work, with whatever peers there are, and what the README shows is what was measured.

No threshold on time: a quick run says nothing about speed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from benchmarks import found, tables
from benchmarks.__main__ import README, RESULTS, failures, main
from benchmarks.bench import CPU, Bench, Case, Goal, Stopwatch
from benchmarks.goals import judge, judge_all
from benchmarks.results import BenchResult, CaseResult, Results, Spread, ratio

ROOT = Path(__file__).parents[2]
BENCHES = {name: found.find(name) for name in found.names()}


def quick(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", "--quick", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


# Seconds: a machine that others use too may be slow, and that is no failure.
@pytest.mark.timeout(400)
def test_every_benchmark_still_works(tmp_path: Path) -> None:
    done = quick("--results", str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    results = Results.load(tmp_path)
    assert set(results.benches) == set(BENCHES)
    for name, result in results.benches.items():
        for case in BENCHES[name].cases:
            measured = result.cases[case.name]
            assert measured.figures or measured.missing, (name, case.name)
            assert measured.figures or case.role == "peer" or case.needs, (name, case.name)
    assert (tmp_path / "results.md").read_text().startswith("# Measured")


def test_what_a_quick_run_has_not_measured_can_be_told_from_what_failed(tmp_path: Path) -> None:
    assert main(["strategies", "--quick", "--results", str(tmp_path)]) == 0
    page = (tmp_path / "results.md").read_text()
    assert "**Retry**" in page
    assert "failed:" not in page


def test_an_unknown_name_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["nonsense"])
    assert "stream" in capsys.readouterr().err


def test_every_benchmark_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(BENCHES)


@pytest.mark.parametrize("name", BENCHES)
def test_a_benchmark_names_cases_that_it_has(name: str) -> None:
    bench = BENCHES[name]
    names = [case.name for case in bench.cases]
    assert len(set(names)) == len(names)
    assert bench.against in names
    for goal in bench.goals:
        assert goal.of in names
        assert goal.to is None or goal.to in names
        assert (goal.at_most is None) != (goal.at_least is None)
    assert all(case.needs in found.pinned() for case in bench.cases if case.needs)


def result(**cases: CaseResult) -> BenchResult:
    return BenchResult(taken="2026-11-22T00:00:00+00:00", rounds=3, quick=False, cases=cases)


def measured(*values: float) -> CaseResult:
    return CaseResult(role="ours", figures={"cpu": list(values)})


GOAL = Goal(says="half", of="ours", to="peer", at_most=0.5)


@pytest.mark.parametrize(
    ("ours", "peer", "verdict"),
    [((1, 1, 1), (2, 2, 2), "met"), ((3, 3, 3), (2, 2, 2), "not met"), ((1, 10, 4), (2, 20, 8), "met")],
)
def test_a_ratio_is_judged_round_by_round(ours: tuple[float, ...], peer: tuple[float, ...], verdict: str) -> None:
    assert judge(GOAL, result(ours=measured(*ours), peer=measured(*peer)))[1] == verdict


def test_a_rate_that_is_too_low_misses_its_goal() -> None:
    goal = attrs.evolve(GOAL, at_most=None, at_least=2)
    assert judge(goal, result(ours=measured(3), peer=measured(2)))[1] == "not met"


def test_a_goal_whose_peer_is_missing_is_not_measured() -> None:
    absent = CaseResult(role="peer", missing="not installed: pip install 'peer==1'")
    assert judge(GOAL, result(ours=measured(1), peer=absent)) == (None, "not measured")
    assert judge(GOAL, None) == (None, "not measured")


def test_a_spread_is_the_median_and_the_median_distance_from_it() -> None:
    assert Spread.of([1, 2, 3, 4, 100]) == Spread(median=3, mad=1)


def test_a_ratio_is_taken_within_each_round() -> None:
    # The machine was 25 times slower in the second round; that is nobody's ratio.
    assert ratio([1, 100], [1, 25]) == Spread(median=2.5, mad=1.5)


def test_a_missing_peer_is_a_row_that_says_how_to_get_it() -> None:
    case = Case("peer", lambda setting: None, role="peer", needs="no-such-distribution")
    reason = found.missing(case)
    assert reason == "not installed: pip install 'no-such-distribution'"
    bench = Bench(title="t", item="call", limit="l", against="ours", cases=(case,), figures=(CPU,))
    page = tables.bench_section("b", bench, result(ours=measured(1), peer=CaseResult(role="peer", missing=reason)))
    assert f"| peer | {reason} |" in page


def test_what_was_there_and_did_not_work_is_a_failure() -> None:
    broken = CaseResult(role="ours", failed="ValueError: no")
    bench = Bench(title="t", item="call", limit="l", against="ours", cases=(), figures=(CPU,))
    assert "| **ours** | failed: ValueError: no |" in tables.bench_section("b", bench, result(ours=broken))
    benches = {"b": result(ours=broken, peer=CaseResult(role="peer", missing="not installed"))}
    assert failures(Results(machine={}, versions={}, benches=benches)) == ["b, ours: ValueError: no"]


def test_results_come_back_from_their_file(tmp_path: Path) -> None:
    results = Results(machine={"cpu": "c"}, versions={"trio": "1"}, benches={"b": result(ours=measured(1.5, 2.5))})
    results.save(tmp_path)
    assert Results.load(tmp_path) == results


def test_a_stopwatch_counts_only_what_it_is_told_to() -> None:
    watch = Stopwatch()
    watch.add(4, wall=1.0, cpu=0.5)
    watch.note("requests", 3)
    assert watch.figures() == {"cpu": 125_000, "wall": 250_000, "requests": 3}


def test_the_readme_shows_what_was_measured() -> None:
    readme = README.read_text()
    assert tables.with_section(readme, tables.readme_section(BENCHES, Results.load(RESULTS))) == readme


def test_the_committed_results_have_every_goal() -> None:
    results = Results.load(RESULTS)
    assert not any(bench.quick for bench in results.benches.values())
    judged = list(judge_all(BENCHES, results))
    assert [each.goal.says for each in judged if each.verdict == "not measured"] == []


PLOTS = sorted((Path(__file__).parents[2] / "benchmarks" / "results").glob("*.svg"))


@pytest.mark.parametrize("plot", PLOTS, ids=lambda path: path.stem)
def test_a_plot_follows_the_readers_colours_and_names_its_unit_and_direction(plot: Path) -> None:
    svg = plot.read_text("utf-8")
    assert "prefers-color-scheme: dark" in svg
    assert "#1c2430;" not in svg, "ink that stays dark on a dark page"
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    [label] = [text for text in texts if text.endswith(("(lower is better)", "(higher is better)"))]
    assert not re.search(r"(?<![\w/])(µs|ms|MB|MiB|KiB)(?!\w)", label), "a unit is written in full"


def test_there_is_a_plot_of_every_benchmark_with_results() -> None:
    results = json.loads((PLOTS[0].parent / "results.json").read_text("utf-8"))
    assert {plot.stem for plot in PLOTS} == set(results["benches"])
