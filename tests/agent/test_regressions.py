"""What users ran into, and what must not come back."""

from __future__ import annotations

import pytest
import trio
from judged import ScriptedProvider

from clawft_trio import open_agent, tool
from clawft_trio.agent.turn_types import ToolsAnswered, TurnPolicy
from clawft_trio.errors import ProviderTimeout
from clawft_trio.testing.script import CallTool, Hang, Say


@tool
async def weather(city: str) -> str:
    """The weather in a city."""
    return f"{city}: rain"


async def test_tool_results_are_in_the_session_when_the_consumer_leaves_at_them() -> None:
    model = ScriptedProvider.using_tools(CallTool("weather", {"city": "Oslo"}), then="A coat.")
    async with open_agent(["p/m"], providers={"p": model}, tools=[weather]) as agent:
        reply = await agent.ask("What now?", on_event=lambda event: not isinstance(event, ToolsAnswered))
        kept = await agent.parts.turns.history.history(reply.session)
    assert reply.finish_reason == "aborted"
    assert [(message.role, message.text) for message in kept] == [
        ("user", "What now?"),
        ("assistant", ""),
        ("tool", "Oslo: rain"),
    ]


async def test_a_turn_that_took_too_long_tells_its_attempts(autojump_clock: trio.testing.MockClock) -> None:
    model = ScriptedProvider([Say("hm"), Hang()])
    async with open_agent(["p/m"], providers={"p": model}, turn=TurnPolicy(total=5.0)) as agent:
        with pytest.raises(ProviderTimeout) as caught:
            await agent.ask("hello")
    assert [record.outcome for record in caught.value.attempts] == ["cancelled"]


@pytest.mark.parametrize("wrong", [{"total": 0}, {"max_tokens": 0}, {"temperature": -1.0}])
def test_a_turn_policy_is_checked_where_it_is_made(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TurnPolicy(**wrong)


async def test_a_question_that_is_none_does_not_spoil_the_session() -> None:
    async with open_agent(["p/m"], providers={"p": ScriptedProvider.saying("hello")}) as agent:
        for wrong in (5, None):
            with pytest.raises(TypeError):
                await agent.ask(wrong)
        assert (await agent.ask("hello")).text == "hello"


async def test_an_invalid_list_of_models_or_tool_is_reported() -> None:
    with pytest.raises(TypeError, match="models are a list"):
        async with open_agent("p/m"):
            raise AssertionError("opened")
    with pytest.raises(TypeError, match="@tool"):
        async with open_agent(["p/m"], providers={"p": ScriptedProvider.saying("x")}, tools=[print]):
            raise AssertionError("opened")
