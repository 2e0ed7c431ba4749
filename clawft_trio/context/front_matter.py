"""YAML front matter, read as plain text values: no types to guess, no aliases, no depth, no duplicates."""

from __future__ import annotations

from typing import Any, TypeAlias

import yaml

from clawft_trio.errors import InvalidData, Problem

Tree: TypeAlias = "str | list[Tree] | dict[str, Tree]"

MAX_DEPTH = 10
"""Levels of nesting, the original's limit."""

# libyaml's parser is ten times faster. Either gives text for every scalar, so that `version: 1.10` stays `1.10`.
_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def split_front_matter(text: str) -> tuple[str, str]:
    """The YAML between the first two `---` lines of *text*, and what comes after.

    Raises:
      InvalidData: there is none, or it has no end.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[0].rstrip() != "---":
        raise InvalidData([Problem("$", "no front matter: the first line is not ---")])
    for number, line in enumerate(lines[1:], 1):
        if line.rstrip() == "---":
            return "\n".join(lines[1:number]), "\n".join(lines[number + 1 :])
    raise InvalidData([Problem("$", "the front matter has no end: no second --- line")])


def parse_front_matter(text: str) -> dict[str, Tree]:
    """The mapping that the YAML *text* is, with text at its leaves.

    Built from the parser's events, so that nothing is expanded and nothing recurses before it was checked.

    Raises:
      InvalidData: it is not YAML, not a mapping, nested too deep, or uses anchors, aliases or a key twice.
    """
    grower = _Grower()
    try:
        for event in yaml.parse(text, Loader=_Loader):
            grower.take(event)
    except yaml.YAMLError as exc:
        raise InvalidData([Problem("$", _said(exc))]) from exc
    tree = grower.root[0] if grower.root else {}
    if not isinstance(tree, dict):
        raise InvalidData([Problem("$", "the front matter is not a mapping")])
    return tree


class _Grower:
    """Grows a tree from parser events."""

    def __init__(self) -> None:
        self.root: list[Tree] = []
        self._open: list[list[Tree] | dict[str, Tree]] = [self.root]
        #: for each open mapping, the key whose value comes next or is being read
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


def _said(exc: yaml.YAMLError) -> str:
    """What the parser says, in one line with its place."""
    mark = getattr(exc, "problem_mark", None)
    what = getattr(exc, "problem", None) or str(exc)
    return " ".join(str(what).split())[:200] + (f" (line {mark.line + 1})" if mark is not None else "")
