"""The words of a benchmark: what is compared, what a round is, and its goals.

A file in `measures/` holds one `BENCH`; its name is the file's. To add a benchmark, add a file.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs

Role = Literal["limit", "ours", "peer"]
"""`limit`: what the machine allows with nothing in between. `peer`: what a user would take instead."""

Loop = Literal["trio", "asyncio", "none"]
"""On which event loop a case lives. `none`: its rounds are plain functions."""

MICRO = 1e6


@attrs.frozen(kw_only=True)
class Setting:
    """What a case is told about the run."""

    quick: bool
    #: where the model server is: `url_of("burst-5000")`
    server: str
    #: an empty folder of this case's own
    folder: Path

    def sized(self, full: int, quick: int) -> int:
        """*full*, or *quick* where it is only to be seen that the benchmark works."""
        return quick if self.quick else full

    def url_of(self, mode: str) -> str:
        """The base URL of a model that behaves as *mode* says (see `model_server`)."""
        return f"{self.server}/{mode}/v1"


class Stopwatch:
    """Takes the time of one round: only what is inside `timing` counts."""

    def __init__(self) -> None:
        self.wall: float = 0.0
        self.cpu: float = 0.0
        self.items: int = 0
        self.notes: dict[str, float] = {}

    @contextmanager
    def timing(self, items: int) -> Iterator[None]:
        """Count this block's wall time and the CPU time of the whole process, threads included."""
        cpu, wall = time.process_time(), time.perf_counter()
        try:
            yield
        finally:
            self.add(items, wall=time.perf_counter() - wall, cpu=time.process_time() - cpu)

    def add(self, items: int, *, wall: float, cpu: float) -> None:
        """Count seconds that were taken elsewhere, in another process for instance."""
        self.wall += wall
        self.cpu += cpu
        self.items += items

    def note(self, name: str, value: float) -> None:
        """Keep one more figure of this round."""
        self.notes[name] = value

    def figures(self) -> dict[str, float]:
        """Microseconds per item, and the notes."""
        if not self.items:
            return dict(self.notes)
        per_item = MICRO / self.items
        return {"cpu": self.cpu * per_item, "wall": self.wall * per_item, **self.notes}


Round: TypeAlias = Callable[[Stopwatch], Awaitable[None]]
PlainRound: TypeAlias = Callable[[Stopwatch], None]
Open: TypeAlias = Callable[[Setting], AbstractAsyncContextManager[Round] | AbstractContextManager[PlainRound]]


@attrs.frozen
class Case:
    """One contender: opened once in a process of its own, then run round by round."""

    name: str
    #: prepares the contender and yields its round; a plain context manager where `loop` is `none`
    open: Open
    role: Role = attrs.field(default="ours", kw_only=True)
    loop: Loop = attrs.field(default="trio", kw_only=True)
    #: the distribution it needs; where that is not installed, the case is a row that says so
    needs: str = attrs.field(default="", kw_only=True)
    #: why it cannot run here, where that is not a distribution
    absent: str = attrs.field(default="", kw_only=True)
    #: figures that others have published, for the plot; they are not measured here
    published: Mapping[str, float] = attrs.field(factory=dict, kw_only=True)
    #: what the figure covers, where that is not plain
    covers: str = attrs.field(default="", kw_only=True)
    #: cases of one series are points of one line: cost per item over `size`
    series: str = attrs.field(default="", kw_only=True)
    size: int = attrs.field(default=0, kw_only=True)


@attrs.frozen
class Figure:
    """A column of a benchmark's table: `cpu` and `wall` are microseconds per item, other keys are notes."""

    key: str
    title: str
    #: digits behind the point
    digits: int = 1
    #: whether more of it is better; times and costs are better when they are lower
    higher_is_better: bool = attrs.field()

    @higher_is_better.default
    def _rates_are(self) -> bool:
        return self.title.endswith("/s")


CPU = Figure("cpu", "CPU, µs")
WALL = Figure("wall", "wall, µs")


@attrs.frozen(kw_only=True)
class Goal:
    """What a measurement has to show: a figure, or the ratio of one case's figure to another's."""

    says: str
    of: str
    #: the case that it is a ratio to; None where the figure itself is meant
    to: str | None = None
    figure: str = "cpu"
    #: the figure of *to*, where it is another one
    to_figure: str | None = None
    at_most: float | None = None
    at_least: float | None = None
    unit: str = "×"


@attrs.frozen(kw_only=True)
class Bench:
    """What is compared with what, in one run."""

    title: str
    #: what one item is: "chunk", "call"
    item: str
    cases: tuple[Case, ...]
    #: the case that the others are shown as multiples of, in the first of `figures`
    against: str
    #: what bounds it from below, in a sentence
    limit: str
    figures: tuple[Figure, ...] = (CPU, WALL)
    goals: tuple[Goal, ...] = ()
    rounds: int = 7
    #: whether a round is run and forgotten before the others; not where a round takes minutes and nothing gets warm
    warm_up: bool = True

    def case(self, name: str) -> Case:
        return next(case for case in self.cases if case.name == name)


def figure_lists(rounds: list[dict[str, float]]) -> dict[str, list[float]]:
    """The figures of all rounds, by name."""
    names: dict[str, Any] = {}
    for each in rounds:
        names |= dict.fromkeys(each)
    return {name: [each[name] for each in rounds if name in each] for name in names}
