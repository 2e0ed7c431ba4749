"""A thousand skills: loaded cold, loaded again with nothing changed, and how long the event loop was not to be had."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import yaml

from benchmarks.bench import CPU, WALL, Bench, Case, Figure, Goal, Open, PlainRound, Round, Setting, Stopwatch
from benchmarks.stalls import Stalls
from benchmarks.workspace import write_skills
from clawft_trio.context import Skills
from clawft_trio.files import FileCache

SKILLS = 1000


def _written(setting: Setting, skills: int) -> int:
    count = setting.sized(skills, min(skills, 10))
    write_skills(setting.folder, count)
    return count


def plain_loop(folder: Path) -> dict[str, tuple[dict[str, object], str]]:
    """Load the same skills without a cache, a report or a check, and without minding the event loop."""
    skills = {}
    for entry in sorted((folder / "skills").iterdir()):
        _, front, body = (entry / "SKILL.md").read_text().split("---\n", 2)
        data = yaml.load(front, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        skills[data["name"]] = (data, body)
    return skills


@contextmanager
def plainly(setting: Setting) -> Iterator[PlainRound]:
    count = _written(setting, SKILLS)

    def one_round(watch: Stopwatch) -> None:
        with watch.timing(count):
            assert len(plain_loop(setting.folder)) == count

    yield one_round


def cold(skills: int = SKILLS, *, watched: bool = False) -> Open:
    """Rounds of a first load. *watched*: with the loop in use, and its longest stall."""

    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        count = _written(setting, skills)

        async def load(watch: Stopwatch) -> None:
            loader = Skills(FileCache(), user=setting.folder / "skills")
            with watch.timing(count):
                report = await loader.load()
            assert len(report.skills) == count

        async def watched_load(watch: Stopwatch) -> None:
            stalls = Stalls()
            async with stalls.watched():
                await load(watch)
            watch.note("stall_ms", stalls.longest * 1e3)

        yield watched_load if watched else load

    return opened


@asynccontextmanager
async def again(setting: Setting) -> AsyncGenerator[Round, None]:
    count, loader = _written(setting, SKILLS), Skills(FileCache(), user=setting.folder / "skills")
    await loader.load()

    async def one_round(watch: Stopwatch) -> None:
        with watch.timing(count):
            report = await loader.load()
        assert len(report.skills) == count

    yield one_round


PLAIN = "a plain synchronous loop"
COLD = "cold"
WATCHED = "cold, the loop in use"
AGAIN = "again, nothing changed"

BENCH = Bench(
    title="a thousand skills",
    item="skill",
    limit="Reading the files out of the page cache and their front matter through libyaml, blocking the event loop.",
    against=PLAIN,
    figures=(WALL, CPU, Figure("stall_ms", "longest stall of the loop, ms")),
    cases=(
        Case(PLAIN, plainly, role="limit", loop="none"),
        Case(COLD, cold()),
        Case(WATCHED, cold(watched=True)),
        Case(AGAIN, again),
    ),
    goals=(
        Goal(
            says="1 000 skills cold, of a plain synchronous loop",
            of=COLD,
            to=PLAIN,
            figure="wall",
            at_most=1.5,
        ),
        Goal(says="1 000 skills again, nothing changed, of cold", of=AGAIN, to=COLD, figure="wall", at_most=0.1),
        Goal(
            says="the loop's longest stall while 1 000 skills load",
            of=WATCHED,
            figure="stall_ms",
            at_most=10,
            unit="ms",
        ),
    ),
)
