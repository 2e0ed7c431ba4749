"""The guides of the subpackages: their examples run, their tables are those of the code, their links lead somewhere."""

from __future__ import annotations

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
