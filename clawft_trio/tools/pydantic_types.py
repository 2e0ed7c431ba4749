"""Pydantic models and `Field` in type hints. This module imports pydantic only after the program has."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from clawft_trio.chat import JsonObject
from clawft_trio.codec import encode_json
from clawft_trio.errors import Problem

_DEEPEST = 8
"""Levels of nesting of a hint that are searched; signatures have no deeper ones."""


_MOST_ERRORS = 1000
"""Number of errors that are listed: pydantic makes all of them at once, 10 µs each."""


def has_pydantic() -> bool:
    """Whether the program has imported pydantic."""
    return "pydantic" in sys.modules


def needs_pydantic(hint: Any, default: Any = inspect.Parameter.empty, *, depth: int = _DEEPEST) -> bool:
    """Whether *hint* or *default* contains something that only pydantic can read: a model, or a `Field`."""
    if not has_pydantic() or depth == 0:
        return False
    if _is_pydantic(hint) or _is_pydantic(default):
        return True
    inner = typing.get_args(hint)
    marks = getattr(hint, "__metadata__", ())
    return any(needs_pydantic(one, depth=depth - 1) for one in (*inner, *marks))


def _is_pydantic(value: Any) -> bool:
    kind = value if isinstance(value, type) else type(value)
    return hasattr(value, "__pydantic_validator__") or kind.__module__.partition(".")[0] in {
        "pydantic",
        "annotated_types",
    }


class PydanticArguments:
    """Checks the arguments of one tool by a pydantic model made from its parameters."""

    def __init__(self, fields: Mapping[str, tuple[Any, Any]]) -> None:
        """Args: fields: hint and default by name; `inspect.Parameter.empty` where there is no default."""
        import pydantic  # noqa: PLC0415 - only for programs that use pydantic

        wanted: Any = {
            name: (hint, ... if default is inspect.Parameter.empty else default)
            for name, (hint, default) in fields.items()
        }
        self._names = tuple(fields)
        self._model: Any = pydantic.create_model(
            "Arguments", __config__=pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=False), **wanted
        )

    def schema(self) -> JsonObject:
        """Return the JSON Schema of the arguments."""
        whole: dict[str, Any] = dict(self._model.model_json_schema())
        whole.pop("title", None)
        for one in whole.get("properties", {}).values():
            one.pop("title", None)
        whole.setdefault("properties", {})
        return whole

    def read(self, raw: JsonObject) -> dict[str, Any]:
        """Convert *raw* to the arguments of the function.

        Raises:
          ValueError: they do not fit; `problems_of` lists the problems.
        """
        # Strict, and from JSON: a text can become a date, but not a number.
        filled = self._model.model_validate_json(encode_json(raw), strict=True)
        return {name: getattr(filled, name) for name in self._names}


def problems_of(exc: ValueError) -> list[Problem]:
    """Return the problems of pydantic's `ValidationError`, with their places.

    Raises:
      ValueError: *exc* itself, if it is of another class.
    """
    errors: Any = getattr(exc, "errors", None)
    if errors is None:
        raise exc
    if (count := getattr(exc, "error_count", int)()) > _MOST_ERRORS:
        return [Problem("$", f"{count} values do not fit")]
    return [Problem(_path(error["loc"]), error["msg"]) for error in errors()]


def _path(steps: Iterable[str | int]) -> str:
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
