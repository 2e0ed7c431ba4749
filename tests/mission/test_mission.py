"""`pytest -m mission -rA`: every line of the specification with the test that shows it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from mission.lines import ALL, Line

TESTS = Path(__file__).parent.parent

pytestmark = pytest.mark.mission


def defined_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    } | {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def missing(line: Line) -> list[str]:
    """The named tests that are not there."""
    gone = []
    for name in line.shown_by:
        file, _, function = name.partition("::")
        path = TESTS / file
        if not path.is_file() or function.partition("[")[0] not in defined_in(path):
            gone.append(name)
    return gone


@pytest.mark.parametrize("line", ALL, ids=lambda line: line.key)
def test_line(line: Line) -> None:
    if not line.shown_by:
        pytest.xfail(f"owed by {line.subpackage}")
    assert missing(line) == []
    print(f"{line.key}: {line.text}")
    for name in line.shown_by:
        print(f"    {name}")


def test_every_named_test_exists() -> None:
    assert [name for line in ALL for name in missing(line)] == []


def test_keys_are_unique() -> None:
    keys = [line.key for line in ALL]
    assert len(keys) == len(set(keys))
