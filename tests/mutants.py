"""Run a sample of mutants: change one operator or constant at a time, and see whether the tests of its area fail.

    python tests/mutants.py --count 200 --seed 1
    python tests/mutants.py --count 1000 --only truncate
    python tests/mutants.py --count 50 --all --only costs/

The sample is of the files in `AREAS`, which decide about limits and access; with `--all` it is of the whole package, and
a file outside of `AREAS` is tested by the folder of its subpackage. Each mutant is tested by a fork of this process,
which has imported the libraries already, in a copy of the tree; the tests stop at the first failure. Prints every
survivor and the kill rate; the exit code is 1 when it is under 90 %.
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
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

BASE_SECONDS = 1800
"""The longest time for the tests of an area without a mutant."""

TIMES_BASE = 10
"""A mutant hangs, which counts as killed, after so many times the seconds that its tests take without a mutant."""

_LEAST_SECONDS = 120.0

# What pytest returns when a test failed, and when a module could not be imported.
_FAILED = {1, 2}

RATE = 0.9

_SLEEP = 0.05

# Imported once, before the forks. No plugins of pytest, whose asserts are rewritten, and nothing of this package, whose
# files differ from mutant to mutant.
_LIBRARIES = "attrs cattrs httpx jsonschema msgspec rich trio trio.testing typer yaml"

# Files that decide, and the tests that guard them.
AREAS = {
    "clawft_trio/tools/thread_pool.py": ["tests/tools/test_thread_shares.py", "tests/tools/test_cancellation.py"],
    "clawft_trio/tools/path_locks.py": ["tests/tools/test_path_locks.py"],
    "clawft_trio/tools/workspace.py": [
        "tests/hostile/test_bounds.py",
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


def outcome(copy: Path, tests: list[str], seconds: float) -> str:
    """How the tests end in the copy: "passed", "failed", "hung" after *seconds*, or "broken" when pytest did not test."""
    child = os.fork()
    if child == 0:
        _test(copy, tests)
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


def _test(copy: Path, tests: list[str]) -> None:
    """Run the tests in this process, a fork, and end it."""
    try:
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
        code = pytest.main(["-q", "-x", "-p", "no:randomly", "-p", "no:cacheprovider", *tests])
        os._exit(int(code))
    finally:
        os._exit(99)


def tests_of(name: str) -> list[str]:
    """The tests of a file: those of its area, or the folder of its subpackage."""
    if name in AREAS:
        return AREAS[name]
    folder = "tests/" + Path(name).parts[1]
    return [folder] if (ROOT / folder).is_dir() else ["tests/llm", "tests/resilience", "tests/agent"]


def sample(count: int, seed: int, only: str, *, everything: bool) -> list[tuple[str, int, str]]:
    """Mutants of the files with *only* in their names, the same for the same seed."""
    files = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "clawft_trio").rglob("*.py"))
    all_of_them = [
        (name, number, how)
        for name in files
        if (everything or name in AREAS) and only in name
        for number, how in places(ast.parse((ROOT / name).read_text()))
    ]
    return random.Random(seed).sample(all_of_them, min(count, len(all_of_them)))


def main() -> int:
    """Run the sample; the exit code."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=200)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--only", default="", help="files with this in their names")
    options.add_argument("--all", action="store_true", help="the whole package, not only the files in AREAS")
    chosen = options.parse_args()
    mutants = sample(chosen.count, chosen.seed, chosen.only, everything=chosen.all)
    for library in _LIBRARIES.split():
        importlib.import_module(library)
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "tree")
        kept_out = shutil.ignore_patterns(".git", ".venv", ".ci-envs", ".mypy_cache", ".hypothesis", "__pycache__")
        shutil.copytree(ROOT, copy, ignore=kept_out)
        limits: dict[tuple[str, ...], float] = {}
        for tests in sorted({tuple(tests_of(name)) for name, _, _ in mutants}):
            began = time.monotonic()
            if (ended := outcome(copy, list(tests), BASE_SECONDS)) != "passed":
                print(f"Without a mutant, these tests {ended}: {tests}")
                return 1
            limits[tests] = max(_LEAST_SECONDS, TIMES_BASE * (time.monotonic() - began))
        for name, number, how in mutants:
            source, tests = (ROOT / name).read_text(), tests_of(name)
            changed, line = mutate(source, number)
            (copy / name).write_text(changed)
            ended = outcome(copy, tests, limits[tuple(tests)])
            if ended != "failed":
                survivors += ended != "hung"
                print(f"{ended}: {name}:{line}: {how}", flush=True)
            (copy / name).write_text(source)
    rate = 1 - survivors / len(mutants)
    print(f"{len(mutants)} mutants with seed {chosen.seed}, {survivors} survived: {rate:.1%} killed")
    return 0 if rate >= RATE else 1


if __name__ == "__main__":
    sys.exit(main())
