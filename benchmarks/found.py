"""Which benchmarks there are, and whether what a case needs is installed."""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import re
import tomllib
from pathlib import Path
from typing import cast

from benchmarks import measures
from benchmarks.bench import Bench, Case

_PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


def names() -> list[str]:
    """All benchmarks, by the names of their files."""
    return sorted(module.name for module in pkgutil.iter_modules(measures.__path__))


def find(name: str) -> Bench:
    """The benchmark of that name."""
    return cast(Bench, importlib.import_module(f"benchmarks.measures.{name}").BENCH)


def version_of(distribution: str) -> str | None:
    """The installed version; None when it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def pinned() -> dict[str, str]:
    """What the groups of pyproject.toml say about each peer: `{"openai": "openai==3.54.0"}`."""
    groups = tomllib.loads(_PYPROJECT.read_text())["dependency-groups"]
    wanted = [entry for name in ("benchmarks", "benchmarks-litellm") for entry in groups[name]]
    return {re.split(r"[\[=<>~]", entry)[0]: entry for entry in wanted}


def not_installed(distribution: str) -> str | None:
    """How to get it; None when it is there."""
    if version_of(distribution) is not None:
        return None
    return f"not installed: pip install '{pinned().get(distribution, distribution)}'"


def missing(case: Case) -> str | None:
    """What to tell when a case cannot run here; None when it can."""
    return case.absent or (not_installed(case.needs) if case.needs else None)
