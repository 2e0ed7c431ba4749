"""What `import` costs: time, memory, modules. Each import has an interpreter of its own, its bytecode at hand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.bench import Bench, Case, Figure, Goal, Open, PlainRound, Setting, Stopwatch

# The peak is the high-water mark of this interpreter, where the system tells it.
_PROBE = """
import sys, time
before = len(sys.modules)
wall, cpu = time.perf_counter(), time.process_time()
{statement}
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(wall, cpu, len(sys.modules) - before)
try:
    print(*[line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")])
except OSError:
    print("nan")
"""


def importing(statement: str) -> Open:
    @contextmanager
    def opened(setting: Setting) -> Iterator[PlainRound]:
        # Else an environment that forbids writing bytecode would have each import compile everything.
        environment = {
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(setting.folder / "bytecode"),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }

        command = [sys.executable, "-c", _PROBE.format(statement=statement)]

        def one_round(watch: Stopwatch) -> None:
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            wall, cpu, modules, peak = map(float, done.stdout.split())
            watch.add(1, wall=wall, cpu=cpu)
            watch.note("cpu_ms", cpu * 1e3)
            watch.note("modules", modules)
            watch.note("mib", peak / 1024)

        yield one_round

    return opened


BELOW = "trio, httpx"
OURS = "clawft_trio"
_WHOLE = "from clawft_trio import open_agent, open_mcp, open_stream, resilient_chain, tool"

_PEERS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "mcp": "mcp",
    "pydantic_ai": "pydantic-ai-slim",
    "agents": "openai-agents",
    "litellm": "litellm",
}

BENCH = Bench(
    title="an import",
    item="import",
    limit="Importing trio and httpx, below which nothing here can be.",
    against=BELOW,
    figures=(Figure("cpu_ms", "CPU, ms"), Figure("mib", "peak, MiB, alone"), Figure("modules", "modules")),
    rounds=3,
    cases=(
        Case("nothing", importing("pass"), role="limit", loop="none"),
        Case(BELOW, importing("import trio, httpx"), role="limit", loop="none"),
        Case(
            OURS,
            importing("import clawft_trio"),
            loop="none",
            covers="its subpackages are imported when a name is first used",
        ),
        Case("clawft_trio, the agent and everything it needs", importing(_WHOLE), loop="none"),
        *(
            Case(needs, importing(f"import {module}"), role="peer", loop="none", needs=needs)
            for module, needs in _PEERS.items()
        ),
    ),
    goals=(
        Goal(
            says="`import clawft_trio`, of `import trio, httpx`",
            of=OURS,
            to=BELOW,
            figure="cpu_ms",
            at_most=1.6,
        ),
    ),
)
