"""Reference tables in the guides, written from the classes they describe.

A guide marks a table with `<!-- fields: clawft_trio.resilience.Retry -->`; the table below the mark is replaced by
`python tests/guide_tables.py`. `<!-- providers -->` marks the table of known providers. The list of names in the docstring of
`clawft_trio` is written, too. A test compares all of it with what this script writes.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import attrs

import clawft_trio
from clawft_trio.field_docs import field_notes
from clawft_trio.llm import KNOWN

ROOT = Path(__file__).parents[1]
GUIDES = sorted(ROOT.glob("clawft_trio/*/README.md"))
TOP = ROOT / "clawft_trio" / "__init__.py"
_CONTENTS = re.compile(r'(\nThe names:\n\n)((?:  .*\n)*)"""')
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
    notes = {name: note.replace("|", "\\|") for name, note in field_notes(kind).items()}
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


def contents() -> str:
    """The names of the top level and the first sentence of each, for its docstring."""
    width = max(map(len, clawft_trio.__all__))
    lines: list[str] = []
    for name in clawft_trio.__all__:
        first = " ".join(inspect.cleandoc(getattr(clawft_trio, name).__doc__).split("\n\n")[0].split())
        text = first.partition(". ")[0].rstrip(".")
        room = 112 - width
        text = text if len(text) <= room else text[: room - 3].rpartition(" ")[0] + " ..."
        lines.append(f"  {name:{width}}  {text}")
    return "\n".join(lines) + "\n"


def with_contents(text: str) -> str:
    """*text*, the source of the top level, with its docstring's list of names as the code has it now."""
    return _CONTENTS.sub(lambda found: found[1] + contents() + '"""', text, count=1)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT)]
    for guide in GUIDES:
        guide.write_text(with_tables(guide.read_text("utf-8")), "utf-8")
    TOP.write_text(with_contents(TOP.read_text("utf-8")), "utf-8")
