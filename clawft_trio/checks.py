"""Validators of arguments whose errors state the accepted values.

The errors of attrs' own validators show the whole attribute; these name the field, the value and the accepted values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs


@attrs.frozen
class OneOf:
    """An attrs validator that accepts *options* only. The schema of config.json lists the options."""

    options: tuple[object, ...]

    def __call__(self, _: object, attribute: attrs.Attribute[Any], value: object) -> None:
        """Check *value*.

        Raises:
          ValueError: *value* is not one of the options.
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
    """Check that the keywords *given* to *function* are fields of *kind*.

    Args:
      function: name of the function, for the message.
      named: its parameters, for the message.
      kind: the attrs class whose fields the other keywords are.
      given: the other keywords.

    Raises:
      TypeError: a keyword is unknown; the message lists the known ones.
    """
    fields = [field.name for field in attrs.fields(kind) if field.init]
    unknown = [name for name in given if name not in fields]
    if unknown:
        known = ", ".join([*named, *fields])
        raise TypeError(f"{function}() has no keyword {unknown[0]!r}; its keywords are {known}")
