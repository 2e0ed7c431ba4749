"""Old names of public objects: each still works for two minor versions and warns with `DeprecationWarning`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping


def renamed(module: str, names: Mapping[str, str]) -> Callable[[str], object]:
    """Make a module's `__getattr__` (PEP 562) that looks up old names under their new ones.

    Args:
      module: `__name__` of the module.
      names: the new name for each old one.
    """

    def look_up(name: str) -> object:
        new = names.get(name)
        if new is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(f"{module}.{name} is now {module}.{new}", DeprecationWarning, stacklevel=2)
        return getattr(sys.modules[module], new)

    return look_up
