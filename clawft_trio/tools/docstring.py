"""Parse a docstring: the description of the tool for a model, and a note for each argument.

Three styles are read: Google (`Args:` and an indented block), NumPy (`Parameters` underlined by dashes) and Sphinx
(`:param x: …`). Sections for readers of the code (`Raises:`, `Examples:`) are left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_ARGUMENTS = frozenset(
    {
        "args",
        "arguments",
        "parameters",
        "params",
        "keyword args",
        "keyword arguments",
        "other parameters",
        "other args",
    }
)
# Sections for readers of the code. The notes on arguments go into the schema.
_NOT_FOR_MODELS = _ARGUMENTS | {
    "raises",
    "cancellation",
    "example",
    "examples",
    "note",
    "notes",
    "references",
    "see also",
    "todo",
    "warns",
}
# In NumPy's style every section ends the previous one, including sections for models.
_UNDERLINED = _NOT_FOR_MODELS | {"returns", "yields", "receives", "warnings", "attributes", "methods", "return"}

_HEADING = re.compile(r"([A-Za-z][A-Za-z ]*):\s*$|(\w+):(?:\s|$)")
_UNDERLINE = re.compile(r"-{3,}\s*$")
_NAME = re.compile(r"\s+\*{0,2}(\w+)\s*")
_NUMPY_NAMES = re.compile(r"(\*{0,2}\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?$")
_FIELD = re.compile(r":(\w+)\s*([^:]*):\s*(.*)")
_PARAMETER_FIELDS = frozenset({"param", "parameter", "arg", "argument", "key", "keyword"})


def read_docstring(text: str, parameters: Collection[str] = ()) -> tuple[str, dict[str, str]]:
    """Return the description, and a note for each argument that has one.

    Args:
      text: a docstring without its indentation, as `inspect.getdoc` returns it.
      parameters: names of the parameters. After the heading of the arguments, a line `name: note` with such a name is
        its note, even without indentation.
    """
    reader = _Reader(frozenset(parameters))
    lines = text.splitlines()
    skip = False
    for line, below in zip(lines, [*lines[1:], ""], strict=False):
        if skip:
            skip = False
        elif _UNDERLINE.match(below) and line.strip().lower() in _UNDERLINED:
            reader.begin_underlined(line.strip(), below)
            skip = True
        else:
            reader.read(line)
    return "\n".join(reader.kept).strip(), {name: " ".join(words) for name, words in reader.notes.items()}


class _Reader:
    def __init__(self, parameters: frozenset[str] = frozenset()) -> None:
        self._parameters = parameters
        self.kept: list[str] = []
        self.notes: dict[str, list[str]] = {}
        #: the current section, and the notes that its next line continues
        self._section = ""
        self._words: list[list[str]] = []
        self._indent = 0
        self._is_numpy = False

    def begin_underlined(self, heading: str, underline: str) -> None:
        """Start a section of NumPy's style."""
        self._section = heading.lower()
        self._is_numpy = True
        self._words = []
        if self._section not in _NOT_FOR_MODELS:
            self._section = ""
            self.kept.extend([heading, underline])

    def read(self, line: str) -> None:
        if self._is_numpy and self._section:
            self._read_numpy(line)
        elif line[:1].strip():
            self._begin(line)
        elif self._section in _ARGUMENTS:
            self._read_argument(line)
        elif self._words and line.strip():
            self._continue(line)
        elif not self._section:
            self.kept.append(line)

    def _begin(self, line: str) -> None:
        """Start a new section or paragraph with a line without indentation."""
        if self._section in _ARGUMENTS and (found := _argument(f" {line}")) and found[0] in self._parameters:
            self._words = [self.notes.setdefault(found[0], [found[1]] if found[1] else [])]
            return
        field, heading = _FIELD.match(line), _HEADING.match(line)
        name = (heading[1] or heading[2]).lower() if heading else ""
        self._words = []
        self._section = "field" if field else name if name in _NOT_FOR_MODELS else ""
        if field and field[1] in _PARAMETER_FIELDS and field[2].split():
            self._words = [self.notes.setdefault(field[2].split()[-1].lstrip("*"), [field[3]] if field[3] else [])]
        if not self._section:
            self.kept.append(line)

    def _read_argument(self, line: str) -> None:
        indent = len(line) - len(line.lstrip())
        found = _argument(line)
        # A line that is indented further than the argument's name continues its note.
        if found and (not self._words or indent <= self._indent):
            self._indent = indent
            name, note = found
            self._words = [self.notes.setdefault(name, [note] if note else [])]
        elif self._words and line.strip():
            self._continue(line)

    def _read_numpy(self, line: str) -> None:
        """Read a line of NumPy's style: names without indentation (`x, y : int`), their notes indented below."""
        found = _NUMPY_NAMES.match(line)
        if self._section in _ARGUMENTS and line[:1].strip() and found:
            names = [name.strip().lstrip("*") for name in found[1].split(",")]
            self._words = [self.notes.setdefault(name, []) for name in names]
        elif self._words and line.strip():
            self._continue(line)

    def _continue(self, line: str) -> None:
        for words in self._words:
            words.append(line.strip())


def _argument(line: str) -> tuple[str, str] | None:
    """Split `  name (a type, with [brackets] of any depth): note` into name and note."""
    found = _NAME.match(line)
    if not found:
        return None
    rest = line[found.end() :]
    if rest.startswith("("):
        end = _closing(rest)
        if end is None:
            return None
        rest = rest[end + 1 :].lstrip()
    return (found[1], rest[1:].strip()) if rest.startswith(":") else None


def _closing(text: str) -> int | None:
    """Return the index of the bracket that closes the one at the beginning of *text*."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return place
    return None
