"""Field documentation from the source, for `help()` and for the tables of the guides.

A field is described where it is defined: by `#:` lines above it, or by a string below it. Python discards both, so a
section `Attributes:` is added to the class docstring when it is first read. Importing reads no source.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator

import attrs

_COMMENT = re.compile(r"    #: ?(.*)")
_FIELD = re.compile(r"    (\w+):")
_BELOW = re.compile(r'    """(.*?)(?:""")?$')


def document_fields(module: str) -> None:
    """Add the field descriptions to the docstrings of the classes in *module*, a subpackage or a file.

    A module calls it at its end with its own `__name__`.
    """
    for value in list(vars(sys.modules[module]).values()):
        if isinstance(value, type) and attrs.has(value) and value.__module__.startswith((module, "clawft_trio.")):
            text = value.__dict__.get("__doc__")
            if isinstance(text, str):
                value.__doc__ = _WithFields(text, value)  # type: ignore[assignment]


def field_notes(kind: type) -> dict[str, str]:
    """Return the description of each field of *kind*, an attrs class, and of its bases; empty without the source."""
    return {name: note for base in reversed(kind.__mro__) if attrs.has(base) for name, note in _notes_in(base)}


def _notes_in(kind: type) -> Iterator[tuple[str, str]]:
    try:
        lines = textwrap.dedent(inspect.getsource(kind)).splitlines()
    except (OSError, TypeError):
        return
    note: list[str] = []
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        comment, field, below = _COMMENT.match(line), _FIELD.match(line), _BELOW.match(following)
        if comment:
            note.append(comment[1])
        elif field:
            words = " ".join(note) or (below[1] if below else "")
            if words:
                yield field[1], words
            note = []
        elif not line.strip().startswith("#"):
            note = []


class _WithFields:
    """A class docstring with field descriptions; a descriptor, so that the source is read on first access."""

    def __init__(self, text: str, kind: type) -> None:
        self._text = text
        self._kind = kind
        self._whole = ""

    def __get__(self, instance: object, owner: type | None = None) -> str:
        if not self._whole:
            notes = field_notes(self._kind)
            fields = [field.name for field in attrs.fields(self._kind) if field.name in notes and field.name[0] != "_"]
            about = [f"  {name}: {notes[name]}" for name in fields]
            text = inspect.cleandoc(self._text)
            self._whole = "\n".join([text, "", "Attributes:", *about]) if about else text
        return self._whole
