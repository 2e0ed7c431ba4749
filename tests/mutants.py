"""Run a sample of mutants: change one operator or constant at a time, and see whether the tests of its area fail.

    python tests/mutants.py --count 200 --seed 1
    python tests/mutants.py --count 1000 --only truncate
    python tests/mutants.py --count 50 --all --only costs/ store/
    python tests/mutants.py --count 200 --all --map .coverage

The sample is of the files in `AREAS`, which decide about limits and access; with `--all` it is of the whole package, and
a file outside of `AREAS` is tested by the folder of its subpackage. Each mutant is tested by a fork of this process,
which has imported the libraries already, in a copy of the tree; the tests stop at the first failure. Prints every
survivor and the kill rate; the exit code is 1 when it is under 90 %, or under `--at-least`.

With `--map`, a mutant is tested by at most `--tests` tests that run its line, those of its file and folder first, and a
line that no test runs counts as a survivor. The map is a data file of coverage, with a context for each test:

    pip install pytest-cov && python -m pytest --cov=clawft_trio --cov-context=test --cov-report=

At the end, the tests that failed run again without a mutant; when one of them fails then, too, the exit code is 1.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent

BASE_SECONDS = 1800
"""The longest time for the tests of an area without a mutant."""

TIMES_BASE = 10
"""A mutant hangs, which counts as killed, after so many times the seconds that its tests take without a mutant."""

_LEAST_SECONDS = 120.0

_FAILED_TEST = "failed-test"

# What pytest returns when a test failed, and when a module could not be imported.
_FAILED = {1, 2}

_SLEEP = 0.05

_PUBLIC_API = "tests/test_public_api.py::test_the_public_api_is_the_one_written_down"

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

# Imported once, before the forks. No plugins of pytest, whose asserts are rewritten, and nothing of this package, whose
# files differ from mutant to mutant.
_LIBRARIES = "attrs cattrs httpx jsonschema msgspec rich trio trio.testing typer yaml"

# Files that decide, and the tests that guard them.
AREAS = {
    "clawft_trio/tools/thread_pool.py": ["tests/tools/test_thread_shares.py", "tests/tools/test_cancellation.py"],
    "clawft_trio/tools/path_locks.py": ["tests/tools/test_path_locks.py"],
    "clawft_trio/tools/workspace.py": [
        "tests/hostile/test_bounds.py",
        "tests/hostile/test_workspaces.py",
        "tests/tools/test_workspace.py",
        "tests/tools/test_hostile_tools.py",
    ],
    "clawft_trio/tools/builtin/safe_options.py": ["tests/tools/test_hostile_tools.py", "tests/tools/test_command.py"],
    "clawft_trio/tools/builtin/charset.py": ["tests/tools/test_hostile_tools.py"],
    "clawft_trio/tools/truncate.py": [
        "tests/tools/test_truncate_limits.py",
        "tests/tools/test_truncate.py",
        "tests/hostile/test_results.py",
    ],
    "clawft_trio/tools/arguments.py": ["tests/tools/test_arguments_limits.py", "tests/tools/test_arguments.py"],
    "clawft_trio/files/confinement.py": ["tests/context/test_confined.py"],
    "clawft_trio/net/sse.py": ["tests/net/test_sse_limits.py", "tests/net/test_sse.py"],
    "clawft_trio/mcp/jsonrpc.py": ["tests/mcp/test_jsonrpc_limits.py", "tests/mcp/test_jsonrpc.py"],
    "clawft_trio/observe/redaction.py": ["tests/hostile/test_secrets.py", "tests/config/test_secret_sweep.py"],
    "clawft_trio/resilience/retry.py": [
        "tests/resilience/test_retry.py",
        "tests/resilience/test_retry_hints.py",
        "tests/resilience/test_parameters.py",
        "tests/resilience/test_retry_budget.py",
        "tests/resilience/test_attempts.py",
    ],
    "clawft_trio/resilience/circuit_breaker.py": [
        "tests/resilience/test_circuit_breaker.py",
        "tests/resilience/test_parameters.py",
        "tests/resilience/test_regressions.py",
    ],
    "clawft_trio/bus/bounded_queue.py": ["tests/bus"],
    "clawft_trio/bus/fair_queue.py": ["tests/bus/test_fair_queue.py", "tests/bus"],
    "clawft_trio/auth.py": [
        "tests/pipeline/test_permission_levels.py",
        "tests/hostile/test_bounds.py",
        "tests/pipeline/test_permissions.py",
        "tests/tools/test_tool.py",
    ],
    "clawft_trio/keys.py": ["tests/hostile/test_senders.py", "tests/bus"],
}

_COMPARISONS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult}

# What a change of means nothing to a caller.
_NOT_BEHAVIOUR = {"__repr__", "__str__", "statistics"}


def skipped(tree: ast.Module) -> set[ast.AST]:
    """The nodes in annotations, decorators, `repr`s and code for type checkers only."""
    roots: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            roots += node.decorator_list
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            roots += [node] if node.name in _NOT_BEHAVIOUR else _annotations(node)
        elif isinstance(node, ast.AnnAssign):
            roots.append(node.annotation)
        elif isinstance(node, ast.ClassDef):
            roots += [*node.bases, *node.keywords]
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            roots.append(node)
        elif isinstance(node, ast.keyword) and node.arg in {"repr", "eq", "kw_only", "slots", "gc", "strict"}:
            roots.append(node)
    return {inner for root in roots for inner in ast.walk(root)}


def _annotations(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.AST]:
    arguments = [argument for argument in ast.walk(function.args) if isinstance(argument, ast.arg)]
    return [one for one in (function.returns, *(argument.annotation for argument in arguments)) if one]


def places(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every node that can be changed, by its number in `ast.walk`, and how."""
    left_out = skipped(tree)
    for number, node in enumerate(ast.walk(tree)):
        if node in left_out:
            continue
        if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARISONS:
            yield number, "comparison"
        elif isinstance(node, ast.BoolOp):
            yield number, "and/or"
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield number, "not"
        elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            yield number, "arithmetic"
        elif isinstance(node, ast.Constant) and (isinstance(node.value, bool) or type(node.value) is int):
            yield number, "constant"
        elif isinstance(node, ast.Return) and node.value is not None and ast.unparse(node.value) != "None":
            yield number, "return"


def mutate(source: str, number: int) -> tuple[str, int]:
    """*source* with one node changed, and its line."""
    tree = ast.parse(source)
    node = list(ast.walk(tree))[number]
    if isinstance(node, ast.Compare):
        node.ops[0] = _COMPARISONS[type(node.ops[0])]()
    elif isinstance(node, ast.BoolOp):
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    elif isinstance(node, ast.UnaryOp):
        node.op, node.operand = ast.Not(), ast.UnaryOp(ast.Not(), node.operand)
    elif isinstance(node, ast.BinOp):
        node.op = _ARITHMETIC[type(node.op)]()
    elif isinstance(node, ast.Constant):
        node.value = _other(node.value)
    elif isinstance(node, ast.Return):
        node.value = ast.Constant(None)
    ast.fix_missing_locations(tree)
    return ast.unparse(tree), getattr(node, "lineno", 0)


def _other(value: object) -> object:
    if isinstance(value, bool):
        return not value
    # One more of a large bound is as good as the bound; nothing is not.
    assert isinstance(value, int)
    return value + 1 if value < 100 else 0


class Map:
    """Which tests run which lines, by a data file of coverage with the contexts of pytest-cov."""

    def __init__(self, file: str) -> None:
        coverage = importlib.import_module("coverage")
        self._data = coverage.CoverageData(file)
        self._data.read()

    def tests(self, name: str, number: int) -> list[str]:
        """The tests that run a node of a file, nearest first; none when no test runs it.

        A default or a constant of a class or module is evaluated by an import, which is no test's: it is tested by
        what runs the definition around it, and by the test of the public API.
        """
        tree = ast.parse((ROOT / name).read_text())
        node, around = _place(tree, number)
        contexts: dict[int, list[str]] = {}
        for measured in self._data.measured_files():
            for line, found in self._data.contexts_by_lineno(measured).items() if measured.endswith("/" + name) else ():
                contexts.setdefault(line, []).extend(found)

        def running(first: int, last: int) -> set[str]:
            found = {context for line in range(first, last + 1) for context in contexts.get(line, ())}
            return {context.rpartition("|")[0] for context in found}

        ran = running(node.lineno, node.end_lineno) or running(around[-1].lineno, around[-1].lineno)
        if any(isinstance(outer, _FUNCTIONS) for outer in around[:-1]) and ran != {""}:
            return nearest(name, ran)
        definitions = [outer for outer in reversed(around) if isinstance(outer, (*_FUNCTIONS, ast.ClassDef))]
        for first, last in [
            *((outer.lineno, outer.end_lineno) for outer in definitions),
            (1, max(contexts, default=1)),
        ]:
            if running(first, last) - {""}:
                return [_PUBLIC_API, *nearest(name, running(first, last))]
        return [_PUBLIC_API, *tests_of(name)]


def _place(tree: ast.Module, number: int) -> tuple[Any, list[Any]]:
    """A node, and the statements around it, outermost first."""
    node: Any = list(ast.walk(tree))[number]
    statements: list[Any] = [outer for outer in ast.walk(tree) if isinstance(outer, ast.stmt)]
    return node, [one for one in statements if one.lineno <= node.lineno and node.end_lineno <= one.end_lineno]


def nearest(name: str, tests: Iterable[str]) -> list[str]:
    """The tests, those of a file's own module and folder first, and one of each function before its other parameters."""
    folder, stem = f"tests/{Path(name).parts[1]}/", Path(name).stem
    turns: Counter[str] = Counter()
    ranks: dict[str, int] = {}
    for test in sorted(set(tests) - {""}):
        module, _, function = test.partition("[")[0].partition("::")
        turns[module + function] += 1
        far = 0 if stem in module or module in AREAS.get(name, []) else 1 if module.startswith(folder) else 2
        ranks[test] = turns[module + function] + 2 * far
    return sorted(ranks, key=ranks.__getitem__)


def outcome(copy: Path, tests: list[str], seconds: float) -> str:
    """How the tests end in the copy: "passed", "failed", "hung" after *seconds*, or "broken" when pytest did not test."""
    return _outcome_of(partial(_test, copy, tests), seconds)


def imports(copy: Path, name: str) -> bool:
    """Whether a module of the copy can be imported. Without it there are no tests, and pytest only says so."""
    module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return _outcome_of(partial(_import, copy, module), _LEAST_SECONDS) == "passed"


def _outcome_of(work: Callable[[], None], seconds: float) -> str:
    child = os.fork()
    if child == 0:
        work()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return "passed" if code == 0 else "failed" if code in _FAILED else "broken"
        time.sleep(_SLEEP)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hung"


class _Failures:
    """A plugin of pytest that writes the name of a failed test into a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._file.write_text(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        # A module that cannot be imported. When tests of it are named, pytest ends as if their names were wrong.
        if report.failed:
            self._file.write_text(report.nodeid)

    @property
    def any(self) -> bool:
        return self._file.exists()


def _enter(copy: Path) -> None:
    """Make this process, a fork, use the package of the copy, and say nothing."""
    os.setsid()
    os.chdir(copy)
    # In front of the place where the package is installed for this interpreter; its children find it there, too.
    sys.path.insert(0, str(copy))
    os.environ["PYTHONPATH"] = str(copy)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)


def _import(copy: Path, module: str) -> None:
    """Import a module of the copy in this process, a fork, and end it."""
    try:
        _enter(copy)
        importlib.import_module(module)
        os._exit(0)
    finally:
        os._exit(1)


def _test(copy: Path, tests: list[str]) -> None:
    """Run the tests in this process, a fork, and end it."""
    try:
        _enter(copy)
        options = ["-q", "-x", "-p", "no:randomly", "-p", "no:cacheprovider"]
        failures = _Failures(copy / _FAILED_TEST)
        code = pytest.main([*options, *tests], plugins=[failures])
        os._exit(int(pytest.ExitCode.TESTS_FAILED if code == pytest.ExitCode.USAGE_ERROR and failures.any else code))
    finally:
        os._exit(99)


def tests_of(name: str) -> list[str]:
    """The tests of a file: those of its area, or the folder of its subpackage."""
    if name in AREAS:
        return AREAS[name]
    folder = "tests/" + Path(name).parts[1]
    return [folder] if (ROOT / folder).is_dir() else ["tests/llm", "tests/resilience", "tests/agent"]


def sample(count: int, seed: int, only: list[str], *, everything: bool) -> list[tuple[str, int, str]]:
    """Mutants of the files with a part of *only* in their names, the same for the same seed."""
    files = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "clawft_trio").rglob("*.py"))
    all_of_them = [
        (name, number, how)
        for name in files
        if (everything or name in AREAS) and any(part in name for part in only)
        for number, how in places(ast.parse((ROOT / name).read_text()))
    ]
    return random.Random(seed).sample(all_of_them, min(count, len(all_of_them)))


def main() -> int:
    """Run the sample; the exit code."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=200)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--only", nargs="+", default=[""], help="files with one of these in their names")
    options.add_argument("--map", help="a data file of coverage with contexts")
    options.add_argument("--tests", type=int, default=40, help="the most tests for a mutant, with --map")
    options.add_argument("--at-least", type=float, default=0.9, help="the lowest kill rate that is no failure")
    options.add_argument("--all", action="store_true", help="the whole package, not only the files in AREAS")
    chosen = options.parse_args()
    mutants = sample(chosen.count, chosen.seed, chosen.only, everything=chosen.all)
    for library in _LIBRARIES.split():
        importlib.import_module(library)
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "tree")
        kept_out = shutil.ignore_patterns(".git", ".venv", ".ci-envs", ".mypy_cache", ".hypothesis")
        shutil.copytree(ROOT, copy, ignore=kept_out)
        if chosen.map:
            lines = Map(chosen.map)
            runs = [(lines.tests(name, number)[: chosen.tests], _LEAST_SECONDS) for name, number, _ in mutants]
        else:
            limits = unchanged(copy, {tuple(tests_of(name)) for name, _, _ in mutants})
            runs = [(tests_of(name), limits[tuple(tests_of(name))]) for name, _, _ in mutants]
        killers: set[str] = set()
        for (name, number, how), (tests, seconds) in zip(mutants, runs, strict=True):
            file = copy / name
            source, stat = file.read_text(), file.stat()
            changed, line = mutate(source, number)
            file.write_text(changed)
            ended = outcome(copy, tests, seconds) if tests else "not run"
            if ended == "broken" and not imports(copy, name):
                ended = "failed"
            file.write_text(source)
            # Its compiled file is valid again.
            os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            if ended == "failed":
                killers |= failed_tests(copy)
            else:
                survivors += ended != "hung"
                print(f"{ended}: {name}:{line}: {how}", flush=True)
        rate = 1 - survivors / len(mutants)
        print(f"{len(mutants)} mutants with seed {chosen.seed}, {survivors} survived: {rate:.1%} killed", flush=True)
        if chosen.map and killers:
            unchanged(copy, {tuple(sorted(killers))})
    return 0 if rate >= chosen.at_least else 1


def failed_tests(copy: Path) -> set[str]:
    """The test that failed in the last run; none when a module of tests could not be imported."""
    file = copy / _FAILED_TEST
    failed = {file.read_text()} if file.exists() else set()
    file.unlink(missing_ok=True)
    return failed


def unchanged(copy: Path, groups: set[tuple[str, ...]]) -> dict[tuple[str, ...], float]:
    """Run tests without a mutant; for each group the seconds after which it hangs. Ends the program when they fail."""
    limits: dict[tuple[str, ...], float] = {}
    for tests in sorted(groups):
        began = time.monotonic()
        if (ended := outcome(copy, list(tests), BASE_SECONDS)) != "passed":
            sys.exit(f"Without a mutant, these tests {ended}: {failed_tests(copy) or tests}")
        limits[tests] = max(_LEAST_SECONDS, TIMES_BASE * (time.monotonic() - began))
    return limits


if __name__ == "__main__":
    sys.exit(main())
