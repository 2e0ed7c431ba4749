"""Copies of immutable records with some fields changed, for the paths that every model call passes."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

import attrs

R = TypeVar("R", bound=attrs.AttrsInstance)


def replaced(record: R, **changes: Any) -> R:
    """Return a copy of *record* with *changes*, by field.

    As `attrs.evolve` at a third of its cost: converters and validators do not run again, so the values of *changes*
    must be valid already. Not for classes with fields that are computed from others.
    """
    copy = object.__new__(type(record))
    for name in _names(type(record)):
        object.__setattr__(copy, name, changes[name] if name in changes else getattr(record, name))
    return copy


@cache
def _names(kind: type[attrs.AttrsInstance]) -> tuple[str, ...]:
    return tuple(field.name for field in attrs.fields(kind))
