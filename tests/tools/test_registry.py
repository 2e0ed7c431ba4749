"""The tools of a registry that permissions allow, while tools come and go."""

from __future__ import annotations

import attrs

from clawft_trio.auth import ADMIN, USER
from clawft_trio.tools import ToolRegistry, tool


@tool
async def look(place: str) -> str:
    """Look."""
    return place


@tool
async def pay(amount: int) -> str:
    """Pay."""
    return f"{amount}"


def test_what_is_offered_follows_every_change_of_the_registry() -> None:
    registry = ToolRegistry([look])
    assert registry.specs(ADMIN) == (look.spec,)
    registry.add(pay)
    assert registry.specs(ADMIN) == (look.spec, pay.spec)
    other = attrs.evolve(pay, description="Pay more.")
    registry.add(other, replace=True)
    assert [spec.description for spec in registry.specs(ADMIN)] == ["Look.", "Pay more."]
    registry.remove("look")
    assert registry.specs(ADMIN) == (other.spec,)


def test_each_permissions_have_their_own_tools_however_many_there_are() -> None:
    registry = ToolRegistry([look, pay])
    for _ in range(2):
        for number in range(300):
            # Objects that are freed at once: the next ones may get their place in memory.
            only = attrs.evolve(USER, tool_access=("look",) if number % 3 else ("pay",))
            assert [one.name for one in registry.allowed(only)] == ["look" if number % 3 else "pay"]
