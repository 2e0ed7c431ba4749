"""Public names and parameters are listed in `public_api.txt`.

A change of them needs a new snapshot (`python tests/test_public_api.py`) and an entry in CHANGELOG.md.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import clawft_trio

HERE = Path(__file__).parent
SNAPSHOT = HERE / "public_api.txt"
# The command line is public as commands, not as a module.
ROOMS = sorted(room.name for room in pkgutil.iter_modules(clawft_trio.__path__) if room.name not in {"cli", "__main__"})


def reexported(module: ModuleType) -> Iterator[str]:
    """Names that a room's `__init__` gives again, or that a module defines itself."""
    for name in sorted(vars(module)):
        value = vars(module)[name]
        home = getattr(value, "__module__", None)
        if name.startswith("_") or isinstance(value, ModuleType):
            continue
        if home == module.__name__ or (hasattr(module, "__path__") and str(home).startswith("clawft_trio")):
            yield name


def signature(value: object) -> str:
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return ""
    shown = [
        ("*" if p.kind is p.VAR_POSITIONAL else "**" if p.kind is p.VAR_KEYWORD else "") + p.name for p in parameters
    ]
    return f"({', '.join(shown)})"


def lines() -> Iterator[str]:
    for name in sorted(clawft_trio._HOME_OF):
        yield f"clawft_trio.{name}"
    for room in ROOMS:
        module = importlib.import_module(f"clawft_trio.{room}")
        for name in reexported(module):
            yield f"clawft_trio.{room}.{name}{signature(getattr(module, name))}"


def current() -> str:
    return "\n".join(lines()) + "\n"


def test_the_public_api_is_the_one_written_down() -> None:
    assert current() == SNAPSHOT.read_text()


def test_every_name_at_the_top_is_found_where_it_lives() -> None:
    for name in clawft_trio._HOME_OF:
        assert getattr(clawft_trio, name) is not None
    assert set(clawft_trio._HOME_OF) <= set(dir(clawft_trio))


def test_checkers_and_programs_see_the_same_names_at_the_top() -> None:
    source = Path(clawft_trio.__file__).read_text()
    seen = {
        line.split(" as ")[0].strip() for line in source.splitlines() if " as " in line and line.startswith("        ")
    }
    one_line = {name for line in source.splitlines() if line.startswith("    from ") for name in _imported(line)}
    assert (seen | one_line) == set(clawft_trio._HOME_OF)


def _imported(line: str) -> list[str]:
    _, _, names = line.partition(" import ")
    return [] if names == "(" else [part.split(" as ")[0].strip() for part in names.split(",")]


if __name__ == "__main__":
    SNAPSHOT.write_text(current())
