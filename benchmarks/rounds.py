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
    """A case failed, its process ended, or it said nothing for too long."""


class Child:
    """A process that runs cases, one after another."""

    def __init__(self, process: trio.Process, stderr: Path) -> None:
        self._process = process
        self._stderr = stderr
        self._seen = b""

    async def ask(self) -> dict[str, float]:
        """One round of the present case.

        Raises:
          ChildFailed: it could not be run.
        """
        return await self._say(b"round\n", _LONGEST_ROUND)

    async def finish(self) -> float:
        """Close the present case and go on to the next; the most memory that the process had, in MiB.

        Raises:
          ChildFailed: it could not be closed.
        """
        return (await self._say(b"end\n", _GRACE))["peak_mib"]

    async def _say(self, line: bytes, seconds: float) -> dict[str, float]:
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send_all(line)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ChildFailed(self._last_words()) from None
        with trio.move_on_after(seconds):
            answer = await self._line()
            if "failed" in answer:
                raise ChildFailed(str(answer["failed"]))
            return answer
        raise ChildFailed(f"nothing in {seconds:.0f} seconds")

    async def _line(self) -> dict[str, float]:
        assert self._process.stdout is not None
        while b"\n" not in self._seen:
            data = await self._process.stdout.receive_some()
            if not data:
                raise ChildFailed(self._last_words())
            self._seen += data
        line, _, self._seen = self._seen.partition(b"\n")
        answer: dict[str, float] = json.loads(line)
        return answer

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
    #: None: what each benchmark says; a quick run has one
    rounds: int | None = None
    say: Callable[[str], None] = attrs.field(default=lambda text: None)

    def rounds_of(self, bench: Bench) -> int:
        return 1 if self.quick else self.rounds or bench.rounds


class _Contender:
    """A case and what it has shown so far."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.missing: str | None = missing(case)
        self.failed: str | None = None
        self.rounds: list[dict[str, float]] = []
        self.peak: float | None = None

    async def one_round(self, child: Child, *, keep: bool = True) -> None:
        if self.failed is None:
            try:
                figures = await child.ask()
            except ChildFailed as exc:
                self.failed = str(exc)
            else:
                self.rounds += [figures] if keep else []

    async def finish(self, child: Child) -> None:
        if self.failed is None:
            try:
                self.peak = await child.finish()
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
            missing=self.missing,
            failed=self.failed,
        )


@attrs.frozen(kw_only=True)
class _Nest:
    """Where the processes of one benchmark live."""

    name: str
    stack: AsyncExitStack
    scratch: Path
    setting: str

    async def open_child(self, *contenders: _Contender) -> Child:
        cases = [contender.case.name for contender in contenders]
        stderr = self.scratch / f"{self.name}-{len(list(self.scratch.iterdir()))}.stderr"
        process = open_process("benchmarks.child", self.name, self.setting, *cases, stderr=stderr)
        return Child(await self.stack.enter_async_context(process), stderr)


async def measure(name: str, bench: Bench, server: str, run: Run) -> BenchResult:
    """Measure all cases of a benchmark."""
    contenders = [_Contender(case) for case in bench.cases]
    present = [contender for contender in contenders if contender.missing is None]
    with tempfile.TemporaryDirectory() as scratch:
        setting = json.dumps({"quick": run.quick, "server": server, "scratch": scratch})
        async with AsyncExitStack() as stack:
            nest = _Nest(name=name, stack=stack, scratch=Path(scratch), setting=setting)
            if run.quick:
                await _one_after_another(nest, present)
            else:
                await _in_turns(nest, present, run.rounds_of(bench), run.say, warm_up=bench.warm_up)
    return BenchResult(
        taken=datetime.now(UTC).isoformat(timespec="seconds"),
        rounds=run.rounds_of(bench),
        quick=run.quick,
        cases={contender.case.name: contender.result() for contender in contenders},
    )


async def _in_turns(
    nest: _Nest, contenders: list[_Contender], rounds: int, say: Callable[[str], None], *, warm_up: bool
) -> None:
    pairs = [(contender, await nest.open_child(contender)) for contender in contenders]
    if warm_up:
        for contender, child in pairs:
            await contender.one_round(child, keep=False)
    for number in range(rounds):
        turn = number % len(pairs)
        for contender, child in pairs[turn:] + pairs[:turn]:
            await contender.one_round(child)
        say(f"{nest.name}: round {number + 1} of {rounds}")
    for contender, child in pairs:
        await contender.finish(child)


async def _one_after_another(nest: _Nest, contenders: list[_Contender]) -> None:
    """One round each, all in one process: whether everything works is seen sooner, and the figures mean nothing."""
    child = await nest.open_child(*contenders)
    for contender in contenders:
        await contender.one_round(child)
        await contender.finish(child)
