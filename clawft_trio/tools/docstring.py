"""What a docstring says: to a model about the tool, and about each argument."""

from __future__ import annotations

import re

# Sections for people who read the code. What the arguments are goes into the schema.
_NOT_FOR_MODELS = frozenset(
    {"args", "arguments", "parameters", "raises", "cancellation", "example", "examples", "note"}
)
_ARGUMENTS = frozenset({"args", "arguments", "parameters"})

_HEADING = re.compile(r"(\w+):(?:\s|$)")
_ARGUMENT = re.compile(r"\s+\*{0,2}(\w+)(?:\s*\([^)]*\))?:\s*(.*)")
_FIELD = re.compile(r":(\w+)\s*([^:]*):\s*(.*)")


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """The description, and a note for each argument that has one.

    Understands sections as Google has them (`Args:`) and fields as Sphinx has them (`:param x:`).

    Args:
      text: a docstring without its indentation, as `inspect.getdoc` gives it.
    """
    reader = _Reader()
    for line in text.splitlines():
        reader.read(line)
    return "\n".join(reader.kept).strip(), {name: " ".join(words) for name, words in reader.notes.items()}


class _Reader:
    def __init__(self) -> None:
        self.kept: list[str] = []
        self.notes: dict[str, list[str]] = {}
        #: the section that is being read, and what its next line goes on with
        self._section = ""
        self._words: list[str] | None = None
        self._indent = 0

    def read(self, line: str) -> None:
        if line[:1].strip():
            self._begin(line)
        elif self._section in _ARGUMENTS:
            self._read_argument(line)
        elif self._words is not None and line.strip():
            self._words.append(line.strip())
        elif not self._section:
            self.kept.append(line)

    def _begin(self, line: str) -> None:
        """A line without indentation starts something new."""
        field, heading = _FIELD.match(line), _HEADING.match(line)
        name = heading[1].lower() if heading else ""
        self._words = None
        self._section = "field" if field else name if name in _NOT_FOR_MODELS else ""
        if field and field[1] == "param":
            self._words = self.notes.setdefault(field[2].split()[-1], [field[3]])
        if not self._section:
            self.kept.append(line)

    def _read_argument(self, line: str) -> None:
        indent = len(line) - len(line.lstrip())
        found = _ARGUMENT.match(line)
        # What is indented further than the argument's name goes on with its note.
        if found and (self._words is None or indent <= self._indent):
            self._indent = indent
            self._words = self.notes.setdefault(found[1], [found[2]] if found[2] else [])
        elif self._words is not None and line.strip():
            self._words.append(line.strip())
