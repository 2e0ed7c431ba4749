"""A turn that is cancelled or fails keeps the results of the tools that had ended."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from judged import ScriptedProvider

from clawft_trio import TurnPolicy, open_agent, tool
from clawft_trio.agent.agent import Agent
from clawft_trio.chat import Message
from clawft_trio.errors import ProviderError
from clawft_trio.testing import CallTool, Finish, Say


@tool
async def pay(euros: int) -> str:
    """Pay."""
    await trio.lowlevel.checkpoint()
    return f"paid {euros}"


@tool
async def order(item: str) -> str:
    """Order something."""
    await trio.sleep_forever()
    return item


@tool(mode="read_only")
async def look() -> str:
    """Look."""
    await trio.sleep_forever()
    return ""


@tool(mode="exclusive")
async def clean() -> str:
    """Clean up, alone."""
    await trio.lowlevel.checkpoint()
    return "clean"


TOOLS = [pay, order, look, clean]
CALLS = [CallTool("order", {"item": "tea"}), CallTool("pay", {"euros": 5}), CallTool("look"), CallTool("clean")]


def results(messages: Sequence[Message]) -> list[str]:
    return [message.text for message in messages if message.role == "tool"]


async def check(agent: Agent, model: ScriptedProvider) -> None:
    """What the next request shows of `CALLS`: each once, in call order."""
    await agent.ask("go on", session="s")
    ordered, paid, looked, cleaned = results(model.requests[-1].messages)
    assert "outcome_unknown" in ordered
    assert paid == "paid 5"
    assert "before it had a result" in looked
    assert "before it started" in cleaned


def model_of(*calls: CallTool) -> ScriptedProvider:
    return ScriptedProvider([*calls, Finish()], [Say("done"), Finish()])


async def test_a_cancelled_turn_keeps_what_ended(autojump_clock: trio.testing.MockClock) -> None:
    model = model_of(*CALLS)
    async with open_agent(["s/m"], providers={"s": model}, tools=TOOLS) as agent:
        with trio.move_on_after(1):
            await agent.ask("do it", session="s")
        await check(agent, model)


async def test_a_turn_whose_time_is_over_keeps_what_ended(autojump_clock: trio.testing.MockClock) -> None:
    model = model_of(*CALLS[:3])
    async with open_agent(["s/m"], providers={"s": model}, tools=TOOLS, turn=TurnPolicy(total=1)) as agent:
        with pytest.raises(ProviderError):
            await agent.ask("do it", session="s")
        await agent.ask("go on", session="s")
        assert results(model.requests[-1].messages)[1] == "paid 5"


async def test_a_stream_that_is_left_keeps_what_ended(autojump_clock: trio.testing.MockClock) -> None:
    model = model_of(*CALLS)
    async with open_agent(["s/m"], providers={"s": model}, tools=TOOLS) as agent:
        with trio.move_on_after(1):
            async with agent.stream("do it", session="s") as events:
                async for _ in events:
                    pass
        await check(agent, model)


async def test_rounds_before_the_cancelled_one_are_whole(autojump_clock: trio.testing.MockClock) -> None:
    model = ScriptedProvider(
        [CallTool("pay", {"euros": 1}, id="a"), Finish()],
        [CallTool("pay", {"euros": 2}, id="b"), CallTool("look", id="c"), Finish()],
        [Say("done"), Finish()],
    )
    async with open_agent(["s/m"], providers={"s": model}, tools=TOOLS) as agent:
        with trio.move_on_after(1):
            await agent.ask("do it", session="s")
        await agent.ask("go on", session="s")
        assert results(model.requests[-1].messages)[:2] == ["paid 1", "paid 2"]
        roles = [message.role for message in model.requests[-1].messages]
        assert roles == ["user", "assistant", "tool", "assistant", "tool", "tool", "user"]
