"""On what it was measured: without it, a number means nothing."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from benchmarks.found import pinned, version_of

_OURS = ("clawft-trio", "trio", "httpx", "msgspec", "attrs", "cattrs", "anyio", "pydantic")


def machine() -> dict[str, str]:
    """Processor, cores, system and Python."""
    return {
        "cpu": _cpu_model(),
        "cores": str(os.cpu_count() or 0),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()) if hasattr(os, "getloadavg") else "",
    }


def versions() -> dict[str, str]:
    """What is installed of ourselves and of the peers."""
    found = {name: version_of(name) for name in (*_OURS, *sorted(pinned()))}
    return {name: version for name, version in found.items() if version is not None}


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine() or sys.platform
