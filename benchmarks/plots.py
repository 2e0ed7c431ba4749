"""The results as pictures, drawn with matplotlib where it is installed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.found import not_installed
from benchmarks.results import BenchResult, CaseResult, Results

_COLOURS = {"limit": "#9aa0a6", "ours": "#1a7f5a", "peer": "#c9743c"}


def draw_all(folder: Path, benches: Mapping[str, Bench], results: Results) -> list[Path]:
    """One SVG per benchmark; none, and a line that says why, without matplotlib."""
    reason = not_installed("matplotlib")
    if reason is not None:
        print(f"no plots: matplotlib is {reason}", file=sys.stderr)
        return []
    import matplotlib as mpl

    mpl.use("svg")
    # The same data give the same bytes, and text stays text.
    mpl.rcParams.update({"svg.hashsalt": "clawft_trio", "svg.fonttype": "none", "font.size": 9})
    drawn = [
        _draw(folder / f"{name}.svg", benches[name], result)
        for name, result in results.benches.items()
        if name in benches
    ]
    return [path for path in drawn if path is not None]


def _draw(path: Path, bench: Bench, result: BenchResult) -> Path | None:
    from matplotlib import pyplot as plt

    key = bench.figures[0].key
    shown = {name: case for name, case in result.cases.items() if case.figures.get(key)}
    if not shown:
        return None
    growing = any(case.series for case in shown.values())
    height = 4.2 if growing else 0.9 + 0.27 * len(shown)
    figure, axes = plt.subplots(figsize=(7.5, height))
    label = bench.figures[0].title
    if growing:
        _lines(axes, shown, key)
        axes.set_ylabel(f"{label} per {bench.item}")
    else:
        _bars(axes, shown, key)
        axes.set_xlabel(label)
    axes.set_title(bench.title[0].upper() + bench.title[1:], loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return path


def _bars(axes: Any, cases: Mapping[str, CaseResult], key: str) -> None:
    spreads = {name: case.spread(key) for name, case in cases.items()}
    middles = [spread.median for spread in spreads.values() if spread]
    errors = [spread.mad for spread in spreads.values() if spread]
    colours = [_COLOURS[case.role] for case in cases.values()]
    bars = axes.barh(list(cases), middles, xerr=errors, color=colours, height=0.65, ecolor="#5f6368")
    axes.bar_label(bars, labels=[f"{middle:.3g}" for middle in middles], padding=4)
    axes.invert_yaxis()
    if min(middles) > 0 and max(middles) / min(middles) > 50:
        axes.set_xscale("log")


def _lines(axes: Any, cases: Mapping[str, CaseResult], key: str) -> None:
    lines: dict[str, list[CaseResult]] = {}
    for case in cases.values():
        lines.setdefault(case.series, []).append(case)
    for number, (name, points) in enumerate(lines.items()):
        spreads = [spread for point in points if (spread := point.spread(key)) is not None]
        axes.errorbar(
            [point.size for point in points],
            [spread.median for spread in spreads],
            yerr=[spread.mad for spread in spreads],
            marker="o",
            markersize=4,
            label=name,
            color=f"C{number % 10}",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("items at once")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
