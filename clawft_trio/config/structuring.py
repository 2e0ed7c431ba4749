"""Converts decoded JSON to attrs classes: strict, with the place of every problem, and both spellings of each key.

A key of a class may be written in snake case or in camel case (`max_retries`, `maxRetries`), or as an alias from the
field's metadata. Keys of maps (sender ids, variables, server names) are data and are never changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import attrs
import cattrs

from clawft_trio.codec import make_converter, problems_in, shown, without_surrogates
from clawft_trio.errors import ConfigError, InvalidData, Problem
from clawft_trio.similar import closest

_MOST_UNKNOWN = 50
"""Largest number of problems reported for one object of the configuration."""

ALIASES = "aliases"
"""Metadata key of the aliases under which a field is accepted."""


def alias(*names: str) -> dict[str, Any]:
    """Return the metadata for a field with aliases."""
    return {ALIASES: names}


class Secret:
    """A string that `repr` does not show: a key, a token. `get_secret_value()` returns it."""

    __slots__ = ("_value", "missing", "variables")

    def __init__(self, value: str, missing: tuple[str, ...] = ()) -> None:
        self._value = value
        #: variables in its text that are not set
        self.missing: tuple[str, ...] = missing
        #: all variables in its text; empty when the file contains the secret itself
        self.variables: tuple[str, ...] = missing

    def __repr__(self) -> str:
        return "Secret(…)" if self._value else "Secret()"

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def get_secret_value(self) -> str:
        """Return the string."""
        return self._value


def structure_config(
    data: Any, cls: type[Any], *, source: str = "", environ: Mapping[str, str] = MappingProxyType({})
) -> Any:
    """Convert *data* to *cls*. `${NAME}` in a string is replaced by a variable of *environ*, or by nothing if not set.

    Raises:
      ConfigError: lists every problem with its place.
    """
    try:
        return _converter(environ).structure(data, cls)
    except InvalidData as exc:
        raise ConfigError(exc.problems, source=source) from None


def _converter(environ: Mapping[str, str]) -> cattrs.Converter:
    converter = make_converter()
    converter.register_structure_hook_factory(attrs.has, lambda cls: _class_hook(cls, converter))
    converter.register_structure_hook_factory(_is_optional, lambda cls: _optional_hook(cls, converter))
    converter.register_structure_hook_factory(_is_list, lambda cls: _list_hook(cls, converter))
    converter.register_structure_hook_factory(_is_map, lambda cls: _map_hook(cls, converter))
    converter.register_structure_hook_factory(_is_literal, _literal_hook)
    converter.register_structure_hook(str, lambda value, _: _text(value, environ))
    converter.register_structure_hook(Secret, lambda value, _: _secret(value, environ))
    converter.register_structure_hook(Decimal, lambda value, _: _decimal(value))
    converter.register_structure_hook(Path, lambda value, _: _path(value, environ))
    return converter


Hook: TypeAlias = Callable[[Any, Any], Any]

VARIABLE: re.Pattern[str] = re.compile(r"\$\{(input:[A-Za-z_][\w.-]*|(?:env:)?[A-Za-z_][A-Za-z0-9_]*)(?::-[^{}]*)?\}")
"""An environment variable in a text: `${X}`, `${env:X}`, `${X:-default}`, and `${input:x}`, which is X here."""

_OTHER_PLACE = re.compile(r"\$\{[^{}]*\}")
"""Placeholders that only other programs can replace: `${command:pick}`, `${workspaceFolder}/x`."""


_LONGEST_TEXT = 1 << 20
"""Characters of a text whose variables are replaced; a file could name one large variable very often."""


class FilledText(str):  # noqa: SLOT000  # one additional attribute, and few instances
    """A text with variables that are not set."""

    #: names of these variables
    missing: tuple[str, ...] = ()


def variable_names(text: str) -> list[str]:
    """Return the environment variables that *text* names; `${input:api-key}` is `API_KEY`."""
    return [_name_of(found) for found in VARIABLE.findall(text)]


def _name_of(found: str) -> str:
    if found.startswith("input:"):
        return re.sub(r"\W", "_", found.removeprefix("input:")).upper()
    return found.removeprefix("env:")


def _filled(value: Any, environ: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Return *value* with its variables replaced, and the names of those that are not set."""
    text: str = _expect(value, str, "a string")
    missing: list[str] = []
    room = _LONGEST_TEXT

    def fill(match: re.Match[str]) -> str:
        name = _name_of(match[1])
        _, has_default, default = match[0].removesuffix("}").partition(":-")
        if not environ.get(name) and not has_default:
            missing.append(name)
        nonlocal room
        value = environ.get(name) or default
        room -= len(value)
        if room < 0:
            raise InvalidData([Problem("$", f"longer than {_LONGEST_TEXT} characters with its variables")])
        return value

    return VARIABLE.sub(fill, text), tuple(dict.fromkeys(missing))


def _text(value: Any, environ: Mapping[str, str]) -> str:
    filled, missing = _filled(value, environ)
    # A variable that is not UTF-8 has lone surrogates, which no file or database takes. Paths keep them.
    text: str = without_surrogates(filled)
    if not missing:
        return text
    made = FilledText(text)
    made.missing = missing
    return made


def unfilled(text: str) -> tuple[str, ...]:
    """Return what *text* lacks: variables that are not set, and placeholders that only other programs can replace."""
    missing: tuple[str, ...] = getattr(text, "missing", ())
    return (*missing, *_OTHER_PLACE.findall(text))


def _secret(value: Any, environ: Mapping[str, str]) -> Secret:
    # A value of the wrong type may still be a secret, so it is not quoted.
    if not isinstance(value, str):
        raise InvalidData([Problem("$", f"expected a string, got {_kind_of(value)}")])
    secret = Secret(*_filled(value, environ))
    secret.variables = tuple(variable_names(value))
    return secret


def _path(value: Any, environ: Mapping[str, str]) -> Path:
    text, missing = _filled(value, environ)
    if missing:
        raise InvalidData([Problem("$", f"a part of this path is not there: set {' and '.join(missing)}")])
    if not text:
        # `Path("")` is the current folder of the process, which is never intended.
        raise InvalidData([Problem("$", "expected a path, got an empty string")])
    return Path(text).expanduser()


def _class_hook(cls: type[Any], converter: cattrs.Converter) -> Hook:
    fields = [field for field in attrs.fields(cls) if field.init]
    types = get_type_hints(cls)
    names = {folded(name): field for field in fields for name in names_of(field)}

    def structure(data: Any, _: Any) -> Any:
        problems: list[Problem] = []
        given = _by_field(_expect_object(data), names, problems)
        values: dict[str, Any] = {}
        for field in fields:
            if field.name in given:
                key, raw = given[field.name]
                value = _field(raw, field, types[field.name], converter, f"$.{key}", problems)
                values[field.alias or field.name] = value
            elif field.default is attrs.NOTHING:
                problems.append(Problem(f"$.{field.name}", "required, and missing"))
        if problems:
            raise InvalidData(problems)
        make: Callable[..., Any] = cls
        return make(**values)

    return structure


def names_of(field: attrs.Attribute[Any]) -> tuple[str, ...]:
    """Return the names under which *field* is accepted, its own first; each is accepted in any spelling."""
    return (field.name, *field.metadata.get(ALIASES, ()))


def _by_field(
    data: Mapping[str, Any], names: Mapping[str, attrs.Attribute[Any]], problems: list[Problem]
) -> dict[str, tuple[str, Any]]:
    """Return the keys and values by field name; a key that is unknown or given twice is added to *problems*."""
    given: dict[str, tuple[str, Any]] = {}
    for key, value in data.items():
        field = names.get(folded(key))
        if field is None:
            if len(problems) == _MOST_UNKNOWN:
                problems.append(Problem("$", f"more than {_MOST_UNKNOWN} keys are wrong; the rest is not listed"))
                break
            problems.append(Problem(f"$.{key}", f"unknown key; {_meant(key, names)}"))
        elif field.name in given:
            problems.append(Problem(f"$.{key}", f"the same as {given[field.name][0]!r}, which is there, too"))
        else:
            given[field.name] = (key, value)
    return given


def folded(name: str) -> str:
    """Return the normal form that all spellings of *name* share."""
    return name.replace("_", "").replace("-", "").lower()


def camel(name: str) -> str:
    """Return *name*, given in snake case, in camel case."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _meant(key: str, names: Mapping[str, attrs.Attribute[Any]]) -> str:
    close = closest(folded(key), names)
    if close:
        name = names[close[0]].name
        return f"did you mean {name if '_' in key else camel(name)!r}?"
    return f"known are {', '.join(dict.fromkeys(field.name for field in names.values()))}"


def _field(
    raw: Any,
    field: attrs.Attribute[Any],
    kind: Any,
    converter: cattrs.Converter,
    path: str,
    problems: list[Problem],
) -> Any:
    """Return the value of one field; what is wrong with it is added to *problems*."""
    try:
        value = converter.structure(raw, kind)
        convert: Any = field.converter
        if convert is not None:
            value = convert(value)
        if field.validator is not None:
            field.validator(None, field, value)
    except InvalidData as exc:
        problems.extend(Problem(path + problem.path.removeprefix("$"), problem.message) for problem in exc.problems)
    except (TypeError, ValueError, ArithmeticError):
        problems.extend(_misfits(raw, field, kind, path))
    except Exception as exc:  # noqa: BLE001 - what cattrs raises for a nested value, already with its places
        problems.extend(problems_in(exc, path))
    else:
        return value
    return None


def _misfits(raw: Any, field: attrs.Attribute[Any], kind: Any, path: str) -> Iterator[Problem]:
    """Yield the problem of a value that does not fit its field, or of each such value of a map."""
    each = getattr(field.validator, "value_validator", None)
    if each is None:
        yield Problem(path, f"expected {_described(kind, field.validator)}, got {_briefly(raw)}")
        return
    for key, item in raw.items():
        try:
            each(None, field, item)
        except ValueError:
            yield Problem(f"{path}[{key!r}]", f"expected {_described(get_args(kind)[1], each)}, got {_briefly(item)}")


def _described(kind: Any, validator: Any = None) -> str:
    """Return *kind* and its bounds in words: `int ≥ 0`."""
    inner = [arg for arg in get_args(kind) if arg is not NoneType] if _is_optional(kind) else [kind]
    name = " or ".join(_name(one) for one in inner)
    return " ".join([name, *_bounds(validator)])


def _name(kind: Any) -> str:
    if _is_literal(kind):
        return "one of " + ", ".join(f'"{arg}"' for arg in get_args(kind))
    words = {str: "a string", float: "number", Path: "a path", Secret: "a string", Decimal: "number"}
    return words.get(kind, getattr(kind, "__name__", str(kind)))


def _bounds(validator: Any) -> list[str]:
    """Return the bounds of attrs' number validators in words."""
    signs = {">=": "≥", "<=": "≤", ">": ">", "<": "<"}
    if hasattr(validator, "compare_op"):
        return [f"{signs[validator.compare_op]} {validator.bound:g}"]
    if hasattr(validator, "options") and not isinstance(validator.options[0], str):
        return ["out of " + ", ".join(map(str, validator.options))]
    inner = getattr(validator, "_validators", None) or [getattr(validator, "validator", None)]
    return [bound for one in inner if one is not None for bound in _bounds(one)]


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _literal_hook(kind: Any) -> Hook:
    def structure(value: Any, _: Any) -> Any:
        if value not in get_args(kind):
            raise TypeError
        return value

    return structure


def _is_optional(kind: Any) -> bool:
    return get_origin(kind) in {Union, UnionType} and NoneType in get_args(kind)


def _optional_hook(kind: Any, converter: cattrs.Converter) -> Hook:
    inner = next(arg for arg in get_args(kind) if arg is not NoneType)
    return lambda value, _: None if value is None else converter.structure(value, inner)


def _is_list(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _list_hook(kind: Any, converter: cattrs.Converter) -> Hook:
    args = get_args(kind)
    length = None if args[-1] is Ellipsis else len(args)

    def structure(value: Any, _: Any) -> Any:
        items = _expect(value, list, "a list")
        if length is not None and len(items) != length:
            raise InvalidData([Problem("$", f"expected {length} items, got {len(items)}")])
        return tuple(_items(enumerate(items), args[0], converter, "[{}]"))

    return structure


def _is_map(kind: Any) -> bool:
    return get_origin(kind) in {dict, Mapping} or kind is Mapping


def _map_hook(kind: Any, converter: cattrs.Converter) -> Hook:
    inner = (get_args(kind) or (str, Any))[1]

    def structure(value: Any, _: Any) -> Any:
        given = _expect_object(value)
        return dict(zip(given, _items(given.items(), inner, converter, "[{!r}]"), strict=True))

    return structure


def _items(items: Any, kind: Any, converter: cattrs.Converter, step: str) -> list[Any]:
    """Structure every item; one error lists the problems of all items."""
    problems: list[Problem] = []
    found = []
    for key, item in items:
        path = "$" + step.format(key)
        try:
            found.append(item if kind is Any else converter.structure(item, kind))
        except InvalidData as exc:
            problems.extend(Problem(path + problem.path.removeprefix("$"), problem.message) for problem in exc.problems)
        except (TypeError, ValueError, ArithmeticError):
            problems.append(Problem(path, f"expected {_described(kind)}, got {_briefly(item)}"))
    if problems:
        raise InvalidData(problems)
    return found


def _expect(value: Any, kind: type[Any], words: str) -> Any:
    if not isinstance(value, kind):
        found = _kind_of(value) if isinstance(value, str | list | dict) and value else shown(value)
        raise InvalidData([Problem("$", f"expected {words}, got {found}")])
    return value


def _expect_object(value: Any) -> dict[str, Any]:
    # A value in place of a section is not quoted, because it may be the key itself: `"openai": "sk-..."`.
    if not isinstance(value, dict):
        kind = _kind_of(value) if isinstance(value, str | list) and value else shown(value)
        raise InvalidData([Problem("$", f"expected an object, got {kind}")])
    return value


def _briefly(value: object) -> str:
    """Return *value* for a message; only the kind of a list or object, which may contain a misplaced secret."""
    return _kind_of(value) if isinstance(value, list | dict) and value else shown(value)


def _kind_of(value: Any) -> str:
    """Return the JSON type of *value*, without its content."""
    if value is None or isinstance(value, bool):
        return shown(value)
    kinds: dict[type[Any], str] = {str: "a string", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a number")


def _decimal(value: Any) -> Decimal:
    # By `str`, so that 0.1 is a tenth of a dollar and not its nearest binary fraction. What is no number is refused.
    return Decimal(str(value))
