"""Arguments of a tool call: parse the text that a model wrote, and check it against the tool's schema.

Always accepted: an empty text, `null` and `""` mean no arguments, and a number without a fraction is an integer. If the
arguments do not fit, and only then, the lenient mode (`ToolMetadata.lenient`) also repairs the most frequent mistakes
of models:

* one layer of JSON too many: of the whole, or of the value of a parameter that takes no text or only certain words;
* a comma after the last element, a code fence around the whole, a line end inside a string, Python's quotes and
  names (`{'exact': True}`), `[]` for no arguments;
* `null` for an optional parameter that does not accept `null`.

Repairs are reported to observers; arguments that still do not fit are refused with the problems of the first check.

A text of some kilobytes belongs into a thread: checking a value takes up to 20 µs, and a value may have two characters.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import attrs

from clawft_trio.chat import JsonObject
from clawft_trio.codec import decode_json
from clawft_trio.errors import InvalidArguments, InvalidData, Problem
from clawft_trio.large_json import LARGE, decode_in_pieces

MOST_VALUES = 50_000
"""Largest number of values in the arguments of a call: what a model writes in an hour. Libraries check all of them in
one step, which holds the interpreter."""

_DEEPEST = 16
"""Levels of nesting below which values are not repaired."""

_MOST_NODES = 10_000
"""Number of values that are examined; the rest of larger arguments is not repaired."""

_LONGEST_LITERAL = 10_000
"""Largest number of characters that are parsed as a Python literal, to bound the time."""

_FENCE = re.compile(r"```[a-zA-Z0-9]*[ \t]*\r?\n?")
_COMMA = re.compile(r",(?=\s*[}\]])")
# Possessive, and matches a string without its end, too: else every escaped quote would begin a search to the end.
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)

_PYTHON_NAMES = {"true": "true", "false": "false", "none": "null"}

Check = Callable[[JsonObject], Mapping[str, Any]]


@attrs.frozen
class Arguments:
    """Arguments that fit the schema."""

    values: Mapping[str, Any]
    #: places that the lenient mode repaired (`$.limit`); empty when the text fitted without repairs
    repairs: tuple[str, ...] = ()


def read_arguments(text: str, schema: JsonObject, check: Check, *, lenient: bool) -> Arguments:
    """Parse and check the arguments of one call.

    Args:
      text: the text that the model wrote.
      schema: the tool's JSON Schema.
      check: the tool's own check, which raises `InvalidArguments`.
      lenient: whether to repair arguments that do not fit.

    Raises:
      InvalidArguments: the arguments do not fit, each problem with its place.
    """
    decoded, repairs = _decode(text, lenient=lenient)
    _refuse_many(decoded)
    raw = _with_integers(decoded, schema)
    try:
        return Arguments(check(raw), repairs)
    except InvalidArguments:
        if not lenient:
            raise
        repairer = _Repairer(schema)
        repaired = repairer.value(raw, schema, "$", 0)
        if not repairer.places or not isinstance(repaired, dict):
            raise
        try:
            _refuse_many(repaired)
            return Arguments(check(repaired), (*repairs, *repairer.places))
        except InvalidArguments:
            pass
        raise


def _decode(text: str, *, lenient: bool) -> tuple[JsonObject, tuple[str, ...]]:
    if not text.strip():
        return {}, ()
    repairs: tuple[str, ...] = ()
    try:
        decoded = _parsed(text)
    except InvalidData as exc:
        found = next(_repaired(text), None) if lenient and len(text) < LARGE else None
        if found is None:
            raise InvalidArguments(exc.problems) from exc
        decoded, repairs = found, ("$",)
    if decoded is None or decoded == "":
        return {}, repairs
    if lenient and isinstance(decoded, str):
        inner = _inner(decoded)
        if isinstance(inner, dict) or inner is None or inner == []:
            decoded, repairs = inner or {}, ("$",)
    if lenient and decoded == []:
        decoded, repairs = {}, ("$",)
    if decoded == "{}":
        decoded = {}
    if not isinstance(decoded, dict):
        raise InvalidArguments([Problem("$", f"expected an object, got {type(decoded).__name__}")])
    return decoded, repairs


def _parsed(text: str) -> Any:
    """Parse JSON of any size. Raises `InvalidData` if it is not JSON, or has too many values."""
    if len(text) < LARGE:
        return decode_json(text)
    try:
        return decode_in_pieces(text.encode(), most=MOST_VALUES)
    except (ValueError, RecursionError) as exc:
        raise InvalidData([Problem("$", str(exc))]) from exc


def _refuse_many(value: Any) -> None:
    if sum(1 for _ in islice(_walk(value), MOST_VALUES + 1)) > MOST_VALUES:
        raise InvalidArguments([Problem("$", f"more than {MOST_VALUES} values")])


def _walk(value: Any) -> Iterator[Any]:
    """Yield *value* and all values in it."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        yield one
        waiting.extend(_members(one))


def _members(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _repaired(text: str) -> Iterator[JsonObject]:
    """Yield the objects that *text*, which is not JSON, may represent."""
    inside = _without_trailing_commas(_without_fence(text.strip().removeprefix("\ufeff")))
    for read in (decode_json, _with_line_ends, _python_literal):
        try:
            found = read(inside)
        except (InvalidData, ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        if isinstance(found, dict):
            yield found


def _with_line_ends(text: str) -> Any:
    """Parse JSON that may have line ends and tabs inside its strings. Raises `ValueError` for anything else."""
    return decode_json(json.dumps(json.loads(text, strict=False, parse_constant=_no_constant)))


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _python_literal(text: str) -> Any:
    """Parse a Python literal with values that JSON has. Raises `ValueError` or `SyntaxError` for anything else."""
    if len(text) > _LONGEST_LITERAL or not text.startswith("{"):
        raise ValueError("no literal of a dictionary")
    return decode_json(json.dumps(ast.literal_eval(text), allow_nan=False))


def _without_fence(text: str) -> str:
    # Not one regular expression for both ends, whose time would be quadratic in the white space between them.
    begin = _FENCE.match(text)
    if begin is None or not text.endswith("```", begin.end()):
        return text
    return text[begin.end() : -len("```")].rstrip()


def _without_trailing_commas(text: str) -> str:
    """Remove commas before a closing bracket, except inside strings. The time is linear in the text."""
    pieces: list[str] = []
    end = 0
    for found in _STRING.finditer(text):
        pieces += [_COMMA.sub("", text[end : found.start()]), found[0]]
        end = found.end()
    return "".join([*pieces, _COMMA.sub("", text[end:])])


def _inner(text: str) -> Any:
    """Parse *text* as JSON; return *text* itself if it is not JSON."""
    try:
        return _parsed(text)
    except InvalidData:
        if len(text) >= LARGE:
            return text
    try:
        return decode_json(_without_trailing_commas(text))
    except InvalidData:
        return text


def _with_integers(raw: JsonObject, schema: JsonObject) -> JsonObject:
    """Convert `5.0` to 5 where the schema requires an integer: for JSON Schema both are the same number."""
    if not _has_float(raw):
        return raw
    fixed = _Repairer(schema, integers_only=True).value(raw, schema, "$", 0)
    return fixed if isinstance(fixed, dict) else raw


def _has_float(value: Any) -> bool:
    return any(isinstance(one, float) for one in islice(_walk(value), _MOST_NODES))


class _Repairer:
    """One walk through a value and its schema, which collects the place of each repair."""

    def __init__(self, root: JsonObject, *, integers_only: bool = False) -> None:
        self._root = root
        self._integers_only = integers_only
        self._left = _MOST_NODES
        self.places: list[str] = []

    def value(self, value: Any, schema: Any, place: str, depth: int) -> Any:
        """Return *value*, repaired where it does not fit *schema*."""
        self._left -= 1
        if depth > _DEEPEST or self._left < 0:
            return value
        choices = self._choices(schema)
        kinds = {kind for choice in choices for kind in _kinds(choice)}
        if not kinds:
            return value
        if isinstance(value, float) and value.is_integer() and "integer" in kinds and "number" not in kinds:
            return int(value)
        if isinstance(value, str) and not self._integers_only:
            value = self._unwrapped(value, kinds, place) if "string" not in kinds else self._word(value, choices, place)
        if isinstance(value, dict):
            return self._object(value, choices, place, depth)
        if isinstance(value, list):
            return self._array(value, choices, place, depth)
        return value

    def _word(self, text: str, choices: list[JsonObject], place: str) -> str:
        """Remove extra quotes from *text* where only certain words are allowed and it is not one of them."""
        words = [_words(choice) for choice in choices if "string" in _kinds(choice)]
        if not all(words) or any(text in few for few in words):
            return text
        inner = _inner(text)
        if isinstance(inner, str) and any(inner in few for few in words):
            self.places.append(place)
            return inner
        return text

    def _array(self, value: list[Any], choices: list[JsonObject], place: str, depth: int) -> list[Any]:
        first = next((one for choice in choices if isinstance(one := choice.get("prefixItems"), list | tuple)), ())
        rest = next((one for choice in choices if isinstance(one := choice.get("items"), dict)), None)
        if rest is None and not first:
            return value
        return [
            self.value(one, first[index] if index < len(first) else rest, f"{place}[{index}]", depth + 1)
            for index, one in enumerate(value)
        ]

    def _unwrapped(self, text: str, kinds: set[str], place: str) -> Any:
        inner = _inner(_PYTHON_NAMES.get(text.strip().lower(), text))
        if isinstance(inner, float) and inner.is_integer() and "number" not in kinds:
            inner = int(inner)
        if inner is None and "null" not in kinds:
            # "null" for an optional parameter means that it was left out; the check reports it for a required one.
            return text
        if _kind_of(inner) & kinds:
            self.places.append(place)
            return inner
        return text

    def _object(self, value: dict[str, Any], choices: list[JsonObject], place: str, depth: int) -> dict[str, Any]:
        known = {name: inner for choice in choices for name, inner in _properties(choice).items()}
        others = next(
            (one for choice in choices if isinstance(one := choice.get("additionalProperties"), Mapping)), None
        )
        required = {name for choice in choices for name in choice.get("required") or () if isinstance(name, str)}
        result = dict(value)
        # Scalars first, because large lists may use up the limit on examined values.
        for name in sorted(value, key=lambda name: isinstance(value[name], list | dict)):
            inner = known.get(name, others)
            if value[name] is None and name in known and name not in required and self._takes_no_null(inner):
                self.places.append(f"{place}.{name}")
                del result[name]
            elif inner is not None:
                result[name] = self.value(value[name], inner, f"{place}.{name}", depth + 1)
        return result

    def _takes_no_null(self, schema: Any) -> bool:
        kinds = {kind for choice in self._choices(schema) for kind in _kinds(choice)}
        return not self._integers_only and bool(kinds) and "null" not in kinds

    def _choices(self, schema: Any, depth: int = 0) -> list[JsonObject]:
        """Return the schemas that a value may fit, with references and alternatives resolved."""
        if not isinstance(schema, Mapping) or depth > _DEEPEST:
            return []
        reference = schema.get("$ref")
        if isinstance(reference, str):
            return self._choices(self._resolved(reference), depth + 1)
        inner = [
            one for word in ("anyOf", "oneOf", "allOf") for one in schema.get(word) or () if isinstance(one, Mapping)
        ]
        own = (
            [dict(schema)]
            if "type" in schema or "properties" in schema or "enum" in schema or "const" in schema
            else []
        )
        return own + [choice for one in inner for choice in self._choices(one, depth + 1)]

    def _resolved(self, reference: str) -> Any:
        found: Any = self._root
        for step in reference.removeprefix("#/").split("/"):
            if not isinstance(found, Mapping):
                return None
            found = found.get(step.replace("~1", "/").replace("~0", "~"))
        return found


def _properties(schema: JsonObject) -> Mapping[str, Any]:
    properties = schema.get("properties")
    return properties if isinstance(properties, Mapping) else {}


def _kinds(schema: JsonObject) -> set[str]:
    kinds = schema.get("type")
    if isinstance(kinds, str):
        return {kinds}
    if isinstance(kinds, list | tuple):
        return {kind for kind in kinds if isinstance(kind, str)}
    if values := _values(schema):
        found = set().union(*map(_kind_of, values))
        # Among integers only, `1.0` is the integer 1.
        return found if any(isinstance(one, float) for one in values) else found - {"number"}
    return {"object"} if "properties" in schema or "additionalProperties" in schema else set()


def _values(schema: JsonObject) -> list[Any]:
    """Return the values that *schema* lists; empty when it lists none."""
    listed = schema.get("enum")
    return list(listed) if isinstance(listed, list) else [schema["const"]] if "const" in schema else []


def _words(schema: JsonObject) -> list[str]:
    return [one for one in _values(schema) if isinstance(one, str)]


def _kind_of(value: Any) -> set[str]:
    """Return the JSON Schema types of *value*."""
    if value is None:
        return {"null"}
    if isinstance(value, bool):
        return {"boolean"}
    if isinstance(value, int):
        return {"integer", "number"}
    if isinstance(value, float):
        return {"number", "integer"} if value.is_integer() else {"number"}
    if isinstance(value, str):
        return {"string"}
    return {"array"} if isinstance(value, list) else {"object"}
