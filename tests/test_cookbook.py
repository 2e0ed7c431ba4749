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
