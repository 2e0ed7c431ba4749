"""Public names and parameters, their plain defaults and their numeric bounds are listed in `public_api.txt`.

A change of them needs a new snapshot (`python tests/test_public_api.py`, with `all` also each `__all__`) and an entry
in CHANGELOG.md.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest

import clawft_trio

PLAIN = (bool, int, float, str, bytes, tuple, type(None))

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
    fields = attrs.fields_dict(value) if isinstance(value, type) and attrs.has(value) else {}
    bounds = {field.alias: _bounds(field) for field in fields.values()}
    return f"({', '.join(_parameter(one) + bounds.get(one.name, '') for one in parameters)})"


def _parameter(one: inspect.Parameter) -> str:
    stars = "*" if one.kind is one.VAR_POSITIONAL else "**" if one.kind is one.VAR_KEYWORD else ""
    # Dimensions of the machine (processors, the temporary directory) are no plain defaults.
    return stars + one.name + (f"={one.default!r}" if isinstance(one.default, PLAIN) else "")


def _bounds(field: attrs.Attribute[Any]) -> str:
    """Bounds that attrs checks, as text: " (>= 1, <= 8)"."""
    found = re.findall(r"Validator for x ([<>=]+ [-+.\w]+)>", repr(field.validator))
    return f" ({', '.join(found)})" if found else ""


def members(value: object) -> Iterator[str]:
    """Plain attributes of a public class, and its methods with a plain default."""
    for name, member in sorted(vars(value).items()) if isinstance(value, type) else ():
        if name.startswith("_"):
            continue
        if isinstance(member, PLAIN) and not isinstance(value, enum.EnumType):
            yield f"{name} = {member!r}"
        elif inspect.isfunction(member) and "=" in (shown := signature(member)):
            yield f"{name}{shown}"


def lines() -> Iterator[str]:
    for name in sorted(clawft_trio._HOME_OF):
        yield f"clawft_trio.{name}"
    for package in sorted(module.name for module in MODULES):
        module = importlib.import_module(f"clawft_trio.{package}")
        for name in reexported(module):
            value = getattr(module, name)
            yield f"clawft_trio.{package}.{name}{signature(value)}"
            yield from (f"clawft_trio.{package}.{name}.{member}" for member in members(value))
        for name, value in sorted(vars(module).items()):
            if name.isupper() and not name.startswith("_") and isinstance(value, int | float):
                yield f"clawft_trio.{package}.{name} = {value!r}"


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
