"""The system prompt and the skills, against reading files as one would otherwise.

    python -m benchmarks.bench_context [rounds]

Best of several interleaved rounds, all in one process. Files are in the page cache, which is where they are in a
session. "Cold" is a new `FileCache`.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio
import yaml

from clawft_trio.context import BOOTSTRAP_FILES, ContextBuilder, Memory, Skills
from clawft_trio.files import FileCache

BOOTSTRAP_BYTES = 3000
SKILL_BYTES = 2500
SKILLS = 1000

FRONT_MATTER = """\
---
name: skill-{number:04}
description: What skill number {number} is for, and when it should be used instead of another one.
version: 1.0
allowed-tools: [read_file, web_fetch]
variables: [city, day]
user-invocable: true
---
"""


@contextmanager
def workspace(skills: int = 0) -> Iterator[Path]:
    """A folder with the five bootstrap files and so many skills, written long enough ago to be trusted."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in BOOTSTRAP_FILES:
            (folder / file).write_text("word " * (BOOTSTRAP_BYTES // 5))
        for number in range(skills):
            path = folder / "skills" / f"skill-{number:04}" / "SKILL.md"
            path.parent.mkdir(parents=True)
            path.write_text(FRONT_MATTER.format(number=number) + "text " * (SKILL_BYTES // 5))
        time.sleep(0.1)
        yield folder


async def per_call(function: Callable[[], Awaitable[object]], calls: int) -> float:
    """Microseconds per call."""
    started = time.perf_counter()
    for _ in range(calls):
        await function()
    return (time.perf_counter() - started) / calls * 1e6


# --- five files ------------------------------------------------------------------------------------------


def reading_on_the_loop(folder: Path) -> str:
    """What must not be done: the physical limit of reading them at all."""
    return "\n\n".join((folder / name).read_text() for name in BOOTSTRAP_FILES)


async def reading_with_open_file(folder: Path) -> str:
    """As trio's documentation opens files."""
    texts = []
    for name in BOOTSTRAP_FILES:
        async with await trio.open_file(folder / name) as file:
            texts.append(await file.read())
    return "\n\n".join(texts)


async def reading_with_path(folder: Path) -> str:
    """The shortest that is right: one visit to a thread per file."""
    return "\n\n".join([await trio.Path(folder / name).read_text() for name in BOOTSTRAP_FILES])


def hot_prompt(calls: int = 300) -> dict[str, float]:
    """Microseconds per system prompt when nothing has changed, and per reading of the five files."""

    async def main() -> dict[str, float]:
        strict = ContextBuilder(folder, cache=FileCache())
        window = ContextBuilder(folder, cache=FileCache(fresh_for=1.0))
        await strict.build_system_prompt()
        await window.build_system_prompt()

        async def on_the_loop() -> None:
            reading_on_the_loop(folder)

        return {
            "prompt, asking the disk each time": await per_call(strict.build_system_prompt, calls),
            "prompt, within a second of freshness": await per_call(window.build_system_prompt, calls),
            "five files by trio.open_file": await per_call(lambda: reading_with_open_file(folder), calls // 10),
            "five files by trio.Path.read_text": await per_call(lambda: reading_with_path(folder), calls // 5),
            "five files, blocking the loop": await per_call(on_the_loop, calls),
        }

    with workspace() as folder:
        return trio.run(main)


# --- a thousand skills -----------------------------------------------------------------------------------


def plain_loop(folder: Path) -> dict[str, tuple[dict[str, object], str]]:
    """Load the same skills without a cache, a report or a check, and without minding the event loop."""
    skills = {}
    for entry in sorted((folder / "skills").iterdir()):
        _, front, body = (entry / "SKILL.md").read_text().split("---\n", 2)
        data = yaml.load(front, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        skills[data["name"]] = (data, body)
    return skills


class Stalls:
    """How long the event loop was not to be had, at the longest."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        while True:
            due = time.perf_counter() + 0.001
            await trio.sleep(0.001)
            self.longest = max(self.longest, time.perf_counter() - due)


def many_skills(count: int = SKILLS) -> dict[str, float]:
    """Milliseconds: a plain loop, a cold load, a load with nothing changed, one change; and the longest stalls."""

    async def main() -> dict[str, float]:
        figures = {}
        stalls = Stalls()
        skills = Skills(FileCache(), user=folder / "skills")
        idle = Stalls()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(idle.watch)
            await trio.sleep(0.1)
            nursery.cancel_scope.cancel(reason="seen enough")

        async def timed(name: str) -> None:
            started, used = time.perf_counter(), time.process_time()
            report = await skills.load()
            figures[name] = (time.perf_counter() - started) * 1e3
            figures[f"{name} (CPU)"] = (time.process_time() - used) * 1e3
            assert len(report.skills) == count

        await timed("cold, nothing else running")
        await timed("refresh, nothing changed")
        changed = folder / "skills" / "skill-0007" / "SKILL.md"
        changed.write_text(changed.read_text() + "!")
        await timed("refresh, one changed")
        skills = Skills(FileCache(), user=folder / "skills")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stalls.watch)
            await trio.sleep(0.01)
            await timed("cold, the loop in use")
            nursery.cancel_scope.cancel(reason="loaded")
        figures["longest stall while loading"] = stalls.longest * 1e3
        figures["longest stall while idle"] = idle.longest * 1e3
        return figures

    with workspace(count) as folder:
        gc.collect()
        started, used = time.perf_counter(), time.process_time()
        assert len(plain_loop(folder)) == count
        plain = (time.perf_counter() - started) * 1e3
        plain_cpu = (time.process_time() - used) * 1e3
        return {"plain synchronous loop": plain, "plain synchronous loop (CPU)": plain_cpu, **trio.run(main)}


def prompt_with_everything(skills: int = 50, calls: int = 200) -> dict[str, float]:
    """Microseconds per prompt with skills and memory as well, nothing changed."""

    async def main() -> dict[str, float]:
        cache = FileCache()
        loader = Skills(cache, user=folder / "skills")
        builder = ContextBuilder(folder, cache=cache, skills=loader, memory=Memory(folder, cache))
        await builder.build_system_prompt()
        return {f"prompt with {skills} skills and memory": await per_call(builder.build_system_prompt, calls)}

    with workspace(skills) as folder:
        return trio.run(main)


def best(function: Callable[[], dict[str, float]], rounds: int) -> dict[str, float]:
    """The smallest of each figure over *rounds*."""
    seen = [function() for _ in range(rounds)]
    return {name: min(figures[name] for figures in seen) for name in seen[0]}


def main(rounds: int = 5) -> None:
    """Print all figures and the ratios that the project promises."""
    hot = best(hot_prompt, rounds)
    skills = best(many_skills, rounds)
    everything = best(prompt_with_everything, rounds)
    for figures, unit in ((hot, "µs"), (everything, "µs"), (skills, "ms")):
        for name, value in figures.items():
            print(f"{name:45} {value:10.1f} {unit}")
    asked, window = hot["prompt, asking the disk each time"], hot["prompt, within a second of freshness"]
    ratios = {
        "open_file / hot (at least 5)": hot["five files by trio.open_file"] / asked,
        "Path.read_text / hot": hot["five files by trio.Path.read_text"] / asked,
        "Path.read_text / hot within freshness (at least 5)": hot["five files by trio.Path.read_text"] / window,
        "cold / plain loop (at most 1.5)": skills["cold, nothing else running"] / skills["plain synchronous loop"],
        "cold / plain loop, CPU": skills["cold, nothing else running (CPU)"] / skills["plain synchronous loop (CPU)"],
        "refresh / cold (at most 0.1)": skills["refresh, nothing changed"] / skills["cold, nothing else running"],
    }
    for name, value in ratios.items():
        print(f"{name:50} {value:5.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
