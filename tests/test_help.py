"""What `help()` shows: the public names with one line each, and the fields of data classes."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys

import attrs
import pytest
from guide_tables import TOP, with_contents

import clawft_trio
from clawft_trio.field_docs import document_fields, field_notes


def test_help_of_the_package_lists_each_public_name_with_a_line() -> None:
    listed = {line.split()[0] for line in inspect.getdoc(clawft_trio).splitlines() if line.startswith("  ")}
    assert listed == set(clawft_trio.__all__)
    text = TOP.read_text("utf-8")
    assert text == with_contents(text), "run: python tests/guide_tables.py"


PUBLIC = [getattr(clawft_trio, name) for name in clawft_trio.__all__]


@pytest.mark.parametrize("kind", [one for one in PUBLIC if attrs.has(one)], ids=lambda kind: kind.__name__)
def test_help_of_a_class_has_the_meaning_of_each_field(kind: type) -> None:
    notes = field_notes(kind)
    shown = " ".join(pydoc.render_doc(kind, renderer=pydoc.plaintext).replace("|", " ").split())
    for field in attrs.fields(kind):
        if field.name in notes and not field.name.startswith("_"):
            assert f"{field.name}: {notes[field.name]}" in " ".join(shown.split())


def test_a_subclass_and_an_instance_have_the_text_too() -> None:
    assert inspect.getdoc(clawft_trio.Retry()) == inspect.getdoc(clawft_trio.Retry)
    assert "Attributes:\n  max_retries: " in inspect.getdoc(clawft_trio.Retry)


@attrs.frozen
class Sample:
    """A sample."""

    #: above
    one: int = 1
    two: int = 2
    """below"""
    #: not shown
    _three: int = 3


def test_notes_are_read_from_above_and_from_below() -> None:
    document_fields(__name__)
    document_fields(__name__)
    assert inspect.getdoc(Sample) == "A sample.\n\nAttributes:\n  one: above\n  two: below"


def test_importing_reads_no_source() -> None:
    program = "import sys, linecache, clawft_trio.resilience, clawft_trio.agent; assert not any(n.endswith('.py') for n in linecache.cache)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
