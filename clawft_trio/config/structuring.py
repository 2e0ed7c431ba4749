"""From decoded JSON to attrs classes: strict, with every problem and its place, and both spellings of each key.

A key of a class may be written in snake case or in camel case (`max_retries`, `maxRetries`), or by another name that
the field's metadata lists. Keys of maps (sender ids, variables, server names) are data and are never touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import attrs
import cattrs

from clawft_trio.codec import make_converter, problems_in, shown
from clawft_trio.errors import ConfigError, InvalidData, Problem
from clawft_trio.similar import closest

_MOST_UNKNOWN = 50
"""Problems that are reported of one object of the configuration."""

ALIASES = "aliases"
"""Metadata key: other names under which a field is accepted."""


def alias(*names: str) -> dict[str, Any]:
    """Metadata for a field that has other names, too."""
    return {ALIASES: names}


class Secret:
    """A string that is not shown: a key, a token. `get_secret_value()` gives it."""

    __slots__ = ("_value", "missing", "variables")

    def __init__(self, value: str, missing: tuple[str, ...] = ()) -> None:
        self._value = value
        #: variables that it was to be taken from and that are not set
        self.missing: tuple[str, ...] = missing
        #: variables that it was to be taken from, set or not; empty for one that stands in the file itself
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
        """The string itself."""
        return self._value


def structure_config(
    data: Any, cls: type[Any], *, source: str = "", environ: Mapping[str, str] = MappingProxyType({})
) -> Any:
    """Turn *data* into *cls*. `${NAME}` in a string stands for a variable of *environ*; one that is not set is empty.

    Raises:
      ConfigError: with every problem in it, each with its place.
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
"""Stands for a variable of the environment: `${X}`, `${env:X}`, `${X:-default}`, and `${input:x}`, which is X here."""

_OTHER_PLACE = re.compile(r"\$\{[^{}]*\}")
"""What other programs fill in and this one does not: `${command:pick}`, `${workspaceFolder}/x`."""


class FilledText(str):  # noqa: SLOT000  # one attribute more, and rarely made
    """A text that was to be filled in with variables that are not set."""

    #: names of the variables
    missing: tuple[str, ...] = ()


def variable_names(text: str) -> list[str]:
    """The variables of the environment that *text* names; `${input:api-key}` is `API_KEY`."""
    return [_name_of(found) for found in VARIABLE.findall(text)]


def _name_of(found: str) -> str:
    if found.startswith("input:"):
        return re.sub(r"\W", "_", found.removeprefix("input:")).upper()
    return found.removeprefix("env:")


def _filled(value: Any, environ: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """*value* with its variables filled in, and those that are not set."""
    text: str = _expect(value, str, "a string")
    missing: list[str] = []

    def fill(match: re.Match[str]) -> str:
        name = _name_of(match[1])
        _, has_default, default = match[0].removesuffix("}").partition(":-")
        if not environ.get(name) and not has_default:
            missing.append(name)
        return environ.get(name) or default

    return VARIABLE.sub(fill, text), tuple(dict.fromkeys(missing))


def _text(value: Any, environ: Mapping[str, str]) -> str:
    text, missing = _filled(value, environ)
    if not missing:
        return text
    made = FilledText(text)
    made.missing = missing
    return made


def unfilled(text: str) -> tuple[str, ...]:
    """What *text* lacks: variables that are not set, and places that only another program can fill in."""
    missing: tuple[str, ...] = getattr(text, "missing", ())
    return (*missing, *_OTHER_PLACE.findall(text))


def _secret(value: Any, environ: Mapping[str, str]) -> Secret:
    # Of the wrong type it may be a secret all the same.
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
        # `Path("")` is the folder that the process happens to be in: it is never meant.
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
    """The names under which *field* is accepted, its own first; each in any spelling."""
    return (field.name, *field.metadata.get(ALIASES, ()))


def _by_field(
    data: Mapping[str, Any], names: Mapping[str, attrs.Attribute[Any]], problems: list[Problem]
) -> dict[str, tuple[str, Any]]:
    """The given keys and values by field name; what is unknown or given twice is a problem."""
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
    """*name* as all its spellings come down to."""
    return name.replace("_", "").replace("-", "").lower()


def _meant(key: str, names: Mapping[str, attrs.Attribute[Any]]) -> str:
    close = closest(folded(key), names)
    if close:
        return f"did you mean {names[close[0]].name!r}?"
    return f"known are {', '.join(dict.fromkeys(field.name for field in names.values()))}"


def _field(
    raw: Any,
    field: attrs.Attribute[Any],
    kind: Any,
    converter: cattrs.Converter,
    path: str,
    problems: list[Problem],
) -> Any:
    """The value of one field; what is wrong with it goes to *problems*."""
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
        problems.append(Problem(path, f"expected {_described(kind, field.validator)}, got {_briefly(raw)}"))
    except Exception as exc:  # noqa: BLE001 - what cattrs raises for a nested value, already with its places
        problems.extend(problems_in(exc, path))
    else:
        return value
    return None


def _described(kind: Any, validator: Any = None) -> str:
    """*kind* and its bounds in words: `int ≥ 0`."""
    inner = [arg for arg in get_args(kind) if arg is not NoneType] if _is_optional(kind) else [kind]
    name = " or ".join(_name(one) for one in inner)
    return " ".join([name, *_bounds(validator)])


def _name(kind: Any) -> str:
    if _is_literal(kind):
        return "one of " + ", ".join(f'"{arg}"' for arg in get_args(kind))
    words = {str: "a string", float: "number", Path: "a path", Secret: "a string", Decimal: "number"}
    return words.get(kind, getattr(kind, "__name__", str(kind)))


def _bounds(validator: Any) -> list[str]:
    """What attrs' number validators say of themselves."""
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
    """Every item structured; all that is wrong with any of them at once."""
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
    # What stands where a section should be is not quoted, for it may be the key itself: `"openai": "sk-..."`.
    if not isinstance(value, dict):
        kind = _kind_of(value) if isinstance(value, str | list) and value else shown(value)
        raise InvalidData([Problem("$", f"expected an object, got {kind}")])
    return value


def _briefly(value: object) -> str:
    """*value* for a message: a list or an object by its kind, since it may hold a secret in the wrong place."""
    return _kind_of(value) if isinstance(value, list | dict) and value else shown(value)


def _kind_of(value: Any) -> str:
    """The JSON type of *value*, without its content."""
    if value is None or isinstance(value, bool):
        return shown(value)
    kinds: dict[type[Any], str] = {str: "a string", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a number")


def _decimal(value: Any) -> Decimal:
    # By way of `str`, so that 0.1 is a tenth of a dollar and not its nearest binary fraction.
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    return Decimal(str(value))
