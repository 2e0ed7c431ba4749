"""The system prompt out of five files, hot, against reading them each time.

The files are in the page cache, which is where they are in a session.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import trio

from benchmarks.bench import CPU, WALL, Bench, Case, Goal, Open, Round, Setting, Stopwatch
from benchmarks.workspace import write_bootstrap, write_skills
from clawft_trio.context import BOOTSTRAP_FILES, ContextBuilder, Memory, Skills
from clawft_trio.files import FileCache

Way: TypeAlias = Callable[[], Awaitable[object]]


def repeating(make: Callable[[Path], Way], *, skills: int = 0, calls: int = 200) -> Open:
    """Rounds of calls, after one that fills what there is to fill."""

    @asynccontextmanager
    async def opened(setting: Setting) -> AsyncGenerator[Round, None]:
        folder, count = setting.folder, setting.sized(calls, 5)
        write_bootstrap(folder)
        write_skills(folder, skills)
        way = make(folder)
        await way()

        async def one_round(watch: Stopwatch) -> None:
            with watch.timing(count):
                for _ in range(count):
                    await way()

        yield one_round

    return opened


def asking_the_disk(folder: Path) -> Way:
    return ContextBuilder(folder, cache=FileCache()).build_system_prompt


def within_freshness(folder: Path) -> Way:
    return ContextBuilder(folder, cache=FileCache(fresh_for=60.0)).build_system_prompt


def with_everything(folder: Path) -> Way:
    cache = FileCache()
    loader = Skills(cache, user=folder / "skills")
    return ContextBuilder(folder, cache=cache, skills=loader, memory=Memory(folder, cache)).build_system_prompt


def blocking(folder: Path) -> Way:
    """What must not be done on an event loop: what reading them takes at the least."""

    async def read() -> str:
        return "\n\n".join((folder / name).read_text() for name in BOOTSTRAP_FILES)

    return read


def with_open_file(folder: Path) -> Way:
    """As trio's documentation opens files."""

    async def read() -> str:
        texts = []
        for name in BOOTSTRAP_FILES:
            async with await trio.open_file(folder / name) as file:
                texts.append(await file.read())
        return "\n\n".join(texts)

    return read


def with_path(folder: Path) -> Way:
    """The shortest that is right: one visit to a thread per file."""

    async def read() -> str:
        return "\n\n".join([await trio.Path(folder / name).read_text() for name in BOOTSTRAP_FILES])

    return read


HOT = "prompt, the disk asked each time"
FRESH = "prompt, within its freshness window"
LIMIT = "five files read, blocking the loop"
OPEN_FILE = "five files by trio.open_file"

BENCH = Bench(
    title="the system prompt, nothing changed",
    item="prompt",
    limit="Five reads from the page cache, blocking the event loop.",
    against=LIMIT,
    figures=(WALL, CPU),
    cases=(
        Case(LIMIT, repeating(blocking), role="limit"),
        Case(HOT, repeating(asking_the_disk)),
        Case(FRESH, repeating(within_freshness)),
        Case("prompt with 50 skills and memory", repeating(with_everything, skills=50, calls=50)),
        Case(OPEN_FILE, repeating(with_open_file, calls=50), role="peer"),
        Case("five files by trio.Path.read_text", repeating(with_path, calls=50), role="peer"),
    ),
    goals=(
        Goal(
            says="reading five files each time, of a hot prompt",
            of=OPEN_FILE,
            to=HOT,
            figure="wall",
            at_least=5,
        ),
    ),
)
