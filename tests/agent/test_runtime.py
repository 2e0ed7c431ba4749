"""An agent as its user opens it."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from clawft_trio.agent.runtime import open_agent
from clawft_trio.agent.turn import RoundStarted, ToolsAnswered, TurnPolicy
from clawft_trio.chat import Reset, TextDelta
from clawft_trio.errors import NotConfigured, ProviderTimeout
from clawft_trio.llm import OpenAICompatible
from clawft_trio.observe import Recorder, ToolEnded, TurnEnded
from clawft_trio.testing import (
    CallTool,
    Fail,
    Finish,
    Hang,
    ResetConnection,
    Say,
    ScriptedProvider,
    Wait,
    cancel_everywhere,
    open_fault_server,
)
from clawft_trio.errors import ServerError
from clawft_trio.tools import tool


@tool(mode="read_only")
async def weather(city: str) -> str:
    """The weather in a city."""
    await trio.sleep(1)
    return f"{city}: rain"


async def test_ask_and_stream_and_the_conversation_between(autojump_clock: trio.testing.MockClock) -> None:
    model = ScriptedProvider.using_tools(CallTool("weather", {"city": "Oslo"}), then="Wear a coat.")
    async with open_agent(["p/m"], providers={"p": model}, tools=[weather]) as agent:
        reply = await agent.ask("What do I wear in Oslo?", sender_id="ana")
        assert (reply.text, reply.session) == ("Wear a coat.", "local:ana")
        async with agent.stream("And why?", sender_id="ana") as answer:
            events = [event async for event in answer]
        assert answer.reply.text == "Wear a coat."
    assert isinstance(events[0], RoundStarted)
    assert any(isinstance(event, ToolsAnswered) for event in events)
    assert [message.text for message in model.requests[-1].messages if message.role == "user"] == [
        "What do I wear in Oslo?",
        "And why?",
    ]


async def test_the_second_model_answers_when_the_first_breaks(autojump_clock: trio.testing.MockClock) -> None:
    broken = ScriptedProvider([Say("Wear a "), Fail(lambda: ServerError("down"))])
    seen: list[object] = []
    async with open_agent(["a/one", "b/two"], providers={"a": broken, "b": ScriptedProvider.saying("A coat.")}) as agent:
        reply = await agent.ask("What do I wear?", on_event=seen.append)
    assert reply.text == "A coat."
    assert [(record.target, record.outcome) for record in reply.attempts] == [
        *[("scripted/one", "failed")] * 3,
        ("scripted/two", "ok"),
    ]
    assert sum(isinstance(event, Reset) for event in seen) == 3


async def test_a_workspace_gives_the_agent_its_character_and_its_files(tmp_path: Path) -> None:
    (tmp_path / "SOUL.md").write_text("You are Nora.")
    (tmp_path / "notes.txt").write_text("rain on Monday")
    model = ScriptedProvider.using_tools(CallTool("read_file", {"path": "notes.txt"}), then="Rain.")
    async with open_agent(["p/m"], providers={"p": model}, workspace=tmp_path) as agent:
        reply = await agent.ask("What is in notes.txt?")
    assert "rain on Monday" in reply.tools[0].text
    assert "You are Nora." in model.requests[0].messages[0].text
    names = [spec.name for spec in model.requests[0].tools]
    assert "read_file" in names
    assert "write_file" not in names  # nobody approves, so nothing that writes is offered


async def test_a_missing_key_is_told_when_the_agent_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(NotConfigured, match="OPENAI_API_KEY"):
        async with open_agent(["openai/gpt-5-mini"]):
            pass


async def test_turns_of_one_session_wait_for_each_other_and_others_do_not(autojump_clock: trio.testing.MockClock) -> None:
    model = ScriptedProvider([Wait(10), Say("done"), Finish()])
    async with open_agent(["p/m"], providers={"p": model}, hedge_after=None) as agent:
        async with trio.open_nursery() as nursery:
            for sender in ("ana", "ana", "ben"):
                nursery.start_soon(lambda who: agent.ask("hello", sender_id=who), sender)
        assert trio.current_time() == 20.0
        assert model.peak == 2


async def test_a_turn_has_a_bound(autojump_clock: trio.testing.MockClock) -> None:
    async with open_agent(["p/m"], providers={"p": ScriptedProvider([Hang()])}, turn=TurnPolicy(total=5.0)) as agent:
        with pytest.raises(ProviderTimeout) as caught:
            await agent.ask("hello")
    assert (caught.value.clock, trio.current_time()) == ("total", 5.0)


async def test_a_callback_that_had_enough_ends_the_turn(autojump_clock: trio.testing.MockClock) -> None:
    model = ScriptedProvider([Say("one "), Say("two"), Hang()])
    async with open_agent(["p/m"], providers={"p": model}) as agent:
        reply = await agent.ask("count", on_event=lambda event: not isinstance(event, TextDelta))
    assert (reply.text, reply.finish_reason) == ("one ", "aborted")


async def test_observers_see_the_turn_and_cannot_harm_it(autojump_clock: trio.testing.MockClock) -> None:
    seen = Recorder()

    def broken(event: object) -> None:
        raise RuntimeError("observer")

    model = ScriptedProvider.using_tools(CallTool("weather", {"city": "Oslo"}), then="Rain.")
    async with open_agent(["p/m"], providers={"p": model}, tools=[weather], observers=[broken, seen]) as agent:
        await agent.ask("hello")
    assert [event.outcome for event in seen.of(ToolEnded)] == ["ok"]
    assert len(seen.of(TurnEnded)) == 1


async def test_over_real_sockets_nothing_is_left_open() -> None:
    async with open_fault_server(
        models={"one": [[Say("Wear a "), ResetConnection()]], "two": [[Say("A coat."), Finish()]]}
    ) as server:
        async with open_agent(
            ["a/one", "a/two"], make_provider=lambda name: OpenAICompatible(name, base_url=server.url)
        ) as agent:
            reply = await agent.ask("What do I wear?")
            assert (reply.text, reply.provider, reply.model) == ("A coat.", "a", "two")
        await server.wait_for(lambda now: now.connections_open == 0)


async def test_cancelled_anywhere_an_agent_leaves_nothing(autojump_clock: trio.testing.MockClock) -> None:
    model = ScriptedProvider.using_tools(CallTool("weather", {"city": "Oslo"}), then="Rain.")

    async def operation() -> None:
        async with open_agent(["p/m"], providers={"p": model}, tools=[weather]) as agent:
            async with agent.stream("hello") as answer:
                async for _ in answer:
                    pass

    async def check() -> None:
        assert model.running == 0

    assert await cancel_everywhere(operation, check, limit=2000) > 10
