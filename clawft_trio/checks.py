"""Checks of arguments whose messages state what is accepted.

The validators of attrs raise errors that show the whole attribute; these name the field, the value and what would fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs


@attrs.frozen
class OneOf:
    """An attrs validator that accepts *options* only. The schema of config.json lists them."""

    options: tuple[object, ...]

    def __call__(self, _: object, attribute: attrs.Attribute[Any], value: object) -> None:
        """Check *value*.

        Raises:
          ValueError: it is none of the options.
        """
        if value not in self.options:
            raise ValueError(f"'{attribute.name}' must be one of {', '.join(map(repr, self.options))}: {value!r:.200}")


def one_of(*options: object) -> OneOf:
    """Make an attrs validator that accepts *options* only."""
    return OneOf(options)


def of_type(kind: type) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """Make an attrs validator that accepts instances of *kind* only."""

    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if not isinstance(value, kind):
            raise TypeError(f"'{attribute.name}' must be of type {kind.__name__}: {value!r:.200}")

    return check


def check_keywords(function: str, named: Iterable[str], kind: type, given: Mapping[str, object]) -> None:
    """Refuse keywords of *function* that are no field of *kind*.

    Args:
      function: its name.
      named: its parameters, for the message.
      kind: the attrs class whose fields the other keywords are.
      given: the other keywords.

    Raises:
      TypeError: a keyword is unknown; with the known ones.
    """
    fields = [field.name for field in attrs.fields(kind) if field.init]
    unknown = [name for name in given if name not in fields]
    if unknown:
        known = ", ".join([*named, *fields])
        raise TypeError(f"{function}() has no keyword {unknown[0]!r}; its keywords are {known}")
