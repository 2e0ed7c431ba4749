"""The tools of a registry that permissions allow, while tools come and go."""

from __future__ import annotations

import attrs
import pytest

from clawft_trio.auth import ADMIN, USER, AuthContext
from clawft_trio.chat import ToolCall
from clawft_trio.errors import ToolDenied, UnknownTool
from clawft_trio.tools import FanOutPolicy, ToolContext, ToolRegistry, tool


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


def test_a_registry_holds_its_tools_by_name() -> None:
    registry = ToolRegistry([pay, look])
    assert (len(registry), [one.name for one in registry]) == (2, ["look", "pay"])
    assert "pay" in registry and "other" not in registry
    assert (registry.get("pay"), registry.get("other")) == (pay, None)
    assert registry.statistics().tools == 2
    assert registry.remove("pay") is pay
    assert len(registry) == 1


def test_a_second_tool_of_one_name_is_refused_unless_it_replaces_the_first() -> None:
    registry = ToolRegistry([look])
    with pytest.raises(ValueError, match="named 'look' already"):
        registry.add(look)
    registry.add(look, replace=True)
    with pytest.raises(UnknownTool) as caught:
        registry.remove("pay")
    assert caught.value.tool == "pay"


def test_a_watcher_is_called_at_each_change_while_it_watches() -> None:
    registry, changes = ToolRegistry(), []
    with registry.watching(lambda: changes.append(len(registry))):
        registry.add(look)
        registry.add(look, replace=True)
        registry.remove("look")
    registry.add(pay)
    assert changes == [1, 1, 0]


def test_a_narrowed_registry_shares_what_the_calls_share() -> None:
    async def approve(call: object, tool: object, context: object) -> bool:
        return True

    registry = ToolRegistry([look, pay], policy=FanOutPolicy(concurrency=3), approve=approve)
    own = attrs.evolve(pay, description="Its own.")
    narrow = registry.narrowed([own], ["l*", "pay"])
    assert [(one.name, one.description) for one in narrow] == [("look", "Look."), ("pay", "Its own.")]
    assert narrow.locks is registry.locks
    assert (narrow.policy, narrow.approve) == (registry.policy, approve)
    assert len(registry.narrowed([])) == 0


def test_a_missing_tool_gets_a_similar_name_or_those_that_may_be_used() -> None:
    registry = ToolRegistry([look, pay])
    only = attrs.evolve(USER, tool_access=("look", "other"))
    assert registry.find("look", only) is look
    with pytest.raises(ToolDenied, match=r"'pay' that you may use. You may use: look\.$"):
        registry.find("pay", only)
    with pytest.raises(UnknownTool, match=r"You may use: look\.$") as caught:
        registry.find("other", only)
    assert caught.value.tool == "other"
    with pytest.raises(UnknownTool, match="Did you mean 'look'"):
        registry.find("lok", ADMIN)
    with pytest.raises(ToolDenied, match="You may use: none"):
        registry.find("look", attrs.evolve(USER, tool_access=()))


def test_a_long_name_is_cut_and_at_most_twenty_tools_are_listed() -> None:
    registry = ToolRegistry([attrs.evolve(look, name=f"tool_{number:02}") for number in range(25)])
    with pytest.raises(UnknownTool) as caught:
        registry.find("?" * 100, ADMIN)
    text = str(caught.value)
    assert "'" + "?" * 64 + "'" in text
    assert "tool_19." in text and "tool_20" not in text


async def test_repaired_ids_of_calls_are_reported_with_what_they_were() -> None:
    seen: list[object] = []
    context = ToolContext(auth=AuthContext.local(), observer=seen.append, turn_id="t")
    calls = [ToolCall(id=id, name="look", arguments='{"place":"x"}') for id in ("a", "a", "")]
    results = await ToolRegistry([look]).execute_all(calls, context)
    ids = [one.call_id for one in results]
    assert ids[0] == "a" and len(set(ids)) == 3 and "" not in ids
    [noted] = [event for event in seen if getattr(event, "what", "") == "call ids repaired"]
    assert (noted.component, noted.turn_id, noted.details["was"]) == ("tools", "t", {ids[1]: "a", ids[2]: ""})
    seen.clear()
    await ToolRegistry([look]).execute_all(calls[:1], context)
    assert not any(getattr(event, "what", "") == "call ids repaired" for event in seen)
