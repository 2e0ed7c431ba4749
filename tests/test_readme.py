"""What the README shows, runs; what it names, exists."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from picture import PICTURE, draw

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
EXAMPLES = re.findall(r"<!-- run -->\n```python\n(.*?)```", README, re.DOTALL)
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PROSE = re.sub(r"```.*?```", "", README, flags=re.DOTALL)

# A room's name, and what its example cannot do without.
ROOMS = {
    "agent": "open_agent",
    "bus": "open_bus",
    "config": "parse_config",
    "context": "ContextBuilder",
    "costs": "ledger.spending",
    "llm": "open_stream",
    "mcp": "serve_mcp",
    "observe": "open_recording",
    "pipeline": '"tiers"',
    "resilience": "compose",
    "store": "store=",
    "testing": "cancel_everywhere",
    "tools": "execute_all",
}


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs(number: int) -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", EXAMPLES[number]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stderr


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_an_example(room: str) -> None:
    assert any(ROOMS[room] in example for example in EXAMPLES)


def test_there_are_examples_and_two_commands() -> None:
    assert len(EXAMPLES) >= 2
    assert README.index("<!-- demo -->") < README.index("<!-- tests -->") < 1500


def test_every_python_block_compiles_and_all_but_the_first_run() -> None:
    for block in BLOCKS:
        compile(block, "README.md", "exec")
    # The first is for real models, and would ask for their keys.
    assert BLOCKS[1:] == EXAMPLES


def named_tests() -> list[str]:
    return sorted(set(re.findall(r"`(tests/[\w/]*(?:\.py(?:::\w+)?)?)`", README)))


@pytest.mark.parametrize("name", named_tests())
def test_a_test_that_is_named_exists(name: str) -> None:
    path, _, function = name.partition("::")
    assert (ROOT / path).exists()
    if function:
        tree = ast.parse((ROOT / path).read_text("utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_each_law_names_its_tests() -> None:
    laws = re.findall(r"^\| (\d+) \| \*\*.*?\| (.*) \|$", README, re.MULTILINE)
    assert [int(number) for number, _ in laws] == list(range(1, 11))
    assert all("`tests/" in tests for _, tests in laws)


def test_every_link_leads_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", PROSE, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\(([^)]+)\)", PROSE):
        if target.startswith("#"):
            assert target[1:] in anchors
        elif not target.startswith("https://"):
            assert (ROOT / target).exists()


def test_every_chapter_is_in_the_contents() -> None:
    contents, _, rest = PROSE.partition("\n## ")
    for heading in re.findall(r"^## (.*)$", "## " + rest, re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        assert f"(#{anchor})" in contents


def test_the_picture_is_what_is_drawn_of_that_turn() -> None:
    assert f"]({PICTURE.relative_to(ROOT)})" in README
    assert PICTURE.read_text("utf-8") == draw(), "draw it again: python tests/picture.py"
