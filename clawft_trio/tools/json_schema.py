"""Checks of decoded JSON against a JSON Schema, with the place of everything that is wrong."""

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
from clawft_trio.similar import closest
from clawft_trio.tools.schema_budget import Budget, TooComplex, bounded_copy, budgeted, limit_schema, spending

_MOST_PROBLEMS = 8
"""More than a model can mend at once."""

_MOST_SUGGESTIONS = 2
"""Unknown names for which a similar one is looked for: up to 10 ms each."""

_MOST_LISTED = 40
"""Known names that are listed when none of them is similar to the unknown one."""

_LONGEST_PROBLEM = 300
"""Characters; jsonschema quotes the offending value, however long it is."""


ON_THE_LOOP = 400
"""Steps of a stranger's schema that are taken on the event loop: about 5 ms."""

IN_A_THREAD = 3_000_000
"""Steps that are taken in a thread, where the deadline usually comes first."""

OF_A_SCHEMA = 1500
"""Steps that checking a stranger's schema itself may take on the event loop: about 15 ms."""

DEADLINE = 2.0
"""Seconds after which a check in a thread is given up."""


class SchemaCheck:
    """Finds what is wrong with a decoded JSON value, by a JSON Schema.

    References out of the schema are never fetched. With *trusted* off, the schema is a stranger's: its size and depth
    are limited, its regular expressions are not run (one that backtracks for ever would stop the event loop), and a
    check has a budget of steps: `problems` takes a few on the event loop, `find_problems` many in a thread.

    Args:
      schema: the JSON Schema, of the draft that its `$schema` names, 2020-12 by default.
      noun: what a member of the outermost object is called in problems: "argument".
      trusted: whether it is from this side.

    Raises:
      InvalidData: its `$schema` is no text, or a stranger's schema is larger or deeper than the limits.
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
        # Without a registry of our own jsonschema would fetch what `$ref` names from the network.
        try:
            self._validator: Any = (kind if trusted else budgeted(kind, schema))(
                schema, registry=referencing.Registry()
            )
        except Exception as exc:
            # An `$id` that is a number, say, fails in many ways.
            raise InvalidData([Problem("$", f"no JSON Schema: {exc}"[:_LONGEST_PROBLEM])], source="schema") from exc

    def check_schema(self, source: str, *, steps: int = OF_A_SCHEMA) -> None:
        """Check the schema itself; a stranger's within *steps*, past which it counts as one.

        Raises:
          InvalidData: it is no JSON Schema.
        """
        try:
            if self._trusted:
                self._kind.check_schema(self._schema)
            else:
                self._check_strange_schema(steps)
        except TooComplex:
            return
        except RecursionError:
            if not self._trusted:
                return  # deeper than is looked at; where it does not fit shows at its use
            raise
        except (jsonschema.ValidationError, jsonschema.SchemaError) as exc:
            raise InvalidData([Problem("$", str(exc)[:_LONGEST_PROBLEM])], source=source) from exc

    def _check_strange_schema(self, steps: int) -> None:
        meta = budgeted(self._kind, {})(self._kind.META_SCHEMA)
        with spending(Budget(steps)):
            for error in meta.iter_errors(bounded_copy(self._schema)):
                raise error

    def problems(self, value: object) -> list[Problem]:
        """What is wrong with *value*: nothing, or the first few problems.

        Raises:
          TooComplex: a stranger's schema takes more steps than may be taken on the event loop.
        """
        return self._problems(value, None if self._trusted else Budget(ON_THE_LOOP))

    async def find_problems(self, value: object) -> list[Problem]:
        """As `problems`, in a thread when it takes longer; what cannot be decided within `DEADLINE` counts as right.

        Cancellation: the thread stops at its next step.
        """
        await trio.lowlevel.checkpoint()
        try:
            return self.problems(value)
        except TooComplex:
            pass
        # The thread asks at its steps whether it is still wanted, so that it ends soon after its caller.
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
        except (RecursionError, referencing.exceptions.Unresolvable) as exc:
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
        # Both sides' names may be thousands: only what is reported is worked out, and suggestions for a few.
        for number, name in enumerate(islice((name for name in value if name not in known), _MOST_PROBLEMS)):
            near = closest(name, known) if number < _MOST_SUGGESTIONS else []
            listed = ", ".join(islice(known, _MOST_LISTED)) or "none"
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {_cut_end(listed)}"
            yield Problem(f"$.{name[:60]}", f"unknown {self._noun}{hint}")


def bounded(problems: Iterable[Problem]) -> list[Problem]:
    """The first few *problems*, each cut to what a model can read."""
    return [Problem(one.path, _cut(one.message)) for one in islice(problems, _MOST_PROBLEMS)]


def _cut(message: str) -> str:
    return message if len(message) <= _LONGEST_PROBLEM else f"…{message[-_LONGEST_PROBLEM:]}"


def _cut_end(listed: str) -> str:
    return listed if len(listed) <= _LONGEST_PROBLEM else f"{listed[:_LONGEST_PROBLEM]}…"


def _is_unknown(error: jsonschema.ValidationError) -> bool:
    return error.validator == "additionalProperties" and not error.absolute_path


def _of_schema(error: jsonschema.ValidationError) -> Problem:
    return Problem(error.json_path, _cut(error.message))


# --- types, by msgspec -----------------------------------------------------------------------------------


def path_schema(kind: type) -> dict[str, Any]:
    """The `schema_hook` of types that msgspec does not know: a path is a string.

    Raises:
      TypeError: it is no path.
    """
    if issubclass(kind, PurePath):
        return {"type": "string"}
    raise TypeError(f"{kind!r} has no JSON Schema")


def to_path(kind: type, value: Any) -> Any:
    """The `dec_hook` that goes with `path_schema`.

    Raises:
      msgspec.ValidationError: it is no string.
    """
    if issubclass(kind, PurePath) and isinstance(value, str):
        return Path(value)
    raise msgspec.ValidationError(f"expected `str`, got `{type(value).__name__}`")


def problem_of(exc: BaseException) -> Problem:
    """What msgspec found, with its place."""
    text, _, place = str(exc).partition(" - at `")
    # For a key the place reads: at `key` in `$.table`.
    return Problem(place.rpartition("` in `")[2].rstrip("`") or "$", text)
