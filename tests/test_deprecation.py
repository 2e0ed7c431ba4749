"""Old names of public objects still work, and warn."""

from __future__ import annotations

import importlib

import pytest

import clawft_trio
from clawft_trio import ToolResult
from clawft_trio.agent import TurnStream

OLD_NAMES = [
    ("clawft_trio.bus", "MemoryShelf", "MemoryUndelivered"),
    ("clawft_trio.observe", "mask_secrets", "redact_secrets"),
    ("clawft_trio.tools", "Hold", "HeldLock"),
]


@pytest.mark.parametrize(("module", "old", "new"), OLD_NAMES)
def test_an_old_name_works_and_warns_with_the_new_one(module: str, old: str, new: str) -> None:
    place = importlib.import_module(module)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {module}.{new}"):
        assert getattr(place, old) is getattr(place, new)


def test_old_names_of_the_top_level_warn_with_their_place() -> None:
    with pytest.warns(DeprecationWarning, match="ToolAnswer is now clawft_trio.tools.ToolResult"):
        assert clawft_trio.ToolAnswer is ToolResult
    with pytest.warns(DeprecationWarning, match="Answer is now clawft_trio.agent.TurnStream"):
        assert clawft_trio.Answer is TurnStream


def test_a_name_that_never_was_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Tooling'"):
        clawft_trio.Tooling  # noqa: B018
    assert ToolResult is clawft_trio.ToolResult
