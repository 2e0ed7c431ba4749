"""The cookbook: whole programs that run without keys and without a network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COOKBOOK = Path(__file__).parent / "cookbook"
PROGRAMS = sorted(path.name for path in COOKBOOK.glob("*.py"))


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_runs(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(COOKBOOK / program)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout, "a program shows what it has done"


def test_every_program_is_linked_from_a_guide() -> None:
    guides = "".join(path.read_text("utf-8") for path in COOKBOOK.parents[1].glob("clawft_trio/*/README.md"))
    assert [program for program in PROGRAMS if f"tests/cookbook/{program})" not in guides] == []
