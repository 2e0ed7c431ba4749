"""JSON Schema validation with a budget: jsonschema's keywords, counted, and replacements for those without a bound.

An untrusted schema can double its work with each level (`allOf`, `$ref`), run a regular expression endlessly, compare
each of a hundred thousand items with each other, or quote all of them in a message. Here every keyword costs steps,
`uniqueItems`, `enum` and `const` compare hashes, regular expressions are not run, and messages quote a few members.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from itertools import islice
from typing import Any

import jsonschema
import msgspec

from clawft_trio.errors import InvalidData, Problem
from clawft_trio.observe.redaction import cut_redacted

MAX_SCHEMA = 256 * 1024
"""Largest size of an untrusted schema in bytes of JSON."""

MAX_DEPTH = 100
"""Largest nesting of containers in an untrusted schema. Each nested schema takes two; real ones have some 20."""

_QUOTED = 120
"""Characters of a string that a message quotes."""

_MEMBERS = 6
"""Members of a container that a message quotes."""

_PER_STEP = 8
"""Members of a container that cost one more step, because keywords examine each of them."""


_DEEPEST = 100
"""Largest nesting of keywords, which take five frames of Python each. Beyond Python's own limit the Rust part of
`referencing` panics, which no `except Exception` catches."""

_POLLED = 100
"""Steps between two polls: about a millisecond."""


class TooComplex(Exception):
    """A check has used up its steps or its time."""


class Budget:
    """The number of steps that one check may take.

    Args:
      steps: the number of steps.
      poll: called after every `_POLLED` steps; an exception that it raises ends the check.
    """

    __slots__ = ("_next_poll", "_poll", "depth", "left")

    def __init__(self, steps: int, *, poll: Callable[[], object] = lambda: None) -> None:
        self.left: int = steps
        #: current nesting of keywords
        self.depth: int = 0
        self._poll = poll
        self._next_poll = steps

    def charge(self, steps: int) -> None:
        """Subtract *steps*.

        Raises:
          TooComplex: fewer steps are left.
        """
        self.left -= steps
        if self.left < 0:
            raise TooComplex
        if self.left < self._next_poll:
            self._next_poll = self.left - _POLLED
            self._poll()


_budget: ContextVar[Budget | None] = ContextVar("schema_budget", default=None)


@contextmanager
def spending(budget: Budget | None) -> Iterator[None]:
    """Charge the checks inside the block to *budget*."""
    token = _budget.set(budget)
    try:
        yield
    finally:
        _budget.reset(token)


@contextmanager
def _deeper() -> Iterator[None]:
    """Count one level of keywords.

    Raises:
      RecursionError: the nesting is too deep.
    """
    budget = _budget.get()
    if budget is None:
        yield
        return
    budget.depth += 1
    try:
        if budget.depth > _DEEPEST:
            raise RecursionError("the schema leads too deep")
        yield
    finally:
        budget.depth -= 1


def _charge(steps: int) -> None:
    budget = _budget.get()
    if budget is not None:
        budget.charge(steps)


def limit_schema(schema: Mapping[str, Any]) -> None:
    """Check the size and the depth of an untrusted *schema*.

    Raises:
      InvalidData: it is larger than `MAX_SCHEMA` or deeper than `MAX_DEPTH`.
    """
    level: list[Any] = [schema]
    for _ in range(MAX_DEPTH):
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            break
    else:
        raise InvalidData([Problem("$", f"more than {MAX_DEPTH} levels deep")], source="schema")
    if len(msgspec.json.encode(schema)) > MAX_SCHEMA:
        raise InvalidData([Problem("$", f"longer than {MAX_SCHEMA} bytes")], source="schema")


def _inside(value: Any) -> Iterable[Any]:
    members = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return (member for member in members if isinstance(member, Mapping | list))


_Keyword = Callable[[Any, Any, Any, Any], Iterable[jsonschema.ValidationError] | None]


def budgeted(kind: Any, schema: Mapping[str, Any]) -> Any:
    """Make a subclass of *kind*, a validator class, with counted keywords that are safe for an untrusted *schema*."""
    return _budgeted(kind, _has_patterns(schema))


# Cached, because making a class takes 5 ms: there are two for each draft, and a server may have thousands of tools.
@cache
def _budgeted(kind: Any, has_patterns: bool) -> Any:
    keywords = {name: _counted(keyword) for name, keyword in kind.VALIDATORS.items()}
    keywords |= {
        "additionalProperties": _counted(_additional),
        "anyOf": _counted(_any_of),
        "oneOf": _counted(_one_of),
        "pattern": _unchecked,
        "patternProperties": _unchecked,
        "uniqueItems": _unique_items,
        "enum": _counted(_enum),
        "const": _counted(_const),
    }
    if has_patterns:
        # Only the regular expression, which is not run, decides which properties it covers.
        keywords |= {"unevaluatedProperties": _unchecked}
    extend: Any = jsonschema.validators.extend
    made = extend(kind, keywords)
    made.evolve = _keep_keywords(made.evolve)
    return made


@cache
def with_linear_keywords(kind: Any) -> Any:
    """Make a subclass of *kind* for a trusted schema. jsonschema's `uniqueItems` compares objects pair by pair."""
    extend: Any = jsonschema.validators.extend
    return extend(kind, {"uniqueItems": _unique_items})


def _keep_keywords(evolve: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the method that makes a validator for a part of the schema.

    jsonschema takes the class of the draft that the part names in `$schema`, with its own keywords.
    """

    def evolve_counted(self: Any, **changes: Any) -> Any:
        schema = changes.get("schema", self.schema)
        if isinstance(schema, dict) and "$schema" in schema:
            changes["schema"] = {name: value for name, value in schema.items() if name != "$schema"}
        return evolve(self, **changes)

    return evolve_counted


def _has_patterns(schema: Mapping[str, Any]) -> bool:
    return b'"patternProperties"' in msgspec.json.encode(schema)


def _counted(keyword: _Keyword) -> _Keyword:
    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterable[jsonschema.ValidationError]:
        _charge(1 + _extra(value) + _extra(instance))
        with _deeper():
            yield from keyword(validator, value, instance, schema) or ()

    return check


def _extra(value: Any) -> int:
    return len(value) // _PER_STEP if isinstance(value, dict | list) else 0


def _unchecked(*_: object) -> Iterable[jsonschema.ValidationError]:
    return ()


def _additional(validator: Any, value: Any, instance: Any, schema: Any) -> Iterable[jsonschema.ValidationError]:
    # With regular expressions, which are not run, it is unknown which properties are additional.
    if not isinstance(instance, dict) or "patternProperties" in schema:
        return
    known = schema.get("properties", {})
    others = (name for name in instance if name not in known)
    if value is not False:
        for name in others:
            yield from validator.descend(instance[name], value, path=name)
    # jsonschema sorts and quotes all names, which may be a hundred thousand.
    elif first := list(islice(others, _MEMBERS)):
        yield jsonschema.ValidationError(f"Additional properties are not allowed: {quoted(first)}")


# jsonschema keeps the errors of all alternatives for a message, and their number doubles with each level.


def _any_of(validator: Any, value: Any, instance: Any, _: Any) -> Iterable[jsonschema.ValidationError]:
    if not any(validator.evolve(schema=one).is_valid(instance) for one in value):
        yield jsonschema.ValidationError(f"{quoted(instance)} is not valid under any of the given schemas")


def _one_of(validator: Any, value: Any, instance: Any, _: Any) -> Iterable[jsonschema.ValidationError]:
    valid = sum(1 for one in value if validator.evolve(schema=one).is_valid(instance))
    if valid != 1:
        found = "more than one" if valid else "none"
        yield jsonschema.ValidationError(f"{quoted(instance)} is valid under {found} of the given schemas")


def _unique_items(_: Any, value: Any, instance: Any, __: Any) -> Iterable[jsonschema.ValidationError]:
    if value is not True or not isinstance(instance, list):
        return
    seen: set[Hashable] = set()
    for item in instance:
        key = canonical(item)
        if key in seen:
            yield jsonschema.ValidationError(f"{quoted(instance)} has non-unique elements")
            return
        seen.add(key)


def _enum(_: Any, value: Any, instance: Any, __: Any) -> Iterable[jsonschema.ValidationError]:
    if isinstance(value, list):
        # Each member costs steps, because a list of thousands may be compared with each of thousands of items.
        key = canonical(instance)
        if not any(canonical(one) == key for one in value):
            yield jsonschema.ValidationError(f"{quoted(instance)} is not one of {quoted(value)}")


def _const(_: Any, value: Any, instance: Any, __: Any) -> Iterable[jsonschema.ValidationError]:
    if canonical(value) != canonical(instance):
        yield jsonschema.ValidationError(f"{quoted(value)} was expected")


def canonical(value: Any) -> Hashable:
    """Return a hashable form of decoded JSON; equal forms are equal values by JSON Schema."""
    _charge(1)
    if isinstance(value, bool) or value is None:
        return (value,)
    if isinstance(value, dict):
        return frozenset((key, canonical(inner)) for key, inner in value.items())
    if isinstance(value, list):
        return (*map(canonical, value), "list")
    return value  # type: ignore[no-any-return]


class _Text(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return quoted(self)


class _Object(dict[str, Any]):
    def __repr__(self) -> str:
        return quoted(self)


class _Array(list[Any]):
    def __repr__(self) -> str:
        return quoted(self)


def bounded_copy(value: Any) -> Any:
    """Copy *value* to an equal one with a short `repr`, because jsonschema quotes values whole in its messages."""
    if isinstance(value, str):
        return _Text(value) if len(value) > _QUOTED else value
    if isinstance(value, dict):
        _charge(1 + len(value) // _PER_STEP)
        return _Object((bounded_copy(key), bounded_copy(inner)) for key, inner in value.items())
    if isinstance(value, list):
        _charge(1 + len(value) // _PER_STEP)
        return _Array(map(bounded_copy, value))
    return value


def quoted(value: Any, levels: int = 3) -> str:
    """Return *value* as text for a message: a few members of a few levels."""
    if isinstance(value, str):
        if len(value) <= _QUOTED:
            return str.__repr__(value)
        shown = cut_redacted(value, _QUOTED + 1)
        return str.__repr__(shown) if len(shown) <= _QUOTED else f"{str.__repr__(shown[:_QUOTED])}…"
    if not isinstance(value, dict | list):
        return repr(value)[:_QUOTED]
    more = ", …" if len(value) > _MEMBERS else ""
    if isinstance(value, list):
        inner = ", ".join(quoted(one, levels - 1) for one in islice(value, _MEMBERS)) if levels else "…"
        return f"[{inner}{more}]"
    pairs = islice(value.items(), _MEMBERS)
    inner = ", ".join(f"{quoted(key)}: {quoted(one, levels - 1)}" for key, one in pairs) if levels else "…"
    return f"{{{inner}{more}}}"
