"""An agent as a tool of another: three levels, one account, one cancellation."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from decimal import Decimal

import attrs
import pytest
import trio
from judged import ScriptedProvider

from clawft_trio import Usage, open_agent, parse_config, subagent
from clawft_trio.agent.subagent import NO_SUCH_TOOL
from clawft_trio.errors import BudgetExceeded, RequestRejected
from clawft_trio.observe import Charged, Noted, Recorder, TurnStarted
from clawft_trio.testing import CallTool, Fail, Finish, Hang, Say, cancel_everywhere
from clawft_trio.tools import ToolContext, tool

PRICED = parse_config('{"prices": {"a/m": {"input": 1, "output": 10}, "b/m": {"input": 2, "output": 20},'
                      ' "c/m": {"input": 3, "output": 30}}}')  # fmt: skip
USAGE = Usage(input_tokens=1000, output_tokens=100)
#: of one answer of each: 1000 * 1 + 100 * 10 dollars for a million, and two and three times that
A, B, C = Decimal("0.002"), Decimal("0.004"), Decimal("0.006")


def delegating(name: str, tool_name: str, task: str) -> ScriptedProvider:
    return ScriptedProvider(
        [CallTool(tool_name, {"task": task}), Finish(usage=USAGE)],
        [Say(f"{name} is done."), Finish(usage=USAGE)],
        name=name,
    )


def three_levels() -> dict[str, ScriptedProvider]:
    return {
        "a": delegating("a", "boss", "Lead."),
        "b": delegating("b", "clerk", "Look."),
        "c": ScriptedProvider([Say("Found."), Finish(usage=USAGE)], name="c"),
    }


def nested(**policy: object):
    clerk = subagent("clerk", ["c/m"], description="Looks.", instructions="You look.")
    return subagent("boss", ["b/m"], description="Leads.", tools=[clerk], **policy)


async def test_three_levels_are_on_one_account_and_the_rows_add_up_to_the_receipt() -> None:
    seen = Recorder()
    providers = three_levels()
    async with open_agent(["a/m"], providers=providers, tools=[nested()], config=PRICED, observers=[seen]) as agent:
        reply = await agent.ask("Go.", sender_id="ana")
        assert reply.text == "a is done."
        entries = await agent.parts.costs.ledger.entries(turn=reply.turn_id)
        assert {entry.sender for entry in entries} == {"local:ana"}
        assert [entry.agent for entry in reversed(entries)] == ["", "boss", "clerk", "boss", ""]
        top, boss = reply.turn_id, f"{reply.turn_id}/boss:"
        assert {entry.parent_turn for entry in entries if entry.agent == "boss"} == {top}
        assert all(entry.parent_turn.startswith(boss) for entry in entries if entry.agent == "clerk")
        assert sum(entry.cost for entry in entries) == reply.cost == 2 * A + 2 * B + C
        spent = await agent.parts.costs.ledger.spending("agent", turn=reply.turn_id)
        assert {row.group["agent"]: row.cost for row in spent} == {"": 2 * A, "boss": 2 * B, "clerk": C}
        (below,) = reply.nested
        assert (below.agent, below.cost) == ("boss", 2 * B + C)
        assert reply.usage.input_tokens == 5000
    assert [event.turn_id.count("/") for event in seen.of(TurnStarted)] == [0, 1, 2]
    assert len(seen.of(Charged)) == 5


async def test_a_call_id_that_comes_again_in_a_later_round_is_another_call_with_its_own_cost() -> None:
    call = CallTool("clerk", {"task": "Look."}, id="call_0")
    providers = {
        "a": ScriptedProvider([call, Finish()], [call, Finish()], [Say("Done."), Finish()], name="a"),
        "c": ScriptedProvider([Say("Found."), Finish(usage=USAGE)], [Say("Fo"), Fail(RequestRejected("no"))], name="c"),
    }
    clerk = subagent("clerk", ["c/m"], description="Looks.")
    async with open_agent(["a/m"], providers=providers, tools=[clerk], config=PRICED) as agent:
        reply = await agent.ask("Go.")
        spent = await agent.parts.costs.ledger.spending(turn=reply.turn_id)
    assert len({below.turn_id for below in reply.nested}) == 2
    assert [result.outcome for result in reply.tools] == ["ok", "error"]
    assert reply.nested[0].cost > 0 and reply.nested[1].cost > 0
    assert reply.cost == spent[0].cost


async def test_a_sub_agent_has_its_own_prompt_models_and_tools_and_no_conversation() -> None:
    @tool(mode="read_only")
    async def look(place: str) -> str:
        """Look at a place."""
        return f"{place} is empty"

    @tool
    async def other() -> str:
        """Not for the sub-agent."""
        return ""

    inner = ScriptedProvider(
        [CallTool("look", {"place": "the shed"}), Finish()],
        [Say("Empty."), Finish()],
        [Say("Again."), Finish()],
        name="c",
    )
    outer = ScriptedProvider(
        [CallTool("clerk", {"task": "Look."}), Finish()],
        [CallTool("clerk", {"task": "Once more."}), Finish()],
        [Say("Done."), Finish()],
        name="a",
    )
    clerk = subagent("clerk", ["c/m"], description="Looks.", instructions="You look.", tools=["loo*"])
    async with open_agent(["a/m"], providers={"a": outer, "c": inner}, tools=[look, other, clerk]) as agent:
        reply = await agent.ask("Go.")
        first, _, again = inner.requests
        assert [spec.name for spec in first.tools] == ["look"]
        assert [message.text for message in first.messages] == ["You look.", "Look."]
        assert [message.text for message in again.messages] == ["You look.", "Once more."]
        assert [answer.text for answer in reply.tools] == ["Empty.", "Again."]
        assert [spec.name for spec in outer.requests[0].tools] == ["clerk", "look", "other"]


async def test_a_nested_budget_ends_the_sub_agent_and_not_the_turn_above() -> None:
    providers = three_levels()
    dear = subagent("boss", ["b/m"], description="Leads.", budget="0.0001")
    async with open_agent(["a/m"], providers=providers, tools=[dear], config=PRICED) as agent:
        reply = await agent.ask("Go.")
        assert reply.text == "a is done."
        (answer,) = reply.tools
        assert answer.outcome == "refused"
        assert isinstance(answer.error, BudgetExceeded)
        assert answer.error.limit == Decimal("0.0001")
        assert providers["b"].calls == 0
        assert reply.cost == 2 * A


async def test_depth_and_calls_are_bounded() -> None:
    providers = three_levels()
    clerk = subagent("clerk", ["c/m"], description="Looks.", max_depth=1)
    boss = subagent("boss", ["b/m"], description="Leads.", tools=[clerk], max_calls=1)
    providers["a"] = ScriptedProvider(
        [CallTool("boss", {"task": "1"}), Finish()], [CallTool("boss", {"task": "2"}), Finish()], [Say("."), Finish()]
    )
    async with open_agent(["a/m"], providers=providers, tools=[boss]) as agent:
        reply = await agent.ask("Go.")
        assert providers["c"].calls == 0
        first, second = reply.tools
        assert (first.outcome, second.outcome) == ("ok", "error")
        assert "1 times" in second.text


@attrs.frozen
class CheckResult:
    place: str
    empty: bool


async def test_the_answer_of_a_sub_agent_may_be_typed() -> None:
    inner = ScriptedProvider([Say('{"place": "shed", "empty": true}'), Finish()], name="c")
    outer = ScriptedProvider([CallTool("clerk", {"task": "?"}), Finish()], [Say("."), Finish()], name="a")
    clerk = subagent("clerk", ["c/m"], description="Looks.", answer=CheckResult)
    async with open_agent(["a/m"], providers={"a": outer, "c": inner}, tools=[clerk]) as agent:
        (answer,) = (await agent.ask("Go.")).tools
        assert json.loads(answer.text) == {"place": "shed", "empty": True}


async def test_an_open_agent_is_a_tool_of_another_and_charges_to_its_account() -> None:
    providers = three_levels()
    async with AsyncExitStack() as stack:

        async def opened(model: str, *tools):
            name = model[0]
            return await stack.enter_async_context(
                open_agent([model], providers={name: providers[name]}, tools=tools, config=PRICED)
            )

        clerk = await opened("c/m")
        boss = await opened("b/m", clerk.as_tool("clerk", description="Looks."))
        top = await opened("a/m", boss.as_tool("boss", description="Leads.", budget="1.00"))
        reply = await top.ask("Go.", sender_id="ana")
        assert reply.cost == 2 * A + 2 * B + C
        entries = await top.parts.costs.ledger.entries(turn=reply.turn_id)
        assert [entry.agent for entry in reversed(entries)] == ["", "boss", "clerk", "boss", ""]
        assert {entry.sender for entry in entries} == {"local:ana"}
        for other in (boss, clerk):
            assert await other.parts.costs.ledger.entries() == ()
        (again,) = [await clerk.ask("Alone.")]
        assert len(await clerk.parts.costs.ledger.entries(turn=again.turn_id)) == 1


async def test_cancelling_the_top_cancels_all_levels_and_settles_all(autojump_clock) -> None:
    providers = three_levels()
    providers["c"] = ScriptedProvider([Say("Looking"), Hang()], name="c")
    async with open_agent(["a/m"], providers=providers, tools=[nested()], config=PRICED) as agent:
        with trio.move_on_after(5):
            await agent.ask("Go.")
        entries = await agent.parts.costs.ledger.entries()
        assert [(entry.agent, entry.state, entry.outcome) for entry in reversed(entries)] == [
            ("", "settled", "ok"),
            ("boss", "settled", "ok"),
            ("clerk", "settled", "cancelled"),
        ]
        assert repr(agent.parts.costs) == "<CostTracker: 0 turns on behalf of others, 0 charges not written>"


async def test_wherever_a_delegation_is_cancelled_nothing_is_left(autojump_clock) -> None:
    async with open_agent(["a/m"], providers=three_levels(), tools=[nested()], config=PRICED) as agent:
        delegate = agent.tools.find("boss", agent.parts.permissions.local().permissions)

        async def call() -> None:
            context = ToolContext(auth=agent.parts.permissions.local(), turn_id="t", call_id="1")
            delegate.delegate._calls.clear()
            await delegate.run({"task": "Lead."}, context)

        async def nothing_is_left() -> None:
            assert all(entry.state != "open" for entry in await agent.parts.costs.ledger.entries(limit=10_000))
            assert "0 turns on behalf of others" in repr(agent.parts.costs)

        assert await cancel_everywhere(call, nothing_is_left) >= 10


async def test_a_list_of_models_is_not_one_string() -> None:
    with pytest.raises(TypeError, match="list"):
        subagent("x", "a/m", description="?")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_depth"):
        subagent("x", ["a/m"], description="?", max_depth=0)


async def test_a_pattern_that_matches_no_tool_is_reported() -> None:
    seen = Recorder()
    providers = {"a": delegating("a", "clerk", "Look."), "c": ScriptedProvider.saying("Found.")}
    clerk = subagent("clerk", ["c/m"], description="Looks.", tools=["notes__*"])
    async with open_agent(["a/m"], providers=providers, tools=[clerk], observers=[seen]) as agent:
        await agent.ask("Go.")
    (noted,) = [event for event in seen.of(Noted) if event.what == NO_SUCH_TOOL]
    assert noted.details == {"agent": "clerk", "pattern": "notes__*"}


def test_a_name_that_no_tool_can_have_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="a tool is named by"):
        subagent("look here", ["c/m"], description="Looks.")
