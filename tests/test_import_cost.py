"""`import clawft_trio` costs at most 1.6 times `import trio, httpx`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CLOCK = "import time; start = time.process_time(); {}; print(time.process_time() - start)"


def cost(statement: str, bytecode: Path) -> float:
    # With compiled modules at hand, as wherever it is installed; some test environments forbid writing them.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(bytecode)}
    script = CLOCK.format(statement)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)


def test_importing_costs_little_more_than_what_is_underneath(tmp_path: Path) -> None:
    for warm in ("import clawft_trio", "import trio, httpx"):
        cost(warm, tmp_path)
    rounds = [(cost("import clawft_trio", tmp_path), cost("import trio, httpx", tmp_path)) for _ in range(5)]
    ours, theirs = (min(times) for times in zip(*rounds, strict=True))
    assert ours <= 1.6 * theirs, f"{ours / theirs:.2f} times"


def test_extras_are_not_imported() -> None:
    script = (
        "import sys, clawft_trio; "
        "print([m for m in ('typer', 'rich', 'httpx2', 'genai_prices', 'opentelemetry', 'hypothesis', 'pytest') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
