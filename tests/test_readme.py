"""The README's examples run, and what it names exists. The guides have tests of their own (`test_guides.py`)."""

from __future__ import annotations

import ast
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from picture import PICTURE, draw

import clawft_trio
from clawft_trio.llm.catalog import KNOWN

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
EXAMPLES = re.findall(r"<!-- run -->\n```python\n(.*?)```", README, re.DOTALL)
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PROSE = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs(number: int) -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", EXAMPLES[number]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_the_readme_has_at_most_300_lines() -> None:
    assert README.count("\n") <= 300


def test_the_commands_are_in_the_first_screen() -> None:
    assert README.index("<!-- demo -->") < README.index("<!-- tests -->") < 2000


def test_every_python_block_compiles_and_only_the_one_for_real_models_does_not_run() -> None:
    for block in BLOCKS:
        compile(block, "README.md", "exec")
    [not_run] = [block for block in BLOCKS if block not in EXAMPLES]
    assert "openai/gpt-5-mini" in not_run


def test_every_subpackage_is_in_the_table_of_parts() -> None:
    [table] = re.findall(r"^\| part .*?\n\n", README, re.MULTILINE | re.DOTALL)
    for module in pkgutil.iter_modules(clawft_trio.__path__):
        if module.ispkg:
            assert f"`{module.name}`" in table


def test_every_known_provider_is_in_the_table_of_providers() -> None:
    [table] = re.findall(r"^\| provider \|.*?\n\n", README, re.MULTILINE | re.DOTALL)
    named = [name for row in table.strip().splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(named) == sorted(KNOWN)


def named_tests() -> list[str]:
    return sorted(set(re.findall(r"`(tests/[\w/]*(?:\.py(?:::\w+)?)?)`", README)))


@pytest.mark.parametrize("name", named_tests())
def test_a_test_that_is_named_exists(name: str) -> None:
    path, _, function = name.partition("::")
    assert (ROOT / path).exists()
    if function:
        tree = ast.parse((ROOT / path).read_text("utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_each_guarantee_names_its_tests() -> None:
    guarantees = re.findall(r"^\| (\d+) \| \*\*.*?\| (.*) \|$", README, re.MULTILINE)
    assert [int(number) for number, _ in guarantees] == list(range(1, len(guarantees) + 1))
    assert len(guarantees) >= 10
    assert all("`tests/" in tests for _, tests in guarantees)


def test_every_link_leads_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", PROSE, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\(([^)]+)\)", PROSE):
        if target.startswith("#"):
            assert target[1:] in anchors
        elif not target.startswith("https://"):
            assert (ROOT / target).exists(), target


def test_the_picture_is_what_is_drawn_of_that_turn_at_an_address_for_the_package_index() -> None:
    raw = URLS["Repository"].replace("https://github.com", "https://raw.githubusercontent.com")
    assert f"]({raw}/main/{PICTURE.relative_to(ROOT)})" in README
    assert PICTURE.read_text("utf-8") == draw(), "draw it again: python tests/picture.py"
