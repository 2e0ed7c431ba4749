"""The results as pictures, drawn with matplotlib where it is installed."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.found import not_installed
from benchmarks.results import BenchResult, CaseResult, Results

_COLOURS = {"limit": "#8a939e", "ours": "#1f9d72", "peer": "#c9743c"}
"""One colour for each role; each can be told from both papers, the light and the dark one."""

_INK = "#1c2430"
_STYLE = "<style>:root{--ink:#1c2430}@media (prefers-color-scheme: dark){:root{--ink:#e4e8ee}}</style>"
"""Put into each picture, in place of the ink: an image follows the reader's colour scheme by itself."""

_FULL = {
    "µs": "microseconds",
    "ms": "milliseconds",
    "s": "seconds",
    "MB": "megabytes",
    "MiB": "mebibytes",
    "KiB": "kibibytes",
}
_UNIT = re.compile(r"(?<![\w/])(µs|ms|s|MB|MiB|KiB)(?![\w])")

_WIDE = 50
"""Above this ratio of the largest value to the smallest, values are dots on a logarithmic axis: a bar shows its length,
which means nothing there."""


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
    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "axes.titlecolor", "xtick.color", "ytick.color")
    mpl.rcParams.update(dict.fromkeys(inked, _INK))
    drawn = [
        _draw(folder / f"{name}.svg", benches[name], result)
        for name, result in results.benches.items()
        if name in benches
    ]
    return [path for path in drawn if path is not None]


def _draw(path: Path, bench: Bench, result: BenchResult) -> Path | None:
    from matplotlib import pyplot as plt

    figure_of = bench.figures[0]
    key = figure_of.key
    shown = {name: case for name, case in result.cases.items() if case.figures.get(key)}
    if not shown:
        return None
    published = {case.name: case.published[key] for case in bench.cases if key in case.published}
    growing = any(case.series for case in shown.values())
    height = 4.2 if growing else 0.9 + 0.27 * (len(shown) + len(published))
    figure, axes = plt.subplots(figsize=(7.5, height))
    label = in_full(figure_of.title)
    better = "higher is better" if figure_of.higher_is_better else "lower is better"
    if growing:
        _lines(axes, shown, key)
        axes.set_ylabel(f"{label} per {bench.item} ({better})")
    else:
        _values(axes, shown, key, published)
        axes.set_xlabel(f"{label} ({better})")
    axes.set_title(bench.title[0].upper() + bench.title[1:], loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, bbox_inches="tight", transparent=True, metadata={"Date": None})
    plt.close(figure)
    path.write_text(in_both_schemes(path.read_text("utf-8")), "utf-8")
    return path


def in_full(title: str) -> str:
    """*title*, `wall, µs`, with its unit in full."""
    text = _UNIT.sub(lambda found: _FULL[found[1]], title).replace("/s", " per second")
    return text.replace("CPU,", "CPU time,").replace("wall,", "wall time,")


def in_both_schemes(svg: str) -> str:
    """*svg* with its ink following the reader's colour scheme."""
    head, tag, rest = svg.partition("<defs>")
    return f"{head}{_STYLE}{tag}{rest}".replace(_INK + ";", "var(--ink);").replace(_INK + '"', 'var(--ink)"')


def _values(axes: Any, cases: Mapping[str, CaseResult], key: str, published: Mapping[str, float]) -> None:
    spreads = {name: spread for name, case in cases.items() if (spread := case.spread(key))}
    names = [*spreads, *(f"{name} (published)" for name in published)]
    middles = [*(spread.median for spread in spreads.values()), *published.values()]
    errors = [*(spread.mad for spread in spreads.values()), *(0.0 for _ in published)]
    colours = [*(_COLOURS[cases[name].role] for name in spreads), *(_COLOURS["peer"] for _ in published)]
    if min(middles) > 0 and max(middles) / min(middles) > _WIDE:
        places = range(len(names))
        axes.errorbar(middles, places, xerr=errors, fmt="none", ecolor=_COLOURS["limit"])
        axes.scatter(middles, places, c=colours, s=34, zorder=3)
        axes.set_yticks(places, names)
        axes.set_xscale("log")
        axes.grid(axis="x", alpha=0.25)
        for place, middle, error in zip(places, middles, errors, strict=True):
            axes.annotate(f"{middle:.3g}", (middle + error, place), xytext=(7, -3), textcoords="offset points")
    else:
        bars = axes.barh(names, middles, xerr=errors, color=colours, height=0.65, ecolor=_COLOURS["limit"])
        axes.bar_label(bars, labels=[f"{middle:.3g}" for middle in middles], padding=4)
    axes.invert_yaxis()


def _lines(axes: Any, cases: Mapping[str, CaseResult], key: str) -> None:
    lines: dict[str, list[CaseResult]] = {}
    for case in cases.values():
        lines.setdefault(case.series, []).append(case)
    others = ("#c9743c", "#7a68c7", "#b0508c", "#8a7a2c")
    styles = ("-", "--", ":", "-.")
    seen: dict[str, int] = {}
    for name, points in lines.items():
        role = points[0].role
        number = seen[role] = seen.get(role, -1) + 1
        spreads = [spread for point in points if (spread := point.spread(key)) is not None]
        axes.errorbar(
            [point.size for point in points],
            [spread.median for spread in spreads],
            yerr=[spread.mad for spread in spreads],
            # All of ours have one colour; line and marker tell them apart.
            marker="osD^vPX*<>"[number % 10],
            linestyle=styles[number % len(styles)],
            markersize=4,
            label=name,
            color=others[number % len(others)] if role == "peer" else _COLOURS[role],
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("items at once")
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
