"""`python -m benchmarks [NAME …] [--quick] [--list] [--results DIR] [--readme]`.

Installs nothing: a peer that is missing is a row that says so (`pip install --group benchmarks`). Without names,
everything is measured, and `results.json`, `results.md` and the plots are written anew; with names, those benchmarks
alone, and what the results had of the others stays.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import attrs
import trio

from benchmarks import plots, tables
from benchmarks.bench import Bench
from benchmarks.found import find, names
from benchmarks.goals import judge_all
from benchmarks.machine import machine, versions
from benchmarks.results import FILE, BenchResult, Results
from benchmarks.rounds import Run, measure, open_model_server

HERE = Path(__file__).parent
RESULTS = HERE / "results"
README = HERE.parent / "README.md"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which benchmarks; all, if none is named")
    parser.add_argument("--quick", action="store_true", help="small and once: does everything still work?")
    parser.add_argument("--list", action="store_true", help="what there is")
    parser.add_argument("--rounds", type=int, help="rounds of each, instead of its own number")
    parser.add_argument("--results", type=Path, help="where to write; quick runs write only where this says")
    parser.add_argument("--render", action="store_true", help="measure nothing: tables and plots from the results")
    parser.add_argument("--readme", action="store_true", help="also write the table of goals into README.md")
    options = parser.parse_args(argv)
    unknown = sorted(set(options.names) - set(names()))
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)} (there are {', '.join(names())})")
    return options


def wanted(chosen: Sequence[str]) -> dict[str, Bench]:
    """The benchmarks to run: those named, or all."""
    return {name: find(name) for name in chosen or names()}


async def measure_all(benches: dict[str, Bench], run: Run) -> dict[str, BenchResult]:
    """One benchmark after another; a quick run minds no time and takes two at once."""
    found: dict[str, BenchResult] = {}
    waiting = deque(benches.items())

    async def work() -> None:
        while waiting:
            name, bench = waiting.popleft()
            began = time.perf_counter()
            found[name] = await measure(name, bench, server, run)
            run.say(f"{name}: {time.perf_counter() - began:.0f} s")

    async with open_model_server() as server, trio.open_nursery() as nursery:
        for _ in range(2 if run.quick else 1):
            nursery.start_soon(work)
    return found


def write(folder: Path, results: Results, *, readme: bool) -> None:
    """All that can be read of the results."""
    benches = {name: find(name) for name in names()}
    results.save(folder)
    # As they are in the file, rounded: what is shown can be had from it again.
    results = Results.load(folder)
    drawn = plots.draw_all(folder, benches, results)
    (folder / "results.md").write_text(tables.page(benches, results, drawn))
    if readme:
        README.write_text(tables.with_section(README.read_text(), tables.readme_section(benches, results)))


def failures(results: Results) -> list[str]:
    """What was there and did not work."""
    return [
        f"{name}, {case}: {result.failed}"
        for name, bench in results.benches.items()
        for case, result in bench.cases.items()
        if result.failed is not None
    ]


def run(options: argparse.Namespace) -> int:
    folder: Path | None = options.results or (None if options.quick else RESULTS)
    before = Results.load(folder) if folder and (folder / FILE).exists() and (options.names or options.render) else None
    if options.render:
        if before is None or folder is None:
            print(f"there are no results in {folder}", file=sys.stderr)
            return 2
        write(folder, before, readme=options.readme)
        return 0
    benches = wanted(options.names)
    progress = Run(quick=options.quick, rounds=options.rounds, say=lambda text: print(text, file=sys.stderr))
    measured = trio.run(measure_all, benches, progress)
    fresh = Results(machine=machine(), versions=versions(), benches=dict(sorted(measured.items())))
    for name, result in fresh.benches.items():
        print(tables.bench_section(name, benches[name], result), end="\n\n")
    for judged in () if options.quick else judge_all(benches, fresh):
        print(f"{judged.verdict:12} {judged.goal.says}: {tables.spread_text(judged.measured)} ({judged.wanted})")
    if folder is not None:
        old = {} if before is None else before.benches
        write(folder, attrs.evolve(fresh, benches=dict(sorted((old | fresh.benches).items()))), readme=options.readme)
    for line in failures(fresh):
        print(f"failed: {line}", file=sys.stderr)
    return 1 if failures(fresh) else 0


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    if options.list:
        for name in names():
            print(f"{name:12} {find(name).title}")
        return 0
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
