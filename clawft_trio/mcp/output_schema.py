"""Whether a tool's structured result fits the schema that the tool itself announced."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jsonschema.validators
from jsonschema.protocols import Validator
from msgspec import UNSET
from referencing import Registry
from referencing.exceptions import Unresolvable

from clawft_trio.mcp.types import JsonObject


class OutputCheck:
    """One tool's output schema, made ready at its first use.

    References to other documents are never fetched: a schema is the word of a stranger, and following it would let
    a server make us call any address. Its regular expressions are not run: one that backtracks for ever would stop
    the event loop.
    """

    def __init__(self, schema: JsonObject) -> None:
        self._schema = dict(schema)
        self._validator: Validator | None = None

    def problem_with(self, value: Any) -> str | None:
        """What is wrong with *value*, with its place; None when nothing is. `UNSET` is a missing result."""
        if value is UNSET:
            return "missing, although the tool has an output schema"
        try:
            for error in self._ready().iter_errors(value):
                return f"{error.json_path}: {error.message[:200]}"
        except (Unresolvable, jsonschema.SchemaError, RecursionError, ValueError) as exc:
            return f"the output schema cannot be used: {str(exc)[:200]}"
        return None

    def _ready(self) -> Validator:
        if self._validator is None:
            self._validator = _validator(self._schema)
        return self._validator


def _validator(schema: dict[str, Any]) -> Validator:
    kind: Any = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    kind.check_schema(schema)
    extend: Any = jsonschema.validators.extend
    validator: Validator = extend(kind, {"pattern": _unchecked, "patternProperties": _unchecked})(
        schema, registry=Registry()
    )
    return validator


def _unchecked(*_: object) -> Iterable[jsonschema.ValidationError]:
    return ()
