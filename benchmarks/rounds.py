"""How everything is measured, in one place.

Every case lives in a process of its own, so that neither imports nor memory nor garbage of one are another's; servers
live in theirs. A first round warms up and is forgotten. Then the cases take turns, each round in another order, so that
what the machine does meanwhile is spread over all of them, and a ratio is taken round by round.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import trio

from benchmarks.bench import Bench, Case, figure_lists
from benchmarks.found import missing, version_of
from benchmarks.results import BenchResult, CaseResult

_ROOT = Path(__file__).parent.parent

#: seconds that a round may take, the imports before the first included
_LONGEST_ROUND = 240.0
#: seconds that a child has to close what it opened
_GRACE = 20.0


class ChildFailed(Exception):
    """A case's process ended, or said nothing for too long."""


class Child:
    """The process of one case. `ask` runs a round."""

    def __init__(self, process: trio.Process, stderr: Path) -> None:
        self._process = process
        self._stderr = stderr
        self._seen = b""

    async def ask(self) -> dict[str, float]:
        """Run one round.

        Raises:
          ChildFailed: it could not.
        """
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send_all(b"\n")
        except trio.BrokenResourceError:
            raise ChildFailed(self._last_words()) from None
        return await self._line(_LONGEST_ROUND)

    async def finish(self) -> float:
        """Let it close its contender; the most memory that it had, in MiB.

        Raises:
          ChildFailed: it could not.
        """
        assert self._process.stdin is not None
        await self._process.stdin.aclose()
        return (await self._line(_GRACE))["peak_mib"]

    async def _line(self, seconds: float) -> dict[str, float]:
        assert self._process.stdout is not None
        with trio.move_on_after(seconds):
            while b"\n" not in self._seen:
                data = await self._process.stdout.receive_some()
                if not data:
                    raise ChildFailed(self._last_words())
                self._seen += data
            line, _, self._seen = self._seen.partition(b"\n")
            answer: dict[str, float] = json.loads(line)
            return answer
        raise ChildFailed(f"nothing in {seconds:.0f} seconds")

    def _last_words(self) -> str:
        said = [line for line in self._stderr.read_text(errors="replace").splitlines() if line.strip()]
        return said[-1].strip()[:300] if said else "it ended without a word"


@asynccontextmanager
async def open_process(*arguments: str, stderr: Path | None = None) -> AsyncGenerator[trio.Process, None]:
    """`python -m …` with pipes, killed at the end if it has not gone by itself."""
    with (stderr or Path("/dev/null")).open("wb") as errors:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors if stderr is not None else None,
            cwd=_ROOT,
        )
    try:
        yield process
    finally:
        with trio.CancelScope(shield=True):
            assert process.stdin is not None
            await process.stdin.aclose()
            with trio.move_on_after(_GRACE):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()


@asynccontextmanager
async def open_model_server() -> AsyncGenerator[str, None]:
    """The URL of a model server in a process of its own."""
    async with open_process("benchmarks.model_server") as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(await process.stdout.receive_some())}"


@attrs.frozen(kw_only=True)
class Run:
    """How much is measured, and who is told how it goes."""

    quick: bool = False
    #: None: what each benchmark says
    rounds: int | None = None
    say: Callable[[str], None] = attrs.field(default=lambda text: None)

    def rounds_of(self, bench: Bench) -> int:
        return self.rounds or (bench.quick_rounds if self.quick else bench.rounds)


class _Contender:
    """A case, its process and what it has shown so far."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.child: Child | None = None
        self.rounds: list[dict[str, float]] = []
        self.failed: str | None = None
        self.peak: float | None = None

    async def one_round(self, *, keep: bool) -> None:
        if self.child is None or self.failed is not None:
            return
        try:
            figures = await self.child.ask()
        except ChildFailed as exc:
            self.failed = str(exc)
            return
        if keep:
            self.rounds.append(figures)

    async def finish(self) -> None:
        if self.child is not None and self.failed is None:
            try:
                self.peak = await self.child.finish()
            except ChildFailed as exc:
                self.failed = str(exc)

    def result(self) -> CaseResult:
        case = self.case
        return CaseResult(
            role=case.role,
            covers=case.covers,
            series=case.series,
            size=case.size,
            version=(case.needs and version_of(case.needs)) or "",
            figures=figure_lists(self.rounds) if self.failed is None else {},
            peak_mib=self.peak,
            missing=missing(case),
            failed=self.failed,
        )


async def measure(name: str, bench: Bench, server: str, run: Run) -> BenchResult:
    """Measure all cases of a benchmark, in turns."""
    contenders = [_Contender(case) for case in bench.cases]
    rounds = run.rounds_of(bench)
    with tempfile.TemporaryDirectory() as scratch:
        async with AsyncExitStack() as stack:
            for number, contender in enumerate(contenders):
                if missing(contender.case) is None:
                    folder = Path(scratch) / str(number)
                    folder.mkdir()
                    setting = {"quick": run.quick, "server": server, "folder": str(folder)}
                    contender.child = await _open_child(stack, name, contender.case, setting, folder)
                    await contender.one_round(keep=False)
            for number in range(rounds):
                turn = number % len(contenders)
                for contender in contenders[turn:] + contenders[:turn]:
                    await contender.one_round(keep=True)
                run.say(f"{name}: round {number + 1} of {rounds}")
            for contender in contenders:
                await contender.finish()
    return BenchResult(
        taken=datetime.now(UTC).isoformat(timespec="seconds"),
        rounds=rounds,
        quick=run.quick,
        cases={contender.case.name: contender.result() for contender in contenders},
    )


async def _open_child(
    stack: AsyncExitStack, name: str, case: Case, setting: dict[str, Any], folder: Path
) -> Child:
    stderr = folder.with_suffix(".stderr")
    arguments = ("benchmarks.child", name, case.name, json.dumps(setting))
    return Child(await stack.enter_async_context(open_process(*arguments, stderr=stderr)), stderr)


