"""Run a sample of mutants: change one operator or constant at a time, and see whether the tests of its area fail.

    python tests/mutants.py --count 200 --seed 1

Each mutant is one process of pytest on the tests of its subpackage, in a copy of the tree. Prints every survivor and
the kill rate; the exit code is 1 when it is under 90 %.
"""

from __future__ import annotations

import argparse
import ast
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

SECONDS = 300
"""For the tests of one mutant; a mutant that hangs is killed, which counts."""

RATE = 0.9

# Files that decide, and the tests that guard them.
AREAS = {
    "clawft_trio/tools/thread_pool.py": ["tests/tools/test_thread_shares.py", "tests/tools/test_cancellation.py"],
    "clawft_trio/tools/path_locks.py": ["tests/tools/test_path_locks.py"],
    "clawft_trio/tools/workspace.py": ["tests/tools/test_workspace.py", "tests/tools/test_hostile_tools.py"],
    "clawft_trio/tools/builtin/safe_options.py": ["tests/tools/test_hostile_tools.py", "tests/tools/test_command.py"],
    "clawft_trio/tools/truncate.py": ["tests/tools/test_truncate.py"],
    "clawft_trio/tools/arguments.py": ["tests/tools/test_arguments.py"],
    "clawft_trio/files/confinement.py": ["tests/context/test_confined.py"],
    "clawft_trio/net/sse.py": ["tests/net/test_sse.py"],
    "clawft_trio/mcp/jsonrpc.py": ["tests/mcp/test_jsonrpc.py"],
    "clawft_trio/resilience/retry.py": ["tests/resilience"],
    "clawft_trio/resilience/circuit_breaker.py": ["tests/resilience"],
    "clawft_trio/bus/bounded_queue.py": ["tests/bus"],
    "clawft_trio/bus/fair_queue.py": ["tests/bus"],
    "clawft_trio/auth.py": ["tests/pipeline/test_permissions.py", "tests/tools/test_tool.py"],
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


def places(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every node that can be changed, by its number in `ast.walk`, and how."""
    for number, node in enumerate(ast.walk(tree)):
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
        elif isinstance(node, ast.Return) and node.value is not None:
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
        node.value = (not node.value) if isinstance(node.value, bool) else node.value + 1
    elif isinstance(node, ast.Return):
        node.value = ast.Constant(None)
    ast.fix_missing_locations(tree)
    return ast.unparse(tree), getattr(node, "lineno", 0)


def killed(copy: Path, tests: list[str]) -> bool:
    """Whether the tests fail in the copy."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:randomly", "-p", "no:cacheprovider", *tests]
    try:
        return subprocess.run(command, cwd=copy, capture_output=True, timeout=SECONDS, check=False).returncode != 0
    except subprocess.TimeoutExpired:
        return True


def sample(count: int, seed: int) -> list[tuple[str, int, str]]:
    """Mutants of all areas, the same for the same seed."""
    all_of_them = [
        (name, number, how)
        for name in AREAS
        if (ROOT / name).exists()
        for number, how in places(ast.parse((ROOT / name).read_text()))
    ]
    return random.Random(seed).sample(all_of_them, min(count, len(all_of_them)))


def main() -> int:
    """Run the sample; the exit code."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=200)
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    mutants = sample(chosen.count, chosen.seed)
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "tree")
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", ".ci-envs", "__pycache__"))
        if any(killed(copy, tests) for tests in {tuple(one): one for one in AREAS.values()}.values()):
            print("The tests fail without a mutant.")
            return 1
        for name, number, how in mutants:
            source = (ROOT / name).read_text()
            changed, line = mutate(source, number)
            (copy / name).write_text(changed)
            if not killed(copy, AREAS[name]):
                survivors.append(f"{name}:{line}: {how}")
                print(f"survived: {survivors[-1]}", flush=True)
            (copy / name).write_text(source)
    rate = 1 - len(survivors) / len(mutants)
    print(f"{len(mutants)} mutants with seed {chosen.seed}, {len(survivors)} survived: {rate:.1%} killed")
    return 0 if rate >= RATE else 1


if __name__ == "__main__":
    sys.exit(main())
