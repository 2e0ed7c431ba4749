"""Public names and parameters are listed in `public_api.txt`.

A change of them needs a new snapshot (`python tests/test_public_api.py`, with `all` also each `__all__`) and an entry
in CHANGELOG.md.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import clawft_trio

HERE = Path(__file__).parent
SNAPSHOT = HERE / "public_api.txt"
# The command line is public as commands, not as a module.
MODULES = [module for module in pkgutil.iter_modules(clawft_trio.__path__) if module.name not in {"cli", "__main__"}]
SUBPACKAGES = sorted(module.name for module in MODULES if module.ispkg)


def reexported(module: ModuleType) -> Iterator[str]:
    """Names that a subpackage's `__init__` exports, or that a module defines itself."""
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
    for package in sorted(module.name for module in MODULES):
        module = importlib.import_module(f"clawft_trio.{package}")
        for name in reexported(module):
            yield f"clawft_trio.{package}.{name}{signature(getattr(module, name))}"


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


def test_the_top_level_has_about_sixty_names() -> None:
    assert 50 <= len(clawft_trio._HOME_OF) <= 75
    assert not set(clawft_trio._HOME_OF) & set(clawft_trio._MOVED_TO)


@pytest.mark.parametrize("name", sorted(clawft_trio._MOVED_TO))
def test_a_name_that_left_the_top_level_warns_with_its_place(name: str) -> None:
    home = clawft_trio._MOVED_TO[name]
    with pytest.warns(DeprecationWarning, match=f"clawft_trio.{name} is now {home}.{name}"):
        assert getattr(clawft_trio, name) is getattr(importlib.import_module(home), name)


@pytest.mark.parametrize("package", SUBPACKAGES)
def test_a_subpackage_lists_its_public_names(package: str) -> None:
    module = importlib.import_module(f"clawft_trio.{package}")
    assert sorted(module.__all__) == list(reexported(module)), "run: python tests/test_public_api.py all"


def write_all(package: str) -> None:
    """Write `__all__` of a subpackage: what its `__init__` imports under its own name."""
    path = Path(clawft_trio.__file__).parent / package / "__init__.py"
    source = re.sub(r"\n__all__ = \[.*?^\]\n", "", path.read_text(), flags=re.DOTALL | re.MULTILINE).rstrip("\n")
    names = sorted(reexported(importlib.import_module(f"clawft_trio.{package}")), key=lambda name: (_order(name), name))
    path.write_text(source + "\n\n__all__ = [\n" + "".join(f'    "{name}",\n' for name in names) + "]\n")


def _order(name: str) -> int:
    return 0 if name.isupper() else 1 if name[0].isupper() else 2


if __name__ == "__main__":
    SNAPSHOT.write_text(current())
    for package in SUBPACKAGES if "all" in sys.argv else ():
        write_all(package)
