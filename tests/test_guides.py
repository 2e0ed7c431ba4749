"""The guides of the subpackages: their examples run, their tables are those of the code, their links lead somewhere."""

from __future__ import annotations

import ast
import builtins
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from guide_tables import GUIDES, ROOT, with_tables

_RUN_ALL = """
import sys, json
for number, source in enumerate(json.load(sys.stdin)):
    try:
        exec(compile(source, f"example {number + 1}", "exec"), {"__name__": "__main__"})
    except BaseException as exc:
        exc.add_note(f"in example {number + 1}:\\n{source}")
        raise
"""


def name_of(guide: Path) -> str:
    return guide.parent.name


@pytest.mark.parametrize("guide", GUIDES, ids=name_of)
def test_every_example_runs(guide: Path) -> None:
    examples = re.findall(r"(?<!<!-- needs a key -->\n)```python\n(.*?)```", guide.read_text("utf-8"), re.DOTALL)
    assert examples, "a guide has examples"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _RUN_ALL],
        input=json.dumps(examples),
        capture_output=True,
        text=True,
        timeout=100,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("guide", GUIDES, ids=name_of)
def test_tables_are_those_of_the_code(guide: Path) -> None:
    text = guide.read_text("utf-8")
    assert text == with_tables(text), "run: python tests/guide_tables.py"


@pytest.mark.parametrize("guide", GUIDES, ids=name_of)
def test_links_and_named_tests_exist(guide: Path) -> None:
    text = guide.read_text("utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if not target.startswith(("https://", "#")):
            assert (guide.parent / target.partition("#")[0]).exists(), target
    for name in re.findall(r"`(tests/[\w/]*\.py)", text):
        assert (ROOT / name).exists(), name


SUBPACKAGES = sorted(path.parent.name for path in ROOT.glob("clawft_trio/*/__init__.py"))


def test_every_subpackage_has_a_guide() -> None:
    assert [name_of(guide) for guide in GUIDES] == SUBPACKAGES


@pytest.mark.parametrize("guide", GUIDES, ids=name_of)
def test_every_field_of_a_table_has_a_meaning(guide: Path) -> None:
    empty = re.findall(r"^\| (`\w+`) \| .* \|  \|$", guide.read_text("utf-8"), re.MULTILINE)
    assert not empty, "write a `#:` comment above the field"


@pytest.mark.parametrize("guide", GUIDES, ids=name_of)
def test_anchors_of_links_exist(guide: Path) -> None:
    for target in re.findall(r"\]\(([^)]*#[^)]+)\)", guide.read_text("utf-8")):
        path, _, anchor = target.partition("#")
        if not path.startswith("https://"):
            headings = re.findall(r"^#+ (.*)$", (guide.parent / (path or guide.name)).read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def defined_names() -> dict[str, set[str]]:
    """Every class, function and constant of the package, with the names that a class defines itself."""
    found: dict[str, set[str]] = {}
    for path in ROOT.glob("clawft_trio/**/*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found.setdefault(node.name, set()).update(_names_of(node.body))
            else:
                for name in _names_of([node]):
                    found.setdefault(name, set())
    return found


def _names_of(body: list[ast.stmt]) -> set[str]:
    names: set[str] = set()
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
            # What `__init__` sets.
            names |= {
                inner.attr
                for inner in ast.walk(node)
                if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store)
            }
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


DEFINED = defined_names()
ELSEWHERE = {
    *dir(builtins),
    "Annotated",
    "Bash",
    "Decimal",
    "FastAPI",
    "Field",
    "HTTPStatusError",
    "MockClock",
    "Ms",
    "MyChannel",
    "Origin",
    "Read",
    "Starlette",
    "StreamingResponse",
    "Terminal",
    "TypedDict",
}
"""Names that guides use and other packages, or their readers, define."""


@pytest.mark.parametrize("guide", GUIDES, ids=name_of)
def test_every_class_and_field_that_is_named_exists(guide: Path) -> None:
    text = re.sub(r"```.*?```", "", guide.read_text("utf-8"), flags=re.DOTALL)
    for code in re.findall(r"`([^`\n]+)`", text):
        for name, attribute in re.findall(r"(?<![\w./-])([A-Z]\w*[a-z]\w*)(?![\w-])(?:\.([a-z]\w*))?", code):
            if name in ELSEWHERE:
                continue
            assert name in DEFINED, f"`{code}`: there is no {name}"
            assert not attribute or attribute in DEFINED[name], f"`{code}`: {name} has no {attribute}"
