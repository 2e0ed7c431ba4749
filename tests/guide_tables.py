"""Reference tables in the guides, written from the classes they describe.

A guide marks a table with `<!-- fields: clawft_trio.resilience.Retry -->`; the table below the mark is replaced by
`python tests/guide_tables.py`. `<!-- providers -->` marks the table of known providers. A test compares the guides with what this script writes.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from clawft_trio.llm import KNOWN

ROOT = Path(__file__).parents[1]
GUIDES = sorted(ROOT.glob("clawft_trio/*/README.md"))
_PROVIDERS = re.compile(r"(<!-- providers -->\n)((?:\|.*\n)*)")
_MARK = re.compile(r"(<!-- fields: ([\w.]+) -->\n)((?:\|.*\n)*)")


def with_tables(text: str) -> str:
    """*text* with every marked table as the code has it now."""
    text = _MARK.sub(lambda found: found[1] + table(found[2]), text)
    return _PROVIDERS.sub(lambda found: found[1] + providers(), text)


def providers() -> str:
    """The known providers as a Markdown table."""
    rows = ["| name | API | key | address |", "|---|---|---|---|"]
    for name, spec in KNOWN.items():
        keys = " or ".join(f"`{variable}`" for variable in spec.key_variables) + (" (if there is one)" * spec.local)
        address = f"`{spec.base_url}`" if spec.base_url else " or ".join(f"`{name}`" for name in spec.url_variables)
        rows.append(f"| `{name}` | {spec.dialect} | {keys} | {address} |")
    return "\n".join(rows) + "\n"


def table(name: str) -> str:
    """The fields of the class *name* (module and qualified name) as a Markdown table."""
    module, _, class_name = name.rpartition(".")
    kind = getattr(importlib.import_module(module), class_name)
    notes = dict(_notes(kind))
    rows = ["| field | default | meaning |", "|---|---|---|"]
    for field in attrs.fields(kind):
        if field.name.startswith("_") or not field.init:
            continue
        rows.append(f"| `{field.name}` | {_default(field)} | {notes.get(field.name, '')} |")
    return "\n".join(rows) + "\n"


def _default(field: Any) -> str:
    if field.default is attrs.NOTHING:
        return "required"
    if isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
        # Only classes: another factory may need a running trio, or return what depends on the machine.
        made = repr(field.default.factory()) if isinstance(field.default.factory, type) else ""
        return f"`{made}`" if made and len(made) < 40 and " at 0x" not in made else "made anew"
    shown = repr(field.default)
    return (
        f"`{shown}`"
        if " at 0x" not in shown and len(shown) < 80
        else f"`{getattr(field.default, '__name__', type(field.default).__name__)}`"
    )


def _notes(kind: type) -> Iterator[tuple[str, str]]:
    """What the source says of each field: `#:` lines above it, or a string below it."""
    for base in reversed(kind.__mro__):
        if not attrs.has(base):
            continue
        try:
            lines = textwrap.dedent(inspect.getsource(base)).splitlines()
        except OSError:
            continue
        note: list[str] = []
        for place, line in enumerate(lines):
            comment = re.match(r"    #: ?(.*)", line)
            field = re.match(r"    (\w+):", line)
            below = re.match(r'    """(.*?)(?:""")?$', lines[place + 1]) if place + 1 < len(lines) else None
            if comment:
                note.append(comment[1])
            elif field:
                words = " ".join(note) or (below[1] if below else "")
                if words:
                    yield field[1], words.replace("|", "\\|")
                note = []
            elif not line.strip().startswith("#"):
                note = []


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT)]
    for guide in GUIDES:
        guide.write_text(with_tables(guide.read_text("utf-8")), "utf-8")
