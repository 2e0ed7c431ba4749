"""The results as Markdown: the goals, which the README shows too, and a table per benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.bench import Bench, Figure
from benchmarks.goals import Judged, judge_all
from benchmarks.results import BenchResult, CaseResult, Results, Spread, ratio

#: the plots that the README shows
PICTURES = ("stream", "growth")

#: the benchmarks whose goals the README shows, in this order: those that compare with what one would use instead
IN_README = (
    "imports",
    "outage",
    "storm",
    "strategies",
    "stream",
    "mcp",
    "fan_out",
    "bus",
    "tracing",
    "failoverbench",
    "turn",
    "eager",
    "adaptive",
)

#: where the package index finds the README's pictures
RAW = "https://raw.githubusercontent.com/clawft/clawft-trio/main"

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def number(value: float) -> str:
    """Three digits that count, and no more."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", "\u202f")
    return f"{value:.3g}"


def spread_text(spread: Spread | None) -> str:
    return "" if spread is None else f"{number(spread.median)} ± {number(spread.mad)}"


def goals_table(benches: Mapping[str, Bench], results: Results) -> str:
    """Every goal of *benches*, with what was measured."""
    rows = [_goal_row(judged) for judged in judge_all(benches, results)]
    return table(["what", "measured", "goal", "", "benchmark"], rows)


def _goal_row(judged: Judged) -> list[str]:
    goal, measured = judged.goal, judged.measured
    figure = "" if measured is None else f"{spread_text(measured)} {goal.unit}"
    return [goal.says, figure, judged.wanted, judged.verdict, f"`{judged.bench}`"]


def bench_section(name: str, bench: Bench, result: BenchResult) -> str:
    """One benchmark: its cases, how many times the bound they are, what they held in memory."""
    first = bench.figures[0].key
    base = result.cases.get(bench.against)
    lines = [f"### {name}: {bench.title}", "", bench.limit, ""]
    heads = [f"one {bench.item}", *(figure.title for figure in bench.figures), "against the first", "peak, MiB"]
    heads[-2] = f"× {bench.against}"
    lines.append(table(heads, [_case_row(bench, each, case, base, first) for each, case in result.cases.items()]))
    notes = [f"* {each}: {case.covers}" for each, case in result.cases.items() if case.covers]
    lines += ["", *notes, ""] if notes else [""]
    lines.append(f"{result.rounds} rounds in turns, {result.taken}. ± is the median distance from the median.")
    return "\n".join(lines)


def _case_row(bench: Bench, name: str, case: CaseResult, base: CaseResult | None, first: str) -> list[str]:
    shown = f"**{name}**" if case.role == "ours" else name + (f" ({case.version})" if case.version else "")
    blank = [""] * len(bench.figures)
    if case.missing is not None:
        return [shown, *[case.missing, *blank][: len(blank)], "", ""]
    if case.failed is not None:
        return [shown, *[f"failed: {case.failed}".replace("|", "\\|"), *blank][: len(blank)], "", ""]
    cells = [_cell(case, figure) for figure in bench.figures]
    peak = "" if case.peak_mib is None else number(case.peak_mib)
    return [shown, *cells, _times(case, base, first), peak]


def _cell(case: CaseResult, figure: Figure) -> str:
    return spread_text(case.spread(figure.key))


def _times(case: CaseResult, base: CaseResult | None, figure: str) -> str:
    if base is None or not base.figures.get(figure) or not case.figures.get(figure):
        return ""
    if not all(base.figures[figure]):
        return ""
    return number(ratio(case.figures[figure], base.figures[figure]).median)


def conditions(results: Results) -> str:
    """Where and with what it was measured, in a paragraph."""
    machine = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, {machine['python']}.\n\n{versions}."


def page(benches: Mapping[str, Bench], results: Results, plots: Sequence[Path]) -> str:
    """Everything, as one page."""
    drawn = {plot.stem: f"\n\n![{benches[plot.stem].title}]({plot.name})" for plot in plots}
    sections = [
        bench_section(name, benches[name], result) + drawn.get(name, "")
        for name, result in results.benches.items()
        if name in benches
    ]
    goals = goals_table(benches, results)
    return "\n\n".join(["# Measured", conditions(results), "## Goals", goals, "## All figures", *sections, ""])


def readme_section(benches: Mapping[str, Bench], results: Results) -> str:
    """What stands between the markers of the README."""
    machine = results.machine
    under = f"{machine['cpu']}, {machine['cores']} cores, {machine['python']}"
    pictures = " ".join(f"![{benches[name].title}]({RAW}/benchmarks/results/{name}.svg)" for name in PICTURES)
    spread = "median ± median distance from it, of rounds taken in turns."
    shown = {name: benches[name] for name in IN_README if name in benches}
    return f"{goals_table(shown, results)}\n\n{under}; {spread}\n\n{pictures}"


def with_section(readme: str, section: str) -> str:
    """The README with *section* between its markers."""
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{section}\n{END}{rest.split(END)[1]}"
