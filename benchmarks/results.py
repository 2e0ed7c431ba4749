"""What was measured: every round of every case, with the machine and the versions, as one JSON file."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import attrs
import cattrs

FILE = "results.json"


@attrs.frozen(kw_only=True)
class Spread:
    """Many rounds in two numbers: the median, and the median distance from it."""

    median: float
    mad: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        middle = statistics.median(values)
        return cls(median=middle, mad=statistics.median(abs(value - middle) for value in values))


@attrs.frozen(kw_only=True)
class CaseResult:
    """All rounds of one contender, or why there are none."""

    role: str
    covers: str = ""
    series: str = ""
    size: int = 0
    version: str = ""
    #: by figure; `cpu` and `wall` are microseconds per item
    figures: dict[str, list[float]] = attrs.field(factory=dict)
    #: the most memory that its process had
    peak_mib: float | None = None
    #: the peer is not installed
    missing: str | None = None
    #: it failed
    failed: str | None = None

    def spread(self, figure: str) -> Spread | None:
        values = self.figures.get(figure)
        return Spread.of(values) if values else None


@attrs.frozen(kw_only=True)
class BenchResult:
    """One benchmark: its cases were measured in one run, in turns."""

    #: when it ended, UTC
    taken: str
    rounds: int
    quick: bool
    cases: dict[str, CaseResult]


@attrs.frozen(kw_only=True)
class Results:
    """A file of results."""

    machine: dict[str, str]
    versions: dict[str, str]
    benches: dict[str, BenchResult]

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        data = _rounded(cattrs.unstructure(self))
        (folder / FILE).write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Results:
        return cattrs.structure(json.loads((folder / FILE).read_text()), cls)


def ratio(of: list[float], to: list[float]) -> Spread:
    """The ratio of two cases, round by round: what both rounds suffered from the machine cancels out."""
    return Spread.of([above / below for above, below in zip(of, to, strict=False)])


def _rounded(value: Any) -> Any:
    """Five significant digits are more than any machine repeats, and make a file that a diff can show."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value
