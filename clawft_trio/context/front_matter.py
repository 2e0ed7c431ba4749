"""YAML front matter as plain text values: no implicit types, no aliases, limited depth, no duplicate keys."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

import attrs
import yaml

from clawft_trio.errors import InvalidData, Problem

Tree: TypeAlias = "str | list[Tree] | dict[str, Tree]"

MAX_DEPTH = 10
"""Levels of nesting, as in the original clawft."""

# libyaml's parser is ten times faster. Both return text for every scalar, so that `version: 1.10` stays `1.10`.
_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)

# A key at the beginning of a line, and the value on that line. Bounded, so that matching takes linear time.
_ENTRY = re.compile(r"([A-Za-z_][\w-]{0,80})[ \t]*:(?:[ \t]+(.*))?\Z")


@attrs.frozen
class FrontMatter:
    """The mapping of a front matter, and notes on how it was repaired."""

    values: dict[str, Tree]
    notes: tuple[str, ...] = ()


def split_front_matter(text: str) -> tuple[str, str]:
    """Return the YAML between the first two `---` lines of *text*, and the text after them.

    A byte order mark and blank lines before the first `---` are skipped.

    Raises:
      InvalidData: there is no front matter, or it has no end.
    """
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").lstrip("\n \t").split("\n")
    if lines[0].rstrip() != "---":
        raise InvalidData([Problem("$", "no front matter: the first line is not ---")])
    for number, line in enumerate(lines[1:], 1):
        if line.rstrip() == "---":
            return "\n".join(lines[1:number]), "\n".join(lines[number + 1 :])
    raise InvalidData([Problem("$", "the front matter has no end: no second --- line")])


def read_front_matter(text: str) -> FrontMatter:
    """Parse *text* as YAML; if that fails, parse it again with the plain values of its top-level keys quoted.

    Many published skills have `description: Use when: ...`, values that begin with `@`, `*` or a backtick, or a tab.
    The second attempt takes each such value as plain text, as the Agent Skills guide recommends.

    Raises:
      InvalidData: both attempts fail; with the problem of the first.
    """
    try:
        return FrontMatter(parse_front_matter(text))
    except InvalidData as exc:
        problem = exc
    try:
        values = _parse_by_lines(text)
    except InvalidData:
        raise problem from None
    if not values:
        raise problem
    reason = problem.problems[0].message
    return FrontMatter(values, (f"not valid YAML, read line by line: {reason}",))


def _parse_by_lines(text: str) -> dict[str, Tree]:
    """Parse each top-level entry separately; the value of an entry that is not YAML is the text after its key.

    Raises:
      InvalidData: a line is not a key and a value.
    """
    values: dict[str, Tree] = {}
    for entry in _entries(text):
        match = _ENTRY.match(entry[0])
        if match is None:
            raise InvalidData([Problem("$", f"not a key and a value: {entry[0][:80]!r}")])
        key = match[1]
        try:
            parsed = parse_front_matter("\n".join(entry))[key]
        except InvalidData:
            parsed = _as_text(match[2] or "", entry[1:])
        # The first of two entries with one key counts, as in the parsers that accept duplicate keys.
        values.setdefault(key, parsed)
    return values


def _entries(text: str) -> list[list[str]]:
    """Return the lines of each top-level entry: a line that begins with a key, and the lines up to the next one."""
    entries: list[list[str]] = []
    for line in text.split("\n"):
        if not line.strip() or line.lstrip().startswith("#"):
            if entries:
                entries[-1].append(line)
        elif entries and (line[0] in " \t-" or _ENTRY.match(line) is None):
            entries[-1].append(line)
        else:
            entries.append([line])
    return entries


def _as_text(first: str, more: list[str]) -> str:
    """Return an entry's value as text, without its quotes or its block mark."""
    first = first.strip()
    if re.fullmatch(r"[|>][+-]?\d?", first):
        first = ""
    text = " ".join(part for part in (first, *(line.strip() for line in more)) if part)
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    return text


def parse_front_matter(text: str) -> dict[str, Tree]:
    """Parse the YAML *text*, a mapping whose leaves are text.

    The tree is built from the parser's events: no alias is expanded, and the depth is checked before each new level.

    Raises:
      InvalidData: *text* is not YAML, not a mapping, nested too deeply, or uses anchors, aliases or a key twice.
    """
    builder = _TreeBuilder()
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.take(event)
    except yaml.YAMLError as exc:
        raise InvalidData([Problem("$", _message(exc))]) from exc
    tree = builder.root[0] if builder.root else {}
    if not isinstance(tree, dict):
        raise InvalidData([Problem("$", "the front matter is not a mapping")])
    return tree


class _TreeBuilder:
    """Builds a tree from parser events."""

    def __init__(self) -> None:
        self.root: list[Tree] = []
        self._open: list[list[Tree] | dict[str, Tree]] = [self.root]
        #: for each open mapping, the key of the value that comes next or is being read
        self._keys: list[str] = [""]
        self._value_next = [False]

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise InvalidData([Problem(self._place(), "anchors and aliases are not allowed")])
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event.value)
        elif isinstance(event, yaml.MappingStartEvent):
            self._enter({})
        elif isinstance(event, yaml.SequenceStartEvent):
            self._enter([])
        elif isinstance(event, yaml.CollectionEndEvent):
            self._leave()

    def _scalar(self, value: str) -> None:
        inside = self._open[-1]
        if isinstance(inside, dict) and not self._value_next[-1]:
            if value in inside:
                self._keys[-1] = value
                raise InvalidData([Problem(self._place(), "given twice")])
            self._keys[-1] = value
            self._value_next[-1] = True
        else:
            self._put(value)

    def _enter(self, tree: list[Tree] | dict[str, Tree]) -> None:
        if len(self._open) > MAX_DEPTH:
            raise InvalidData([Problem(self._place(), f"nested deeper than {MAX_DEPTH}")])
        if isinstance(self._open[-1], dict) and not self._value_next[-1]:
            raise InvalidData([Problem(self._place(), "a key has to be text")])
        self._put(tree)
        self._open.append(tree)
        self._keys.append("")
        self._value_next.append(False)

    def _leave(self) -> None:
        for stack in (self._open, self._keys, self._value_next):
            stack.pop()

    def _put(self, value: Tree) -> None:
        inside = self._open[-1]
        if isinstance(inside, list):
            inside.append(value)
        else:
            inside[self._keys[-1]] = value
            self._value_next[-1] = False

    def _place(self) -> str:
        return "$" + "".join(f".{key}" for key in self._keys if key)


def _message(exc: yaml.YAMLError) -> str:
    """Return the parser's message in one line, with its place."""
    mark = getattr(exc, "problem_mark", None)
    what = getattr(exc, "problem", None) or str(exc)
    return " ".join(str(what).split())[:200] + (f" (line {mark.line + 1})" if mark is not None else "")
