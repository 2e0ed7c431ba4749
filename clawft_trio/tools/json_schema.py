"""Checks of decoded JSON against a JSON Schema, with the place of every problem."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

import jsonschema
import msgspec
import referencing
import trio

from clawft_trio.chat import JsonObject
from clawft_trio.errors import InvalidData, Problem
from clawft_trio.observe.redaction import cut_redacted, cut_redacted_end
from clawft_trio.similar import closest
from clawft_trio.tools.schema_budget import (
    Budget,
    TooComplex,
    bounded_copy,
    budgeted,
    limit_schema,
    spending,
    with_linear_keywords,
)

_MOST_PROBLEMS = 8
"""Largest number of reported problems: a model cannot correct more at once."""

_MOST_SUGGESTIONS = 2
"""Number of unknown names with a suggestion: up to 10 ms each."""

_MOST_LISTED = 40
"""Largest number of known names in the message for an unknown name without a similar one."""

_LONGEST_PROBLEM = 300
"""Characters of a message; jsonschema quotes the whole invalid value."""


ON_THE_LOOP = 400
"""Steps for an untrusted schema on the event loop: about 5 ms."""

IN_A_THREAD = 3_000_000
"""Steps in a thread, where the deadline usually comes first."""

OF_A_SCHEMA = 3000
"""Steps for the check of an untrusted schema itself on the event loop: about 20 ms."""

DEADLINE = 2.0
"""Seconds after which a check in a thread ends without a decision."""


class SchemaCheck:
    """Finds the problems of a decoded JSON value, by a JSON Schema.

    References out of the schema are never fetched. With *trusted* off, the schema is from outside: its size and depth
    are limited, its regular expressions are not run (one that backtracks endlessly would stop the event loop), and a
    check has a budget of steps: `problems` takes a few on the event loop, `find_problems` many in a thread.

    Args:
      schema: the JSON Schema, of the draft that its `$schema` names, 2020-12 by default.
      noun: the word for a member of the outermost object in messages: "argument".
      trusted: whether the schema comes from this program.

    Raises:
      InvalidData: its `$schema` is not text, or an untrusted schema is larger or deeper than the limits.
    """

    def __init__(self, schema: JsonObject, *, noun: str = "key", trusted: bool = True) -> None:
        if not trusted:
            limit_schema(schema)
        if not isinstance(schema.get("$schema", ""), str):
            raise InvalidData([Problem("$['$schema']", "expected the address of a draft")], source="schema")
        kind: Any = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        self._kind = kind
        self._schema = schema
        self._noun = noun
        self._trusted = trusted
        # Without an explicit registry, jsonschema would fetch what `$ref` names from the network.
        try:
            self._validator: Any = (with_linear_keywords(kind) if trusted else budgeted(kind, schema))(
                schema, registry=referencing.Registry()
            )
        except Exception as exc:
            # An `$id` that is a number, for example, fails in many ways.
            raise InvalidData(
                [Problem("$", cut_redacted(f"no JSON Schema: {exc}", _LONGEST_PROBLEM))], source="schema"
            ) from exc

    def check_schema(self, source: str, *, steps: int = OF_A_SCHEMA) -> None:
        """Check the schema itself; an untrusted one within *steps*, after which it counts as valid.

        Raises:
          InvalidData: it is not a JSON Schema.
        """
        try:
            if self._trusted:
                self._kind.check_schema(self._schema)
            else:
                self._check_untrusted_schema(steps)
        except TooComplex:
            return
        except RecursionError:
            if not self._trusted:
                return  # deeper than the limit of checks; problems appear when it is used
            raise
        except (jsonschema.ValidationError, jsonschema.SchemaError) as exc:
            raise InvalidData([Problem("$", cut_redacted(str(exc), _LONGEST_PROBLEM))], source=source) from exc

    def _check_untrusted_schema(self, steps: int) -> None:
        meta = budgeted(self._kind, {})(self._kind.META_SCHEMA)
        with spending(Budget(steps)):
            for error in meta.iter_errors(bounded_copy(self._schema)):
                raise error

    def problems(self, value: object) -> list[Problem]:
        """Return the first few problems of *value*; empty when it is valid.

        Raises:
          TooComplex: an untrusted schema needs more steps than are allowed on the event loop.
        """
        return self._problems(value, None if self._trusted else Budget(ON_THE_LOOP))

    async def find_problems(self, value: object) -> list[Problem]:
        """Like `problems`, but in a thread if it takes long; without a decision within `DEADLINE`, *value* is valid.

        Cancellation: the thread stops at its next step.
        """
        await trio.lowlevel.checkpoint()
        try:
            return self.problems(value)
        except TooComplex:
            pass
        # The thread checks for cancellation at its steps, so that it ends soon after its caller.
        budget = Budget(IN_A_THREAD, poll=trio.from_thread.check_cancelled)
        found: list[Problem] = []
        with trio.move_on_after(DEADLINE), suppress(TooComplex):
            found = await trio.to_thread.run_sync(self._problems, value, budget)
        return found

    def _problems(self, value: object, budget: Budget | None) -> list[Problem]:
        found: list[Problem] = []
        try:
            with spending(budget):
                seen = value if budget is None else bounded_copy(value)
                for error in self._validator.iter_errors(seen):
                    found.extend(self._unknown(value) if _is_unknown(error) else [_of_schema(error)])
                    if len(found) >= _MOST_PROBLEMS:
                        break
        except (RecursionError, ArithmeticError, referencing.exceptions.Unresolvable) as exc:
            # A number of 400 digits, for example, has no float to compare with.
            found.append(Problem("$", f"the schema cannot be followed: {type(exc).__name__}"))
        except (
            jsonschema.SchemaError,
            jsonschema.exceptions.UnknownType,
            ValueError,
            TypeError,
            AttributeError,
        ) as exc:
            if self._trusted:
                raise
            found.append(Problem("$", f"the schema cannot be used: {type(exc).__name__}"))
        return found

    def _unknown(self, value: Any) -> Iterable[Problem]:
        known = self._schema.get("properties", {})
        # Both objects may have thousands of names: only reported names are processed, and few of them get suggestions.
        for number, name in enumerate(islice((name for name in value if name not in known), _MOST_PROBLEMS)):
            near = closest(name, known) if number < _MOST_SUGGESTIONS else []
            listed = ", ".join(islice(known, _MOST_LISTED)) or "none"
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {cut_redacted(listed, _LONGEST_PROBLEM)}"
            yield Problem(f"$.{cut_redacted(name, 60)}", f"unknown {self._noun}{hint}")


def bounded(problems: Iterable[Problem]) -> list[Problem]:
    """Return the first few *problems*, each shortened for a model."""
    return [
        Problem(one.path, cut_redacted_end(one.message, _LONGEST_PROBLEM)) for one in islice(problems, _MOST_PROBLEMS)
    ]


def _is_unknown(error: jsonschema.ValidationError) -> bool:
    return error.validator == "additionalProperties" and not error.absolute_path


def _of_schema(error: jsonschema.ValidationError) -> Problem:
    return Problem(error.json_path, cut_redacted_end(error.message, _LONGEST_PROBLEM))


def path_schema(kind: type) -> dict[str, Any]:
    """Return the JSON Schema of types that msgspec does not know, as its `schema_hook`: a path is a string.

    Raises:
      TypeError: *kind* is not a path type.
    """
    if issubclass(kind, PurePath):
        return {"type": "string"}
    raise TypeError(f"{kind!r} has no JSON Schema")


def to_path(kind: type, value: Any) -> Any:
    """Convert a string to a path: the `dec_hook` for `path_schema`.

    Raises:
      msgspec.ValidationError: *value* is not a string, or *kind* is not a path type.
    """
    if issubclass(kind, PurePath) and isinstance(value, str):
        return Path(value)
    raise msgspec.ValidationError(f"expected `str`, got `{type(value).__name__}`")


def problem_of(exc: BaseException) -> Problem:
    """Convert msgspec's error to a problem with its place."""
    text, _, place = str(exc).partition(" - at `")
    # For a key, the text ends in: at `key` in `$.table`.
    return Problem(place.rpartition("` in `")[2].rstrip("`") or "$", text)
