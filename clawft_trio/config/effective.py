"""The effective configuration: every setting with its value and its origin, secrets masked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_type_hints

import attrs

from clawft_trio.config.redaction import REDACTED, redacted, redacted_arguments
from clawft_trio.config.schema import Config
from clawft_trio.config.structuring import VARIABLE, Secret, folded, names_of, variable_names
from clawft_trio.config.tool_sections import McpServerConfig

_ABSENT = object()


@attrs.frozen
class Setting:
    """One setting."""

    #: path of the setting: `$.providers['openai'].api_base`
    path: str
    #: value, ready to encode as JSON; `***` for a secret or a section that is not read
    value: Any
    #: `default`, `file`, or `file, from NAME` for an environment variable
    origin: str


def settings_in(config: Config, given: Any = _ABSENT) -> Iterator[Setting]:
    """Yield every setting of *config*, in the order of its classes.

    Args:
      config: the configuration.
      given: the decoded file; without it, every origin is `default`.
    """
    return _settings(config, given, "$")


def _settings(value: Any, given: Any, path: str) -> Iterator[Setting]:
    if attrs.has(type(value)):
        yield from _of_class(value, given, path)
    elif isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _settings(item, _at(given, key), f"{path}[{key!r}]")
    elif isinstance(value, tuple) and value:
        for number, item in enumerate(value):
            yield from _settings(item, _at(given, number), f"{path}[{number}]")
    else:
        yield Setting(path, _shown(value, given), _origin(given))


def _of_class(value: Any, given: Any, path: str) -> Iterator[Setting]:
    types = get_type_hints(type(value))
    keys = {folded(key): key for key in given} if isinstance(given, dict) else {}
    for field in (one for one in attrs.fields(type(value)) if one.init):
        key = next((keys[folded(name)] for name in names_of(field) if folded(name) in keys), None)
        raw = _ABSENT if key is None else given[key]
        place, inner = f"{path}.{field.name}", getattr(value, field.name)
        if _takes_anything(types[field.name]):
            # Sections of other programs, which may contain their tokens anywhere.
            yield Setting(place, REDACTED if inner else None, _origin(raw))
        elif isinstance(value, McpServerConfig) and field.name == "args":
            yield from _arguments(inner, raw, place)
        else:
            yield from _settings(inner, raw, place)


def _takes_anything(wanted: Any) -> bool:
    return wanted is Any or any(map(_takes_anything, get_args(wanted)))


def _arguments(value: tuple[str, ...], given: Any, path: str) -> Iterator[Setting]:
    """Yield the words of a command; the word before decides whether a word is secret."""
    if not value:
        yield Setting(path, [], _origin(given))
    written = [_written(item, _at(given, number)) for number, item in enumerate(value)]
    for number, word in enumerate(redacted_arguments(written)):
        yield Setting(f"{path}[{number}]", word, _origin(_at(given, number)))


def _at(given: Any, step: Any) -> Any:
    try:
        return given[step]
    except (TypeError, KeyError, IndexError):
        return _ABSENT


def _shown(value: Any, given: Any) -> Any:
    if isinstance(value, Secret):
        return REDACTED if value else ""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping | tuple):
        return {} if isinstance(value, Mapping) else []
    return redacted(_written(str(value), given))


def _written(value: str, given: Any) -> str:
    """Return a text as written in the file: the value of a variable may be secret wherever it is used."""
    return given if isinstance(given, str) and VARIABLE.search(given) else value


def _origin(given: Any) -> str:
    if given is _ABSENT:
        return "default"
    variables = variable_names(given) if isinstance(given, str) else []
    return f"file, from {' and '.join(variables)}" if variables else "file"
