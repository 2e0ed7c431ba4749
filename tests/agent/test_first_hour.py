"""Defaults that a new user relies on: instructions, conversations of one's own, and tools that only read."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import trio
from judged import ScriptedProvider

from clawft_trio.agent import DEFAULT_SETS, TOOL_SETS, open_agent
from clawft_trio.agent.turn_types import TurnPolicy, TurnRequest
from clawft_trio.chat import Message
from clawft_trio.config import parse_config
from clawft_trio.errors import AllProvidersExhausted, AuthFailed, ConfigError, InvalidData, MissingKey, NotConfigured
from clawft_trio.observe import Noted, Recorder
from clawft_trio.testing import Fail, Finish, Say, Wait
from clawft_trio.tools import tool


def system_of(model: ScriptedProvider, number: int = -1) -> list[str]:
    return [message.text for message in model.requests[number].messages if message.role == "system"]


def said_to(model: ScriptedProvider, number: int = -1) -> list[str]:
    return [message.text for message in model.requests[number].messages if message.role == "user"]


async def test_instructions_are_the_system_prompt_and_those_of_a_question_replace_them() -> None:
    model = ScriptedProvider.saying("Ja.")
    async with open_agent(["p/m"], providers={"p": model}, instructions="Answer in German.") as agent:
        await agent.ask("Rain?")
        assert system_of(model) == ["Answer in German."]
        await agent.ask("Rain?", instructions="Answer in French.")
        assert system_of(model) == ["Answer in French."]
        async with agent.stream("Rain?", instructions="Answer in Dutch.") as events:
            async for _ in events:
                pass
        assert system_of(model) == ["Answer in Dutch."]
        await agent.ask("Rain?")
        assert system_of(model) == ["Answer in German."]


async def test_instructions_may_be_an_async_function_of_the_turn() -> None:
    model = ScriptedProvider.saying("Hello.")

    async def instructions(turn: TurnRequest) -> str:
        await trio.lowlevel.checkpoint()
        return f"You talk to {turn.auth.sender_id}."

    async with open_agent(["p/m"], providers={"p": model}, instructions=instructions) as agent:
        for sender in ("ana", "ben"):
            await agent.ask("Hi", sender_id=sender)
            assert system_of(model) == [f"You talk to {sender}."]


async def test_instructions_of_a_function_that_returns_no_text_are_refused() -> None:
    async def instructions(_: TurnRequest) -> Any:
        await trio.lowlevel.checkpoint()

    async with open_agent(["p/m"], providers={"p": ScriptedProvider.saying("Hi")}, instructions=instructions) as agent:
        with pytest.raises(TypeError, match="instructions are text"):
            await agent.ask("Hi")


@pytest.mark.parametrize("place", ["policy", "config"])
async def test_instructions_tokens_and_temperature_come_from_the_policy_or_the_configuration(place: str) -> None:
    model = ScriptedProvider.saying("Hello.")
    defaults = {"instructions": "Be brief.", "max_tokens": 7, "temperature": 0.5}
    given: Any = (
        {"turn": TurnPolicy(**defaults)} if place == "policy" else {"config": {"agents": {"defaults": defaults}}}
    )
    if place == "config":
        given = {"config": parse_config(json.dumps(given["config"]))}
    async with open_agent(["p/m"], providers={"p": model}, **given) as agent:
        await agent.ask("Hi")
    assert system_of(model) == ["Be brief."]
    assert (model.requests[0].max_tokens, model.requests[0].temperature) == (7, 0.5)


async def test_instructions_come_before_the_files_of_a_workspace_and_replace_the_introduction(tmp_path: Path) -> None:
    model = ScriptedProvider.saying("Hello.")
    (tmp_path / "AGENTS.md").write_text("Use metric units.")
    async with open_agent(["p/m"], providers={"p": model}, workspace=tmp_path, instructions="You are Nora.") as agent:
        await agent.ask("Hi")
        (text,) = system_of(model)
        assert text.startswith("You are Nora.")
        assert text.index("You are Nora.") < text.index("Use metric units.")
        assert "You are clawft" not in text


@pytest.mark.parametrize("role", ["system", "assistant"])
async def test_a_message_of_another_role_is_refused_with_advice(role: str) -> None:
    model = ScriptedProvider.saying("Hello.")
    message = Message.system("Be brief.") if role == "system" else Message.assistant("Hello.")
    async with open_agent(["p/m"], providers={"p": model}) as agent:
        with pytest.raises(InvalidData, match="instructions="):
            await agent.ask(message)
        with pytest.raises(InvalidData, match="instructions="):
            async with agent.stream(message) as events:
                async for _ in events:
                    pass
    assert model.requests == []


async def test_without_a_session_each_question_is_a_separate_conversation() -> None:
    model = ScriptedProvider.saying("Noted.")
    async with open_agent(["p/m"], providers={"p": model}) as agent:
        first = await agent.ask("Bob's secret is 42.")
        await agent.ask("What is the secret?")
        assert said_to(model) == ["What is the secret?"]
        async with agent.stream("And now?") as events:
            async for _ in events:
                pass
        assert said_to(model) == ["And now?"]
        await agent.ask("Go on.", session=first.session)
        assert said_to(model) == ["Bob's secret is 42.", "Go on."]


async def test_a_session_continues_in_order_and_other_questions_run_beside_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    model = ScriptedProvider([Wait(10), Say("done"), Finish()])
    async with open_agent(["p/m"], providers={"p": model}) as agent:
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(agent.ask, f"{number}")
        assert (trio.current_time(), model.peak) == (10.0, 4)
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(lambda n: agent.ask(f"{n}", session="one"), number)
                await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() == 40.0
    assert said_to(model) == ["0", "1", "2"]


async def test_conversations_of_one_sender_share_the_prompt_cache() -> None:
    model = ScriptedProvider.saying("Hello.")
    async with open_agent(["p/m"], providers={"p": model}) as agent:
        for sender in ("ana", "ana", "ben"):
            await agent.ask("Hi", sender_id=sender)
    keys = [request.cache.key for request in model.requests if request.cache is not None]
    assert keys[0] == keys[1] != keys[2]


@tool(mode="read_only")
async def weather(city: str) -> str:
    """The weather in a city."""
    await trio.lowlevel.checkpoint()
    return f"{city}: rain"


READING = {"read_file", "list_directory", "memory_read", "memory_search", "load_skill"}


@pytest.mark.parametrize("given", [[], [weather]])
async def test_a_workspace_alone_brings_tools_that_only_read(given: list[Any], tmp_path: Path) -> None:
    async def approve(*_: object) -> bool:
        await trio.lowlevel.checkpoint()
        return True

    model = ScriptedProvider.saying("Hello.")
    async with open_agent(["p/m"], providers={"p": model}, workspace=tmp_path, tools=given, approve=approve) as agent:
        names = {one.name for one in agent.tools}
        assert all(one.metadata.mode == "read_only" for one in agent.tools)
    assert READING <= names
    assert not names & {"write_file", "edit_file", "memory_append", "web_fetch", "run_command"}


async def test_sets_are_named_and_nothing_else_is_there(tmp_path: Path) -> None:
    async def names(*sets: Any, **more: Any) -> set[str]:
        async with open_agent(["p/m"], providers={"p": ScriptedProvider.saying("Hi")}, tools=sets, **more) as agent:
            return {one.name for one in agent.tools}

    assert await names("files", "memory", "fetch", workspace=tmp_path) >= {"write_file", "memory_append", "web_fetch"}
    assert "run_command" not in await names("files", "memory", "fetch", workspace=tmp_path)
    assert await names("memory", weather, workspace=tmp_path) == {
        "weather",
        "memory_read",
        "memory_search",
        "memory_append",
    }
    assert await names("fetch") == {"web_fetch"}
    config = parse_config('{"tools": {"sets": ["read_memory"]}}')
    assert await names(workspace=tmp_path, config=config) == {"memory_read", "memory_search"}
    assert await names("files", "read_files", workspace=tmp_path) == await names("files", workspace=tmp_path)


async def test_an_unknown_set_and_one_without_a_workspace_are_refused(tmp_path: Path) -> None:
    async def opened(name: str, **more: Any) -> None:
        async with open_agent(["p/m"], providers={"p": ScriptedProvider.saying("Hi")}, tools=[name], **more):
            pass

    with pytest.raises(InvalidData, match="no tool set 'file'; known sets: read_files, files"):
        await opened("file", workspace=tmp_path)
    with pytest.raises(NotConfigured, match="'files' needs a workspace"):
        await opened("files")
    with pytest.raises(NotConfigured, match="CommandPolicy"):
        await opened("commands", workspace=tmp_path)


def test_the_table_names_the_sets_that_only_read() -> None:
    assert all(TOOL_SETS[name].read_only for name in DEFAULT_SETS)
    assert not any(TOOL_SETS[name].read_only for name in ("files", "memory", "fetch", "commands"))


def test_under_asyncio_the_error_names_trio_and_how_to_embed_it() -> None:
    async def main() -> None:
        async with open_agent(["p/m"], providers={"p": ScriptedProvider.saying("Hi")}):
            pass

    with pytest.raises(RuntimeError, match=r"trio\.run\(main\).*clawft_trio\.asyncio_guest\.Guest"):
        asyncio.run(main())


async def test_a_fallback_without_its_key_is_noted_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for models in (["p/m", "openai/gpt-5-mini"], ["openai/gpt-5-mini", "p/m"]):
        recorder = Recorder()
        async with open_agent(models, providers={"p": ScriptedProvider.saying("Hi")}, observers=[recorder]) as agent:
            assert (await agent.ask("Hello")).text == "Hi"
        noted = [event for event in recorder.events if isinstance(event, Noted)]
        assert [event.details["target"] for event in noted] == ["openai/gpt-5-mini"]
        assert "OPENAI_API_KEY" in noted[0].details["error"]


async def test_when_the_target_without_a_key_is_needed_its_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    broken = ScriptedProvider([Fail(lambda: AuthFailed("bad key"))])
    async with open_agent(["p/m", "openai/gpt-5-mini"], providers={"p": broken}) as agent:
        with pytest.raises(AllProvidersExhausted, match="OPENAI_API_KEY"):
            await agent.ask("Hello")


async def test_no_key_for_any_target_is_an_error_when_the_agent_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(MissingKey, match="OPENAI_API_KEY"):
        async with open_agent(["openai/gpt-5-mini", "anthropic/claude-haiku-4-5"]):
            pass


@pytest.mark.parametrize("how", ["text", "file", "tiers"])
async def test_a_configuration_may_name_providers_that_code_brings(how: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "agents": {"defaults": {"model": "house/m"}},
        "failover": ["house/n"],
    }
    if how == "tiers":
        settings["routing"] = {"mode": "tiered", "tiers": [{"name": "free", "models": ["house/m"]}]}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(settings))
    config = parse_config(file.read_text()) if how == "text" else file
    if how == "tiers":
        with pytest.raises(ConfigError, match=r"no provider 'house'"):
            parse_config(file.read_text())
    async with open_agent(config=config, providers={"house": ScriptedProvider.saying("Hi")}) as agent:
        assert (await agent.ask("Hello")).text == "Hi"


def test_a_name_close_to_a_known_provider_is_misspelt_unless_code_brings_it() -> None:
    text = '{"failover": ["opnai/m"]}'
    with pytest.raises(ConfigError, match="did you mean 'openai'"):
        parse_config(text)
    assert parse_config(text, providers=["opnai"]).failover == ("opnai/m",)
