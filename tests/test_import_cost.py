"""`import clawft_trio` costs at most 1.6 times `import trio, httpx`."""

from __future__ import annotations

import subprocess
import sys

CLOCK = "import time; start = time.process_time(); {}; print(time.process_time() - start)"


def cost(statement: str) -> float:
    done = subprocess.run([sys.executable, "-c", CLOCK.format(statement)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_importing_costs_little_more_than_what_is_underneath() -> None:
    cost("import clawft_trio")  # writes or warms what the others then share
    rounds = [(cost("import clawft_trio"), cost("import trio, httpx")) for _ in range(7)]
    ours, theirs = (min(times) for times in zip(*rounds, strict=True))
    assert ours <= 1.6 * theirs, f"{ours / theirs:.2f} times"


def test_extras_are_not_imported() -> None:
    script = (
        "import sys, clawft_trio; "
        "print([m for m in ('typer', 'rich', 'httpx2', 'genai_prices', 'opentelemetry', 'hypothesis', 'pytest') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
